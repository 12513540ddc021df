"""What a learner that turns harmful costs: with the guard, and without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.config import GuardConfig
from sona.guard.guard import Guard
from sona.guard.holdout import Arm
from validity.guarded import observed
from validity.streams import Request


@dataclass(frozen=True, slots=True)
class Harm:
    """Cost of one stream, as a share of what frozen answers would have earned."""

    greatest: float  # at any moment, over all requests so far or as many as the budget is for at least
    final: float
    unguarded: float
    exposure: float  # at the end
    is_found: bool


def harmed(frozen: float, learned: float, seed: int, count: int) -> Harm:
    """Serve frozen answers of one mean quality and learned ones of a lesser; nothing is there to roll back to."""
    config = GuardConfig()
    guard, rng = Guard(config, f"key {seed}".encode()), np.random.default_rng(seed)
    lost = greatest = 0.0
    for number in range(count):
        unit = f"request-{number}"
        assignment = guard.assign(unit)
        guard.served(assignment.arm, is_compared=assignment.is_compared)
        is_warm = number >= config.warm_up  # before, nothing was learned yet
        means = (frozen, learned if is_warm else frozen)
        earned = [float(rng.random() < mean) for mean in means]
        guard.observe(observed(number, unit, assignment, Request(0, 0.0, earned[1], earned[0], means[1] - means[0])))
        lost += (means[0] - means[1]) * (assignment.arm is Arm.LEARNED)
        greatest = max(greatest, lost / (frozen * max(number + 1, config.budget_requests)))
    unguarded = (frozen - learned) / frozen * (1.0 - config.warm_up / count)
    return Harm(greatest, lost / (frozen * count), unguarded, guard.exposure, guard.evidence.watch.is_alarmed)
