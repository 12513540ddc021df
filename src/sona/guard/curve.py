"""The lift over time, at a few hundred moments however long the time."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from sona.state import State

MOST_POINTS = 400
_FIRST_STRIDE = 20


@dataclass(frozen=True, slots=True)
class Point:
    """The lift at one moment.

    Args:
        trials: Compared requests until then.
        at: Seconds since the epoch.
        lift: Estimate.
        low: Lower bound.
        high: Upper bound.
    """

    trials: int
    at: float
    lift: float
    low: float
    high: float


class Curve:
    """Keeps points at even distances, which double whenever there are too many."""

    def __init__(self) -> None:
        """Start without points."""
        self._points: list[Point] = []
        self._stride = _FIRST_STRIDE

    @property
    def points(self) -> tuple[Point, ...]:
        """What is kept, earliest first."""
        return tuple(self._points)

    def is_due(self, trials: int) -> bool:
        """Return True when a point is wanted at this number of trials."""
        return trials % self._stride == 0

    def add(self, point: Point) -> None:
        """Keep a point that is due."""
        self._points.append(point)
        if len(self._points) > MOST_POINTS:
            self._stride *= 2
            self._points = [kept for kept in self._points if kept.trials % self._stride == 0]

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        points = np.array([astuple(point) for point in self._points], np.float64).reshape(-1, 5)
        return State({"points": points, "stride": self._stride})

    @classmethod
    def from_state(cls, state: State) -> Curve:
        """Return the curve that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        curve = cls()
        curve._points = [Point(int(trials), *rest) for trials, *rest in state.doubles("points", None, 5).tolist()]
        curve._stride = max(state.whole("stride"), 1)
        return curve
