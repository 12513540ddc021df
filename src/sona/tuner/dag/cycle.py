"""A background cycle over executions of plans: computed on copies, from what was waiting when it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sona.adapters import LearningSignal
from sona.config.tuner import DagConfig
from sona.errors import TunerError
from sona.retention.ewc import EwcPlusPlus
from sona.tuner.dag.bank import DagReasoningBank, SimilarPattern
from sona.tuner.dag.micro import DagMicroLoRA, EwcUpdate, Lesson, Neighbour
from sona.tuner.dag.outcomes import Outcome
from sona.tuner.dag.quality import Objective
from sona.tuner.dag.results import DagCycleResult
from sona.tuner.dag.trajectories import DagTrajectory

NEIGHBOURS = 5
"""Patterns that an execution is a lesson about."""


@dataclass(frozen=True, slots=True, eq=False)
class DagCycle:
    """Everything a cycle is computed from; nothing that comes later reaches it.

    Args:
        bank: The patterns in force.
        adapter: The adapter; None where it is switched off.
        batch: The executions that were waiting, in order.
        hits: Queries that ran as a pattern said, by its id.
        objective: What says how well an execution went; None for the specified measure.
        number: Cycles before it.
        now: Seconds.
        is_stopping: Whether to give up; asked now and then.
    """

    bank: DagReasoningBank
    adapter: DagMicroLoRA | None
    batch: tuple[DagTrajectory, ...]
    hits: Mapping[int, int]
    objective: Objective | None
    number: int
    now: float
    is_stopping: Callable[[], bool]

    def outcome(self, trajectory: DagTrajectory) -> Outcome:
        """Return what a pattern keeps of an execution, unless the cycle is to be given up."""
        self.go_on()
        return outcome_of(trajectory, self.objective)

    def go_on(self) -> None:
        """Raise CycleStopped when the cycle is to be given up."""
        if self.is_stopping():
            raise CycleStopped("the cycle was given up; nothing was changed")


class CycleStopped(TunerError):
    """A cycle was told to end before it was done."""


@dataclass(frozen=True, slots=True, eq=False)
class DagChange:
    """A cycle's outcome, not yet in force: the patterns, the protection of the adapter, and what it did."""

    bank: DagReasoningBank
    ewc: EwcPlusPlus | None
    result: DagCycleResult


def compute_cycle(cycle: DagCycle, config: DagConfig) -> DagChange:
    """Return what a cycle learns: the same from the same cycle, and nothing that it reads is changed.

    Raises:
        InvalidValue: the objective gave no quality.
        CycleStopped: it was to be given up.
    """
    rng = np.random.default_rng([config.seed, cycle.number])
    ewc, update = _protection(cycle, rng)
    bank = cycle.bank.copy()
    learned = bank.learn(cycle.batch, cycle.outcome, rng=rng)
    bank.count_hits(cycle.hits, cycle.now)
    merged = bank.consolidate()
    bank.prepare(cycle.go_on)
    result = DagCycleResult(
        trajectories=len(cycle.batch),
        joined=learned.joined,
        made=learned.made,
        merged=merged,
        evicted=learned.evicted,
        shifts=learned.shifts,
        ewc=update,
    )
    return DagChange(bank, ewc, result)


def outcome_of(trajectory: DagTrajectory, objective: Objective | None) -> Outcome:
    """Return what a pattern keeps of an execution.

    Raises:
        InvalidValue: the objective gave no quality.
    """
    quality, gain = trajectory.compute_quality(objective), trajectory.compute_gain(objective)
    return Outcome(trajectory.params, quality, gain, trajectory.timestamp)


def lesson_of(
    trajectory: DagTrajectory,
    gain: float | None,
    found: Sequence[SimilarPattern],
    bank: DagReasoningBank,
    adapter: DagMicroLoRA,
) -> LearningSignal | None:
    """Return what an execution teaches the adapter about the patterns found for it; None where it gained nothing."""
    if gain is None or gain <= 0.0:
        return None
    patterns = [bank.get(one.pattern_id) for one in found]
    neighbours = [Neighbour(one.learned.centroid, one.agrees_with(trajectory.params)) for one in patterns if one]
    return adapter.lesson(trajectory.plan_embedding, neighbours, gain)


def _protection(cycle: DagCycle, rng: np.random.Generator) -> tuple[EwcPlusPlus | None, EwcUpdate]:
    if cycle.adapter is None:
        return None, EwcUpdate(skipped_reason="the adapter is switched off")
    lessons = _lessons(cycle, cycle.adapter)
    return cycle.adapter.protection_after(lessons, now=cycle.now, rng=rng)


def _lessons(cycle: DagCycle, adapter: DagMicroLoRA) -> list[Lesson]:
    found = []
    for one in cycle.batch:
        outcome = cycle.outcome(one)
        near = cycle.bank.find_similar(adapter.forward(one.plan_embedding), NEIGHBOURS)
        signal = lesson_of(one, outcome.gain, near, cycle.bank, adapter)
        found.append(Lesson(one.plan_embedding, outcome.quality, signal))
    return found
