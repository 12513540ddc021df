"""The memory graph: what it counts, what it refuses, and what is left as it was."""

from __future__ import annotations

import math

import networkx
import numpy as np
import pytest

from sona.config import GraphConfig
from sona.errors import ConfigError, InvalidValue, MemoryGraphError, StoreError
from sona.memory.graph import Decayed, MemoryGraph
from sona.memory.members import Members
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.state import digest

TOGETHER, SIMILAR, DREAM, PATTERN = EdgeKind.TOGETHER, EdgeKind.SIMILAR, EdgeKind.DREAM, EdgeKind.PATTERN


def graph_of(count: int = 5, config: GraphConfig | None = None) -> MemoryGraph:
    graph = MemoryGraph(3, config)
    for number in range(count):
        graph.add(MemoryNode(f"m{number}", np.roll([1.0, 0.5, 0.0], number)))
    return graph


def weight(graph: MemoryGraph, a: str, b: str, kind: EdgeKind) -> float:
    return sum(edge.weight for edge in graph.edge(a, b) if edge.kind is kind)


# -- memories --------------------------------------------------------------------------------------------------------


def test_an_empty_graph_answers_everything():
    graph = MemoryGraph(3)
    assert (len(graph), graph.ids, graph.edge_count, dict(graph.row_of)) == (0, (), 0, {})
    assert graph.vectors.shape == (0, 3)
    assert len(graph.adjacency()) == len(graph.edges()) == len(graph.activate([], [])) == 0
    assert graph.decay(keep_edge=0.5, keep_dream=0.5, min_weight=0.1) == Decayed(0, 0, 0)
    assert graph.remove(["nobody"]) == graph.merged([]) == graph.link([], [], DREAM, []) == 0
    graph.served({"nobody": 1.0}, ["neither"], now=1.0)
    assert digest(MemoryGraph.from_state(graph.state()).state()) == digest(graph.copy().state())
    with pytest.raises(ConfigError):
        MemoryGraph(0)


def test_one_memory_has_nobody_to_be_linked_with():
    graph = graph_of(1)
    graph.served({"m0": 1.0}, [], now=1.0)
    assert (graph.edge_count, graph.access_counts.tolist()) == (0, [1])
    assert graph.activate([0], [2.0]).tolist() == [1.0]
    assert graph.edge("m0", "m0") == ()


def test_arrays_are_by_row_and_cannot_be_written():
    graph = graph_of(2)
    graph.served({"m1": 0.5}, ["m0"], now=3.0)
    assert [graph.row_of[name] for name in graph.ids] == [0, 1]
    assert (graph.shown_counts.tolist(), graph.access_counts.tolist()) == ([1, 1], [0, 1])
    assert (graph.earned.tolist(), graph.last_access.tolist()) == ([0.0, 0.5], [0.0, 3.0])
    assert (graph.importance.tolist(), graph.qualities.tolist()) == ([0.5, 0.5], [1 / 3, 0.5])
    assert np.linalg.norm(graph.vectors, axis=1) == pytest.approx(1.0)
    for array in (graph.vectors, graph.access_counts, graph.earned, graph.importance):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    with pytest.raises(TypeError):
        graph.row_of["m0"] = 5
    assert (graph.hidden_dim, "m0" in graph, "m2" in graph, 7 in graph) == (3, True, False, False)
    assert isinstance(graph, Members)


