"""What a cycle of Loop C found, checked against what is there by now: requests and memories came meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from sona.loops.deep_cycle import DeepChange, Pair
from sona.memory.consolidate import ConsolidationPlan
from sona.memory.duplicates import Pairs, cosines_of
from sona.memory.graph import MemoryGraph


def near_now(
    graph: MemoryGraph, pairs: Sequence[Pair], least: float, are_one: Callable[[str, str], bool] | None = None
) -> Pairs:
    """Return the near-duplicates that are near by now, of one kind each, and say the same.

    A cycle that was cut short found its pairs long ago: who says something else since is no duplicate any more.

    Args:
        graph: The memories.
        pairs: Ids of both, and their cosine when they were compared.
        least: Least cosine.
        are_one: Whether two memories say the same; all do when None.
    """
    row_of = graph.row_of
    found = [
        (row_of[a], row_of[b])
        for a, b, _ in pairs
        if a in row_of and b in row_of and graph.kind(a) == graph.kind(b) and (are_one is None or are_one(a, b))
    ]  # of one kind: what a caller ranks never takes in what was remembered
    ends = np.sort(np.array(found, np.int64).reshape(-1, 2), axis=1)
    similarities = cosines_of(graph.vectors, ends[:, 0], ends[:, 1])
    is_near = similarities >= least
    return Pairs(ends[is_near, 0], ends[is_near, 1], similarities[is_near])


def _unmoved(seen: MemoryGraph, graph: MemoryGraph, names: Iterable[str]) -> set[str]:
    # Those that have the vector still that they had when the cycle began.
    then, now = seen.row_of, graph.row_of
    both = [name for name in dict.fromkeys(names) if name in then and name in now]
    earlier, present = seen.vectors[[then[name] for name in both]], graph.vectors[[now[name] for name in both]]
    return {name for name, is_same in zip(both, (earlier == present).all(axis=1).tolist(), strict=True) if is_same}


def still_true(change: DeepChange, graph: MemoryGraph) -> list[tuple[tuple[str, ...], tuple[Pair, ...]]]:
    """Return what memories are similar to, but for those that say something else by now: they go on waiting."""
    found = []
    for ids, pairs in change.linked:
        same = _unmoved(change.seen, graph, [*ids, *(name for a, b, _ in pairs for name in (a, b))])
        kept = tuple(pair for pair in pairs if pair[0] in same and pair[1] in same)
        found.append((tuple(name for name in ids if name in same), kept))
    return found


def still_possible(
    agreed: ConsolidationPlan,
    seen: MemoryGraph,
    graph: MemoryGraph,
    protected: Collection[str],
    unsettled: Collection[str],
) -> ConsolidationPlan:
    """Return what a plan may still do: what is needed, reworded or served meanwhile stays."""
    names = [name for merge in agreed.merges for name in (merge.kept, merge.gone)]
    same = _unmoved(seen, graph, [*names, *(removal.id for removal in agreed.removals)]) - set(unsettled)
    merges = tuple(
        merge for merge in agreed.merges if merge.kept in same and merge.gone in same and merge.gone not in protected
    )
    removals = tuple(
        one for one in agreed.removals if one.id in same and one.id not in protected and _is_unused(seen, graph, one.id)
    )
    return ConsolidationPlan(merges, removals, agreed.expected_loss, len(graph) - len(merges) - len(removals))


def _is_unused(seen: MemoryGraph, graph: MemoryGraph, name: str) -> bool:
    return bool(seen.access_counts[seen.row_of[name]] == graph.access_counts[graph.row_of[name]])
