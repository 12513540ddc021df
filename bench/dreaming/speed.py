"""What one dream and its integration take, in a graph of n memories with 16 neighbours each."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from sona.dreams.dream import DreamEngine
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode

WIDTH, LINKS, REPEATS = 256, 8, 400  # each memory draws 8 links, and so has 16


def graph_of(n: int) -> MemoryGraph:
    rng = np.random.default_rng(0)
    graph = MemoryGraph(WIDTH)
    for row, vector in enumerate(rng.normal(size=(n, WIDTH)).astype(np.float32)):
        graph.add(MemoryNode(str(row), vector))
    a = np.repeat(np.arange(n), LINKS)
    b = (a + rng.integers(1, n, len(a))) % n
    pairs = np.unique(np.sort(np.stack([a, b], axis=1), axis=1), axis=0)
    graph.link(pairs[:, 0], pairs[:, 1], EdgeKind.SIMILAR, rng.uniform(0.3, 1.0, len(pairs)).astype(np.float32))
    return graph


def timed(calls: list[Callable[[], object]]) -> dict[str, float]:
    taken = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1e6)
    return {"median_us": float(np.median(taken)), "p99_us": float(np.percentile(taken, 99))}


def speed(n: int) -> dict[str, dict[str, float]]:
    """Return what one dream takes, and what taking up one dream takes, in microseconds."""
    from sona.config import DreamConfig

    engine = DreamEngine(DreamConfig(threshold=0.0, min_novelty=0.0), graph=graph_of(n))
    rng = np.random.default_rng(1)
    dreams = engine.generate_dreams(REPEATS, rng)
    return {
        f"one dream, {n} memories": timed([lambda: engine.generate_dream(rng)] * REPEATS),
        f"integrating one dream, {n} memories": timed([lambda one=one: engine.integrate_dream(one) for one in dreams]),
    }
