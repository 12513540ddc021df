"""How well an execution went, as one number from 0 to 1, and the measures that may say so.

The specified measure weighs latency, memory and cache. It is absolute: a plan of seconds scores low whatever it runs
with, so what it says about settings is told by comparing executions of one plan. `AgainstDefault` compares already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from sona.checks import setting_number
from sona.errors import ConfigError, InvalidValue
from sona.tuner.execution import ExecutionMetrics

_NO_EVIDENCE = 0.5


class Objective(Protocol):
    """What says how well an execution went; any function of this form will do."""

    def __call__(self, metrics: ExecutionMetrics, baseline_us: float | None) -> float:
        """Return the quality in [0, 1] of an execution.

        Args:
            metrics: How it went.
            baseline_us: What the server's own choice takes, in microseconds; None where it is not known.
        """


@dataclass(frozen=True, slots=True)
class WeightedQuality:
    """0.5 latency + 0.3 memory + 0.2 cache, each in [0, 1]; never better for more time, more memory or fewer hits.

    latency = 1 / (1 + sqrt(t / half_latency_us)), memory = 1 / (1 + sqrt(m / half_memory_bytes)), and cache is the hit
    rate. With the defaults 1 ms is worth .76 of the latency part, 10 ms .50, 100 ms .24 and 1 s .09.

    Args:
        latency: Weight of latency (spec 0.5).
        memory: Weight of memory (spec 0.3).
        cache: Weight of the cache (spec 0.2); the three add up to 1.
        half_latency_us: Latency worth one half, in microseconds.
        half_memory_bytes: Memory worth one half, in bytes; the default is the server's default `work_mem`.

    Raises:
        ConfigError: weights that are negative or do not add up to 1, or a scale that is not above 0.

    Example:
        >>> quality = WeightedQuality()
        >>> [round(quality(ExecutionMetrics(latency_us=t, cache_hit_rate=0.5), None), 3) for t in (0, 1e3, 1e4, 1e6)]
        [0.9, 0.78, 0.65, 0.445]
    """

    latency: float = 0.5
    memory: float = 0.3
    cache: float = 0.2
    half_latency_us: float = 10_000.0
    half_memory_bytes: float = 4_194_304.0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        weights = {"latency": self.latency, "memory": self.memory, "cache": self.cache}
        for name, weight in weights.items():
            setting_number(weight, name, 0.0, 1.0)
        if not math.isclose(sum(weights.values()), 1.0, abs_tol=1e-9):
            raise ConfigError(f"weights of quality: expected a sum of 1, got {sum(weights.values()):g}")
        for name in ("half_latency_us", "half_memory_bytes"):
            setting_number(getattr(self, name), name, 0.0, 1e18, open_low=True)

    def __call__(self, metrics: ExecutionMetrics, baseline_us: float | None) -> float:
        """Return the weighted quality; the baseline is not looked at."""
        parts = (
            self.latency * _halving(metrics.latency_us, self.half_latency_us),
            self.memory * _halving(metrics.memory_bytes, self.half_memory_bytes),
            self.cache * metrics.cache_hit_rate,
        )
        return min(sum(parts), 1.0)


@dataclass(frozen=True, slots=True)
class AgainstDefault:
    """b / (b + t): one half for what the server's own choice takes, b, and more for what is quicker.

    It says which settings are better, and nothing about how long a plan takes. Without a baseline it is one half: no
    evidence either way.

    Example:
        >>> against = AgainstDefault()
        >>> against(ExecutionMetrics(latency_us=5e3), 5e3), against(ExecutionMetrics(latency_us=1e3), 9e3)
        (0.5, 0.9)
    """

    def __call__(self, metrics: ExecutionMetrics, baseline_us: float | None) -> float:
        """Return the share that the baseline has in the sum of both times."""
        if baseline_us is None or baseline_us + metrics.latency_us == 0.0:
            return _NO_EVIDENCE
        return baseline_us / (baseline_us + metrics.latency_us)


def judged(objective: Objective, metrics: ExecutionMetrics, baseline_us: float | None) -> float:
    """Return what `objective` says, or refuse it when it is no quality.

    Raises:
        InvalidValue: not a number in [0, 1].
    """
    value = float(objective(metrics, baseline_us))
    if not 0.0 <= value <= 1.0:
        raise InvalidValue(f"objective: expected a quality from 0 to 1, got {value!r}")
    return value


def _halving(value: float, half: float) -> float:
    return 1.0 / (1.0 + math.sqrt(value / half))
