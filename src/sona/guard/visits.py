"""How often a unit came before, and which of its visits may be compared with whose.

A unit keeps its arm, so its visits are not independent draws. They are therefore compared in layers: the first visit
of a unit with first visits, the second with second visits; a unit counts once per layer. Later visits are grouped,
5 to 8, 9 to 16, ..., and the mean of a group counts as one, so that a heavy unit weighs little more than a light one.
"""

from __future__ import annotations

import numpy as np

from sona.errors import StoreError
from sona.state import State

CAPACITY = 200_000
_SINGLE = 4  # visits that are a layer each


def layer_of(visit: int) -> int:
    """Return the layer of a unit's `visit`, both from 1 and 0 up: 1, 2, 3, 4, 5-8, 9-16, ...

    >>> [layer_of(visit) for visit in (1, 2, 4, 5, 8, 9, 16, 17)]
    [0, 1, 3, 4, 4, 5, 5, 6]
    """
    return visit - 1 if visit <= _SINGLE else (visit - 1).bit_length() + 1


def size_of(layer: int) -> int:
    """Return how many visits of one unit a layer holds: 1, 1, 1, 1, 4, 8, 16, ..."""
    return 1 if layer < _SINGLE else 2 ** (layer - 2)


def share_of(layer: int) -> float:
    """Return the share of the level that a layer may use: 1/2, 1/6, 1/12, ..., in all 1."""
    return 1.0 / ((layer + 1) * (layer + 2))


class Visits:
    """Counts the visits of each unit by its 8-byte name; the units not seen for longest are forgotten."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start empty."""
        self._capacity = capacity
        self._counts: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many units are remembered."""
        return len(self._counts)

    def count(self, name: int) -> int:
        """Count a visit and return its number, from 1."""
        visit = self._counts.pop(name, 0) + 1
        self._counts[name] = visit
        if len(self._counts) > self._capacity:
            del self._counts[next(iter(self._counts))]
        return visit

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        names = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
        counts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        return State({"names": names, "counts": counts})

    @classmethod
    def from_state(cls, state: State, capacity: int = CAPACITY) -> Visits:
        """Return the visits that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        visits = cls(capacity)
        names = state.wholes("names", None).tolist()
        counts = state.wholes("counts", len(names)).tolist()
        visits._counts = dict(zip(names, counts, strict=True))
        if len(visits._counts) != len(names) or min(counts, default=1) < 1:
            raise StoreError("saved state: visits are damaged")
        return visits
