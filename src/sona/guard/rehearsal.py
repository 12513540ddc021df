"""A candidate is rehearsed on held-out lists before it is put in force: would they have been ranked worse?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sona.checks import Floats
from sona.errors import InvalidValue

LEAST_LISTS = 20
_GREATEST_WEIGHT = 2.0
_NEGLIGIBLE = 0.005  # of a reciprocal rank; a batch is not thrown away for less


@dataclass(frozen=True, slots=True, eq=False)
class RehearsedList:
    """One list that was shown to a held-out unit, position by position.

    Args:
        in_force: Scores under what is in force, shape (k,).
        candidate: Scores under the candidate, shape (k,).
        rewards: What each position earned, in [0, 1], shape (k,).
    """

    in_force: Floats
    candidate: Floats
    rewards: Floats


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a rehearsal found.

    Args:
        lists: Lists with something earned; the others say nothing.
        mean: Mean change of the debiased reciprocal rank; positive is better.
        p_value: Chance of a change this bad or worse where the candidate is no worse; 1 when not judged.
        is_worse: True when it is judged, the p-value is below the level, and the change more than .005.
        reason: What was found, in words.
    """

    lists: int
    mean: float
    p_value: float
    is_worse: bool
    reason: str


def rehearse(lists: Sequence[RehearsedList], examined: Floats, *, alpha: float) -> Rehearsal:
    """Judge a candidate on held-out lists by a one-sided paired t-test; too few lists are not judged.

    Each reward counts 1 / (chance that its position was looked at), at most 2, so that what was shown low is not
    taken for bad; it is worth that over its rank.

    Args:
        lists: Held-out lists.
        examined: Chance that a position is looked at, relative to the first, shape (positions,); the last one holds
            for all positions beyond.
        alpha: Level of the test.

    Raises:
        InvalidValue: a list whose parts differ in length, or chances that are not above 0.

    Source:
        Joachims, Swaminathan, Schnabel 2017, Unbiased Learning-to-Rank with Biased Feedback, eq. 4; Student 1908.
    """
    if not len(examined) or not (np.asarray(examined) > 0.0).all():
        raise InvalidValue("examined: expected chances above 0")
    changes = np.array([_change(one, examined) for one in lists if np.any(one.rewards)], np.float64)
    count = len(changes)
    mean = float(changes.mean()) if count else 0.0
    if count < LEAST_LISTS:
        return Rehearsal(
            count, mean, 1.0, False, f"not judged: {count} held-out lists earned something, {LEAST_LISTS} are needed"
        )
    p_value = paired_p_value(mean, float(changes.std(ddof=1)), count)
    found = f"change {mean:+.4f} on {count} held-out lists, p = {p_value:.3g}"
    return Rehearsal(count, mean, p_value, p_value < alpha and mean < -_NEGLIGIBLE, found)


def _change(one: RehearsedList, examined: Floats) -> float:
    if not len(one.in_force) == len(one.candidate) == len(one.rewards):
        raise InvalidValue("list: scores and rewards differ in length")
    chances = np.asarray(examined, np.float64)[np.minimum(np.arange(len(one.rewards)), len(examined) - 1)]
    worth = np.asarray(one.rewards, np.float64) * np.minimum(1.0 / chances, _GREATEST_WEIGHT)
    return float(worth @ (1.0 / _ranks(one.candidate) - 1.0 / _ranks(one.in_force)))


def _ranks(scores: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    # Best first; of equal scores the one that was shown first.
    ranks = np.empty(len(scores))
    ranks[np.argsort(-np.asarray(scores, np.float64), kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


def paired_p_value(mean: float, deviation: float, count: int) -> float:
    """Return the chance of a mean this low or lower where there is no difference, by Student's t."""
    if deviation == 0.0:
        return 1.0 if mean >= 0.0 else 0.0
    return student_below(mean / deviation * math.sqrt(count), count - 1)


def student_below(statistic: float, degrees: int) -> float:
    """Return the chance that Student's t with a whole number of degrees of freedom is at most `statistic`.

    Source:
        Abramowitz and Stegun 1964, 26.7.3 and 26.7.4: a finite series in the angle atan(t / sqrt(degrees)).

    >>> round(student_below(-1.0, 1), 12)
    0.25
    """
    angle = math.atan(statistic / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2 == 1
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for number in range(3 if is_odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (number - 1) / number
        total += term
    inner = 2.0 / math.pi * (angle + sine * total) if is_odd else sine * total
    return min(max(0.5 * (1.0 + inner), 0.0), 1.0)