def test_duplicates_strangers_and_what_has_no_room_are_refused():
    graph = graph_of(2, GraphConfig(capacity=2))
    before = digest(graph.state())
    assert graph.is_full
    for refused in (
        lambda: graph.add(MemoryNode("m0", np.ones(3))),
        lambda: graph.add(MemoryNode("m2", np.ones(3))),
        lambda: graph.put(MemoryNode("m2", np.ones(3))),
        lambda: graph.node("m2"),
        lambda: graph.provenance("m2"),
        lambda: graph.edge("m0", "m2"),
        lambda: graph.connect("m2", "m0", DREAM, 0.5),
        lambda: graph.merged([("m0", "m2")]),
        lambda: graph.activate([2], [1.0]),
        lambda: graph.activate([-1], [1.0]),
    ):
        with pytest.raises(MemoryGraphError):
            refused()
    for vector in (np.ones(2), np.full(3, 1e30)):
        with pytest.raises(InvalidValue):
            graph.put(MemoryNode("m0", vector))
    with pytest.raises(InvalidValue):
        graph.re_embed(np.ones((3, 3)))
    assert digest(graph.state()) == before
    assert graph.remove(["m0", "m0", "m9"]) == 1
    assert graph.add(MemoryNode("m2", np.ones(3))) == 1


def test_another_embedding_ends_similarity_and_nothing_else():
    graph = graph_of(4)
    graph.link([0, 0, 1], [1, 2, 2], SIMILAR, [0.5, 0.5, 0.5])
    graph.connect("m0", "m1", TOGETHER, 0.25)
    graph.served({"m0": 1.0}, [], now=4.0)
    assert graph.put(graph.node("m0")) == 0  # the same one
    assert graph.edge_count == 3
    assert graph.put(MemoryNode("m0", np.array([0.0, 0.0, 2.0]), "new")) == 0
    assert [edge.kind for edge in graph.edge("m0", "m1")] == [TOGETHER]
    assert (graph.edge("m0", "m2"), graph.edge_count) == ((), 2)
    assert (graph.node("m0").payload, graph.node("m0").access_count) == ("new", 1)
    assert graph.put(MemoryNode("m4", np.ones(3))) == 4


def test_embeddings_anew_end_similarity_where_they_differ():
    graph = graph_of(4)
    graph.link([0, 1, 2], [1, 2, 3], SIMILAR, [0.5, 0.5, 0.5])
    fresh = graph.vectors.copy()
    assert graph.re_embed(fresh) == 0
    fresh[0] = [0.0, 3.0, 4.0]
    assert graph.re_embed(fresh) == 1
    assert graph.vectors[0].tolist() == pytest.approx([0.0, 0.6, 0.8])
    assert [graph.edge(f"m{row}", f"m{row + 1}") != () for row in range(3)] == [False, True, True]


# -- links -----------------------------------------------------------------------------------------------------------


def test_links_are_typed_and_the_same_from_either_end():
    graph = graph_of(3)
    assert graph.connect("m2", "m0", DREAM, 0.5)
    assert not graph.connect("m0", "m2", DREAM, 0.25)
    assert graph.connect("m0", "m2", SIMILAR, 0.75)
    one, other = graph.edge("m2", "m0")
    assert (one.a, one.b, one.kind, one.weight) == ("m2", "m0", SIMILAR, 0.75)
    assert (other.kind, other.weight) == (DREAM, 0.5)
    assert [edge.weight for edge in graph.edge("m0", "m2")] == [0.75, 0.5]
    edges = graph.edges()
    assert (edges.a_rows.tolist(), edges.b_rows.tolist()) == ([0], [2])
    assert graph.adjacency((DREAM,)).of(2)[1].tolist() == [0.5]
    assert graph.adjacency().of(2)[1].tolist() == [0.75]


