"""Rehearsals: scipy's tests, reciprocal ranks written out, and no verdict on too little."""

import numpy as np
import pytest
from scipy import stats

from sona.errors import InvalidValue
from sona.guard.rehearsal import LEAST_LISTS, RehearsedList, paired_p_value, rehearse, student_below

EXAMINED = np.array([1.0, 0.5, 0.25, 0.05], np.float32)


def held(count: int, seed: int = 0, noise: float = 0.3, shift: float = 0.0) -> list[RehearsedList]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        scores = np.sort(rng.random(6))[::-1].astype(np.float32)
        rewards = np.zeros(6, np.float32)
        rewards[rng.integers(6)] = 1.0
        candidate = scores + noise * rng.normal(size=6).astype(np.float32) + shift * rewards
        made.append(RehearsedList(scores, candidate.astype(np.float32), rewards))
    return made


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 19, 20, 101, 1000])
def test_the_tail_is_students(degrees):
    for statistic in (-9.0, -2.5, -0.3, 0.0, 0.7, 4.0):
        assert student_below(statistic, degrees) == pytest.approx(stats.t.cdf(statistic, degrees), abs=1e-12)


def changes(lists: list[RehearsedList]) -> list[float]:
    found = []
    for one in lists:
        change = 0.0
        for position, reward in enumerate(one.rewards):
            weight = min(1.0 / float(EXAMINED[min(position, 3)]), 2.0)
            now, then = (1 + int(np.sum(scores > scores[position])) for scores in (one.in_force, one.candidate))
            change += float(reward) * weight * (1.0 / then - 1.0 / now)
        found.append(change)
    return found


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.3])
def test_the_test_is_scipys_on_changes_written_out(shift):
    lists = held(60, shift=shift)
    found, oracle = rehearse(lists, EXAMINED, alpha=0.05), changes(lists)
    assert found.lists == 60
    assert found.mean == pytest.approx(np.mean(oracle))
    assert found.p_value == pytest.approx(stats.ttest_1samp(oracle, 0.0, alternative="less").pvalue)
    assert found.is_worse == (found.p_value < 0.05)


def test_a_worse_candidate_is_worse_and_a_better_one_is_not():
    assert rehearse(held(100, shift=-0.5), EXAMINED, alpha=0.05).is_worse
    assert not rehearse(held(100, shift=0.5), EXAMINED, alpha=0.05).is_worse


def test_the_same_candidate_is_no_worse():
    found = rehearse(held(50, noise=0.0), EXAMINED, alpha=0.05)
    assert (found.mean, found.p_value, found.is_worse) == (0.0, 1.0, False)


def test_a_candidate_that_always_costs_the_same_is_worse_without_doubt():
    one = RehearsedList(*(np.array(row, np.float32) for row in ([2, 1], [1, 2], [1, 0])))
    assert rehearse([one] * 30, EXAMINED, alpha=0.05).p_value == 0.0
    assert paired_p_value(0.1, 0.0, 5) == 1.0


def test_too_few_lists_are_not_judged_and_lists_that_earned_nothing_do_not_count():
    few = held(LEAST_LISTS - 1, shift=-0.9)
    silent = [RehearsedList(one.in_force, one.candidate, np.zeros(6, np.float32)) for one in held(50)]
    found = rehearse([*few, *silent], EXAMINED, alpha=0.05)
    assert (found.lists, found.p_value, found.is_worse) == (LEAST_LISTS - 1, 1.0, False)
    assert "not judged" in found.reason
    assert rehearse([], EXAMINED, alpha=0.05).lists == 0


def test_of_equal_scores_the_one_that_was_shown_first_is_first():
    flat = np.zeros(3, np.float32)
    one = RehearsedList(np.array([3, 2, 1], np.float32), flat, np.array([0, 1, 0], np.float32))
    assert rehearse([one] * 20, EXAMINED, alpha=0.05).mean == 0.0


def test_a_reward_is_worth_at_most_two():
    last = RehearsedList(
        np.array([4, 3, 2, 1], np.float32), np.array([1, 2, 3, 4], np.float32), np.array([0, 0, 0, 1], np.float32)
    )
    assert rehearse([last] * 20, EXAMINED, alpha=0.05).mean == pytest.approx(2.0 * 0.75)


@pytest.mark.parametrize("examined", [[], [1.0, 0.0], [-1.0]])
def test_chances_that_are_none_are_refused(examined):
    with pytest.raises(InvalidValue, match="examined"):
        rehearse(held(3), np.array(examined, np.float32), alpha=0.05)


def test_lists_of_unequal_parts_are_refused():
    with pytest.raises(InvalidValue, match="length"):
        rehearse([RehearsedList(EXAMINED, EXAMINED, EXAMINED[:2])], EXAMINED, alpha=0.05)


def test_a_change_of_no_account_is_no_reason_to_throw_a_batch_away():
    far = np.array([1.0] + [0.0] * 30, np.float32)

    def moved(place):  # the item that earned stands at rank 30 or 31
        scores = -np.arange(31, dtype=np.float32)
        scores[[30, 29]] = scores[[29, 30]] if place else scores[[30, 29]]
        return scores

    lists = [RehearsedList(moved(True), moved(False), far[::-1].copy())] * 40
    found = rehearse(lists, np.ones(31, np.float32), alpha=0.05)
    assert found.p_value < 0.05
    assert -0.005 < found.mean < 0.0
    assert not found.is_worse
