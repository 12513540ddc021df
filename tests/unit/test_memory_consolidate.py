"""Consolidation: a plan that says what would go and what that may cost, and doing it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.config import ConsolidationConfig
from sona.errors import InvalidValue, MemoryGraphError, StoreError
from sona.memory.consolidate import ConsolidationPlan, Merge, Removal, apply, compress, plan
from sona.memory.duplicates import Pairs, duplicates
from sona.memory.edges import Decayed
from sona.memory.graph import MemoryGraph
from sona.memory.missing import LossBound
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.state import State, digest

NOW = 1e9
PRUNING = ConsolidationConfig(prune=True, min_value=0.3, max_loss=0.05)


def memory(count: int = 40, *, served: int = 50, unused: int = 20) -> MemoryGraph:
    """Memories m0, m1, ... far apart; the last `unused` of them never served and are old."""
    rng = np.random.default_rng(0)
    graph = MemoryGraph(64)
    for number in range(count):
        is_used = number < count - unused
        graph.add(
            MemoryNode(
                f"m{number}",
                rng.normal(size=64),
                quality=0.9 if is_used else 0.1 + 0.001 * number,
                access_count=served if is_used else 0,
                last_access=NOW if is_used else 0.0,
            )
        )
    return graph


def near(graph: MemoryGraph) -> Pairs:
    return duplicates(graph.vectors, np.arange(len(graph)), 0.98)


def with_copy_of(graph: MemoryGraph, name: str, copy: str, *, served: int = 0) -> MemoryGraph:
    embedding = graph.node(name).embedding + np.float32(0.001)
    graph.add(MemoryNode(copy, embedding, access_count=served, last_access=NOW * (served > 0)))
    return graph


def test_a_near_duplicate_goes_into_the_more_valuable_with_its_links_and_counts():
    graph = with_copy_of(memory(), "m3", "copy", served=7)
    graph.connect("copy", "m5", EdgeKind.TOGETHER, 0.8)
    made = plan(graph, near(graph), now=NOW)
    assert [(merge.kept, merge.gone) for merge in made.merges] == [("m3", "copy")]
    assert made.merges[0].similarity > 0.98
    assert (made.removals, made.expected_loss, made.kept) == ((), 0.0, 40)
    done = apply(graph, made)
    assert (done.merged, done.removed, done.memories, done.edges) == (1, 0, 40, 1)
    assert graph.node("m3").access_count == 57
    assert graph.node("m3").provenance == ("copy",)
    assert graph.edge("m3", "m5")[0].weight == pytest.approx(0.8)


def test_a_dry_run_changes_nothing():
    graph = with_copy_of(memory(), "m3", "copy")
    before = digest(graph.state())
    plan(graph, near(graph), now=NOW, config=PRUNING)
    compress(graph, near(graph), 0.5, now=NOW)
    assert digest(graph.state()) == before


def test_what_is_worth_little_goes_first_and_only_with_prune():
    graph = memory()
    assert plan(graph, near(graph), now=NOW, config=replace(PRUNING, prune=False)).removals == ()
    made = plan(graph, near(graph), now=NOW, config=PRUNING)
    assert [removal.id for removal in made.removals] == [f"m{number}" for number in range(20, 40)]
    values = [removal.worth for removal in made.removals]
    assert values == sorted(values)
    assert values[-1] < PRUNING.min_value
    assert 0.0 < made.expected_loss <= PRUNING.max_loss
    assert made.kept == 20
    assert apply(graph, made).removed == 20
    assert graph.ids == tuple(f"m{number}" for number in range(20))


def test_no_more_goes_than_the_bound_allows():
    graph = memory(served=5)
    many = plan(graph, near(graph), now=NOW, config=replace(PRUNING, max_loss=1.0))
    some = plan(graph, near(graph), now=NOW, config=replace(PRUNING, max_loss=many.expected_loss / 2))
    none = plan(graph, near(graph), now=NOW, config=replace(PRUNING, max_loss=0.0))
    assert (len(many.removals), none.removals) == (20, ())
    assert 0 < len(some.removals) < 20
    assert some.expected_loss <= many.expected_loss / 2
    assert some.removals == many.removals[: len(some.removals)]
    one_more = compress(graph, near(graph), (some.kept - 1) / 40, now=NOW)
    assert one_more.expected_loss > many.expected_loss / 2  # it stopped where it had to


def test_without_a_record_nothing_is_removed():
    graph = memory(served=0)
    made = plan(graph, near(graph), now=NOW + 1e9, config=replace(PRUNING, min_value=1.0))
    assert made.removals == ()
    assert compress(graph, near(graph), 0.5, now=NOW).expected_loss == 1.0


def test_a_record_of_ones_own_decides_over_the_counts_of_the_graph():
    graph = memory()
    takings = np.zeros(40, np.int64)
    takings[20:] = 30  # by this record, those that look worthless are what is asked for
    made = plan(graph, near(graph), now=NOW, config=PRUNING, takings=takings)
    assert made.removals == ()
    with pytest.raises(InvalidValue):
        plan(graph, near(graph), now=NOW, takings=takings[1:])
    with pytest.raises(InvalidValue):
        plan(graph, near(graph), now=NOW, takings=-takings)


def test_what_was_taken_of_a_near_duplicate_counts_for_the_one_that_is_kept():
    graph = with_copy_of(memory(), "m3", "copy")
    takings = np.array([0] * 40 + [1000])
    made = plan(graph, near(graph), now=NOW, config=PRUNING, takings=takings)
    assert [merge.gone for merge in made.merges] == ["copy"]
    assert len(made.removals) == 20  # a record of 1,000 takings, all of what stays


def test_the_loss_is_that_of_the_memories_left_after_merging():
    rng = np.random.default_rng(1)
    graph, takings = MemoryGraph(64), np.arange(60) % 7
    for number in range(60):
        graph.add(MemoryNode(f"m{number}", rng.normal(size=64), quality=number / 60))
    graph.put(MemoryNode("m0", graph.node("m59").embedding))  # the first row goes into the last
    made = compress(graph, near(graph), 0.5, now=NOW, takings=takings)
    assert [(merge.kept, merge.gone) for merge in made.merges] == [("m59", "m0")]
    assert [removal.id for removal in made.removals] == [f"m{number}" for number in range(1, 30)]
    left = takings[1:].copy()
    left[-1] += takings[0]
    assert made.expected_loss == LossBound.of(left).loss(np.arange(59) < 29) < 1.0


def test_of_equal_worth_the_first_rows_go_first():
    made = compress(memory(300, unused=0), Pairs.joined([]), 0.1, now=NOW)
    assert [removal.id for removal in made.removals] == [f"m{number}" for number in range(270)]


def test_what_is_protected_is_neither_merged_away_nor_removed():
    graph = with_copy_of(memory(), "m3", "copy")
    protected = ("copy", "m25", "unknown")
    made = plan(graph, near(graph), now=NOW, config=PRUNING, protected=protected)
    squeezed = compress(graph, near(graph), 0.0, now=NOW, protected=protected)
    assert made.merges == squeezed.merges == ()
    for found in (made, squeezed):
        assert not {"copy", "m25"} & {removal.id for removal in found.removals}
    assert squeezed.kept == 2
    assert len(made.removals) == 19


def test_what_takes_in_another_is_not_removed_with_it():
    graph = with_copy_of(memory(), "m30", "copy")
    made = compress(graph, near(graph), 0.0, now=NOW)
    assert len(made.merges) == 1
    assert made.merges[0].kept not in {removal.id for removal in made.removals}
    assert made.kept == 1


@pytest.mark.parametrize(("share", "left"), [(1.0, 40), (0.99, 40), (0.5, 21), (0.0, 1)])
def test_compression_leaves_a_share_and_merges_first(share, left):
    graph = with_copy_of(memory(), "m3", "copy")
    made = compress(graph, near(graph), share, now=NOW)
    assert [merge.gone for merge in made.merges] == ["copy"]
    assert made.kept == left
    assert apply(graph, made).memories == left
    assert "m3" in graph


def test_unused_links_fade_when_a_plan_is_applied():
    graph = memory()
    graph.connect("m0", "m1", EdgeKind.TOGETHER, 0.5)
    graph.connect("m2", "m3", EdgeKind.DREAM, 0.03)
    nothing = plan(graph, near(graph), now=NOW)
    assert apply(graph, nothing).decayed == Decayed(spared=2, decayed=0, dropped=0)
    done = apply(graph, nothing)
    assert done.decayed == Decayed(spared=0, decayed=1, dropped=1)
    assert graph.edge("m0", "m1")[0].weight == pytest.approx(0.45)
    assert done.edges == graph.edge_count == 1


def test_a_plan_for_another_graph_changes_nothing():
    graph = memory()
    before = digest(graph.state())
    for made in (
        ConsolidationPlan((Merge("m0", "m1", 0.99), Merge("m2", "gone", 0.99)), (), 0.0, 38),
        ConsolidationPlan((Merge("m0", "m1", 0.99),), (Removal("gone", 0.0),), 0.0, 38),
    ):
        with pytest.raises(MemoryGraphError):
            apply(graph, made)
        assert digest(graph.state()) == before


def test_a_plan_that_cannot_be_done_is_refused():
    for merges, removals in (
        ((Merge("a", "b", 1.0), Merge("c", "b", 1.0)), ()),
        ((Merge("a", "b", 1.0),), (Removal("b", 0.0),)),
        ((Merge("a", "b", 1.0),), (Removal("a", 0.0),)),
        ((Merge("a", "b", 1.0), Merge("b", "c", 1.0)), ()),
        ((), (Removal("a", 0.0), Removal("a", 0.0))),
    ):
        with pytest.raises(InvalidValue):
            ConsolidationPlan(merges, removals, 0.0, 1)


def test_an_empty_graph_and_one_memory_have_empty_plans():
    for count in (0, 1):
        graph = memory(count, unused=0)
        made = plan(graph, near(graph), now=NOW, config=PRUNING)
        assert made == ConsolidationPlan((), (), 0.0, count)
        assert apply(graph, made).memories == count
        assert compress(graph, near(graph), 1.0, now=NOW).kept == count


def test_bad_arguments_are_refused():
    graph = memory()
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidValue):
            compress(graph, near(graph), share, now=NOW)
    with pytest.raises(InvalidValue):
        plan(graph, near(graph), now=float("nan"))
    with pytest.raises(InvalidValue):
        plan(memory(3, unused=0), Pairs(np.array([0]), np.array([5]), np.array([1.0])), now=NOW)


def test_a_plan_comes_back_bit_for_bit_and_a_damaged_one_is_refused():
    graph = with_copy_of(memory(), "m3", "copy")
    made = plan(graph, near(graph), now=NOW, config=PRUNING)
    assert made.merges
    assert made.removals
    assert ConsolidationPlan.from_state(made.state()) == made
    for part, value in (
        ("merge_gone", []),
        ("merge_gone", ["m20"]),
        ("removed", ["m20"]),
        ("removed_worths", np.full(20, np.nan)),
        ("merge_similarities", np.zeros(2)),
        ("expected_loss", 2.0),
        ("kept", "many"),
    ):
        with pytest.raises(StoreError):
            ConsolidationPlan.from_state(State({**dict(made.state().items()), part: value}))