@pytest.mark.parametrize(
    ("a", "b", "weights", "error"),
    [
        ([0, 1], [1, 1], [0.5, 0.5], MemoryGraphError),
        ([0, 5], [1, 1], [0.5, 0.5], MemoryGraphError),
        ([0, -1], [1, 1], [0.5, 0.5], MemoryGraphError),
        ([0, 1], [1, 2], [0.5, 0.0], InvalidValue),
        ([0, 1], [1, 2], [0.5, -0.1], InvalidValue),
        ([0, 1], [1, 2], [0.5, 1.1], InvalidValue),
        ([0, 1], [1, 2], [0.5, math.nan], InvalidValue),
        ([0, 1], [1, 2], [0.5, 1e-60], InvalidValue),  # 0 as SONA keeps it
        ([0, 1], [1], [0.5, 0.5], InvalidValue),
        ([0, 1], [1, 2], [0.5], InvalidValue),
        ([[0]], [[1]], [[0.5]], InvalidValue),
        ([0.0, 1.0], [1, 2], [0.5, 0.5], InvalidValue),
        ([True, False], [False, True], [0.5, 0.5], InvalidValue),
        (["m0", "m1"], [1, 2], [0.5, 0.5], InvalidValue),
    ],
)
def test_links_that_are_none_are_refused_and_change_nothing(a, b, weights, error):
    graph = graph_of()
    graph.connect("m0", "m1", TOGETHER, 0.25)
    before = digest(graph.state())
    with pytest.raises(error):
        graph.link(a, b, DREAM, weights)
    assert digest(graph.state()) == before


def test_a_memory_is_not_linked_to_itself():
    graph = graph_of()
    with pytest.raises(MemoryGraphError, match="itself"):
        graph.connect("m1", "m1", DREAM, 0.5)


def test_structure_is_that_of_networkx():
    graph, rng = graph_of(30), np.random.default_rng(1)
    a, b = rng.integers(0, 30, 40), rng.integers(0, 30, 40)
    graph.link(a[a != b], b[a != b], SIMILAR, np.full(int((a != b).sum()), 0.5))
    expected = networkx.Graph()
    expected.add_nodes_from(range(30))
    expected.add_edges_from(zip(a[a != b].tolist(), b[a != b].tolist(), strict=True))
    assert graph.edge_count == expected.number_of_edges()
    adjacency = graph.adjacency()
    assert [adjacency.of(row)[0].tolist() for row in range(30)] == [sorted(expected[row]) for row in range(30)]
    wide = MemoryGraph.from_state(graph.state(), GraphConfig(hops=40, restart=0.1))
    for component in networkx.connected_components(expected):
        active = wide.activate([min(component)], [1.0])
        assert set(np.flatnonzero(active).tolist()) == component


# -- one request -----------------------------------------------------------------------------------------------------


def test_what_serves_together_is_linked_and_grows_towards_1():
    graph = graph_of()
    for times in range(1, 4):
        graph.served({"m0": 1.0, "m1": 1.0}, ["m2"], now=float(times))
        assert weight(graph, "m0", "m1", TOGETHER) == pytest.approx(1.0 - 0.95**times)
    assert graph.edge_count == 1


def test_what_is_shown_in_vain_loses_a_share_of_every_learned_link():
    graph = graph_of()
    for kind in EdgeKind:
        graph.connect("m0", "m1", kind, 0.5)
    graph.served({"m0": 1.0}, ["m1"], now=1.0)
    assert [edge.weight for edge in graph.edge("m0", "m1")] == pytest.approx([0.5, 0.49, 0.49, 0.5])
    graph.served({}, ["m0", "m1"], now=1.0)  # nothing served: nothing to compare with
    assert weight(graph, "m0", "m1", TOGETHER) == pytest.approx(0.49)


def test_a_dream_is_confirmed_by_serving_and_then_spared():
    graph = graph_of()
    graph.link([0, 0], [1, 2], DREAM, [0.1, 0.1])
    graph.decay(keep_edge=0.9, keep_dream=0.5, min_weight=0.02)
    assert weight(graph, "m0", "m1", DREAM) == pytest.approx(0.1)  # new
    graph.served({"m0": 1.0, "m1": 1.0}, [], now=1.0)
    done = graph.decay(keep_edge=0.9, keep_dream=0.5, min_weight=0.02)
    assert done == Decayed(spared=2, decayed=1, dropped=0)
    assert weight(graph, "m0", "m1", DREAM) == pytest.approx(0.145)
    assert weight(graph, "m0", "m2", DREAM) == pytest.approx(0.05)
    for _ in range(2):
        graph.decay(keep_edge=0.9, keep_dream=0.5, min_weight=0.02)
    assert graph.edge("m0", "m2") == ()


