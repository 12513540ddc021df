"""Mean surplus of each arm so far, by how late the two lists differ: the prediction of the next surplus."""

from __future__ import annotations

import numpy as np

from sona.state import State

STRATA = 8  # lists that differ from position 1, 2, ... 7 on, and later
_OWN, _ARM = 4.0, 1.0  # observations that the arm's mean, and the mean of both arms, are worth in a prediction
_START = 0.5


class ArmMeans:
    """Running means of both arms; a surplus is scaled by the most it can be, 1 / (prefix + 1), to be alike."""

    __slots__ = ("_counts", "_sums")

    def __init__(self) -> None:
        """Start empty."""
        self._counts = [[0.0] * STRATA, [0.0] * STRATA]
        self._sums = [[0.0] * STRATA, [0.0] * STRATA]

    def add(self, arm: int, prefix: int, surplus: float, count: float = 1.0) -> None:
        """Add a surplus of `arm` (1 learned, 0 frozen); with `count` 0 an amendment by that much."""
        stratum = min(prefix, STRATA - 1)
        self._counts[arm][stratum] += count
        self._sums[arm][stratum] += surplus * (prefix + 1)

    def predicted(self, prefix: int) -> tuple[float, float]:
        """Return what the learned and the frozen list are expected to earn beyond a common `prefix`."""
        counts = [sum(row) for row in self._counts]
        sums = [sum(row) for row in self._sums]
        both = (sum(sums) + _START) / (sum(counts) + 1.0)
        stratum = min(prefix, STRATA - 1)
        found = []
        for arm in (1, 0):
            mean = (sums[arm] + _ARM * both) / (counts[arm] + _ARM)
            own = (self._sums[arm][stratum] + _OWN * mean) / (self._counts[arm][stratum] + _OWN)
            found.append(min(max(own, 0.0), 1.0) / (prefix + 1))
        return found[0], found[1]

    def count(self, arm: int) -> int:
        """Return how many of an arm were added."""
        return int(sum(self._counts[arm]))

    def mean(self, arm: int) -> float | None:
        """Return the plain mean of an arm's scaled surplus, None before the first."""
        count = sum(self._counts[arm])
        return sum(self._sums[arm]) / count if count else None

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State({"sums": np.array([self._counts, self._sums])})

    @classmethod
    def from_state(cls, state: State) -> ArmMeans:
        """Return the means that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        means = cls()
        means._counts, means._sums = state.doubles("sums", 2, 2, STRATA).tolist()
        return means
