"""Vector searches on a real server: recall and latency of what is learned, against what one could set.

PostgreSQL 18 as shipped with pgvector 0.8, HNSW by cosine, ten rows a search, with and without a filter: the package
descriptions of Debian by the default embedder, filter on their section; and tenants whose sizes differ by thousands.
A policy learns from a stream of searches; then held-out queries are run by every policy and every arm, in random order
per query, in one run. Wall time at the client, settings sent and choices made included. Recall is of ten true
neighbours, a row as near as the last of them counts. The columns:

default    the server's own choice           exact    no index on the distance      iterative   strict iterative scans
sona       what was learned                  fixed    the quickest arm whose mean recall on the pattern is at the target
oracle     per query the quickest arm whose recall on it is at the target: chosen in hindsight, by the times it is
           shown with, so a little too good
Controls: learning off is the default; `shuffled` learned from the same checks with their recalls shuffled among them.

    python bench/quality_vector.py --json FILE        about ten minutes; --quick for a look
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: the server needs the cores

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from searching.server_side import ARMS, Answer, Driver, Table, part, shuffled
from servers import (
    Filtered,
    Tenants,
    descriptions,
    embed_descriptions,
    has_table,
    nearest,
    recall,
    vector_database,
)
from sona.tuner.embedded import EmbeddedServer
from sona.tuner.execution import ExecutionParams
from sona.tuner.searches.arms import SearchArm
from sona.tuner.searches.policy import SearchPolicy

DATA = Path(os.environ.get("SONA_DATA", "../shared/data"))
TARGET = 0.95
ITERATIVE = SearchArm("iterative", ExecutionParams(custom={"hnsw.iterative_scan": "strict_order"}))
SIZES = {"debian": (0, 1000, 3000, 10_000), "tenants": (0, 700, 5000, 20_000, 10**9)}
LEAST = 10  # held-out queries that a pattern needs


@dataclass(frozen=True)
class Sizes:
    """How much is run: searches of a stream, held-out queries of each kind, and of those without a filter."""

    stream: int
    held_out: int
    unfiltered_stream: int
    unfiltered_held_out: int


FULL, QUICK = Sizes(4000, 400, 3000, 150), Sizes(150, 40, 60, 20)


@dataclass(frozen=True)
class Task:
    """One table, its queries, and which of them are learned from."""

    name: str
    data: Filtered
    train: Filtered
    held_out: Filtered
    is_filtered: bool

    def table(self, connection: psycopg.Connection) -> Table:
        """Return the table as it is asked."""
        return Table(connection, self.name, "grouped" if self.is_filtered else None)


def tasks(name: str, data: Filtered, asked: Filtered, sizes: Sizes) -> Iterator[Task]:
    """Yield the searches with the filter and those without; held-out queries are never in a stream."""
    ends = np.cumsum([sizes.held_out, sizes.unfiltered_held_out])
    rest = part(asked, slice(int(ends[1]), None))
    yield Task(name, data, rest, part(asked, slice(0, int(ends[0]))), True)
    yield Task(name, data, rest, part(asked, slice(int(ends[0]), int(ends[1]))), False)


def debian(*, is_quick: bool) -> tuple[Filtered, Filtered]:
    found = descriptions(DATA)
    if is_quick:
        found = found.of(np.arange(0, len(found.ids), 16))
    return embed_descriptions(found, held_out=len(found.ids) // 12 if is_quick else 3000)


def tenants(*, is_quick: bool) -> tuple[Filtered, Filtered]:
    drawn = Tenants(count=30, least=10, most=2000, topics=40) if is_quick else Tenants()
    return drawn.table(), drawn.queries(300 if is_quick else 4000)


def learn(task: Task, table: Table, count: int, seed: int = 0) -> Driver:
    """Serve a stream of searches while learning; recall is looked up afterwards, by what each returned."""
    driver, rng = Driver(table, SearchPolicy()), np.random.default_rng(seed)
    rows = rng.integers(0, len(task.train.groups), count)
    found = np.full((count, 10), -1)
    for place, row in enumerate(rows):
        answer = driver.serve(task.train.groups[row], task.train.vectors[row], is_learning=True)
        found[place, : len(answer.ids)] = answer.ids
    used, places = np.unique(rows, return_inverse=True)
    truth = nearest(task.data, picked(task.train, used), is_filtered=task.is_filtered)[places]
    driver.spent.recalls = recall(task.data, picked(task.train, rows), found, truth).tolist()
    return driver


def picked(queries: Filtered, rows: np.ndarray) -> Filtered:
    return Filtered(queries.vectors[rows], tuple(queries.groups[row] for row in rows), queries.fits[rows])


@dataclass(frozen=True)
class Measured:
    """Held-out queries by every policy: recall and milliseconds, each (n,)."""

    recalls: dict[str, np.ndarray]
    times_ms: dict[str, np.ndarray]


def measure(task: Task, table: Table, driver: Driver, seed: int = 1) -> Measured:
    """Run every held-out query by every policy and arm, the order drawn anew for each."""
    control = Driver(table, shuffled(driver.checked))
    control.known = driver.known
    fixed = {arm.name: arm for arm in (*ARMS, ITERATIVE)}
    names, rng, queries = [*fixed, "sona", "shuffled"], np.random.default_rng(seed), task.held_out
    found = {name: np.full((len(queries.groups), 10), -1) for name in names}
    times = {name: np.zeros(len(queries.groups)) for name in names}
    for row, (value, vector) in enumerate(zip(queries.groups, queries.vectors, strict=True)):
        for name in rng.permutation(names).tolist():
            answer = answered(table, fixed, {"sona": driver, "shuffled": control}, name, (value, vector))
            found[name][row, : len(answer.ids)] = answer.ids
            times[name][row] = 1e3 * answer.time_s
    truth = nearest(task.data, queries, is_filtered=task.is_filtered)
    return Measured({name: recall(task.data, queries, ids, truth) for name, ids in found.items()}, times)


def answered(
    table: Table,
    fixed: dict[str, SearchArm],
    learned: dict[str, Driver],
    name: str,
    asked: tuple[object, np.ndarray],
) -> Answer:
    if name in learned:
        return learned[name].serve(*asked, is_learning=False)
    return table.search(*asked, fixed[name])


def patterns(task: Task) -> dict[str, np.ndarray]:
    """Return the held-out queries of each pattern: size of the filter, and whether the query is like the rows."""
    count = len(task.held_out.groups)
    if not task.is_filtered:
        return {f"{task.name}, no filter": np.ones(count, bool)}
    names, sizes = np.unique(task.data.groups, return_counts=True)
    rows = sizes[np.searchsorted(names, task.held_out.groups)]
    found = {}
    for low, high in zip(SIZES[task.name], SIZES[task.name][1:], strict=False):
        for is_fitting in (True, False):
            which = (rows >= low) & (rows < high) & (task.held_out.fits == is_fitting)
            if which.sum() >= LEAST:
                span = f"{low} to {high} rows" if high < 10**9 else f"from {low} rows"
                found[f"{task.name}, {span}, {'like' if is_fitting else 'unlike'}"] = which
    return found


def figures(measured: Measured, which: np.ndarray) -> dict:
    """Return recall and mean and median milliseconds of every policy on some held-out queries."""
    recalls = {name: values[which] for name, values in measured.recalls.items()}
    times = {name: values[which] for name, values in measured.times_ms.items()}
    arms = [arm.name for arm in ARMS]
    good = [name for name in arms if recalls[name].mean() >= TARGET]
    fixed = min(good, key=lambda name: times[name].mean())
    hits = np.array([np.where(recalls[name] >= TARGET, times[name], np.inf) for name in arms])
    best = hits.argmin(0)
    recalls["oracle"] = np.array([recalls[arms[place]][row] for row, place in enumerate(best)])
    times["oracle"] = hits.min(0)
    recalls["fixed"], times["fixed"] = recalls[fixed], times[fixed]
    columns = ("default", "exact", "iterative", "sona", "oracle", "fixed", "shuffled")
    shown = {name: summary(recalls[name], times[name]) for name in columns}
    return {"queries": int(which.sum()), "fixed_arm": fixed, **shown}


def summary(recalls: np.ndarray, times: np.ndarray) -> dict[str, float]:
    error = recalls.std(ddof=1) / np.sqrt(len(recalls))
    return {
        "recall": float(recalls.mean()),
        "recall_error": float(error),
        "ms": float(times.mean()),
        "median_ms": float(np.median(times)),
    }


def learning(driver: Driver) -> dict:
    """Return what learning took over its stream."""
    spent, count = driver.spent, len(driver.spent.recalls)
    late = np.array(spent.recalls[count // 2 :])
    return {
        "searches": count,
        "recall": float(np.mean(spent.recalls)),
        "recall_second_half": float(late.mean()),
        "early": spent.early,
        "search_s": spent.served_s,
        "checks": spent.checks,
        "check_s": spent.check_s,
        "surveys": spent.surveys,
        "survey_s": spent.survey_s,
    }


def report(found: dict) -> dict:
    """Return all figures with what they say of the goals."""
    each = found["patterns"]
    totals = {
        way: sum(one[way]["ms"] * one["queries"] for one in each.values()) / 1e3
        for way in ("default", "exact", "iterative", "sona", "oracle", "fixed", "shuffled")
    }
    without = [one for name, one in each.items() if name.endswith("no filter")]
    ratios = [one["sona"]["ms"] / one["fixed"]["ms"] for one in without]
    goals = {
        "recall_on_every_pattern": all(one["sona"]["recall"] >= TARGET for one in each.values()),
        "quicker_than_exact": totals["sona"] < totals["exact"],
        "quicker_than_iterative": totals["sona"] < totals["iterative"],
        "no_filter_within_a_tenth": all(ratio <= 1.1 for ratio in ratios),
    }
    return found | {"total_s": totals, "no_filter_over_fixed": ratios, "goals": goals}


def run(options: argparse.Namespace) -> dict:
    sizes = QUICK if options.quick else FULL
    found: dict = {"patterns": {}, "learning": {}, "skipped": {}}
    with (
        EmbeddedServer(options.folder) as server,
        psycopg.connect(server.dsn, autocommit=True, prepare_threshold=None) as connection,
    ):
        for name, made in (("debian", debian), ("tenants", tenants)):
            if name not in options.data.split(","):
                continue
            if name == "debian" and not (DATA / "debian").is_dir():
                found["skipped"][name] = f"no data in {DATA / 'debian'}"
                continue
            data, asked = made(is_quick=options.quick)
            if not has_table(connection, name):
                vector_database(connection, data, table=name, group="grouped")
            register_vector(connection)
            for task in tasks(name, data, asked, sizes):
                one(task, connection, sizes, found)
    return report(found) if found["patterns"] else found


def one(task: Task, connection: psycopg.Connection, sizes: Sizes, found: dict) -> None:
    """Learn and measure one task, and add its figures."""
    table = task.table(connection)
    driver = learn(task, table, sizes.stream if task.is_filtered else sizes.unfiltered_stream)
    measured = measure(task, table, driver)
    for name, which in patterns(task).items():
        found["patterns"][name] = figures(measured, which)
    found["learning"][f"{task.name}{'' if task.is_filtered else ', no filter'}"] = learning(driver)


def show(found: dict) -> None:
    for name, reason in found["skipped"].items():
        print(f"skipped {name}: {reason}")
    if not found["patterns"]:
        return
    ways = ("default", "exact", "iterative", "sona", "fixed", "oracle", "shuffled")
    print("recall / mean ms of held-out searches")
    print(f"   {'':34}{'n':>4}" + "".join(f"{way:>15}" for way in ways))
    for name, one_pattern in found["patterns"].items():
        cells = (f"{one_pattern[way]['recall']:.3f} /{one_pattern[way]['ms']:7.2f}" for way in ways)
        line = "".join(f"{cell:>15}" for cell in cells)
        print(f"   {name:34}{one_pattern['queries']:4d}{line}  {one_pattern['fixed_arm']}")
    print("   total s" + " " * 28 + "".join(f"{found['total_s'][way]:15.2f}" for way in ways))
    for name, spent in found["learning"].items():
        print(
            f"   learning, {name}: {spent['searches']} searches in {spent['search_s']:.1f} s, recall "
            f"{spent['recall']:.3f}, second half {spent['recall_second_half']:.3f}; {spent['early']} ran before enough "
            f"was known; {spent['checks']} checks in {spent['check_s']:.1f} s, {spent['surveys']} surveys in "
            f"{spent['survey_s']:.1f} s"
        )
    ratios = ", ".join(f"{ratio:.2f}" for ratio in found["no_filter_over_fixed"])
    print(f"   no filter: time over that of the quickest arm at the target: {ratios}")
    print("   " + ", ".join(f"{goal}: {'met' if met else 'missed'}" for goal, met in found["goals"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall and latency of vector searches, learned and set by hand.")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--data", default="debian,tenants", help="which of the two, separated by a comma")
    parser.add_argument("--folder", type=Path, help="keep the server's data here, to find the tables again")
    parser.add_argument("--quick", action="store_true", help="small tables, for a look")
    options = parser.parse_args()
    found = run(options)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
