"""Laws of dreams, over whatever graph and settings hypothesis thinks of."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sona.config import DreamConfig, GraphConfig
from sona.dreams.dream import DreamEngine, proposals
from sona.dreams.score import nearness
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.state import digest

seeds = st.integers(0, 2**32 - 1)
chances = st.floats(0.0, 1.0)
configs = st.builds(
    DreamConfig,
    path_length=st.integers(2, 20),
    creative_jump=chances,
    restart=chances,
    novelty_weight=chances,
    coherence_weight=st.floats(0.01, 1.0),
    utility_weight=chances,
    rule=st.sampled_from(["cooccurrence", "specification"]),
    jumps_to_similar=st.booleans(),
    window=st.integers(1, 25),
    min_novelty=st.floats(0.0, 0.3),
    threshold=st.floats(0.0, 0.5),
    edge_weight=st.floats(0.01, 1.0),
    max_edges=st.integers(0, 8),
)


@st.composite
def graphs(draw) -> MemoryGraph:
    n, width, seed = draw(st.integers(0, 9)), draw(st.integers(1, 3)), draw(seeds)
    rng = np.random.default_rng(seed)
    graph = MemoryGraph(width)
    for row in range(n):
        worth = {"importance": float(rng.random()), "quality": float(rng.random())}
        graph.add(MemoryNode(f"m{row}", rng.normal(size=width), **worth))
    pairs = list(combinations(range(n), 2))
    for a, b in draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []:
        kind = draw(st.sampled_from([EdgeKind.SIMILAR, EdgeKind.TOGETHER]))
        graph.connect(f"m{a}", f"m{b}", kind, float(rng.uniform(0.01, 1.0)))
    return graph


def links(graph: MemoryGraph) -> dict[tuple[str, str], dict[EdgeKind, float]]:
    pairs = combinations(graph.ids, 2)
    return {(a, b): {edge.kind: edge.weight for edge in graph.edge(a, b)} for a, b in pairs if graph.edge(a, b)}


@given(graphs(), configs, seeds)
def test_a_dream_is_within_its_bounds(graph, config, seed):
    engine = DreamEngine(config, graph=graph)
    before = digest(graph.state())
    for dream in engine.generate_dreams(3, np.random.default_rng(seed)):
        assert len(dream.path) == len(dream.rows) <= config.path_length
        assert bool(dream.path) == bool(len(graph))
        assert dream.creative_jumps <= max(len(dream.path) - 1, 0)
        assert all(here != there for here, there in zip(dream.path[:-1], dream.path[1:], strict=True))
        for figure in (dream.novelty, dream.coherence, dream.utility, dream.diversity, dream.score):
            assert 0.0 <= figure <= 1.0
        assert {name for one in dream.proposals for name in (one.a, one.b)} <= set(dream.path)
        assert all(one.a < one.b and one.score > 0.0 and not graph.edge(one.a, one.b) for one in dream.proposals)
        assert len({(one.a, one.b) for one in dream.proposals}) == len(dream.proposals)
    assert digest(graph.state()) == before


@given(graphs(), configs, seeds)
def test_integration_only_adds_weak_links_of_its_kind_and_only_once(graph, config, seed):
    engine = DreamEngine(config, graph=graph)
    before = links(graph)
    dreams = engine.generate_dreams(4, np.random.default_rng(seed))
    done = engine.integrate_dreams(dreams)
    after = links(graph)
    assert {pair: after[pair] for pair in before} == before
    new = {pair: kinds for pair, kinds in after.items() if pair not in before}
    assert len(new) == done.added <= config.max_edges * done.integrated
    assert done.strengthened == 0
    for kinds in new.values():
        assert set(kinds) == {EdgeKind.DREAM}
        assert 0.0 < kinds[EdgeKind.DREAM] <= np.float32(config.edge_weight)
    assert (done.skipped is None) == (done.integrated > 0)
    again = engine.integrate_dreams(dreams)
    assert (again.integrated, again.added, again.strengthened) == (done.integrated, 0, 0)
    assert links(graph) == after


@given(graphs(), configs, seeds)
def test_dreams_together_propose_the_sum_of_what_each_proposes(graph, config, seed):
    dreams = DreamEngine(config, graph=graph).generate_dreams(4, np.random.default_rng(seed))
    together = {(one.a, one.b): one.score for one in proposals(dreams, config)}
    apart = [{(one.a, one.b): one.score for one in proposals([dream], config)} for dream in dreams]
    assert set(together) == {pair for each in apart for pair in each}
    for pair, score in together.items():
        np.testing.assert_allclose(score, sum(each.get(pair, 0.0) for each in apart), rtol=1e-12)


@given(graphs(), configs, seeds)
def test_same_seed_same_dreams_and_same_graph(graph, config, seed):
    copies = [MemoryGraph.from_state(graph.state(), GraphConfig()) for _ in range(2)]
    for copy in copies:
        engine = DreamEngine(config, graph=copy)
        engine.integrate_dreams(engine.generate_dreams(3, np.random.default_rng(seed)))
    assert digest(copies[0].state()) == digest(copies[1].state())


@given(st.lists(st.integers(0, 6), min_size=2, max_size=20), st.integers(1, 25))
def test_backwards_a_walk_brings_the_same_memories_as_near(path, window):
    _, places = np.unique(path, return_inverse=True)
    forwards = nearness(places, window)
    np.testing.assert_allclose(forwards, nearness(places[::-1].copy(), window))
    np.testing.assert_array_equal(forwards, forwards.T)
