"""Where k-means starts: k-means++ draws, then exchanges that mend what chance missed.

Points are centred and scaled by a power of two first, so |x|^2 - 2xc + |c|^2 keeps its digits in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, matrix, whole
from sona.errors import InvalidValue

BLOCK = 2048  # rows per product: a block of scores stays in cache
_CANCELLED = 1e-5  # below this share of |x|^2 + |c|^2 a float32 squared distance has lost its digits
_WORTH_A_SWAP = 1e-4  # least gain of an exchange, as a share of the inertia
_NOISE = 4e-6  # share of |x|^2 + |c|^2 below which float32 products cannot tell a gain from rounding
_FRUITLESS = 8  # exchanges stop after this many rounds in a row without a gain

Labels = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points ready for work: centred, scaled by a power of two, with their squared norms."""

    values: Floats  # (n, d)
    squares: Floats  # (n,)
    energy: float  # sum of the squared norms
    centre: Doubles  # (d,)
    scale: float

    @property
    def spread(self) -> float:
        """Root mean squared distance to the mean."""
        return math.sqrt(self.energy / self.values.shape[0])

    def restore(self, centroids: Floats) -> Floats:
        """Return `centroids` in the caller's coordinates."""
        restored: Floats = (centroids.astype(np.float64) * self.scale + self.centre).astype(np.float32)
        return restored


def prepare(points: npt.ArrayLike) -> Points:
    """Return `points` checked, centred and scaled, or raise InvalidValue."""
    data = matrix(points, what="points")
    if data.size == 0:
        raise InvalidValue(f"points: expected at least one point of width 1, got shape {data.shape}")
    centre = data.mean(axis=0, dtype=np.float64).astype(np.float32)
    with np.errstate(over="ignore"):
        values = data - centre
    largest = max(float(values.max()), -float(values.min()))
    if not math.isfinite(largest):
        raise InvalidValue("points: differences are beyond the range of float32")
    scale = 2.0 ** math.floor(math.log2(largest)) if largest > 0.0 else 1.0
    values /= np.float32(scale)
    squares = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    return Points(values, squares.astype(np.float32), float(squares.sum()), centre.astype(np.float64), scale)


def usual_candidates(k: int) -> int:
    """Return the draws per seed that pay: 2 + ln k."""
    return 2 + int(math.log(k))


def _exact_distances(points: Points, rows: Labels, centre: Floats) -> Floats:
    difference = points.values[rows] - centre
    exact: Floats = np.einsum("ij,ij->i", difference, difference)
    return exact


def _distances_to(points: Points, rows: Labels) -> Floats:
    # Squared distances of all points to the points `rows`, shape (m, n).
    distances = points.values[rows] @ points.values.T
    distances *= -2.0
    distances += points.squares
    distances += points.squares[rows, None]
    np.maximum(distances, 0.0, out=distances)
    return distances


def draw(points: Points, k: int, rng: np.random.Generator, candidates: int) -> Labels:
    """Return the rows of at most `k` distinct seeds, by greedy k-means++ with `candidates` draws per seed."""
    n = points.values.shape[0]
    chosen = [int(rng.integers(n))]
    closest = np.full(n, np.inf, np.float32)
    trial, best = _distances_to(points, np.array(chosen)), 0
    while True:
        distances = trial[best]
        near = np.flatnonzero(distances <= _CANCELLED * (points.squares + points.squares[chosen[-1]]))
        distances[near] = _exact_distances(points, near, points.values[chosen[-1]])
        closest = np.minimum(closest, distances)
        if len(chosen) == k or not closest.any():
            return np.array(chosen)
        cumulative = np.cumsum(closest, dtype=np.float64)
        last = int(np.flatnonzero(closest)[-1])
        drawn = np.searchsorted(cumulative, rng.random(candidates) * cumulative[-1], side="right")
        rows = np.minimum(drawn, last)
        trial = _distances_to(points, rows)
        best = int(np.argmin(np.minimum(trial, closest).sum(axis=1, dtype=np.float64)))
        chosen.append(int(rows[best]))


