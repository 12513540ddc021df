"""Requests under way: those that await feedback, those still being recorded, and the ids all of them carry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sona.checks import Floats
from sona.config import SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.learner import Scored
from sona.engine.served import Served, ServedRequests, SharedVectors
from sona.errors import InvalidValue, StoreError, UnknownTrajectory
from sona.memory.calibrate import ShownList
from sona.state import State
from sona.trajectory import OpenTrajectories, TrajectoryIds
from sona.types import Context, QueryTrajectory, TrajectoryStep

_LEARNED_IDS = 100_000  # submitted ids remembered, so that one submitted again counts once
COUNTS = ("submitted", "feedbacks", "amended", "repeated", "unknown", "expired")


class Intake:
    """Knows every request between its beginning and its last feedback."""

    def __init__(self, config: SonaConfig) -> None:
        """Start empty."""
        self._config = config
        self.ids = TrajectoryIds()
        self.open = OpenTrajectories(config.trajectory_ttl_s, config.served_capacity)
        self.served = ServedRequests(config.served_capacity, config.feedback_window_s)
        self._shared = SharedVectors()
        self._submitted: dict[int, None] = {}
        self.counts = dict.fromkeys(COUNTS, 0)

    def serve(
        self,
        request: Floats,
        answer: tuple[Scored, Candidates] | None,
        *,
        who: Context,
        text: str | None,
        now: float,
        began: float,
    ) -> QueryTrajectory:
        """Return the trajectory of a request that was just answered, now awaiting feedback.

        Args:
            request: Shape (d,).
            answer: What was shown and out of what; None when there was nothing to show.
            who: Who asked.
            text: The request in words, if it had any.
            now: Seconds.
            began: When the request began, seconds of `time.perf_counter`.
        """
        steps: tuple[TrajectoryStep, ...] = ()
        shown: ShownList | None = None
        if answer is not None:
            scored, candidates = answer
            shown = scored.shown
            steps = tuple(self._step(candidates, row) for row in scored.rows.tolist())
        kept = np.array(request, np.float32)
        kept.flags.writeable = False
        trajectory = QueryTrajectory(
            self.ids.next(),
            kept,
            steps,
            latency_us=(time.perf_counter() - began) * 1e6,
            alternatives=True,
            subject=who.user_id,
        )
        self.served.add(Served(trajectory, shown, text, now))
        return trajectory

    def _step(self, candidates: Candidates, row: int) -> TrajectoryStep:
        # Candidates are checked already: each a text and a finite vector.
        item = candidates.ids[row]
        return TrajectoryStep._checked(self._shared.share(item, candidates.vectors[row]), None, None, 0.0, item)

    def held(self, trajectory_id: int) -> Served:
        """Return a request that may be given feedback.

        Raises:
            UnknownTrajectory: there is none with this id; counted.
        """
        served = self.served.get(trajectory_id)
        if served is None:
            self.counts["unknown"] += 1
            raise UnknownTrajectory(
                f"trajectory {trajectory_id} does not await feedback here: never issued, or older than the "
                f"{self._config.feedback_window_s:g} s or {self._config.served_capacity} requests that are held"
            )
        return served

    def submit(self, trajectory_id: int) -> bool:
        """Return True the first time an id is submitted, False when it was learned from before, or by feedback."""
        served = self.served.get(trajectory_id)
        if trajectory_id in self._submitted or (served is not None and served.outcome is not None):
            return False
        self._submitted[trajectory_id] = None
        if len(self._submitted) > _LEARNED_IDS:
            del self._submitted[next(iter(self._submitted))]
        self.ids.advance(trajectory_id)
        return True

    def is_submitted(self, trajectory_id: int) -> bool:
        """Return True when a trajectory with this id was submitted and learned from."""
        return trajectory_id in self._submitted

    def expire(self, now: float) -> None:
        """Give up what waited too long, and count it."""
        self.open.expire(now)
        self.served.expire(now)

    def state(self) -> State:
        """Return everything but unfinished trajectories, which end with the process and are counted as expired."""
        expired = self.counts["expired"] + self.open.expired_count + len(self.open)
        return State(
            {
                "ids": self.ids.state(),
                "served": self.served.state(),
                "submitted": np.array(list(self._submitted), np.int64),
                "counts": {**self.counts, "expired": expired},
            }
        )

    @classmethod
    def from_state(cls, state: State, config: SonaConfig) -> Intake:
        """Return the intake that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        intake = cls(config)
        intake.ids = TrajectoryIds.from_state(state.child("ids"))
        intake.served = ServedRequests.from_state(
            state.child("served"), config.served_capacity, config.feedback_window_s
        )
        intake._submitted = dict.fromkeys(state.wholes("submitted", None).tolist())
        counts = state.mapping("counts")
        for name in COUNTS:
            count = counts.get(name)
            if not isinstance(count, int):
                raise StoreError(f"saved state: counts/{name} is missing")
            intake.counts[name] = count
        return intake


def asker(context: Context | None) -> Context:
    """Return who asks; nobody in particular when `context` is None.

    Raises:
        InvalidValue: not a Context.
    """
    if context is not None and not isinstance(context, Context):
        raise InvalidValue(f"context: expected a Context, got {type(context).__name__}")
    return context or Context()


def amended(served: Served, rewards: Mapping[str, float] | None, quality: float | None) -> QueryTrajectory | None:
    """Return the outcome that this feedback makes of a served request; None when it says nothing new.

    Rewards given earlier stay unless they are named again; shown and never named earned 0.

    Raises:
        InvalidValue: a reward for something that was not shown, or outside [0, 1].
    """
    earlier = served.outcome
    if earlier is None:
        return _rewarded(served.trajectory, rewards, quality)
    known = {step.ref or "": step.reward for step in earlier.steps if step.reward is not None}
    merged = {**known, **(rewards or {})} if known or rewards is not None else None
    outcome = _rewarded(served.trajectory, merged, earlier.final_quality if quality is None else quality)
    unchanged = outcome.final_quality == earlier.final_quality and [step.reward for step in outcome.steps] == [
        step.reward for step in earlier.steps
    ]
    return None if unchanged else replace(outcome, supersedes=earlier)


def _rewarded(
    trajectory: QueryTrajectory, rewards: Mapping[str, float] | None, quality: float | None
) -> QueryTrajectory:
    if rewards is None:
        return replace(trajectory, final_quality=quality)
    unknown = set(rewards) - {step.ref for step in trajectory.steps}
    if unknown:
        raise InvalidValue(f"rewards: {sorted(map(str, unknown))} were not shown in trajectory {trajectory.id}")
    steps = tuple(step.with_reward(rewards.get(step.ref or "", 0.0)) for step in trajectory.steps)
    return replace(trajectory, steps=steps, final_quality=quality)
