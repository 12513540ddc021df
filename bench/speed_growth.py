"""How does what everything takes grow with the dimension, the patterns, the trajectories and the memories?

python bench/speed_growth.py [--json FILE] [--markdown FILE] [--quick]

Each figure is measured at a size, at about three times it, and at ten times it, the sizes taking turns; its exponent is
the slope of log time over log size, fitted to all three: 0 does not grow, 1 grows with the size, 2 with its square. The
answers are compared with those of the control as in `speed_peers.py`.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread, so that figures can be compared

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from peers import hot, page
from peers.contest import SCALE, Contest
from peers.machine import Machine, load
from peers.whole import Answering, Extraction, Remembering
from speed.timing import Source, taking_turns
from speed.whole import child


@dataclass(frozen=True, slots=True)
class Growth:
    """What a figure takes at three sizes, and how it grows.

    Args:
        name: The figure.
        varied: What grows.
        sizes: Of it.
        values: Medians.
        unit: Of the values.
        exponent: Slope of the line through log value over log size.
        tenfold: log10 of the last value over the first, the sizes being ten times apart.
    """

    name: str
    varied: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    unit: str
    exponent: float
    tenfold: float

    @classmethod
    def of(cls, name: str, varied: str, values: dict[int, float], unit: str) -> Growth:
        """Return the growth that these values, by size, show."""
        sizes, taken = np.array(list(values)), np.array(list(values.values()))
        slope = float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])
        span = np.log10(taken[-1] / taken[0]) / np.log10(sizes[-1] / sizes[0])
        return cls(name, varied, tuple(values), tuple(values.values()), unit, slope, float(span))


@dataclass(frozen=True, slots=True)
class Plan:
    """A figure and the sizes it is measured at."""

    name: str
    varied: str
    sizes: tuple[int, ...]
    contest: Callable[[int], Contest]
    rounds: int

    def measured(self, shrink: int, rounds: int | None) -> Growth:
        """Return its growth, at sizes `shrink` times smaller."""
        contests = {size: self.contest(size) for size in (size // shrink for size in self.sizes)}
        sources: dict[str, Source] = {str(size): contest.sona for size, contest in contests.items()}
        found = taking_turns(sources, rounds or self.rounds)
        unit = next(iter(contests.values())).unit
        values = {size: SCALE[unit] * float(np.median(found[str(size)])) for size in contests}
        return Growth.of(self.name, self.varied, values, unit)


def held(trajectories: int) -> Contest:
    """Return the memory of that many trajectories, as a contest of one."""
    return Contest("", "MB", lambda: json.loads(child("-m", "speed.held", "trace", str(trajectories)))["recorded"])


PLANS = (
    Plan("micro-LoRA forward, rank 2", "dimension", (256, 768, 2560), hot.forward, 200),
    Plan("begin + 3 steps + end + learn", "dimension", (256, 768, 2560), hot.learning, 100),
    Plan("find_patterns, k = 5 of 1,000", "dimension", (256, 768, 2560), lambda d: hot.search(1000, d), 100),
    Plan("find_patterns, k = 5, 256-d", "patterns", (1000, 3000, 10_000), hot.search, 100),
    Plan("EWC constraints", "parameters", (10_000, 30_000, 100_000), lambda p: hot.constraints(p)[0], 100),
    Plan("EWC Fisher update", "parameters", (10_000, 30_000, 100_000), hot.fisher, 100),
    Plan(
        "pattern extraction, 256-d, k = 100",
        "trajectories",
        (1000, 3000, 10_000),
        lambda n: Extraction(n).contest(),
        3,
    ),
    Plan(
        "pattern extraction, 2,000 trajectories, k = 50",
        "dimension",
        (256, 768, 2560),
        lambda d: Extraction(2000, d, 50).contest(),
        3,
    ),
    Plan(
        "pattern extraction, 5,000 x 256",
        "clusters",
        (20, 60, 200),
        lambda k: Extraction(5000, clusters=k).contest(),
        3,
    ),
    Plan(
        "process(), 256-d",
        "memories",
        (1000, 3000, 10_000),
        lambda n: Answering(n, past=200).middle(),
        150,
    ),
    Plan(
        "process(), 1,000 memories",
        "dimension",
        (256, 768, 2560),
        lambda d: Answering(1000, d, past=200).middle(),
        150,
    ),
    Plan(
        "process(), 1,000 memories x 256",
        "past requests",
        (200, 600, 2000),
        lambda p: Answering(1000, past=p).middle(),
        150,
    ),
    Plan("allocated, 256-d x 3 steps", "trajectories", (1000, 3000, 10_000), held, 1),
    Plan("allocated, 256-d", "memories", (1000, 3000, 10_000), lambda n: Remembering(n).held(), 1),
    Plan("file of save(), 256-d", "memories", (1000, 3000, 10_000), lambda n: Remembering(n).kept(), 1),
    Plan("index() of one more, 256-d", "memories", (1000, 3000, 10_000), lambda n: Remembering(n).one_more(), 20),
)
_QUICK_SHRINK, _QUICK_ROUNDS = 10, 2


def growths(*, is_quick: bool) -> Iterator[Growth]:
    """Yield the growth of every figure."""
    for plan in PLANS:
        yield plan.measured(_QUICK_SHRINK if is_quick else 1, _QUICK_ROUNDS if is_quick else None)


def table(found: list[Growth]) -> list[str]:
    """Return the table in Markdown, a line each."""
    lines = ["| figure | what grows | at 1x | at 3x | at 10x | unit | exponent | log10 of 10x over 1x |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for growth in found:
        pairs = zip(growth.sizes, growth.values, strict=True)
        cells = " | ".join(f"{page.number(value)} ({size:,})" for size, value in pairs)
        exponents = f"{growth.exponent:.2f} | {growth.tenfold:.2f}"
        lines.append(f"| {growth.name} | {growth.varied} | {cells} | {growth.unit} | {exponents} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table into this document")
    parser.add_argument("--quick", action="store_true", help="sizes ten times smaller: does it all run?")
    options = parser.parse_args()
    began, before = time.perf_counter(), load()
    found = []
    for growth in growths(is_quick=options.quick):
        cells = "".join(f"{page.number(value):>10}" for value in growth.values)
        print(f"{growth.name:48}{growth.varied:14}{cells} {growth.unit:3}  exponent {growth.exponent:5.2f}", flush=True)
        found.append(growth)
    machine = Machine.now({}, {}, before)
    for line in machine.lines():
        print(line)
    print(f"{time.perf_counter() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps([asdict(growth) for growth in found], indent=2) + "\n")
    if options.markdown:
        page.write(options.markdown, table(found), machine)


if __name__ == "__main__":
    main()
