"""One cycle of Loop C on its way: what it is computed from, how far it has come, what it gave, what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sona.config import DEEP_STAGES
from sona.errors import InvalidValue, StoreError
from sona.state import State

if TYPE_CHECKING:  # records alone: whoever waits for Loop C need not import what it is made of
    from sona.dreams.dream import Dream
    from sona.dreams.neighbourhoods import MemoryPhi
    from sona.memory.consolidate import ConsolidationPlan
    from sona.memory.graph import MemoryGraph
    from sona.patterns.bank import ReasoningBank
    from sona.patterns.hierarchy import Hierarchy

Pair: TypeAlias = tuple[str, str, float]
"""Ids of two memories, and the weight or cosine of the two."""


def in_order(stages: Sequence[str]) -> tuple[str, ...]:
    """Return stages of a cycle in the order they are done, each once.

    Raises:
        InvalidValue: there is no such stage.

    >>> in_order(["dream", "link"])
    ('link', 'dream')
    """
    unknown = [stage for stage in stages if stage not in DEEP_STAGES]
    if unknown or isinstance(stages, str):
        raise InvalidValue(f"stages: expected some of {', '.join(DEEP_STAGES)}, got {stages!r}")
    return tuple(stage for stage in DEEP_STAGES if stage in stages)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a cycle has come.

    Args:
        number: Cycles finished before it.
        stages: What it is to do.
        stage: Stages that are done.
        unit: Units of the next one that are done.
        pairs: Near-duplicates found so far: ids of both, and their cosine.
    """

    number: int = 0
    stages: tuple[str, ...] = DEEP_STAGES
    stage: int = 0
    unit: int = 0
    pairs: tuple[Pair, ...] = ()

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        a_ids, b_ids, cosines = zip(*self.pairs, strict=True) if self.pairs else ((), (), ())
        return State(
            {
                "number": self.number,
                "stages": list(self.stages),
                "stage": self.stage,
                "unit": self.unit,
                "a_ids": list(a_ids),
                "b_ids": list(b_ids),
                "cosines": np.array(cosines, np.float64),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Progress:
        """Return the progress that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        a_ids, b_ids, stages = state.texts("a_ids"), state.texts("b_ids"), tuple(state.texts("stages"))
        cosines = state.doubles("cosines", len(a_ids)).tolist()
        number, stage, unit = (state.whole(name) for name in ("number", "stage", "unit"))
        if len(a_ids) != len(b_ids) or set(stages) - set(DEEP_STAGES) or not 0 <= stage <= len(stages) or unit < 0:
            raise StoreError("saved state: the progress of Loop C is damaged")
        return cls(number, stages, stage, unit, tuple(zip(a_ids, b_ids, cosines, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class DeepCycle:
    """Everything a cycle is computed from, as it was when it began.

    Args:
        progress: How far the one before had come, when it was cut short.
        graph: A copy of the memory graph, which the cycle works on.
        waiting: Ids of memories that were not compared with all others yet.
        bank: A copy of the patterns.
        protected: Ids of memories that must stay.
        now: Seconds.
        are_one: Whether two memories whose embeddings are near say the same, by their ids; all do when None.
        reason: Why there is nothing to do; None when there is.
    """

    progress: Progress
    graph: MemoryGraph
    waiting: tuple[str, ...]
    bank: ReasoningBank
    protected: frozenset[str]
    now: float
    are_one: Callable[[str, str], bool] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DeepChange:
    """What a cycle computed, to be committed.

    Args:
        before: How far it had come when it began.
        seen: The memory graph that it was computed from, with what it found linked.
        after: How far it has come; fresh when it is finished.
        units: Units of work that were done.
        linked: Memories that were compared with all others, and what they are similar to: ids, ids, cosines.
        dreams: Dreams, those below the gate left out.
        dreamt: How many were dreamt in all.
        plan: What consolidation is to do; None when it did not come to that.
        pattern_links: Ids and weights of memories that serve a pattern together.
        hierarchy: Levels of the patterns; None when it did not come to that.
        phi: Of the memory; None when it was not measured.
    """

    before: Progress
    seen: MemoryGraph
    after: Progress
    units: int
    linked: tuple[tuple[tuple[str, ...], tuple[Pair, ...]], ...]
    dreams: tuple[Dream, ...]
    dreamt: int
    plan: ConsolidationPlan | None
    pattern_links: tuple[Pair, ...]
    hierarchy: Hierarchy | None
    phi: MemoryPhi | None

    @property
    def is_finished(self) -> bool:
        """True when nothing of the cycle is left for the next."""
        return self.after.number > self.before.number


@dataclass(frozen=True, slots=True)
class DeepResult:
    """What a cycle of Loop C did.

    Args:
        cycle: Cycles finished so far.
        is_finished: Whether all of it is done; else the next one goes on from here.
        linked: Memories compared with all others and linked to those they are similar to.
        dreams_generated: Dreams.
        dreams_integrated: Dreams whose proposals were taken up.
        links_dreamt: New links among memories, weak until feedback confirms them.
        strengthened: Learned links that were used since the last cycle and keep their weight.
        decayed: Learned links that were not, and lost a share of it.
        dropped: Those that became too light.
        merged: Near-duplicates that went into others.
        pruned: Memories that were removed.
        expected_loss: Most that removing them may cost, as a share of takings.
        patterns_pruned: Patterns that were both poor and unused.
        levels: Groups in each level of the pattern hierarchy, lowest first.
        tasks_merged: Tasks of EWC++ merged into one.
        phi: Mean Phi of sampled neighbourhoods; None when it was not measured.
        elapsed_s: Seconds it took.
        gone: Ids of memories that are no more, each with the one it was merged into, or None.
        skipped_reason: Why nothing was done; None when something was.
    """

    cycle: int
    is_finished: bool = True
    linked: int = 0
    dreams_generated: int = 0
    dreams_integrated: int = 0
    links_dreamt: int = 0
    strengthened: int = 0
    decayed: int = 0
    dropped: int = 0
    merged: int = 0
    pruned: int = 0
    expected_loss: float = 0.0
    patterns_pruned: int = 0
    levels: tuple[int, ...] = ()
    tasks_merged: int = 0
    phi: float | None = None
    elapsed_s: float = 0.0
    gone: Mapping[str, str | None] = field(default_factory=dict)
    skipped_reason: str | None = None
