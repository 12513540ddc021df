"""Which settings outcomes speak for."""

import math
import statistics

import pytest

from sona.errors import InvalidValue
from sona.tuner.dag.outcomes import Outcome, optimal_settings, tried_settings
from sona.tuner.execution import AttentionType, ExecutionParams

OFF = ExecutionParams(custom={"enable_sort": "off"})
LOOP = ExecutionParams(custom={"enable_nestloop": "off"})
OWN = ExecutionParams()


def ran(params, quality, gain=None, times=1):
    return [Outcome(params, quality, gain)] * times


def test_without_outcomes_nothing_is_said():
    assert optimal_settings([]) is None


def test_the_default_wins_where_nothing_is_better():
    found = optimal_settings(ran(OFF, 0.9, -0.1, 20) + ran(LOOP, 0.5, 0.0, 20) + ran(OWN, 0.4, None, 3))
    assert found.params.is_default
    assert found.count == 3


def test_the_default_wins_where_it_never_ran_and_nothing_is_better():
    found = optimal_settings(ran(OFF, 0.9, -0.1, 20))
    assert (found.params.is_default, found.count, found.confidence) == (True, 0, 0.0)


def test_what_gains_most_for_sure_wins():
    assert optimal_settings(ran(OFF, 0.7, 0.1, 10) + ran(LOOP, 0.8, 0.2, 10)).params == LOOP
    # Seen once a great gain is worth less than a smaller one seen often.
    assert optimal_settings(ran(OFF, 0.7, 0.15, 20) + ran(LOOP, 0.9, 0.25)).params == OFF


def test_a_gain_of_pure_noise_is_not_believed():
    noise = [Outcome(OFF, 0.5, 0.2 * (-1) ** n + 0.1) for n in range(10)]
    assert optimal_settings(noise).params.is_default


def test_an_unknown_gain_is_measured_against_what_the_default_earned_there():
    found = tried_settings(ran(OFF, 0.7, None, 4) + ran(OWN, 0.5, None, 4))[0]
    assert (found.params, found.count) == (OFF, 4)
    assert found.mean_gain == pytest.approx(0.2)
    assert tried_settings(ran(OFF, 0.7, None, 4))[0].mean_gain is None
    assert optimal_settings(ran(OFF, 0.7, None, 4)).params.is_default


def test_the_sure_gain_is_two_standard_errors_below_the_mean_and_shrunk():
    gains = [0.1, 0.3, 0.2]
    found = tried_settings([Outcome(OFF, 0.5, gain) for gain in gains])[0]
    spread = math.sqrt((3 * statistics.pvariance(gains) + 0.01) / 3)
    assert found.sure_gain == pytest.approx((0.2 - 2 * spread / math.sqrt(3)) * 3 / 4)


def test_confidence_is_that_of_the_executions_with_that_choice():
    qualities = [0.2, 0.6, 0.7]
    found = tried_settings([Outcome(OFF, q, 0.1) for q in qualities] + ran(LOOP, 1.0, -0.5, 9))[0]
    assert found.confidence == pytest.approx((1 - statistics.pstdev(qualities)) * (1 - 1 / 4), abs=1e-12)


def test_a_recommendation_is_a_combination_that_ran():
    both = ExecutionParams(custom={"enable_sort": "off", "enable_nestloop": "off"})
    found = optimal_settings(ran(OFF, 0.5, 0.1, 6) + ran(LOOP, 0.5, 0.1, 6) + ran(both, 0.1, -0.4, 6))
    assert found.params in (OFF, LOOP)


def test_numbers_are_means_weighted_by_gain_and_texts_the_mode():
    def vector(ef, memory, attention):
        return ExecutionParams(ef, 4, 1, attention, {"work_mem": memory, "hnsw.iterative_scan": "strict_order"})

    cone, branch = AttentionType.CAUSAL_CONE, AttentionType.PARALLEL_BRANCH
    outcomes = [
        Outcome(vector(100, "64MB", cone), 0.8, 0.3),
        Outcome(vector(200, "32MB", branch), 0.6, 0.1),
        Outcome(vector(900, "1GB", branch), 0.2, -0.3),  # lost, so it counts nothing
    ] * 3
    best = tried_settings(outcomes)[0].params
    assert (best.ef_search, best.probes, best.parallelism, best.attention_type) == (125, 4, 1, cone)
    assert best.custom == {"work_mem": "56MB", "hnsw.iterative_scan": "strict_order"}


@pytest.mark.parametrize(("first", "second", "mean"), [("1000", "1002kB", "1001kB"), ("1MB", "2MB", "1536kB")])
def test_memory_is_read_as_the_server_reads_it(first, second, mean):
    outcomes = [Outcome(ExecutionParams(custom={"work_mem": text}), 0.5, 0.2) for text in (first, second)]
    assert tried_settings(outcomes)[0].params.custom == {"work_mem": mean}


def test_a_memory_of_another_form_is_a_text():
    outcomes = [Outcome(ExecutionParams(custom={"work_mem": text}), 0.5, 0.2) for text in ("1.5GB", "4MB")]
    assert {one.params.custom["work_mem"] for one in tried_settings(outcomes)} == {"1.5GB", "4MB"}


@pytest.mark.parametrize(
    "settings", [{"quality": 1.1}, {"quality": math.nan}, {"gain": -1.1}, {"gain": math.nan}, {"timestamp": math.inf}]
)
def test_figures_that_cannot_be_are_refused(settings):
    with pytest.raises(InvalidValue):
        Outcome(**{"params": OWN, "quality": 0.5, **settings})
