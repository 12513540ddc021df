"""Loop A and the parts of it that have a goal of their own, each beside the bare numpy work."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

from sona import (
    EwcConfig,
    EwcPlusPlus,
    LearningSignal,
    MicroLoRA,
    PatternConfig,
    QueryTrajectory,
    ReasoningBank,
    SonaConfig,
    SonaEngine,
)
from speed.timing import Figure, Topics, batched_us, single_us, top, unit

WIDTH = 256


def learning(engine: SonaEngine, vectors: np.ndarray) -> Callable[[], None]:
    """Return Loop A as a call: begin, 3 steps, end, learn; every call is another request of `vectors` (n, 4, d)."""
    turn = count()

    def once() -> None:
        x, first, second, third = vectors[next(turn) % len(vectors)]
        builder = engine.begin_trajectory(x)
        builder.add_step(first, None, 0.9)
        builder.add_step(second, None, 0.2)
        builder.add_step(third, None, 0.6)
        engine.end_trajectory(builder, 0.8)

    return once


def seasoned(config: SonaConfig, rng: np.random.Generator) -> tuple[SonaEngine, bool]:
    """Return an engine after two cycles on two domains, and whether EWC++ protects the first one."""
    engine, closed = SonaEngine(config), False
    for _ in range(2):
        learn = learning(engine, Topics.drawn(5, WIDTH, rng).draw(2400, rng).reshape(-1, 4, WIDTH))
        for _ in range(600):
            learn()
        task = engine.background_learn(force=True).task
        closed = closed or (task is not None and task.closed)
    return engine, closed


def loop_a(calls: int) -> list[Figure]:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(calls, 4, WIDTH)))
    engine, is_protected = seasoned(SonaConfig(hidden_dim=WIDTH), rng)
    cases = {
        "protected": learning(engine, vectors),
        "fresh": learning(SonaEngine(SonaConfig(hidden_dim=WIDTH)), vectors),
        "recorded": learning(SonaEngine(SonaConfig(hidden_dim=WIDTH, use_micro=False)), vectors),
    }
    times = single_us(cases, calls)
    state = "a task protected" if is_protected else "NO task protected"
    control, name = float(np.median(times["recorded"])), "micro adapter off: recording alone"
    return [
        Figure(f"Loop A, {state}", float(np.median(times["protected"])), "us", 100.0, control, name),
        Figure("Loop A, new engine", float(np.median(times["fresh"])), "us", 100.0, control, name),
        Figure("Loop A, p99", float(np.quantile(times["protected"], 0.99)), "us"),
    ]


def micro(rounds: int) -> list[Figure]:
    rng = np.random.default_rng(1)
    adapter = MicroLoRA(WIDTH, 2)
    x, g = unit(rng.normal(size=(2, WIDTH)))
    for _ in range(20):
        adapter.accumulate_gradient(LearningSignal.with_gradient(x, g, 1.0))
        adapter.apply_accumulated(0.002)
    down, up, out = adapter.weights.a, adapter.weights.up, np.empty_like(x)
    times = batched_us(
        {
            "forward": lambda: adapter.forward(x),
            "out": lambda: adapter.forward(x, out=out),
            "bare": lambda: x + x.dot(down).dot(up),
        },
        rounds,
    )
    bare, name = times["bare"], "x + (x A) B in bare numpy, nothing checked"
    return [
        Figure("micro forward(x)", times["forward"], "us", 5.0, bare, name),
        Figure("micro forward(x, out=)", times["out"], "us", 5.0, bare, name),
    ]


def ewc(parameters: int, rounds: int) -> list[Figure]:
    rng = np.random.default_rng(2)
    learner = EwcPlusPlus(EwcConfig(param_count=parameters))
    for _ in range(5):
        learner.update_fisher(rng.normal(size=(8, parameters)).astype(np.float32))
        learner.start_new_task(rng.normal(size=parameters).astype(np.float32))
    gradient, weights = rng.normal(size=(2, parameters)).astype(np.float32)
    out, anchor = np.empty_like(gradient), learner.anchor
    stiffness = np.float32(learner.strength) * learner.consolidated_fisher
    shrink = 1.0 / (1.0 + np.float32(learner.config.learning_rate) * stiffness)
    times = batched_us(
        {
            "ours": lambda: learner.apply_constraints(gradient, weights),
            "out": lambda: learner.apply_constraints(gradient, weights, out=out),
            "bare": lambda: (gradient + stiffness * (weights - anchor)) * shrink,
        },
        rounds,
    )
    name = "(g + lambda F (w - w*)) s in bare numpy, s known, nothing checked"
    return [
        Figure(f"EWC constraints, {parameters:,} parameters, 5 tasks", times["ours"], "us", 500.0, times["bare"], name),
        Figure(f"EWC constraints, {parameters:,} parameters, out=", times["out"], "us", 500.0, times["bare"], name),
    ]


def bank_of(patterns: int, rng: np.random.Generator) -> ReasoningBank:
    """Return a bank with about that many patterns: requests unlike each other, one pattern each."""
    config = PatternConfig(k_clusters=500, min_cluster_size=1, min_cohesion=0.0, max_patterns=patterns)
    bank, ids = ReasoningBank(config), count()
    while bank.pattern_count < patterns:
        for x in unit(rng.normal(size=(500, WIDTH))):
            bank.add_trajectory(QueryTrajectory(next(ids), x, final_quality=0.8))
        bank.extract_patterns(now=0.0, rng=rng)
    return bank


def pattern_search(patterns: int, rounds: int) -> list[Figure]:
    rng = np.random.default_rng(3)
    bank, queries, turn = bank_of(patterns, rng), unit(rng.normal(size=(64, WIDTH))), count()
    held = np.stack([pattern.centroid for pattern in bank.patterns])
    times = batched_us(
        {
            "ours": lambda: bank.find_similar(queries[next(turn) % 64], 5),
            "bare": lambda: top(held, queries[next(turn) % 64], 5),
        },
        rounds,
    )
    case, name = f"find_similar of {bank.pattern_count:,} patterns", "one product and argpartition in bare numpy"
    return [Figure(case, times["ours"], "us", 1000.0, times["bare"], name)]
