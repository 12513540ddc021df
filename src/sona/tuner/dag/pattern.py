"""Plans that are alike, and what executions of them say about settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from sona.checks import whole
from sona.errors import InvalidValue
from sona.tuner.dag.outcomes import Outcome, TriedSettings, best_of, choice_of, tried_settings
from sona.tuner.dag.shift import ShiftTest, shift_test
from sona.tuner.dag.trajectories import DagTrajectory
from sona.tuner.execution import ExecutionParams
from sona.types import LearnedPattern

_LEAST_RECENT = 4


@dataclass(frozen=True, slots=True, eq=False)
class DagPattern:
    """A cluster of plans with what worked for them; never changed, only replaced.

    Its confidence is that in what it recommends: (1 - sd of quality) (1 - 1 / (n + 1)) over the n kept executions that
    ran so. Executions with other settings, tried to learn, do not lower it.

    Args:
        learned: The cluster: its id, mean plan embedding, and how many executions it has counted, ever.
        outcomes: The executions kept, oldest first.
        untested: How many of the newest no test of a shift has looked at.
        shift_count: How often it was found to have changed.

    Raises:
        InvalidValue: more untested than there are.
    """

    learned: LearnedPattern
    outcomes: tuple[Outcome, ...]
    untested: int = 0
    shift_count: int = 0
    _memo: list[tuple[TriedSettings, ...]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        whole(self.untested, "untested", 0, len(self.outcomes))
        whole(self.shift_count, "shift_count", 0)

    @property
    def tried(self) -> tuple[TriedSettings, ...]:
        """What became of every choice of settings, the surest gain first; worked out once, when first asked for."""
        if not self._memo:
            self._memo.append(tried_settings(self.outcomes))  # two threads may both do so, and get the same
        return self._memo[0]

    @property
    def best(self) -> TriedSettings | None:
        """The choice that gains most for sure, or the server's own; None when no execution is kept."""
        return best_of(self.tried)

    @classmethod
    def of(cls, pattern_id: int, trajectories: Sequence[DagTrajectory], outcomes: Sequence[Outcome]) -> Self:
        """Return the pattern of executions, in order; they are what later ones are compared with.

        Raises:
            InvalidValue: no executions, or another number of outcomes.
        """
        if not trajectories or len(trajectories) != len(outcomes):
            raise InvalidValue(f"outcomes: expected {max(len(trajectories), 1)}, got {len(outcomes)}")
        times = [one.timestamp for one in trajectories]
        vectors = np.stack([one.plan_embedding for one in trajectories])
        learned = LearnedPattern(
            id=pattern_id,
            centroid=np.asarray(vectors.mean(axis=0, dtype=np.float64), np.float32),
            cluster_size=len(trajectories),
            total_weight=float(len(trajectories)),
            avg_quality=min(math.fsum(one.quality for one in outcomes) / len(outcomes), 1.0),
            created_at=min(times),
            last_accessed=max(times),
        )
        return cls(learned, tuple(outcomes))

    @property
    def id(self) -> int:
        """Id, unique within its bank, never reused."""
        return self.learned.id

    @property
    def params(self) -> ExecutionParams:
        """What it recommends; empty for the server's own choice."""
        best = self.best
        return ExecutionParams() if best is None else best.params

    @property
    def confidence(self) -> float:
        """How sure it is of what it recommends, in [0, 1); 0 when none of its executions is kept."""
        best = self.best
        return 0.0 if best is None else best.confidence

    def agrees_with(self, params: ExecutionParams) -> bool:
        """Return True when an execution with `params` ran as the pattern recommends, but for its numbers."""
        return self.best is not None and choice_of(params) == choice_of(self.params)

    def merge(self, other: DagPattern) -> DagPattern:
        """Return both as one under this id: sizes and counts add up, outcomes stand in the order of time."""
        return self.absorbed(self.learned.merge(other.learned), [other])

    def absorbed(self, learned: LearnedPattern, others: Sequence[DagPattern]) -> DagPattern:
        """Return it with the outcomes of `others`, as the cluster `learned`; each stays tested or untested."""
        both = [pair for one in (self, *others) for pair in one._marked()]
        both.sort(key=lambda pair: pair[0].timestamp)  # stable: what came first stays first
        first = next((row for row, (_, is_new) in enumerate(both) if is_new), len(both))
        shifts = self.shift_count + sum(one.shift_count for one in others)
        return DagPattern(learned, tuple(outcome for outcome, _ in both), len(both) - first, shifts)

    def _marked(self) -> list[tuple[Outcome, bool]]:
        split = len(self.outcomes) - self.untested
        return [(one, row >= split) for row, one in enumerate(self.outcomes)]

    def joined(self, newer: DagPattern) -> DagPattern:
        """Return it with the executions of `newer` counted, none of them tested yet."""
        untested = self.untested + len(newer.outcomes)
        return DagPattern(
            self.learned.merge(newer.learned), (*self.outcomes, *newer.outcomes), untested, self.shift_count
        )

    def trimmed(self, keep: int) -> DagPattern:
        """Return it with its `keep` newest outcomes; the older half of them is history, tested or not."""
        kept = self.outcomes[-keep:]
        fewer = replace(self, outcomes=kept, untested=min(self.untested, len(kept) // 2))
        return self._with(fewer) if len(kept) == len(self.outcomes) else fewer

    def _with(self, other: DagPattern) -> DagPattern:
        # Another pattern of the same outcomes: what was worked out of them holds.
        other._memo.extend(self._memo)
        return other

    def with_hits(self, hits: int, now: float) -> DagPattern:
        """Return it with `hits` more queries that ran as it says, the last at `now` (seconds)."""
        latest = max(self.learned.last_accessed, now)
        learned = replace(self.learned, access_count=self.learned.access_count + hits, last_accessed=latest)
        return self._with(replace(self, learned=learned))

    def test_shift(self, limit: float, history: int) -> ShiftTest | None:
        """Return whether the newest executions went otherwise than those before; None while there are too few.

        Those compared ran with one choice: the one that the executions tested before speak for. The newest, a tenth
        of `history`, are compared with all that were tested before, of which there have to be twice as many.
        """
        split = len(self.outcomes) - self.untested
        known = best_of(tried_settings(self.outcomes[:split]))
        if known is None:
            return None
        choice = choice_of(known.params)
        past, newest = (
            [one.quality for one in part if choice_of(one.params) == choice]
            for part in (self.outcomes[:split], self.outcomes[split:])
        )
        count = max(_LEAST_RECENT, history // 10)
        if len(newest) < count or len(past) < 2 * count:
            return None
        return shift_test(past, newest[-count:], limit)

    def tested(self, test: ShiftTest) -> DagPattern:
        """Return it after a test: one that has changed forgets what went before, and what it knew when it fell."""
        if not test.is_shift:
            return self._with(replace(self, untested=0))
        kept = () if test.is_fall else self.outcomes[len(self.outcomes) - self.untested :]
        return replace(self, outcomes=kept, untested=0, shift_count=self.shift_count + 1)
