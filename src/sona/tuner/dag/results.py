"""What learning from plans answers with: a decision, what became of an execution, of a cycle, and the counters."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from sona.tuner.dag.micro import EwcUpdate
from sona.tuner.dag.shift import PatternShift
from sona.tuner.execution import AttentionType, ExecutionParams


@dataclass(frozen=True, slots=True)
class PatternApplied:
    """A known pattern says what to run with; empty settings are the server's own choice, which nothing has beaten.

    Args:
        params: Settings to run with.
        pattern_id: The pattern.
        confidence: How sure it is of them, in [0, 1).
        similarity: Cosine of the plan to it.
    """

    params: ExecutionParams
    pattern_id: int
    confidence: float
    similarity: float


@dataclass(frozen=True, slots=True)
class DefaultWithAdaptation:
    """The server's own choice, from which is learned.

    Args:
        reason: Why no pattern speaks for the plan, for people.
        attention_type: How to weight the plan next time.
        pattern_id: The nearest pattern; None where there is none.
        confidence: How sure that one is, in [0, 1).
        similarity: Cosine of the plan to it; 0 where there is none.
    """

    reason: str
    attention_type: AttentionType
    pattern_id: int | None = None
    confidence: float = 0.0
    similarity: float = 0.0

    @property
    def params(self) -> ExecutionParams:
        """Settings to run with: none."""
        return ExecutionParams()


@dataclass(frozen=True, slots=True)
class PostQueryResult:
    """What became of one execution.

    Args:
        trajectory_id: Its id.
        quality: How well it went, in [0, 1].
        gain: Quality over that of the server's own choice, in [-1, 1]; None where that is not known.
        is_hit: It ran as a pattern that is sure says.
        is_adapted: The adapter moved.
        skipped_reason: Why it waits for no cycle; None when it does.
    """

    trajectory_id: int
    quality: float
    gain: float | None
    is_hit: bool
    is_adapted: bool
    skipped_reason: str | None = None


@dataclass(frozen=True, slots=True)
class DagCycleResult:
    """What a background cycle did.

    Args:
        trajectories: Executions learned from.
        joined: Those of them that were counted into a pattern known before.
        made: Ids of new patterns.
        merged: Patterns taken in by others.
        evicted: Ids of patterns that had to go, the least certain.
        shifts: Patterns that have changed.
        ewc: What was done to protect the adapter.
        skipped_reason: Why nothing was done; None for a full cycle.
    """

    trajectories: int = 0
    joined: int = 0
    made: tuple[int, ...] = ()
    merged: int = 0
    evicted: tuple[int, ...] = ()
    shifts: tuple[PatternShift, ...] = ()
    ewc: EwcUpdate = field(default_factory=lambda: EwcUpdate(skipped_reason="the cycle was skipped"))
    skipped_reason: str | None = None


@dataclass(frozen=True, slots=True)
class DagSonaMetrics:
    """Counters over the whole life, restarts included.

    Args:
        queries_processed: Executions told of, each id once.
        pattern_hit_rate: Share of them that ran as a pattern that was sure said, in [0, 1]; 0 before the first.
        avg_latency_us: Their mean latency, in microseconds; 0 before the first.
        background_cycles: Cycles that were not skipped.
        patterns_stored: Patterns known now.
        trajectories_dropped: Executions no cycle learns from, because too many waited.
        ewc_tasks: Tasks that the adapter is protected by now.

    Example:
        >>> DagSonaMetrics(2, 0.5, 800.0, 1, 1, 0, 0).to_json()[:46]
        '{"queries_processed": 2, "pattern_hit_rate": 0'
    """

    queries_processed: int
    pattern_hit_rate: float
    avg_latency_us: float
    background_cycles: int
    patterns_stored: int
    trajectories_dropped: int
    ewc_tasks: int

    def to_json(self) -> str:
        """Return the counters as one JSON object, in the order of the fields."""
        return json.dumps(asdict(self))
