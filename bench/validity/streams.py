"""Simulated streams of requests: both answers earn the same, or one earns more by a known amount."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

Rng = np.random.Generator
SHOWN = 10
CLICKED = 0.35  # chance that a place is clicked once it is reached


@dataclass(frozen=True, slots=True)
class Request:
    """One request with what either list would earn.

    `effect` is the mean of what the learned list earns more, given everything but the two draws.
    """

    prefix: int
    common: float
    learned: float
    frozen: float
    effect: float
    is_identical: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """How units come, and what they are shown: `draw(rng, time, is_taught)`, the time in [0, 1)."""

    name: str
    unit: Callable[[Rng, int], str]
    draw: Callable[..., Request]
    latest: int = 0  # requests that pass until feedback comes, at most
    amended: float = 0.0  # share of outcomes first told as 0 and then amended
    is_repeated: bool = False  # whether units come again


def new_unit(rng: Rng, number: int) -> str:
    return f"request-{number}"


def heavy_unit(rng: Rng, number: int) -> str:
    """Return a unit of which one is behind half of all requests, and a hundred behind the others."""
    return "heavy" if rng.random() < 0.5 else f"light-{rng.integers(100)}"


def repeated_unit(rng: Rng, number: int) -> str:
    return f"question-{rng.integers(250)}"


def binary(rng: Rng, time: float, is_taught: bool, *, base: float, lift: float = 0.0) -> Request:
    """Return a request that is answered well or not, with nothing known of the lists."""
    return Request(0, 0.0, float(rng.random() < base + lift), float(rng.random() < base), lift)


def drifting(rng: Rng, time: float, is_taught: bool) -> Request:
    """Return a request of a day on which everything gets harder, then easier."""
    return binary(rng, time, is_taught, base=0.5 + 0.4 * np.cos(2.0 * np.pi * time))


def spread(rng: Rng, time: float, is_taught: bool) -> Request:
    """Return a request with a continuous quality, mostly near 0."""
    return Request(0, 0.0, float(rng.beta(0.3, 1.0)), float(rng.beta(0.3, 1.0)), 0.0)


def ranked(rng: Rng, time: float, is_taught: bool, *, chance: float, lift: float = 0.0) -> Request:
    """Return two lists with a common beginning: a third identical, a quarter of the others pay in the beginning."""
    prefix = SHOWN if rng.random() < 1.0 / 3.0 else int(rng.integers(SHOWN))
    if prefix == SHOWN:
        return Request(SHOWN - 1, 0.0, 0.0, 0.0, 0.0, is_identical=True)
    if prefix and rng.random() < 0.25:
        common = 1.0 / int(rng.integers(1, prefix + 1))
        return Request(prefix, common, common, common, 0.0)
    worth = 1.0 / (prefix + 1)
    better = lift * (0.5 + time)  # what is learned grows
    learned, frozen = (worth * (rng.random() < share) for share in (chance + better, chance))
    return Request(prefix, 0.0, learned, frozen, worth * better)


def self_taught(rng: Rng, time: float, is_taught: bool) -> Request:
    """Return lists of equal worth, which what the unit itself taught reorders from the top, and otherwise late."""
    prefix = 0 if is_taught else 2
    clicked = int(rng.geometric(CLICKED))
    if clicked <= prefix:
        return Request(prefix, 1.0 / clicked, 1.0 / clicked, 1.0 / clicked, 0.0)
    learned, frozen = (prefix + int(rng.geometric(CLICKED)) for _ in range(2))  # the geometric has no memory
    return Request(prefix, 0.0, _worth(learned), _worth(frozen), 0.0)


def _worth(place: int) -> float:
    return 1.0 / place if place <= SHOWN else 0.0


NULLS = (
    Scenario("binary", new_unit, partial(binary, base=0.6)),
    Scenario("rare", new_unit, partial(binary, base=0.03)),
    Scenario("continuous", new_unit, spread),
    Scenario("drifting", new_unit, drifting),
    Scenario("ranked lists", new_unit, partial(ranked, chance=0.4)),
    Scenario("late, amended", new_unit, partial(ranked, chance=0.4), latest=50, amended=0.2),
    Scenario("one unit is half", heavy_unit, partial(binary, base=0.6), is_repeated=True),
    Scenario("repeated, self-taught", repeated_unit, self_taught, is_repeated=True),
)
EFFECTS = (
    Scenario("constant", new_unit, partial(binary, base=0.5, lift=0.1)),
    Scenario("growing, ranked", new_unit, partial(ranked, chance=0.3, lift=0.2)),
    Scenario("falling, ranked", new_unit, partial(ranked, chance=0.5, lift=-0.2)),
)
