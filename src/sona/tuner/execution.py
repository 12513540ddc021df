"""What a query ran with, and how it went: the nouns that travel between the parts of the tuner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sona.errors import InvalidValue


class AttentionType(StrEnum):
    """How the operators of a plan are weighted against each other; see `sona.tuner.plans.attention`."""

    TOPOLOGICAL = "topological"
    CAUSAL_CONE = "causal_cone"
    CRITICAL_PATH = "critical_path"
    MIN_CUT_GATED = "min_cut_gated"
    HIERARCHICAL_LORENTZ = "hierarchical_lorentz"
    PARALLEL_BRANCH = "parallel_branch"
    TEMPORAL_BTSP = "temporal_btsp"


@dataclass(frozen=True, slots=True)
class ExecutionParams:
    """Settings a query runs with; empty ones leave everything to the server.

    Args:
        ef_search: Candidates an HNSW search keeps (`hnsw.ef_search`).
        probes: Lists an IVFFlat search visits (`ivfflat.probes`).
        parallelism: Workers under one gather node (`max_parallel_workers_per_gather`).
        attention_type: How the plan was weighted when it was looked up.
        custom: Any other setting of the server by its name, with its value as the server reads it.

    Example:
        >>> params = ExecutionParams(ef_search=100, custom={"enable_nestloop": "off"})
        >>> dict(params.settings)
        {'enable_nestloop': 'off', 'hnsw.ef_search': '100'}
        >>> ExecutionParams().is_default
        True
    """

    ef_search: int | None = None
    probes: int | None = None
    parallelism: int | None = None
    attention_type: AttentionType | None = None
    custom: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, str]:
        """Every setting as the server knows it: name to value, sorted by name."""
        numbers = {
            "hnsw.ef_search": self.ef_search,
            "ivfflat.probes": self.probes,
            "max_parallel_workers_per_gather": self.parallelism,
        }
        given = {name: str(value) for name, value in numbers.items() if value is not None}
        return dict(sorted({**self.custom, **given}.items()))

    @property
    def is_default(self) -> bool:
        """True when nothing is set: the server's own choice."""
        return not self.settings


@dataclass(frozen=True, slots=True)
class ExecutionMetrics:
    """How one execution went.

    Args:
        latency_us: Time the application waited, in microseconds.
        planning_us: Part of it that the server planned; 0 where it is not known.
        execution_us: Part of it that the server executed; 0 where it is not known.
        rows: Rows of the result.
        memory_bytes: Memory used by sorts and hashes; 0 where it is not known.
        cache_hit_rate: Share of blocks found in memory, in [0, 1]; 1 where it is not known.
        max_criticality: Greatest criticality of an operator, in [0, 1]; 0 where it is not known.

    Raises:
        InvalidValue: a figure is negative or not finite, or a share is above 1.
    """

    latency_us: float
    planning_us: float = 0.0
    execution_us: float = 0.0
    rows: int = 0
    memory_bytes: int = 0
    cache_hit_rate: float = 1.0
    max_criticality: float = 0.0

    def __post_init__(self) -> None:
        """Refuse figures that cannot be."""
        for name in ("latency_us", "planning_us", "execution_us", "rows", "memory_bytes"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise InvalidValue(f"{name}: expected a finite number of at least 0, got {value}")
        for name in ("cache_hit_rate", "max_criticality"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidValue(f"{name}: expected a number from 0 to 1, got {getattr(self, name)}")
