"""Trajectories as a state tree: every field back, bit for bit, shared vectors once."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from sona.errors import InvalidValue, StoreError
from sona.state import State, digest, read_state, write_state
from sona.trajectory import TrajectoryBuilder, trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory, TrajectoryStep


def same(left: QueryTrajectory | None, right: QueryTrajectory | None) -> bool:
    if left is None or right is None:
        return left is right
    plain = ("id", "final_quality", "latency_us", "alternatives", "model_route", "context_ids", "subject")
    return (
        all(getattr(left, name) == getattr(right, name) for name in plain)
        and repr(dict(left.parameters)) == repr(dict(right.parameters))
        and left.query_embedding.tobytes() == right.query_embedding.tobytes()
        and len(left.steps) == len(right.steps)
        and all(same_step(a, b) for a, b in zip(left.steps, right.steps, strict=True))
        and same(left.supersedes, right.supersedes)
    )


def same_step(a: TrajectoryStep, b: TrajectoryStep) -> bool:
    return (
        a.activations.tobytes() == b.activations.tobytes()
        and a.attention_weights.tobytes() == b.attention_weights.tobytes()
        and (a.reward, a.timestamp, a.ref) == (b.reward, b.timestamp, b.ref)
    )


def rich() -> list[QueryTrajectory]:
    rng = np.random.default_rng(0)
    item = rng.normal(size=4).astype(np.float32)
    steps = (
        TrajectoryStep(item, np.array([0.1, 0.9], np.float32), 0.1, 0.25, "d\u00e9"),
        TrajectoryStep(rng.normal(size=4), ref=""),
        TrajectoryStep(item, reward=0.0),
    )
    old = QueryTrajectory(
        1, rng.normal(size=4), steps, 0.1 + 0.2, 12.5, True, "m", ("a", "b"), "u", {"ef": 40, "s": "x"}
    )
    middle = QueryTrajectory(1, old.query_embedding, steps[:1], supersedes=old)
    new = QueryTrajectory(1, old.query_embedding, supersedes=middle, parameters={"ef": 40.0, "on": True})
    return [new, QueryTrajectory(2**62, rng.normal(size=7)), middle]


def through_disk(trajectories: list[QueryTrajectory], folder) -> list[QueryTrajectory]:
    write_state(folder / "file", "trajectories", trajectories_state(trajectories))
    return trajectories_from_state(read_state(folder / "file", "trajectories"))


def test_every_field_comes_back_bit_for_bit(tmp_path):
    before = rich()
    after = through_disk(before, tmp_path)
    assert len(after) == len(before)
    assert all(same(a, b) for a, b in zip(before, after, strict=True))
    assert digest(trajectories_state(after)) == digest(trajectories_state(before))


def test_the_oracle_of_these_tests_sees_a_difference():
    one, other = rich()[0], rich()[2]
    assert not same(one, other)


def test_shared_vectors_and_versions_are_shared_again(tmp_path):
    new, _, middle = through_disk(rich(), tmp_path)
    assert new.supersedes is middle
    assert new.query_embedding is middle.query_embedding
    old = middle.supersedes
    assert old is not None
    assert old.steps[0].activations is old.steps[2].activations
    assert not old.steps[0].activations.flags.writeable


def test_a_shared_vector_is_written_once():
    item = np.ones(64, np.float32)
    many = [QueryTrajectory(n, item, (TrajectoryStep(item),) * 3) for n in range(50)]
    assert trajectories_state(many).floats("vectors", None).shape == (64,)


def test_no_trajectories_are_a_state_too(tmp_path):
    assert through_disk([], tmp_path) == []


@pytest.mark.parametrize("parameters", [{"x": np.ones(2)}, {"x": object()}])
def test_parameters_that_cannot_be_saved_say_so(parameters):
    with pytest.raises(InvalidValue, match="trajectory 5"):
        trajectories_state([QueryTrajectory(5, [1.0], parameters=parameters)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query", np.array([0, 0, 0, 99])),
        ("listed", np.array([-1])),
        ("step_ref", np.array([0, 50, 0, 0])),
        ("supersedes", np.array([3, -1, -1, -1])),
        ("step_offsets", np.array([0, 9, 2, 2, 4])),
        ("vector_offsets", np.array([0, 4])),
        ("quality", np.array([0.1, 5.0, 0.1, 0.1])),
        ("vectors", np.full(19, np.nan, np.float32)),
        ("words", ["a"]),
        ("distinct_settings", ["a"]),
        ("id", np.zeros(2, np.int64)),
    ],
)
def test_parts_that_do_not_fit_are_a_store_error(name, value):
    values = dict(trajectories_state(rich()).items())
    with pytest.raises(StoreError):
        trajectories_from_state(State({**values, name: value}))


@pytest.mark.parametrize("name", [name for name, _ in trajectories_state([]).items()])
def test_a_missing_part_is_a_store_error(name):
    values = dict(trajectories_state(rich()).items())
    del values[name]
    with pytest.raises(StoreError, match=name):
        trajectories_from_state(State(values))


def test_ten_thousand_requests_of_ten_steps_are_quick():
    items = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    rows = list(items)
    trajectories = []
    for number in range(10_000):
        builder = TrajectoryBuilder(number, rows[number % 500])
        for step in range(10):
            builder.add_step(rows[(number + step) % 500], reward=0.5, ref=f"i{step}")
        trajectories.append(builder.build())
    start = time.perf_counter()
    after = trajectories_from_state(trajectories_state(trajectories))
    took = time.perf_counter() - start
    assert len(after) == 10_000
    assert took < 6.0  # about 1.2 s on an idle core; loose, because tests share the machine


def test_versions_that_say_the_same_are_written_once_whichever_objects_hold_them():
    first = QueryTrajectory(3, [1.0, 0.0], (TrajectoryStep([0.0, 1.0], reward=1.0, ref="a"),), 0.5)
    twin = replace(first, steps=(replace(first.steps[0]),))
    amended, again = (
        replace(first, final_quality=0.7, supersedes=first),
        replace(first, final_quality=0.7, supersedes=twin),
    )
    shared, apart = trajectories_state([first, amended]), trajectories_state([twin, again])
    mixed = trajectories_state([first, again])
    assert digest(shared) == digest(apart) == digest(mixed)
    one, two = trajectories_from_state(mixed)
    assert two.supersedes is one


@pytest.mark.parametrize(
    "change",
    [
        {"final_quality": 0.6},
        {"latency_us": 1.0},
        {"alternatives": True},
        {"subject": "ann"},
        {"model_route": "b"},
        {"context_ids": ("m",)},
        {"parameters": {"k": 1}},
        {"query_embedding": [-0.0, 1.0]},
        {"steps": (TrajectoryStep([0.0, 1.0], reward=0.9),)},
        {"steps": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_versions_that_differ_in_anything_are_both_written(change):
    first = QueryTrajectory(3, [0.0, 1.0], (TrajectoryStep([0.0, 1.0], reward=1.0),), 0.5)
    one, two = trajectories_from_state(trajectories_state([first, replace(first, **change)]))
    assert one is not two
    for name, value in change.items():
        if name not in ("query_embedding", "steps"):
            assert getattr(two, name) == value
    assert two.query_embedding.tobytes() == replace(first, **change).query_embedding.tobytes()
