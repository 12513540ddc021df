"""Has a pattern changed? Recent qualities against earlier ones, by a z-test that a wobble does not pass.

A test at two standard errors is passed by chance once in twenty times, and there are many patterns and many cycles. So
the recent executions are cut in two and both halves have to differ, on the same side; each is tested once; and a
difference of less than a hundredth is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sona.checks import finite, fraction
from sona.errors import InvalidValue

_LEAST_SPREAD = 0.01


@dataclass(frozen=True, slots=True)
class ShiftTest:
    """What a comparison of recent qualities with earlier ones found.

    Args:
        z: Standard errors between the mean of all recent ones and that of the earlier ones; below 0 for a fall.
        before: Mean of the earlier ones.
        after: Mean of the recent ones.
        is_shift: Both halves of the recent ones lie beyond the limit, on the same side.
    """

    z: float
    before: float
    after: float
    is_shift: bool

    @property
    def is_fall(self) -> bool:
        """True when it is a shift to the worse."""
        return self.is_shift and self.z < 0.0


@dataclass(frozen=True, slots=True)
class PatternShift:
    """A pattern that has changed: which, and what showed it."""

    pattern_id: int
    test: ShiftTest


def shift_test(earlier: Sequence[float], recent: Sequence[float], limit: float = 2.0) -> ShiftTest:
    """Return whether recent qualities differ from the earlier ones by more than a wobble.

    z = (mean of recent - mean of earlier) / (s sqrt(1 / n + 1 / m)), s the standard deviation of the earlier ones, at
    least .01.

    Args:
        earlier: Qualities in [0, 1], shape (n,), at least 2.
        recent: Those after them in order, shape (m,), at least 4.
        limit: Standard errors that each half has to pass, above 0.

    Raises:
        InvalidValue: too few, a quality outside [0, 1], or a limit not above 0.

    >>> steady = [0.5, 0.52, 0.48, 0.51, 0.49, 0.5]
    >>> shift_test(steady, [0.5, 0.49, 0.3, 0.31]).is_shift, shift_test(steady, [0.31, 0.29, 0.3, 0.3]).is_fall
    (False, True)
    """
    if len(earlier) < 2 or len(recent) < 4:
        raise InvalidValue(f"qualities: expected 2 earlier and 4 recent ones, got {len(earlier)} and {len(recent)}")
    if finite(limit, "limit") <= 0.0:
        raise InvalidValue(f"limit: expected a number above 0, got {limit!r}")
    past, now = ([fraction(value, "quality") for value in values] for values in (earlier, recent))
    half = len(now) // 2
    first, second = _z(past, now[:half]), _z(past, now[half:])
    is_shift = min(abs(first), abs(second)) > limit and first * second > 0.0
    return ShiftTest(_z(past, now), _mean(past), _mean(now), is_shift)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _z(past: Sequence[float], now: Sequence[float]) -> float:
    mean = _mean(past)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in past) / (len(past) - 1))
    return (_mean(now) - mean) / (max(spread, _LEAST_SPREAD) * math.sqrt(1.0 / len(past) + 1.0 / len(now)))
