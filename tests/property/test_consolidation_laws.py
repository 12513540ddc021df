"""Laws of consolidation, for any memories, links and duplicates hypothesis thinks of."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.config import ConsolidationConfig
from sona.memory.consolidate import apply, compress, plan
from sona.memory.duplicates import Pairs, absorbed, duplicates
from sona.memory.graph import MemoryGraph
from sona.memory.missing import LossBound, rare_mass_bound
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.worth import worths
from sona.patterns.hierarchy import Hierarchy, arrange
from sona.types import LearnedPattern

NOW = 1e6
coordinates = st.sampled_from([-1.0, -0.1, 0.0, 0.05, 0.5, 1.0])
vectors = st.tuples(coordinates, coordinates, coordinates)
fractions = st.floats(0.0, 1.0)
memories = st.lists(st.tuples(vectors, fractions, st.integers(0, 60), st.floats(0.0, NOW)), max_size=14)
links = st.lists(
    st.tuples(st.integers(0, 13), st.integers(0, 13), st.sampled_from(EdgeKind), st.floats(0.01, 1.0)), max_size=20
)
takings = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def graph_of(nodes, edges) -> MemoryGraph:
    graph = MemoryGraph(3)
    for number, (vector, quality, served, last) in enumerate(nodes):
        name = f"m{number * 7 % 15}"  # the order of ids is not that of rows
        graph.add(MemoryNode(name, np.array(vector), quality=quality, access_count=served, last_access=last))
    for a, b, kind, weight in edges:
        if a != b and max(a, b) < len(nodes):
            graph.connect(graph.ids[a], graph.ids[b], kind, weight)
    return graph


def near(graph: MemoryGraph, threshold: float) -> Pairs:
    return duplicates(graph.vectors, np.arange(len(graph)), threshold)


@settings(max_examples=150, deadline=None)
@given(memories, links, st.floats(0.3, 1.0), st.sets(st.integers(0, 13)), st.floats(0.0, 0.5), fractions)
def test_a_plan_is_done_as_it_says_and_never_touches_what_is_protected(nodes, edges, alike, safe, loss, least):
    graph = graph_of(nodes, edges)
    protected = {graph.ids[row] for row in safe if row < len(graph)}
    config = ConsolidationConfig(prune=True, min_value=least, max_loss=loss)
    made = plan(graph, near(graph, alike), now=NOW, config=config, protected=protected)
    served, before = int(graph.access_counts.sum()), {name: graph.node(name) for name in graph.ids}
    lost = sum(before[removal.id].access_count for removal in made.removals)
    done = apply(graph, made, config)
    assert (done.merged, done.removed, done.memories) == (len(made.merges), len(made.removals), made.kept)
    assert len(graph) == made.kept
    assert protected <= set(graph.ids)
    assert int(graph.access_counts.sum()) == served - lost
    assert made.expected_loss <= loss
    assert all(removal.worth < least for removal in made.removals)
    for merge in made.merges:  # never along a chain
        one, other = before[merge.kept].embedding.astype(float), before[merge.gone].embedding.astype(float)
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) >= alike - 1e-9
        assert merge.gone in graph.provenance(merge.kept)


@settings(max_examples=100, deadline=None)
@given(memories, links, st.floats(0.3, 1.0), fractions)
def test_compression_leaves_no_more_than_its_share_unless_all_that_is_left_took_others_in(nodes, edges, alike, share):
    graph = graph_of(nodes, edges)
    made = compress(graph, near(graph, alike), share, now=NOW)
    wanted = int(np.ceil(share * len(graph)))
    assert made.kept <= max(wanted, len({merge.kept for merge in made.merges}))
    assert made.kept >= wanted or not made.removals
    assert 0.0 <= made.expected_loss <= 1.0
    assert (made.expected_loss == 0.0) == (not made.removals)


@settings(max_examples=100, deadline=None)
@given(memories, links, st.integers(0, 13))
def test_worth_is_a_share_and_never_falls_by_being_used(nodes, edges, row):
    graph = graph_of(nodes, edges)
    before = worths(graph, NOW).values
    assert ((before >= 0.0) & (before <= 1.0)).all()
    if row < len(nodes):
        vector, quality, served, _ = nodes[row]
        used = [*nodes[:row], (vector, quality, served + 1, NOW), *nodes[row + 1 :]]
        assert worths(graph_of(used, edges), NOW).values[row] >= before[row]


@settings(max_examples=100, deadline=None)
@given(memories, st.floats(0.3, 1.0), st.lists(fractions, min_size=14, max_size=14))
def test_whoever_is_left_has_no_more_valuable_partner_that_could_have_taken_it_in(nodes, alike, values):
    graph = graph_of(nodes, [])
    pairs, worth = near(graph, alike), np.array(values[: len(nodes)])
    found = absorbed(pairs, worth, np.zeros(len(nodes), np.bool_))
    gone = set(found.gone.tolist())
    assert gone.isdisjoint(found.kept.tolist())
    assert all(worth[kept] >= worth[left] for kept, left in zip(found.kept, found.gone, strict=True))
    for a, b in zip(pairs.a_rows.tolist(), pairs.b_rows.tolist(), strict=True):
        assert a in gone or b in gone  # no two that are left are near-duplicates


@settings(max_examples=100, deadline=None)
@given(takings, st.floats(0.0, 0.99), st.data())
def test_bounds_rise_with_confidence_and_with_what_is_counted(counts, confidence, data):
    bounds = [rare_mass_bound(counts, c, confidence=confidence) for c in range(5)]
    assert bounds == sorted(bounds)
    assert 0.0 <= bounds[0] <= rare_mass_bound(counts, confidence=min(1.0, confidence + 0.01)) <= 1.0
    bound, gone = LossBound.of(counts, confidence=confidence), np.zeros(len(counts), np.bool_)
    losses = [bound.loss(gone)]
    for row in data.draw(st.permutations(range(len(counts)))):
        gone[row] = True
        losses.append(bound.loss(gone))
    assert losses == sorted(losses)
    assert losses[0] == 0.0
    assert losses[-1] <= 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(vectors, st.integers(1, 9), fractions), max_size=25), st.randoms(use_true_random=False))
def test_a_hierarchy_is_nested_counts_everybody_once_and_comes_back(drawn, random):
    known = [
        LearnedPattern(3 * number, np.array(vector), size, float(size), quality)
        for number, (vector, size, quality) in enumerate(drawn)
    ]
    made = arrange(known)
    assert Hierarchy.from_state(made.state()) == made  # refuses what is not nested
    shuffled = list(known)
    random.shuffle(shuffled)
    assert arrange(shuffled) == made
    for level in made.levels:
        assert sorted(one for group in level.groups for one in group.members) == [one.id for one in known]
        assert sum(group.size for group in level.groups) == sum(size for _, size, _ in drawn)
