"""Welch's t-test, Student's t and Holm's correction, from the incomplete beta function up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sona.errors import InvalidValue

_TINY = 1e-300
_CLOSE = 1e-15
_TERMS = 10_000


@dataclass(frozen=True, slots=True)
class WelchTest:
    """A comparison of two means with unequal variances.

    Args:
        statistic: t; infinite when neither sample varies and the means differ.
        degrees: Welch-Satterthwaite degrees of freedom; NaN when neither sample varies.
        p_value: Two-sided.
        is_exact: True when neither sample varies and the p-value is that of the exact permutation test.
    """

    statistic: float
    degrees: float
    p_value: float
    is_exact: bool = False


def regularised_beta(x: float, a: float, b: float) -> float:
    """Return I_x(a, b), the regularised incomplete beta function, for x in [0, 1] and a, b > 0.

    Source:
        DLMF 8.17.22 (continued fraction), evaluated from the front by Lentz's method; 8.17.4 (symmetry).

    >>> round(regularised_beta(0.3, 2.0, 1.0), 12)
    0.09
    """
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - regularised_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (_fraction(x, a, b) * a)


def _fraction(x: float, a: float, b: float) -> float:
    # 1 + d1 / (1 + d2 / (1 + ...)), the ratio of successive numerators times that of successive denominators.
    value, numerators, denominators = 1.0, 1.0, 0.0
    for n in range(1, _TERMS):
        m = n // 2
        if n % 2 == 0:
            term = m * (b - m) * x / ((a + n - 1.0) * (a + n))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + n - 1.0) * (a + n))
        denominators = 1.0 / _away_from_zero(1.0 + term * denominators)
        numerators = _away_from_zero(1.0 + term / numerators)
        value *= numerators * denominators
        if abs(numerators * denominators - 1.0) < _CLOSE:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def student_two_sided(statistic: float, degrees: float) -> float:
    """Return the chance that |T| is at least |statistic| for Student's t with `degrees` of freedom.

    Source:
        DLMF 8.17 with x = degrees / (degrees + t^2): P(|T| >= t) = I_x(degrees / 2, 1 / 2).

    >>> round(student_two_sided(1.0, 1.0), 12)
    0.5
    """
    square = statistic * statistic
    if square < 1.0:
        # Near t = 0 the argument rounds to 1; its complement keeps the digits.
        return 1.0 - regularised_beta(square / (degrees + square), 0.5, degrees / 2.0)
    return regularised_beta(degrees / (degrees + square), degrees / 2.0, 0.5)


def welch_test(first: Sequence[float], second: Sequence[float]) -> WelchTest:
    """Compare the means of two samples of at least two values each, whatever their variances.

    Where neither sample varies, t has no distribution; the exact permutation test answers instead: of all ways
    to split the values, two (the observed and its mirror) are as extreme.

    Raises:
        InvalidValue: a sample of fewer than two values.

    Source:
        Welch 1947; Satterthwaite 1946 (degrees of freedom).
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.size < 2 or b.size < 2:
        raise InvalidValue(f"Welch's test: expected at least two values a side, got {a.size} and {b.size}")
    difference = float(a.mean() - b.mean())
    va, vb = _variance(a) / a.size, _variance(b) / b.size
    if va + vb == 0.0:
        return _without_variance(difference, a.size, b.size)
    share = va / (va + vb)
    degrees = 1.0 / (share**2 / (a.size - 1) + (1.0 - share) ** 2 / (b.size - 1))
    statistic = difference / math.sqrt(va + vb)
    return WelchTest(statistic, degrees, student_two_sided(statistic, degrees))


def _variance(sample: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    # A constant sample has none; its mean may still be off by a rounding.
    return 0.0 if sample.min() == sample.max() else float(sample.var(ddof=1))


def _without_variance(difference: float, n: int, m: int) -> WelchTest:
    if difference == 0.0:
        return WelchTest(0.0, math.nan, 1.0, is_exact=True)
    p_value = min(1.0, 2.0 / math.comb(n + m, n))
    return WelchTest(math.copysign(math.inf, difference), math.nan, p_value, is_exact=True)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values corrected so that the chance of any false claim among them stays at the level.

    Source:
        Holm 1979.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    corrected = [1.0] * len(p_values)
    running = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = running
    return tuple(corrected)
