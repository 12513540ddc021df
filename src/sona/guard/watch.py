"""One watch per version in force: has what it changed been harmful?

A whole comparison remembers better days, so each version is judged on its own requests alone. Watches begin anew with
every version and every 1,000 compared requests; the k-th works at level alpha 6 / (pi k)^2, so that all of them
together raise a false alarm with a chance of at most alpha.
"""

from __future__ import annotations

import math

from sona.guard.comparison import Comparison, Noted
from sona.guard.exposure import MANY_LOOKS, quantile
from sona.guard.trial import Trial
from sona.state import State

LENGTH = 1000
_EVERY = 20


class Watch:
    """Compares the version in force with frozen answers until it is found worse.

    Args:
        alpha: Level of all watches together.
    """

    def __init__(self, alpha: float) -> None:
        """Begin the first watch, over version 0."""
        self._alpha = alpha
        self._comparison = Comparison()
        self.number = 1
        self.version = 0
        self.is_alarmed = False

    @property
    def level(self) -> float:
        """Level of the present watch."""
        return self._alpha * 6.0 / (math.pi * self.number) ** 2

    def begin(self, version: int) -> None:
        """Watch over `version` from now on, with no evidence."""
        self.version, self.is_alarmed = version, False
        self._renew()

    def _renew(self) -> None:
        self.number += 1
        self._comparison = Comparison()

    def observe(self, trial: Trial) -> Noted:
        """Count a trial of the version in force."""
        if self._comparison.trials >= LENGTH and not self.is_alarmed:
            self._renew()
        return Noted(self.number, self._comparison.observe(trial))

    def amend(self, old: Trial, new: Trial, noted: Noted) -> None:
        """Count an amended outcome; one of an earlier watch changes nothing."""
        if noted.serial == self.number:
            self._comparison.amend(old, new, noted.expected)

    def alarm(self, *, is_spent: bool = False) -> str | None:
        """Return the reason when the version is newly found to be worse than frozen answers, else None.

        Looks at every twentieth trial.

        Args:
            is_spent: Whether the budget shows next to nothing of the version any more. Little more will be known of it
                then, and a normal bound below 0, at a fifth of alpha, is enough to let it go.
        """
        if self.is_alarmed or self._comparison.trials % _EVERY:
            return None
        comparison = self._comparison
        high, at = comparison.gain(self.level, self.level).high, f"at level {self.level:.2g}"
        if is_spent and high >= 0.0:
            high = comparison.total + quantile(1.0 - self._alpha / MANY_LOOKS) * comparison.error
            at = "by a normal bound, the budget being spent"
        if high >= 0.0:
            return None
        self.is_alarmed = True
        weight = comparison.weight
        return (
            f"lift {comparison.total / weight:+.3f}, at most {high / weight:+.4f} {at}, "
            f"over {comparison.trials} compared requests"
        )

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "comparison": self._comparison.state(),
                "number": self.number,
                "version": self.version,
                "is_alarmed": self.is_alarmed,
            }
        )

    @classmethod
    def from_state(cls, state: State, alpha: float) -> Watch:
        """Return the watch that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        comparison = Comparison.from_state(state.child("comparison"))
        watch = cls(alpha)
        watch._comparison = comparison
        watch.number, watch.version = max(state.whole("number"), 1), state.whole("version")
        watch.is_alarmed = state.flag("is_alarmed")
        return watch
