"""One stream through the guard, looked at after every outcome, and beside it what other ways of looking would say."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, replace

import numpy as np

from sona.config import GuardConfig
from sona.guard.comparison import Comparison, Testimony
from sona.guard.guard import Guard, Observation
from sona.guard.holdout import Arm, Assignment
from validity.streams import Request, Scenario

TWO_SIDED_95 = 1.959964
LEAST_PER_ARM = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was said of one stream, ever."""

    improved: bool = False
    worse: bool = False
    missed: bool = False  # the interval was ever beside the true mean effect
    t_test_improved: bool = False
    naive_improved: bool = False  # every visit of a unit taken for a first
    at: int | None = None  # outcomes until "improved" was said first


class TTest:
    """The control: a t-test of fixed sample size, looked at after every outcome as if it were the only look."""

    def __init__(self) -> None:
        """Start without outcomes."""
        self.sums = np.zeros((2, 3))
        self.improved = False

    def add(self, arm: int, quality: float) -> None:
        """Add an outcome, and look."""
        self.sums[arm] += (1.0, quality, quality * quality)
        (n0, s0, q0), (n1, s1, q1) = self.sums.tolist()
        if min(n0, n1) < LEAST_PER_ARM or self.improved:
            return
        variance = sum((q - s * s / n) / (n - 1.0) / n for n, s, q in ((n0, s0, q0), (n1, s1, q1)))
        self.improved = s1 / n1 - s0 / n0 > TWO_SIDED_95 * math.sqrt(max(variance, 1e-12))


class Stream:
    """Runs one scenario through a guard as an engine would."""

    def __init__(self, scenario: Scenario, config: GuardConfig, seed: int) -> None:
        """Start with a new guard."""
        self.scenario = scenario
        self.guard = Guard(config, f"key {seed}".encode())
        self.rng = np.random.default_rng([seed, *scenario.name.encode()])
        self.taught: Counter[str] = Counter()
        self.waiting: deque[tuple[int, str, Assignment, Request]] = deque()
        self.told: list[tuple[Observation, Testimony]] = []
        self.naive = Comparison()
        self.t_test = TTest()
        self.effect = self.weight = 0.0
        self.outcome = Outcome()

    def run(self, count: int, every: int = 1) -> Outcome:
        """Serve `count` requests; look after every outcome, or after every so many."""
        for number in range(count):
            unit = self.scenario.unit(self.rng, number)
            assignment = self.guard.assign(unit)
            self.guard.served(assignment.arm, is_compared=assignment.is_compared)
            request = self.scenario.draw(self.rng, number / count, self.taught[unit] > 0)
            due = number + int(self.rng.integers(self.scenario.latest + 1))
            self.waiting.append((due, unit, assignment, request))
            for entry in [entry for entry in self.waiting if entry[0] <= number]:
                self.waiting.remove(entry)
                self.tell(number, *entry[1:])
            if number % every == 0:
                self.look()
        return self.outcome

    def tell(self, number: int, unit: str, assignment: Assignment, request: Request) -> None:
        """Tell the guard how a request went."""
        observation = observed(number, unit, assignment, request)
        is_amended = self.rng.random() < self.scenario.amended
        first = replace(observation, quality=observation.common) if is_amended else observation
        heard = self.guard.observe(first)
        if is_amended:
            heard = self.guard.observe(observation, heard.testimony)
        if not assignment.is_held_out:
            self.taught[unit] += 1
        if assignment.is_compared and self.scenario.is_repeated:
            self.naive.observe(replace(heard.testimony.trial, visit=1))
        if assignment.is_compared:
            self.t_test.add(int(assignment.arm is Arm.LEARNED), observation.quality)
            weight = assignment.exposure * (1.0 - assignment.exposure)
            self.effect += weight * request.effect
            self.weight += weight

    def look(self) -> None:
        """Note what would be said now."""
        lift = self.guard.evidence.whole.lift(self.guard.config.alpha)
        if lift.value is None:
            return
        old, truth = self.outcome, self.effect / self.weight
        is_improved = lift.low > 0.0
        self.outcome = Outcome(
            improved=old.improved or is_improved,
            worse=old.worse or lift.high < 0.0,
            missed=old.missed or not lift.low <= truth <= lift.high,
            t_test_improved=self.t_test.improved,
            naive_improved=old.naive_improved or self._is_naively_improved(),
            at=lift.trials if is_improved and old.at is None else old.at,
        )

    def _is_naively_improved(self) -> bool:
        return self.scenario.is_repeated and self.naive.lift(self.guard.config.alpha).low > 0.0


def observed(number: int, unit: str, assignment: Assignment, request: Request) -> Observation:
    return Observation(
        unit=unit,
        arm=assignment.arm,
        exposure=assignment.exposure,
        is_compared=assignment.is_compared,
        is_identical=request.is_identical,
        quality=request.learned if assignment.arm is Arm.LEARNED else request.frozen,
        common=request.common,
        at=float(number),
        prefix=request.prefix,
    )
