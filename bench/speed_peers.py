"""How fast is SONA beside the published packages of its peers, and beside the bare work in numpy?

python bench/speed_peers.py [--json FILE] [--markdown FILE] [--quick] [--no-install]

All are measured in the same run, in rounds that take turns, on one thread unless the figure says otherwise; figures
are medians of rounds. Peers run in processes of their own and time themselves. Their packages are installed into
build/peers the first time; one that cannot be had is skipped, and the reason said. Every answer of SONA's is compared
with that of the control before it is timed. `--json` writes the figures, and beside them FILE.machine.json what they
ran on. `--markdown` puts the table between the marks of a document. With `--quick` everything is small, and held to no
goal.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread, so that figures can be compared

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from peers import hot, page, whole
from peers.contest import Contest, PeerFigure, times_faster
from peers.install import Field, assembled
from peers.machine import Machine, load

_WIDTHS = ((256, 0.20), (768, 0.35), (2048, 0.90))
_PATTERNS = ((100, 4.0), (1000, 20.0), (10_000, 220.0))
_PARAMETERS = ((1000, 1.0), (100_000, 15.0))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large, with the goals that go with it, and how often."""

    widths: tuple[tuple[int, float], ...] = _WIDTHS
    patterns: tuple[tuple[int, float], ...] = _PATTERNS
    parameters: tuple[tuple[int, float], ...] = _PARAMETERS
    requests: int = 1000
    trajectories: int = 10_000
    clusters: int = 100
    fisher: int = 100_000
    memories: int = 10_000
    past: int = 500
    calls: int = 250
    rounds: int | None = None  # each figure's own


QUICK = Sizes(
    widths=((64, 0.0), (96, 0.0)),
    patterns=((20, 0.0), (100, 0.0)),
    parameters=((100, 0.0),),
    requests=50,
    trajectories=500,
    clusters=10,
    fisher=1000,
    memories=200,
    past=20,
    calls=10,
    rounds=2,
)


def figures(field: Field, sizes: Sizes) -> Iterator[PeerFigure]:
    """Yield every figure, those that compare with a peer beside it."""
    yield from forwards(field, sizes)
    figure = measured(hot.learning(256, goal=12.0), field, sizes)
    yield figure
    yield times_faster(figure, "npm", 10.0)
    yield hot.moved(256, sizes.requests).held(field.peers)
    for patterns, goal in sizes.patterns:
        yield measured(hot.search(patterns, goal=goal), field, sizes)
    extracted = whole.extraction(field.peers, sizes.trajectories, sizes.clusters, 2.0, min(sizes.rounds or 3, 3))
    first = next(extracted)
    yield first
    yield from extracted
    yield times_faster(first, "npm", 5.0)
    for parameters, goal in sizes.parameters:
        for contest in hot.constraints(parameters, goal=goal):
            yield measured(contest, field, sizes)
    yield measured(hot.fisher(sizes.fisher, goal=40.0), field, sizes)
    answering = whole.Answering(sizes.memories, past=sizes.past)
    yield measured(answering.middle(goal=1.0), field, sizes)
    yield measured(answering.slowest(calls=sizes.calls, goal=3.0), field, sizes)
    yield measured(answering.slowest_at_will(calls=sizes.calls), field, sizes)
    yield from whole.memory(field.peers, sizes.trajectories, goal=45.0)
    yield from whole.importing(sizes.rounds or 11, goal=60.0)


def forwards(field: Field, sizes: Sizes) -> Iterator[PeerFigure]:
    """Yield the micro adapter at every width, and how it compares."""
    for width, goal in sizes.widths:
        figure = measured(hot.forward(width, goal=goal), field, sizes)
        yield figure
        yield times_faster(figure, "pypi", 4.0)
        yield times_faster(figure, "npm", 100.0 if width == 256 else None)


def measured(contest: Contest, field: Field, sizes: Sizes) -> PeerFigure:
    return contest.held(field.peers, sizes.rounds)


def show(figure: PeerFigure) -> None:
    cells = "".join(f"{page.number(value):>9}" for value in (figure.sona, figure.numpy, figure.pypi, figure.npm))
    met = "" if figure.met is None else "met" if figure.met else "NOT MET"
    print(f"{figure.name:78}{cells} {figure.unit:3}{figure.bound:>9} {met}", flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table into this document")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    parser.add_argument("--no-install", action="store_true", help="install nothing; use peers found in build/peers")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    began, before = time.perf_counter(), load()
    field = assembled(may_install=not chosen.no_install)
    try:
        found = []
        print(f"{'':78}{'SONA':>9}{'numpy':>9}{'PyPI':>9}{'npm':>9}")
        for figure in figures(field, QUICK if chosen.quick else Sizes()):
            held = replace(figure, goal=None) if chosen.quick else figure
            show(held)
            found.append(held)
        machine = Machine.now(field.peers, field.skipped, before)
    finally:
        field.close()
    for line in machine.lines():
        print(line)
    missed = [figure.name for figure in found if figure.met is False]
    print(f"{time.perf_counter() - began:.0f} s; goals not met: {'; '.join(missed) or 'none'}")
    if chosen.json:
        chosen.json.write_text(json.dumps([figure.as_json() for figure in found], indent=2) + "\n")
        beside = chosen.json.with_name(f"{chosen.json.name}.machine.json")
        beside.write_text(json.dumps(machine.as_json(), indent=2) + "\n")
    if chosen.markdown:
        page.write(chosen.markdown, page.peers_table(found), machine)


if __name__ == "__main__":
    main()
