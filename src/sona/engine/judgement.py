"""Judgement: what testifies for or against what was learned, and what is done about it."""

from __future__ import annotations

from collections import deque

from sona.checks import Floats
from sona.config import GuardConfig
from sona.engine.learner import Learner
from sona.engine.served import Served
from sona.engine.versions import Versions
from sona.guard.comparison import Testimony
from sona.guard.guard import Guard, Observation
from sona.guard.quality import list_quality
from sona.guard.rehearsal import Rehearsal
from sona.loops.background import BackgroundChange, BackgroundResult
from sona.state import State
from sona.stores.store import blob_digest
from sona.trajectory import trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory

_HELD_OUT = 500  # lists that are never learned from, kept to judge what Loop B proposes


class Judgement:
    """Compares learned answers with frozen ones, and lets versions come into force and go."""

    def __init__(self, guard: Guard, alpha: float) -> None:
        """Start with nothing learned, at level `alpha`."""
        self.guard, self.versions, self._alpha = guard, Versions(), alpha
        self._held_out: deque[QueryTrajectory] = deque(maxlen=_HELD_OUT)

    def hold_out(self, outcome: QueryTrajectory) -> None:
        """Keep a list that is never learned from."""
        self._held_out.append(outcome)

    @property
    def needed(self) -> frozenset[str]:
        """Ids of what the lists show that are never learned from."""
        return frozenset(step.ref for trajectory in self._held_out for step in trajectory.steps if step.ref is not None)

    def hear(
        self, served: Served, outcome: QueryTrajectory, unit: str, learner: Learner | None, at: float
    ) -> Testimony | None:
        """Let an outcome testify, and go back to a sound version when what is in force was found harmful.

        Args:
            served: The request as it was held.
            outcome: With its outcome.
            unit: What was assigned to an arm.
            learner: What has learned.
            at: Seconds.

        Returns:
            What to hand in again when the outcome is amended.
        """
        serving = served.serving
        rewards = [step.reward or 0.0 for step in outcome.steps]
        quality, common = list_quality(rewards, serving.common)
        prefix = serving.common
        if outcome.final_quality is not None:
            quality, common, prefix = outcome.final_quality, 0.0, 0
        observation = Observation(
            unit=unit,
            arm=serving.arm,
            exposure=serving.exposure,
            is_compared=serving.is_compared,
            is_identical=serving.is_identical,
            quality=quality,
            common=common,
            at=at,
            pattern_id=_pattern_of(learner, outcome) if serving.is_compared else None,
            latency_us=served.trajectory.latency_us,
            learning_us=serving.learning_us,
            version=serving.version,
            prefix=prefix,
        )
        told = self.guard.observe(observation, served.testimony)
        if told.is_worse:
            self._retreat(learner, at, told.reason)
        return told.testimony

    def rehearse(self, learner: Learner, change: BackgroundChange) -> Rehearsal:
        """Return how a cycle's change does on what was held out; nothing changes."""
        return learner.rehearse(change, tuple(self._held_out), self._alpha)

    def commit(
        self, learner: Learner, change: BackgroundChange, rehearsal: Rehearsal, *, at: float, seq: int
    ) -> BackgroundResult:
        """Put a cycle's change in force as a new version, or reject it when it does worse on what was held out."""
        if rehearsal.is_worse:
            learner.loops.reject(change, now=at)
            self.guard.rejected(change.result.version)
            self.versions.decide(at, "rejected", change.result.version, rehearsal.reason)
            reason = f"rejected: {rehearsal.reason}"
            return BackgroundResult(self.versions.in_force, change.result.trajectories, reason)
        result = learner.loops.commit(change, now=at)
        self.versions.add(learner, result, at=at, seq=seq)
        self.guard.began_version(result.version)
        return result

    def roll_back(self, learner: Learner | None, version: int, *, at: float, reason: str) -> None:
        """Put an earlier version in force because somebody says so.

        Raises:
            InvalidValue: there is none, or its state is not kept any more.
        """
        self._go_back(learner, version)
        self.versions.decide(at, "rolled back", version, reason)

    def begin_anew(self) -> None:
        """Let go of what was said about vectors of another embedder: no earlier version can be gone back to."""
        self._held_out.clear()
        self.versions.begin_anew()
        self.guard.began_version(0)

    def _retreat(self, learner: Learner | None, at: float, reason: str) -> None:
        # What is in force does harm: back to the last version that was not found to, at worst to the untrained one.
        worse = self.versions.in_force
        self.guard.condemn(worse)
        version = self.versions.sound_before(worse, self.guard.is_bad)
        self._go_back(learner, version)
        self.versions.decide(at, "rolled back", version, f"version {worse} was found worse than frozen: {reason}")

    def _go_back(self, learner: Learner | None, version: int) -> None:
        self.versions.go_back(learner, version)
        self.guard.began_version(version)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "guard": self.guard.state(),
                "versions": self.versions.state(),
                "held_out": trajectories_state(list(self._held_out)),
            }
        )

    @classmethod
    def from_state(cls, state: State, config: GuardConfig) -> Judgement:
        """Return the judgement that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        judgement = cls(Guard.from_state(state.child("guard"), config), config.alpha)
        judgement.versions = Versions.from_state(state.child("versions"))
        judgement._held_out.extend(trajectories_from_state(state.child("held_out")))
        return judgement


def _pattern_of(learner: Learner | None, outcome: QueryTrajectory) -> int | None:
    if learner is None or not learner.bank.pattern_count:
        return None
    return learner.bank.search(outcome.query_embedding, 1)[0].pattern.id


def unit_of(subject: str | None, text: str | None, request: Floats) -> str:
    """Return what is assigned to an arm: who asks, else what is asked."""
    if subject is not None:
        return f"subject {subject}"
    return f"vector {blob_digest(request.tobytes()).hex()}" if text is None else f"text {text}"
