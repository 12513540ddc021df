"""Laws of the memory graph: it does what a dictionary of links does, whatever is read in between, bit for bit."""

import math
from collections import Counter
from itertools import combinations
from unittest.mock import patch

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sona.config import GraphConfig
from sona.errors import InvalidValue, MemoryGraphError
from sona.memory import table
from sona.memory.activation import Activation, spread
from sona.memory.edges import EdgeArrays, keys_of
from sona.memory.graph import MemoryGraph
from sona.memory.linking import nearest
from sona.memory.links import Links
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.votes import unit
from sona.state import digest

CONFIG = GraphConfig(capacity=12, max_pairs=8, strengthen=0.3, weaken=0.4, hops=3)
LEARNED = (EdgeKind.TOGETHER, EdgeKind.DREAM)
names = st.sampled_from([f"m{number}" for number in range(14)])
kinds = st.sampled_from(EdgeKind)
weights = st.floats(0.0009765625, 1.0, width=32)
vectors = arrays(np.float32, 3, elements=st.floats(-2.0, 2.0, width=32))
rewards = st.sampled_from([0.0, 0.25, 1.0])


def pair(a: str, b: str) -> frozenset[str]:
    return frozenset((a, b))


class Plain:
    """The same graph as dictionaries, one link at a time."""

    def __init__(self):
        self.shown, self.accesses = Counter(), Counter()
        self.earned, self.last, self.sources = {}, {}, {}
        self.weights, self.used = {}, set()  # by (pair, kind)

    def add(self, name):
        self.earned[name], self.last[name], self.sources[name] = 0.0, 0.0, ()

    def held(self, ends, kind):
        return self.weights.get((ends, kind), 0.0)

    def set(self, ends, kind, weight):
        self.weights[ends, kind] = float(np.float32(weight))

    def link(self, ends, kind, weight):
        if not self.held(ends, kind):
            self.used.add((ends, kind))
        self.set(ends, kind, max(self.held(ends, kind), weight))

    def drop(self, gone):
        self.weights = {key: weight for key, weight in self.weights.items() if not gone(key)}
        self.used &= set(self.weights)

    def remove(self, name):
        self.drop(lambda key: name in key[0])
        for table_ in (self.earned, self.last, self.sources):
            del table_[name]
        for counter in (self.shown, self.accesses):
            del counter[name]

    def serve(self, used, unused, now):
        took = {name: reward for name, reward in used.items() if name in self.earned and reward > 0.0}
        vain = [name for name in dict.fromkeys([*used, *unused]) if name in self.earned and name not in took]
        for name in [*took, *vain]:
            self.shown[name] += 1
        for name, reward in took.items():
            self.accesses[name] += 1
            self.earned[name] += reward
            self.last[name] = max(self.last[name], now)
        left = CONFIG.max_pairs
        for one, other in list(combinations(took, 2))[:left]:
            left -= 1
            ends, share = pair(one, other), CONFIG.strengthen * min(took[one], took[other])
            for kind in LEARNED:
                held = self.held(ends, kind)
                if held or kind == EdgeKind.TOGETHER:
                    self.set(ends, kind, held + share * (1.0 - held))
            self.used |= {(ends, kind) for kind in EdgeKind if self.held(ends, kind)}
        for one, other in [(one, other) for one in took for other in vain][:left]:
            for kind in LEARNED:
                if held := self.held(pair(one, other), kind):
                    self.set(pair(one, other), kind, max(held * (1.0 - CONFIG.weaken), min(held, 1e-6)))

    def decay(self, keep_edge, keep_dream, min_weight):
        gone = set()
        for ends, kind in self.weights:
            if kind == EdgeKind.SIMILAR or (ends, kind) in self.used:
                continue
            keep = keep_dream if kind == EdgeKind.DREAM else keep_edge
            faded = float(np.float32(self.held(ends, kind)) * np.float32(keep))
            self.weights[ends, kind] = faded
            if faded == 0.0 or faded < min_weight:
                gone.add((ends, kind))
        self.drop(lambda key: key in gone)
        self.used = set()

    def merge(self, pairs):
        target = {gone: kept for kept, gone in pairs}
        weights, used = {}, set()
        for (ends, kind), weight in self.weights.items():
            moved = frozenset(target.get(name, name) for name in ends)
            if len(moved) == 2:
                weights[moved, kind] = max(weight, weights.get((moved, kind), 0.0))
                if (ends, kind) in self.used:
                    used.add((moved, kind))
        self.weights, self.used = weights, used
        sources = {kept: list(self.sources[kept]) for kept, _ in pairs}
        for kept, gone in pairs:
            sources[kept] += [gone, *self.sources[gone]]
            self.earned[kept] += self.earned[gone]
            self.last[kept] = max(self.last[kept], self.last[gone])
            self.shown[kept] += self.shown[gone]
            self.accesses[kept] += self.accesses[gone]
        self.sources |= {kept: tuple(dict.fromkeys(listed)) for kept, listed in sources.items()}
        for gone in target:
            self.remove(gone)


