"""The two-sample energy test between what embeddings were and what they are now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.config import BoundaryConfig
from sona.state import State

Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of the window with the past; an alarm when `statistic` exceeds `threshold`."""

    statistic: float
    threshold: float

    @property
    def is_alarm(self) -> bool:
        """True when the statistic exceeds the threshold."""
        return self.statistic > self.threshold


def distances(x: Doubles, y: Doubles) -> Doubles:
    """Return the Euclidean distances between rows, x (n, d) and y (m, d), shape (n, m)."""
    squared = x @ y.T
    squared *= -2.0
    squared += np.einsum("ij,ij->i", x, x)[:, None]
    squared += np.einsum("ij,ij->i", y, y)
    np.maximum(squared, 0.0, out=squared)
    return np.sqrt(squared, out=squared)


def self_distances(x: Doubles) -> Doubles:
    """Return the distances of rows to each other, shape (n, n), exactly zero on the diagonal."""
    table = distances(x, x)
    np.fill_diagonal(table, 0.0)
    return table


def energy_statistic(cross: float, within_x: float, within_y: float, counts: tuple[int, int]) -> float:
    """Return n m / (n + m) (2 E|x-y| - E|x-x'| - E|y-y'|) from the three mean distances; never below 0 but by rounding.

    The factor makes samples of other sizes comparable: without a change the mean is E|x-x'| for every n and m.

    Source:
        Szekely & Rizzo 2013, Energy statistics, two-sample test.
    """
    n, m = counts
    return n * m / (n + m) * (2.0 * cross - within_x - within_y)


def null_statistics(table: Doubles, part: int, splits: int, rng: np.random.Generator) -> Doubles:
    """Return the statistic of `splits` random splits of one sample into `part` rows and the rest.

    Args:
        table: Distances of the sample to itself, shape (n, n).
        part: Rows of the smaller side, below n.
        splits: How many splits.
        rng: Chooses them.
    """
    size = table.shape[0]
    rest = size - part
    chosen = rng.permuted(np.broadcast_to(np.arange(size) < part, (splits, size)), axis=1).astype(np.float64)
    inside = np.einsum("ij,ij->i", chosen @ table, chosen)
    across = chosen @ table.sum(axis=1) - inside
    outside = table.sum() - 2.0 * across - inside
    excess = 2.0 * across / (part * rest) - inside / part**2 - outside / rest**2
    return np.asarray(part * rest / size * excess)


class EnergyChannel:
    """Compare a sliding window of embeddings with a fixed reference, once per half window of new ones.

    Embeddings are worked through in blocks of `stride` whatever the size of the caller's batches, so the outcome
    does not depend on how the stream was cut.

    Args:
        config: Sizes, splits and alarm level.
        width: Width d of the embeddings.
    """

    __slots__ = (
        "_centre",
        "_config",
        "_cross",
        "_pending",
        "_reference",
        "_reference_spread",
        "_threshold",
        "_width",
        "_window",
    )

    def __init__(self, config: BoundaryConfig, width: int) -> None:
        """Start with an empty reference."""
        self._config = config
        self._width = width
        self._clear(np.zeros((0, width), np.float32))

    @property
    def stride(self) -> int:
        """New embeddings between two tests."""
        return max(1, self._config.window_size // 2)

    @property
    def room(self) -> int:
        """Embeddings that can be fed at once: up to the next test, or up to the end of the reference."""
        return self._config.reference_size - len(self._reference) or self.stride - len(self._pending)

    def restart(self, keep: int) -> None:
        """Begin a new reference from the last `keep` embeddings, fewer than a whole one."""
        is_filling = self._reference.shape[0] < self._config.reference_size
        recent = np.concatenate([self._reference[: None if is_filling else 0], self._window, self._pending])
        self._clear(recent[max(0, len(recent) - min(keep, self._config.reference_size - 1)) :])

    def _clear(self, reference: Floats) -> None:
        self._reference: Floats = reference
        self._pending: Floats = reference[:0]
        self._window: Floats = reference[:0]
        self._cross: Doubles = np.zeros(0)  # mean distance to the reference, per window row
        self._centre: Doubles = np.zeros((0, self._width))
        self._reference_spread = self._threshold = 0.0

    def feed(self, rows: Floats, rng: np.random.Generator) -> Comparison | None:
        """Take up to `room` embeddings (n, d); return a test when one was due."""
        if self._reference.shape[0] < self._config.reference_size:
            self._reference = np.concatenate([self._reference, rows])
            if self._reference.shape[0] == self._config.reference_size:
                self._calibrate(rng)
            return None
        self._pending = np.concatenate([self._pending, rows])
        if self._pending.shape[0] < self.stride:
            return None
        self._advance()
        return self._test() if self._window.shape[0] == self._config.window_size else None

    def waiting_for(self) -> str:
        """Return why there is no test yet."""
        have, need = self._reference.shape[0], self._config.reference_size
        if have < need:
            return f"reference holds {have} of {need} embeddings"
        have, need = self._window.shape[0] + self._pending.shape[0], self._config.window_size
        if have < need:
            return f"window holds {have} of {need} embeddings"
        return f"next test after {self.room} more embeddings"

    def _centred(self, rows: Floats) -> Doubles:
        # Distances do not depend on the origin; at the reference's mean they lose no digits to it.
        return rows - self._centre

    def _calibrate(self, rng: np.random.Generator) -> None:
        self._centre = self._reference.mean(axis=0, dtype=np.float64)[None]
        centred = self._centred(self._reference)
        table = self_distances(centred)
        part = min(self._config.window_size, self._config.reference_size // 2)
        null = null_statistics(table, part, self._config.null_splits, rng)
        self._reference_spread = float(table.mean())
        self._threshold = float(null.mean() + self._config.alarm_sd * null.std())

    def _advance(self) -> None:
        fresh = distances(self._centred(self._pending), self._centred(self._reference)).mean(axis=1)
        limit = self._config.window_size
        self._window = np.concatenate([self._window, self._pending])[-limit:]
        self._cross = np.concatenate([self._cross, fresh])[-limit:]
        self._pending = self._pending[:0]

    def _test(self) -> Comparison:
        within = float(self_distances(self._centred(self._window)).mean())
        counts = (self._window.shape[0], self._reference.shape[0])
        statistic = energy_statistic(float(self._cross.mean()), within, self._reference_spread, counts)
        return Comparison(statistic, self._threshold)

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        return State(
            {
                "reference": self._reference.copy(),
                "window": self._window.copy(),
                "pending": self._pending.copy(),
                "cross": self._cross.copy(),
                "centre": self._centre.copy(),
                "reference_spread": self._reference_spread,
                "threshold": self._threshold,
            }
        )

    @classmethod
    def from_state(cls, state: State, config: BoundaryConfig, width: int) -> EnergyChannel:
        """Return the channel that `state` describes."""
        channel = cls(config, width)
        channel._reference = state.floats("reference", None, width)
        channel._window = state.floats("window", None, width)
        channel._pending = state.floats("pending", None, width)
        channel._cross = state.doubles("cross", channel._window.shape[0])
        channel._centre = state.doubles("centre", None, width)
        channel._reference_spread = state.number("reference_spread")
        channel._threshold = state.number("threshold")
        return channel