@dataclass(frozen=True, slots=True, eq=False)
class _Nearest:
    """The nearest two seeds of every point: their places, and the squared distances to them; changed in place."""

    owner: Labels  # (n,)
    rival: Labels  # (n,)
    first: Floats  # (n,)
    second: Floats  # (n,)

    @classmethod
    def of(cls, points: Points, chosen: Labels) -> _Nearest:
        """Return them for the seeds at the rows `chosen`."""
        n = points.values.shape[0]
        made = cls(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.float32))
        made.look(points, chosen, np.arange(n))
        return made

    def look(self, points: Points, chosen: Labels, rows: Labels) -> None:
        """Compare the points `rows` with all seeds."""
        seeds = points.values[chosen]
        for start in range(0, rows.shape[0], BLOCK):
            part = rows[start : start + BLOCK]
            distances = points.values[part] @ seeds.T
            distances *= -2.0
            distances += points.squares[chosen]
            distances += points.squares[part, None]
            places, found = np.arange(part.shape[0]), distances.argmin(axis=1)
            self.owner[part], self.first[part] = found, np.maximum(distances[places, found], 0.0)
            distances[places, found] = np.inf
            found = distances.argmin(axis=1)
            self.rival[part], self.second[part] = found, np.maximum(distances[places, found], 0.0)

    def exchange(self, points: Points, chosen: Labels, place: int, distances: Floats) -> None:
        """Take in that the seed at `place` is another one, at these squared distances (n,) from all points."""
        lost = np.flatnonzero((self.owner == place) | (self.rival == place))
        closer, close = distances < self.first, distances < self.second
        np.copyto(self.rival, np.where(closer, self.owner, place), where=close)
        np.copyto(self.second, np.where(closer, self.first, distances), where=close)
        np.copyto(self.owner, place, where=closer)
        np.copyto(self.first, distances, where=closer)
        self.look(points, chosen, lost)


def exchange(points: Points, chosen: Labels, rng: np.random.Generator, candidates: int) -> Labels:
    """Return the seeds after swaps with points drawn like seeds, each of which lowered the inertia.

    Source:
        Lattanzi & Sohler 2019, A better k-means++ algorithm via local search, algorithm 2.
    """
    chosen = chosen.copy()
    nearest = _Nearest.of(points, chosen)
    owner, first, second = nearest.owner, nearest.first, nearest.second
    rounds = chosen.shape[0] // 2 + _FRUITLESS if chosen.shape[0] > 1 else 0
    idle, noise = 0, 2.0 * _NOISE * points.energy
    for _ in range(rounds):
        cumulative = np.cumsum(first, dtype=np.float64)
        if idle == _FRUITLESS or not cumulative[-1] > 0.0:
            break
        idle += 1
        drawn = np.searchsorted(cumulative, rng.random(candidates) * cumulative[-1], side="right")
        rows = np.minimum(drawn, first.shape[0] - 1)
        trial = _distances_to(points, rows)
        kept = np.minimum(first, trial)
        penalty = np.minimum(second, trial) - kept  # what a point pays when its own seed goes
        totals = kept.sum(axis=1, dtype=np.float64)
        costs = [np.bincount(owner, loss, minlength=chosen.shape[0]) for loss in penalty]
        after = totals + np.array([cost.min() for cost in costs])
        best = int(after.argmin())
        if after[best] < (1.0 - _WORTH_A_SWAP) * cumulative[-1] - noise:
            place = int(costs[best].argmin())
            chosen[place] = rows[best]
            nearest.exchange(points, chosen, place, trial[best])
            idle = 0
    return chosen


def seed_centroids(points: npt.ArrayLike, k: int, *, rng: np.random.Generator, candidates: int | None = None) -> Floats:
    """Return at most `k` distinct points, each drawn in proportion to its squared distance from those before.

    Args:
        points: Shape (n, d).
        k: Seeds wanted; fewer come back when fewer points are distinct.
        rng: Source of chance.
        candidates: Draws per seed, of which the one that lowers the inertia most is kept; 2 + ln k when None,
            1 for the plain rule, whose expected inertia is at most 8 (ln k + 2) times the optimum.

    Returns:
        The seeds, shape (at most k, d).

    Raises:
        InvalidValue: no points, NaN or infinity, `k` or `candidates` below 1.

    Source:
        Arthur & Vassilvitskii 2007, k-means++, sections 2.2 and 3.
    """
    prepared = prepare(points)
    k = whole(k, "k", 1)
    tries = usual_candidates(k) if candidates is None else whole(candidates, "candidates", 1)
    return matrix(points)[draw(prepared, k, rng, tries)]
