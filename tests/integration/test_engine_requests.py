"""Requests by many threads at once: nothing is counted twice or not at all, and the log says what happened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sona import Context, SonaConfig, SonaEngine
from sona.config import GuardConfig
from sona.stores.memory import MemoryStore

THREADS, ROUNDS, MEMORIES, WIDTH = 8, 40, 600, 256
"""Enough memories for the kernel to let go of the interpreter's lock while it compares them."""


@pytest.fixture
def restless_interpreter() -> Iterator[None]:
    """Let threads interrupt each other a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def remembering(rng: np.random.Generator) -> tuple[SonaEngine, np.ndarray]:
    engine = SonaEngine(SonaConfig(guard=GuardConfig(warm_up=50)), store=MemoryStore())
    vectors = rng.normal(size=(MEMORIES, WIDTH)).astype(np.float32)
    for row, vector in enumerate(vectors):
        engine.remember(f"text {row}", f"m{row}", vector=vector)
    engine.index()
    return engine, vectors


@pytest.mark.usefixtures("restless_interpreter")
def test_eight_threads_of_requests_and_feedback_lose_nothing_and_replay_to_the_same_state():
    engine, vectors = remembering(np.random.default_rng(0))
    rewarded = [0] * THREADS

    def serve(worker: int) -> list[int]:
        rng, issued = np.random.default_rng(worker + 1), []
        for number in range(ROUNDS):
            asked = vectors[rng.integers(0, MEMORIES)] + 0.5 * rng.normal(size=WIDTH).astype(np.float32)
            response = engine.process(f"{worker} asks {number}", Context(user_id=f"u{worker}-{number}"), vector=asked)
            issued.append(response.trajectory_id)
            result = engine.feedback(response.trajectory_id, rewards={response.sources[0].id: 1.0})
            rewarded[worker] += result.outcome.value == "learned"
            assert engine.feedback(response.trajectory_id, rewards={response.sources[0].id: 1.0}).outcome == "repeated"
        return issued

    with ThreadPoolExecutor(THREADS) as pool:
        issued = [trajectory_id for ids in pool.map(serve, range(THREADS)) for trajectory_id in ids]

    served, metrics, report = THREADS * ROUNDS, engine.metrics(), engine.report()
    assert len(set(issued)) == served
    assert (metrics.requests, metrics.feedbacks, metrics.repeated) == (served, served, served)
    assert (metrics.amended, metrics.unknown, metrics.awaiting_feedback) == (0, 0, 0)
    assert metrics.instant is not None
    assert metrics.instant.recorded == sum(rewarded) > served // 2
    assert metrics.past_requests == sum(rewarded)
    assert report.requests == served
    assert report.learned.served + report.frozen.served == served - 50
    assert report.learned.answered + report.frozen.answered == served - 50
    assert report.latency is not None
    assert report.latency.requests == served
    graph = engine._learner.associations.graph  # what is shown and learned from is counted there, once each
    assert sum(graph.node(f"m{row}").access_count for row in range(MEMORIES)) == sum(rewarded)
    replayed = engine.replay()
    assert replayed.is_equal