class GraphAgainstDictionaries(RuleBasedStateMachine):
    """One graph is read after every call, one never, and both do what dictionaries do."""

    @initialize(room=st.integers(1, 5))
    def start(self, room):
        self.patch = patch.object(table, "LEAST_ROOM", room)
        self.patch.start()
        self.read, self.silent = MemoryGraph(3, CONFIG), MemoryGraph(3, CONFIG)
        self.plain = Plain()
        self.now = 0.0

    def teardown(self):
        if hasattr(self, "patch"):
            assert digest(self.read.state()) == digest(self.silent.state())
            self.patch.stop()

    def both(self, call):
        one, other = call(self.read), call(self.silent)
        assert one == other
        return one

    def known(self, data, least=1, most=4):
        return data.draw(st.lists(st.sampled_from(self.read.ids), min_size=least, max_size=most, unique=True))

    @rule(name=names, vector=vectors)
    def add(self, name, vector):
        node = MemoryNode(name, vector)
        if name in self.plain.earned or self.read.is_full:
            for graph in (self.read, self.silent):
                with pytest.raises(MemoryGraphError):
                    graph.add(node)
            return
        assert self.both(lambda graph: graph.add(node)) == len(self.plain.earned)
        self.plain.add(name)

    @precondition(lambda self: len(self.read))
    @rule(data=st.data(), vector=vectors)
    def put(self, data, vector):
        (name,) = self.known(data, 1, 1)
        differs = not np.array_equal(self.read.vectors[self.read.row_of[name]], vector)
        self.both(lambda graph: graph.put(MemoryNode(name, vector)))
        if differs:
            self.plain.drop(lambda key: name in key[0] and key[1] == EdgeKind.SIMILAR)

    @rule(gone=st.sets(names, max_size=3))
    def remove(self, gone):
        known = [name for name in self.plain.earned if name in gone]
        assert self.both(lambda graph: graph.remove(sorted(gone))) == len(known)
        for name in known:
            self.plain.remove(name)

    @precondition(lambda self: len(self.read) > 1)
    @rule(data=st.data(), kind=kinds)
    def link(self, data, kind):
        rows = st.integers(0, len(self.read) - 1)
        drawn = data.draw(st.lists(st.tuples(rows, rows, weights), max_size=8))
        triples = [(a, b, weight) for a, b, weight in drawn if a != b]
        ids, before = self.read.ids, len(self.plain.weights)
        for a, b, weight in triples:
            self.plain.link(pair(ids[a], ids[b]), kind, weight)
        a_rows, b_rows, given = [list(column) for column in zip(*triples, strict=True)] or ([], [], [])
        new = self.both(lambda graph: graph.link(a_rows, b_rows, kind, given))
        assert new == len(self.plain.weights) - before

    @rule(
        used=st.dictionaries(names, rewards, max_size=4), unused=st.lists(names, max_size=5), later=st.floats(-2.0, 5.0)
    )
    def serve(self, used, unused, later):
        self.now += later
        self.both(lambda graph: graph.served(used, unused, now=self.now))
        self.plain.serve(used, unused, self.now)

    @rule(keep_edge=st.sampled_from([0.0, 0.5, 0.9]), keep_dream=st.sampled_from([0.3, 1.0]), least=st.floats(0.0, 0.3))
    def decay(self, keep_edge, keep_dream, least):
        learned = sum(kind != EdgeKind.SIMILAR for _, kind in self.plain.weights)
        spared = sum(kind != EdgeKind.SIMILAR for _, kind in self.plain.used)
        done = self.both(lambda graph: graph.decay(keep_edge=keep_edge, keep_dream=keep_dream, min_weight=least))
        self.plain.decay(keep_edge, keep_dream, least)
        left = sum(kind != EdgeKind.SIMILAR for _, kind in self.plain.weights)
        assert (done.spared, done.decayed, done.dropped) == (spared, left - spared, learned - left)

    @precondition(lambda self: len(self.read) > 1)
    @rule(data=st.data())
    def merge(self, data):
        chosen = self.known(data, 2, 5)
        kept, leaving = chosen[: max(1, len(chosen) // 2)], chosen[max(1, len(chosen) // 2) :]
        pairs = [(data.draw(st.sampled_from(kept)), gone) for gone in leaving]
        assert self.both(lambda graph: graph.merged(pairs)) == len(pairs)
        self.plain.merge(pairs)

    @rule()
    def come_back(self):
        self.read = MemoryGraph.from_state(self.read.state(), CONFIG)
        self.silent = self.silent.copy()

    @precondition(lambda self: hasattr(self, "plain"))
    @invariant()
    def everything_is_as_in_the_dictionaries(self):
        graph, plain = self.read, self.plain
        ids = graph.ids
        assert set(ids) == set(plain.earned)
        assert list(graph.row_of.values()) == list(range(len(ids)))
        for values, expected in (
            (graph.shown_counts, plain.shown),
            (graph.access_counts, plain.accesses),
            (graph.earned, plain.earned),
            (graph.last_access, plain.last),
        ):
            assert values.tolist() == [expected[name] for name in ids]
        assert [graph.provenance(name) for name in ids] == [plain.sources[name] for name in ids]
        held = {
            (pair(edge.a, edge.b), edge.kind): edge.weight
            for one, other in combinations(ids, 2)
            for edge in graph.edge(one, other)
        }
        assert held == plain.weights
        assert graph.edge_count == self.silent.edge_count == len({ends for ends, _ in plain.weights})

    @precondition(lambda self: hasattr(self, "plain"))
    @invariant()
    def reading_is_consistent(self):
        graph, plain = self.read, self.plain
        active = graph.activate(range(min(2, len(graph))), [1.0] * min(2, len(graph)))
        ids, adjacency = graph.ids, graph.adjacency()
        assert active.tobytes() == graph.activate(range(min(2, len(graph))), [1.0] * min(2, len(graph))).tobytes()
        found = {
            (row, int(other)): float(weight)
            for row in range(len(adjacency))
            for other, weight in zip(*adjacency.of(row), strict=True)
        }
        strongest: dict = {}
        for (ends, _), weight in plain.weights.items():
            one, other = sorted(graph.row_of[name] for name in ends)
            for key in ((one, other), (other, one)):
                strongest[key] = max(weight, strongest.get(key, 0.0))
        assert found == strongest
        assert len(adjacency) == len(ids)
        graph.edges()


TestGraphAgainstDictionaries = GraphAgainstDictionaries.TestCase
TestGraphAgainstDictionaries.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# -- sorted pairs against a dictionary, links against networkx --------------------------------------------------------


@st.composite
def linked(draw, most=12):
    count = draw(st.integers(2, most))
    rows = st.integers(0, count - 1)
    drawn = draw(st.dictionaries(st.tuples(rows, rows).filter(lambda ends: ends[0] < ends[1]), weights, max_size=30))
    return count, drawn


def arrays_of(held):
    ends = np.array(sorted(held), np.int64).reshape(-1, 2)
    given = np.zeros((len(ends), 4), np.float32)
    given[:, EdgeKind.TOGETHER] = [held[one, other] for one, other in ends.tolist()]
    return EdgeArrays(keys_of(ends[:, 0], ends[:, 1]), given, np.zeros(len(ends), np.uint8))


@given(linked())
def test_adjacency_is_that_of_networkx(case):
    count, held = case
    edges = arrays_of(held)
    adjacency = Links.of(edges).adjacency(edges.strengths(tuple(EdgeKind)), count)
    graph = networkx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_weighted_edges_from((one, other, weight) for (one, other), weight in held.items())
    for row in range(count):
        neighbours, found = adjacency.of(row)
        assert neighbours.tolist() == sorted(graph[row])
        assert found.tolist() == [graph[row][other]["weight"] for other in neighbours.tolist()]


@given(linked(), linked())
def test_joining_pairs_is_a_union(case, more):
    held = case[1]
    others = {ends: weight for ends, weight in more[1].items() if ends not in held}
    joined, expected = arrays_of(held).joined(arrays_of(others)), arrays_of(held | others)
    assert joined.keys.tolist() == expected.keys.tolist()
    assert joined.weights.tolist() == expected.weights.tolist()


# -- spreading activation ---------------------------------------------------------------------------------------------


@given(linked(), st.data(), st.integers(0, 5), st.sampled_from([0.0, 0.15, 0.5, 1.0]))
def test_spreading_is_a_power_of_the_matrix(case, data, hops, restart):
    count, held = case
    edges = arrays_of(held)
    start = np.array(data.draw(st.lists(st.floats(0.0, 1.0), min_size=count, max_size=count)))
    found = spread(
        lambda rows: Links.of(edges).around(rows, edges.weights),
        Activation.of(np.arange(count), start),
        hops=hops,
        restart=restart,
    )
    dense = np.zeros((count, count))
    for (one, other), weight in held.items():
        dense[one, other] = dense[other, one] = weight
    sums = dense.sum(axis=1, keepdims=True)
    steps = np.divide(dense, sums, out=np.zeros_like(dense), where=sums > 0.0)
    seeds = start / start.sum() if start.sum() > 0.0 else start
    expected = seeds
    for _ in range(hops):
        stuck = expected[sums[:, 0] == 0.0].sum()
        expected = (restart + (1.0 - restart) * stuck) * seeds + (1.0 - restart) * (expected @ steps)
    reached = np.zeros(count)
    reached[found.rows] = found.values
    assert reached == pytest.approx(expected, abs=1e-12)
    assert math.fsum(found.values) == pytest.approx(float(start.sum() > 0.0))


# -- nearest ----------------------------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 4)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=st.integers(-3, 3).map(float))
    ),
    st.integers(1, 6),
    st.sampled_from([-1.0, 0.0, 0.5, 0.99]),
    st.integers(1, 9),
)
def test_nearest_equals_sorting_every_cosine(points, k, least, columns):
    data = unit(points)
    rows = np.arange(len(data))[::2]
    with patch("sona.memory.linking._COLUMNS", columns):
        found = nearest(data, rows, k, least)
    cosines = data.astype(np.float64) @ data.T
    for row in rows.tolist():
        others = sorted((-cosines[row, other], other) for other in range(len(data)) if other != row)
        expected = [-value for value, _ in others if -value >= least + 1e-6][:k]
        got = found.cosines[found.a_rows == row]
        assert len(got) >= len(expected)
        assert (got >= least).all()
        assert got[: len(expected)].tolist() == pytest.approx(expected, abs=1e-6)
        ends = found.b_rows[found.a_rows == row].tolist()
        assert row not in ends
        assert len(set(ends)) == len(ends) <= k


# -- bad input --------------------------------------------------------------------------------------------------------


@given(st.sampled_from([0.0, -0.5, 1.5, math.nan, math.inf]), st.integers(0, 2))
def test_a_weight_that_is_none_changes_nothing(weight, place):
    graph = MemoryGraph(2)
    for number in range(4):
        graph.add(MemoryNode(f"m{number}", np.ones(2)))
    graph.connect("m0", "m1", EdgeKind.DREAM, 0.5)
    before, given_weights = digest(graph.state()), [0.5, 0.5, 0.5]
    given_weights[place] = weight
    with pytest.raises(InvalidValue):
        graph.link([0, 1, 2], [1, 2, 3], EdgeKind.TOGETHER, given_weights)
    assert digest(graph.state()) == before
