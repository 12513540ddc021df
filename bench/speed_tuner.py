"""What does the tuner cost a statement, and what do its parts take?

python bench/speed_tuner.py [--json FILE] [--quick]

A statement that is known is asked for its choice and told how it went, without a server; then the same statement runs
on a server through a tuned connection and through a plain one, in turns, with nothing to set and with settings in
force. What the tuner learns from stands before it: a thousand patterns of plans, ten thousand statements.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one query, one core

import argparse
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import psycopg

from sona.config import TunerConfig
from sona.tuner.attachment import connect
from sona.tuner.choosing.arms import plan_arms
from sona.tuner.dag.engine import DagSonaEngine
from sona.tuner.embedded import EmbeddedServer
from sona.tuner.execution import ExecutionMetrics, ExecutionParams
from sona.tuner.plans.plan import NeuralDagPlan
from sona.tuner.statements.statement import read_statement
from sona.tuner.tuner import Tuner
from speed.timing import Figure, batched_us, single_us

SQL = "SELECT count(*) FROM item i JOIN event e ON e.item_id = i.id WHERE i.kind = {} AND e.size > {}"
SETUP = (
    "CREATE TABLE item (id integer PRIMARY KEY, kind integer)",
    "CREATE TABLE event (id integer PRIMARY KEY, item_id integer, size integer)",
    "INSERT INTO item SELECT i, i % 50 FROM generate_series(1, 1000) i",
    "INSERT INTO event SELECT i, 1 + i % 1000, i % 97 FROM generate_series(1, 20000) i",
    "CREATE INDEX ON event (item_id)",
    "VACUUM ANALYZE",
)


def known(statements: int) -> Tuner:
    """Return a tuner that knows so many statements, with plans and times."""
    tuner = Tuner(TunerConfig(min_mean_s=0.0))
    plan = NeuralDagPlan.from_explain(document())
    for number in range(statements):
        request = tuner.request(SQL.format(number, 3), None)
        for _ in range(3):
            tuner.finish(request, tuner.choose(request), 0.004)
        tuner.describe(request, plan, None, 0.0001)
    return tuner


def document(rows: int = 10, table: str = "item") -> list[dict]:
    costs = {"Startup Cost": 0.0, "Total Cost": 1.5 * rows, "Plan Rows": rows, "Plan Width": 8}
    scans = [{"Node Type": "Seq Scan", "Relation Name": name, **costs} for name in (table, "event")]
    return [{"Plan": {"Node Type": "Hash Join", "Join Type": "Inner", **costs, "Plans": scans}}]


def learned(patterns: int) -> tuple[DagSonaEngine, NeuralDagPlan]:
    """Return an engine with so many patterns of plans, and a plan it knows."""
    engine, tried = DagSonaEngine(), ExecutionParams(custom={"enable_nestloop": "off"})
    plans = [NeuralDagPlan.from_explain(document(table=f"t{number}")) for number in range(patterns)]
    for plan in plans:
        for _ in range(2):
            engine.post_query(plan, ExecutionMetrics(latency_us=1e3), params=tried, baseline_us=2e3)
    engine.run_background_cycle(force=True)
    return engine, plans[0]


def of_parts(is_quick: bool) -> Iterator[Figure]:
    statements, patterns, rounds = (200, 20, 20) if is_quick else (10_000, 1000, 300)
    tuner, (engine, plan) = known(statements), learned(patterns)
    request, fresh = tuner.request(SQL.format(1, 3), None), count(1_000_000)
    metrics = ExecutionMetrics(latency_us=4e3)

    def before_and_after() -> None:
        tuner.finish(tuner.request(SQL.format(1, 3), None), tuner.choose(request), 0.004)

    def dag() -> None:
        engine.pre_query(plan)
        engine.post_query(plan, metrics, baseline_us=4e3)

    found = batched_us(
        {
            "before and after": before_and_after,
            "pre_query and post_query": dag,
            "text seen": lambda: tuner.request(SQL.format(1, 3), None),
            "values new": lambda: tuner.request(SQL.format(next(fresh), 3), None),
            "text new": lambda: read_statement(SQL.format(1, 3)),
            "plan": lambda: NeuralDagPlan.from_explain(document()).plan_embedding,
        },
        rounds,
    )
    yield Figure("a known statement, choice before and lesson after", found["before and after"], "us", 1000.0)
    name = f"pre_query and post_query, {patterns:,} patterns of plans"
    yield Figure(name, found["pre_query and post_query"], "us", 1000.0)
    yield Figure("reading a text seen before", found["text seen"], "us")
    yield Figure("reading a text with new values", found["values new"], "us")
    yield Figure("reading a new text", found["text new"], "us")
    yield Figure("reading a plan of 3 operators, with its embedding", found["plan"], "us")


def of_statements(is_quick: bool) -> Iterator[Figure]:
    calls = 100 if is_quick else 3000
    with EmbeddedServer() as server:
        plain = psycopg.connect(server.dsn, autocommit=True)
        for statement in SETUP:
            plain.execute(statement)
        tuner = Tuner(TunerConfig(exploration_share=0.0))
        tuned, set_once = connect(server.dsn, tuner, autocommit=True), Tuner(TunerConfig(exploration_share=0.0))
        forced, sql = connect(server.dsn, set_once, autocommit=True), SQL.format(7, 50)
        for connection in (plain, tuned, forced):
            connection.prepare_threshold = None
            for _ in range(3):
                connection.execute(sql)
        set_once._plans.units[set_once.request(sql, None).key].incumbent = plan_arms()[2].name
        cases = {"plain": plain, "tuned": tuned, "forced": forced}
        found = single_us({name: (lambda one=one: one.execute(sql).fetchall()) for name, one in cases.items()}, calls)
        for one in cases.values():
            one.close()
    medians = {name: float(np.median(times)) for name, times in found.items()}
    yield Figure("a statement on a server, nothing set", medians["tuned"], "us", None, medians["plain"], "untuned")
    yield Figure("the same with settings in force", medians["forced"], "us", None, medians["plain"], "untuned")
    yield Figure("what the tuner adds where nothing is set", medians["tuned"] - medians["plain"], "us", 1000.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="few patterns, few calls")
    options = parser.parse_args()
    figures = [Figure("load average before", os.getloadavg()[0], "")]
    for figure in (*of_parts(options.quick), *of_statements(options.quick)):
        control = "" if figure.control is None else f"   {figure.control_name} {figure.control:.0f}"
        goal = "" if figure.goal is None else f"   goal {figure.goal:.0f} {'met' if figure.met else 'MISSED'}"
        print(f"{figure.name:55}{figure.value:10.1f} {figure.unit}{control}{goal}")
        figures.append(figure)
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))


if __name__ == "__main__":
    main()
