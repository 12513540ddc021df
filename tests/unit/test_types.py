"""The nouns: checked when made, immutable afterwards, patterns merged by the book."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sona.errors import DimensionMismatch, InvalidValue
from sona.types import LARGEST_ID, LearnedPattern, QueryTrajectory, TrajectoryStep


def pattern(number: int = 0, **changes: object) -> LearnedPattern:
    fields = {"centroid": [1.0, 0.0], "cluster_size": 2, "total_weight": 2.0, "avg_quality": 0.5} | changes
    return LearnedPattern(number, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"activations": []},
        {"activations": [np.nan]},
        {"activations": [1.0], "attention_weights": [np.nan]},
        {"activations": [1.0], "attention_weights": [[1.0]]},
        {"activations": [1.0], "reward": 1.1},
        {"activations": [1.0], "reward": "good"},
        {"activations": [1.0], "timestamp": np.inf},
        {"activations": [1.0], "ref": 4},
    ],
)
def test_a_bad_step_is_refused(fields):
    with pytest.raises(InvalidValue):
        TrajectoryStep(**fields)


def test_a_step_without_weights_has_empty_ones():
    assert TrajectoryStep([1.0]).attention_weights.shape == (0,)
    assert TrajectoryStep([1.0], []).attention_weights.shape == (0,)
    assert TrajectoryStep([1.0], [1, 2]).attention_weights.dtype == np.float32


@pytest.mark.parametrize(
    "fields",
    [
        {"id": -1},
        {"id": LARGEST_ID + 1},
        {"id": 1.0},
        {"query_embedding": [np.inf, 0.0]},
        {"query_embedding": [[1.0, 0.0]]},
        {"final_quality": -0.5},
        {"final_quality": np.nan},
        {"latency_us": np.nan},
        {"model_route": 1},
        {"subject": 1},
        {"context_ids": [1]},
    ],
)
def test_a_bad_trajectory_is_refused(fields):
    with pytest.raises(InvalidValue):
        QueryTrajectory(**({"id": 1, "query_embedding": [1.0, 0.0]} | fields))


def test_a_step_with_another_reward_is_otherwise_the_same():
    step = TrajectoryStep([1.0, 2.0], [0.5], 0.25, 3.0, "doc")
    other = step.with_reward(1)
    assert (other.reward, step.with_reward(None).reward, step.reward) == (1.0, None, 0.25)
    assert other.activations is step.activations
    assert other.attention_weights is step.attention_weights
    assert (other.timestamp, other.ref) == (3.0, "doc")
    for wrong in (1.5, -0.1, np.nan, "much"):
        with pytest.raises(InvalidValue, match="reward"):
            step.with_reward(wrong)


def test_steps_have_the_width_of_the_query():
    with pytest.raises(DimensionMismatch):
        QueryTrajectory(1, [1.0, 0.0], (TrajectoryStep([1.0]),))


def test_the_quality_is_the_final_one_else_the_best_reward():
    steps = (TrajectoryStep([1.0], reward=0.2), TrajectoryStep([1.0]), TrajectoryStep([1.0], reward=0.7))
    assert QueryTrajectory(1, [1.0], steps, 0.1).quality == 0.1
    assert QueryTrajectory(1, [1.0], steps).quality == 0.7
    assert QueryTrajectory(1, [1.0], (TrajectoryStep([1.0]),)).quality is None


def test_records_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        QueryTrajectory(1, [1.0]).id = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrajectoryStep([1.0]).reward = 0.0


def test_merged_patterns_weigh_by_size_and_sum_their_counts():
    one = pattern(
        3, cluster_size=1, created_at=5.0, last_accessed=6.0, access_count=2, total_weight=0.5, avg_quality=0.0
    )
    other = pattern(
        9, centroid=[0.0, 4.0], cluster_size=3, created_at=1.0, last_accessed=2.0, access_count=5, avg_quality=1.0
    )
    both = one.merge(other)
    assert (both.id, both.cluster_size, both.total_weight, both.access_count) == (3, 4, 2.5, 7)
    assert (both.created_at, both.last_accessed, both.avg_quality) == (1.0, 6.0, 0.75)
    assert both.centroid.tolist() == [0.25, 3.0]
    with pytest.raises(DimensionMismatch):
        one.merge(pattern(centroid=[1.0]))


def test_decay_touches_the_weight_alone():
    decayed = pattern(total_weight=4.0).decay(0.25)
    assert (decayed.total_weight, decayed.cluster_size, decayed.avg_quality) == (1.0, 2, 0.5)
    for factor in (-0.1, 1.1, np.nan):
        with pytest.raises(InvalidValue):
            pattern().decay(factor)


@pytest.mark.parametrize(("quality", "count", "prune"), [(0.2, 0, True), (0.2, 3, False), (0.3, 0, False)])
def test_only_poor_and_unused_patterns_are_pruned(quality, count, prune):
    assert pattern(avg_quality=quality, access_count=count).should_prune(0.3, 3) is prune


def test_touch_counts_and_never_goes_back_in_time():
    touched = pattern(last_accessed=5.0).touch(3.0).touch(9.0)
    assert (touched.access_count, touched.last_accessed) == (2, 9.0)
    assert pattern(last_accessed=5.0).touch(3.0).last_accessed == 5.0


@pytest.mark.parametrize(
    "changes",
    [{"cluster_size": 0}, {"total_weight": -1.0}, {"avg_quality": 2.0}, {"centroid": [np.nan]}, {"access_count": -1}],
)
def test_a_bad_pattern_is_refused(changes):
    with pytest.raises(InvalidValue):
        pattern(**changes)
