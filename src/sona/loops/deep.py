"""Loop C: what the memory as a whole may become, rarely and within a time limit.

A cycle links what is new, dreams, compares memories for duplicates, plans and applies consolidation, arranges patterns
in levels, and measures Phi. It is cut into units of work, each drawn from a seed of its own: `begin` takes a copy of
everything, `compute` does units until it is told to stop, `commit` puts what they gave in force. What a time limit
leaves over, the next cycle does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import astuple, fields, replace

import numpy as np

from sona.config import DEEP_STAGES, DeepSettings
from sona.dreams.dream import Dream, DreamEngine
from sona.dreams.neighbourhoods import MemoryPhi
from sona.dreams.phi import PhiEvaluator
from sona.errors import StateError, StoreError
from sona.loops.deep_cycle import DeepChange, DeepCycle, DeepResult, Pair, Progress, in_order
from sona.loops.revision import near_now, still_possible, still_true
from sona.memory.associate import BLOCK, AssociativeMemory, nearest_to
from sona.memory.consolidate import ConsolidationPlan, apply, plan
from sona.memory.duplicates import duplicates
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind
from sona.patterns.bank import ReasoningBank
from sona.patterns.hierarchy import Hierarchy, arrange
from sona.state import State

_DREAMS = 10  # in one unit of work
_PATTERN_ITEMS = 4  # memories of one pattern that are linked with each other
_LEAST_TAKEN = 2  # times that a memory has to have served a pattern to be one of them


class DeepLoop:
    """Reorganises memory in cycles that may be cut short anywhere.

    Args:
        settings: Everything that decides what a cycle does.
    """

    def __init__(self, settings: DeepSettings | None = None) -> None:
        """Have done nothing yet."""
        self.settings = settings or DeepSettings()
        self.progress = Progress()
        self.hierarchy = Hierarchy()
        self.phi: MemoryPhi | None = None

    def begin(
        self,
        associations: AssociativeMemory,
        bank: ReasoningBank,
        *,
        now: float,
        protected: Collection[str] = (),
        stages: Sequence[str] = DEEP_STAGES,
        force: bool = False,
        are_one: Callable[[str, str], bool] | None = None,
    ) -> DeepCycle:
        """Return a cycle to be computed aside while requests go on; it goes on where the one before was cut short.

        Args:
            associations: The memory graph and what waits to be linked.
            bank: The patterns.
            now: Seconds.
            protected: Ids of memories that must stay.
            stages: What it is to do.
            force: Run with fewer memories than it needs.
            are_one: Whether two memories whose embeddings are near say the same, by their ids; all do when None.

        Raises:
            InvalidValue: there is no such stage.
        """
        ordered = in_order(stages)
        progress = self.progress
        if progress.stages != ordered:  # another task than the one that was cut short begins anew
            progress = Progress(progress.number, ordered)
        count, least = len(associations.graph), self.settings.deep.min_memories
        reason = None
        if not ordered or not count:
            reason = "no memories" if ordered else "nothing was asked for"
        elif count < least and not force:
            reason = f"{count} of {least} memories are there"
        graph = associations.graph.copy() if reason is None else associations.graph
        waiting = associations.unlinked
        return DeepCycle(progress, graph, waiting, bank.copy(), frozenset(protected), now, are_one, reason)

    def skipped(self, reason: str) -> DeepResult:
        """Return the result of a cycle that had nothing to do."""
        return DeepResult(self.progress.number, skipped_reason=reason)

    def go_on_after(self, earlier: DeepLoop) -> None:
        """Count on from where `earlier` stood; what it was in the middle of begins anew."""
        self.progress = Progress(earlier.progress.number)

    def compute(
        self, cycle: DeepCycle, *, is_over: Callable[[], bool] = lambda: False, units: int | None = None
    ) -> DeepChange:
        """Return what `cycle` gives as far as time allows; nothing is in force yet.

        Args:
            cycle: As `begin` returned it; its graph is used up.
            is_over: Asked before every unit of work but the first; True ends the cycle there.
            units: Do just so many units, as a cycle did before; as many as there are when None.
        """
        work = _Work(cycle, self.settings)
        done = 0
        while work.is_left() and not (done >= units if units is not None else done > 0 and is_over()):
            work.do()
            done += 1
        return work.change(done)

    def commit(
        self,
        change: DeepChange,
        associations: AssociativeMemory,
        bank: ReasoningBank,
        *,
        protected: Collection[str] = (),
        unsettled: Collection[str] = (),
    ) -> DeepResult:
        """Put a cycle in force, over what was learned meanwhile.

        Args:
            change: As `compute` returned it.
            associations: The memory graph; links are published.
            bank: The patterns.
            protected: Ids of memories that must stay, by now.
            unsettled: Ids of memories that say something else by now and have no vector of it yet: nothing goes into
                them.

        Raises:
            StateError: another cycle was committed since this one began; nothing was changed.
        """
        if change.before.number != self.progress.number:
            raise StateError("another cycle of Loop C was committed since this one began")
        graph = associations.graph
        linked = still_true(change, graph)
        _link(graph, [pair for _, pairs in linked for pair in pairs], EdgeKind.SIMILAR)  # at once: learning waits
        for ids, _ in linked:
            associations.compared(ids)
        integration = DreamEngine(self.settings.dreams, graph=graph).integrate_dreams(change.dreams)
        _link(graph, change.pattern_links, EdgeKind.PATTERN)
        result = DeepResult(
            cycle=change.before.number + change.is_finished,
            is_finished=change.is_finished,
            linked=sum(len(ids) for ids, _ in linked),
            dreams_generated=change.dreamt,
            dreams_integrated=integration.integrated,
            links_dreamt=integration.added,
            phi=None if change.phi is None else change.phi.mean,
        )
        if change.plan is not None:
            agreed = still_possible(change.plan, change.seen, graph, protected, unsettled)
            result = self._consolidated(result, agreed, associations, bank)
        if change.hierarchy is not None:
            self.hierarchy = change.hierarchy
            result = replace(result, levels=tuple(len(level.groups) for level in change.hierarchy.levels))
        self.phi = change.phi or self.phi
        self.progress = change.after
        associations.publish()
        return result

    def _consolidated(
        self, result: DeepResult, agreed: ConsolidationPlan, associations: AssociativeMemory, bank: ReasoningBank
    ) -> DeepResult:
        config = self.settings.consolidation
        done = apply(associations.graph, agreed, config)
        gone: dict[str, str | None] = {merge.gone: merge.kept for merge in agreed.merges}
        gone.update({removal.id: None for removal in agreed.removals})
        associations.compared(tuple(gone))
        bank.decay(config.pattern_decay)
        return replace(
            result,
            strengthened=done.decayed.spared,
            decayed=done.decayed.decayed,
            dropped=done.decayed.dropped,
            merged=done.merged,
            pruned=done.removed,
            expected_loss=agreed.expected_loss,
            patterns_pruned=bank.prune(min_accesses=config.min_pattern_accesses),
            gone=gone,
        )

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        known = [] if self.phi is None else list(astuple(self.phi))
        return State(
            {
                "progress": self.progress.state(),
                "hierarchy": self.hierarchy.state(),
                "phi": np.array(known, np.float64),
            }
        )

    @classmethod
    def from_state(cls, state: State, settings: DeepSettings | None = None) -> DeepLoop:
        """Return the loop that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        loop = cls(settings)
        loop.take_over(state)
        return loop

    def take_over(self, state: State) -> None:
        """Go on from where the loop was that `state` was taken from, or raise StoreError."""
        progress = Progress.from_state(state.child("progress"))
        hierarchy = Hierarchy.from_state(state.child("hierarchy"))
        known = state.doubles("phi", None).tolist()
        if known and len(known) != len(fields(MemoryPhi)):
            raise StoreError("saved state: the Phi of the memory is damaged")
        remake: Callable[..., MemoryPhi] = MemoryPhi
        self.progress, self.hierarchy = progress, hierarchy
        self.phi = remake(*known[:-1], int(known[-1])) if known else None


