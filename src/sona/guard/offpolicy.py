"""What each policy would earn if it answered alone, estimated from requests that chance gave either answer.

Three estimates side by side, of whole qualities: weighted by inverse propensity (IPS), the same self-normalised
(SNIPS), and doubly robust (DR). Their standard errors are the plain ones, for one look at independent requests; the
interval that may be looked at any time is that of the comparison.

Sources: Horvitz, Thompson 1952; Swaminathan, Joachims 2015 (SNIPS); Dudik, Langford, Li 2011 (DR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sona.guard.means import ArmMeans
from sona.guard.trial import Expected, Trial
from sona.state import State

_SUMS = 8  # over trials, of 1, w, w^2, w y, w^2 y, w^2 y^2, dr and dr^2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its plain standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """What one policy would earn per request if it answered alone, three ways; None before any evidence."""

    ips: Estimate | None
    snips: Estimate | None
    dr: Estimate | None


class OffPolicy:
    """Keeps the sums behind the estimates of both policies."""

    def __init__(self) -> None:
        """Start without evidence."""
        self.means = ArmMeans()
        self._sums = np.zeros((2, _SUMS))

    def observe(self, trial: Trial) -> Expected:
        """Count a trial; return what was expected of it, to be given back when it is amended."""
        expected = Expected(*self.means.predicted(0))
        self._add(trial, expected, 1.0)
        self.means.add(trial.arm, 0, trial.quality)
        return expected

    def amend(self, old: Trial, new: Trial, expected: Expected) -> None:
        """Move every sum by what an amended quality changes."""
        self._add(old, expected, -1.0)
        self._add(new, expected, 1.0)
        self.means.add(old.arm, 0, new.quality - old.quality, count=0.0)

    def _add(self, trial: Trial, expected: Expected, sign: float) -> None:
        if not 0.0 < trial.exposure < 1.0:
            return  # chance did not decide
        chances = (1.0 - trial.exposure, trial.exposure)
        for arm, mean in ((0, expected.frozen), (1, expected.learned)):
            weight = 1.0 / chances[arm] if trial.arm == arm else 0.0
            y = trial.quality
            dr = mean + weight * (y - mean)
            square = weight * weight
            row = (1.0, weight, square, weight * y, square * y, square * y * y, dr, dr * dr)
            self._sums[arm] += np.array(row) * sign

    def value(self, arm: int) -> PolicyValue:
        """Return the estimates for the learned (1) or the frozen (0) policy."""
        count, w, w2, wy, w2y, w2y2, dr, dr2 = self._sums[arm].tolist()
        if count < 2:
            return PolicyValue(None, None, None)
        ips, robust = _mean(count, wy, w2y2), _mean(count, dr, dr2)
        if w <= 0.0:
            return PolicyValue(ips, None, robust)
        ratio = wy / w
        spread = max(w2y2 - 2.0 * ratio * w2y + ratio * ratio * w2, 0.0)
        return PolicyValue(ips, Estimate(ratio, math.sqrt(spread) / w), robust)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State({"means": self.means.state(), "sums": self._sums.copy()})

    @classmethod
    def from_state(cls, state: State) -> OffPolicy:
        """Return the sums that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        policy = cls()
        policy.means = ArmMeans.from_state(state.child("means"))
        policy._sums = state.doubles("sums", 2, _SUMS)
        return policy


def _mean(count: float, total: float, squares: float) -> Estimate:
    mean = total / count
    variance = max(squares / count - mean * mean, 0.0) * count / (count - 1.0)
    return Estimate(mean, math.sqrt(variance / count))
