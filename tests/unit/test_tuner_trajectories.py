"""Executions: what they are worth, how they wait, and how they are written down."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sona.errors import InvalidValue, StoreError
from sona.trajectory import TrajectoryBuffer
from sona.tuner.dag.quality import AgainstDefault
from sona.tuner.dag.trajectories import DagTrajectory, DagTrajectoryBuffer
from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams
from sona.types import QueryTrajectory

METRICS = ExecutionMetrics(2500.0, 100.5, 2300.25, 7, 65_536, 0.75, 0.6)
FULL = DagTrajectory(
    3,
    np.array([0.6, 0.8]),
    METRICS,
    ExecutionParams(80, 3, 2, AttentionType.CAUSAL_CONE, {"work_mem": "64MB", "enable_sort": "off"}),
    "abc",
    "shape",
    AttentionType.TEMPORAL_BTSP,
    9000.125,
    17.5,
)


def fields(one):
    names = [name for name in one.__slots__ if name != "plan_embedding"]
    return [one.plan_embedding.tobytes(), *(getattr(one, name) for name in names)]


@pytest.mark.parametrize("one", [FULL, DagTrajectory(0, [1.0], ExecutionMetrics(0.0))])
def test_it_comes_back_from_a_trajectory_of_the_engine_bit_for_bit(one):
    assert fields(DagTrajectory.from_query_trajectory(one.to_query_trajectory())) == fields(one)


def test_a_trajectory_of_something_else_is_refused():
    with pytest.raises(InvalidValue, match="not an execution"):
        DagTrajectory.from_query_trajectory(QueryTrajectory(1, [1.0]))
    for name, wrong in {"rows": 1.5, "baseline_us": "x", "set.work_mem": 4.0, "chosen": "none"}.items():
        written = FULL.to_query_trajectory()
        changed = replace(written, parameters={**written.parameters, name: wrong})
        with pytest.raises(InvalidValue, match="not an execution"):
            DagTrajectory.from_query_trajectory(changed)


@pytest.mark.parametrize(
    "settings",
    [
        {"id": -1},
        {"plan_embedding": [math.nan]},
        {"baseline_us": -1.0},
        {"baseline_us": math.inf},
        {"timestamp": math.nan},
        {"params": ExecutionParams(custom={"work_mem": None})},
    ],
)
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(InvalidValue):
        replace(FULL, **settings)


def test_quality_is_the_specified_one_or_that_of_an_objective():
    assert DagTrajectory(1, [1.0], ExecutionMetrics(1e4)).compute_quality() == pytest.approx(0.75)
    assert FULL.compute_quality(AgainstDefault()) == pytest.approx(9000.125 / 11500.125)


def test_gain_is_quality_over_the_servers_own_choice_on_the_same_statement():
    assert FULL.compute_gain(AgainstDefault()) == pytest.approx(9000.125 / 11500.125 - 0.5)
    assert FULL.compute_gain() == pytest.approx(0.5 / 1.5 - 0.5 / (1 + math.sqrt(0.9000125)))
    assert replace(FULL, baseline_us=None).compute_gain() is None
    assert replace(FULL, params=ExecutionParams(), baseline_us=None).compute_gain() == 0.0


def test_a_full_buffer_refuses_the_newest_and_counts_it():
    buffer = DagTrajectoryBuffer(2)
    assert [buffer.record(replace(FULL, id=n)) for n in range(4)] == [True, True, False, False]
    assert (len(buffer), buffer.is_full, buffer.dropped_count, buffer.total_seen, buffer.capacity) == (2, True, 2, 4, 2)
    assert [one.id for one in buffer.snapshot()] == [0, 1]
    assert [one.id for one in buffer.drain_n(1)] == [0]
    assert buffer.discard_n(5) == 1
    assert buffer.is_empty
    assert buffer.drain() == []


def test_a_buffer_takes_executions_alone():
    with pytest.raises(InvalidValue, match="DagTrajectory"):
        DagTrajectoryBuffer().record(QueryTrajectory(1, [1.0]))


def test_a_smaller_capacity_loses_nothing_that_waits():
    buffer = DagTrajectoryBuffer(3)
    for n in range(3):
        buffer.record(replace(FULL, id=n))
    again = DagTrajectoryBuffer.from_state(buffer.state(), capacity=1)
    assert (len(again), again.capacity, again.record(FULL)) == (3, 1, False)


def test_a_saved_buffer_of_other_trajectories_is_refused():
    other = TrajectoryBuffer()
    other.record(QueryTrajectory(1, [1.0]))
    with pytest.raises(StoreError, match="not an execution"):
        DagTrajectoryBuffer.from_state(other.state())
