"""Who is linked to whom."""

from __future__ import annotations

import numpy as np

from sona.memory.edges import EdgeArrays, keys_of
from sona.memory.links import Around, Links
from sona.memory.nodes import EdgeKind

EDGES = EdgeArrays(
    keys_of(np.array([0, 0, 1, 1]), np.array([1, 3, 3, 4])),
    np.array([[0.5, 0, 0, 0], [0, 0.25, 0, 0], [0, 0, 0.125, 0], [0, 0.5, 0, 1]], np.float32),
    np.zeros(4, np.uint8),
)
EVERY = tuple(EdgeKind)


def test_each_link_stands_once_in_either_direction():
    adjacency = Links.of(EDGES).adjacency(EDGES.strengths(EVERY), 6)
    rows = [[part.tolist() for part in adjacency.of(row)] for row in range(6)]
    assert rows == [
        [[1, 3], [0.5, 0.25]],
        [[0, 3, 4], [0.5, 0.125, 1.0]],
        [[], []],
        [[0, 1], [0.25, 0.125]],
        [[1], [1.0]],
        [[], []],
    ]
    assert len(adjacency) == 6
    assert adjacency.neighbours.dtype == np.int32


def test_links_of_one_kind_leave_the_others_out():
    adjacency = Links.of(EDGES).adjacency(EDGES.strengths((EdgeKind.TOGETHER,)), 5)
    assert [adjacency.of(row)[0].tolist() for row in range(5)] == [[3], [4], [], [0], [1]]
    assert adjacency.of(4)[1].tolist() == [0.5]


def test_no_edges_are_no_links():
    links = Links.of(EdgeArrays.empty())
    adjacency = links.adjacency(np.zeros(0, np.float32), 2)
    assert (adjacency.starts.tolist(), len(adjacency.neighbours)) == ([0, 0, 0], 0)
    assert not len(links.around(np.array([0, 1]), np.zeros((0, 4), np.float32)).owners)
    assert len(links.adjacency(np.zeros(0, np.float32), 0)) == 0


def test_around_some_rows_in_their_order():
    around = Links.of(EDGES).around(np.array([4, 7, 1]), EDGES.weights)
    assert around.owners.tolist() == [0, 2, 2, 2]
    assert around.neighbours.tolist() == [1, 0, 3, 4]
    assert around.weights.tolist() == [1.0, 0.5, 0.125, 1.0]


def test_joined_links_stand_in_one_order_whichever_came_first():
    one = Around(np.array([0, 2]), np.array([5, 1]), np.array([0.5, 0.25], np.float32))
    other = Around(np.array([0, 0]), np.array([7, 2]), np.array([0.75, 1.0], np.float32))
    for joined in (one.joined(other), other.joined(one)):
        assert joined.owners.tolist() == [0, 0, 0, 2]
        assert joined.neighbours.tolist() == [2, 5, 7, 1]
        assert joined.weights.tolist() == [1.0, 0.5, 0.75, 0.25]
