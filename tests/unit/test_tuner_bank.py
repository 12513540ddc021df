"""The bank: which patterns it makes, keeps, merges and drops."""

import numpy as np
import pytest
from tuner_scans import NO_LOOP, NO_SORT, took

from sona.config.tuner import DagConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.state import State, digest
from sona.tuner.dag.bank import DagReasoningBank
from sona.tuner.dag.outcomes import Outcome
from sona.tuner.dag.pattern import DagPattern
from sona.tuner.dag.trajectories import DagTrajectory
from sona.tuner.execution import ExecutionParams

D = 16
CONFIG = DagConfig(hidden_dim=D)
AXES = np.eye(D, dtype=np.float32)


def run(number, axis=0, params=NO_LOOP, at=0.0):
    return DagTrajectory(number, AXES[axis], took(1.0), params, timestamp=at)


def judge(quality=0.8, gain=0.3):
    return lambda one: Outcome(one.params, quality, gain, one.timestamp)


def bank_of(*counts, config=CONFIG):
    bank = DagReasoningBank(config)
    runs = [run(100 * axis + n, axis) for axis, count in enumerate(counts) for n in range(count)]
    bank.learn(runs, judge(), rng=np.random.default_rng(0))
    return bank


def test_plans_that_are_alike_are_one_pattern():
    bank = bank_of(3, 5)
    assert sorted(one.learned.cluster_size for one in bank.patterns) == [3, 5]
    found = bank.find_similar(AXES[1] + 0.2 * AXES[0], 2)
    assert [one.executions for one in found] == [5, 3]
    assert found[0].similarity == pytest.approx(1 / np.sqrt(1.04))
    assert (found[0].params, found[0].tried[0].count) == (NO_LOOP, 5)


def test_what_is_known_takes_in_what_is_like_it():
    bank = bank_of(3)
    learned = bank.learn([run(7), run(8, 4)], judge(), rng=np.random.default_rng(0))
    assert (learned.joined, learned.made, learned.evicted, learned.shifts) == (1, (1,), (), ())
    assert bank.get(0).learned.cluster_size == 4
    assert bank.learn([], judge(), rng=np.random.default_rng(0)).joined == 0


def test_the_least_certain_goes_first():
    bank = bank_of(3, 5, 2, config=DagConfig(hidden_dim=D, capacity=2))
    assert sorted(one.learned.cluster_size for one in bank.patterns) == [3, 5]
    kept = {one.id for one in bank.patterns}
    stored = DagPattern.of(9, [run(1, 7)] * 4, [Outcome(NO_LOOP, 0.8, 0.3)] * 4)
    evicted = bank.store(stored)
    assert evicted == (next(iter(kept - {one.id for one in bank.patterns})),)
    assert sorted(one.learned.cluster_size for one in bank.patterns) == [4, 5]
    assert bank.next_id == 10


def test_a_pattern_is_stored_in_place_of_one_of_its_id():
    bank = bank_of(3)
    assert bank.store(DagPattern.of(0, [run(1)], [Outcome(NO_SORT, 0.5)])) == ()
    assert [one.learned.cluster_size for one in bank.patterns] == [1]


def test_consolidating_merges_what_is_alike_and_keeps_every_count():
    bank = bank_of(3)
    near = DagTrajectory(50, AXES[0] + 0.1 * AXES[1], took(1.0), NO_SORT)
    bank.store(DagPattern.of(5, [near] * 6, [Outcome(NO_SORT, 0.6, 0.1)] * 6))
    bank.store(DagPattern.of(6, [run(60, 3)], [Outcome(NO_SORT, 0.6, 0.1)]))
    assert bank.consolidate(0.999) == 0
    assert bank.consolidate() == 1
    assert [(one.id, one.learned.cluster_size, len(one.outcomes)) for one in bank.patterns] == [(5, 9, 9), (6, 1, 1)]
    assert bank.get(0).id == 5
    assert bank.get(5).learned.avg_quality == pytest.approx((3 * 0.8 + 6 * 0.6) / 9)
    assert bank.get(99) is None
    assert bank.consolidate() == 0
    with pytest.raises(InvalidValue):
        bank.consolidate(1.5)


