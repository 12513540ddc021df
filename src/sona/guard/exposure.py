"""How much to show of what was learned: no more than evidence and budget allow.

A conservative bandit: what learned answers may have cost, at worst, stays below a share of what frozen ones would have
earned. The share shown is the greatest that, kept up for a while, would still leave the bound within the budget: more
shown costs less certainty where frozen answers become rare, so evidence and what was gained let it grow.

The bound is that of a normal distribution at each look. It is not one for all looks at once, as those behind the
verdict are: the share shown is corrected at every look, so a bound missed now is made good by showing less.

Sources: Wu, Shariff, Lattimore, Szepesvari 2016, Conservative Bandits; Kazerouni, Ghavamzadeh, Abbasi-Yadkori,
Van Roy 2017, Conservative Contextual Linear Bandits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PROBE = 0.01
SPENT = 0.05
"""Share shown at which a budget counts as spent."""
UNPROVEN = 2.0 / 3.0
"""Greatest share before there is a verdict: with one frozen answer in three it comes nearly five times as soon as with
one in twenty."""
_LEAST_AHEAD = 500
_NEXT_LOOK = 20
_PLANNED = 0.8  # of the budget; the rest is for what is lost before it is seen (bench/guard.py)
MANY_LOOKS = 5.0
"""The bound of a look works at alpha over this, as there are many looks."""
_SHARES = (0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, PROBE)


@dataclass(frozen=True, slots=True)
class Account:
    """Where the budget stands.

    Args:
        known: Requests with a known outcome since the guard began.
        frozen_quality: Mean quality of frozen answers.
        gain: What learned answers gained so far, estimated; negative for a loss.
        error: Its standard error.
        noise: Mean squared residual of one outcome.
        budget: Share of what frozen answers earn that learned ones may cost.
        least: Requests that the budget is for at least.
        alpha: Level of the bound.
    """

    known: int
    frozen_quality: float
    gain: float
    error: float
    noise: float
    budget: float
    least: int
    alpha: float

    def allowed(self, ahead: int = 0) -> float:
        """Return what learned answers are planned to cost at most after `ahead` more requests, in quality."""
        return _PLANNED * self.budget * self.frozen_quality * max(self.known + ahead, self.least)

    @property
    def loss(self) -> float:
        """Upper bound of what learned answers have cost so far; at least 0."""
        return max(self.bound(self.error), 0.0)

    def bound(self, error: float) -> float:
        """Return the upper bound of the cost at this standard error."""
        return quantile(1.0 - self.alpha / MANY_LOOKS) * error - self.gain

    @property
    def used(self) -> float:
        """Share of the budget that may be used up."""
        if self.loss <= 0.0:
            return 0.0
        allowed = self.allowed()
        return self.loss / allowed if allowed > 0.0 else 1.0


def exposure_within(account: Account, most: float) -> float:
    """Return the greatest share shown learned answers that keeps the bound within the budget.

    The bound has to be within the budget now, even if all is lost until the next look, and after as many requests
    more as are known, at least 500, in which the effect is taken to be nil: what it is shows soon enough.

    Args:
        account: Where the budget stands.
        most: Greatest share, below 1.

    >>> new = Account(100, 0.5, gain=0.0, error=0.0, noise=0.1, budget=0.05, least=1000, alpha=0.05)
    >>> exposure_within(new, 0.95)
    0.5
    """
    ahead = max(account.known, _LEAST_AHEAD)
    allowed, risk = account.allowed(ahead), account.frozen_quality * _NEXT_LOOK
    for share in (most, *(share for share in _SHARES if share < most)):
        error = math.sqrt(account.error**2 + ahead * account.noise * share / (1.0 - share))
        if account.bound(error) <= allowed and account.bound(account.error) + share * risk <= account.allowed():
            return share
    return 0.0


def quantile(level: float) -> float:
    """Return the standard normal quantile of a level in (0, 1)."""
    from statistics import NormalDist  # imported here: `import sona` stays quick

    return NormalDist().inv_cdf(level)
