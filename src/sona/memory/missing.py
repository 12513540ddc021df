"""What removing memories may cost: the chance that the next request takes one of those that are gone.

What was taken often is known by its share. What was never taken has a share of 0 in any record, and yet is taken
one day: its chance is the missing mass of Good and Turing. Who removes what was taken least picks those that were
unlucky, so their share flatters too. Hence upper bounds throughout. A record of nothing says nothing: without one,
everything may be lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import fraction
from sona.errors import InvalidValue

Doubles: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]

_SHARES = (0.5, 0.25, 0.125, 0.0625, 0.03125)  # q: which share of the record is taken as its late part
_TILTS = (0.03, 0.1, 0.3, 1.0, 3.0)  # l: the smaller, the better where much is missing
_HALVINGS = 50
_RARE = 16  # memories taken at most this often are bounded by their kind, others may be each by itself


def counted(takings: npt.ArrayLike) -> Counts:
    """Return how often each memory was taken as whole numbers, shape (n,).

    Raises:
        InvalidValue: of another shape, not whole numbers, or below 0.
    """
    counts = np.asarray(takings)
    if counts.ndim != 1 or (counts.size and counts.dtype.kind not in "iu") or (counts < 0).any():
        raise InvalidValue("takings: expected whole numbers of at least 0, shape (n,)")
    return counts.astype(np.int64)


def missing_mass(takings: npt.ArrayLike) -> float:
    """Return the estimated chance that the next taking is of a memory never taken before: N_1 / m; 1 without a record.

    Args:
        takings: How often each memory was taken, shape (n,).

    Raises:
        InvalidValue: counts that are not whole numbers of at least 0.

    Source:
        Good 1953, The population frequencies of species and the estimation of population parameters.

    >>> missing_mass([7, 1, 0, 1, 1])
    0.3
    """
    counts = counted(takings)
    total = int(counts.sum())
    return float((counts == 1).sum()) / total if total else 1.0


def rare_mass_bound(takings: npt.ArrayLike, at_most: int = 0, *, confidence: float = 0.95) -> float:
    """Return what the chance of a memory taken at most so often exceeds with a chance of at most 1 - `confidence`.

    With `at_most` 0 that is a bound on the missing mass. It holds for independent takings of whatever chances and for
    a record of any length: let M_t be the chance that the t-th taking is of a memory taken at most `at_most` times
    before. It never rises, so over the last part of the record, a share q of its m takings, the sum of M_t is at
    least q m M. exp((1 - e^-l) sum M_t - l R), R the number of such takings in that part, has expectation of at most
    1. Independent takings could have come in any order; by Jensen's inequality R may be replaced by its average over
    all orders, which follows from the counts alone: sum_n N_n q^n for the missing mass, N_n memories taken n times.
    The mean over several q and l has expectation of at most 1 as well, and by Markov's inequality rarely is large.

    Args:
        takings: How often each memory was taken, shape (n,).
        at_most: Memories taken more often do not count, from 0 to 16.
        confidence: In [0, 1]; with 1 nothing can be said, so the bound is 1.

    Raises:
        InvalidValue: counts that are not whole numbers of at least 0, or another argument outside its range.

    Source:
        After Good 1953; as q falls, the average of R over q m becomes N_1 / m. McAllester and Schapire 2000, On the
        convergence rate of Good-Turing estimators, bound the missing mass by N_1 / m + 4.56 sqrt(ln(3 / d) / m),
        d = 1 - confidence: never tighter, and often many times wider, in `tests/unit/test_memory_missing.py`.

    >>> round(rare_mass_bound([50] * 40 + [1] * 3), 4), rare_mass_bound([0, 0])
    (0.0105, 1.0)
    """
    counts = counted(takings)
    fraction(confidence, "confidence")
    if not 0 <= at_most <= _RARE:
        raise InvalidValue(f"at_most: expected a whole number in [0, {_RARE}], got {at_most!r}")
    if not counts.any() or confidence == 1.0:
        return 1.0
    return _largest_mass(_late_takings(counts)[:, at_most], int(counts.sum()), -math.log1p(-confidence))


def _late_takings(counts: Counts) -> Doubles:
    # For each q and c the average over all orders of R; the (j+1)-th taking of a memory that was taken n times is in
    # the late part when at most j of its n takings are in the early one, which has each with chance 1 - q.
    kinds, sizes = np.unique(counts[counts > 0], return_counts=True)
    by_rank = np.zeros((len(_SHARES), _RARE + 1))
    for row, share in enumerate(_SHARES):
        logarithm = kinds * math.log(share)
        cumulated = np.zeros(len(kinds))
        for early in range(_RARE + 1):
            present = kinds > early
            cumulated[present] += np.exp(logarithm[present])
            by_rank[row, early] = float(sizes[present] @ np.minimum(cumulated[present], 1.0))
            logarithm = logarithm + np.log(np.maximum(kinds - early, 1) / (early + 1) * ((1.0 - share) / share))
    return np.cumsum(by_rank, axis=1)


def _largest_mass(late: Doubles, total: int, limit: float) -> float:
    # The mass at which log mean exp((1 - e^-l) q m mass - l R) reaches the limit; it rises with the mass.
    shares, tilts = np.repeat(_SHARES, len(_TILTS)), np.tile(_TILTS, len(_SHARES))
    slopes, offsets = -np.expm1(-tilts) * shares * total, tilts * np.repeat(late, len(_TILTS))
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        exponents = slopes * middle - offsets
        greatest = float(exponents.max())
        is_below = greatest + math.log(float(np.exp(exponents - greatest).mean())) <= limit
        low, high = (middle, high) if is_below else (low, middle)
    return high


@dataclass(frozen=True, slots=True, eq=False)
class LossBound:
    """What removing any of n memories may cost at most, by one record of takings.

    Memories taken at most c times together have at most the chance `rare[c]`, each with at most the chance
    `alone[row]`: all of it at once with the confidence asked for. Among memories taken equally often, those that are
    removed count as no likelier than those that stay.

    Args:
        counts: How often each memory was taken, shape (n,).
        rare: Bounds by `rare_mass_bound` for c = 0, 1, ..., 16.
        alone: Bounds on the chance of each memory, shape (n,).
    """

    counts: Counts
    rare: Doubles
    alone: Doubles

    @classmethod
    def of(cls, takings: npt.ArrayLike, *, confidence: float = 0.95) -> LossBound:
        """Return the bound by a record.

        Args:
            takings: How often each memory was taken, shape (n,).
            confidence: In [0, 1].

        Raises:
            InvalidValue: counts that are not whole numbers of at least 0, or `confidence` outside [0, 1].
        """
        counts = counted(takings)
        total, failing = int(counts.sum()), 1.0 - fraction(confidence, "confidence")
        if total == 0 or failing == 0.0:
            return cls(counts, np.ones(_RARE + 1), np.ones(len(counts)))
        late = _late_takings(counts)
        # Half of what may fail is for the kinds, c = 0 first: 1/2 + 1/6 + 1/12 + ... = 1; half for the single ones.
        limits = [math.log(2.0 * (c + 1) * (c + 2) / failing) for c in range(_RARE + 1)]
        rare = np.array([_largest_mass(late[:, c], total, limits[c]) for c in range(_RARE + 1)])
        # Chernoff: P(Binomial(m, p) <= n) <= exp(-(m p - n)^2 / (2 m p)), for all n memories at once.
        limit = math.log(2.0 * len(counts) / failing)
        alone = (counts + limit + np.sqrt(limit * (limit + 2.0 * counts))) / total
        return cls(counts, np.maximum.accumulate(rare), np.minimum(alone, 1.0))

    def loss(self, gone: npt.ArrayLike) -> float:
        """Return a bound on the chance that the next taking is of one of the memories in `gone`.

        Args:
            gone: Which memories are removed, shape (n,) of booleans.

        Returns:
            At most 1; 0 when nothing is removed; never less when more is removed. Without a record 1 for any removal.

        Raises:
            InvalidValue: not booleans, or of another shape.

        >>> bound = LossBound.of([500, 300, 200, 100, 0, 0])
        >>> round(bound.loss([False] * 4 + [True, False]), 4), bound.loss([False] * 6)
        (0.0071, 0.0)
        """
        mask = np.asarray(gone)
        if mask.dtype != np.bool_ or mask.shape != self.counts.shape:
            raise InvalidValue(f"gone: expected booleans of shape {self.counts.shape}, got {mask.dtype} {mask.shape}")
        if not self.counts.any():
            return float(mask.any())
        kinds = len(self.rare)
        removed = np.bincount(np.minimum(self.counts[mask], kinds), minlength=kinds + 1)[:kinds]
        present = np.bincount(np.minimum(self.counts, kinds), minlength=kinds + 1)[:kinds]
        shares = removed / np.maximum(present, 1)
        chances = np.bincount(np.minimum(self.counts[mask], kinds), self.alone[mask], kinds + 1)
        rest = np.cumsum(chances[::-1])[::-1]  # from each count on, each memory by itself
        return float(min(1.0, rest[0], *(self._together(shares[: c + 1]) + rest[c + 1] for c in range(kinds))))

    def _together(self, shares: Doubles) -> float:
        # The most that sum_c share_c mass_c can be when the masses up to c sum to at most rare[c]: shares are raised
        # until they fall with c, and each step down costs what lies before it.
        falling = np.maximum.accumulate(shares[::-1])[::-1]
        return float((falling - np.append(falling[1:], 0.0)) @ self.rare[: len(shares)])
