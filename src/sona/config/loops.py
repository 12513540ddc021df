"""Settings of the loops: what each does, and when."""

from __future__ import annotations

from dataclasses import dataclass

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError


@dataclass(frozen=True, slots=True)
class InstantConfig:
    """Settings of Loop A.

    Args:
        learning_rate: Step size of the micro adapter (spec 0.002).
        flush_threshold: Signals gathered before the micro adapter moves (spec 100). Here 1, so that one request
            moves the next answer; the law is tested in `tests/property/test_engine_laws.py`.
        max_pending_signals: Most signals that may wait, whatever the threshold (spec 1000).
        quality_threshold: Outcomes below it are bad and never reinforce (spec 0.3).
        temperature: tau of the softmax over cosines.
        trajectory_capacity: Finished trajectories that may wait for Loop B (spec 10,000).
        learns: Whether the micro adapter moves; trajectories are recorded either way.
    """

    learning_rate: float = 0.002
    flush_threshold: int = 1
    max_pending_signals: int = 1000
    quality_threshold: float = 0.3
    temperature: float = 0.05
    trajectory_capacity: int = 10_000
    learns: bool = True

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.learning_rate, "learning_rate", 0.0, open_low=True)
        setting_whole(self.flush_threshold, "flush_threshold", 1)
        setting_whole(self.max_pending_signals, "max_pending_signals", 1)
        setting_number(self.quality_threshold, "quality_threshold", 0.0, 1.0)
        setting_number(self.temperature, "temperature", 0.0, open_low=True)
        setting_whole(self.trajectory_capacity, "trajectory_capacity", 1)


@dataclass(frozen=True, slots=True)
class BackgroundConfig:
    """Settings of Loop B.

    Args:
        interval_s: Seconds between cycles (spec 1 hour).
        min_trajectories: Trajectories a cycle needs unless it is forced (spec 100).
        regularisation: lam of the ridge behind layer 0 of the base adapter (docs/decisions/0002).
        strength: Share of the ridge solution that is applied, in [0, 1] (docs/decisions/0002).
        quality_threshold: Outcomes below it are bad and never reinforce (spec 0.3).
        temperature: tau of the softmax over cosines.
        seed: Seed of everything random in a cycle, together with the cycle's number.
    """

    interval_s: float = 3600.0
    min_trajectories: int = 100
    regularisation: float = 3.0
    strength: float = 0.5
    quality_threshold: float = 0.3
    temperature: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.interval_s, "interval_s", 0.0)
        setting_whole(self.min_trajectories, "min_trajectories", 1)
        setting_number(self.regularisation, "regularisation", 0.0, open_low=True)
        setting_number(self.strength, "strength", 0.0, 1.0)
        setting_number(self.quality_threshold, "quality_threshold", 0.0, 1.0)
        setting_number(self.temperature, "temperature", 0.0, open_low=True)
        setting_whole(self.seed, "seed", 0)


LOOP_MODES = ("off", "on", "forced")
"""Whether a loop runs: never, when it is due, or at its interval even with little to learn from."""


DEEP_STAGES = ("link", "dream", "compare", "consolidate", "abstract", "measure")
"""What a cycle of Loop C does, in this order."""


@dataclass(frozen=True, slots=True)
class DeepConfig:
    """Settings of Loop C.

    Args:
        interval_s: Seconds between cycles (spec 1 week).
        time_limit_s: Most seconds of one cycle (spec 600); what is left is done by the next.
        min_memories: Memories a cycle needs unless it is forced.
        dreams: Dreams per cycle (spec 50).
        merge_tasks: Whether tasks of EWC++ are merged into one at the mean of their product (spec on). Off: tasks
            learned one after the other under the constraint end at their joint optimum, and merging would leave it.
        seed: Seed of everything random in a cycle, together with the cycle's number.
    """

    interval_s: float = 604_800.0
    time_limit_s: float = 600.0
    min_memories: int = 10
    dreams: int = 50
    merge_tasks: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.interval_s, "interval_s", 0.0)
        setting_number(self.time_limit_s, "time_limit_s", 0.0)
        setting_whole(self.min_memories, "min_memories", 0)
        setting_whole(self.dreams, "dreams", 0)
        if not isinstance(self.merge_tasks, bool):
            raise ConfigError(f"merge_tasks: expected True or False, got {self.merge_tasks!r}")
        setting_whole(self.seed, "seed", 0)


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Settings of the rhythm of the three loops.

    Args:
        instant: Mode of Loop A: `off`, `on` or `forced`; off, requests are recorded and teach nothing at once.
        background: Mode of Loop B.
        deep: Mode of Loop C.
        quiet_hours: Hours of the day in UTC, from and to, in which Loop C may begin; at any time when None.
        retry_s: Seconds until a loop that failed is tried again; doubled with every further failure.
        max_retry_s: Most seconds between tries.
        lease_s: Seconds for which one process of those that share a store may run Loops B and C.
    """

    instant: str = "on"
    background: str = "on"
    deep: str = "on"
    quiet_hours: tuple[int, int] | None = None
    retry_s: float = 60.0
    max_retry_s: float = 3600.0
    lease_s: float = 900.0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        for name in ("instant", "background", "deep"):
            if getattr(self, name) not in LOOP_MODES:
                raise ConfigError(f"{name}: expected one of {', '.join(LOOP_MODES)}, got {getattr(self, name)!r}")
        if self.quiet_hours is not None:
            hours = tuple(self.quiet_hours)
            if len(hours) != 2 or hours[0] == hours[1]:
                raise ConfigError(f"quiet_hours: expected two different hours, got {self.quiet_hours!r}")
            for hour in hours:
                setting_whole(hour, "quiet_hours", 0, 24)
            object.__setattr__(self, "quiet_hours", hours)
        setting_number(self.retry_s, "retry_s", 0.0, open_low=True)
        setting_number(self.max_retry_s, "max_retry_s", self.retry_s)
        setting_number(self.lease_s, "lease_s", 0.0, open_low=True)
