"""The laws that recording requests obeys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sona.state import digest
from sona.trajectory import (
    OpenTrajectories,
    TrajectoryBuffer,
    TrajectoryBuilder,
    trajectories_from_state,
    trajectories_state,
)
from sona.trajectory.columns import TrajectoryColumns
from sona.types import QueryTrajectory, TrajectoryStep

vectors = hnp.arrays(np.float32, 3, elements=st.floats(-(2.0**99), 2.0**99, width=32))
outcomes = st.none() | st.floats(0.0, 1.0)
names = st.none() | st.text(max_size=4)
steps = st.builds(
    TrajectoryStep,
    vectors,
    hnp.arrays(np.float32, st.integers(0, 3), elements=st.floats(-1.0, 1.0, width=32)),
    outcomes,
    st.floats(0.0, 1e9),
    names,
)
first_versions = st.builds(
    QueryTrajectory,
    st.integers(0, 2**63 - 1),
    vectors,
    st.lists(steps, max_size=4).map(tuple),
    outcomes,
    st.floats(0.0, 1e9),
    st.booleans(),
    names,
    st.lists(st.text(max_size=3), max_size=3).map(tuple),
    names,
    st.dictionaries(st.text(max_size=3), st.floats() | st.integers() | st.text(max_size=3), max_size=3),
)
trajectories = first_versions | first_versions.flatmap(
    lambda old: st.builds(QueryTrajectory, st.just(old.id), vectors, supersedes=st.just(old))
)


@given(batch=st.lists(trajectories, max_size=6))
def test_save_and_load_give_the_same_trajectories_bit_for_bit(batch):
    after = trajectories_from_state(trajectories_state(batch))
    assert digest(trajectories_state(after)) == digest(trajectories_state(batch))
    assert [t.id for t in after] == [t.id for t in batch]
    assert [[s.reward for s in t.steps] for t in after] == [[s.reward for s in t.steps] for t in batch]
    assert [t.supersedes is None for t in after] == [t.supersedes is None for t in batch]


@given(capacity=st.integers(1, 5), actions=st.lists(st.integers(-3, 3), max_size=60))
def test_every_counter_of_the_buffer_tells_the_truth(capacity, actions):
    # A model of the buffer: a list. Positive numbers drain, the rest record.
    buffer, model, seen, dropped = TrajectoryBuffer(capacity), [], 0, 0
    for action in actions:
        if action == 3:
            assert [t.id for t in buffer.drain()] == model
            model = []
        elif action > 0:
            assert [t.id for t in buffer.drain_n(action)] == model[:action]
            model = model[action:]
        else:
            taken = buffer.record(QueryTrajectory(seen, np.ones(1, np.float32)))
            assert taken == (len(model) < capacity)
            if taken:
                model.append(seen)
            dropped += not taken
            seen += 1
        assert (len(buffer), buffer.is_empty, buffer.is_full) == (len(model), not model, len(model) == capacity)
        assert (buffer.total_seen, buffer.dropped_count) == (seen, dropped)


def rebuilt(version: QueryTrajectory) -> QueryTrajectory:
    # Equal to what it is made of, and sharing nothing with it: nobody else holds any of it.
    return replace(
        version,
        query_embedding=version.query_embedding.copy(),
        steps=tuple(replace(step, activations=step.activations.copy()) for step in version.steps),
        supersedes=None if version.supersedes is None else rebuilt(version.supersedes),
    )


def described(given: Sequence[QueryTrajectory]) -> str:
    return digest(trajectories_state(given))


queue_actions = st.lists(
    st.tuples(st.just("record"), trajectories, st.integers(1, 90))
    | st.tuples(st.sampled_from(["drain", "drain_n", "hand_over", "reload"]), st.none(), st.integers(0, 150)),
    max_size=8,
)


@settings(deadline=None)
@given(actions=queue_actions, capacity=st.integers(1, 300))
def test_what_comes_out_of_the_buffer_is_what_went_in(actions, capacity):
    # The oracle is a list that shares nothing with the buffer, so that what the buffer packs is its own.
    buffer, oracle = TrajectoryBuffer(capacity), []
    for verb, trajectory, count in actions:
        if verb == "record":
            taken = [buffer.record(rebuilt(trajectory)) for _ in range(count)]
            oracle += [trajectory] * sum(taken)
        elif verb == "reload":
            buffer = TrajectoryBuffer.from_state(buffer.state())
        else:
            n = len(oracle) if verb == "drain" else count
            given_out = buffer.drain() if verb == "drain" else list(getattr(buffer, verb)(count))
            assert described(given_out) == described([rebuilt(one) for one in oracle[:n]])
            del oracle[:n]
        apart = [rebuilt(one) for one in oracle]
        assert described(buffer.snapshot()) == described(apart)
        assert digest(buffer.state().child("waiting")) == described(apart)
        assert len(buffer) == len(oracle)


@settings(deadline=None)
@given(batch=st.lists(trajectories, min_size=1, max_size=6), keeps=st.booleans())
def test_columns_give_back_every_field_of_every_row(batch, keeps):
    given_in = [rebuilt(one) for one in batch]
    kept = list(given_in) if keeps else []
    columns = TrajectoryColumns.of(given_in)
    given_in.clear()
    for start in range(len(batch)):
        for stop in range(start, len(batch) + 1):
            back = columns.rows(start, stop)
            assert described(back) == described([rebuilt(one) for one in batch[start:stop]])
            assert columns.qualities(start, stop) == [one.quality for one in batch[start:stop]]
            assert all(one is two for one, two in zip(back, kept[start:stop], strict=False))


@given(
    capacity=st.integers(1, 4),
    times=st.lists(st.floats(0.0, 100.0), max_size=20),
    ttl_s=st.floats(0.1, 50.0),
    now=st.floats(0.0, 200.0),
)
def test_no_unfinished_request_is_older_than_its_time(capacity, times, ttl_s, now):
    registry = OpenTrajectories(ttl_s, capacity)
    builders = [TrajectoryBuilder(number, [1.0]) for number in range(len(times))]
    for builder, at in zip(builders, times, strict=True):
        registry.add(builder, at)
    registry.expire(now)
    latest = np.maximum.accumulate(times) if times else []
    held = [b for b, at in zip(builders, latest, strict=True) if not b.is_finished]
    assert len(held) == len(registry) <= capacity
    assert registry.expired_count == len(builders) - len(held)
    assert all(now - at <= ttl_s for b, at in zip(builders, latest, strict=True) if not b.is_finished)
