"""Verdicts: which choice serves a pattern best against the default, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from sona.checks import fraction
from sona.errors import InvalidValue
from sona.patterns.welch import WelchTest, holm, welch_test
from sona.types import QueryTrajectory

Choice: TypeAlias = str | float
"""What was chosen: a route's name, a parameter's value or a memory's id."""

_LEAST = 2  # outcomes a side that a variance needs


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best choice for a pattern against the default.

    Args:
        pattern_id: The pattern.
        kind: What was compared: "route", "memory" or the name of a parameter; "auto" when nothing could be.
        choice: The best choice, the default itself when none did better; None without data.
        default: What it was compared with; None without data.
        improvement: Mean outcome of the choice minus that of the default.
        p_value: Two-sided, by Welch's test, corrected by Holm's method for the choices compared; 1 when untested.
        support: Outcomes of the choice.
        default_support: Outcomes of the default.
        consistency: Share of the choice's outcomes above the default's mean.
        is_significant: True when the choice is better at the level asked for.
        reason: The same in words.
    """

    pattern_id: int
    kind: str
    choice: Choice | None
    default: Choice | None
    improvement: float
    p_value: float
    support: int
    default_support: int
    consistency: float
    is_significant: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Rival:
    choice: Choice
    outcomes: Sequence[float]
    improvement: float
    test: WelchTest


Outcomes: TypeAlias = Mapping[Choice, Sequence[float]]


def outcomes_of(trajectories: Sequence[QueryTrajectory], kind: str) -> Outcomes:
    """Return the known outcomes of each choice.

    Args:
        trajectories: The witnesses.
        kind: "route" (outcome: the trajectory's quality), "memory" (a step's `ref`, outcome: its reward) or the
            name of a parameter (outcome: the trajectory's quality).
    """
    outcomes: dict[Choice, list[float]] = {}
    for trajectory in trajectories:
        if kind == "memory":
            for step in trajectory.steps:
                if step.ref is not None and step.reward is not None:
                    outcomes.setdefault(step.ref, []).append(step.reward)
            continue
        choice = trajectory.model_route if kind == "route" else trajectory.parameters.get(kind)
        quality = trajectory.quality
        if choice is not None and quality is not None:
            outcomes.setdefault(choice, []).append(quality)
    return outcomes


def _what_varies(trajectories: Sequence[QueryTrajectory]) -> str | None:
    # Routes before parameters before memories; of the parameters the one with most outcomes. The choice looks at
    # how often, never at how well, so it costs no significance.
    if len(outcomes_of(trajectories, "route")) > 1:
        return "route"
    names = sorted({name for trajectory in trajectories for name in trajectory.parameters})
    counts = {name: outcomes_of(trajectories, name) for name in names if name not in {"route", "memory", "auto"}}
    varied = [name for name, outcomes in counts.items() if len(outcomes) > 1]
    if varied:
        return max(varied, key=lambda name: sum(map(len, counts[name].values())))
    return "memory" if len(outcomes_of(trajectories, "memory")) > 1 else None


def judge(
    trajectories: Sequence[QueryTrajectory],
    pattern_id: int,
    *,
    default: Choice | None = None,
    kind: str = "auto",
    alpha: float = 0.05,
) -> Verdict:
    """Return the best choice among `trajectories` against the default; it takes evidence to say "better".

    Args:
        trajectories: The requests of one pattern.
        pattern_id: Its id.
        default: The choice to beat; the one most often taken when None.
        kind: "route", "memory", the name of a parameter, or "auto" for the first of these that varies.
        alpha: Level of the test.

    Raises:
        InvalidValue: `kind` is empty, or `alpha` outside [0, 1].
    """
    fraction(alpha, "alpha")
    if not kind:
        raise InvalidValue("kind: expected 'auto', 'route', 'memory' or the name of a parameter")
    compared = _what_varies(trajectories) if kind == "auto" else kind
    if compared is None:
        return _undecided(pattern_id, kind, default, "nothing to compare: no choice varies with a known outcome")
    outcomes = outcomes_of(trajectories, compared)
    if not outcomes:
        return _undecided(pattern_id, compared, default, f"too little data: no outcome of any {compared} is known")
    baseline = _most_used(outcomes) if default is None else default
    support = len(outcomes.get(baseline, ()))
    if support < _LEAST:
        reason = f"too little data: {support} outcomes of the default {baseline!r}, {_LEAST} are needed"
        return _undecided(pattern_id, compared, baseline, reason, support)
    return _best(pattern_id, compared, baseline, outcomes, alpha)


def _most_used(outcomes: Outcomes) -> Choice:
    return max(outcomes, key=lambda choice: len(outcomes[choice]))  # of equals the first taken


def _undecided(pattern_id: int, kind: str, default: Choice | None, reason: str, default_support: int = 0) -> Verdict:
    return Verdict(
        pattern_id=pattern_id,
        kind=kind,
        choice=None,
        default=default,
        improvement=0.0,
        p_value=1.0,
        support=0,
        default_support=default_support,
        consistency=0.0,
        is_significant=False,
        reason=reason,
    )


def _rivals(outcomes: Outcomes, default: Choice) -> list[_Rival]:
    reference = outcomes[default]
    mean = float(np.mean(reference))
    return [
        _Rival(choice, values, float(np.mean(values)) - mean, welch_test(values, reference))
        for choice, values in sorted(outcomes.items(), key=lambda entry: str(entry[0]))
        if choice != default and len(values) >= _LEAST
    ]


def _best(pattern_id: int, kind: str, default: Choice, outcomes: Outcomes, alpha: float) -> Verdict:
    reference = outcomes[default]
    rivals = _rivals(outcomes, default)
    if not rivals:
        reason = f"too little data: no other {kind} has {_LEAST} outcomes"
        return _undecided(pattern_id, kind, default, reason, len(reference))
    corrected = holm([rival.test.p_value for rival in rivals])
    proven = [value <= alpha and rival.improvement > 0.0 for rival, value in zip(rivals, corrected, strict=True)]
    # The best of those proven better; where none is, the best as far as seen.
    best = max(range(len(rivals)), key=lambda place: (proven[place], rivals[place].improvement))
    rival = rivals[best]
    if rival.improvement <= 0.0:
        verdict = _undecided(pattern_id, kind, default, f"no {kind} did better than the default {default!r}")
        return _keeping_default(verdict, reference)
    mean = float(np.mean(reference))
    return Verdict(
        pattern_id=pattern_id,
        kind=kind,
        choice=rival.choice,
        default=default,
        improvement=rival.improvement,
        p_value=corrected[best],
        support=len(rival.outcomes),
        default_support=len(reference),
        consistency=sum(value > mean for value in rival.outcomes) / len(rival.outcomes),
        is_significant=proven[best],
        reason=_in_words(rival, default, proven=proven[best], p_value=corrected[best]),
    )


def _keeping_default(verdict: Verdict, reference: Sequence[float]) -> Verdict:
    mean = float(np.mean(reference))
    above = sum(value > mean for value in reference) / len(reference)
    return replace(
        verdict, choice=verdict.default, support=len(reference), default_support=len(reference), consistency=above
    )


def _in_words(rival: _Rival, default: Choice, *, proven: bool, p_value: float) -> str:
    how = "exact permutation test, as no outcome varies" if rival.test.is_exact else "Welch's test"
    claim = "is better than" if proven else "may be better than"
    return f"{rival.choice!r} {claim} the default {default!r} by {rival.improvement:.3f} (p {p_value:.2g}, {how})"
