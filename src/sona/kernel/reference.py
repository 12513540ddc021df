"""The kernel in numpy: what the compiled one is tested against, and what runs where that is not built."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from sona.kernel.plain import is_plain
from sona.kernel.reference_records import maker, touched  # noqa: F401 - calls of the kernel, too
from sona.kernel.reference_sums import charge, deviation, lift, pooled, spread  # noqa: F401 - likewise

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SQUARE_LIMIT = 3.4e38  # a squared length below it is finite, and so is every number
_NARROW = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def _square(x: Floats) -> float:
    # |x|^2; infinity where float32 is too narrow.
    with np.errstate(over="ignore", invalid="ignore"):
        return float(x.dot(x))


def _wide_square(x: Floats) -> float:
    square = _square(x)
    return square if 1e-30 < square < _SQUARE_LIMIT else float(np.sum(x.astype(np.float64) ** 2))


def is_vector(value: object, width: int | None) -> TypeGuard[Floats]:
    """Return True for a float32 vector of this width (None: any of at least 1), plain and of finite squared length."""
    if not is_plain(value, np.float32, width) or not isinstance(value, np.ndarray) or value.shape[0] == 0:
        return False
    return _square(value) < _SQUARE_LIMIT


def kept(value: object, width: int | None) -> Floats | None:
    """Return `value` when `is_vector` and read-only, a read-only copy when it could be changed, else None."""
    if not is_vector(value, width):
        return None
    if not value.flags.writeable:
        return value
    copy = value.copy()
    copy.flags.writeable = False
    return copy


class LowRank:
    """One published state of a low-rank adapter, x' = x + k s (x A) B; never changed, only replaced."""

    __slots__ = ("_down", "_up", "flat", "gain", "reach", "scale")

    def __init__(self, flat: Floats, hidden_dim: int, rank: int, scale: float, reach: float) -> None:
        """Hold A (d, r), then B (r, d), row by row in `flat`, which becomes read-only.

        Args:
            flat: Shape (2 d r,).
            hidden_dim: d.
            rank: r.
            scale: s.
            reach: No correction is longer than reach |x|.
        """
        if hidden_dim < 1 or rank < 1 or not is_plain(flat, np.float32, 2 * hidden_dim * rank):
            raise ValueError("LowRank: expected a float32 vector of 2 d r numbers")
        self.flat, self.scale, self.reach = flat, scale, reach
        cut = hidden_dim * rank
        self._down = flat[:cut].reshape(hidden_dim, rank)
        self._up = flat[cut:].reshape(rank, hidden_dim) * np.float32(scale)
        self.gain = math.sqrt(_wide_square(flat[:cut]) * _wide_square(self._up.ravel())) * (1.0 + 1e-6)
        flat.flags.writeable = False

    def forward(self, x: object, out: object = None) -> Floats | None:
        """Return x with its correction, into `out` when given; `x` may be (d,), or (n, d) without `out`."""
        return self._correct(x, out, adds=True)

    def delta(self, x: object, out: object = None) -> Floats | None:
        """Return the correction alone."""
        return self._correct(x, out, adds=False)

    def _correct(self, x: object, out: object, *, adds: bool) -> Floats | None:
        width = self._down.shape[0]
        is_one = is_plain(x, np.float32, width)
        if not is_one and (out is not None or not is_plain(x, np.float32, None, width)):
            return None
        if out is not None and not (is_plain(out, np.float32, width) and out.flags.writeable):  # type: ignore[attr-defined]
            return None
        if not isinstance(x, np.ndarray) or not (np.einsum("...i,...i", x, x) < _SQUARE_LIMIT).all():
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            corrected = self._correction(x)
            if adds:
                corrected = x.copy() if self.gain == 0.0 else x + corrected
        if not np.isfinite(corrected).all():
            return None
        if isinstance(out, np.ndarray):
            np.copyto(out, corrected)
            return out
        return corrected

    def _correction(self, x: Floats) -> Floats:
        if self.gain == 0.0:
            return np.zeros_like(x)
        raw: Floats = x.dot(self._down).dot(self._up)
        if self.gain > self.reach:
            raw = raw * self._shrink(raw, x)
        return raw

    def _shrink(self, raw: Floats, x: Floats) -> Floats:
        # k of every row, shape (n, 1) or (1,), in float64 so that nothing overflows.
        lengths = np.einsum("...i,...i", raw, raw, dtype=np.float64)
        allowed = self.reach**2 * np.einsum("...i,...i", x, x, dtype=np.float64)
        ratio = np.divide(allowed, lengths, out=np.ones_like(lengths), where=lengths > allowed)
        factors: Floats = np.sqrt(ratio).astype(np.float32)[..., None]
        return factors

    def gradient(self, x: object, g: object, base: object = None) -> Floats | None:
        """Return the gradient of <g, x'(x)> in the layout of `flat`, added to `base` when given; None unless finite."""
        width, size = self._down.shape[0], self.flat.shape[0]
        if not is_plain(x, np.float32, width) or not is_plain(g, np.float32, width):
            return None
        if base is not None and not is_plain(base, np.float32, size):
            return None
        if not isinstance(x, np.ndarray) or not isinstance(g, np.ndarray):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            hidden = x.dot(self._down)
            push = self._followed(x, g, hidden)
            of_a = np.outer(x, self._up.dot(push)).ravel()
            of_b = np.outer(hidden * np.float32(self.scale), push).ravel()
            found = np.concatenate((of_a, of_b)).astype(np.float32, copy=False)
            total: Floats = found + base if isinstance(base, np.ndarray) else found
            return total if math.isfinite(_square(total)) else None

    def _followed(self, x: Floats, g: Floats, hidden: Floats) -> Floats:
        # g' of the gradient: inside the trust region g itself, at its edge the part of it that can be followed.
        if self.gain <= self.reach:
            return g
        raw = hidden.dot(self._up)
        shrink = float(self._shrink(raw, x)[0])
        if shrink >= 1.0:
            return g
        outward = max(float(raw.astype(np.float64).dot(g)), 0.0) / _wide_square(raw)
        followed: Floats = g * np.float32(shrink) - raw * np.float32(shrink * outward)
        return followed

    def moved(self, descent: object, rate: float, limit: float) -> LowRank | None:
        """Return the adapter after weights - rate descent; None when a weight is not finite or reaches the limit."""
        if not is_plain(descent, np.float32, self.flat.shape[0]) or not isinstance(descent, np.ndarray):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            after: Floats = (self.flat - np.float32(rate) * descent).astype(np.float32, copy=False)
            if not bool(np.abs(after).max() < limit):
                return None
        rank = self._down.shape[1]
        return LowRank(after, self._down.shape[0], rank, self.scale, self.reach)


