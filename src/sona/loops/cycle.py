"""One cycle of Loop B on its way: what it is computed from, and what earlier cycles left in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.statistics import RidgeStatistics
from sona.checks import Floats
from sona.errors import StoreError
from sona.loops.lessons import BATCH, Taught, Teacher, taught_from_state, taught_state
from sona.patterns.bank import ReasoningBank
from sona.retention.boundary import BoundaryResult
from sona.retention.ewc import EwcPlusPlus
from sona.retention.results import FisherUpdate, TaskChange
from sona.state import State
from sona.trajectory import TrajectoryShelf
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True, eq=False)
class Consolidated:
    """What the committed cycles have learned; replaced whole, and its parts never changed in place.

    Args:
        base: The lasting adapter.
        ewc: What protects the micro adapter.
        statistics: The sums behind the base adapter.
        taught: The trajectories in the sums, by id.
    """

    base: BaseLoRA
    ewc: EwcPlusPlus
    statistics: RidgeStatistics
    taught: Mapping[int, Taught]

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "base": self.base.state(),
                "ewc": self.ewc.state(),
                "statistics": self.statistics.state(),
                "taught": taught_state(self.taught),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Consolidated:
        """Return what `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        base = BaseLoRA.from_state(state.child("base"))
        ewc = EwcPlusPlus.from_state(state.child("ewc"))
        statistics = RidgeStatistics.from_state(state.child("statistics"))
        if statistics.hidden_dim != base.hidden_dim:
            raise StoreError("saved state: the base adapter and its sums differ in width")
        return cls(base, ewc, statistics, taught_from_state(state.child("taught")))


@dataclass(frozen=True, slots=True, eq=False)
class Cycle:
    """Everything a cycle is computed from, as it was when the cycle began; nothing that comes later reaches it.

    Args:
        since: What was in force; a change is put in force only while it still is.
        bank: A copy of the patterns.
        micro: A copy of the instant adapter.
        batch: The trajectories to learn from, in order; none when the cycle is skipped.
        baseline: What a request usually earned, in [0, 1].
        now: Seconds.
        number: How many cycles were ended before it.
        version: Number of the version it makes; that in force when it is skipped.
        reason: Why it is skipped; None when it is not.
    """

    since: Consolidated
    bank: ReasoningBank
    micro: MicroLoRA
    batch: tuple[QueryTrajectory, ...] | TrajectoryShelf
    baseline: float
    now: float
    number: int
    version: int
    reason: str | None = None


def detect_boundary(
    cycle: Cycle, ewc: EwcPlusPlus, rng: np.random.Generator
) -> tuple[BoundaryResult, TaskChange | None]:
    """Show the batch to the boundary test of `ewc`; when the stream has changed, protect the task that ended."""
    judged = np.empty((len(cycle.batch), cycle.micro.hidden_dim), np.float32)
    qualities: list[float | None] = []
    for trajectory in cycle.batch:
        if trajectory.supersedes is None:
            judged[len(qualities)] = trajectory.query_embedding
            qualities.append(trajectory.quality)
    embeddings = judged[: len(qualities)]
    known = [quality for quality in qualities if quality is not None]
    losses = 1.0 - np.array(known, np.float32) if len(known) == len(qualities) else None
    boundary = ewc.detect_task_boundary(embeddings, losses, rng=rng)
    task = ewc.start_new_task(cycle.micro.flat(), cycle.now) if boundary.is_boundary else None
    return boundary, task


def update_fisher(cycle: Cycle, ewc: EwcPlusPlus, teacher: Teacher) -> FisherUpdate:
    """Blend the gradients of the batch at the micro adapter's weights into the running Fisher of `ewc`."""
    examples = 0
    gradients: list[Floats] = []
    for trajectory in cycle.batch:
        signal = teacher.signal(trajectory, cycle.baseline)
        if signal.is_push:
            gradients.append(cycle.micro.flat_gradient(signal.query_embedding, signal.gradient_estimate))
        if len(gradients) == BATCH:
            examples += ewc.update_fisher(np.array(gradients)).examples
            gradients.clear()
    if gradients:
        examples += ewc.update_fisher(np.array(gradients)).examples
    return FisherUpdate(examples > 0, examples, None if examples else "no trajectory had anything to teach")
