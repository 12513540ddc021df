"""Consolidation of the memory graph: near-duplicates become one, what is worth little may go, unused links fade.

A plan says first what would happen and what it would cost; applying it is another step. So a dry run is a plan that
nobody applies.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import finite, fraction
from sona.config import ConsolidationConfig
from sona.errors import InvalidValue, MemoryGraphError, StoreError
from sona.memory.duplicates import Pairs, Rows, absorbed
from sona.memory.edges import Decayed
from sona.memory.graph import MemoryGraph
from sona.memory.missing import LossBound, counted
from sona.memory.worth import Doubles, worths
from sona.state import State

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Merge:
    """One near-duplicate that goes into another.

    Args:
        kept: Id of the one that stays.
        gone: Id of the one that goes; the kept one gets its links and counts, and names it as a source.
        similarity: Their cosine.
    """

    kept: str
    gone: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Removal:
    """One memory that is removed, and what it was worth, in [0, 1]."""

    id: str
    worth: float


@dataclass(frozen=True, slots=True)
class ConsolidationPlan:
    """What consolidation would do.

    Args:
        merges: Near-duplicates, in the order of the rows that go.
        removals: Memories that are removed, least worth first.
        expected_loss: Upper bound, at 95 % confidence, on the chance that the next request takes one of those that
            are removed, by the record of what was taken. Merging loses nothing.
        kept: Memories that are left.

    Raises:
        InvalidValue: a memory that goes twice, or that goes and takes in another.
    """

    merges: tuple[Merge, ...]
    removals: tuple[Removal, ...]
    expected_loss: float
    kept: int

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        fraction(self.expected_loss, "expected_loss")
        going = [merge.gone for merge in self.merges] + [removal.id for removal in self.removals]
        if len(set(going)) < len(going):
            raise InvalidValue("plan: a memory is to go twice")
        if not {merge.kept for merge in self.merges}.isdisjoint(going):
            raise InvalidValue("plan: a memory is to go and to take in another")

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "merge_kept": [merge.kept for merge in self.merges],
                "merge_gone": [merge.gone for merge in self.merges],
                "merge_similarities": np.array([merge.similarity for merge in self.merges], np.float64),
                "removed": [removal.id for removal in self.removals],
                "removed_worths": np.array([removal.worth for removal in self.removals], np.float64),
                "expected_loss": self.expected_loss,
                "kept": self.kept,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> ConsolidationPlan:
        """Return the plan that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        kept, gone, removed = state.texts("merge_kept"), state.texts("merge_gone"), state.texts("removed")
        similarities = state.doubles("merge_similarities", len(kept)).tolist()
        values = state.doubles("removed_worths", len(removed)).tolist()
        if len(gone) != len(kept) or not all(map(np.isfinite, similarities + values)):
            raise StoreError("saved state: the parts of a plan do not fit together")
        try:
            return cls(
                tuple(Merge(*parts) for parts in zip(kept, gone, similarities, strict=True)),
                tuple(Removal(*parts) for parts in zip(removed, values, strict=True)),
                state.number("expected_loss"),
                state.whole("kept"),
            )
        except InvalidValue as error:
            raise StoreError(f"saved state: {error}") from error


@dataclass(frozen=True, slots=True)
class ConsolidationResult:
    """What consolidation did.

    Args:
        merged: Memories that went into others.
        removed: Memories that were removed.
        decayed: What became of learned links: spared, decayed, dropped.
        memories: Memories left.
        edges: Linked pairs left.
    """

    merged: int
    removed: int
    decayed: Decayed
    memories: int
    edges: int


def plan(
    graph: MemoryGraph,
    pairs: Pairs,
    *,
    now: float,
    config: ConsolidationConfig | None = None,
    protected: Collection[str] = (),
    takings: npt.ArrayLike | None = None,
) -> ConsolidationPlan:
    """Return what consolidation would do; nothing is changed.

    Near-duplicates go into the one of them that is worth most. With `prune`, of the others those worth less than
    `min_value` are removed, least worth first, as long as the bound on what that may cost stays within `max_loss`.
    Without a record of takings nothing is removed.

    Args:
        graph: The memories.
        pairs: Near-duplicates among them, by `duplicates`.
        now: The time, seconds.
        config: Settings.
        protected: Ids that must stay, such as those that an open request shows; unknown ones are passed over.
        takings: How often past requests took each memory, shape (n,); the graph's own counts when None.

    Raises:
        InvalidValue: a time that is not finite, pairs or takings of another graph.
    """
    config = config or ConsolidationConfig()
    draft = _Draft.of(graph, pairs, finite(now, "now"), config, protected=protected, takings=takings)
    candidates = draft.candidates(config.min_value) if config.prune else np.zeros(0, np.int64)
    low, high = 0, len(candidates)
    while low < high:  # the bound never falls when more goes
        middle = (low + high + 1) // 2
        low, high = (middle, high) if draft.loss(candidates[:middle]) <= config.max_loss else (low, middle - 1)
    return draft.plan(candidates[:low])


