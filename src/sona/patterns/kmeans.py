"""k-means on embeddings: careful seeding, exact bookkeeping, the same answer for the same generator.

Products run in float32 blocks through BLAS, everything that decides (sums, inertia) in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, finite, whole
from sona.errors import InvalidValue
from sona.patterns.seeding import BLOCK, Doubles, Labels, Points, draw, exchange, prepare, usual_candidates

_ROUNDING = 4e-6  # scores closer than this share of |x|^2 + |c|^2 are compared in float64
_REFILLS = 8  # times empty centroids are moved before they are dropped


@dataclass(frozen=True, slots=True, eq=False)
class KMeansResult:
    """A clustering: every label names the nearest centroid.

    Args:
        centroids: Means, shape (k, d); k may be smaller than asked when there are fewer distinct points.
        labels: Nearest centroid of each point, shape (n,).
        inertia: Sum of squared distances of the points to their centroids.
        inertia_history: Inertia after seeding and after each iteration; never rises; the last is `inertia`.
        iterations: Lloyd iterations that improved the clustering.
    """

    centroids: Floats
    labels: Labels
    inertia: float
    inertia_history: tuple[float, ...]
    iterations: int


@dataclass(frozen=True, slots=True, eq=False)
class _Assignment:
    """Centroids with what they own; labels name the nearest centroid and no centroid is empty."""

    centroids: Floats  # (k, d)
    labels: Labels  # (n,)
    sums: Doubles  # (k, d) of the owned points
    counts: Labels  # (k,)
    inertia: float


def _nearest(points: Points, centroids: Floats) -> tuple[Labels, Floats]:
    # Label and squared distance (float32, for ordering only) of every point.
    n = points.values.shape[0]
    labels = np.empty(n, np.int64)
    distances = np.empty(n, np.float32)
    turned = np.ascontiguousarray(-2.0 * centroids.T)
    offsets = np.einsum("ij,ij->i", centroids, centroids)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        scores = points.values[part] @ turned
        scores += offsets
        found = scores.argmin(axis=1)
        rows = np.arange(found.shape[0])
        least = scores[rows, found]
        scores[rows, found] = np.inf
        unsure = least + _ROUNDING * (points.squares[part] + offsets.max())
        close = np.flatnonzero(scores.min(axis=1) <= unsure)
        if close.size:
            found[close] = _nearest_exactly(points.values[part][close], centroids)
        labels[part], distances[part] = found, least
    return labels, distances + points.squares


def _nearest_exactly(values: Floats, centroids: Floats) -> Labels:
    wide = centroids.astype(np.float64)
    scores = values.astype(np.float64) @ (-2.0 * wide.T)
    scores += np.einsum("ij,ij->i", wide, wide)
    nearest: Labels = scores.argmin(axis=1)
    return nearest


def _sums(points: Points, labels: Labels, counts: Labels) -> Doubles:
    # Every cluster owns a point, so each segment of the sorted rows is non-empty.
    order = np.argsort(labels, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(counts)))
    sums = np.empty((counts.shape[0], points.values.shape[1]), np.float64)
    for cluster in range(counts.shape[0]):
        members = points.values[order[bounds[cluster] : bounds[cluster + 1]]]
        sums[cluster] = members.sum(axis=0, dtype=np.float64)
    return sums


def _fill_empty(points: Points, centroids: Floats, labels: Labels, distances: Floats, counts: Labels) -> Floats:
    # Move each empty centroid onto the farthest point of a cluster that keeps another one.
    moved, counts = centroids.copy(), counts.copy()
    empty = list(np.flatnonzero(counts == 0))
    for row in np.argsort(-distances, kind="stable"):
        if not empty:
            break
        if counts[labels[row]] > 1:
            counts[labels[row]] -= 1
            moved[empty.pop()] = points.values[row]
    return moved


def _assign(points: Points, centroids: Floats) -> _Assignment:
    """Give every point to its nearest centroid; a centroid left with none is moved, at last dropped."""
    refills = 0
    while True:
        labels, distances = _nearest(points, centroids)
        counts = np.bincount(labels, minlength=centroids.shape[0])
        if counts.all():
            break
        if refills < _REFILLS:
            centroids = _fill_empty(points, centroids, labels, distances, counts)
        else:
            centroids = centroids[counts > 0]
        refills += 1
    sums = _sums(points, labels, counts)
    wide = centroids.astype(np.float64)
    inertia = points.energy - 2.0 * float((sums * wide).sum()) + float(counts @ (wide * wide).sum(axis=1))
    return _Assignment(centroids, labels, sums, counts, max(inertia, 0.0))


def _seeds(points: Points, k: int, rng: np.random.Generator) -> Floats:
    chosen = draw(points, k, rng, usual_candidates(k))
    seeds: Floats = points.values[exchange(points, chosen, rng, usual_candidates(k))]
    return seeds


def _descend(points: Points, seeds: Floats, max_iterations: int, tolerance: float) -> tuple[_Assignment, list[float]]:
    # Lloyd: a step is kept only when it lowers the inertia, so the history falls strictly.
    current = _assign(points, seeds)
    history = [current.inertia]
    for _ in range(max_iterations):
        means = (current.sums / current.counts[:, None]).astype(np.float32)
        moved = float(np.sqrt(((means - current.centroids) ** 2).sum(axis=1).max()))
        proposed = _assign(points, means)
        if not proposed.inertia < current.inertia:
            break
        current = proposed
        history.append(current.inertia)
        if moved <= tolerance * points.spread:
            break
    return current, history


def kmeans(
    points: npt.ArrayLike,
    k: int,
    *,
    rng: np.random.Generator,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    restarts: int = 1,
) -> KMeansResult:
    """Return a clustering whose inertia no iteration ever raised; the same generator gives the same clustering.

    Args:
        points: Shape (n, d).
        k: Clusters wanted; fewer come back when fewer points are distinct.
        rng: Source of chance; nothing else is random.
        max_iterations: Lloyd iterations per start.
        tolerance: Stop when no centroid moves farther than this share of the data's root mean squared spread.
        restarts: Independent starts, of which the one with the least inertia is returned.

    Raises:
        InvalidValue: no points, NaN or infinity, or a setting outside its range.

    Source:
        Lloyd 1982; seeding by Arthur & Vassilvitskii 2007, exchanges by Lattanzi & Sohler 2019.

    >>> found = kmeans([[0.0], [1.0], [10.0], [11.0]], 2, rng=np.random.default_rng(0))
    >>> sorted(found.centroids.ravel().tolist()), round(found.inertia, 6)
    ([0.5, 10.5], 1.0)
    """
    prepared = prepare(points)
    k = whole(k, "k", 1)
    whole(max_iterations, "max_iterations", 1)
    whole(restarts, "restarts", 1)
    if finite(tolerance, "tolerance") < 0.0:
        raise InvalidValue(f"tolerance: expected at least 0, got {tolerance!r}")
    runs = (_descend(prepared, _seeds(prepared, k, rng), max_iterations, tolerance) for _ in range(restarts))
    best, history = min(runs, key=lambda run: run[0].inertia)
    unit = prepared.scale * prepared.scale
    scaled = tuple(value * unit for value in history)
    return KMeansResult(prepared.restore(best.centroids), best.labels, scaled[-1], scaled, len(history) - 1)
