"""What the tuner takes of what there is to take, on a real server: repeated queries over the package graph of Debian.

python bench/quality_tuner.py [--data debian] [--json FILE] [--passes 20] [--quick]

112 queries, 8 templates with 14 literals each, over PostgreSQL 18 as shipped, parallel workers on; wall time at the
client, one stream. In each pass every query runs on the server as shipped, through a new tuner, and once more on the
server as shipped. Every query also runs with every arm alone (the oracle picks the quickest of its medians, the best
static setting is the arm quickest in sum; what does not end within its limit counts at the limit). At the end the
four are measured against each other, in rounds, without exploring. Controls: a tuner that may not explore, and one that
is told the times of other queries. Held-out literals: four of every fourteen are never run while a tuner learns.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: the matrices are too small for threads to pay

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from servers import debian_database, queries
from sona.config import TunerConfig
from sona.tuner.attachment import connect
from sona.tuner.choosing.arms import SERVER, Arm, plan_arms
from sona.tuner.embedded import EmbeddedServer
from sona.tuner.tuner import Tuner

DATA = Path(os.environ.get("SONA_DATA", "../shared/data"))
LIMIT, LIMIT_S = 4.0, 1.0  # of the server's own time, and at least: when an arm is given up
WORSE, WORSE_S = 1.1, 0.002  # slower than the server's own choice by both: a regression

Query = tuple[str, str]
Times = dict[str, float]


@dataclass(frozen=True)
class Passes:
    """Seconds of each pass on the server as shipped and through a tuner, and their ratios."""

    ratios: list[float]
    default_s: list[float]
    tuned_s: list[float]


def timed(connection, sql: str) -> tuple[float, list]:
    started = time.perf_counter()
    rows = connection.execute(sql).fetchall()
    return time.perf_counter() - started, rows


def with_arm(connection, arm: Arm, sql: str, limit_s: float) -> float:
    # A session's settings, not a transaction's: what it costs to set them is not the arm's.
    for name, value in arm.params.settings.items():
        connection.execute(f"SET {name} = '{value}'")
    connection.execute(f"SET statement_timeout = {max(1, int(limit_s * 1000.0))}")
    try:
        return timed(connection, sql)[0]
    except psycopg.errors.QueryCanceled:
        return limit_s
    finally:
        connection.execute("RESET statement_timeout")
        connection.execute("RESET ALL")


def matrix(connection, asked: Sequence[Query], rounds: int) -> dict[str, Times]:
    """Seconds of every query with every arm, medians of rounds; rounds begin with another arm each."""
    arms = [SERVER, *plan_arms()]
    found: dict[str, dict[str, list[float]]] = {name: {arm.name: [] for arm in arms} for name, _ in asked}
    for number in range(rounds):
        for name, sql in asked:
            timed(connection, sql)  # whatever runs first finds the caches cold
            known = found[name][SERVER.name] or [timed(connection, sql)[0]]
            limit_s = max(LIMIT_S, LIMIT * statistics.median(known))
            for arm in arms[number:] + arms[:number]:
                found[name][arm.name].append(with_arm(connection, arm, sql, limit_s))
    return {name: {arm: statistics.median(times) for arm, times in row.items()} for name, row in found.items()}


def run_passes(plain, tuned, asked: Sequence[Query], count: int) -> Passes:
    found = Passes([], [], [])
    for _ in range(count):
        sums = [0.0, 0.0]
        for _, sql in asked:
            # Before and after: whatever the machine does meanwhile and whoever finds the caches warm falls on both.
            before_s, answer = timed(plain, sql)
            time_s, tuned_answer = timed(tuned, sql)
            after_s, _ = timed(plain, sql)
            assert answer == tuned_answer, sql
            sums[0] += (before_s + after_s) / 2.0
            sums[1] += time_s
        found.default_s.append(sums[0])
        found.tuned_s.append(sums[1])
        found.ratios.append(sums[1] / sums[0])
    return found


class Liar(Tuner):
    """A tuner that is told how long another query took."""

    def __init__(self, config: TunerConfig) -> None:
        """Start with one time to tell."""
        super().__init__(config)
        self._random, self._heard = random.Random(0), [0.01]

    def finish(self, request, choice, time_s: float) -> None:
        """Take in a time that is another query's."""
        self._heard = [*self._heard[-200:], time_s]
        super().finish(request, choice, self._random.choice(self._heard))


