"""Does the cost of harm stay within the budget: many streams of qualities through the guard alone, without an engine.

What is counted is what harm cost in expectation, at the worst moment of a stream, against what the budget is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.config import GuardConfig
from sona.guard.guard import Guard, Observation
from sona.guard.holdout import Arm


@dataclass(frozen=True, slots=True)
class Case:
    """Mean qualities of frozen and of learned answers; outcomes are 0 or 1."""

    frozen: float
    learned: float
    before: float | None = None  # what learned answers earn until the turn; as frozen ones do when None
    turn: int = 0  # request at which they turn harmful; the end of the warm-up if that is later

    @property
    def name(self) -> str:
        """Say what happens."""
        earlier = "" if self.before is None else f", {self.before:g} before request {self.turn:,}"
        return f"{self.frozen:g} -> {self.learned:g}{earlier}"


CASES = (
    *(Case(0.6, learned) for learned in (0.0, 0.3, 0.5, 0.55)),
    Case(0.3, 0.0),
    Case(0.3, 0.2),
    Case(0.1, 0.0),
    Case(0.5, 0.2, before=0.6, turn=1000),
    Case(0.5, 0.4, before=0.6, turn=1000),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What harm cost in one stream, as a share of what the budget is a share of."""

    greatest: float  # at any moment
    final: float


def cost_of(case: Case, seed: int, count: int) -> Cost:
    """Return what harm cost; nothing is there to roll back to."""
    config = GuardConfig()
    guard, rng = Guard(config, f"key {seed}".encode()), np.random.default_rng([seed, 3])
    cost = greatest = now = 0.0
    for number in range(count):
        unit = f"request-{number}"
        assignment = guard.assign(unit)
        guard.served(assignment.arm, is_compared=assignment.is_compared)
        mean = _learned(case, number, config.warm_up)
        is_learned = assignment.arm is Arm.LEARNED
        quality = float(rng.random() < (mean if is_learned else case.frozen))
        guard.observe(
            Observation(
                unit=unit,
                arm=assignment.arm,
                exposure=assignment.exposure,
                is_compared=assignment.is_compared,
                is_identical=False,
                quality=quality,
                common=0.0,
                at=float(number),
            )
        )
        cost += (case.frozen - mean) * is_learned
        now = cost / (case.frozen * max(number + 1, config.budget_requests))
        greatest = max(greatest, now)
    return Cost(greatest, now)


def _learned(case: Case, number: int, warm_up: int) -> float:
    if number < warm_up:
        return case.frozen  # nothing was learned yet
    if number < case.turn:
        return case.frozen if case.before is None else case.before
    return case.learned


def summed_up(case: Case, costs: list[Cost]) -> dict[str, object]:
    """Return how often and how far the cost went beyond the budget."""
    budget = GuardConfig().budget + 1e-9
    greatest = np.array([cost.greatest for cost in costs])
    within = float(np.mean(greatest <= budget))
    return {
        "case": case.name,
        "streams": len(costs),
        "always_within": within,
        "within_at_the_end": float(np.mean([cost.final <= budget for cost in costs])),
        "median": float(np.median(greatest)),
        "at_95_percent": float(np.quantile(greatest, 0.95)),
        "greatest": float(greatest.max()),
        "kept": within >= 0.95,
    }