class _Work:
    # One cycle while it is computed, unit by unit.
    def __init__(self, cycle: DeepCycle, settings: DeepSettings) -> None:
        self._cycle, self._settings = cycle, settings
        self._graph = cycle.graph
        self._stage, self._unit = cycle.progress.stage, cycle.progress.unit
        self._pairs = list(cycle.progress.pairs)
        self._linked: list[tuple[tuple[str, ...], tuple[Pair, ...]]] = []
        self._dreams: list[Dream] = []
        self._dreamt = 0
        self._plan: ConsolidationPlan | None = None
        self._pattern_links: tuple[Pair, ...] = ()
        self._hierarchy: Hierarchy | None = None
        self._phi: MemoryPhi | None = None

    def is_left(self) -> bool:
        """Return True when there is a unit to do; stages that have none are done."""
        stages = self._cycle.progress.stages if self._cycle.reason is None else ()
        while self._stage < len(stages) and self._unit >= self._count(stages[self._stage]):
            self._stage, self._unit = self._stage + 1, 0
        return self._stage < len(stages)

    def do(self) -> None:
        """Do one unit of those that are left."""
        getattr(self, f"_do_{self._cycle.progress.stages[self._stage]}")(self._unit)
        self._unit += 1
        self.is_left()

    def _count(self, name: str) -> int:
        if name == "link":
            return -(-len(self._cycle.waiting) // BLOCK)
        if name == "dream":
            return -(-self._settings.deep.dreams // _DREAMS)
        return -(-len(self._graph) // BLOCK) if name == "compare" else 1

    def _rng(self, unit: int) -> np.random.Generator:
        return np.random.default_rng([self._settings.deep.seed, self._cycle.progress.number, self._stage, unit])

    def _do_link(self, unit: int) -> None:
        ids = self._cycle.waiting[unit * BLOCK : (unit + 1) * BLOCK]
        found = nearest_to(self._graph, ids)
        names = self._graph.ids
        pairs = zip(found.a_rows.tolist(), found.b_rows.tolist(), found.cosines.tolist(), strict=True)
        self._linked.append((ids, tuple((names[a], names[b], cosine) for a, b, cosine in pairs)))
        if len(found.a_rows):
            self._graph.link(found.a_rows, found.b_rows, EdgeKind.SIMILAR, found.cosines)

    def _do_dream(self, unit: int) -> None:
        count = min(_DREAMS, self._settings.deep.dreams - unit * _DREAMS)
        dreams = DreamEngine(self._settings.dreams, graph=self._graph).generate_dreams(count, self._rng(unit))
        self._dreamt += len(dreams)
        if self._settings.phi.is_gate:
            gate = PhiEvaluator(self._settings.phi)
            adjacency = self._graph.adjacency()
            least = self._settings.phi.threshold
            phis = [gate.evaluate_rows(self._graph.vectors, adjacency, dream.rows).phi for dream in dreams]
            dreams = [dream for dream, phi in zip(dreams, phis, strict=True) if phi >= least]
        self._dreams += dreams

    def _do_compare(self, unit: int) -> None:
        graph, names = self._graph, self._graph.ids
        rows = np.arange(unit * BLOCK, min((unit + 1) * BLOCK, len(graph)))
        found = duplicates(graph.vectors, rows, self._settings.consolidation.merge_similarity)
        pairs = zip(found.a_rows.tolist(), found.b_rows.tolist(), found.similarities.tolist(), strict=True)
        self._pairs += [(names[a], names[b], cosine) for a, b, cosine in pairs]

    def _do_consolidate(self, unit: int) -> None:
        graph, config = self._graph, self._settings.consolidation
        near = near_now(graph, self._pairs, config.merge_similarity, self._cycle.are_one)
        self._plan = plan(graph, near, now=self._cycle.now, config=config, protected=self._cycle.protected)

    def _do_abstract(self, unit: int) -> None:
        bank = self._cycle.bank
        self._hierarchy = arrange(bank.patterns)
        links: dict[tuple[str, str], float] = {}
        for pattern in bank.patterns:
            for a, b, weight in _served_together(bank, pattern.id):
                if a in self._graph and b in self._graph:
                    links[a, b] = max(links.get((a, b), 0.0), weight)
        self._pattern_links = tuple((a, b, weight) for (a, b), weight in links.items())

    def _do_measure(self, unit: int) -> None:
        evaluator = PhiEvaluator(self._settings.phi)
        self._phi = evaluator.evaluate_memory(self._graph.vectors, self._graph.adjacency(), self._rng(unit))

    def change(self, done: int) -> DeepChange:
        before = self._cycle.progress
        is_finished = self._cycle.reason is None and self._stage >= len(before.stages)
        # What was linked does not wait for it any more, so the next cycle begins with the first of those that do.
        unit = 0 if before.stages[self._stage : self._stage + 1] == ("link",) else self._unit
        after = Progress(before.number, before.stages, self._stage, unit, tuple(self._pairs))
        return DeepChange(
            before=before,
            seen=self._graph,
            after=Progress(before.number + 1) if is_finished else after,
            units=done,
            linked=tuple(self._linked),
            dreams=tuple(self._dreams),
            dreamt=self._dreamt,
            plan=self._plan,
            pattern_links=self._pattern_links,
            hierarchy=self._hierarchy,
            phi=self._phi,
        )


def _served_together(bank: ReasoningBank, pattern_id: int) -> Iterator[Pair]:
    # The memories that served a pattern most often, and how much of what it took each pair stands for.
    taken: dict[str, float] = {}
    times: dict[str, int] = {}
    for trajectory in bank.trajectories_of(pattern_id):
        for step in trajectory.steps:
            if step.ref is not None and step.reward:
                taken[step.ref] = taken.get(step.ref, 0.0) + step.reward
                times[step.ref] = times.get(step.ref, 0) + 1
    total = sum(taken.values())
    often = [item for item in taken if times[item] >= _LEAST_TAKEN]
    best = sorted(often, key=lambda item: (-taken[item], item))[:_PATTERN_ITEMS]
    for place, a in enumerate(best):
        for b in best[place + 1 :]:
            yield min(a, b), max(a, b), min(float(np.sqrt(taken[a] * taken[b])) / total, 1.0)


def _link(graph: MemoryGraph, pairs: Sequence[Pair], kind: EdgeKind) -> None:
    # A memory that is gone since takes its links with it.
    row_of = graph.row_of
    present = [(row_of[a], row_of[b], weight) for a, b, weight in pairs if a in row_of and b in row_of]
    if present:
        a_rows, b_rows, weights = zip(*present, strict=True)
        graph.link(a_rows, b_rows, kind, weights)
