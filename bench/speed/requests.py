"""What a request costs: `rank`, `feedback` and `process`, with a past that has something to say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np

from sona import SonaConfig, SonaEngine
from speed.timing import Figure, Topics, seconds, single_us, top, unit

TOPICS = 200


def taught(x: np.ndarray, items: np.ndarray, ids: Sequence[str], engine: SonaEngine, rng: np.random.Generator) -> None:
    """Rank every request of `x` and reward one or two of what is shown."""
    for row in x:
        ranking = engine.rank(row, ids, items)
        engine.feedback(ranking.trajectory_id, rewards=clicked(ranking.ids, rng))


def clicked(shown: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    return {shown[int(place)]: 1.0 for place in rng.integers(0, len(shown), 2)}


def spread(name: str, times: np.ndarray, control: float | None = None, control_name: str | None = None) -> list[Figure]:
    middle = Figure(f"{name}, median", float(np.median(times)), "us", None, control, control_name)
    return [middle, Figure(f"{name}, p99", float(np.quantile(times, 0.99)), "us")]


def ranking(items: int, width: int, past: int, calls: int) -> list[Figure]:
    """Return `rank` with the items as one fixed array and as the caller's own lists, and `feedback`."""
    rng = np.random.default_rng(4)
    topics = Topics.drawn(TOPICS, width, rng)
    vectors, ids = topics.draw(items, rng), tuple(f"item-{row}" for row in range(items))
    fixed, own = vectors.copy(), list(ids)
    fixed.flags.writeable = False
    engine = SonaEngine(SonaConfig())
    taught(topics.draw(past, rng), fixed, ids, engine, rng)
    engine.background_learn(force=True)
    asked, turn = topics.draw(calls, rng), count()
    shown: list = []

    def answer() -> None:
        shown.append(engine.rank(asked[next(turn) % calls], ids, fixed))

    def react() -> None:
        engine.feedback(shown[-1].trajectory_id, rewards=clicked(shown[-1].ids, rng))

    times = single_us({"rank": answer, "feedback": react, "bare": lambda: top(fixed, asked[next(turn) % calls])}, calls)
    lists = single_us({"rank": lambda: engine.rank(asked[next(turn) % calls], own, vectors)}, max(calls // 5, 5))
    case, bare = f"of {items:,} x {width}, {past:,} past requests", float(np.median(times["bare"]))
    return [
        *spread(f"rank {case}", times["rank"], bare, "one product and argpartition in bare numpy"),
        *spread(f"rank {case}, items given anew", lists["rank"]),
        *spread(f"feedback, {items:,} x {width}", times["feedback"]),
    ]


def answering(memories: int, width: int, past: int, calls: int) -> list[Figure]:
    """Return `process` with vectors given over that many memories, and `remember` with a vector."""
    rng = np.random.default_rng(5)
    topics = Topics.drawn(TOPICS, width, rng)
    engine, vectors = SonaEngine(), topics.draw(memories, rng)
    rows = iter(range(memories))

    def keep() -> None:
        row = next(rows)
        engine.remember(f"text {row}", f"m{row}", vector=vectors[row])

    kept = [seconds(keep) for _ in range(memories)]
    indexed = seconds(engine.index)
    for row, x in enumerate(topics.draw(past, rng)):
        response = engine.process(f"past {row}", vector=x)
        engine.feedback(response.trajectory_id, rewards={response.sources[0].id: 1.0})
    engine.background_learn(force=True)
    asked, turn, held = topics.draw(calls, rng), count(), unit(vectors)
    times = single_us(
        {
            "process": lambda: engine.process("how do I", vector=asked[next(turn) % calls]),
            "bare": lambda: top(held, asked[next(turn) % calls], 5),
        },
        calls,
    )
    case = f"over {memories:,} memories x {width}, {past:,} past requests"
    bare = float(np.median(times["bare"]))
    return [
        *spread(f"process {case}", times["process"], bare, "one product and argpartition in bare numpy"),
        Figure(f"remember, {memories:,} times, median", 1e6 * float(np.median(kept)), "us"),
        Figure(f"index {memories:,} given vectors", 1e3 * indexed, "ms"),
    ]