def compare(
    dsn: str, asked: Sequence[Query], runners: Mapping[str, Callable[[str, str], float]], rounds: int
) -> dict[str, Times]:
    """Seconds of every query by every runner, medians of interleaved rounds."""
    found: dict[str, dict[str, list[float]]] = {who: {name: [] for name, _ in asked} for who in runners}
    order = list(runners)
    with psycopg.connect(dsn, autocommit=True) as warm:
        for number in range(rounds):
            order = order[1:] + order[:1]
            for name, sql in asked:
                if number == 0:
                    timed(warm, sql)
                for who in order:
                    found[who][name].append(runners[who](name, sql))
    return {who: {name: statistics.median(times) for name, times in row.items()} for who, row in found.items()}


def settled(tuner: Tuner) -> Tuner:
    """The same tuner, which may explore no more."""
    return Tuner.from_state(tuner.state(), replace(tuner.config, exploration_share=0.0))


def regressions(sona: Times, default: Times) -> list[str]:
    return [name for name in default if sona[name] > WORSE * default[name] and sona[name] > default[name] + WORSE_S]


def through(dsn: str, tuner: Tuner):
    # Prepared statements would save the planning on one side only.
    connection = connect(dsn, tuner, autocommit=True)
    connection.prepare_threshold = None
    return connection


def learned(dsn: str, plain, asked: Sequence[Query], passes: int, tuner: Tuner) -> Passes:
    with closing(through(dsn, tuner)) as tuned:
        for _, sql in asked:
            psycopg.Cursor(tuned).execute(sql)  # as warm as the other connection, and nothing learned
        return run_passes(plain, tuned, asked, passes)


def headroom(default: Times, sona: Times, oracle: Times) -> float:
    there_is = sum(default.values()) - sum(oracle.values())
    return (sum(default.values()) - sum(sona.values())) / there_is if there_is > 0.0 else 0.0


def evaluate(dsn: str, asked: Sequence[Query], table: dict[str, Times], tuners: dict[str, Tuner], rounds: int) -> dict:
    named = {arm.name: arm for arm in (SERVER, *plan_arms())}
    static = min(named, key=lambda arm: sum(row[arm] for row in table.values()))
    best = {name: min(row, key=row.__getitem__) for name, row in table.items()}
    limits = {name: max(LIMIT_S, LIMIT * row[SERVER.name]) for name, row in table.items()}
    open_connections = [psycopg.connect(dsn, autocommit=True, prepare_threshold=None) for _ in range(3)]
    tuned = {who: through(dsn, settled(tuner)) for who, tuner in tuners.items()}
    default, statically, ideal = open_connections
    runners = {
        "default": lambda name, sql: with_arm(default, SERVER, sql, limits[name]),
        "best_static": lambda name, sql: with_arm(statically, named[static], sql, limits[name]),
        "oracle": lambda name, sql: with_arm(ideal, named[best[name]], sql, limits[name]),
    } | {who: (lambda _, sql, one=one: timed(one, sql)[0]) for who, one in tuned.items()}
    try:
        found = compare(dsn, asked, runners, rounds)
    finally:
        for one in (*open_connections, *tuned.values()):
            one.close()
    return found | {"static": static}


