"""The two factors of a low-rank correction: published weights, their gradient, one flat layout for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, embeddings
from sona.errors import DimensionMismatch, InvalidValue

Constraint: TypeAlias = Callable[[Floats, Floats], Floats]
"""(gradient, weights) -> gradient, both flat and the gradient in DESCENT convention; EWC protects through it."""


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """One published state of the instant adapter, as views that cannot be written.

    Args:
        a: Down projection A, shape (d, r).
        b: Up projection B, shape (r, d); zero in a new adapter.
        scale: s.
    """

    a: Floats
    b: Floats
    scale: float

    @property
    def up(self) -> Floats:
        """The up projection times its scale, s B, shape (r, d)."""
        scaled: Floats = self.b * np.float32(self.scale)
        return scaled


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


def closer(
    correct: Callable[[Floats], Floats | None], x: npt.ArrayLike, width: int, out: Floats | None = None
) -> Floats:
    """Return `correct(x)` for an `x` that the kernel did not take as it is: checked, and copied to where it does.

    Raises:
        DimensionMismatch: `x` is of another width.
        InvalidValue: NaN, infinity, a length beyond float32, or an `out` that does not fit.
    """
    array = np.array(embeddings(x, width, "x"), np.float32, order="C", subok=False)
    if out is not None:
        require_fit(out, array)
    corrected = correct(array)
    if corrected is None:
        raise InvalidValue("x: a squared length overflows float32")
    if out is None:
        return corrected
    np.copyto(out, corrected)
    return out
