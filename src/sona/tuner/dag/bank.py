"""The reasoning bank of plans: which are alike, and which settings worked for them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, finite, vector, whole
from sona.config.tuner import DagConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.patterns.agglomerate import agglomerate
from sona.patterns.catalog import PatternRecord, Tally
from sona.patterns.search import VectorIndex
from sona.state import State
from sona.tuner.dag.gather import clusters, nearest_known
from sona.tuner.dag.outcomes import Outcome, TriedSettings
from sona.tuner.dag.pattern import DagPattern
from sona.tuner.dag.saved import patterns_from_state, patterns_state
from sona.tuner.dag.shift import PatternShift
from sona.tuner.dag.trajectories import DagTrajectory
from sona.tuner.execution import ExecutionParams
from sona.types import LearnedPattern

Judge = Callable[[DagTrajectory], Outcome]
"""What says how well an execution went."""


@dataclass(frozen=True, slots=True)
class SimilarPattern:
    """A pattern found for a plan, and what worked there.

    Args:
        pattern_id: Its id.
        similarity: Cosine of the plan to its centroid.
        confidence: How sure it is of what it recommends, in [0, 1).
        params: What it recommends; empty for the server's own choice.
        executions: Executions it has counted, ever.
        tried: What became of every choice of settings that was tried there, the surest gain first.
    """

    pattern_id: int
    similarity: float
    confidence: float
    params: ExecutionParams
    executions: int
    tried: tuple[TriedSettings, ...]


@dataclass(frozen=True, slots=True)
class BankLearning:
    """What counting executions did to the bank.

    Args:
        joined: Executions counted into a pattern that was known.
        made: Ids of new patterns.
        shifts: Patterns that have changed.
        evicted: Ids of patterns that had to go, the least certain.
    """

    joined: int = 0
    made: tuple[int, ...] = ()
    shifts: tuple[PatternShift, ...] = ()
    evicted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Published:
    # A whole set of patterns with its index; readers hold one reference.
    patterns: tuple[DagPattern, ...] = ()  # by id
    index: VectorIndex = field(default_factory=lambda: VectorIndex(np.zeros((0, 0), np.float32)))
    row_of: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, patterns: Iterable[DagPattern]) -> Self:
        ordered = tuple(sorted(patterns, key=lambda one: one.id))
        if not ordered:
            return cls()
        index = VectorIndex(np.stack([one.learned.centroid for one in ordered]))
        return cls(ordered, index, {one.id: row for row, one in enumerate(ordered)})


class DagReasoningBank:
    """Patterns of plans, at most `capacity`; the least certain goes first.

    One thread changes it; any may read meanwhile, as a change publishes another set of patterns whole. A search costs
    one product with the patterns' matrix.

    >>> from sona.tuner.execution import ExecutionMetrics
    >>> bank = DagReasoningBank(DagConfig(hidden_dim=16))
    >>> runs = [DagTrajectory(n, np.eye(16)[0], ExecutionMetrics(latency_us=900.0)) for n in range(4)]
    >>> learned = bank.learn(runs, lambda run: Outcome(run.params, 0.9), rng=np.random.default_rng(0))
    >>> [(one.pattern_id, one.executions, round(one.confidence, 6)) for one in bank.find_similar(np.eye(16)[0], 1)]
    [(0, 4, 0.8)]
    """

    __slots__ = ("_config", "_next_id", "_published", "_survivors")

    def __init__(self, config: DagConfig | None = None) -> None:
        """Start empty."""
        self._config = config or DagConfig()
        self._next_id = 0
        self._survivors: dict[int, int] = {}  # merged pattern -> the one that took it in
        self._published = _Published()

    def copy(self) -> DagReasoningBank:
        """Return a bank equal to this one; a later change of either leaves the other as it was."""
        twin = copy.copy(self)
        twin._survivors = dict(self._survivors)
        return twin

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self._published.patterns)

    @property
    def patterns(self) -> tuple[DagPattern, ...]:
        """The patterns, oldest id first."""
        return self._published.patterns

    @property
    def next_id(self) -> int:
        """The id that the next new pattern gets; none is used again."""
        return self._next_id

    def get(self, pattern_id: int) -> DagPattern | None:
        """Return a pattern, or the one it was merged into; None when it is unknown or was evicted."""
        published = self._published
        row = published.row_of.get(self._survivors.get(pattern_id, pattern_id))
        return None if row is None else published.patterns[row]

    def find_similar(self, embedding: npt.ArrayLike, k: int = 5) -> tuple[SimilarPattern, ...]:
        """Return the `k` patterns whose centroids are most similar to `embedding`, best first; nothing is changed.

        Args:
            embedding: A plan, shape (d,).
            k: Patterns wanted, at least 1.

        Raises:
            DimensionMismatch: `embedding` is not of the width of the settings.
            InvalidValue: NaN or infinity, or `k` below 1.
        """
        published, asked = self._published, vector(embedding, self._config.hidden_dim, "embedding")
        found = published.index.search(asked, whole(k, "k", 1))
        return tuple(
            _similar(published.patterns[row], min(max(similarity, -1.0), 1.0))
            for row, similarity in zip(found.rows.tolist(), found.similarities.tolist(), strict=True)
        )

    def store(self, pattern: DagPattern) -> tuple[int, ...]:
        """Keep `pattern` in place of one of its id, and return the ids that had to go for it, the least certain first.

        Raises:
            DimensionMismatch: its centroid is not of the width of the settings.
        """
        width = len(pattern.learned.centroid)
        if width != self._config.hidden_dim:
            raise DimensionMismatch(self._config.hidden_dim, width, "centroid")
        self._next_id = max(self._next_id, pattern.id + 1)
        return self._publish({**self._by_id(), pattern.id: pattern.trimmed(self._config.shift_history)})

    def learn(self, trajectories: Sequence[DagTrajectory], judge: Judge, *, rng: np.random.Generator) -> BankLearning:
        """Count executions, in order, into the patterns they belong to, and make new ones of the rest.

        A plan belongs to the pattern nearest to it when that is `consolidation_similarity` alike.

        Args:
            trajectories: Executions, none of them counted before.
            judge: How well each went.
            rng: Source of chance.

        Raises:
            DimensionMismatch: a plan of another width than the settings say; nothing was changed.
            InvalidValue: `judge` gave no quality; nothing was changed.
        """
        if not trajectories:
            return BankLearning()
        vectors = self._vectors(trajectories)
        outcomes = [judge(one) for one in trajectories]
        similarity, before = self._config.consolidation_similarity, self._published
        owners = nearest_known(vectors, before.index.unit, similarity)
        patterns, shifts = self._by_id(), []
        for owner, rows in _rows_by_owner(owners).items():
            newer = DagPattern.of(0, [trajectories[row] for row in rows], [outcomes[row] for row in rows])
            pattern, shift = self._after(before.patterns[owner].joined(newer))
            patterns[pattern.id] = pattern
            shifts += shift
        free = [row for row, owner in enumerate(owners) if owner < 0]
        found = clusters(vectors[free], similarity, rng)
        made = range(self._next_id, self._next_id + len(found))
        for new_id, members in zip(made, found, strict=True):
            rows = [free[one] for one in members]
            pattern = DagPattern.of(new_id, [trajectories[row] for row in rows], [outcomes[row] for row in rows])
            patterns[new_id] = pattern.trimmed(self._config.shift_history)
        self._next_id = made.stop
        return BankLearning(len(owners) - len(free), tuple(made), tuple(shifts), self._publish(patterns))

    def _vectors(self, trajectories: Sequence[DagTrajectory]) -> Floats:
        for one in trajectories:
            if len(one.plan_embedding) != self._config.hidden_dim:
                raise DimensionMismatch(self._config.hidden_dim, len(one.plan_embedding), "plan_embedding")
        return np.stack([one.plan_embedding for one in trajectories])

    def _after(self, pattern: DagPattern) -> tuple[DagPattern, list[PatternShift]]:
        # The pattern as its newest executions leave it, and the shift they showed.
        config = self._config
        test = pattern.test_shift(config.shift_z, config.shift_history)
        after = pattern if test is None else pattern.tested(test)
        shifts = [PatternShift(pattern.id, test)] if test is not None and test.is_shift else []
        return after.trimmed(config.shift_history), shifts

    def count_hits(self, hits: Mapping[int, int], now: float) -> None:
        """Count for each of these patterns the queries that ran as it says; unknown ones are left out."""
        now, patterns = finite(now, "now"), self._by_id()
        if not hits:
            return
        for pattern_id, count in hits.items():
            pattern = self.get(pattern_id)
            if pattern is not None:
                patterns[pattern.id] = patterns[pattern.id].with_hits(whole(count, "hits", 0), now)
        self._publish(patterns)

    def prepare(self, between: Callable[[], None]) -> None:
        """Work out now what every pattern recommends, so that no search has to; `between` is called between two."""
        for pattern in self.patterns:
            between()
            _ = pattern.tried

    def consolidate(self, similarity: float | None = None) -> int:
        """Merge patterns until no two are `similarity` alike, and return how many were taken in by others.

        Args:
            similarity: Cosine in [-1, 1]; `consolidation_similarity` when None.

        Raises:
            InvalidValue: a similarity outside [-1, 1].
        """
        limit = self._config.consolidation_similarity if similarity is None else finite(similarity, "similarity")
        if not -1.0 <= limit <= 1.0:
            raise InvalidValue(f"similarity: expected a cosine in [-1, 1], got {similarity!r}")
        done = agglomerate([PatternRecord(one.learned, Tally()) for one in self.patterns], limit)
        if not done.survivors:
            return 0
        before = self._by_id()
        after = {record.pattern.id: before[record.pattern.id] for record in done.records}
        for record in done.records:
            taken = [before[old] for old, new in sorted(done.survivors.items()) if new == record.pattern.id]
            if taken:
                united = _united(record.pattern, before[record.pattern.id], taken)
                after[record.pattern.id] = united.trimmed(self._config.shift_history)
        earlier = {old: done.survivors.get(new, new) for old, new in self._survivors.items()}
        self._survivors = earlier | done.survivors
        self._publish(after)
        return len(done.survivors)

    def _by_id(self) -> dict[int, DagPattern]:
        return {one.id: one for one in self._published.patterns}

    def _publish(self, patterns: Mapping[int, DagPattern]) -> tuple[int, ...]:
        over = max(len(patterns) - self._config.capacity, 0)
        by_worth = sorted(patterns.values(), key=_worth) if over else list(patterns.values())
        evicted = tuple(one.id for one in by_worth[:over])
        published = _Published.of(by_worth[over:])
        self._survivors = {old: new for old, new in self._survivors.items() if new in published.row_of}
        self._published = published
        return evicted

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        return State(
            {
                "patterns": patterns_state(self.patterns, self._config.hidden_dim),
                "next_id": self._next_id,
                "merged": np.array(sorted(self._survivors.items()), np.int64).reshape(-1, 2),
            }
        )

    @classmethod
    def from_state(cls, state: State, config: DagConfig | None = None) -> DagReasoningBank:
        """Return the bank that `state` was taken from.

        Raises:
            StoreError: the state is damaged, of another width, or holds more patterns than `capacity`.
        """
        bank = cls(config)
        patterns = patterns_from_state(state.child("patterns"), bank._config.hidden_dim)
        if len(patterns) > bank._config.capacity:
            raise StoreError(f"saved state: {len(patterns)} patterns, more than {bank._config.capacity}")
        bank._published = _Published.of(patterns)
        bank._next_id = state.whole("next_id")
        if any(one.id >= bank._next_id for one in patterns):
            raise StoreError("saved state: the id of a pattern would be given again")
        merged = state.wholes("merged", None, 2).tolist()
        bank._survivors = dict(merged)
        if len(bank._survivors) != len(merged) or not set(bank._survivors.values()) <= set(bank._published.row_of):
            raise StoreError("saved state: merged patterns are not those of the bank")
        return bank


def _similar(pattern: DagPattern, similarity: float) -> SimilarPattern:
    return SimilarPattern(
        pattern.id, similarity, pattern.confidence, pattern.params, pattern.learned.cluster_size, pattern.tried
    )


def _rows_by_owner(owners: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, owner in enumerate(owners):
        if owner >= 0:
            found.setdefault(owner, []).append(row)
    return found


def _united(learned: LearnedPattern, survivor: DagPattern, taken: Sequence[DagPattern]) -> DagPattern:
    # The clusters are merged already, all but what is known of their qualities.
    total = math.fsum(one.learned.avg_quality * one.learned.cluster_size for one in (survivor, *taken))
    quality = min(total / learned.cluster_size, 1.0)
    return survivor.absorbed(replace(learned, avg_quality=quality), taken)


def _worth(pattern: DagPattern) -> tuple[float, int, float, int]:
    # The least certain first; of equally certain ones the one with fewer executions, then the one used longest ago.
    return (pattern.confidence, pattern.learned.cluster_size, pattern.learned.last_accessed, pattern.id)
