"""Part B: scikit-learn's digits as five tasks of two classes, one after another, the task known when tested.

"ours" takes the Fisher once, at the end of a task, over labels drawn from the model; "ewc++_online" takes it while it
learns, from the very gradients it learns from. lambda is tuned on nothing. Ten epochs leave a task half learned, so
whatever slows learning down also forgets less there; the longer schedules show what only delays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.datasets import load_digits

from forgetting import network
from sona.config import EwcConfig
from sona.retention import EwcPlusPlus

RATE, BATCH, STRENGTH, REPLAY = 0.1, 32, 3000.0, 200
BRAKES = ("naive", "specification", "ours")
METHODS = ("naive", "specification", "ours", "ewc++_online", "replay_200", "joint")


@dataclass(frozen=True, slots=True)
class Task:
    """Two classes of digits, split into what is learned from and what is tested on."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


@dataclass(slots=True)
class Run:
    """One method on one seed, as it goes."""

    method: str
    epochs: int
    rng: np.random.Generator
    weights: np.ndarray
    ewc: EwcPlusPlus
    seen: list[Task] = field(default_factory=list)


def tasks(seed: int) -> list[Task]:
    digits = load_digits()
    x, y = (digits.data / 16.0).astype(np.float32), digits.target
    order = np.random.default_rng(seed).permutation(len(y))
    cut = int(0.8 * len(y))
    found = []
    for k in range(5):
        train, test = (part[y[part] // 2 == k] for part in (order[:cut], order[cut:]))
        found.append(Task(x[train], y[train], x[test], y[test]))
    return found


def constrained(run: Run, gradient: np.ndarray) -> np.ndarray:
    """Return the gradient as the method wants it applied."""
    if run.method in ("ours", "ewc++_online"):
        return run.ewc.apply_constraints(gradient, run.weights, out=gradient)
    if run.method == "specification":
        return gradient / (1.0 + np.float32(STRENGTH) * run.ewc.consolidated_fisher)
    return gradient


def train(run: Run, x: np.ndarray, y: np.ndarray, memory: Task | None) -> None:
    for _ in range(run.epochs):
        order = run.rng.permutation(len(y))
        for start in range(0, len(y), BATCH):
            rows = order[start : start + BATCH]
            if run.method == "ewc++_online":
                run.ewc.update_fisher(network.example_gradients(run.weights, x[rows], y[rows], expected=False))
            batch_x, batch_y = x[rows], y[rows]
            if memory is not None:
                old = run.rng.integers(0, len(memory.y), BATCH)
                batch_x, batch_y = np.concatenate([batch_x, memory.x[old]]), np.concatenate([batch_y, memory.y[old]])
            gradient = constrained(run, network.gradient(run.weights, batch_x, batch_y))
            run.weights -= np.float32(RATE) * gradient


def replay_memory(run: Run) -> Task | None:
    if run.method != "replay_200" or not run.seen:
        return None
    share = REPLAY // len(run.seen)
    picks = [np.random.default_rng(0).permutation(len(task.y))[:share] for task in run.seen]
    x = np.concatenate([task.x[pick] for task, pick in zip(run.seen, picks, strict=True)])
    y = np.concatenate([task.y[pick] for task, pick in zip(run.seen, picks, strict=True)])
    return Task(x, y, x, y)


def close_task(run: Run, task: Task) -> None:
    if run.method in ("ours", "specification"):
        run.ewc.update_fisher(network.example_gradients(run.weights, task.x, task.y, expected=True))
    if run.method in ("ours", "specification", "ewc++_online"):
        run.ewc.start_new_task(run.weights)
    run.seen.append(task)


def learn(method: str, epochs: int, seed: int) -> np.ndarray:
    """Return accuracies (5, 5): row k after task k, column j on task j; joint training fills the last row only."""
    rng, stream = np.random.default_rng(seed), tasks(seed)
    config = EwcConfig(param_count=network.WIDTH, strength=STRENGTH, learning_rate=RATE)
    run = Run(method, epochs, rng, network.fresh(rng), EwcPlusPlus(config))
    table = np.full((5, 5), np.nan)
    if method == "joint":
        train(run, np.concatenate([t.x for t in stream]), np.concatenate([t.y for t in stream]), None)
        table[4] = [network.accuracy(run.weights, t.test_x, t.test_y) for t in stream]
        return table
    for k, task in enumerate(stream):
        train(run, task.x, task.y, replay_memory(run))
        close_task(run, task)
        table[k] = [network.accuracy(run.weights, t.test_x, t.test_y) for t in stream]
    return table


def forgetting(table: np.ndarray) -> float:
    """Return the mean over the first four tasks of best earlier accuracy minus the final one, in points."""
    return float(np.mean([100.0 * (table[j:4, j].max() - table[4, j]) for j in range(4)]))


def spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def run(epochs: int, seeds: int, methods: tuple[str, ...] = METHODS) -> dict:
    """Return accuracy and forgetting of `methods` in points, mean and standard deviation over seeds."""
    rows = {}
    for method in methods:
        tables = [learn(method, epochs, seed) for seed in range(seeds)]
        final = [100.0 * float(table[4].mean()) for table in tables]
        row = {"acc": float(np.mean(final)), "acc_sd": spread(final)}
        if method != "joint":
            lost = [forgetting(table) for table in tables]
            row |= {"forgetting": float(np.mean(lost)), "forgetting_sd": spread(lost)}
        rows[method] = row
    return {"epochs": epochs, "seeds": seeds, "methods": rows}