def held_out(dsn: str, plain, asked: Sequence[Query], passes: int, config: TunerConfig) -> dict:
    """Literals never run while learning: their first pass through the tuner, against the server's own choice."""
    unseen = [one for place, one in enumerate(asked) if place % 7 >= 5]
    known = [one for place, one in enumerate(asked) if place % 7 < 5]
    tuner = Tuner(config)
    learned(dsn, plain, known, passes, tuner)
    first = learned(dsn, plain, unseen, 1, tuner)
    return {
        "queries": len(unseen),
        "default_s": first.default_s[0],
        "sona_s": first.tuned_s[0],
        "ratio": first.ratios[0],
    }


def figures(asked: Sequence[Query], options: argparse.Namespace, dsn: str) -> dict:
    config, rounds = TunerConfig(), 1 if options.quick else 3
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as plain:
        for _, sql in asked:
            timed(plain, sql)
        table = matrix(plain, asked, rounds)
        tuners = {"sona": Tuner(config), "off": Tuner(replace(config, exploration_share=0.0)), "shuffled": Liar(config)}
        runs = {who: learned(dsn, plain, asked, options.passes, tuner) for who, tuner in tuners.items()}
        final = evaluate(dsn, asked, table, tuners, 2 if options.quick else 7)
        unseen = held_out(dsn, plain, asked, options.passes, config)
    default, sona, oracle = final["default"], final["sona"], final["oracle"]
    budget, plans = tuners["sona"]._plans.budget, tuners["sona"]._plans
    return {
        "queries": len(asked),
        "passes": options.passes,
        "seconds": "wall",
        "default_s": sum(default.values()),
        "best_static": final["static"],
        "best_static_s": sum(final["best_static"].values()),
        "sona_s": sum(sona.values()),
        "oracle_s": sum(oracle.values()),
        "headroom_share": headroom(default, sona, oracle),
        "worst_pass_ratio": max(runs["sona"].ratios),
        "pass_ratios": runs["sona"].ratios,
        "regressions": len(regressions(sona, default)),
        "regressed": regressions(sona, default),
        "explored_share": budget.explored_s / budget.spent_s,
        "trials": plans.trials,
        "wins": plans.wins,
        "held_out": unseen,
        "controls": {
            who: {
                "seconds": sum(final[who].values()),
                "headroom_share": headroom(default, final[who], oracle),
                "worst_pass_ratio": max(runs[who].ratios),
                "pass_ratios": runs[who].ratios,
                "regressions": len(regressions(final[who], default)),
            }
            for who in ("off", "shuffled")
        },
        "by_query": {name: {"default": default[name], "sona": sona[name], "oracle": oracle[name]} for name in default},
        "table": table,
    }


def show(found: dict) -> None:
    print(f"{found['queries']} queries, seconds of wall time for all of them once, medians of rounds")
    for name in ("default", "best_static", "sona", "oracle"):
        note = f"   ({found['best_static']})" if name == "best_static" else ""
        print(f"   {name:12}{found[f'{name}_s']:9.3f}{note}")
    print(f"   share of the headroom {found['headroom_share']:.2f}, regressions {found['regressions']}")
    print(f"   tried {found['trials']}, won {found['wins']}, explored {found['explored_share']:.3f} of the time")
    print("   passes, over the server's own:", " ".join(f"{ratio:.2f}" for ratio in found["pass_ratios"]))
    for name, one in found["controls"].items():
        shares = f"headroom {one['headroom_share']:+.2f}, worst pass {one['worst_pass_ratio']:.2f}"
        print(f"   control {name:10}{shares}, regressions {one['regressions']}")
    unseen = found["held_out"]
    print(f"   held-out literals, first pass: {unseen['queries']} queries, {unseen['ratio']:.2f} of the server's own")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("debian",), default="debian")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="one template, three passes")
    options = parser.parse_args()
    folder = DATA / options.data
    if not folder.exists():
        found: dict = {"skipped": f"{folder} is missing"}
        print(f"skipped: {found['skipped']}")
    else:
        asked = queries(DATA)
        if options.quick:
            asked, options.passes = asked[:14], 3
        with EmbeddedServer() as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                debian_database(connection, DATA)
            found = figures(asked, options, server.dsn)
        show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
