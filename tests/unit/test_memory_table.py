"""The edges while they change: found at once, put in order when it pays."""

from __future__ import annotations

import numpy as np
import pytest

from sona.memory.edges import keys_of
from sona.memory.nodes import EdgeKind
from sona.memory.table import LEAST_ROOM, LIGHTEST, EdgeTable

F32 = pytest.approx


def key(a: int, b: int) -> int:
    return a << 32 | b


def of(table: EdgeTable, a: int, b: int) -> tuple[float, ...]:
    return table.weights_of(key(a, b))


def link(table: EdgeTable, pairs: list[tuple[int, int]], kind: EdgeKind, weights: list[float]) -> int:
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    return table.link(keys_of(a, b), kind, np.array(weights, np.float32))


def test_the_greater_weight_wins_among_equal_pairs_and_over_time():
    table = EdgeTable()
    assert link(table, [(0, 1), (1, 0), (0, 2)], EdgeKind.DREAM, [0.25, 0.5, 0.125]) == 2
    assert link(table, [(0, 1)], EdgeKind.DREAM, [0.375]) == 0
    assert of(table, 0, 1) == (0.0, 0.0, 0.5, 0.0)
    assert link(table, [(0, 1)], EdgeKind.SIMILAR, [1.0]) == 1
    assert of(table, 0, 1) == (1.0, 0.0, 0.5, 0.0)
    assert of(table, 1, 2) == (0.0,) * 4
    assert len(table) == 2
    assert link(table, [], EdgeKind.DREAM, []) == 0


def test_serving_moves_towards_1_and_away_from_it():
    table = EdgeTable()
    link(table, [(0, 1), (0, 2)], EdgeKind.DREAM, [0.5, 0.5])
    link(table, [(0, 2)], EdgeKind.SIMILAR, [0.75])
    table.serve([key(0, 1), key(0, 2), key(1, 2)], [0.1], 0.2)
    assert of(table, 0, 1) == F32((0.0, 0.1, 0.55, 0.0))
    assert of(table, 0, 2) == F32((0.75, 0.0, 0.4, 0.0))
    assert of(table, 1, 2) == (0.0,) * 4
    table.serve([key(0, 2), key(0, 1)], [1.0], 0.5)
    assert of(table, 0, 2) == (0.75, 1.0, 1.0, 0.0)
    assert of(table, 0, 1) == F32((0.0, 0.05, 0.275, 0.0))


def test_weakening_never_ends_a_link_and_strengthening_never_passes_1():
    table = EdgeTable()
    for _ in range(100):
        table.serve([key(0, 1)], [0.5], 0.9)
    assert of(table, 0, 1) == (0.0, 1.0, 0.0, 0.0)
    for _ in range(100):
        table.serve([key(0, 1)], [], 0.9)
    assert of(table, 0, 1) == F32((0.0, LIGHTEST, 0.0, 0.0))
    table.serve([key(0, 1)], [], 1.0)
    assert len(table) == 1
    assert of(table, 0, 1)[EdgeKind.TOGETHER] > 0.0


def test_used_and_new_links_are_marked_and_others_are_not():
    table = EdgeTable()
    link(table, [(0, 1), (0, 2)], EdgeKind.PATTERN, [0.5, 0.5])
    link(table, [(0, 1)], EdgeKind.SIMILAR, [0.5])
    left, _ = table.arrays().decayed(keep_edge=1.0, keep_dream=1.0, min_weight=0.0)
    assert table.arrays().used.tolist() == [8, 8]
    table.replace(left)
    assert table.arrays().used.tolist() == [0, 0]
    table.serve([key(0, 1), key(0, 2)], [0.5], 0.5)
    assert table.arrays().used.tolist() == [10, 0]
    link(table, [(0, 2)], EdgeKind.PATTERN, [1.0])  # heavier, but neither new nor used
    assert table.arrays().used.tolist() == [10, 0]


@pytest.mark.parametrize("count", [3, LEAST_ROOM, LEAST_ROOM + 1, 3 * LEAST_ROOM])
def test_however_many_come_at_once_or_one_by_one_it_is_the_same(count):
    rng = np.random.default_rng(count)
    a, b = rng.integers(0, 60, count), 60 + rng.integers(0, 60, count)
    weights = rng.uniform(0.1, 1.0, count).astype(np.float32)
    bulk, single = EdgeTable(), EdgeTable()
    new = bulk.link(keys_of(a, b), EdgeKind.SIMILAR, weights)
    ones = [
        single.link(keys_of(a[row : row + 1], b[row : row + 1]), EdgeKind.SIMILAR, weights[row : row + 1])
        for row in range(count)
    ]
    assert new == sum(ones) == len(bulk) == len(single)
    assert bulk.arrays().keys.tobytes() == single.arrays().keys.tobytes()
    assert bulk.arrays().weights.tobytes() == single.arrays().weights.tobytes()


def test_many_pairs_of_one_request_find_room():
    table, count = EdgeTable(), LEAST_ROOM + 5
    table.serve([key(0, row) for row in range(1, 4)], [0.5] * 3, 0.1)
    table.serve([key(0, row) for row in range(1, count + 1)], [0.5] * count, 0.1)
    assert len(table) == count
    assert of(table, 0, 1)[EdgeKind.TOGETHER] == 0.75
    assert of(table, 0, count)[EdgeKind.TOGETHER] == 0.5


def test_around_sees_pairs_that_wait_and_pairs_that_are_settled():
    table = EdgeTable()
    link(table, [(0, 1), (1, 4)], EdgeKind.SIMILAR, [0.5, 0.25])
    table.arrays()
    link(table, [(1, 2), (0, 4)], EdgeKind.DREAM, [0.125, 1.0])
    for _ in range(2):
        around = table.around(np.array([1, 3, 0]))
        assert around.owners.tolist() == [0, 0, 0, 2, 2]
        assert around.neighbours.tolist() == [0, 2, 4, 1, 4]
        assert around.weights.tolist() == [0.5, 0.125, 0.25, 0.5, 1.0]
        table.arrays()


def test_an_adjacency_is_kept_until_something_changes_and_never_changes_itself():
    table = EdgeTable()
    link(table, [(0, 1)], EdgeKind.TOGETHER, [0.5])
    every = tuple(EdgeKind)
    first = table.adjacency(2, every)
    assert table.adjacency(2, every) is first
    assert len(table.adjacency(3, every)) == 3
    assert not len(table.adjacency(3, (EdgeKind.DREAM,)).neighbours)
    first = table.adjacency(3, every)
    table.serve([key(0, 1)], [0.5], 0.1)
    assert first.weights.tolist() == [0.5, 0.5]
    assert table.adjacency(3, every).weights.tolist() == [0.75, 0.75]
    link(table, [(0, 1)], EdgeKind.TOGETHER, [1.0])
    assert table.adjacency(3, every).weights.tolist() == [1.0, 1.0]
    arrays = table.arrays()
    table.serve([key(0, 1)], [], 0.5)
    assert arrays.weights[0].tolist() == [0.0, 1.0, 0.0, 0.0]
