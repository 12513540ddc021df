"""What a trajectory teaches the base adapter: a request, where it should have pointed, and how much that counts.

Lessons are added to sums and can be taken out again when the trajectory is amended. So it is kept which trajectories
are in the sums, and with which outcome: what is not in them is never taken out, whatever an amendment names.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, replace
from itertools import accumulate, islice, pairwise
from math import isnan

import numpy as np

from sona.adapters.signal import LearningSignal
from sona.adapters.statistics import RidgeStatistics
from sona.checks import Floats
from sona.config import BackgroundConfig
from sona.errors import StoreError
from sona.state import State
from sona.types import QueryTrajectory

BATCH = 256
"""Trajectories worked on at once, so that a cycle holds little beside what it learns from."""

_REMEMBERED = 10_000  # trajectories remembered as being in the sums, or as many as the bank holds


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A request, where it should have pointed, and how much that counts.

    Args:
        request: Of length 1, shape (d,).
        target: Shape (d,).
        weight: At least 0.
    """

    request: Floats
    target: Floats
    weight: float


@dataclass(frozen=True, slots=True)
class Taught:
    """What a trajectory taught that is in the sums.

    Args:
        outcome: Its quality, then what each step earned; None where nobody said.
        baseline: What the outcome was measured against, in [0, 1].
    """

    outcome: tuple[float | None, ...]
    baseline: float


class TaughtColumns(Mapping[int, Taught]):
    """What trajectories taught, by id and in order, side by side in arrays; never changed.

    >>> known = TaughtColumns({7: Taught((0.5, None), 0.3)})
    >>> known[7], known == {7: Taught((0.5, None), 0.3)}
    (Taught(outcome=(0.5, None), baseline=0.3), True)
    """

    __slots__ = ("_baselines", "_ends", "_ids", "_outcomes")

    def __init__(self, taught: Mapping[int, Taught]) -> None:
        """Take over what is in `taught`."""
        entries = taught.values()
        self._ids = array("q", taught)
        self._baselines = array("d", [entry.baseline for entry in entries])
        self._ends = array("q", accumulate(len(entry.outcome) for entry in entries))
        known = [np.nan if value is None else value for entry in entries for value in entry.outcome]
        self._outcomes = array("d", known)  # never NaN, so NaN stands for None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ids)

    def __iter__(self) -> Iterator[int]:
        """Yield the ids, in order."""
        return iter(self._ids)

    def __getitem__(self, trajectory_id: int) -> Taught:
        """Return what a trajectory taught, or raise KeyError."""
        if trajectory_id not in self._ids:
            raise KeyError(trajectory_id)
        return self._entry(self._ids.index(trajectory_id))

    def _entry(self, row: int) -> Taught:
        values = self._outcomes[self._ends[row - 1] if row else 0 : self._ends[row]]
        return Taught(tuple(None if isnan(value) else value for value in values), self._baselines[row])

    def as_dict(self) -> dict[int, Taught]:
        """Return the same as objects."""
        return {trajectory_id: self._entry(row) for row, trajectory_id in enumerate(self._ids)}

    def items(self) -> ItemsView[int, Taught]:
        """Return ids and what each taught."""
        return self.as_dict().items()

    def values(self) -> ValuesView[Taught]:
        """Return what each taught."""
        return self.as_dict().values()


