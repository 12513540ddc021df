"""What does the memory graph cost a request, and what do its passes over everything take?

python bench/speed_graph.py [--json FILE] [--quick]

A graph of 100,000 memories and a million linked pairs, half of them similar, half learned; a request shows ten linked
memories of which two serve. Each cost of a request stands beside that of a graph a hundred times smaller.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from sona.memory.graph import MemoryGraph
from sona.memory.linking import nearest
from sona.memory.nodes import EdgeKind, MemoryNode
from speed.timing import Figure, Topics, seconds

WIDTH = 256
SHOWN, USED = 10, 2
_RNG = np.random.default_rng(0)


def graph_of(count: int, pairs: int) -> MemoryGraph:
    """Return a graph of memories around topics, each linked with some of the others at random."""
    graph = MemoryGraph(WIDTH)
    for row, vector in enumerate(Topics.drawn(max(count // 200, 2), WIDTH, _RNG).draw(count, _RNG)):
        graph.add(MemoryNode(f"m{row}", vector))
    for kind in (EdgeKind.SIMILAR, EdgeKind.TOGETHER):
        ends = _RNG.integers(0, count, (2, pairs))[:, : pairs // 2 + pairs // 64]
        a_rows, b_rows = ends[:, ends[0] != ends[1]]
        graph.link(a_rows, b_rows, kind, _RNG.uniform(0.1, 0.9, len(a_rows)))
    return graph


def asked(
    graph: MemoryGraph, count: int, *, is_linked: bool = True, is_popular: bool = False
) -> list[tuple[dict[str, float], list[str]]]:
    """Return what requests show: a memory with its neighbours, or memories that have nothing to do with each other.

    With `is_popular` the chance of a memory is one over its rank, as in most traffic; else all are alike, and next to
    nothing that a request touches is in the processor's cache.
    """
    adjacency, requests = graph.adjacency(), []
    chances = 1.0 / np.arange(1, len(graph) + 1) if is_popular else np.ones(len(graph))
    for start in _RNG.choice(_RNG.permutation(len(graph)), count, p=chances / chances.sum()):
        others = _RNG.integers(0, len(graph), 2 * SHOWN)
        near = np.concatenate([adjacency.of(int(start))[0], others]) if is_linked else others
        rows = list(dict.fromkeys([int(start), *near.tolist()]))[:SHOWN]
        requests.append(({f"m{row}": 1.0 for row in rows[:USED]}, [f"m{row}" for row in rows[USED:]]))
    return requests


def times_us(graph: MemoryGraph, requests: list[tuple[dict[str, float], list[str]]]) -> np.ndarray:
    """Return microseconds of learning from each request."""
    return 1e6 * np.array([seconds(partial(graph.served, used, unused, now=1.0)) for used, unused in requests])


def per_request(graph: MemoryGraph, small: MemoryGraph, calls: int) -> Iterator[Figure]:
    """Yield what Loop A costs, where links are there and where all are new, and what spreading activation costs."""
    name = f"{len(small):,} memories"
    for is_popular, which in ((True, "some memories popular"), (False, "all alike")):
        learned, control = (times_us(one, asked(one, calls, is_popular=is_popular)) for one in (graph, small))
        for share, goal in ((50, 20.0), (99, None)):
            value, bare = float(np.percentile(learned, share)), float(np.percentile(control, share))
            yield Figure(f"Loop A, {which}, percentile {share}", value, "us", goal, bare, name)
    fresh = times_us(graph, asked(graph, calls, is_linked=False))
    yield Figure("Loop A, every link new, mean", float(fresh.mean()), "us")
    yield Figure("Loop A, every link new, worst (they are sorted in)", 1e-3 * float(fresh.max()), "ms")
    for one in (graph, small):
        one.activate([0], [1.0])
    seeds = [_RNG.integers(0, len(graph), 32) for _ in range(max(calls // 100, 5))]
    spread = [
        1e6 * float(np.median([seconds(partial(one.activate, rows % len(one), np.ones(32))) for rows in seeds]))
        for one in (graph, small)
    ]
    yield Figure("activation from 32 seeds, 2 hops, median", spread[0], "us", control=spread[1], control_name=name)


def passes(graph: MemoryGraph, block: int) -> Iterator[Figure]:
    """Yield what one pass over everything takes, and linking a block of rows scaled to all of them."""
    rows = np.arange(block)
    linking = min(seconds(lambda: nearest(graph.vectors, rows, 8, 0.3)) for _ in range(3)) * len(graph) / block
    yield Figure("nearest 8 of every memory, extrapolated", linking, "s", 240.0)
    graph.served({"m0": 1.0, "m1": 1.0}, [], now=1.0)
    names = graph.ids
    work = {
        "adjacency, after a change": graph.adjacency,
        "copy": graph.copy,
        "state": graph.state,
        "decay": lambda: graph.decay(keep_edge=0.99, keep_dream=0.99, min_weight=0.0),
        "a link between any two": lambda: graph.connect("m0", names[-1], EdgeKind.DREAM, 0.1),
        "one embedding anew": lambda: graph.put(MemoryNode("m0", np.ones(WIDTH, np.float32))),
        "merging a tenth": lambda: graph.merged(list(zip(names[: len(names) // 10], names[::-1], strict=False))),
        "removing a hundred": lambda: graph.remove(graph.ids[:100]),
    }
    for name, case in work.items():
        yield Figure(name, 1e3 * seconds(case), "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    options = parser.parse_args()
    count, calls, block = (2000, 200, 100) if options.quick else (100_000, 20_000, 1000)
    load = Figure("load average, first minute", os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, "")
    graph, small = graph_of(count, 10 * count), graph_of(count // 100, count // 10)
    print(f"{os.cpu_count()} CPUs, load average {load.value:.2f}; {len(graph):,} memories, {graph.edge_count:,} pairs")
    found = [load]
    for group in (per_request(graph, small, calls), passes(graph, block)):
        for figure in group:
            control = "" if figure.control is None else f"{figure.control:10.1f}  {figure.control_name}"
            print(f"{figure.name:52}{figure.value:10.1f} {figure.unit:4}{control}", flush=True)
            found.append(figure)
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