def compress(
    graph: MemoryGraph,
    pairs: Pairs,
    share: float,
    *,
    now: float,
    config: ConsolidationConfig | None = None,
    protected: Collection[str] = (),
    takings: npt.ArrayLike | None = None,
) -> ConsolidationPlan:
    """Return the plan that leaves a share of the memories, whatever it costs, and says what it may cost.

    Near-duplicates go first, then what is worth least. More stays where more is protected or takes in another.

    Args:
        graph: The memories.
        pairs: Near-duplicates among them, by `duplicates`.
        share: Of the memories that may stay, in [0, 1]; rounded up.
        now: The time, seconds.
        config: Settings; `prune`, `min_value` and `max_loss` do not matter here.
        protected: Ids that must stay; unknown ones are passed over.
        takings: How often past requests took each memory, shape (n,); the graph's own counts when None.

    Raises:
        InvalidValue: a share outside [0, 1], a time that is not finite, pairs or takings of another graph.
    """
    wanted = int(np.ceil(fraction(share, "share") * len(graph)))
    draft = _Draft.of(
        graph, pairs, finite(now, "now"), config or ConsolidationConfig(), protected=protected, takings=takings
    )
    over = max(0, len(graph) - len(draft.gone) - wanted)
    return draft.plan(draft.candidates(np.inf)[:over])


def apply(
    graph: MemoryGraph, plan: ConsolidationPlan, config: ConsolidationConfig | None = None
) -> ConsolidationResult:
    """Merge and remove what a plan names, then let unused links fade, and return what was done.

    Args:
        graph: The memories; changed.
        plan: What is to be done.
        config: How links fade.

    Raises:
        MemoryGraphError: the plan names a memory that the graph does not have; nothing was changed.
    """
    config = config or ConsolidationConfig()
    named = [name for merge in plan.merges for name in (merge.kept, merge.gone)]
    for name in named + [removal.id for removal in plan.removals]:
        if name not in graph:
            raise MemoryGraphError(f"plan: no memory {name!r} in the graph; make a new plan after a change")
    merged = graph.merged([(merge.kept, merge.gone) for merge in plan.merges])
    removed = graph.remove([removal.id for removal in plan.removals])
    decayed = graph.decay(keep_edge=config.edge_decay, keep_dream=config.dream_decay, min_weight=config.min_edge_weight)
    return ConsolidationResult(merged, removed, decayed, len(graph), graph.edge_count)


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """What a plan is made of: values by row, merges, who must stay, and what removing may cost."""

    ids: tuple[str, ...]
    values: Doubles
    kept: Rows
    gone: Rows
    similarities: Doubles
    stays: Mask  # protected, going already, or taking in another
    bound: LossBound  # of the memories as they are after merging, by `place`
    place: Rows

    @classmethod
    def of(
        cls,
        graph: MemoryGraph,
        pairs: Pairs,
        now: float,
        config: ConsolidationConfig,
        *,
        protected: Collection[str],
        takings: npt.ArrayLike | None,
    ) -> _Draft:
        values, stays = worths(graph, now, config).values, np.zeros(len(graph), np.bool_)
        stays[[graph.row_of[name] for name in protected if name in graph]] = True
        merges = absorbed(pairs, values, stays)
        counts = counted(graph.access_counts if takings is None else takings).copy()
        if counts.shape != values.shape:
            raise InvalidValue(f"takings: expected {len(values)}, got {len(counts)}")
        np.add.at(counts, merges.kept, counts[merges.gone])
        is_left = np.ones(len(graph), np.bool_)
        is_left[merges.gone] = False
        stays[merges.kept] = stays[merges.gone] = True
        bound, place = LossBound.of(counts[is_left]), np.cumsum(is_left) - 1
        return cls(graph.ids, values, merges.kept, merges.gone, merges.similarities, stays, bound, place)

    def candidates(self, below: float) -> Rows:
        """Return the rows that may be removed and are worth less than `below`, least worth first, then by row."""
        rows = np.flatnonzero(~self.stays & (self.values < below))
        return rows[np.argsort(self.values[rows], kind="stable")]

    def loss(self, rows: Rows) -> float:
        """Return what removing these rows may cost."""
        mask = np.zeros(len(self.bound.counts), np.bool_)
        mask[self.place[rows]] = True
        return self.bound.loss(mask)

    def plan(self, rows: Rows) -> ConsolidationPlan:
        """Return the plan that merges, and removes these rows."""
        merges = zip(self.kept.tolist(), self.gone.tolist(), self.similarities.tolist(), strict=True)
        return ConsolidationPlan(
            tuple(Merge(self.ids[kept], self.ids[gone], similarity) for kept, gone, similarity in merges),
            tuple(Removal(self.ids[row], float(self.values[row])) for row in rows.tolist()),
            self.loss(rows),
            len(self.ids) - len(self.gone) - len(rows),
        )
