"""Adapters that learn from the same lists and clicks in other ways than the engine does.

"sums" are ridge statistics as the engine keeps them; with full rank nothing of their solution is cut off, and thrown
away between the domains they are the naive control. "gradient" is the instant adapter alone, which learns from each
list as it comes and is never folded: unprotected, braked by the specification's g / (1 + lambda F), or constrained by
EWC++ with the same F and lambda.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sona import BaseLoRA, EwcConfig, EwcPlusPlus, LearningSignal, MicroLoRA, QueryTrajectory, RidgeStatistics

Adapt = Callable[[np.ndarray], np.ndarray]
Log = Sequence[QueryTrajectory]

RANK, REGULARISATION, STRENGTH = 8, 3.0, 0.5  # of the engine's base adapter
RATE = 0.03  # of .002, .01, .03, .1 the one from which the plain gradient gains most on a first domain, held out
LAMBDA = 2000.0  # the specification's


@dataclass(frozen=True, slots=True)
class Pair:
    """An adapter after the first domain, and after both."""

    early: Adapt
    late: Adapt


def sums(log: Log) -> RidgeStatistics:
    """Return what the base adapter needs to know of a log: requests, and the mean of what each took."""
    statistics = RidgeStatistics(log[0].hidden_dim)
    pairs = []
    for trajectory in log:
        rewards = np.array([step.reward for step in trajectory.steps], np.float32)
        if rewards.any():
            items = np.array([step.activations / np.linalg.norm(step.activations) for step in trajectory.steps])
            pairs.append((trajectory.query_embedding, rewards / rewards.sum() @ items))
    x, y = zip(*pairs, strict=True)
    statistics.add(np.array(x), np.array(y))
    return statistics


def fitted(statistics: RidgeStatistics, rank: int) -> Adapt:
    adapter = BaseLoRA(statistics.hidden_dim, rank, 1)
    adapter.fit_layer(0, statistics, REGULARISATION, STRENGTH)
    return lambda x: adapter.forward_layer(0, x)


def signal(adapter: MicroLoRA, trajectory: QueryTrajectory) -> LearningSignal:
    return LearningSignal.from_trajectory(trajectory, adapted=adapter.forward(trajectory.query_embedding))


def trained(adapter: MicroLoRA, log: Log, constrain: Callable | None = None) -> MicroLoRA:
    """Return a copy of the adapter that went on learning from `log`, request by request."""
    copy = MicroLoRA.from_state(adapter.state())
    for trajectory in log:
        if copy.accumulate_gradient(signal(copy, trajectory)):
            copy.apply_accumulated(RATE, constrain)
    return copy


def protected(adapter: MicroLoRA, log: Log) -> EwcPlusPlus:
    """Return EWC++ with `log` as its one finished task, anchored where the adapter stands."""
    config = EwcConfig(param_count=adapter.param_count, strength=LAMBDA, learning_rate=RATE)
    ewc = EwcPlusPlus(config)
    pushes = [each for each in (signal(adapter, trajectory) for trajectory in log) if each.is_push]
    gradients = np.array([adapter.flat_gradient(each.query_embedding, each.gradient_estimate) for each in pushes])
    ewc.update_fisher(gradients)
    ewc.start_new_task(adapter.flat())
    return ewc


def controls(first: Log, second: Log) -> dict[str, Pair]:
    """Return every other way of learning the two domains one after the other."""
    width = first[0].hidden_dim
    one, two = sums(first), sums(second)
    early = fitted(one, RANK)
    new = MicroLoRA(width, 2)
    micro = trained(new, first)
    ewc = protected(micro, first)
    brake = 1.0 / (1.0 + np.float32(LAMBDA) * ewc.consolidated_fisher)
    return {
        "sums, full rank": Pair(fitted(one, width), fitted(one + two, width)),
        "sums thrown away": Pair(early, fitted(two, RANK)),
        "gradient, EWC++": Pair(micro.forward, trained(micro, second, ewc.apply_constraints).forward),
        "gradient, specification": Pair(micro.forward, trained(micro, second, lambda g, _: g * brake).forward),
        "gradient, none": Pair(micro.forward, trained(micro, second).forward),
    }
