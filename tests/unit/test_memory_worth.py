"""What a memory is worth: each part by hand, and that no part hides in another."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sona.config import ConsolidationConfig
from sona.errors import InvalidValue
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.worth import worths

DAY = 86_400.0


def graph_of(*nodes: MemoryNode) -> MemoryGraph:
    graph = MemoryGraph(2)
    for node in nodes:
        graph.add(node)
    return graph


def node(name: str, *, quality: float = 0.5, served: int = 0, last: float = 0.0) -> MemoryNode:
    return MemoryNode(name, np.array([1.0, 0.5]), quality=quality, access_count=served, last_access=last)


def test_each_part_by_hand():
    graph = graph_of(node("a", quality=0.8, served=4, last=-30 * DAY), node("b"), node("c"))
    graph.connect("a", "b", EdgeKind.TOGETHER, 0.5)
    graph.connect("a", "b", EdgeKind.DREAM, 0.25)  # of one pair the greatest counts
    graph.connect("a", "c", EdgeKind.PATTERN, 0.5)
    found = worths(graph, 0.0).of(0)
    assert found.access == pytest.approx(math.log(5) / math.log(31))
    assert found.recency == pytest.approx(0.5)
    assert found.quality == pytest.approx(0.8)
    assert found.connectivity == pytest.approx(0.5)
    expected = 0.3 * found.access + 0.2 * 0.5 + 0.3 * 0.8 + 0.2 * 0.5
    assert found.value == pytest.approx(expected)


def test_links_of_similarity_do_not_count():
    graph = graph_of(node("a"), node("b"))
    graph.connect("a", "b", EdgeKind.SIMILAR, 1.0)
    assert worths(graph, 0.0).connectivity.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("part", ["access", "recency", "quality", "connectivity"])
def test_with_one_weight_alone_the_value_is_that_part(part):
    graph = graph_of(node("a", quality=0.9, served=3, last=-DAY), node("b", quality=0.1))
    graph.connect("a", "b", EdgeKind.TOGETHER, 0.3)
    names = ("access", "recency", "quality", "connectivity")
    config = ConsolidationConfig(**{f"{name}_weight": 0.5 * (name == part) for name in names})
    found = worths(graph, 5.0, config)
    assert found.values.tolist() == getattr(found, part).tolist()


def test_a_time_in_the_future_is_now_and_many_accesses_are_all():
    found = worths(graph_of(node("a", served=10**9, last=1e12)), 0.0).of(0)
    assert (found.recency, found.access) == (1.0, 1.0)


def test_an_empty_graph_is_worth_nothing_and_no_time_is_refused():
    assert len(worths(MemoryGraph(2), 0.0).values) == 0
    with pytest.raises(InvalidValue):
        worths(MemoryGraph(2), math.nan)
