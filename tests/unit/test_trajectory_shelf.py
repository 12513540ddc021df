"""TrajectoryColumns and TrajectoryShelf: what comes back is what came, and no vector is held twice."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from sona.errors import InvalidValue
from sona.trajectory import TrajectoryBuffer, TrajectoryBuilder, TrajectoryShelf
from sona.trajectory.columns import TrajectoryColumns
from sona.trajectory.shelf import BLOCK
from sona.types import NO_PARAMETERS, NO_WEIGHTS, QueryTrajectory, TrajectoryStep

WIDTH = 64


def plain(number: int, width: int = WIDTH) -> QueryTrajectory:
    builder = TrajectoryBuilder(number, np.full(width, number, np.float32))
    for step in range(3):
        builder.add_step(np.full(width, number + step / 4, np.float32), None, 0.25 * step)
    return builder.build(0.5)


def filled(count: int) -> TrajectoryShelf:
    shelf = TrajectoryShelf()
    for number in range(count):
        shelf.append(plain(number))
    return shelf


def test_vectors_of_packed_trajectories_are_views_that_nobody_can_write_to():
    columns = TrajectoryColumns.of([plain(1), plain(2)])
    first, second = columns.rows(0, 2)
    arrays = [one for t in (first, second) for one in (t.query_embedding, *(s.activations for s in t.steps))]
    assert all(np.shares_memory(one, columns.vectors) and not one.flags.writeable for one in arrays)
    assert second.query_embedding.tolist() == [2.0] * WIDTH
    with pytest.raises(ValueError, match="read-only"):
        first.query_embedding[0] = 1.0


def test_what_was_absent_takes_no_column_and_is_the_usual_object_again():
    columns = TrajectoryColumns.of([plain(1)])
    optional = (columns.refs, columns.weights, columns.alternatives, columns.model_routes, columns.subjects)
    assert (*optional, columns.context_ids, columns.parameters, columns.places) == (None,) * 8
    (back,) = columns.rows(0, 1)
    assert back.parameters is NO_PARAMETERS
    assert all(step.attention_weights is NO_WEIGHTS for step in back.steps)


def test_a_vector_that_others_hold_stays_where_it_is():
    shared, weak, matrix = (np.ones(shape, np.float32) for shape in ((2,), (2,), (3, 2)))
    reference = weakref.ref(weak)
    matrix.flags.writeable = False
    tried = [shared, weak, matrix[1], np.full(2, 7, np.float32)]
    trajectory = QueryTrajectory(1, np.zeros(2, np.float32), tuple(TrajectoryStep(one) for one in tried))
    del tried, weak
    batch = [trajectory]
    del trajectory
    columns = TrajectoryColumns.of(batch)
    batch.clear()
    (back,) = columns.rows(0, 1)
    activations = [step.activations for step in back.steps]
    assert activations[0] is shared
    assert activations[1] is reference()
    assert np.shares_memory(activations[2], matrix)
    assert len(columns.vectors) == 2  # the query and the last step's
    assert [one.tolist() for one in activations] == [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [7.0, 7.0]]


def test_what_somebody_holds_and_amendments_come_back_as_the_same_objects():
    held, first = plain(1), plain(2)
    amended = QueryTrajectory(2, first.query_embedding, supersedes=first)
    batch = [plain(0), held, amended, plain(3)]
    columns = TrajectoryColumns.of(batch)
    batch.clear()
    back = columns.rows(0, 4)
    assert back[1] is held
    assert back[2] is amended
    assert [t.id for t in back] == [0, 1, 2, 3]
    assert [t.quality for t in back] == columns.qualities(0, 4) == [0.5, 0.5, None, 0.5]
    assert len(columns.vectors) == 8


def test_a_trajectory_of_another_width_is_kept_beside_the_others():
    batch = [plain(0), plain(1, width=5), plain(2)]
    columns = TrajectoryColumns.of(batch)
    batch.clear()
    assert [t.hidden_dim for t in columns.rows(0, 3)] == [WIDTH, 5, WIDTH]


def test_numbers_go_on_when_the_oldest_leave():
    shelf = filled(3 * BLOCK)
    shelf.drop(BLOCK + 1)
    assert (len(shelf), shelf.start, shelf.end) == (2 * BLOCK - 1, BLOCK + 1, 3 * BLOCK)
    assert [shelf[n].id for n in (BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 1)] == [BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 1]
    for absent in (BLOCK, 3 * BLOCK):
        with pytest.raises(InvalidValue):
            shelf[absent]


def test_what_lies_on_two_shelves_lies_in_the_same_columns():
    shelf, other = filled(2 * BLOCK), TrajectoryShelf()
    shelf.settle()
    other.append(plain(1000))
    for trajectory, at in shelf.placed():
        other.append(trajectory, at)
    assert other.ids() == [1000, *range(2 * BLOCK)]
    assert np.shares_memory(other[BLOCK].query_embedding, shelf[BLOCK - 1].query_embedding)
    assert len(other._stretches) == 1 + len(shelf._stretches)


def test_columns_of_a_shelf_are_those_of_its_trajectories():
    shelf = filled(2 * BLOCK + 3)
    shelf.drop(3)
    listed = list(shelf)
    assert shelf.ids() == [t.id for t in listed] == [shelf.id_of(n) for n in range(3, 2 * BLOCK + 3)]
    assert shelf.qualities() == [t.quality for t in listed]
    assert np.concatenate(shelf.queries()).tobytes() == np.array([t.query_embedding for t in listed]).tobytes()
    assert TrajectoryShelf().queries() == []


def test_ten_thousand_trajectories_take_little_beside_their_vectors():
    count = 10_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        buffer = TrajectoryBuffer(count)
        for number in range(count):
            buffer.record(plain(number))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(buffer) == count
    assert held / count - 4 * WIDTH * 4 < 120  # bytes; more than 1,200 as objects


def test_a_vector_that_thousands_share_is_held_once():
    item = np.ones(WIDTH, np.float32)
    item.flags.writeable = False
    buffer = TrajectoryBuffer(2000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            builder = TrajectoryBuilder(number, np.full(WIDTH, number, np.float32))
            for _ in range(10):
                builder.add_step(item, ref="item")
            buffer.record(builder.build())
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / 2000 < 10 * 40 + 4 * WIDTH + 100  # ten steps, the query, and the rest of a request
    assert all(step.activations is item for one in buffer.snapshot() for step in one.steps)
