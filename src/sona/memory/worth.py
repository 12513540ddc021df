"""What a memory is worth: how often, how lately and how well it served, and what it learned to go with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import finite
from sona.config import ConsolidationConfig
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind

Doubles: TypeAlias = npt.NDArray[np.float64]

_MANY_ACCESSES = 30.0  # from here on, more accesses say nothing more
_LEARNED = (EdgeKind.TOGETHER, EdgeKind.DREAM, EdgeKind.PATTERN)


@dataclass(frozen=True, slots=True)
class Worth:
    """What one memory is worth, and why; all in [0, 1].

    Args:
        access: By how often it served: log(1 + n) / log(31), at most 1.
        recency: By how lately: 2^(-age / half life).
        quality: By what it earned per showing.
        connectivity: By the links it learned: d / (1 + d), d their summed weight. Links of similarity do not count:
            they say that something else is much the same.
        value: The weighted mean of the four.
    """

    access: float
    recency: float
    quality: float
    connectivity: float
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Worths:
    """The same for n memories, each part of shape (n,)."""

    access: Doubles
    recency: Doubles
    quality: Doubles
    connectivity: Doubles
    values: Doubles

    def of(self, row: int) -> Worth:
        """Return what the memory at `row` is worth."""
        parts = (self.access, self.recency, self.quality, self.connectivity, self.values)
        return Worth(*(float(part[row]) for part in parts))


def worths(graph: MemoryGraph, now: float, config: ConsolidationConfig | None = None) -> Worths:
    """Return what each memory is worth, in [0, 1]: never less for one more access, a later one or a stronger link.

    A memory that never served is as old as the `last_access` it was added with.

    Args:
        graph: The memories.
        now: The time, seconds.
        config: The four weights and the half life.

    Raises:
        InvalidValue: a time that is not finite.

    >>> from sona.memory.nodes import MemoryNode
    >>> graph = MemoryGraph(2)
    >>> _ = graph.add(MemoryNode("a", np.array([1.0, 0.0]), quality=0.8, access_count=30, last_access=100.0))
    >>> worths(graph, 100.0).of(0)
    Worth(access=1.0, recency=1.0, quality=0.8, connectivity=0.0, value=0.74)
    """
    config = config or ConsolidationConfig()
    age = np.maximum(finite(now, "now") - graph.last_access, 0.0)
    access = np.minimum(np.log1p(graph.access_counts) / math.log1p(_MANY_ACCESSES), 1.0)
    recency = np.exp2(-age / config.half_life_s)
    quality = np.clip(graph.qualities, 0.0, 1.0)
    degree = _learned_degree(graph)
    connectivity = degree / (1.0 + degree)
    total = config.access_weight + config.recency_weight + config.quality_weight + config.connectivity_weight
    summed = config.access_weight * access + config.recency_weight * recency
    summed = summed + config.quality_weight * quality + config.connectivity_weight * connectivity
    return Worths(access, recency, quality, connectivity, np.clip(summed / total, 0.0, 1.0))


def _learned_degree(graph: MemoryGraph) -> Doubles:
    edges = graph.edges()
    learned = edges.weights[:, list(_LEARNED)].max(axis=1, initial=0.0).astype(np.float64)
    count = len(graph)
    degree = np.bincount(edges.a_rows, learned, count) + np.bincount(edges.b_rows, learned, count)
    return degree.astype(np.float64, copy=False)
