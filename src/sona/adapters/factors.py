"""The two factors of a low-rank correction: published weights, their gradient, one flat layout for both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from sona.checks import Floats

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
