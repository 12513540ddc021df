"""The bare work in numpy, as well written as numpy allows: nothing checked, nothing kept for later.

What SONA answers is compared with it before anything is timed.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 2048


class Correction:
    """x + s (x A) B for one x, without allocating.

    Args:
        down: A, shape (d, r).
        up: s B, shape (r, d).
    """

    def __init__(self, down: np.ndarray, up: np.ndarray) -> None:
        """Take the factors."""
        self.down, self.up = np.ascontiguousarray(down.T), up
        self._hidden = np.empty(up.shape[0], np.float32)

    def forward(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write the corrected `x`, shape (d,), to `out`."""
        np.dot(self.down, x, out=self._hidden)
        np.dot(self._hidden, self.up, out=out)
        return np.add(out, x, out=out)


class Learner:
    """Loop A without its guard rails: keep four vectors, take the direction of the steps, move both factors.

    Args:
        down: A, shape (d, r).
        scale: s.
        rate: Step size.
        capacity: Requests kept.
    """

    def __init__(self, down: np.ndarray, scale: float, rate: float, capacity: int) -> None:
        """Start with B = 0 and a baseline of one half."""
        width, rank = down.shape
        self.down, self.up = np.array(down), np.zeros((rank, width), np.float32)
        self._scale, self._rate = scale, np.float32(scale * rate)
        self._kept, self._turn = np.zeros((capacity, 4, width), np.float32), 0
        self._total, self._weight = 2.0, 4.0

    def learn(self, vectors: np.ndarray, rewards: np.ndarray, quality: float) -> None:
        """Learn from one request: its vector and those of three steps, shape (4, d), and what the steps earned."""
        kept = self._kept[self._turn % len(self._kept)]
        self._turn += 1
        np.copyto(kept, vectors)
        x, steps = kept[0], kept[1:]
        baseline = self._total / self._weight
        advantages = rewards - baseline
        np.minimum(advantages, 0.0, out=advantages, where=rewards < 0.3)  # a bad outcome never reinforces
        lengths = np.sqrt(np.einsum("ij,ij->i", steps, steps))
        push = (advantages / (3.0 * lengths)).astype(np.float32).dot(steps)
        hidden, back = x.dot(self.down), self.up.dot(push)
        self.down += x[:, None] * (back * self._rate)
        self.up += (hidden * self._rate)[:, None] * push
        self._total, self._weight = 0.99 * self._total + quality, 0.99 * self._weight + 1.0

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the corrected `x`."""
        return x + np.float32(self._scale) * x.dot(self.down).dot(self.up)


def nearest(unit: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and products of the `k` rows of `unit` (n, d) most like `query` (d,), best first."""
    scores = unit.dot(query)
    rows = scores.argpartition(-k)[-k:] if k < len(scores) else np.arange(len(scores))
    rows = rows[scores[rows].argsort()[::-1]]
    return rows, scores[rows]


class Constraint:
    """(g + c (w - w*)) / (1 + eta c) with c = lambda F, its factors known beforehand.

    Args:
        stiffness: c, shape (p,).
        anchor: w*, shape (p,).
        rate: eta.
    """

    def __init__(self, stiffness: np.ndarray, anchor: np.ndarray, rate: float) -> None:
        """Make the factors."""
        self._shrink = (1.0 / (1.0 + np.float64(rate) * stiffness)).astype(np.float32)
        self._pull = (stiffness * self._shrink).astype(np.float32)
        self._anchor, self._moved = anchor, np.empty_like(anchor)

    def apply(self, gradient: np.ndarray, weights: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write the constrained gradient at `weights` to `out`."""
        np.subtract(weights, self._anchor, out=self._moved)
        np.multiply(self._moved, self._pull, out=self._moved)
        np.multiply(gradient, self._shrink, out=out)
        return np.add(out, self._moved, out=out)

    def at_anchor(self, gradient: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write the constrained gradient at the anchor to `out`."""
        return np.multiply(gradient, self._shrink, out=out)


class Fisher:
    """A running mean of squared gradients.

    Args:
        width: p.
        decay: Share kept by an update.
    """

    def __init__(self, width: int, decay: float) -> None:
        """Start at zero."""
        self._moment, self._square = np.zeros(width, np.float32), np.empty(width, np.float32)
        self._decay, self._fresh = np.float32(decay), np.float32(1.0 - decay)
        self._steps = 0

    def update(self, gradient: np.ndarray) -> None:
        """Blend in one gradient, shape (p,)."""
        np.multiply(gradient, gradient, out=self._square)
        self._square *= self._fresh
        self._moment *= self._decay
        self._moment += self._square
        self._steps += 1

    def value(self) -> np.ndarray:
        """Return it corrected for its start at zero."""
        return self._moment / np.float32(1.0 - float(self._decay) ** self._steps)


def inertia_of(points: np.ndarray, centroids: np.ndarray) -> float:
    """Return the sum of squared distances of the points (n, d) to their nearest centroid (k, d), in float64."""
    wide = centroids.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)
    total = 0.0
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK].astype(np.float64)
        total += float((squares - 2.0 * (block @ wide.T)).min(axis=1).sum() + np.einsum("ij,ij->", block, block))
    return total


def kmeans(points: np.ndarray, k: int, rng: np.random.Generator, iterations: int = 100) -> np.ndarray:
    """Return k centroids: k-means++ with running minima, then Lloyd until no label changes; one start.

    Source:
        Arthur & Vassilvitskii 2007; Lloyd 1982.
    """
    squares = np.einsum("ij,ij->i", points, points)
    centroids = np.empty((k, points.shape[1]), np.float32)
    centroids[0] = points[rng.integers(len(points))]
    least = squares + centroids[0] @ centroids[0] - 2.0 * (points @ centroids[0])
    for place in range(1, k):
        chances = np.cumsum(np.maximum(least, 0.0), dtype=np.float64)
        chosen = min(int(np.searchsorted(chances, rng.random() * chances[-1])), len(points) - 1)
        centroids[place] = points[chosen]
        np.minimum(least, squares + squares[chosen] - 2.0 * (points @ points[chosen]), out=least)
    labels = None
    for _ in range(iterations):
        fresh = (np.einsum("ij,ij->i", centroids, centroids) - 2.0 * (points @ centroids.T)).argmin(axis=1)
        if labels is not None and np.array_equal(fresh, labels):
            break
        labels = fresh
        order, counts = labels.argsort(kind="stable"), np.bincount(labels, minlength=k)
        owned = counts > 0
        starts = (np.cumsum(counts) - counts)[owned]
        centroids[owned] = np.add.reduceat(points[order], starts, axis=0) / counts[owned, None]
    return centroids
