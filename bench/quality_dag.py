"""Do plans that look alike want the same settings, does the adapter help to find them, and what does asking cost?

python bench/quality_dag.py [--json FILE] [--quick]

112 queries on the package graph of Debian are run on an embedded server with the server's own choice and with other
settings; a setting that leaves the plan as it is counts as the server's own choice. Then engines learn from the queries
of odd numbers and are asked for those of even numbers, and the other way round. What a query costs with what its
nearest pattern recommends stands beside the server's own choice, the best setting for all, and the best per query.
The control of the adapter is the adapter switched off.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: the matrices are too small for threads to pay

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psycopg

import servers
from sona.config.tuner import DagConfig
from sona.tuner.dag import outcomes
from sona.tuner.dag.engine import DagSonaEngine
from sona.tuner.dag.quality import AgainstDefault, WeightedQuality
from sona.tuner.embedded import EmbeddedServer
from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams
from sona.tuner.plans.plan import NeuralDagPlan

DATA = Path(os.environ.get("SONA_DATA", Path(__file__).parents[2] / "shared" / "data"))
LIMIT_S, RUNS, WIDTH = 4.0, 3, 256
CLOSE = 1.05  # a choice within 5 % of the best one counts as the best
OFF = ("nestloop", "hashjoin", "mergejoin", "seqscan", "indexonlyscan", "bitmapscan", "sort", "material")
ARMS = {
    "default": ExecutionParams(),
    **{f"no {name}": ExecutionParams(custom={f"enable_{name}": "off"}) for name in OFF},
    "serial": ExecutionParams(parallelism=0),
    "random_page_cost 1.1": ExecutionParams(custom={"random_page_cost": "1.1"}),
    "work_mem 64MB": ExecutionParams(custom={"work_mem": "64MB"}),
}
UNSEEN = ("work_mem 64MB",)  # may matter in a plan that looks the same
NAMES = tuple(ARMS)
NAME_OF = {tuple(params.settings.items()): name for name, params in ARMS.items()}


@dataclass(frozen=True, slots=True)
class Table:
    """What every query takes with every setting."""

    templates: np.ndarray  # (n,) the letter of the query's name
    is_odd: np.ndarray  # (n,) bool
    plans: tuple[NeuralDagPlan, ...]
    seconds: np.ndarray  # (n, arms)


def plan_of(connection: psycopg.Connection, sql: str) -> NeuralDagPlan:
    return NeuralDagPlan.from_explain(connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()[0])


def seconds_of(connection: psycopg.Connection, sql: str, runs: int) -> float:
    least = LIMIT_S
    for _ in range(runs):
        began = time.perf_counter()
        try:
            connection.execute(sql).fetchall()
        except psycopg.errors.QueryCanceled:
            return LIMIT_S
        least = min(least, time.perf_counter() - began)
        if least > 1.0:
            break
    return least


def measured(folder: Path, quick: bool) -> Table:
    with EmbeddedServer() as server, psycopg.connect(server.dsn, autocommit=True, prepare_threshold=None) as connection:
        servers.debian_database(connection, folder)
        connection.execute(f"SET statement_timeout = {1000 * LIMIT_S:.0f}")
        asked = servers.queries(folder)[:: 14 if quick else 1] + (servers.queries(folder)[1::14] if quick else ())
        plans, rows = [], []
        for _, sql in asked:
            seconds_of(connection, sql, 1)  # what it reads is in memory then
            plans.append(plan_of(connection, sql))
            rows.append(row_of(connection, sql, plans[-1].shape, 1 if quick else RUNS))
    names = [name for name, _ in asked]
    odd = np.array([int(name[1:]) % 2 == 1 for name in names])
    return Table(np.array([name[0] for name in names]), odd, tuple(plans), np.array(rows))


def row_of(connection: psycopg.Connection, sql: str, shape: str, runs: int) -> list[float]:
    found: list[float] = []
    for name, params in ARMS.items():
        for setting, value in params.settings.items():
            connection.execute(f"SET {setting} = '{value}'")
        same = found and name not in UNSEEN and plan_of(connection, sql).shape == shape
        found.append(found[0] if same else seconds_of(connection, sql, runs))
        for setting in params.settings:
            connection.execute(f"RESET {setting}")
    return found


def taught(
    table: Table, plans: list[NeuralDagPlan], train: np.ndarray, config: DagConfig, objective, passes: int
) -> DagSonaEngine:
    engine, rng = DagSonaEngine(config, objective=objective), np.random.default_rng(config.seed)
    for _ in range(passes):
        for row in rng.permutation(np.flatnonzero(train)):
            for arm in rng.permutation(len(NAMES)):
                took = ExecutionMetrics(latency_us=1e6 * table.seconds[row, arm])
                own = 1e6 * float(table.seconds[row, 0])
                engine.post_query(plans[row], took, params=ARMS[NAMES[arm]], baseline_us=own)
        engine.run_background_cycle(force=True)
    return engine


def judged(table: Table, attention: AttentionType, config: DagConfig, objective, passes: int = 1) -> dict[str, float]:
    plans = [plan.with_attention(attention) for plan in table.plans]
    total, close, applied, patterns, tasks = 0.0, [], 0.0, [], []
    for train in (table.is_odd, ~table.is_odd):
        engine = taught(table, plans, train, config, objective, passes)
        for row in np.flatnonzero(~train):
            arm = NAMES.index(NAME_OF[tuple(engine.find_similar(plans[row], 1)[0].params.settings.items())])
            total += float(table.seconds[row, arm])
            close.append(float(table.seconds[row, arm] <= CLOSE * table.seconds[row].min()))
            told = NAME_OF[tuple(engine.pre_query(plans[row]).params.settings.items())]
            applied += float(table.seconds[row, NAMES.index(told)])
        patterns.append(len(engine.bank))
        tasks.append(engine.metrics().ewc_tasks)
    return {
        "patterns": float(np.mean(patterns)),
        "nearest_s": total,
        "applied_s": applied,
        "best_share": float(np.mean(close)),
        "ewc_tasks": float(np.mean(tasks)),
    }


def believing(table: Table, attention: AttentionType, errors: float, objective) -> dict[str, float]:
    usual, outcomes._ERRORS = outcomes._ERRORS, errors
    try:
        return judged(table, attention, DagConfig(), objective)
    finally:
        outcomes._ERRORS = usual


def alike(table: Table, attention: AttentionType) -> dict[str, float]:
    vectors = np.stack([plan.with_attention(attention).plan_embedding for plan in table.plans])
    cosines, same = vectors @ vectors.T, table.templates[:, None] == table.templates[None]
    return {"least_within": float(cosines[same].min()), "share_across": float((cosines[~same] >= 0.95).mean())}


def overhead_us(table: Table, *, adapts: bool, count: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    engine, plans = DagSonaEngine(DagConfig(adapts=adapts)), []
    for number in range(count):  # plans far from each other: a pattern each
        plan = table.plans[number % len(table.plans)].with_attention(AttentionType.TOPOLOGICAL)
        vector = rng.normal(size=WIDTH).astype(np.float32)
        plan._memo.plan_embedding = vector / np.linalg.norm(vector)
        plans.append(plan)
    took, params = ExecutionMetrics(latency_us=1e3), ARMS["serial"]
    for _ in range(5):
        for plan in plans:
            engine.post_query(plan, took, params=params, baseline_us=2e3)
    engine.run_background_cycle(force=True)
    times = []
    for plan in plans:
        began = time.perf_counter()
        engine.pre_query(plan)
        asked = time.perf_counter()
        engine.post_query(plan, took, params=params, baseline_us=2e3)
        times.append((asked - began, time.perf_counter() - asked))
    pre, post = (1e6 * np.median(np.array(times), axis=0)).tolist()
    return {"patterns": float(len(engine.bank)), "pre_us": pre, "post_us": post, "both_us": pre + post}


def figures_of(table: Table, quick: bool) -> dict[str, object]:
    objectives = {"specified": WeightedQuality(), "against default": AgainstDefault()}
    kinds = tuple(AttentionType)[:2] if quick else tuple(AttentionType)
    totals = table.seconds.sum(axis=0)
    seeds = range(1 if quick else 3)
    return {
        "queries": len(table.plans),
        "shapes": len({plan.shape for plan in table.plans}),
        "default_s": float(totals[0]),
        "best_static_s": float(totals.min()),
        "best_static": NAMES[int(totals.argmin())],
        "oracle_s": float(table.seconds.min(axis=1).sum()),
        "alike": {kind.value: alike(table, kind) for kind in kinds},
        "attention": {
            f"{kind.value}, {name}, {similarity:g}": judged(
                table, kind, DagConfig(consolidation_similarity=similarity), objective
            )
            for kind in kinds
            for name, objective in objectives.items()
            for similarity in (0.95, 0.999)
        },
        "standard errors": {
            f"{errors:g}, {kind.value}, {name}": believing(table, kind, errors, objective)
            for errors in (0.0, 1.0, 2.0)
            for kind in kinds
            for name, objective in objectives.items()
        },
        "adapter": {
            f"{'off' if rate is None else f'on, rate {rate:g}'}, seed {seed}": judged(
                table, AttentionType.TOPOLOGICAL, adapter(rate, seed), objectives["against default"], passes=2
            )  # the adapter learns about patterns, so they have to be there
            for rate in (None, 0.05, 0.5)
            for seed in seeds
        },
        "overhead": {
            f"adapter {'on' if adapts else 'off'}": overhead_us(table, adapts=adapts, count=50 if quick else 1000)
            for adapts in (False, True)
        },
    }


def adapter(rate: float | None, seed: int) -> DagConfig:
    config = DagConfig(consolidation_similarity=0.999, seed=seed)
    return config if rate is None else replace(config, adapts=True, micro_learning_rate=rate)


def show(figures: dict[str, object]) -> None:
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name:40} {value if not isinstance(value, float) else round(value, 3)}")
            continue
        print(f"\n{name}")
        for case, row in value.items():
            print(f"  {case:48} " + "  ".join(f"{key} {figure:.3f}" for key, figure in row.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="two queries of each template, run once")
    options = parser.parse_args()
    figures = figures_of(measured(DATA, options.quick), options.quick)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
