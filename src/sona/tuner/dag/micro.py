"""A low-rank correction of the embedding a plan is looked up by: plans that like the same settings come nearer.

Every execution with a gain says which of the patterns nearby would have recommended what it ran with. The corrected
plan is moved towards those and away from the others. What it learned of plans that are asked no longer is kept by
EWC++: when the stream of plans changes, what the adapter is by then becomes a task that is protected.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt

from sona.adapters import LearningSignal, MicroLoRA
from sona.checks import Floats, fraction, vector
from sona.config import EwcConfig
from sona.config.tuner import DagConfig
from sona.errors import LearningError, StoreError
from sona.retention.boundary import BoundaryResult
from sona.retention.ewc import EwcPlusPlus
from sona.retention.results import FisherUpdate, TaskChange
from sona.state import State
from sona.types import QueryTrajectory, TrajectoryStep


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A pattern near a plan.

    Args:
        centroid: Its mean plan, shape (d,).
        is_liked: It recommends what the plan ran with.
    """

    centroid: Floats
    is_liked: bool


@dataclass(frozen=True, slots=True)
class EwcUpdate:
    """What a cycle did to the protection of the adapter.

    Args:
        fisher: What was blended into the running Fisher; None when nothing was tried.
        boundary: Whether the stream of plans has changed.
        task: The task that was protected because of it.
        skipped_reason: Why nothing was done; None when something was.
    """

    fisher: FisherUpdate | None = None
    boundary: BoundaryResult | None = None
    task: TaskChange | None = None
    skipped_reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What one execution teaches the adapter, and how it went: for the cycle."""

    embedding: Floats
    quality: float
    signal: LearningSignal | None = None


class DagMicroLoRA:
    """The adapter of plan embeddings and its protection; a new one returns what it is given, bit for bit.

    >>> adapter = DagMicroLoRA(DagConfig(hidden_dim=16))
    >>> plan = np.eye(16, dtype=np.float32)[0]
    >>> bool((adapter.forward(plan) == plan).all())
    True
    """

    __slots__ = ("_config", "_ewc", "_micro")

    def __init__(self, config: DagConfig | None = None) -> None:
        """Make an adapter that changes nothing yet."""
        self._config = config or DagConfig()
        self._micro = MicroLoRA(self._config.hidden_dim, self._config.micro_rank, seed=self._config.seed)
        rate = self._config.micro_learning_rate
        self._ewc = EwcPlusPlus(EwcConfig(param_count=self._micro.param_count, learning_rate=rate))

    def copy(self) -> DagMicroLoRA:
        """Return an adapter equal to this one; a later step of either leaves the other as it was."""
        twin = copy.copy(self)
        twin._micro = MicroLoRA.from_state(self._micro.state())
        return twin

    @property
    def micro(self) -> MicroLoRA:
        """The adapter itself."""
        return self._micro

    @property
    def ewc(self) -> EwcPlusPlus:
        """What protects it."""
        return self._ewc

    def forward(self, embedding: npt.ArrayLike) -> Floats:
        """Return the embedding, shape (d,), as it is looked up.

        Raises:
            DimensionMismatch: it is of another width.
            InvalidValue: NaN or infinity.
        """
        return self._micro.forward(embedding)

    def lesson(self, embedding: npt.ArrayLike, neighbours: Sequence[Neighbour], gain: float) -> LearningSignal:
        """Return what an execution teaches: towards the neighbours that recommend what it ran with.

        Nothing when it gained nothing, or when all of the neighbours recommend that or none of them.

        Args:
            embedding: The plan, shape (d,).
            neighbours: The patterns nearest to it as it is looked up.
            gain: What the settings gained over the server's own choice, in [-1, 1]; at most 0 teaches nothing.

        Source:
            The softmax form of `LearningSignal.from_trajectory`, the neighbours as its alternatives.
        """
        plan = vector(embedding, self._config.hidden_dim, "embedding")
        reward = fraction(max(gain, 0.0), "gain")
        mixed = 0 < sum(one.is_liked for one in neighbours) < len(neighbours)
        steps = [TrajectoryStep(one.centroid, reward=reward if one.is_liked else 0.0) for one in neighbours]
        asked = QueryTrajectory(0, plan, tuple(steps) if mixed else (), alternatives=True)
        return LearningSignal.from_trajectory(asked, quality_threshold=0.0, adapted=self.forward(plan))

    def learn(self, signal: LearningSignal) -> bool:
        """Move the adapter by one step under the protection; False when there was nothing to learn, or it diverged."""
        constrain = None
        if self._ewc.task_count:
            constrain = partial(self._ewc.apply_constraints, learning_rate=self._config.micro_learning_rate)
        try:
            if not self._micro.accumulate_gradient(signal):
                return False
            return self._micro.apply_accumulated(self._config.micro_learning_rate, constrain) > 0
        except LearningError:
            self._micro.discard_accumulated()
            return False

    def protection_after(
        self, lessons: Sequence[Lesson], *, now: float, rng: np.random.Generator
    ) -> tuple[EwcPlusPlus, EwcUpdate]:
        """Return the protection as a cycle leaves it, and what the cycle did; nothing here changes.

        Args:
            lessons: The executions since the last cycle, in order.
            now: Seconds.
            rng: Source of chance of the boundary test.
        """
        if not lessons:
            return self._ewc, EwcUpdate(skipped_reason="no new executions")
        after = EwcPlusPlus.from_state(self._ewc.state())
        embeddings = np.stack([one.embedding for one in lessons])
        boundary = after.detect_task_boundary(embeddings, [1.0 - one.quality for one in lessons], rng=rng)
        task = after.start_new_task(self._micro.flat(), now) if boundary.is_boundary else None
        return after, EwcUpdate(self._blended(after, lessons), boundary, task)

    def _blended(self, ewc: EwcPlusPlus, lessons: Sequence[Lesson]) -> FisherUpdate:
        signals = [one.signal for one in lessons if one.signal is not None and one.signal.is_push]
        if not signals:
            return FisherUpdate(False, 0, "no execution had anything to teach")
        pairs = [(one.query_embedding, one.gradient_estimate) for one in signals]
        return ewc.update_fisher(np.array([self._micro.flat_gradient(*pair) for pair in pairs]))

    def protect(self, ewc: EwcPlusPlus) -> None:
        """Put a protection in force that `protection_after` returned."""
        self._ewc = ewc

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        return State({"micro": self._micro.state(), "ewc": self._ewc.state()})

    @classmethod
    def from_state(cls, state: State, config: DagConfig | None = None) -> Self:
        """Return the adapter that `state` was taken from.

        Raises:
            StoreError: the state is damaged, or of another width or rank.
        """
        adapter = cls(config)
        micro, ewc = MicroLoRA.from_state(state.child("micro")), EwcPlusPlus.from_state(state.child("ewc"))
        expected = adapter._micro
        if (micro.hidden_dim, micro.rank, ewc.param_count) != (
            expected.hidden_dim,
            expected.rank,
            expected.param_count,
        ):
            raise StoreError("saved state: the adapter of plans is of another width or rank")
        adapter._micro, adapter._ewc = micro, ewc
        return adapter
