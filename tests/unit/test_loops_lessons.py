"""What a trajectory teaches the base adapter, and how it is taken out again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.adapters.statistics import RidgeStatistics
from sona.config import BackgroundConfig
from sona.errors import StoreError
from sona.loops import lessons
from sona.loops.lessons import Taught, TaughtColumns, Teacher, outcome_of, taught_from_state, taught_state
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 3
RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(9, D)).astype(np.float32)
QUERIES = RNG.normal(size=(9, D)).astype(np.float32)


def ranked(number: int, *rewards: float | None, **more) -> QueryTrajectory:
    steps = tuple(TrajectoryStep(ITEMS[place], reward=reward) for place, reward in enumerate(rewards))
    return QueryTrajectory(number, QUERIES[number % 9], steps, alternatives=True, **more)


def taught_by(*batches, known=None, capacity=10, baseline=0.5):
    statistics, known = RidgeStatistics(D), dict(known or {})
    for batch in batches:
        known = Teacher(BackgroundConfig(), capacity).accumulate(statistics, batch, known, baseline=baseline)
    return statistics, known


def sums(statistics: RidgeStatistics) -> np.ndarray:
    state = statistics.state()
    return np.concatenate([state.doubles("gram", D, D), state.doubles("cross", D, D)])


def same(one, other) -> None:
    assert one[0].count == other[0].count
    np.testing.assert_allclose(sums(one[0]), sums(other[0]), atol=1e-9)
    assert one[1] == other[1]


@pytest.mark.parametrize("apart", [False, True])
def test_an_amendment_takes_out_what_is_in_the_sums_whatever_it_names(apart):
    first, second, last = ranked(0, 1.0, 0.0, 0.0), ranked(0, 0.0, 1.0, 0.0), ranked(0, 0.0, 0.0, 1.0)
    for named in (first, second):
        amendment = replace(last, supersedes=named)
        batches = [[first], [amendment]] if apart else [[first, amendment]]
        same(taught_by(*batches), taught_by([last]))


def test_an_amendment_of_what_is_not_in_the_sums_takes_nothing_out():
    amendment = ranked(0, 0.0, 1.0, supersedes=ranked(0, 1.0, 0.0))
    same(taught_by([ranked(1, 1.0, 0.0), amendment]), taught_by([ranked(1, 1.0, 0.0), ranked(0, 0.0, 1.0)]))


def test_an_amendment_with_other_steps_than_were_taught_takes_nothing_out():
    statistics, known = taught_by(
        [ranked(0, 1.0, 0.0)], [ranked(0, 0.0, 1.0, 0.0, supersedes=ranked(0, 0.0, 1.0, 1.0))]
    )
    assert statistics.count == 2
    assert known[0].outcome == (None, 0.0, 1.0, 0.0)


def test_a_trajectory_given_twice_counts_once():
    same(taught_by([ranked(0, 1.0, 0.0)], [ranked(0, 1.0, 0.0)]), taught_by([ranked(0, 1.0, 0.0)]))


def test_an_outcome_is_taken_out_against_the_baseline_of_its_day():
    first = QueryTrajectory(0, QUERIES[0], (TrajectoryStep(ITEMS[0]),), 0.9)
    last = QueryTrajectory(0, QUERIES[0], (TrajectoryStep(ITEMS[0]),), 0.1, supersedes=first)
    statistics, known = taught_by([first], baseline=0.2)
    Teacher(BackgroundConfig(), 10).accumulate(statistics, [last], known, baseline=0.7)
    same((statistics, {}), (taught_by([last], baseline=0.7)[0], {}))


def test_the_oldest_is_forgotten_beyond_the_capacity(monkeypatch):
    monkeypatch.setattr(lessons, "_REMEMBERED", 2)
    statistics, known = taught_by([ranked(number, 1.0, 0.0) for number in range(5)], capacity=3)
    assert list(known) == [2, 3, 4]
    assert statistics.count == 5
    monkeypatch.undo()
    _, known = taught_by([ranked(number, 1.0, 0.0) for number in range(5)], capacity=3)
    assert len(known) == 5


def test_what_is_in_the_sums_comes_back_bit_for_bit_and_in_order():
    known = {
        7: Taught((0.1, None, 1.0), 0.3),
        2: Taught((None,), 0.5),
        9: Taught(outcome_of(ranked(9, 0.25, final_quality=0.0)), 1.0),
    }
    again = taught_from_state(taught_state(known))
    assert list(again.items()) == list(known.items())
    assert digest(taught_state(again)) == digest(taught_state(known))
    assert taught_from_state(taught_state({})) == {}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("ids", np.array([1, 1], np.int64)),
        ("sizes", np.array([2, 2], np.int64)),
        ("sizes", np.array([0, 3], np.int64)),
        ("baselines", np.zeros(3)),
        ("outcomes", np.zeros(1)),
    ],
)
def test_parts_that_do_not_add_up_are_refused(part, value):
    state = taught_state({1: Taught((0.1, 0.2), 0.5), 2: Taught((0.3,), 0.5)})
    with pytest.raises(StoreError):
        taught_from_state(State({**dict(state.items()), part: value}))


def test_what_was_taught_reads_like_the_mapping_it_was_made_of():
    given = {9: Taught((None, 0.1, 1.0), 0.3), 2: Taught((0.7,), 0.5), 5: Taught((None, None), 1.0)}
    known = TaughtColumns(given)
    assert known == given
    assert list(known.items()) == list(given.items())
    assert [known[key] for key in given] == list(known.values()) == list(given.values())
    assert (len(known), 2 in known, 3 in known) == (3, True, False)
    with pytest.raises(KeyError):
        known[3]
