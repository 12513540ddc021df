"""Is "improved" said wrongly no more often than alpha, how soon is it said rightly, and what can harm cost?

python bench/proof_validity.py [--json FILE] [--streams N] [--quick]

Every stream is looked at after every outcome, and counts as wrong if it was wrong at any look. The controls: a t-test
of fixed sample size looked at as often, and the guard's own comparison with every visit of a unit taken for a first.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: the arrays are too small for threads to pay

import argparse
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from sona.config import GuardConfig
from validity.guarded import Outcome, Stream
from validity.harm import Harm, harmed
from validity.streams import EFFECTS, NULLS, Scenario, binary, new_unit

ALPHA = 0.05
SETTINGS = (
    GuardConfig(warm_up=20, holdout=0.01),
    GuardConfig(warm_up=20, holdout=0.05),
    GuardConfig(warm_up=20, holdout=0.05, budget=1.0),
    GuardConfig(warm_up=20, holdout=0.2, budget=1.0),
    GuardConfig(warm_up=20, holdout=0.5, budget=1.0),
)
POWER_SETTINGS = {
    "defaults": GuardConfig(),
    "no budget": GuardConfig(budget=1.0),
    "no budget, 20 % held out": GuardConfig(budget=1.0, holdout=0.2),
}
LIFTS = (0.02, 0.05, 0.1, 0.2)
HARMS = ((0.6, 0.0), (0.6, 0.3), (0.6, 0.5), (0.1, 0.0))

Job = tuple[Scenario, GuardConfig, int, int, int]
Pool = Callable[[Callable, Iterable], list]


def one(job: Job) -> Outcome:
    scenario, config, seed, count, every = job
    return Stream(scenario, config, seed).run(count, every)


def share(outcomes: list[Outcome], name: str) -> float:
    return float(np.mean([getattr(outcome, name) for outcome in outcomes]))


def null_streams(pool: Pool, streams: int, count: int) -> dict:
    rows, everything = [], []
    for scenario in NULLS:
        length = 2 * count if scenario.is_repeated else count
        jobs = [(scenario, SETTINGS[seed % len(SETTINGS)], seed, length, 1) for seed in range(streams)]
        found = pool(one, jobs)
        everything += found
        row = {"scenario": scenario.name, "streams": streams, "outcomes": length}
        row |= {name: share(found, name) for name in ("improved", "worse", "missed", "t_test_improved")}
        if scenario.is_repeated:
            row["every_visit_a_first_improved"] = share(found, "naive_improved")
        rows.append(row)
    return {
        "alpha": ALPHA,
        "aa_streams": len(everything),
        "aa_false_improved": share(everything, "improved"),
        "aa_false_worse": share(everything, "worse"),
        "aa_t_test_false_improved": share(everything, "t_test_improved"),
        "aa": rows,
    }


def coverage(pool: Pool, streams: int, count: int) -> dict:
    rows = []
    for scenario in EFFECTS:
        found = pool(one, [(scenario, SETTINGS[seed % len(SETTINGS)], seed, count, 1) for seed in range(streams)])
        rows.append({"scenario": scenario.name, "streams": streams, "coverage": 1.0 - share(found, "missed")})
    return {"coverage": min(row["coverage"] for row in rows), "coverage_by_scenario": rows}


def power(pool: Pool, streams: int, count: int) -> dict:
    rows = []
    for name, config in POWER_SETTINGS.items():
        for lift in LIFTS:
            scenario = Scenario("power", new_unit, partial(binary, base=0.5, lift=lift))
            found = pool(one, [(scenario, config, seed, count, 20) for seed in range(streams)])
            firsts = [np.inf if outcome.at is None else outcome.at for outcome in found]
            marks = (count // 8, count // 4, count // 2, count)
            shares = {str(mark): float(np.mean(np.array(firsts) <= mark)) for mark in marks}
            median = float(np.median(firsts))
            rows.append(
                {
                    "settings": name,
                    "lift": lift,
                    "improved_after": shares,
                    "median_outcomes": median if np.isfinite(median) else None,
                }
            )
    return {"power": rows}


def _harm(job: tuple[float, float, int, int]) -> Harm:
    return harmed(*job)


def harm(pool: Pool, streams: int, count: int) -> dict:
    rows = []
    for frozen, learned in HARMS:
        found = pool(_harm, [(frozen, learned, seed, count) for seed in range(streams)])
        rows.append(
            {
                "frozen": frozen,
                "learned": learned,
                "budget": GuardConfig().budget,
                "greatest_loss": max(outcome.greatest for outcome in found),
                "beyond_budget": float(np.mean([outcome.greatest > GuardConfig().budget for outcome in found])),
                "mean_loss": float(np.mean([outcome.final for outcome in found])),
                "loss_without_guard": found[0].unguarded,
                "found": float(np.mean([outcome.is_found for outcome in found])),
                "exposure_at_the_end": float(np.median([outcome.exposure for outcome in found])),
            }
        )
    return {"harm": rows}


def show(figures: dict) -> None:
    print(f"Nothing to find: share of streams where it was ever said, alpha {ALPHA}, a look after every outcome")
    print(f"   {'stream':24}{'streams':>8}{'improved':>10}{'worse':>8}{'t-test':>8}{'every visit a first':>21}")
    for row in figures["aa"]:
        naive = row.get("every_visit_a_first_improved")
        last = f"{'-':>21}" if naive is None else f"{naive:21.3f}"
        print(
            f"   {row['scenario']:24}{row['streams']:8}{row['improved']:10.3f}{row['worse']:8.3f}"
            f"{row['t_test_improved']:8.3f}{last}"
        )
    print(
        f"   {'all':24}{figures['aa_streams']:8}{figures['aa_false_improved']:10.3f}{figures['aa_false_worse']:8.3f}"
        f"{figures['aa_t_test_false_improved']:8.3f}"
    )
    print("Coverage: share of streams whose interval never left out the true lift (at least .95 promised)")
    for row in figures["coverage_by_scenario"]:
        print(f"   {row['scenario']:24}{row['streams']:8}{row['coverage']:10.3f}")
    print("Power: share of streams called improved within so many outcomes; qualities of 0 or 1, half of them 1")
    header = "".join(f"{count:>8}" for count in figures["power"][0]["improved_after"])
    print(f"   {'settings':26}{'lift':>6}{header}{'median':>10}")
    for row in figures["power"]:
        shares = "".join(f"{value:8.2f}" for value in row["improved_after"].values())
        median = "-" if row["median_outcomes"] is None else f"{row['median_outcomes']:.0f}"
        print(f"   {row['settings']:26}{row['lift']:6.2f}{shares}{median:>10}")
    print("Harm: cost of learned answers as a share of what frozen ones would have earned, at the defaults")
    print(
        f"   {'frozen':>6}{'learned':>9}{'greatest':>10}{'mean':>8}{'no guard':>10}{'found':>7}{'shown at the end':>18}"
    )
    for row in figures["harm"]:
        print(
            f"   {row['frozen']:6.1f}{row['learned']:9.1f}{row['greatest_loss']:10.3f}{row['mean_loss']:8.3f}"
            f"{row['loss_without_guard']:10.3f}{row['found']:7.2f}{row['exposure_at_the_end']:18.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--streams", type=int, default=1200, help="streams in which there is nothing to find, in all")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--quick", action="store_true", help="few and short streams")
    options = parser.parse_args()
    began = time.perf_counter()
    streams = max((16 if options.quick else options.streams) // len(NULLS), 1)
    few = 2 if options.quick else max(streams // 4, 2)
    length = 150 if options.quick else 800
    with ProcessPoolExecutor(options.workers) as processes:

        def pool(work: Callable, jobs: Iterable) -> list:
            return list(processes.map(work, jobs, chunksize=2))

        figures = null_streams(pool, streams, length)
        figures |= coverage(pool, 2 * few, length)
        figures |= power(pool, few, 5 * length)
        figures |= harm(pool, few, 4 * length)
    show(figures)
    figures["seconds"] = time.perf_counter() - began
    print(f"{figures['seconds']:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
