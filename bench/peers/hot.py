"""What a request pays for: the micro adapter, Loop A, patterns, EWC++. Every answer is compared with the control's."""

from __future__ import annotations

from itertools import count, cycle

import numpy as np

from peers.children import Question
from peers.contest import Contest, WrongAnswer, require
from peers.controls import Constraint, Correction, Fisher, Learner, nearest
from sona import (
    EwcConfig,
    EwcPlusPlus,
    LearningSignal,
    MicroLoRA,
    PatternConfig,
    QueryTrajectory,
    SonaConfig,
    SonaEngine,
)
from speed.timing import Batch, unit

TASKS = 5
K = 5
REWARDS = (0.9, 0.2, 0.6)
_QUALITY = 0.8
_POOL = 512  # requests that take turns

_LEARN = """\
x, first, second, third = next(requests)
builder = begin(x)
builder.add_step(first, None, 0.9)
builder.add_step(second, None, 0.2)
builder.add_step(third, None, 0.6)
end(builder, 0.8)"""


def forward(width: int, *, goal: float | None = None, rounds: int = 300) -> Contest:
    """Return the micro adapter of rank 2 on one vector of that width, after it was trained."""
    rng = np.random.default_rng(1)
    adapter = MicroLoRA(width, 2)
    x, g = unit(rng.normal(size=(2, width)))
    for _ in range(20):
        adapter.accumulate_gradient(LearningSignal.with_gradient(x, g, 1.0))
        adapter.apply_accumulated(0.002)
    control, out, theirs = Correction(adapter.weights.a, adapter.weights.up), np.empty_like(x), np.empty_like(x)
    name = f"micro-LoRA forward, rank 2, {width}"
    require(name, adapter.forward(x, out=out), control.forward(x, theirs))
    if np.array_equal(out, x):
        raise WrongAnswer(f"{name}: the adapter was trained and still adds nothing")
    names = {"x": x, "out": out}
    return Contest(
        name,
        "us",
        Batch("forward(x, out=out)", {**names, "forward": adapter.forward}),
        Batch("forward(x, out)", {**names, "forward": control.forward}),
        Question("forward", {"width": width}),
        goal,
        rounds,
    )


def learning(width: int, *, goal: float | None = None, rounds: int = 150) -> Contest:
    """Return Loop A through an engine in memory: begin, 3 steps, end, learn."""
    name = f"begin + 3 steps + end + learn, {width}-d"
    pool = unit(np.random.default_rng(2).normal(size=(_POOL, 4, width)))
    config = SonaConfig(hidden_dim=width, trajectory_capacity=100_000)
    engine, start = SonaEngine(config), MicroLoRA(width, config.micro_lora_rank, seed=config.seed)
    control = Learner(start.weights.a, start.scale, config.micro_lora_lr, 10_000)
    rewards = np.array(REWARDS)
    for vectors in pool[:20]:
        _learned(engine, vectors)
        control.learn(vectors, rewards, _QUALITY)
    require(name, engine.adapt(pool[0, 0]), control.forward(pool[0, 0]))
    ours = {"requests": cycle([tuple(vectors) for vectors in pool]), "begin": engine.begin_trajectory}
    bare = {"requests": cycle(list(pool)), "learn": control.learn, "rewards": rewards}
    return Contest(
        name,
        "us",
        Batch(_LEARN, {**ours, "end": engine.end_trajectory}),
        Batch("learn(next(requests), rewards, 0.8)", bare),
        Question("learn", {"width": width}),
        goal,
        rounds,
    )


def _learned(engine: SonaEngine, vectors: np.ndarray) -> None:
    builder = engine.begin_trajectory(vectors[0])
    for activations, reward in zip(vectors[1:], REWARDS, strict=True):
        builder.add_step(activations, None, reward)
    engine.end_trajectory(builder, _QUALITY)


def moved(width: int, requests: int) -> Contest:
    """Return how far a request moves once it was answered perfectly so many times: whether speed buys any learning."""
    x, target = unit(np.random.default_rng(8).normal(size=(2, width)))

    def once() -> float:
        engine = SonaEngine(SonaConfig(hidden_dim=width))
        for _ in range(requests):
            builder = engine.begin_trajectory(x)
            builder.add_step(target, None, 1.0)
            engine.end_trajectory(builder, 1.0)
        return 100.0 * float(np.linalg.norm(engine.adapt(x) - x))

    name = f"how far {requests:,} perfect answers to a request move it, {width}-d"
    return Contest(name, "%", once, question=Question("moved", {"width": width, "requests": requests}), rounds=1)


