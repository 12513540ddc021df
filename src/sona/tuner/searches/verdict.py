"""What is decided for one kind of search: the quickest arm that is known to find enough, and what may replace it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.config.tuner import VectorConfig
from sona.tuner.searches.belief import Belief
from sona.tuner.searches.checks import Doubles

Mask: TypeAlias = npt.NDArray[np.bool_]

_FALLEN = 2.5  # standard errors by which the last checks have to be below the target
_UNKNOWN_SAVING = 0.5  # of an arm that was never timed
_WORTH_IT = 0.5  # share of the time in force below which a rival is looked at straight away
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is decided for one kind of search; places are those of the arms.

    Args:
        place: The arm in force.
        reason: Why, in words.
        is_open: True while too little is known to leave the server's own choice.
        is_promising: True while an arm that was checked seldom may take less than half of what is in force.
        is_new: True while the arm in force, not the exact one, was checked seldom.
        rivals: Quicker arms that may still find enough, the most promising first.
        refused: Quicker arms that find too little, the quickest first.
        belief: What is believed of each arm.
        lower: Lower bound of each arm's recall, shape (a,).
    """

    place: int
    reason: str
    is_open: bool
    is_promising: bool
    is_new: bool
    rivals: tuple[int, ...]
    refused: tuple[int, ...]
    belief: Belief
    lower: Doubles


def judge(belief: Belief, weaker: Mask, usable: Mask, config: VectorConfig) -> Verdict:
    """Return the quickest arm whose recall is at its target by its lower bound; the exact one always is.

    An arm whose last checks have fallen below the target is not admitted either, whatever came before. The server's
    own choice stays in force until its recall is known to be below the target or it was checked `first_checks`
    times, and where nothing else saves `keep_margin` of its time.

    Args:
        belief: What is believed of each arm, the server's own first and the exact one last.
        weaker: True in [i, j] where arm j differs from i by a greater effort alone, shape (a, a).
        usable: Which of them the server runs, shape (a,).
        config: Settings.
    """
    width = _NORMAL.inv_cdf(config.confidence) * belief.recall_sd
    lower, upper = belief.recall - width, belief.recall + width
    holds = belief.recent + _FALLEN * belief.recent_sd >= config.recall_target
    admitted = usable & (lower >= config.recall_target) & holds & np.isfinite(belief.time_s)
    could_be = bool(upper[0] >= config.recall_target and belief.checks[0] < config.first_checks)
    is_open = not bool(admitted.any()) or (could_be and not bool(admitted[0]))
    place = 0 if is_open else _quickest(belief, admitted, config)
    least = belief.time_s[place] * (1.0 - config.keep_margin)
    quicker = usable & ~admitted & ((belief.time_s < least) | np.isinf(belief.time_s))
    # Where a greater effort finds too little, a smaller one does.
    hopeful = quicker & (upper >= config.recall_target) & ~(weaker & (upper < config.recall_target)).any(1)
    worth = _worth(belief, place, config)
    rivals = sorted(np.flatnonzero(hopeful).tolist(), key=lambda one: -float(worth[one]))
    refused = sorted(np.flatnonzero(quicker & ~hopeful).tolist(), key=lambda one: float(belief.time_s[one]))
    seldom = (belief.time_s < _WORTH_IT * belief.time_s[place]) & (belief.checks < config.rival_checks)
    is_promising = bool(seldom[rivals].any())
    is_new = place != len(lower) - 1 and bool(belief.checks[place] < config.new_checks)
    reason = _reason(place, is_open, belief, lower)
    return Verdict(place, reason, is_open, is_promising, is_new, tuple(rivals), tuple(refused), belief, lower)


def _quickest(belief: Belief, admitted: Mask, config: VectorConfig) -> int:
    best = int(np.argmin(np.where(admitted, belief.time_s, np.inf)))
    is_own_good = admitted[0] and belief.time_s[best] >= belief.time_s[0] * (1.0 - config.keep_margin)
    return 0 if is_own_good else best


def _worth(belief: Belief, place: int, config: VectorConfig) -> Doubles:
    # What measuring an arm may bring: the chance that it finds enough, times the share of time that it would save.
    shares = np.ones(len(belief.time_s)) * _UNKNOWN_SAVING
    np.divide(belief.time_s, belief.time_s[place], out=shares, where=np.isfinite(belief.time_s))
    saving = 1.0 - shares
    away = (belief.recall - config.recall_target) / np.maximum(belief.recall_sd, 1e-9)
    return np.array([_NORMAL.cdf(one) for one in away]) * saving


def _reason(place: int, is_open: bool, belief: Belief, lower: Doubles) -> str:
    if is_open:
        return "too little is known of such searches"
    if place == len(lower) - 1:
        return f"nothing quicker is known to find enough; the server's own choice finds {belief.recall[0]:.2f}"
    found = f"it finds {belief.recall[place]:.3f}, at least {lower[place]:.3f}"
    if place == 0:
        return f"{found}, and nothing known is quicker"
    return f"{found}; the server's own choice finds {belief.recall[0]:.3f}"
