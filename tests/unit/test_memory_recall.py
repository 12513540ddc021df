"""Recall over links: what reaches which candidates, against plain matrices."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import GraphConfig
from sona.errors import StoreError
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.recall import PublishedLinks, Seeds, links_from_state, links_state
from sona.state import State, digest

D = 4
LEARNED = (EdgeKind.TOGETHER, EdgeKind.DREAM, EdgeKind.PATTERN)


def graph_of(count: int, links: dict[tuple[int, int], tuple[EdgeKind, float]]) -> MemoryGraph:
    graph = MemoryGraph(D, GraphConfig(follow_dreams=True))
    vectors = np.random.default_rng(0).normal(size=(count, D))
    for row in range(count):
        graph.add(MemoryNode(f"n{row}", vectors[row]))
    for (a, b), (kind, weight) in links.items():
        graph.connect(f"n{a}", f"n{b}", kind, weight)
    return graph


def seeds(**cosines: float) -> Seeds:
    return Seeds(tuple(cosines), np.array(list(cosines.values()), np.float32))


def random_graph(rng: np.random.Generator, count: int = 12) -> MemoryGraph:
    graph = graph_of(count, {})
    for kind in EdgeKind:
        for _ in range(int(rng.integers(0, 14))):
            a, b = rng.choice(count, 2, replace=False).tolist()
            graph.connect(f"n{a}", f"n{b}", kind, float(rng.uniform(0.05, 1.0)))
    return graph


def by_matrix(graph: MemoryGraph, asked: Seeds, kinds, config: GraphConfig) -> np.ndarray:
    """What arrives, by dense matrices: the definition, and nothing of the code under test."""
    count = len(graph)
    links = np.zeros((count, count))
    for a in range(count):
        for b in range(count):
            if a != b:
                edges = {edge.kind: edge.weight for edge in graph.edge(f"n{a}", f"n{b}")}
                links[a, b] = max((edges.get(kind, 0.0) for kind in kinds), default=0.0)
    totals = links.sum(axis=1, keepdims=True)
    step = np.divide(links, totals, out=np.zeros_like(links), where=totals > 0.0)
    start = np.zeros(count)
    for name, cosine in zip(asked.ids, asked.cosines.astype(np.float64), strict=True):
        if name in graph:
            start[graph.row_of[name]] += np.exp(cosine / 0.05)
    start /= start.sum()
    active = start
    for _ in range(config.hops - 1):
        active = config.restart * start + (1.0 - config.restart) * (active @ step)
    arrived = active @ step
    return arrived / arrived.max() if arrived.max() > 0.0 else arrived


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_what_arrives_is_what_the_matrices_say_by_kind_of_link(seed, hops):
    rng = np.random.default_rng(seed)
    graph, config = random_graph(rng), GraphConfig(hops=hops, restart=0.3)
    links = PublishedLinks.of(graph)
    asked = seeds(n1=0.9, n5=0.85, stranger=0.8, n9=0.7)
    ids = [f"n{row}" for row in rng.permutation(12)] + ["nobody"]
    found = links.activation(asked, ids, config)
    for row, kinds in enumerate([(EdgeKind.SIMILAR,), LEARNED]):
        expected = by_matrix(graph, asked, kinds, config)
        wanted = [expected[graph.row_of[name]] if name in graph else 0.0 for name in ids]
        np.testing.assert_allclose(found[row], wanted, atol=2e-5)


@pytest.mark.parametrize("hops", [1, 2])
def test_seeds_without_links_reach_nothing_also_where_others_are_linked(hops):
    links = PublishedLinks.of(graph_of(4, {(0, 1): (EdgeKind.TOGETHER, 0.5)}))
    config = GraphConfig(hops=hops)
    found = links.activation(seeds(n3=0.9), ["n0", "n1", "n2", "n3"], config)
    assert (found.shape, found.dtype, found.any()) == ((2, 4), np.float32, False)
    assert not links.places_in(("n0", "n1")).recall(seeds(n3=0.9), 2, config).values.any()


@pytest.mark.parametrize("asked", [seeds(), seeds(stranger=0.9)])
@pytest.mark.parametrize("edges", [{}, {(0, 1): (EdgeKind.SIMILAR, 0.5)}])
def test_without_a_seed_that_is_known_nothing_is_reached(asked, edges):
    links = PublishedLinks.of(graph_of(3, edges))
    assert not links.activation(asked, ["n0", "n1"], GraphConfig()).any()
    assert not len(links.places_in(("n0", "n1")).recall(asked, 2, GraphConfig()).rows)


def test_an_empty_graph_has_nothing_to_recall():
    links = PublishedLinks.of(MemoryGraph(D))
    assert links.activation(seeds(a=0.5), ["a"], GraphConfig()).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("seed", range(5))
def test_places_say_of_candidates_what_links_say_of_their_ids(seed):
    rng = np.random.default_rng(seed)
    links, config = PublishedLinks.of(random_graph(rng)), GraphConfig(hops=2)
    ids = ("other", *(f"n{row}" for row in rng.permutation(12)), "more")
    asked, count = seeds(n2=0.8, n7=0.8), 9
    recalled = links.places_in(ids).recall(asked, count, config)
    dense = np.zeros((2, len(ids)), np.float32)
    dense[:, recalled.rows] = recalled.values
    wanted = links.activation(asked, ids, config)
    wanted[:, count:] = 0.0
    np.testing.assert_array_equal(dense, wanted)
    assert len(np.unique(recalled.rows)) == len(recalled.rows)


def test_the_nearest_seed_counts_most():
    graph = graph_of(4, {(0, 2): (EdgeKind.TOGETHER, 0.5), (1, 3): (EdgeKind.TOGETHER, 0.5)})
    _, linked = PublishedLinks.of(graph).activation(seeds(n0=0.9, n1=0.8), ["n2", "n3"], GraphConfig())
    assert linked[0] == 1.0
    assert linked[1] == pytest.approx(np.exp(-2.0), rel=1e-5)


def test_published_links_stay_when_the_graph_goes_on():
    graph = graph_of(3, {(0, 1): (EdgeKind.TOGETHER, 0.5)})
    links = PublishedLinks.of(graph)
    before = digest(links.state())
    graph.connect("n1", "n2", EdgeKind.TOGETHER, 1.0)
    graph.remove(["n0"])
    assert digest(links.state()) == before
    assert links.activation(seeds(n0=0.5), ["n1"], GraphConfig())[1].tolist() == [1.0]


def test_links_come_back_and_so_does_that_there_are_none():
    links = PublishedLinks.of(graph_of(3, {(0, 1): (EdgeKind.TOGETHER, 0.5)}))
    again = links_from_state(links_state(links))
    assert digest(again.state()) == digest(links.state())
    assert links_from_state(links_state(None)) is None
    values = dict(links.state().items())
    with pytest.raises(StoreError):
        PublishedLinks.from_state(State({**values, "ids": ["n0"]}))


def test_links_that_were_only_dreamt_are_not_followed_unless_somebody_asks_for_it():
    for follows in (False, True):
        graph = MemoryGraph(2, GraphConfig(follow_dreams=follows))
        for name in ("n0", "n1", "n2"):
            graph.add(MemoryNode(name, np.array([1.0, 0.0])))
        graph.connect("n0", "n1", EdgeKind.DREAM, 0.5)
        graph.connect("n0", "n2", EdgeKind.TOGETHER, 0.5)
        reached = PublishedLinks.of(graph).activation(seeds(n0=0.9), ["n1", "n2"], graph.config)
        assert reached[1].tolist() == ([1.0, 1.0] if follows else [0.0, 1.0])
        assert len(graph.edge("n0", "n1")) == 1  # it stays in the graph, and may be confirmed
