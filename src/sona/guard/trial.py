"""One compared request, what was expected of it, and what it says about learned answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sona.guard.sequence import Step


@dataclass(frozen=True, slots=True)
class Trial:
    """One request with its outcome.

    Args:
        unit: 8-byte name of the unit.
        visit: Which visit of the unit it was, from 1; 0 when it was not compared.
        is_learned: Whether the learned list was shown.
        exposure: Propensity of the learned list.
        quality: What the shown list earned, in [0, 1].
        common: The part of it that the common beginning earned, at most `quality`.
        prefix: Items that both lists begin with.
        is_identical: Whether both lists were the same.
    """

    unit: int
    visit: int
    is_learned: bool
    exposure: float
    quality: float
    common: float = 0.0
    prefix: int = 0
    is_identical: bool = False

    def whole(self) -> Trial:
        """Return the trial without what was said of the two lists: the whole quality counts."""
        return replace(self, common=0.0, prefix=0, is_identical=False)

    @property
    def surplus(self) -> float:
        """What was earned beyond the common beginning."""
        return self.quality - self.common

    @property
    def arm(self) -> int:
        """1 for learned, 0 for frozen."""
        return int(self.is_learned)


@dataclass(frozen=True, slots=True)
class Expected:
    """Means of both arms as they stood before a trial: what a comparison expected of it."""

    learned: float
    frozen: float


def weighed(trial: Trial, expected: Expected) -> Step:
    """Return what showing learned lists, as often as they are shown, gained in a trial.

    With exposure e, arm A, surplus S and expected surpluses m1 and m0, the doubly robust effect times e is

        W = e (m1 - m0) + A (S - m1) - (1 - A) (S - m0) e / (1 - e)

    whose mean given the past is e times the true effect, whatever m1 and m0 are. Identical lists gain exactly 0.

    Source:
        Robins, Rotnitzky, Zhao 1994 (augmented inverse propensity); Dudik, Langford, Li 2011, eq. 3.

    >>> weighed(Trial(1, 1, True, 0.5, 1.0), Expected(0.6, 0.4)).value
    0.5
    """
    if trial.is_identical:
        return Step(0.0, 0.0, 0.0, 0.0)
    m1, m0, exposure = expected.learned, expected.frozen, trial.exposure
    odds = exposure / (1.0 - exposure)
    residual = trial.surplus - m1 if trial.is_learned else (m0 - trial.surplus) * odds
    most = 1.0 / (trial.prefix + 1)
    below, above = max(m1, (most - m0) * odds), max(most - m1, m0 * odds)
    return Step(exposure * (m1 - m0) + residual, residual, below, above)
