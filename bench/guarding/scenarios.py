"""What can go wrong with a learner, and what it costs with the guard and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import numpy as np

from guarding.world import REQUESTS, Served, World
from sona import BaseLoRA, Calibrator, GuardConfig, SonaConfig, SonaEngine
from sona.engine.learner import Learner
from sona.guard.rehearsal import Rehearsal

LEARN_EVERY = 700
UNGUARDED = GuardConfig(holdout=0.0, budget=1.0)
Target = Callable[[World, int], str]


@dataclass(slots=True)
class Course:
    """What a stream earned, shown and frozen, from some request on."""

    served: list[Served] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """What the answers shown cost against frozen ones, as a share of what those would have earned."""
        frozen = sum(one.frozen for one in self.served)
        return (frozen - sum(one.shown for one in self.served)) / max(frozen, 1e-9)

    def worst(self, least: int) -> float:
        """Return the greatest cost at any moment, over all requests so far or at least `least` of the mean."""
        frozen = np.cumsum([one.frozen for one in self.served])
        lost = frozen - np.cumsum([one.shown for one in self.served])
        mean = frozen[-1] / len(frozen)
        return float((lost / np.maximum(frozen, mean * least)).max())


def engine(guard: GuardConfig, seed: int) -> SonaEngine:
    """Return a new engine whose draw depends on the seed."""
    return SonaEngine(SonaConfig(guard=replace(guard, key=guard.key or f"world {seed}")))


def near(world: World, row: int) -> str:
    """Return what frozen answers mostly find."""
    return world.near[row]


def far(world: World, row: int) -> str:
    """Return what has to be learned."""
    return world.far[row]


def stream(made: SonaEngine, world: World, count: int, target: Target, course: Course) -> Iterator[int]:
    """Serve requests, with Loop B now and then; yield the number served so far."""
    for number in range(1, count + 1):
        row = int(world.rng.integers(REQUESTS))
        course.served.append(world.serve(made, row, target(world, row)))
        if number % LEARN_EVERY == 0:
            made.background_learn(force=True)
        yield number


@contextmanager
def poisoned(made: SonaEngine, *, is_gated: bool) -> Iterator[BaseLoRA | None]:
    """Let Loop B compute a large wrong map once, and calibration trust that map alone with all its weight.

    Without the gate, the rehearsal of the candidate on held-out lists is passed over.
    """
    fit, weights = BaseLoRA.fit_layer, Calibrator.weights
    rng = np.random.default_rng(7)
    bad: list[BaseLoRA] = []

    def wrong(self: BaseLoRA, *args: object, **kwargs: object) -> object:
        result = fit(self, *args, **kwargs)
        down, up = rng.normal(size=(self.hidden_dim, self.rank)), rng.normal(size=(self.rank, self.hidden_dim))
        self.set_layer(0, down, up)
        bad.append(self)
        return result

    def trusting(self: Calibrator) -> object:
        known = weights.fget(self)
        is_bad = bool(bad) and made._learner is not None and made._learner.base is bad[0]
        return replace(known, base=1.0) if is_bad or (len(bad) == 1 and is_rehearsing[0]) else known

    is_rehearsing = [False]
    rehearse = Learner.rehearse

    def judged(self: Learner, *args: object) -> Rehearsal:
        if not is_gated:
            return Rehearsal(0, 0.0, 1.0, False, "passed over")
        is_rehearsing[0] = True
        try:
            return rehearse(self, *args)
        finally:
            is_rehearsing[0] = False

    with mock.patch.object(Calibrator, "weights", property(trusting)):
        with mock.patch.object(BaseLoRA, "fit_layer", wrong), mock.patch.object(Learner, "rehearse", judged):
            made.background_learn(force=True)
        yield bad[0] if bad else None


def poison(guard: GuardConfig, seed: int, before: int, after: int, *, is_gated: bool) -> dict[str, object]:
    """Learn honestly, commit a poisoned version, go on."""
    world, made, course = World(seed), engine(guard, seed), Course()
    for _ in stream(made, world, before, near, course):
        pass
    harm, back = Course(), None
    with poisoned(made, is_gated=is_gated):
        bad = made.version
        for number in stream(made, world, after, near, harm):
            if back is None and made.metrics().rollbacks:
                back = number
    whole = Course(course.served + harm.served)
    return {
        "rejected": made.metrics().rejected_candidates > 0,
        "rolled_back_after": back,
        "loss": whole.loss,
        "worst": whole.worst(guard.budget_requests),
        "version": bad,
        "decisions": [decided.reason for decided in made.decisions()],
    }


def drift(guard: GuardConfig, seed: int, before: int, after: int) -> dict[str, object]:
    """Learn what people want beyond cosine; then they want what cosine finds, and what was learned is wrong."""
    world, made, early, late = World(seed), engine(guard, seed), Course(), Course()
    for _ in stream(made, world, before, far, early):
        pass
    verdict = made.report().verdict.value
    for _ in stream(made, world, after, near, late):
        pass
    return {
        "gain_before": -early.loss,
        "verdict_before": verdict,
        "loss": Course(early.served + late.served).loss,
        "loss_after_drift": late.loss,
        "worst_after_drift": late.worst(guard.budget_requests),
        "rollbacks": made.metrics().rollbacks,
    }


def hostile_user(guard: GuardConfig, seed: int, *, honest: int, clicks: int, is_named: bool) -> dict[str, object]:
    """Let 40 subjects teach, then one more give hostile clicks; return what that does to the answers of the others."""
    world, made = World(seed), engine(guard, seed)
    for number in range(honest):
        row = int(world.rng.integers(REQUESTS))
        world.serve(made, row, near(world, row), subject=f"user-{number % 40}")
    before = _answers(made, world)
    for number in range(clicks):
        row = int(world.rng.integers(REQUESTS))
        world.serve(made, row, near(world, row), subject="hostile" if is_named else None, is_hostile=True)
        if number % LEARN_EVERY == LEARN_EVERY - 1:
            made.background_learn(force=True)
    after = _answers(made, world)
    quality = [np.mean([_rank(row, near(world, place)) for place, row in enumerate(each)]) for each in (before, after)]
    changed = np.mean([one[0] != other[0] for one, other in zip(before, after, strict=True)])
    return {
        "quality_before": float(quality[0]),
        "quality_after": float(quality[1]),
        "change": float((quality[1] - quality[0]) / quality[0]),
        "first_changed": float(changed),
        "limited": made.metrics().limited,
    }


def _answers(made: SonaEngine, world: World) -> list[tuple[str, ...]]:
    return [made.preview(x, world.ids, world.vectors).learned for x in world.requests]


def _rank(shown: tuple[str, ...], target: str) -> float:
    return 1.0 / (1 + shown.index(target)) if target in shown else 0.0


def benign(seed: int, count: int) -> bool:
    """Return whether a version that does no harm was rolled back in an honest stream."""
    world, made, course = World(seed), engine(GuardConfig(), seed), Course()
    for _ in stream(made, world, count, near, course):
        pass
    return made.metrics().rollbacks > 0