class Teacher:
    """Turns trajectories into lessons.

    Args:
        config: Settings.
        capacity: Trajectories remembered as being in the sums, at least 10,000; beyond it the oldest is forgotten,
            and an amendment of it takes nothing back.
    """

    def __init__(self, config: BackgroundConfig, capacity: int) -> None:
        """Keep the settings; a teacher has no other state."""
        self._config, self._capacity = config, max(capacity, _REMEMBERED)

    def accumulate(
        self,
        statistics: RidgeStatistics,
        batch: Iterable[QueryTrajectory],
        known: Mapping[int, Taught],
        *,
        baseline: float,
    ) -> TaughtColumns:
        """Add what `batch` teaches to `statistics`, and take out what its amendments taught before.

        Args:
            statistics: The sums; changed.
            batch: New trajectories, in order.
            known: The trajectories in the sums, by id.
            baseline: What a request usually earns now.

        Returns:
            The trajectories in the sums afterwards.
        """
        known = dict(known.items())
        rest = iter(batch)
        while part := list(islice(rest, BATCH)):
            added: list[Lesson] = []
            removed: list[Lesson] = []
            for trajectory in part:
                taught = known.pop(trajectory.id, None)
                if taught is not None:
                    removed += self._lessons(_as_taught(trajectory, taught), taught.baseline)
                added += self._lessons(trajectory, baseline)
                known[trajectory.id] = Taught(outcome_of(trajectory), baseline)
            _move(statistics.add, added)
            _move(statistics.subtract, removed)
        for oldest in list(known)[: max(len(known) - self._capacity, 0)]:
            del known[oldest]
        return TaughtColumns(known)

    def signal(self, trajectory: QueryTrajectory, baseline: float) -> LearningSignal:
        """Return what `trajectory` teaches an adapter that is moved by gradients."""
        return LearningSignal.from_trajectory(
            trajectory,
            baseline=baseline,
            quality_threshold=self._config.quality_threshold,
            temperature=self._config.temperature,
        )

    def _lessons(self, trajectory: QueryTrajectory | None, baseline: float) -> list[Lesson]:
        # None or one. An amended outcome is taken out just as it was taken in, against the baseline of its day.
        if trajectory is None:
            return []
        lesson = self._chosen(trajectory) if _is_choice(trajectory) else self._sequence(trajectory, baseline)
        return [] if lesson is None else [lesson]

    def _chosen(self, trajectory: QueryTrajectory) -> Lesson | None:
        # A list should have pointed to the mean of what it took, by reward.
        rewards = np.array([step.reward or 0.0 for step in trajectory.steps], np.float32)
        rewards[rewards < self._config.quality_threshold] = 0.0
        if not rewards.any():
            return None
        taken = np.array([_direction(step.activations) for step in trajectory.steps], np.float32)
        return Lesson(_direction(trajectory.query_embedding), (rewards / rewards.sum()) @ taken, 1.0)

    def _sequence(self, trajectory: QueryTrajectory, baseline: float) -> Lesson | None:
        # Advantage-weighted regression (Peters and Schaal 2007): the target is where the signal points, from the
        # request on, and the size of the signal is what the lesson counts; so outcomes that have become usual add
        # little, and take nothing back. The part of a signal along the request changes no direction.
        signal = self.signal(trajectory, baseline)
        if not signal.is_push:
            return None
        query, g = _direction(trajectory.query_embedding), signal.gradient_estimate
        heading = _direction(g)
        return Lesson(query, query + heading - (heading @ query) * query, float(np.sqrt(g @ g)))


def outcome_of(trajectory: QueryTrajectory) -> tuple[float | None, ...]:
    """Return the quality of a trajectory and what each step earned; versions of one trajectory differ in it alone."""
    return trajectory.final_quality, *(step.reward for step in trajectory.steps)


def _as_taught(trajectory: QueryTrajectory, taught: Taught) -> QueryTrajectory | None:
    # The version of `trajectory` that is in the sums; none when its steps are not those that were taught.
    named = trajectory.supersedes or trajectory
    if outcome_of(named) == taught.outcome:
        return named
    quality, *rewards = taught.outcome
    if len(rewards) != len(named.steps):
        return None
    steps = tuple(step.with_reward(reward) for step, reward in zip(named.steps, rewards, strict=True))
    return replace(named, steps=steps, final_quality=quality, supersedes=None)


def taught_state(taught: Mapping[int, Taught]) -> State:
    """Return what is in the sums as a state tree, bit for bit and in order."""
    entries = list(taught.values())
    outcomes = [entry.outcome for entry in entries]
    flat = [np.nan if value is None else value for outcome in outcomes for value in outcome]
    return State(
        {
            "ids": np.array(list(taught), np.int64),
            "baselines": np.array([entry.baseline for entry in entries], np.float64),
            "sizes": np.array([len(outcome) for outcome in outcomes], np.int64),
            "outcomes": np.array(flat, np.float64),
        }
    )


def taught_from_state(state: State) -> TaughtColumns:
    """Return what `taught_state` wrote.

    Raises:
        StoreError: the state is incomplete or its parts do not add up.
    """
    ids = state.wholes("ids", None).tolist()
    baselines = state.doubles("baselines", len(ids)).tolist()
    sizes, flat = state.wholes("sizes", len(ids)), state.doubles("outcomes", None)
    if (sizes < 1).any() or int(sizes.sum()) != len(flat) or len(set(ids)) != len(ids):
        raise StoreError("saved state: the trajectories behind the sums do not add up")
    values = [None if isnan(value) else value for value in flat.tolist()]
    ends = np.cumsum([0, *sizes.tolist()]).tolist()
    outcomes = [tuple(values[low:high]) for low, high in pairwise(ends)]
    return TaughtColumns({key: Taught(*pair) for key, *pair in zip(ids, outcomes, baselines, strict=True)})


def _is_choice(trajectory: QueryTrajectory) -> bool:
    # Rewarded alternatives are measured against each other, everything else against a baseline.
    return trajectory.alternatives and any(step.reward is not None for step in trajectory.steps)


def _move(into: Callable[[Floats, Floats, Floats], None], lessons: Sequence[Lesson]) -> None:
    if lessons:
        requests = np.array([lesson.request for lesson in lessons], np.float32)
        targets = np.array([lesson.target for lesson in lessons], np.float32)
        into(requests, targets, np.array([lesson.weight for lesson in lessons], np.float32))


def _direction(x: Floats) -> Floats:
    length = float(np.sqrt(np.dot(x, x)))
    return x if length == 0.0 else x / np.float32(length)
