"""How long does everything take, and how much does it hold? Each figure beside the bare work.

python bench/speed_loops.py [--json FILE] [--quick]

Medians of cases that take turns, on one thread; p99 is of single calls, so that it shows what else the machine does.
With `--quick` everything is smaller, and figures whose size changed are held to no goal.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread, so that figures can be compared

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from speed import parts, requests, whole
from speed.timing import Figure


def figures() -> Iterator[Figure]:
    """Yield every figure at full size."""
    yield from parts.loop_a(calls=2000)
    yield from parts.micro(rounds=300)
    yield from parts.ewc(100_000, rounds=150)
    yield from parts.pattern_search(10_000, rounds=150)
    yield from whole.loop_b(10_000, rounds=3)
    yield from whole.memory(10_000)
    yield from whole.importing(rounds=11)
    yield from requests.ranking(1400, 384, past=2000, calls=500)
    yield from requests.ranking(3000, 256, past=2000, calls=500)
    yield from requests.answering(10_000, 256, past=500, calls=300)
    yield from whole.disk(10_000)


def quick_figures() -> Iterator[Figure]:
    """Yield every figure, small: whether all of it runs, not how fast it is."""
    yield from parts.loop_a(calls=50)
    yield from parts.micro(rounds=5)
    small = (
        parts.ewc(1000, rounds=3),
        parts.pattern_search(500, rounds=3),
        whole.loop_b(400, rounds=1),
        whole.memory(400),
        whole.importing(rounds=1),
        requests.ranking(100, 32, past=20, calls=10),
        requests.answering(50, 32, past=10, calls=10),
        whole.disk(200),
    )
    for group in small:
        yield from (replace(figure, goal=None) for figure in group)


def show(figure: Figure) -> None:
    goal = "" if figure.goal is None else f"< {figure.goal:g} {'met' if figure.met else 'NOT MET'}"
    control = "" if figure.control is None else f"{figure.control:10.2f}  {figure.control_name}"
    print(f"{figure.name:62}{figure.value:10.2f} {figure.unit:3}{goal:>16}{control}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    options = parser.parse_args()
    began = time.perf_counter()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{os.cpu_count()} CPUs, load average {load:.2f} at the start, numpy {np.__version__}, {platform.machine()}")
    print(f"{'':62}{'value':>10}    {'goal':>16}{'control':>10}")
    found = []
    for figure in quick_figures() if options.quick else figures():
        show(figure)
        found.append(figure)
    after = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    found += [Figure("load average before", load, ""), Figure("load average after", after, "")]
    missed = [figure.name for figure in found if figure.met is False]
    print(f"load average {after:.2f} at the end; {time.perf_counter() - began:.0f} s")
    print(f"goals not met: {', '.join(missed)}" if missed else "all goals met" if not options.quick else "small sizes")
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