def with_patterns(patterns: int, width: int, rng: np.random.Generator) -> SonaEngine:
    """Return an engine that holds exactly so many patterns: requests unlike each other, a pattern of each."""
    each = min(patterns, 500)
    alone = PatternConfig(k_clusters=each, min_cluster_size=1, min_cohesion=0.0, max_patterns=patterns)
    engine = SonaEngine(SonaConfig(hidden_dim=width, use_micro=False, trajectory_capacity=each, patterns=alone))
    ids = count()
    while engine.metrics().patterns < patterns:
        for x in unit(rng.normal(size=(each, width))):
            engine.submit_trajectory(QueryTrajectory(next(ids), x, final_quality=_QUALITY))
        engine.background_learn(force=True)
    return engine


def search(patterns: int, width: int = 256, *, goal: float | None = None, rounds: int = 150) -> Contest:
    """Return `find_patterns` of the 5 nearest of that many patterns of an engine."""
    name = f"find_patterns, k = {K} of {patterns:,}, {width}-d"
    rng = np.random.default_rng(3)
    engine, queries = with_patterns(patterns, width, rng), unit(rng.normal(size=(64, width)))
    held = [match.pattern for match in engine.find_patterns(queries[0], patterns)]
    if len(held) != patterns:
        raise WrongAnswer(f"{name}: the engine holds {len(held)} patterns")
    directions = unit(np.stack([pattern.centroid for pattern in held]).astype(np.float64))
    for query in queries[:8]:
        rows, products = nearest(directions, query, K)
        found = engine.find_patterns(query, K)
        require(name, [match.similarity for match in found], products)
        require(name, [match.pattern.id for match in found], [held[row].id for row in rows], rtol=0.0, atol=0.0)
    names = {"k": K}
    return Contest(
        name,
        "us",
        Batch("find(next(queries), k)", {**names, "find": engine.find_patterns, "queries": cycle(list(queries))}),
        Batch(
            "find(held, next(queries), k)", {**names, "find": nearest, "held": directions, "queries": cycle(queries)}
        ),
        Question("search", {"patterns": patterns, "width": width}),
        goal,
        rounds,
    )


def constraints(parameters: int, *, goal: float | None = None, rounds: int = 200) -> tuple[Contest, Contest]:
    """Return EWC++'s constraint after five tasks: with the weights given, and at the anchor."""
    rng = np.random.default_rng(4)
    learner = EwcPlusPlus(EwcConfig(param_count=parameters))
    for _ in range(TASKS):
        learner.update_fisher(rng.normal(size=(8, parameters)).astype(np.float32))
        learner.start_new_task(rng.normal(size=parameters).astype(np.float32))
    gradient, weights = rng.normal(size=(2, parameters)).astype(np.float32)
    out, theirs = np.empty_like(gradient), np.empty_like(gradient)
    stiffness = learner.strength * learner.consolidated_fisher.astype(np.float64)
    control = Constraint(stiffness, learner.anchor, learner.config.learning_rate)
    name = f"EWC constraints, {parameters:,} parameters, {TASKS} tasks"
    require(name, learner.apply_constraints(gradient, weights, out=out), control.apply(gradient, weights, theirs))
    require(name, learner.apply_constraints(gradient, out=out), control.at_anchor(gradient, theirs))
    names = {"g": gradient, "w": weights, "out": out}
    ours, bare = {**names, "apply": learner.apply_constraints}, {**names, "control": control}
    return (
        Contest(
            name,
            "us",
            Batch("apply(g, w, out=out)", ours),
            Batch("control.apply(g, w, out)", bare),
            goal=goal,
            rounds=rounds,
        ),
        Contest(
            f"{name}, at the anchor",
            "us",
            Batch("apply(g, out=out)", ours),
            Batch("control.at_anchor(g, out)", bare),
            goal=goal,
            rounds=rounds,
        ),
    )


def fisher(parameters: int, *, goal: float | None = None, rounds: int = 200) -> Contest:
    """Return EWC++'s update of the Fisher by one gradient."""
    name = f"EWC Fisher update, {parameters:,} parameters"
    gradients = np.random.default_rng(5).normal(size=(8, parameters)).astype(np.float32)
    learner = EwcPlusPlus(EwcConfig(param_count=parameters))
    control = Fisher(parameters, learner.config.fisher_decay)
    for gradient in gradients:
        learner.update_fisher(gradient)
        control.update(gradient)
    require(name, learner.fisher, control.value(), rtol=1e-3)
    return Contest(
        name,
        "us",
        Batch("update(g)", {"g": gradients[0], "update": learner.update_fisher}),
        Batch("update(g)", {"g": gradients[0], "update": control.update}),
        goal=goal,
        rounds=rounds,
    )
