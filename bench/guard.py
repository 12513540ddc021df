"""What harm costs with the guard and without, and whether an engine finds out by itself that learning helps.

Everything goes through the engine's public verbs; only the poison is injected. What frozen answers would have earned
is known exactly: the same people, with the same luck, look at both. Controls: nothing held out and no budget; no
limit on a subject's influence; clicks on random items.

    python bench/guard.py --json FILE        about six minutes on two idle cores; --quick for a look
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from guarding.budget import CASES, Case, Cost, cost_of, summed_up
from guarding.lies import lies
from guarding.scenarios import UNGUARDED, benign, drift, hostile_user, poison
from sona import GuardConfig, SonaConfig, SonaEngine, SonaError
from sona.demo.experiment import run
from sona.demo.outcome import Plan
from sona.demo.tasks import TASKS

BUDGET = GuardConfig().budget


def report(task: str, seed: int, shuffle: bool, passes: int | None) -> dict[str, object] | None:
    """Return what a default engine says of itself after a stream of the demonstration; None without the data."""
    try:
        chosen = TASKS[task](seed)
    except SonaError:
        return None
    chosen = chosen if passes is None else replace(chosen, passes=passes)
    engine = SonaEngine(SonaConfig(guard=GuardConfig(key="demo")))
    first: list[int] = []

    def look(done: int, total: int) -> None:
        if not first and done % 100 == 0 and engine.report().verdict.value == "improved":
            first.append(done)

    run(chosen, engine, rng=np.random.default_rng(seed), plan=Plan(checkpoints=0, shuffle=shuffle), on_progress=look)
    found = engine.report()
    return {
        "verdict": found.verdict.value,
        "lift": found.lift.value,
        "ci": [found.lift.low, found.lift.high],
        "compared": found.lift.trials,
        "improved_at": first[0] if first else None,
        "exposure": found.exposure,
        "rollbacks": found.rollbacks,
    }


def figures(options: argparse.Namespace) -> dict[str, object]:
    """Return all figures, computed side by side."""
    seeds = range(1 if options.quick else 6)
    before, after = (400, 300) if options.quick else (1000, 2000)
    guarded = GuardConfig()
    with ProcessPoolExecutor(options.workers) as pool:

        def each(work: Callable[..., object], *rest: object, **named: object) -> list[Future[object]]:
            return [pool.submit(work, *rest[:1], seed, *rest[1:], **named) for seed in seeds]

        reports = {
            (task, shuffle): [
                pool.submit(report, task, seed, shuffle, 1 if options.quick else None)
                for seed in range(1 if options.quick else 2)
            ]
            for task in (("banking77",) if options.quick else ("stdlib", "banking77"))
            for shuffle in (False, True)
        }
        named = {"honest": before, "clicks": after if options.quick else 1000}
        jobs = {
            "poison": {
                "guard": each(poison, guarded, before, after, is_gated=False),
                "gate": each(poison, guarded, before, 300, is_gated=True),
                "no_guard": each(poison, UNGUARDED, before, after, is_gated=False),
            },
            "drift": {
                "guard": each(drift, guarded, after, after),
                "no_guard": each(drift, UNGUARDED, after, after),
            },
            "lies": {
                "guard": each(lies, guarded, after, share=0.3) + each(lies, guarded, after, share=1.0),
                "no_guard": each(lies, UNGUARDED, after, share=0.3) + each(lies, UNGUARDED, after, share=1.0),
            },
            "hostile": {
                "limits": each(hostile_user, guarded, **named, is_named=True),
                "named_no_limits": each(hostile_user, GuardConfig(influence=1.0), **named, is_named=True),
                "no_limits": each(hostile_user, guarded, **named, is_named=False),
            },
        }
        count = 4 if options.quick else 200
        calm = [pool.submit(benign, 1000 + seed, 600) for seed in range(count)]
        streams, length = (2, 1200) if options.quick else (100, 3000)
        costs = {case: [pool.submit(cost_of, case, seed, length) for seed in range(streams)] for case in CASES}
        found: dict[str, object] = {
            name: {kind: [job.result() for job in runs] for kind, runs in kinds.items()} for name, kinds in jobs.items()
        }
        found["benign"] = {"streams": count, "rolled_back": sum(bool(job.result()) for job in calm)}
        found["spent"] = spent({case: [job.result() for job in jobs] for case, jobs in costs.items()})
        found["report"] = {
            f"{task}{'_shuffled' if shuffle else ''}": [job.result() for job in runs if job.result() is not None]
            for (task, shuffle), runs in reports.items()
        }
    return {**found, "budget": BUDGET, "summary": summary(found)}


def spent(costs: dict[Case, list[Cost]]) -> list[dict[str, object]]:
    """Return for every size of harm how much of the budget it took."""
    return [summed_up(case, each) for case, each in costs.items()]


def summary(found: dict) -> dict[str, object]:
    """Return the worst of each, which the goals are about."""
    poisoned, hostile = found["poison"], found["hostile"]
    return {
        "poison_rolled_back": all(one["rolled_back_after"] is not None for one in poisoned["guard"]),
        "poison_loss": max(one["loss"] for one in poisoned["guard"]),
        "poison_worst": max(one["worst"] for one in poisoned["guard"]),
        "poison_rejected_by_gate": sum(one["rejected"] for one in poisoned["gate"]) / len(poisoned["gate"]),
        "poison_loss_without_guard": min(one["loss"] for one in poisoned["no_guard"]),
        "drift_loss": max(one["loss"] for one in found["drift"]["guard"]),
        "lies_loss": max(one["loss"] for one in found["lies"]["guard"]),
        "budget_always_kept": min(row["always_within"] for row in found["spent"]),
        "budget_greatest_cost": max(row["greatest"] for row in found["spent"]),
        "hostile_change": min(one["change"] for one in hostile["limits"]),
        "hostile_change_without_limits": max(one["change"] for one in hostile["no_limits"]),
        "benign_rolled_back": found["benign"]["rolled_back"] / found["benign"]["streams"],
    }


def show(found: dict) -> None:
    """Print the figures as tables."""
    said = found["summary"]
    print(f"Cost against frozen answers as a share of what those earn; the budget is {BUDGET}")
    print(f"   {'':34}{'guard':>9}{'control':>9}")
    rows = (
        ("poisoned version, whole stream", said["poison_loss"], said["poison_loss_without_guard"]),
        ("the same, at the worst moment", said["poison_worst"], None),
        ("drift, whole stream", said["drift_loss"], max(one["loss"] for one in found["drift"]["no_guard"])),
        (
            "drift, after it",
            max(one["loss_after_drift"] for one in found["drift"]["guard"]),
            max(one["loss_after_drift"] for one in found["drift"]["no_guard"]),
        ),
        ("one hostile user, to the others", -said["hostile_change"], -said["hostile_change_without_limits"]),
    )
    for name, guarded, control in rows:
        print(f"   {name:34}{guarded:9.3f}{'-' if control is None else f'{control:.3f}':>9}")
    back = [one["rolled_back_after"] for one in found["poison"]["guard"]]
    gate = said["poison_rejected_by_gate"]
    print(f"Poisoned versions rolled back after {back} requests; rejected by the gate: {gate:.0%}")
    print(f"Rollbacks after a drift: {[one['rollbacks'] for one in found['drift']['guard']]}")
    calm = found["benign"]
    print(f"Harmless streams with a rollback: {calm['rolled_back']} of {calm['streams']}")
    show_more(found)
    print("What engines said of themselves")
    for name, runs in found["report"].items():
        for one in runs:
            low, high = one["ci"]
            when = "" if one["improved_at"] is None else f", first after {one['improved_at']:,} requests"
            print(f"   {name:20}{one['verdict']:13}lift {one['lift']:+.3f} [{low:+.3f}, {high:+.3f}]{when}")
        if not runs:
            print(f"   {name:20}skipped: its data are not there (SONA_DATA)")


def show_more(found: dict) -> None:
    """Print what lies cost, and whether the budget is kept whatever the size of the harm."""
    print("Lies under no name, from the start: really lost, and what the engine said of itself")
    for kind, runs in found["lies"].items():
        for one in runs:
            print(f"   {kind:10}{one['share']:5.0%} lies{one['loss']:9.3f}   {one['verdict']}")
    print(f"The guard alone: share of streams whose cost is within the budget of {BUDGET}, always and at the end")
    print(f"   {'frozen -> learned':40}{'streams':>8}{'always':>8}{'end':>7}{'median':>8}{'95 %':>7}{'greatest':>10}")
    for row in found["spent"]:
        print(
            f"   {row['case']:40}{row['streams']:8}{row['always_within']:8.2f}{row['within_at_the_end']:7.2f}"
            f"{row['median']:8.3f}{row['at_95_percent']:7.3f}{row['greatest']:10.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--quick", action="store_true", help="few and short streams")
    options = parser.parse_args()
    began = time.perf_counter()
    found = figures(options)
    show(found)
    print(f"{time.perf_counter() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
