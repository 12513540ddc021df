"""How much to show of what was learned: no more than evidence and budget allow.

A conservative bandit: what learned answers may have cost so far, at worst, stays below a share of what frozen ones
would have earned. What is left of that share is spent over the next requests, each of which risks at most the whole
frozen quality.

Sources: Wu, Shariff, Lattimore, Szepesvari 2016, Conservative Bandits; Kazerouni, Ghavamzadeh, Abbasi-Yadkori,
Van Roy 2017, Conservative Contextual Linear Bandits.
"""

from __future__ import annotations

from dataclasses import dataclass

HORIZON = 100
PROBE = 0.01


@dataclass(frozen=True, slots=True)
class Account:
    """What the budget stands at.

    Args:
        known: Requests with a known outcome since the guard began.
        frozen_quality: Mean quality of frozen answers.
        loss: Upper bound of what learned answers cost so far, in quality.
        allowed: What they may cost: budget times what frozen answers would have earned.
    """

    known: int
    frozen_quality: float
    loss: float
    allowed: float

    @property
    def headroom(self) -> float:
        """What may still be lost; negative when the bound is beyond the budget."""
        return self.allowed - self.loss

    @property
    def used(self) -> float:
        """Share of the budget that may be used up, at least 0."""
        if self.loss <= 0.0:
            return 0.0
        return self.loss / self.allowed if self.allowed > 0.0 else 1.0


def exposure_within(account: Account, most: float) -> float:
    """Return the share of the next requests to show learned answers: headroom over what 100 of them could lose.

    Args:
        account: Where the budget stands.
        most: Greatest exposure.

    >>> exposure_within(Account(known=400, frozen_quality=0.5, loss=5.0, allowed=10.0), most=0.95)
    0.1
    """
    risk = account.frozen_quality * HORIZON
    if risk <= 0.0:
        return most  # frozen answers earn nothing: there is nothing to lose
    return min(max(account.headroom / risk, 0.0), most)
