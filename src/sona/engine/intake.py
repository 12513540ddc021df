"""Requests under way: those that await feedback, those still being recorded, and the ids all of them carry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sona import kernel
from sona.checks import Floats, fraction
from sona.config import SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.choice import Scored
from sona.engine.served import Served, ServedRequests, SharedVectors
from sona.errors import InvalidValue, StoreError, UnknownTrajectory
from sona.state import State
from sona.trajectory import TrajectoryIds
from sona.types import NO_WEIGHTS, Context, QueryTrajectory, TrajectoryStep, make_step

_LEARNED_IDS = 100_000  # submitted ids remembered, so that one submitted again counts once
FOREIGN_ID = 2**62
"""From here on ids name what other engines had learned; none of them is given out."""
_with_reward = kernel.changer(TrajectoryStep, "reward")
_with_outcome = kernel.changer(QueryTrajectory, "steps", "final_quality")
superseding = kernel.changer(QueryTrajectory, "supersedes")
"""The same outcome as an amendment of an earlier one, or of none."""
COUNTS = ("submitted", "feedbacks", "amended", "repeated", "unknown", "expired", "limited")


class Intake:
    """Knows every request between its beginning and its last feedback."""

    def __init__(self, config: SonaConfig) -> None:
        """Start empty."""
        self._config = config
        self.ids = TrajectoryIds()
        self.served = ServedRequests(config.served_capacity, config.feedback_window_s)
        self._shared = SharedVectors()
        self._submitted: dict[int, None] = {}
        self._begun: dict[int, float] = {}  # trajectories begun by hand and not finished, with their time
        self._context: dict[int, tuple[str, ...]] = {}  # what those of them that were given memories were given
        self.counts = dict.fromkeys(COUNTS, 0)

    def steps(self, scored: Scored, candidates: Candidates) -> tuple[TrajectoryStep, ...]:
        """Return what was shown as steps, best first."""
        return tuple(self._step(candidates.ids[row], candidates.vectors[row]) for row in scored.rows.tolist())

    def _step(self, item: str, row: Floats) -> TrajectoryStep:
        # Candidates are checked already: each a text and a finite vector.
        return make_step(self._shared.share(item, row), NO_WEIGHTS, None, 0.0, item)

    def hold(self, served: Served) -> None:
        """Let a request that was just answered await feedback."""
        self.ids.advance(served.trajectory.id)
        self.served.add(served)

    def find(self, trajectory_id: int, now: float) -> Served:
        """Return a request that may be given feedback; counts nothing.

        Raises:
            UnknownTrajectory: there is none with this id.
        """
        served = self.served.get(trajectory_id)
        if served is None or now - served.served_at >= self._config.feedback_window_s:
            raise UnknownTrajectory(
                f"trajectory {trajectory_id} does not await feedback here: never issued, or older than the "
                f"{self._config.feedback_window_s:g} s or {self._config.served_capacity} requests that are held"
            )
        return served

    def begin(self, trajectory_id: int, now: float, context_ids: tuple[str, ...] = ()) -> None:
        """Note that a trajectory was begun by hand, with these memories as context."""
        self.ids.advance(trajectory_id)
        self._begun[trajectory_id] = now
        if context_ids:
            self._context[trajectory_id] = context_ids
        if len(self._begun) > self._config.served_capacity:
            self.drop(next(iter(self._begun)), is_expired=True)

    def drop(self, trajectory_id: int, *, is_expired: bool) -> None:
        """Note that one begun by hand was finished or given up; one that expired is counted."""
        if self._begun.pop(trajectory_id, None) is not None:
            self._context.pop(trajectory_id, None)
            self.counts["expired"] += is_expired

    @property
    def needed(self) -> frozenset[str]:
        """Ids of what was shown to requests that await feedback, and of what open trajectories were given."""
        given = (item for items in self._context.values() for item in items)
        return frozenset({*self.served.awaited, *given})

    @property
    def begun(self) -> tuple[int, ...]:
        """Ids of trajectories begun by hand and not finished, oldest first."""
        return tuple(self._begun)

    def submit(self, trajectory_id: int) -> bool:
        """Return True the first time an id is submitted, False when it was learned from before, or by feedback."""
        self.drop(trajectory_id, is_expired=False)
        submitted, served = self._submitted, self.served.get(trajectory_id)
        if trajectory_id in submitted or (served is not None and served.outcome is not None):
            return False
        submitted[trajectory_id] = None
        if len(submitted) > _LEARNED_IDS:
            del submitted[next(iter(submitted))]
        if trajectory_id < FOREIGN_ID:
            self.ids.advance(trajectory_id)
        return True

    def is_submitted(self, trajectory_id: int) -> bool:
        """Return True when a trajectory with this id was submitted and learned from."""
        return trajectory_id in self._submitted

    def is_waiting_too_long(self, now: float) -> bool:
        """Return True when `expire` would let something go."""
        begun = next(iter(self._begun.values()), now)
        return self.served.is_waiting_too_long(now) or now - begun > self._config.trajectory_ttl_s

    def expire(self, now: float) -> None:
        """Give up what waited too long, and count it."""
        late = [key for key, begun in self._begun.items() if now - begun > self._config.trajectory_ttl_s]
        for trajectory_id in late:
            self.drop(trajectory_id, is_expired=True)
        self.served.expire(now)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "ids": self.ids.state(),
                "served": self.served.state(),
                "submitted": np.array(list(self._submitted), np.int64),
                "begun": np.array(list(self._begun), np.int64),
                "begun_at": np.array(list(self._begun.values()), np.float64),
                "contexts": [list(self._context.get(trajectory_id, ())) for trajectory_id in self._begun],
                "counts": dict(self.counts),
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
        begun = state.wholes("begun", None).tolist()
        intake._begun = dict(zip(begun, state.doubles("begun_at", len(begun)).tolist(), strict=True))
        contexts = state.listing("contexts")
        for trajectory_id, context in zip(begun, contexts, strict=True):
            if isinstance(context, list) and context:
                intake._context[trajectory_id] = tuple(str(item) for item in context)
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
    return None if unchanged else superseding(outcome, earlier)


def require_shown(trajectory: QueryTrajectory, rewards: Mapping[str, float]) -> None:
    """Raise InvalidValue when a reward is for something that was not shown."""
    unknown = set(rewards) - {step.ref for step in trajectory.steps}
    if unknown:
        raise InvalidValue(f"rewards: {sorted(map(str, unknown))} were not shown in trajectory {trajectory.id}")


def _rewarded(
    trajectory: QueryTrajectory, rewards: Mapping[str, float] | None, quality: float | None
) -> QueryTrajectory:
    if rewards is None:
        return _with_outcome(trajectory, trajectory.steps, _fraction_or_none(quality, "final_quality"))
    require_shown(trajectory, rewards)
    steps = tuple(_with_reward(step, fraction(rewards.get(step.ref or "", 0.0), "reward")) for step in trajectory.steps)
    return _with_outcome(trajectory, steps, _fraction_or_none(quality, "final_quality"))


def _fraction_or_none(value: float | None, what: str) -> float | None:
    return None if value is None else fraction(value, what)