def test_a_lesser_reward_teaches_less_and_none_teaches_nothing():
    graph = graph_of()
    graph.served({"m0": 1.0, "m1": 0.5, "m2": 0.0}, [], now=1.0)
    assert weight(graph, "m0", "m1", TOGETHER) == pytest.approx(0.025)
    assert graph.edge("m0", "m2") == graph.edge("m1", "m2") == ()
    assert (graph.access_counts.tolist(), graph.shown_counts.tolist()) == ([1, 1, 0, 0, 0], [1, 1, 1, 0, 0])
    graph.connect("m0", "m2", TOGETHER, 0.5)
    graph.served({"m0": 1.0, "m2": 0.0}, [], now=1.0)
    assert weight(graph, "m0", "m2", TOGETHER) == pytest.approx(0.49)


def test_nobody_counts_twice_and_strangers_do_not_count():
    graph = graph_of(2)
    graph.served({"m0": 1.0, "x": 1.0}, ["m0", "m1", "m1", "y"], now=1.0)
    assert graph.shown_counts.tolist() == [1, 1]
    assert graph.earned.tolist() == [1.0, 0.0]


def test_at_most_so_many_pairs_are_touched_those_that_served_first():
    graph = graph_of(5, GraphConfig(max_pairs=4))
    graph.link([0, 1, 2], [3, 3, 3], TOGETHER, [0.5, 0.5, 0.5])
    graph.served({"m0": 1.0, "m1": 1.0, "m2": 1.0}, ["m3"], now=1.0)
    assert graph.edge_count == 6
    weights = [weight(graph, f"m{row}", "m3", TOGETHER) for row in range(3)]
    assert weights == pytest.approx([0.49, 0.5, 0.5])
    few = graph_of(5, GraphConfig(max_pairs=2))
    few.served({f"m{row}": 1.0 for row in range(5)}, [], now=1.0)
    assert few.edge_count == 2
    none = graph_of(5, GraphConfig(max_pairs=0))
    none.served({f"m{row}": 1.0 for row in range(5)}, [], now=1.0)
    assert (none.edge_count, none.access_counts.tolist()) == (0, [1] * 5)


def test_rates_of_0_teach_nothing_and_rates_of_1_everything():
    still = graph_of(3, GraphConfig(strengthen=0.0, weaken=0.0))
    still.connect("m0", "m2", TOGETHER, 0.5)
    still.served({"m0": 1.0, "m1": 1.0}, ["m2"], now=1.0)
    assert (still.edge_count, weight(still, "m0", "m2", TOGETHER)) == (1, 0.5)
    quick = graph_of(3, GraphConfig(strengthen=1.0, weaken=1.0))
    quick.connect("m0", "m2", TOGETHER, 0.5)
    quick.served({"m0": 1.0, "m1": 1.0}, ["m2"], now=1.0)
    assert weight(quick, "m0", "m1", TOGETHER) == 1.0
    assert weight(quick, "m0", "m2", TOGETHER) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("used", "now"),
    [({"m0": 1.0, "m1": 1.5}, 1.0), ({"m0": math.nan}, 1.0), ({"x": -1.0}, 1.0), ({"m0": 1.0}, math.inf)],
)
def test_a_request_that_makes_no_sense_changes_nothing(used, now):
    graph = graph_of()
    before = digest(graph.state())
    with pytest.raises(InvalidValue):
        graph.served(used, ["m2"], now=now)
    assert digest(graph.state()) == before


