"""Checks on input: each returns the value in the form SONA uses, or raises our error."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.errors import ConfigError, DimensionMismatch, InvalidValue

Floats: TypeAlias = npt.NDArray[np.float32]
"""A float32 array; docstrings give the shape."""


def _cast(value: npt.ArrayLike, what: str) -> Floats:
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return value if type(value) is np.ndarray else np.asarray(value)
    try:
        raw = np.asarray(value)
        if raw.dtype.kind not in "fiub":
            raise InvalidValue(f"{what}: expected numbers, got dtype {raw.dtype}")
        with np.errstate(over="ignore"):  # overflow to infinity is reported by the caller
            return raw.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidValue):
            raise
        raise InvalidValue(f"{what}: cannot be read as float32 numbers ({error})") from error


def _require_finite(array: Floats, what: str) -> None:
    # A search for a zero byte takes half the time of `all()` on a vector, and unlike a dot product cannot overflow.
    if b"\0" in np.isfinite(array).tobytes():
        raise InvalidValue(f"{what}: holds NaN or infinity")


def vector(value: npt.ArrayLike, width: int | None = None, what: str = "vector") -> Floats:
    """Return `value` as a finite float32 vector of shape (d,).

    Args:
        value: Anything numpy reads as numbers.
        width: The expected d; any width of at least 1 when None.
        what: The name used in an error.

    Raises:
        DimensionMismatch: d differs from `width`.
        InvalidValue: not one-dimensional, empty, not numbers, NaN or infinite.
    """
    if kernel.is_vector(value, width):
        return value
    array = _cast(value, what)
    if array.ndim != 1:
        raise InvalidValue(f"{what}: expected shape (d,), got {array.shape}")
    if width is not None and array.shape[0] != width:
        raise DimensionMismatch(width, array.shape[0], what)
    if array.shape[0] == 0:
        raise InvalidValue(f"{what}: is empty")
    _require_finite(array, what)
    return array


def matrix(value: npt.ArrayLike, width: int | None = None, what: str = "matrix") -> Floats:
    """Return `value` as a finite float32 matrix of shape (n, d); n may be 0.

    Raises:
        DimensionMismatch: d differs from `width`.
        InvalidValue: not two-dimensional, not numbers, NaN or infinite.
    """
    array = _cast(value, what)
    if array.ndim != 2:
        raise InvalidValue(f"{what}: expected shape (n, d), got {array.shape}")
    if width is not None and array.shape[1] != width:
        raise DimensionMismatch(width, array.shape[1], what)
    _require_finite(array, what)
    return array


def rows(value: npt.ArrayLike, width: int | None = None, what: str = "vectors") -> Floats:
    """Return one vector (d,) or a batch (n, d) as a finite float32 matrix of shape (n, d); n may be 0.

    Raises:
        DimensionMismatch: d differs from `width`.
        InvalidValue: of another shape, not numbers, NaN or infinite.
    """
    array = _cast(value, what)
    return vector(array, width, what)[None] if array.ndim == 1 else matrix(array, width, what)


def embedding(value: npt.ArrayLike, width: int | None = None, what: str = "embedding") -> Floats:
    """Return `value` as one finite float32 embedding of shape (d,), checked once.

    Raises:
        DimensionMismatch: d differs from `width`.
        InvalidValue: another shape, not numbers, NaN, infinite, or of a squared length beyond float32.
    """
    if kernel.is_vector(value, width):
        return value
    array = _cast(value, what)
    if array.ndim != 1:
        raise InvalidValue(f"{what}: expected shape (d,), got {array.shape}")
    return embeddings(array, width, what)


def embeddings(value: npt.ArrayLike, width: int | None = None, what: str = "embeddings") -> Floats:
    """Return `value` as finite float32 embeddings, one of shape (d,) or several of shape (n, d); n may be 0.

    Raises:
        DimensionMismatch: d differs from `width`.
        InvalidValue: another shape, not numbers, NaN, infinite, or of a squared length beyond float32.
    """
    array = _cast(value, what)
    if array.ndim not in (1, 2):
        raise InvalidValue(f"{what}: expected shape (d,) or (n, d), got {array.shape}")
    if width is not None and array.shape[-1] != width:
        raise DimensionMismatch(width, array.shape[-1], what)
    if array.shape[-1] == 0:
        raise InvalidValue(f"{what}: is empty")
    if not np.isfinite(np.einsum("...i,...i", array, array)).all():  # einsum overflows without a warning
        _require_finite(array, what)
        raise InvalidValue(f"{what}: a squared length overflows float32")
    return array


def contiguous(array: Floats) -> Floats:
    """Return `array` as the kernel takes it, itself where it is so: no subclass, aligned, C-contiguous.

    >>> contiguous(np.ones((4, 2), np.float32)[:, 0]).flags.c_contiguous
    True
    """
    return np.require(array, np.float32, ["C", "A", "E"])


def fraction(value: float, what: str) -> float:
    """Return `value` as a float in [0, 1], or raise InvalidValue."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"{what}: expected a number in [0, 1], got {value!r}") from error
    if not 0.0 <= number <= 1.0:  # NaN fails this too
        raise InvalidValue(f"{what}: expected a number in [0, 1], got {value!r}")
    return number


def finite(value: float, what: str) -> float:
    """Return `value` as a finite float, or raise InvalidValue."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"{what}: expected a finite number, got {value!r}") from error
    if not math.isfinite(number):
        raise InvalidValue(f"{what}: expected a finite number, got {value!r}")
    return number


def whole(value: int, what: str, low: int, high: int | None = None) -> int:
    """Return `value` as an int in [low, high], or raise InvalidValue; bools are refused."""
    is_int = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_int or value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise InvalidValue(f"{what}: expected a whole number {span}, got {value!r}")
    return int(value)


def nonempty_text(value: str, what: str) -> str:
    """Return `value` when it holds more than white space, or raise InvalidValue."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(f"{what}: expected text, got {value!r}")
    return value


def setting_whole(value: int, what: str, low: int, high: int | None = None) -> None:
    """Refuse a setting that is not a whole number in [low, high] with ConfigError."""
    try:
        whole(value, what, low, high)
    except InvalidValue as error:
        raise ConfigError(str(error)) from None


def setting_number(value: float, what: str, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Refuse a setting outside [low, high] (or (low, high] with `open_low`) with ConfigError."""
    is_number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
    if not is_number or not (low < value if open_low else low <= value) or not value <= high:
        bracket = "(" if open_low else "["
        raise ConfigError(f"{what}: expected a number in {bracket}{low:g}, {high:g}], got {value!r}")
