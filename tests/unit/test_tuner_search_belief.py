"""Beliefs: what stands near speaks first and what stands here decides, and nothing is believed of what nobody saw."""

import numpy as np
import pytest

from sona.tuner.searches.belief import believe
from sona.tuner.searches.checks import UNKNOWN, ArmRun, CheckLog, Kind, SearchCheck

ARMS = ("default", "ef 80", "exact")
HERE = Kind(0, 5, 1)


def log_of(*found: tuple[Kind, float], window: int = 4096, time_s: float = 0.001) -> CheckLog:
    log = CheckLog(ARMS, window)
    for kind, recall in found:
        log.add(kind, SearchCheck(10, 0.02, (ArmRun("default", recall, 10, time_s),)))
    return log


def default_of(log: CheckLog, kind: Kind = HERE, half_life: float = 100.0) -> tuple[float, float]:
    belief = believe(log, kind, half_life)
    return float(belief.recall[0]), float(belief.recall_sd[0])


def test_without_checks_every_recall_is_open_and_every_time_infinite():
    belief = believe(CheckLog(ARMS, 8), HERE, 100.0)
    assert (belief.recall[:2] + belief.recall_sd[:2] > 1.0).all()
    assert (belief.recall[:2] - belief.recall_sd[:2] < 0.0).all()
    assert np.isinf(belief.time_s).all()
    assert belief.checks.tolist() == [0.0, 0.0, 0.0]


def test_the_exact_search_is_known_to_find_all():
    belief = believe(log_of((HERE, 0.2)), HERE, 100.0)
    assert (belief.recall[-1], belief.recall_sd[-1]) == (1.0, 0.0)


def test_many_checks_of_one_kind_are_believed_to_their_mean_and_error():
    recalls = np.random.default_rng(0).uniform(0.6, 1.0, 4000)
    mean, sd = default_of(log_of(*[(HERE, recall) for recall in recalls]), half_life=1e9)
    latest = recalls[-256:]  # so many are looked at
    assert mean == pytest.approx(latest.mean(), abs=0.002)
    assert sd == pytest.approx(latest.std() / 16.0, rel=0.15)


def test_later_checks_count_more_by_the_half_life():
    recalls = np.linspace(0.0, 1.0, 40)
    mean, _ = default_of(log_of(*[(HERE, recall) for recall in recalls]), half_life=5.0)
    weights = 2.0 ** (-np.arange(39, -1, -1) / 5.0)
    assert mean == pytest.approx((weights * recalls).sum() / weights.sum(), abs=0.02)


@pytest.mark.parametrize("fit", [0, UNKNOWN])
def test_a_value_never_seen_has_the_belief_of_its_fit_and_size(fit):
    log = log_of(*[(Kind(fit, 5, value), 0.8) for value in range(50)])
    mean, _ = default_of(log, Kind(fit, 5, 999))
    assert mean == pytest.approx(0.8, abs=0.02)


def test_a_value_seen_often_has_its_own():
    others = [(Kind(UNKNOWN, 5, value), 0.9) for value in range(50)]
    own = [(Kind(UNKNOWN, 5, 7), 0.3)] * 60
    log = log_of(*others, *own)
    assert default_of(log, Kind(UNKNOWN, 5, 7))[0] < 0.35
    assert default_of(log, Kind(UNKNOWN, 5, 999))[0] > 0.45


def test_what_is_nearer_counts_more_and_leaves_less_open():
    places = (Kind(4, 5, 1), Kind(1, 5, 1), Kind(0, 7, 1), Kind(0, 5, 2), HERE)
    found = [default_of(log_of(*[(place, 1.0)] * 10)) for place in places]
    means, sds = zip(*found, strict=True)
    assert sorted(sds, reverse=True) == list(sds)
    assert sds[0] > 2.0 * sds[-1]
    assert all(mean > 0.9 for mean in means)


def test_a_few_perfect_answers_are_not_taken_for_a_perfect_arm():
    sds = [default_of(log_of(*[(HERE, 1.0)] * count))[1] for count in (1, 4, 16, 64)]
    assert sorted(sds, reverse=True) == sds
    assert default_of(log_of(*[(HERE, 1.0)] * 4))[1] > 0.05


def test_the_last_checks_are_told_apart_from_all():
    log = log_of(*[(HERE, 1.0)] * 150, *[(HERE, 0.2)] * 8)
    belief = believe(log, HERE, 100.0)
    assert belief.recall[0] > 0.9
    assert belief.recent[0] < 0.6
    assert belief.checks.tolist() == [158.0, 0.0, 158.0]
    nothing = believe(log, Kind(3, 5, 1), 100.0)
    assert (nothing.recent[0], nothing.recent_sd[0]) == (1.0, 0.0)


def test_times_are_those_of_the_same_size_where_there_are_any():
    log = CheckLog(ARMS, 100)
    for size, time_s in ((2, 0.001), (8, 0.1)):
        for _ in range(10):
            log.add(Kind(0, size, 1), SearchCheck(10, time_s, ()))
    small, large = (believe(log, Kind(0, size, 3), 100.0).time_s for size in (2, 8))
    assert small[-1] == pytest.approx(0.001, rel=0.2)
    assert large[-1] == pytest.approx(0.1, rel=0.2)
    assert np.isinf(small[:2]).all()
