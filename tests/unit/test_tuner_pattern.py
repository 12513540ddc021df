"""A pattern: its confidence, what it keeps, and what a shift does to it."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from tuner_scans import NO_LOOP, NO_SORT, took

from sona.errors import InvalidValue
from sona.tuner.dag.outcomes import Outcome
from sona.tuner.dag.pattern import DagPattern
from sona.tuner.dag.trajectories import DagTrajectory
from sona.tuner.execution import ExecutionParams


def pattern(qualities, *, params=NO_LOOP, gain=0.2, pattern_id=0, at=0.0, axis=0):
    runs = [DagTrajectory(n, np.eye(4)[axis], took(1.0), params, timestamp=at + n) for n in range(len(qualities))]
    return DagPattern.of(
        pattern_id, runs, [Outcome(params, q, gain, run.timestamp) for q, run in zip(qualities, runs, strict=True)]
    )


def test_confidence_is_the_specified_one():
    qualities = [0.5, 0.7, 0.6, 0.9]
    assert pattern(qualities).confidence == pytest.approx((1 - statistics.pstdev(qualities)) * (1 - 1 / 5), abs=1e-12)


def test_what_was_tried_besides_does_not_lower_it():
    alone = pattern([0.8] * 10)
    both = alone.joined(pattern([0.1, 0.9] * 5, params=NO_SORT, gain=-0.3))
    assert (both.params, both.confidence) == (NO_LOOP, alone.confidence)
    assert both.agrees_with(NO_LOOP)
    assert not both.agrees_with(ExecutionParams())


def test_merging_adds_sizes_and_orders_outcomes_by_time():
    first, second = pattern([0.5, 0.6], at=10.0), pattern([0.7, 0.8, 0.9], pattern_id=1, at=0.0, axis=1)
    merged = first.merge(second)
    assert (merged.id, merged.learned.cluster_size) == (0, 5)
    assert merged.learned.avg_quality == pytest.approx(0.7)
    assert [one.quality for one in merged.outcomes] == [0.7, 0.8, 0.9, 0.5, 0.6]
    np.testing.assert_allclose(merged.learned.centroid, [0.4, 0.6, 0.0, 0.0], rtol=1e-6)


def test_the_newest_stay_and_the_count_of_all():
    trimmed = pattern([0.1, 0.2, 0.3]).joined(pattern([0.4, 0.5])).trimmed(3)
    assert [one.quality for one in trimmed.outcomes] == [0.3, 0.4, 0.5]
    assert (trimmed.learned.cluster_size, trimmed.untested) == (5, 1)


def test_hits_are_accesses():
    used = pattern([0.5]).with_hits(3, 99.0)
    assert (used.learned.access_count, used.learned.last_accessed) == (3, 99.0)


def steady(count):
    return [0.7, 0.72, 0.68, 0.71, 0.69] * (count // 5)


def test_nothing_is_tested_while_there_is_too_little():
    assert pattern(steady(20)).test_shift(2.0, 100) is None  # nothing is new
    assert pattern(steady(20)).joined(pattern([0.1] * 9)).test_shift(2.0, 100) is None
    assert pattern(steady(15)).joined(pattern([0.1] * 10)).test_shift(2.0, 100) is None


def test_what_the_newest_are_compared_with_was_tested_before():
    long_changed = pattern(steady(20)).joined(pattern([0.1] * 200))
    assert long_changed.test_shift(2.0, 100).is_fall
    changed_late = pattern(steady(20)).joined(pattern([*steady(20), *[0.1] * 10]))
    assert changed_late.test_shift(2.0, 100).is_fall


def test_a_fall_costs_all_confidence_and_it_is_earned_again():
    fallen = pattern(steady(20)).joined(pattern([0.1] * 10))
    test = fallen.test_shift(2.0, 100)
    assert test.is_fall
    after = fallen.tested(test)
    assert (after.confidence, after.params.is_default, after.shift_count) == (0.0, True, 1)
    assert after.learned.cluster_size == 30
    again = after.joined(pattern([0.3] * 3))
    assert again.params == NO_LOOP
    assert 0.0 < again.confidence < 0.8
    assert again.joined(pattern([0.3] * 2)).confidence > 0.8


def test_a_rise_costs_nothing_and_is_not_found_again():
    risen = pattern(steady(20)).joined(pattern([0.95] * 10))
    test = risen.test_shift(2.0, 100)
    after = risen.tested(test)
    assert (test.is_shift, test.is_fall, after.shift_count) == (True, False, 1)
    assert after.confidence > 0.8
    assert after.joined(pattern([0.95] * 10)).test_shift(2.0, 100) is None


def test_executions_are_tested_once():
    calm = pattern(steady(20)).joined(pattern(steady(10)))
    after = calm.tested(calm.test_shift(2.0, 100))
    assert (after.untested, after.test_shift(2.0, 100), len(after.outcomes)) == (0, None, 30)


def test_trying_other_settings_is_no_shift():
    explored = pattern(steady(20)).joined(pattern([0.05] * 30, params=NO_SORT, gain=-0.5))
    assert explored.test_shift(2.0, 100) is None
    also = explored.joined(pattern(steady(10)))
    assert not also.test_shift(2.0, 100).is_shift


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidValue):
        DagPattern.of(0, [], [])
    with pytest.raises(InvalidValue):
        replace(pattern([0.5]), untested=2)
