"""The two factors of a low-rank correction: published weights, their gradient, one flat layout for both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from sona.checks import Floats
from sona.errors import DimensionMismatch, InvalidValue

Constraint: TypeAlias = Callable[[Floats, Floats], Floats]
"""(gradient, weights) -> gradient, both flat and the gradient in DESCENT convention; EWC protects through it."""


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """One published state of the instant adapter; never changed, only replaced.

    Args:
        a: Down projection A, shape (d, r).
        b: Up projection B, shape (r, d); zero in a new adapter.
        scale: s.
    """

    a: Floats
    b: Floats
    scale: float
    up: Floats = field(init=False)  # s B
    gain: float = field(init=False)  # |A| |s B|, Frobenius norms: no correction is longer than gain |x|

    def __post_init__(self) -> None:
        """Derive what every forward pass needs, and freeze the arrays."""
        up = self.b * np.float32(self.scale)
        a, b = self.a.astype(np.float64).ravel(), up.astype(np.float64).ravel()
        gain = math.sqrt(a.dot(a) * b.dot(b))
        object.__setattr__(self, "up", up)
        object.__setattr__(self, "gain", gain)
        for array in (self.a, self.b, up):
            array.flags.writeable = False

    @property
    def flat(self) -> Floats:
        """A, then B, row by row, shape (2 d r,)."""
        return np.concatenate((self.a.ravel(), self.b.ravel()))


@dataclass(frozen=True, slots=True, eq=False)
class LoraGradient:
    """Ascent direction of <g, x'> for both factors.

    Args:
        a: For A, shape (d, r).
        b: For B, shape (r, d).
    """

    a: Floats
    b: Floats


def split_flat(flat: Floats, hidden_dim: int, rank: int) -> tuple[Floats, Floats]:
    """Return views of A, shape (d, r), and of B, shape (r, d), in a flat array of shape (2 d r,)."""
    cut = hidden_dim * rank
    return flat[:cut].reshape(hidden_dim, rank), flat[cut:].reshape(rank, hidden_dim)


def require_fit(out: Floats, array: Floats) -> None:
    """Raise InvalidValue or DimensionMismatch unless `out` can take a result of the shape of `array`."""
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or not out.flags.writeable:
        raise InvalidValue("out: expected a writable float32 array")
    if out.shape != array.shape:
        if out.ndim == array.ndim and out.shape[:-1] == array.shape[:-1]:
            raise DimensionMismatch(array.shape[-1], out.shape[-1], "out")
        raise InvalidValue(f"out: expected shape {array.shape}, got {out.shape}")
