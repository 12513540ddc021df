"""What became of one execution of a plan, and where it waits until it is learned from.

A `DagTrajectory` is a trajectory of the engine seen from a plan: the plan's embedding is the query, and settings and
figures are its parameters. So it waits in the engine's own buffer, and is saved as the engine saves trajectories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sona.checks import Floats, finite, vector, whole
from sona.errors import InvalidValue, StoreError
from sona.state import State
from sona.trajectory import TrajectoryBuffer
from sona.tuner.dag.quality import Objective, WeightedQuality, judged
from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams
from sona.types import LARGEST_ID, QueryTrajectory

_SPECIFIED = WeightedQuality()
_SETTING = "set."  # what is put before the name of a setting of the server among a trajectory's parameters
_NUMBERS = ("ef_search", "probes", "parallelism")
_FIGURES = ("planning_us", "execution_us", "rows", "memory_bytes", "cache_hit_rate", "max_criticality")


@dataclass(frozen=True, slots=True, eq=False)
class DagTrajectory:
    """One execution: which plan, with which settings, and how it went.

    Args:
        id: Id, unique within the engine that counts it.
        plan_embedding: The plan as a vector, shape (d,).
        metrics: How it went.
        params: Settings it ran with; empty ones are the server's own choice.
        fingerprint: Digest of the statement; empty where it is not known.
        shape: Digest of the plan that the server makes by itself.
        attention_type: How the plan was weighted.
        baseline_us: What the server's own choice takes, in microseconds; None where it is not known.
        timestamp: Seconds, the caller's clock.

    Raises:
        InvalidValue: NaN or infinity, a negative baseline, or settings that are not texts by name.
    """

    id: int
    plan_embedding: Floats
    metrics: ExecutionMetrics
    params: ExecutionParams = field(default_factory=ExecutionParams)
    fingerprint: str = ""
    shape: str = ""
    attention_type: AttentionType = AttentionType.TOPOLOGICAL
    baseline_us: float | None = None
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        whole(self.id, "trajectory id", 0, LARGEST_ID)
        object.__setattr__(self, "plan_embedding", vector(self.plan_embedding, what="plan_embedding"))
        if not all(isinstance(name, str) and isinstance(text, str) for name, text in self.params.custom.items()):
            raise InvalidValue(f"params: expected texts by name, got {self.params.custom!r}")
        if self.baseline_us is not None:
            object.__setattr__(self, "baseline_us", finite(self.baseline_us, "baseline_us"))
            if self.baseline_us < 0.0:
                raise InvalidValue(f"baseline_us: expected at least 0, got {self.baseline_us!r}")
        object.__setattr__(self, "timestamp", finite(self.timestamp, "timestamp"))

    def compute_quality(self, objective: Objective | None = None) -> float:
        """Return how well it went, in [0, 1]: 0.5 latency + 0.3 memory + 0.2 cache, or what `objective` says.

        Raises:
            InvalidValue: the objective gave no number in [0, 1].
        """
        return judged(objective or _SPECIFIED, self.metrics, self.baseline_us)

    def compute_gain(self, objective: Objective | None = None) -> float | None:
        """Return the quality over that of the server's own choice, in [-1, 1]; None where that is not known.

        The server's own choice is taken to differ in its latency alone. It gains 0 over itself.

        Raises:
            InvalidValue: the objective gave no number in [0, 1].
        """
        if self.params.is_default:
            return 0.0
        if self.baseline_us is None:
            return None
        own = replace(self.metrics, latency_us=self.baseline_us)
        return self.compute_quality(objective) - judged(objective or _SPECIFIED, own, self.baseline_us)

    def to_query_trajectory(self) -> QueryTrajectory:
        """Return it as the engine keeps trajectories; `from_query_trajectory` gives it back bit for bit."""
        parameters: dict[str, float | str] = {f"{_SETTING}{name}": text for name, text in self.params.custom.items()}
        for name in _NUMBERS:
            value = getattr(self.params, name)
            if value is not None:
                parameters[name] = value
        for name in _FIGURES:
            parameters[name] = getattr(self.metrics, name)
        if self.baseline_us is not None:
            parameters["baseline_us"] = self.baseline_us
        if self.params.attention_type is not None:
            parameters["chosen"] = str(self.params.attention_type)
        parameters |= {"timestamp": self.timestamp, "shape": self.shape, "fingerprint": self.fingerprint}
        return QueryTrajectory(
            self.id,
            self.plan_embedding,
            latency_us=self.metrics.latency_us,
            model_route=str(self.attention_type),
            parameters=parameters,
        )

    @classmethod
    def from_query_trajectory(cls, trajectory: QueryTrajectory) -> Self:
        """Return the execution that `to_query_trajectory` wrote down.

        Raises:
            InvalidValue: it is no execution of a plan.
        """
        given = trajectory.parameters
        try:
            return cls(
                trajectory.id,
                trajectory.query_embedding,
                _metrics(trajectory),
                _params(given),
                _text(given["fingerprint"]),
                _text(given["shape"]),
                AttentionType(_text(trajectory.model_route)),
                _number(given["baseline_us"]) if "baseline_us" in given else None,
                _number(given["timestamp"]),
            )
        except (KeyError, ValueError) as error:
            raise InvalidValue(f"trajectory {trajectory.id}: not an execution of a plan ({error})") from error


class DagTrajectoryBuffer:
    """A bounded queue of executions that never makes a query wait; when full it refuses the newest and counts it.

    >>> buffer = DagTrajectoryBuffer(1)
    >>> one = DagTrajectory(1, [1.0, 0.0], ExecutionMetrics(latency_us=900.0))
    >>> buffer.record(one), buffer.record(one), buffer.dropped_count, [taken.id for taken in buffer.drain()]
    (True, False, 1, [1])
    """

    __slots__ = ("_buffer",)

    def __init__(self, capacity: int = 10_000) -> None:
        """Make an empty buffer that holds at most `capacity` executions, at least 1.

        Raises:
            ConfigError: `capacity` is not a whole number of at least 1.
        """
        self._buffer = TrajectoryBuffer(capacity)

    def record(self, trajectory: DagTrajectory) -> bool:
        """Return True when `trajectory` was taken, False when the buffer was full and it was dropped.

        Raises:
            InvalidValue: not a DagTrajectory.
        """
        if not isinstance(trajectory, DagTrajectory):
            raise InvalidValue(f"trajectory: expected a DagTrajectory, got {type(trajectory).__name__}")
        return self._buffer.record(trajectory.to_query_trajectory())

    def drain(self) -> list[DagTrajectory]:
        """Return all waiting executions, oldest first, and leave the buffer empty."""
        return [DagTrajectory.from_query_trajectory(one) for one in self._buffer.drain()]

    def drain_n(self, n: int) -> list[DagTrajectory]:
        """Return at most the `n` oldest executions, oldest first, and remove them.

        Raises:
            InvalidValue: `n` is not a whole number of at least 0.
        """
        return [DagTrajectory.from_query_trajectory(one) for one in self._buffer.drain_n(n)]

    def discard_n(self, n: int) -> int:
        """Remove at most the `n` oldest executions without reading them, and return how many.

        Raises:
            InvalidValue: `n` is not a whole number of at least 0.
        """
        return len(self._buffer.drain_n(n))

    def snapshot(self) -> list[DagTrajectory]:
        """Return all waiting executions, oldest first, and leave them waiting."""
        return [DagTrajectory.from_query_trajectory(one) for one in self._buffer.snapshot()]

    def __len__(self) -> int:
        """Return the number of waiting executions."""
        return len(self._buffer)

    @property
    def is_empty(self) -> bool:
        """True when nothing waits."""
        return self._buffer.is_empty

    @property
    def is_full(self) -> bool:
        """True when the next execution would be dropped."""
        return self._buffer.is_full

    @property
    def capacity(self) -> int:
        """Most executions held."""
        return self._buffer.capacity

    @property
    def dropped_count(self) -> int:
        """Executions refused because the buffer was full, ever."""
        return self._buffer.dropped_count

    @property
    def total_seen(self) -> int:
        """Executions offered, ever: taken or dropped."""
        return self._buffer.total_seen

    def state(self) -> State:
        """Return all that `from_state` needs to go on, counters included."""
        return self._buffer.state()

    @classmethod
    def from_state(cls, state: State, *, capacity: int | None = None) -> Self:
        """Return the buffer that `state` was taken from; nothing that waits is lost to a smaller `capacity`.

        Args:
            state: The tree.
            capacity: Most executions held from now on; as it was when None.

        Raises:
            StoreError: the state is incomplete, of another kind, or holds other trajectories than executions.
        """
        held = state.whole("capacity")
        buffer = cls()
        saved = State({**dict(state.items()), "capacity": held if capacity is None else capacity})
        buffer._buffer = TrajectoryBuffer.from_state(saved)
        try:
            buffer.snapshot()
        except InvalidValue as error:
            raise StoreError(f"saved state: {error}") from error
        return buffer


def _metrics(trajectory: QueryTrajectory) -> ExecutionMetrics:
    given = trajectory.parameters
    figures = {name: _number(given[name]) for name in _FIGURES}
    return ExecutionMetrics(
        trajectory.latency_us,
        figures["planning_us"],
        figures["execution_us"],
        _whole(given["rows"]),
        _whole(given["memory_bytes"]),
        figures["cache_hit_rate"],
        figures["max_criticality"],
    )


def _params(given: Mapping[str, float | str]) -> ExecutionParams:
    numbers = {name: _whole(given[name]) if name in given else None for name in _NUMBERS}
    custom = {name.removeprefix(_SETTING): _text(text) for name, text in given.items() if name.startswith(_SETTING)}
    chosen = AttentionType(_text(given["chosen"])) if "chosen" in given else None
    return ExecutionParams(numbers["ef_search"], numbers["probes"], numbers["parallelism"], chosen, custom)


def _text(value: float | str | None) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"expected text, got {value!r}")
    return value


def _number(value: float | str) -> float:
    if isinstance(value, (str, bool)) or not math.isfinite(value):
        raise InvalidValue(f"expected a number, got {value!r}")
    return float(value)


def _whole(value: float | str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(f"expected a whole number, got {value!r}")
    return value
