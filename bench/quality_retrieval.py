"""Does learning from clicks help, on requests asked again, in other words, and never seen?

python bench/quality_retrieval.py [--json FILE] [--quick] [--tasks NAME,NAME] [--workers N]

Everything goes through the public API: `rank`, `feedback`, `background_learn`. One set of defaults for all data.
Controls: the frozen cosine (every difference is measured against it), shuffled clicks, and each part switched off
(ranks, and the parts on the two slow tasks, with the first seed only).
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread a process, so that processes may run side by side

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from sona import GuardConfig, Ranking, SonaConfig, SonaEngine, StoreError, VoteConfig
from sona.demo.evaluation import top_cosine
from sona.demo.experiment import run
from sona.demo.outcome import Outcome, Plan, summarise
from sona.demo.tasks import TASKS

SEEDS = (0, 1, 2)
NEVER = 10**9
DEFAULT = SonaConfig(guard=GuardConfig(holdout=0.0))  # what was learned answers everything; bench/guard.py has the rest
CONTROLS = {
    "shuffled_clicks": (DEFAULT, Plan(checkpoints=0, shuffle=True)),
    "no_votes": (replace(DEFAULT, use_votes=False), Plan(checkpoints=0)),
    "no_reach": (replace(DEFAULT, votes=VoteConfig(similarity_edges=(0.9949,))), Plan(checkpoints=0)),
    "no_micro": (replace(DEFAULT, use_micro=False), Plan(checkpoints=0)),
    "no_base": (replace(DEFAULT, base_strength=0.0), Plan(checkpoints=0)),
    "no_loop_b": (DEFAULT, Plan(checkpoints=0, learn_every=NEVER)),
}
RANKS = (1, 4, 8, 16, 64, 384)
RANK_TASKS = ("cranfield", "banking77")
GOALS = {
    ("cranfield", "repeat"): 0.13,
    ("cranfield", "held_out"): -0.005,
    ("banking77", "held_out"): 0.09,
    ("stdlib", "repeat"): 0.07,
    ("stdlib", "held_out"): -0.005,
    ("stdlib_full_text", "held_out"): -0.005,
}


class Adapted:
    """Ranks by the cosine of the adapted request alone: what the adapters are worth without votes."""

    def __init__(self, engine: SonaEngine) -> None:
        """Look at `engine` without changing it."""
        self.engine = engine

    def rank(self, x, ids, vectors, k=10):
        """Return the k ids nearest to the adapted request."""
        rows = top_cosine(self.engine.adapt(x)[None, :], vectors, k)[0]
        return Ranking(0, tuple(ids[int(row)] for row in rows), (0.0,) * len(rows))

    def feedback(self, trajectory_id, *, rewards=None):
        """Learn nothing: this is only looked at."""

    def background_learn(self, force=False):
        """Learn nothing: this is only looked at."""


def stream(task: str, seed: int, config: SonaConfig, plan: Plan, adapted: bool = False) -> tuple[Outcome, float]:
    engine = SonaEngine(config)
    measured = Adapted if adapted else None
    outcome = run(TASKS[task](seed), engine, rng=np.random.default_rng(seed), plan=plan, measured=measured)
    plain = replace(outcome, parts=dict(outcome.parts), curve=(), examples=())  # travels between processes
    return plain, engine.metrics().reach_trust


def jobs(tasks: list[str], seeds: tuple[int, ...]) -> dict[tuple[str, str], list[tuple]]:
    plans = {("main", task): [(task, seed, DEFAULT, Plan(checkpoints=0)) for seed in seeds] for task in tasks}
    for name, (config, plan) in CONTROLS.items():
        for task in tasks:
            chosen = seeds if name == "shuffled_clicks" or task in RANK_TASKS else seeds[:1]
            plans[(name, task)] = [(task, seed, config, plan) for seed in chosen]
    for rank in RANKS:
        config = replace(DEFAULT, use_votes=False, base_lora_rank=rank)
        for task in RANK_TASKS:
            if task in tasks:
                plans[(f"rank_{rank}", task)] = [(task, seed, config, Plan(checkpoints=0), True) for seed in seeds[:1]]
    return plans


def show(found: dict) -> None:
    print(f"{'task':18}{'part':20}{'frozen':>8}{'learned':>9}{'delta':>9}   {'95 % interval':22}{'goal':>8}")
    for task, parts in found.items():
        for part, row in parts.items():
            if not isinstance(row, dict) or "delta" not in row:
                continue
            goal = GOALS.get((task, part))
            low, high = row["ci"]
            verdict = "" if goal is None else f"{goal:+.3f} {'met' if row['delta'] >= goal else 'NOT MET'}"
            print(
                f"{task:18}{part:20}{row['frozen']:8.3f}{row['learned']:9.3f}{row['delta']:+9.4f}   "
                f"[{low:+.4f}, {high:+.4f}]{verdict:>18}"
            )


def show_controls(controls: dict) -> None:
    print("\nControls and parts switched off: difference to frozen")
    for name, tasks in controls.items():
        cells = [
            f"{task} " + " ".join(f"{part} {row['delta']:+.3f}" for part, row in parts.items() if "delta" in row)
            for task, parts in tasks.items()
        ]
        print(f"  {name}")
        for cell in cells:
            print(f"    {cell}")


def show_ranks(ranks: dict) -> None:
    print(
        "\nBase adapter alone (cosine of adapt(x), no votes), by rank: difference to frozen, seconds of Loop B a stream"
    )
    for task, rows in ranks.items():
        for rank, row in rows.items():
            cells = " ".join(f"{part} {value['delta']:+.4f}" for part, value in row["parts"].items())
            print(f"  {task:12} rank {rank:>4}  {cells}   {row['learn_s']:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--tasks", default=",".join(TASKS), help="which tasks")
    parser.add_argument("--workers", type=int, default=2, help="processes side by side")
    options = parser.parse_args()
    began = time.perf_counter()
    seeds = SEEDS[:1] if options.quick else SEEDS
    tasks, skipped = [], {}
    for task in options.tasks.split(","):
        try:
            TASKS[task](0)
            tasks.append(task)
        except StoreError as error:
            skipped[task] = str(error)
            print(f"skipped {task}: {error}")
    plans = jobs(tasks, seeds)
    with ProcessPoolExecutor(options.workers) as pool:
        futures = {key: [pool.submit(stream, *job) for job in batch] for key, batch in plans.items()}
        done = {key: [future.result() for future in batch] for key, batch in futures.items()}
    summaries = {
        key: {part.name: part.as_json() for part in summarise([outcome for outcome, _ in results])}
        for key, results in done.items()
    }
    figures: dict = {task: summaries[("main", task)] for task in tasks}
    for task in tasks:
        figures[task]["reach_trust"] = [trust for _, trust in done[("main", task)]]
    figures["controls"] = {name: {task: summaries[(name, task)] for task in tasks} for name in CONTROLS}
    figures["ranks"] = {
        task: {
            str(rank): {
                "parts": summaries[(f"rank_{rank}", task)],
                "learn_s": float(np.median([outcome.learn_s for outcome, _ in done[(f"rank_{rank}", task)]])),
            }
            for rank in RANKS
        }
        for task in RANK_TASKS
        if task in tasks
    }
    figures["skipped"], figures["seeds"] = skipped, list(seeds)
    figures["seconds"] = time.perf_counter() - began
    show({task: figures[task] for task in tasks})
    show_controls(figures["controls"])
    show_ranks(figures["ranks"])
    print(f"{figures['seconds']:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