@pytest.mark.parametrize("name", ["keep_edge", "keep_dream", "min_weight"])
def test_decay_by_what_is_no_share_is_refused(name):
    graph = graph_of()
    graph.connect("m0", "m1", DREAM, 0.5)
    before = digest(graph.state())
    shares = {"keep_edge": 0.5, "keep_dream": 0.5, "min_weight": 0.5, name: 1.5}
    with pytest.raises(InvalidValue):
        graph.decay(**shares)
    assert digest(graph.state()) == before


# -- removing and merging ---------------------------------------------------------------------------------------------


def test_links_of_the_removed_go_and_the_others_follow_their_memories():
    graph = graph_of(5)
    graph.link([0, 1, 2, 3], [4, 2, 4, 4], PATTERN, [0.1, 0.2, 0.3, 0.4])
    assert graph.remove(["m1", "m3"]) == 2
    assert graph.ids == ("m0", "m2", "m4")
    assert [weight(graph, name, "m4", PATTERN) for name in ("m0", "m2")] == pytest.approx([0.1, 0.3])
    assert graph.edge_count == 2


def test_a_merged_memory_leaves_its_links_counts_and_name():
    graph = graph_of(5)
    graph.link([0, 0, 1, 1], [1, 2, 2, 3], TOGETHER, [0.9, 0.2, 0.5, 0.4])
    graph.served({"m1": 1.0}, ["m0"], now=8.0)
    assert graph.merged([("m0", "m1"), ("m0", "m4")]) == 2
    assert graph.ids == ("m0", "m2", "m3")
    assert graph.provenance("m0") == ("m1", "m4")
    assert (graph.access_counts[0], graph.shown_counts[0], graph.last_access[0]) == (1, 2, 8.0)
    assert [weight(graph, "m0", name, TOGETHER) for name in ("m2", "m3")] == pytest.approx([0.5, 0.4])
    assert graph.edge_count == 2
    graph.merged([("m2", "m0")])
    assert graph.provenance("m2") == ("m0", "m1", "m4")


@pytest.mark.parametrize("pairs", [[("m0", "m0")], [("m0", "m1"), ("m2", "m1")], [("m0", "m1"), ("m1", "m2")]])
def test_merges_that_contradict_each_other_are_refused(pairs):
    graph = graph_of()
    before = digest(graph.state())
    with pytest.raises(InvalidValue):
        graph.merged(pairs)
    assert digest(graph.state()) == before


# -- spreading, copies, state -----------------------------------------------------------------------------------------


def test_activation_spreads_along_links_and_sums_to_1():
    graph = graph_of(5, GraphConfig(hops=1, restart=0.5))
    graph.link([0, 0], [1, 2], TOGETHER, [0.75, 0.25])
    active = graph.activate([0], [3.0])
    assert active.tolist() == pytest.approx([0.5, 0.375, 0.125, 0.0, 0.0])
    assert active.dtype == np.float32
    assert not graph.activate([0, 1], [0.0, 0.0]).any()
    for rows, weights in (([0], [-1.0]), ([0], [math.nan]), ([0, 1], [1.0]), ([[0]], [[1.0]])):
        with pytest.raises(InvalidValue):
            graph.activate(rows, weights)


def test_a_copy_goes_its_own_way():
    graph = graph_of()
    graph.connect("m0", "m1", DREAM, 0.5)
    twin = graph.copy()
    before = digest(twin.state())
    assert before == digest(graph.state())
    graph.served({"m0": 1.0, "m1": 1.0}, [], now=1.0)
    graph.remove(["m2"])
    assert digest(twin.state()) == before
    assert twin.config is graph.config


def test_a_state_beyond_the_capacity_or_of_no_width_is_refused():
    state = graph_of(5).state()
    with pytest.raises(StoreError, match="capacity"):
        MemoryGraph.from_state(state, GraphConfig(capacity=4))
    values = dict(state.items())
    with pytest.raises(StoreError):
        MemoryGraph.from_state(type(state)({**values, "hidden_dim": 0}))