def unit(x: object) -> Floats | None:
    """Return `x` (d,) or (n, d) with every row scaled to length 1; a zero row stays zero; None unless finite."""
    if not (is_plain(x, np.float32, None) or is_plain(x, np.float32, None, None)) or not isinstance(x, np.ndarray):
        return None
    length = np.sqrt(np.einsum("...d,...d->...", x, x, dtype=np.float64))[..., None]
    if not np.isfinite(length).all():
        return None
    is_held = (length >= _NARROW[0]) & (length <= _NARROW[1])  # by float32, with all its digits
    result: Floats = np.divide(x, np.where(is_held, length, 1.0).astype(np.float32))
    if not is_held.all():
        np.copyto(result, x / np.where(length > 0.0, length, 1.0), where=~is_held, casting="same_kind")
    return result


def units(vectors: object) -> Floats | None:
    """Return the directions of a list of vectors (d,) row by row, shape (n, d); None for an empty list."""
    if not isinstance(vectors, list) or not vectors:
        return None
    if not all(is_plain(vector, np.float32, None) and vector.shape == vectors[0].shape for vector in vectors):
        return None
    return unit(np.array(vectors, np.float32))


def _directions(vectors: tuple[Floats, ...]) -> Doubles:
    # Of length 1, shape (n, d); a zero vector points nowhere and stays zero.
    tried = np.array(vectors, np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", tried, tried))
    lengths[lengths == 0.0] = 1.0
    directions: Doubles = tried / lengths[:, None]
    return directions


def headed(vectors: tuple[Floats, ...], weights: tuple[float, ...], width: int) -> Floats | None:
    """Return the sum of weights[k] vectors[k] / |vectors[k]|, shape (d,); a zero vector points nowhere."""
    if len(vectors) != len(weights) or not all(is_plain(vector, np.float32, width) for vector in vectors):
        return None
    if not all(math.isfinite(_wide_square(vector)) for vector in vectors):
        return None
    if not vectors:
        return np.zeros(width, np.float32)
    total: Floats = np.dot(np.array(weights), _directions(vectors)).astype(np.float32)
    return total


def preferred(vectors: tuple[Floats, ...], rewards: tuple[float, ...], x: Floats, temperature: float) -> Floats | None:
    """Return max(r) sum_k (r_k / sum r - p_k) a_k / |a_k| orthogonal to `x`, p = softmax(cos(x, a_k) / temperature).

    Args:
        vectors: a, n of shape (d,).
        rewards: r, n of them, their sum above 0.
        x: Shape (d,).
        temperature: Above 0.
    """
    if not is_plain(x, np.float32, None) or len(vectors) != len(rewards):
        return None
    if not vectors or not all(is_plain(vector, np.float32, x.shape[0]) for vector in vectors):
        return None
    if not all(math.isfinite(_wide_square(vector)) for vector in (x, *vectors)):
        return None
    tried, earned = _directions(vectors), np.array(rewards)
    heading = x / (math.sqrt(_wide_square(x)) or 1.0)
    scores = tried.dot(heading) / temperature
    chances = np.exp(scores - scores.max())
    gradient = (earned / earned.sum() - chances / chances.sum()).dot(tried)
    gradient -= gradient.dot(heading) * heading  # the cosine does not see the part along x
    found: Floats = (gradient * earned.max()).astype(np.float32)
    return found


def combined(x: Floats, vectors: tuple[Floats, ...], weights: tuple[float, ...]) -> Floats | None:
    """Return x + sum_k weights[k] vectors[k], shape (d,), added up one by one."""
    if not is_plain(x, np.float32, None) or len(vectors) != len(weights):
        return None
    if not all(is_plain(vector, np.float32, x.shape[0]) for vector in vectors):
        return None
    total = x.copy()
    for vector, weight in zip(vectors, weights, strict=True):
        total += np.float32(weight) * vector
    return total


def constrain(  # noqa: PLR0917 - the kernel's calls are positional, as keywords cost as much as the work
    gradient: object, weights: object, anchor: Floats, pull: Floats, rate: float, out: Floats | None
) -> Floats | None:
    """Return gradient + pull ((weights - anchor) - rate gradient); weights None stand at the anchor.

    It is written to `out`, whatever it is; without `out`, a new array is returned when it is finite, else None.
    """
    if not isinstance(gradient, np.ndarray) or not is_plain(anchor, np.float32, None):
        return None
    width = anchor.shape[0]
    if not all(is_plain(part, np.float32, width) for part in (gradient, anchor, pull)):
        return None
    if weights is not None and not is_plain(weights, np.float32, width):
        return None
    if out is not None and not (is_plain(out, np.float32, width) and out.flags.writeable):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.multiply(gradient, np.float32(-rate))
        if isinstance(weights, np.ndarray):
            step += weights - anchor
        step *= pull
        found: Floats = np.add(gradient, step, out=out)
        return found if out is not None or _square(found) < _SQUARE_LIMIT else None


_BLOCK_NUMBERS = 1 << 18  # gradients are squared in blocks of 2 MB of float64


def blend(moment: Doubles, gradients: Floats, keep: float) -> Doubles | None:
    """Make `moment` (p,) keep times itself plus 1 - keep times the mean of the squared rows of `gradients` (n, p)."""
    if not is_plain(gradients, np.float32, None, None) or gradients.shape[0] == 0:
        return None
    count, width = gradients.shape
    if not is_plain(moment, np.float64, width) or not moment.flags.writeable or np.may_share_memory(moment, gradients):
        return None
    moment *= keep
    rows = max(1, _BLOCK_NUMBERS // max(1, width))
    for start in range(0, count, rows):
        block = gradients[start : start + rows].astype(np.float64)
        moment += np.einsum("ij,ij->j", block, block) * ((1.0 - keep) / count)
    return moment


def top(scores: Floats, k: int) -> tuple[Rows, Floats] | None:
    """Return indices and values of the `k` greatest numbers, greatest first, equal ones by index.

    -inf and NaN never count.
    """
    if not is_plain(scores, np.float32, None) or k < 1:
        return None
    found = np.arange(scores.shape[0])
    if k < scores.shape[0]:
        greatest = np.partition(scores, -k)[-k:]
        if not math.isnan(greatest.max()):  # NaN would count as the greatest
            found = np.flatnonzero(scores >= greatest[0])
    found = found[scores[found] > -np.inf]
    rows = found[np.argsort(-scores[found], kind="stable")][:k]
    return rows, scores[rows]


def nearest(table: Floats, x: Floats, k: int, keep: Mask | None, count: int) -> tuple[Rows, Floats] | None:
    """Return rows and products of the `k` of the first `count` rows with the greatest product with `x`, best first.

    Args:
        table: Rows, shape (n, d).
        x: Shape (d,).
        k: Rows wanted.
        keep: Only rows marked True, shape (n,); all when None.
        count: Rows looked at, from the first on.
    """
    if not is_plain(table, np.float32, None, None) or not is_plain(x, np.float32, table.shape[1]):
        return None
    if not 0 <= count <= table.shape[0] or k < 1:
        return None
    scores: Floats = table[:count] @ x
    if keep is not None:
        if not is_plain(keep, np.bool_, None) or keep.shape[0] < count:
            return None
        scores[~keep[:count]] = -np.inf
    return top(scores, k)


def alike(table: Floats, x: object, k: int, keep: Mask | None) -> tuple[list[int], list[float]] | None:
    """Return rows and cosines in [-1, 1] of the `k` unit rows most similar to `x`, best first.

    Args:
        table: Unit rows, shape (n, d).
        x: Shape (d,), of any length whose square float32 holds with all its digits.
        k: Rows wanted.
        keep: Only rows marked True, shape (n,); all when None.
    """
    if not is_plain(table, np.float32, None, None) or not is_plain(x, np.float32, table.shape[1]):
        return None
    if not isinstance(x, np.ndarray) or not 1e-30 < _square(x) < _SQUARE_LIMIT:
        return None
    if keep is not None and not is_plain(keep, np.bool_, table.shape[0]):
        return None
    found = nearest(table, x, k, keep, table.shape[0])
    if found is None:
        return None
    cosines = np.clip(found[1] / math.sqrt(_square(x)), -1.0, 1.0)
    return found[0].tolist(), cosines.tolist()


def products(table: Floats, x: Floats) -> Floats | None:
    """Return the product of every row of `table` (n, d) with `x`, shape (n,)."""
    if not is_plain(table, np.float32, None, None) or not is_plain(x, np.float32, table.shape[1]):
        return None
    found: Floats = table @ x
    return found


def products_of_two(table: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats] | None:
    """Return what `products` returns for `x` and for `y`; compiled, the rows are read once."""
    of_x, of_y = products(table, x), products(table, y)
    return None if of_x is None or of_y is None else (of_x, of_y)
