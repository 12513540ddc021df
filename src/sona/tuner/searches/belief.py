"""What is believed of each arm for one kind of search, from checks of it and of its neighbours.

The checks of a statement are told apart by how near they are: another fit; a fit next to this one; this fit but
another size; a size next to this one; this size but another filter value; this very value. The belief goes through
these in turn. Each step widens it by how much the mean may change from there to here, and then the checks that stand
there narrow it. So a value that was never seen has the belief of its size and fit, and one that was seen often has
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.tuner.searches.checks import UNKNOWN, CheckLog, Kind

Doubles: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_NOISE_WEIGHT = 4.0  # checks
_LATEST = 256  # checks looked at, at each nearness
_RECENT = 6.0  # half-life, in checks, of what is looked at for a fall


@dataclass(frozen=True, slots=True)
class _Prior:
    # Mean and deviation before any check, the deviation that each ring adds, and the variance of one check.
    mean: float
    deviation: float
    steps: tuple[float, ...]
    noise: float


_RECALL = _Prior(0.5, 1.0, (0.0, 0.4, 0.05, 0.03, 0.03, 0.01), 0.04)
_RECALL_BLIND = _Prior(0.5, 1.0, (0.0, 0.3, 0.1, 0.2, 0.1, 0.2), 0.04)  # where the fit is not known
_TIME = _Prior(0.0, 100.0, (0.0, 0.7, 0.3, 0.7, 0.4, 0.1), 0.1)  # of ln seconds


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is believed of each arm for one kind, shapes (a,); the last arm is exact.

    Args:
        recall: Mean recall.
        recall_sd: Standard deviation of what is not known of it.
        recent: Mean recall of the last few checks of this fit; 1 without any.
        recent_sd: Its standard error.
        time_s: Seconds that a search takes in the middle; infinite where the arm was never measured.
        checks: Checks of this fit (of this size, where the fit is unknown).
    """

    recall: Doubles
    recall_sd: Doubles
    recent: Doubles
    recent_sd: Doubles
    time_s: Doubles
    checks: Doubles


def believe(log: CheckLog, kind: Kind, half_life: float) -> Belief:
    """Return the belief about `kind`; without any check every recall is open and every time infinite.

    Args:
        log: The checks.
        kind: The kind.
        half_life: Later checks of the same arm and nearness after which one counts half.

    Source:
        Kalman 1960 (a mean that drifts, measured with noise), over nearness in place of time.
    """
    rings = _rings(log, kind)
    prior = _RECALL_BLIND if kind.fit == UNKNOWN else _RECALL
    mean, deviation = _filtered(np.hstack([log.recalls, log.times]), rings, (prior, _TIME), half_life)
    recall, times = np.split(mean, 2)
    recall[-1], deviation[len(recall) - 1] = 1.0, 0.0
    alike = log.recalls[(log.fits == kind.fit) & ((log.sizes == kind.size) | (kind.fit != UNKNOWN))]
    checks = (~np.isnan(alike)).sum(0).astype(np.float64)
    recent, error = _recent_mean(alike[-_LATEST:], np.full(len(recall), prior.noise), _RECENT)
    return Belief(
        np.clip(recall, 0.0, 1.0),
        deviation[: len(recall)],
        np.where(checks > 0, recent, 1.0),
        np.where(checks > 0, np.sqrt(error), 0.0),
        np.where((~np.isnan(log.recalls)).any(0), np.exp(times), np.inf),
        checks,
    )


def _rings(log: CheckLog, kind: Kind) -> tuple[Mask, ...]:
    away = np.abs(log.fits - kind.fit)
    fit, value, larger = away == 0, log.values == kind.value, np.abs(log.sizes - kind.size)
    sizes = fit & (larger > 1), fit & (larger == 1)
    return away > 1, away == 1, *sizes, fit & (larger == 0) & ~value, fit & (larger == 0) & value


def _filtered(
    found: Doubles, rings: tuple[Mask, ...], priors: tuple[_Prior, ...], half_life: float
) -> tuple[Doubles, Doubles]:
    # Both kinds of figures at once, side by side: looking at what was found takes longer than reckoning with it.
    width = found.shape[1] // len(priors)
    mean, noise = (np.repeat([one.mean for one in priors], width), np.repeat([one.noise for one in priors], width))
    variance = np.repeat([one.deviation**2 for one in priors], width)
    for place, ring in enumerate(rings):
        variance = variance + np.repeat([one.steps[place] ** 2 for one in priors], width)
        here = np.flatnonzero(ring)[-_LATEST:]
        if len(here):
            seen, error = _recent_mean(found[here], noise, half_life)
            gain = variance / (variance + error)
            mean, variance = mean + gain * (seen - mean), variance * (1.0 - gain)
    return mean, np.sqrt(variance)


def _recent_mean(found: Doubles, noise: Doubles, half_life: float) -> tuple[Doubles, Doubles]:
    # Mean per column, the later rows counting more, and its squared error: infinite, as a gain of 0, without any.
    known = ~np.isnan(found)
    later = np.cumsum(known[::-1], axis=0)[::-1] - known
    weights = (2.0 ** (-np.arange(len(found) + 1) / half_life))[later] * known
    total = weights.sum(0)
    shares = weights / np.where(total > 0.0, total, 1.0)
    values = np.where(known, found, 0.0)
    mean = (shares * values).sum(0)
    count = 1.0 / np.maximum((shares**2).sum(0), 1e-9)
    spread = (shares * (values - mean) ** 2).sum(0) * count
    error = (spread + _NOISE_WEIGHT * noise) / (count + _NOISE_WEIGHT) / count
    return mean, np.where(total > 0.0, error, 1e18)
