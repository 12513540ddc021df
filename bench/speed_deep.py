"""What does Loop C take with 10,000 and with 100,000 memories, and what do links cost a request then?

python bench/speed_deep.py [--json FILE] [--quick]

Memories 256 wide around topics of 200, linked to those they are similar to, and by requests that took three of ten
memories of one topic. A bare matrix product stands beside what consists of products, and says how busy the machine is.
What one request costs a graph in Loop A is measured as in `bench/speed_graph.py`.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread, so that figures compare from machine to machine

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sona import GuardConfig, SonaConfig, SonaEngine
from sona.config import DreamConfig, GraphConfig
from sona.dreams.dream import DreamEngine
from sona.dreams.phi import PhiEvaluator
from sona.loops.deep import DeepLoop
from sona.memory.associate import BLOCK, AssociativeMemory
from sona.memory.recall import Seeds
from sona.memory.votes import Showing
from sona.patterns.bank import ReasoningBank
from speed.timing import Figure, Topics, batched_us, seconds, single_us
from speed_graph import WIDTH, asked, graph_of, times_us

TOPIC, SHOWN, USED = 200, 10, 3
PHI_NODES = 15
GEMM = "bare product of as many rows"


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Memories by topic, and requests about them."""

    ids: tuple[str, ...]
    vectors: np.ndarray  # (n, d), unit length
    topic: np.ndarray  # of each memory
    rng: np.random.Generator

    @classmethod
    def of(cls, count: int) -> World:
        """Return so many memories around topics of 200."""
        rng = np.random.default_rng(count)
        topics = Topics.drawn(max(count // TOPIC, 2), WIDTH, rng)
        topic = np.sort(rng.integers(0, len(topics.centres), count))
        vectors = np.concatenate(
            [Topics(topics.centres[[one]]).draw(int(size), rng) for one, size in enumerate(np.bincount(topic))]
        )
        return cls(tuple(f"m{row}" for row in range(count)), vectors, topic, rng)

    def shown(self) -> np.ndarray:
        """Return the rows of ten memories of one topic."""
        same = np.flatnonzero(self.topic == self.topic[self.rng.integers(len(self.ids))])
        return self.rng.choice(same, min(SHOWN, len(same)), replace=False)

    def memory(self, requests: int) -> AssociativeMemory:
        """Return these memories, not linked by similarity yet, after so many requests."""
        memory = AssociativeMemory(WIDTH, GraphConfig())
        memory.join(self.ids, self.vectors, now=0.0)
        for number in range(requests):
            rows = self.shown().tolist()
            showings = [Showing(self.ids[row], float(place < USED)) for place, row in enumerate(rows)]
            memory.record({self.ids[row]: self.vectors[row] for row in rows}, showings, now=float(number))
        return memory

    def gemm_s(self, block: int = BLOCK, blocks: int = 4) -> float:
        """Return what the products of all memories with all would take, by some blocks."""
        taken = [seconds(partial(np.matmul, self.vectors[:block], self.vectors.T)) for _ in range(blocks)]
        return float(np.median(taken)) * len(self.ids) / block


def stage_seconds(memory: AssociativeMemory, loop: DeepLoop, now: float) -> tuple[dict[str, float], float]:
    """Return seconds of each part of one whole cycle, computed and put in force, and of all of it."""
    bank, waiting = ReasoningBank(hidden_dim=WIDTH), len(memory.unlinked)
    began = time.perf_counter()
    cycle = loop.begin(memory, bank, now=now, force=True)
    begun = time.perf_counter()
    marks: list[float] = []

    def is_over() -> bool:
        marks.append(time.perf_counter())
        return False

    change = loop.compute(cycle, is_over=is_over)
    computed = time.perf_counter()
    result = loop.commit(change, memory, bank)
    ended = time.perf_counter()
    if not result.is_finished or result.linked != waiting:
        raise RuntimeError(f"the cycle did something else than it was timed for: {result}")
    blocks = -(-len(cycle.graph) // BLOCK)
    units = {"link": -(-waiting // BLOCK), "dream": change.units - 2 * blocks - 3, "compare": blocks}
    marks = [begun, *marks[: change.units - 1], computed]
    parts, first = {"begin": begun - began}, 0
    for name, size in (units | {"consolidate": 1, "abstract": 1, "measure": 1}).items():
        parts[name], first = marks[first + size] - marks[first], first + size
    return parts | {"commit": ended - computed}, ended - began


def cycles(count: int, requests: int, goal_s: float) -> Iterator[Figure]:
    """Yield what a first cycle takes over memories of which none is linked, part by part, and a second one."""
    world, size = World.of(count), f"{count:,} memories"
    memory, loop = world.memory(requests), DeepLoop()
    bare = world.gemm_s()
    parts, whole = stage_seconds(memory, loop, float(requests))
    yield Figure(f"first cycle, {size}", whole, "s", goal_s, bare, GEMM)
    for name, taken in parts.items():
        yield Figure(f"  of that {name}, {size}", taken, "s")
    yield Figure(f"next cycle, {size}", stage_seconds(memory, loop, float(requests))[1], "s", goal_s, bare, GEMM)
    yield Figure(f"publish, {size}", 1e3 * min(seconds(memory.publish) for _ in range(3)), "ms")
    yield from recalls(memory, world)
    yield from dreams(memory, size, is_held=count <= 10_000)


def recalls(memory: AssociativeMemory, world: World) -> Iterator[Figure]:
    """Yield what it costs a request to look along links, beside a bare ranking of all memories."""
    requests, rng = 50, world.rng
    drawn = world.vectors[rng.integers(0, len(world.ids), requests)]
    most = memory.config.seeds
    found = [np.argsort(-(world.vectors @ x))[:most] for x in drawn]
    seeds = [
        Seeds(tuple(f"m{row}" for row in rows), world.vectors[rows] @ x) for x, rows in zip(drawn, found, strict=True)
    ]
    places = memory.links.places_in(world.ids)
    turn = iter(range(10**9))
    cases = {
        "recall": lambda: places.recall(seeds[next(turn) % requests], len(world.ids), memory.config),
        "ranking": lambda: np.argpartition(-(world.vectors @ drawn[next(turn) % requests]), SHOWN),
    }
    times = single_us(cases, 10 * requests)
    control = float(np.median(times["ranking"])), "bare ranking by cosine"
    for share, goal in ((50, None), (99, None)):
        value = float(np.percentile(times["recall"], share))
        yield Figure(f"recall of a request, percentile {share}, {len(world.ids):,}", value, "us", goal, *control)
    placing = 1e3 * seconds(partial(memory.links.places_in, world.ids))
    yield Figure(f"placing candidates, once a publication, {len(world.ids):,}", placing, "ms")


def dreams(memory: AssociativeMemory, size: str, *, is_held: bool) -> Iterator[Figure]:
    """Yield what one dream takes by itself, held to its goal at 10,000 memories, and Phi of a few memories."""
    engine, rng = DreamEngine(DreamConfig(), graph=memory.graph), np.random.default_rng(1)
    engine.generate_dream(rng)
    times = 1e6 * np.array([seconds(partial(engine.generate_dream, rng)) for _ in range(200)])
    yield Figure(f"one dream, median, {size}", float(np.median(times)), "us", 1000.0 if is_held else None)
    yield Figure(f"one dream, worst of 200, {size}", float(times.max()), "us", 100_000.0)
    adjacency, evaluator = memory.graph.adjacency(), PhiEvaluator()
    rows = [np.sort(rng.choice(len(memory.graph), PHI_NODES, replace=False)) for _ in range(5)]
    near = [np.arange(first, first + PHI_NODES) for first in (0, 100, 400)]
    phi = [seconds(partial(evaluator.evaluate_rows, memory.graph.vectors, adjacency, one)) for one in rows + near]
    yield Figure(f"Phi of {PHI_NODES} memories, worst of {len(phi)}, {size}", max(phi), "s", 0.2)


def whole_engine(count: int, requests: int) -> Iterator[Figure]:
    """Yield the same through an engine: indexing with links, requests, Loop B and a cycle of Loop C."""
    world, size = World.of(count), f"engine, {count:,} memories"
    engine = SonaEngine(SonaConfig(guard=GuardConfig(holdout=0.0), context_size=SHOWN))
    for item, vector in zip(world.ids, world.vectors, strict=True):
        engine.remember(item, item, vector=vector)
    bare = world.gemm_s()
    yield Figure(f"index and link, {size}", seconds(engine.index), "s", control=bare, control_name=GEMM)
    taken = []
    for number in range(requests):
        x = world.vectors[world.rng.integers(count)]
        response, began = engine.process(f"request {number}", vector=x), time.perf_counter()
        engine.feedback(response.trajectory_id, rewards={one.id: 1.0 for one in response.sources[:USED]})
        taken.append(time.perf_counter() - began)
    yield Figure(f"feedback, {size}, median", 1e6 * float(np.median(taken)), "us")
    yield Figure(f"Loop B, {size}", seconds(partial(engine.background_learn, force=True)), "s")
    result = engine.deep_learn(force=True)
    if not result.is_finished:
        raise RuntimeError(f"the cycle was cut short: {result}")
    yield Figure(f"deep_learn, {size}", result.elapsed_s, "s", 60.0, bare, GEMM)


def loop_a(count: int, calls: int) -> Iterator[Figure]:
    """Yield what one request costs the graph where ten times as many pairs are linked."""
    graph = graph_of(count, 10 * count)
    times = times_us(graph, asked(graph, calls, is_popular=True))
    name = f"Loop A, links of a request, median, {count:,} memories, {graph.edge_count:,} pairs"
    yield Figure(name, float(np.median(times)), "us", 20.0)


def machine() -> Iterator[Figure]:
    """Yield how busy the machine is, and how fast its products are."""
    yield Figure("load average, first minute", os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, "")
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    taken = batched_us({"product": lambda: a @ a}, 5)["product"]
    yield Figure("bare product 1,024 x 1,024 x 1,024", 1e-3 * taken, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    options = parser.parse_args()
    small, large, calls = (600, 1500, 200) if options.quick else (10_000, 100_000, 5000)
    found = []
    for group in (
        machine(),
        cycles(small, small // 10, 60.0),
        whole_engine(small, max(small // 20, 200)),
        cycles(large, large // 10, 600.0),
        loop_a(large, calls),
        machine(),
    ):
        for figure in group:
            control = "" if figure.control is None else f"{figure.control:10.2f}  {figure.control_name}"
            verdict = "" if figure.met is None else f"goal {figure.goal:g} {'met' if figure.met else 'NOT MET'}"
            print(f"{figure.name:78}{figure.value:12.3f} {figure.unit:4}{verdict:20}{control}", flush=True)
            found.append(figure)
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