def test_a_shift_is_reported_and_confidence_falls():
    bank = bank_of(25)
    learned = bank.learn([run(n) for n in range(10)], judge(0.2, 0.3), rng=np.random.default_rng(0))
    assert [(one.pattern_id, one.test.is_fall) for one in learned.shifts] == [(0, True)]
    assert bank.get(0).confidence == 0.0
    assert bank.get(0).learned.cluster_size == 35


def test_many_new_executions_at_once_are_compared_with_what_was_known_before():
    bank = bank_of(100)
    learned = bank.learn([run(n) for n in range(200)], judge(0.2, 0.3), rng=np.random.default_rng(0))
    assert len(learned.shifts) == 1


def test_hits_reach_their_pattern_or_the_one_that_took_it_in():
    bank = bank_of(3)
    bank.store(DagPattern.of(1, [run(1)] * 5, [Outcome(NO_SORT, 0.6, 0.1)] * 5))
    bank.consolidate()
    bank.count_hits({0: 2, 1: 3, 77: 1}, now=5.0)
    assert bank.get(1).learned.access_count == 5


def test_a_copy_goes_its_own_way():
    bank = bank_of(3)
    before, twin = digest(bank.state()), bank.copy()
    twin.learn([run(9, 9)], judge(), rng=np.random.default_rng(0))
    twin.consolidate(-1.0)
    assert digest(bank.state()) == before


def test_a_refused_learning_changes_nothing():
    bank = bank_of(3)
    before = digest(bank.state())
    narrow = DagTrajectory(1, np.ones(4), took(1.0))
    with pytest.raises(DimensionMismatch):
        bank.learn([run(1), narrow], judge(), rng=np.random.default_rng(0))
    with pytest.raises(InvalidValue):
        bank.learn([run(1), run(2)], judge(1.5), rng=np.random.default_rng(0))
    with pytest.raises(DimensionMismatch):
        bank.store(DagPattern.of(0, [narrow], [Outcome(NO_SORT, 0.5)]))
    for asked in (np.ones(4), np.full(D, np.nan)):
        with pytest.raises(InvalidValue):
            bank.find_similar(asked)
    assert digest(bank.state()) == before


def test_an_empty_bank_finds_nothing():
    assert DagReasoningBank(CONFIG).find_similar(AXES[0]) == ()
    assert len(DagReasoningBank(CONFIG)) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("next_id", 0),
        ("merged", np.array([[7, 9]], np.int64)),
        ("patterns/settings", ["{}"]),
        ("patterns/settings", ["[]"]),
        ("patterns/ran_with", np.array([0, 0, 5], np.int64)),
        ("patterns/quality", np.array([0.5, 0.5, 1.5])),
        ("patterns/kept", np.array([-1], np.int64)),
        ("patterns/untested", np.array([9], np.int64)),
        ("patterns/id", np.array([-1], np.int64)),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    state = bank_of(3).state()
    *above, last = name.split("/")
    values = dict(state.items())
    if above:
        values["patterns"] = State({**dict(state.child("patterns").items()), last: value})
    else:
        values[last] = value
    with pytest.raises(StoreError):
        DagReasoningBank.from_state(State(values), CONFIG)
    with pytest.raises(StoreError, match="more than 1"):
        DagReasoningBank.from_state(bank_of(3, 3).state(), DagConfig(hidden_dim=D, capacity=1))


def test_the_default_is_a_choice_like_others():
    bank = DagReasoningBank(CONFIG)
    runs = [run(n, params=ExecutionParams()) for n in range(5)]
    bank.learn(runs, judge(0.8, 0.0), rng=np.random.default_rng(0))
    found = bank.find_similar(AXES[0], 1)[0]
    assert (found.params.is_default, round(found.confidence, 6)) == (True, round(5 / 6, 6))
