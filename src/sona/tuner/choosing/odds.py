"""How likely an arm is to help a query that it was never tried on, from what it did for others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.errors import StoreError
from sona.state import State
from sona.tuner.choosing.arms import Arm

RATIOS = (0.3, 0.6, 0.85)
"""What a trial hopes for: to take at most this share of the time of what is in force."""

_PRIOR = np.array([0.06, 0.13, 0.2])  # chances of an arm nothing is known of
_PRIOR_WEIGHT = 1.0  # in outcomes
_REMEDY, _OTHER = 0.35, 0.075  # what a nat of surprise adds to the log of the chance
_LOW, _HIGH = -1.0, 2.0  # bounds of that
_MOST = 0.6
_FAILED = 0.15  # what one failed arm takes from the chance of the next
_KEPT = 64  # outcomes per arm

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A query for which an arm is judged.

    Args:
        embedding: Plan embedding of the server's own plan, unit length, shape (d,).
        surprise: Log of its time over the time that plans of that cost usually take.
        failures: Arms that did not help it.
    """

    embedding: Floats
    surprise: float
    failures: int = 0


class _Outcomes:
    __slots__ = ("bounds", "embeddings", "ratios", "surprises", "total")

    def __init__(self, width: int) -> None:
        self.embeddings = np.zeros((_KEPT, width), np.float32)
        self.ratios, self.bounds, self.surprises = np.full((3, _KEPT), np.inf)
        self.total = 0

    def add(self, case: Case, ratio: float, bound: float) -> None:
        place = self.total % _KEPT
        self.embeddings[place], self.surprises[place] = case.embedding, case.surprise
        self.ratios[place], self.bounds[place] = ratio, bound
        self.total += 1

    def state(self) -> State:
        figures = np.stack([self.ratios, self.bounds, self.surprises])
        return State({"embeddings": self.embeddings.copy(), "figures": figures, "total": self.total})


class ArmOdds:
    """What arms did, and from it what they may do.

    An outcome counts for a query as much as their plans are alike (cosine of the embeddings), less the more the
    surprises differ. Where nothing is known, a query that takes much longer than its cost says is more likely to have
    a better plan, most of all among arms that are a remedy for underestimated rows.

    Args:
        width: Width d of plan embeddings.
    """

    def __init__(self, width: int) -> None:
        """Start with no outcome."""
        self._width = width
        self._outcomes: dict[str, _Outcomes] = {}
        self.version = 0

    def add(self, arm: str, case: Case, ratio: float, *, is_censored: bool = False) -> None:
        """Take in what an arm did.

        Args:
            arm: Its name.
            case: The query.
            ratio: Its time over that of the server's own choice.
            is_censored: Whether it was given up at that time, so that it would have taken longer.
        """
        outcomes = self._outcomes.setdefault(arm, _Outcomes(self._width))
        outcomes.add(case, math.inf if is_censored else ratio, ratio if is_censored else math.inf)
        self.version += 1

    def chances(self, arm: Arm, case: Case) -> Doubles:
        """Return the chances that an arm takes at most each of `RATIOS` of the server's time, shape (3,)."""
        factor = (_REMEDY if arm.is_remedy else _OTHER) * case.surprise
        prior = arm.prior * _PRIOR * math.exp(min(_HIGH, max(_LOW, factor))) / (1.0 + _FAILED * case.failures)
        won, seen = _PRIOR_WEIGHT * np.minimum(prior, _MOST), np.full(len(RATIOS), _PRIOR_WEIGHT)
        outcomes = self._outcomes.get(arm.name)
        if outcomes is not None:
            count = min(outcomes.total, _KEPT)
            alike = np.maximum(outcomes.embeddings[:count] @ case.embedding, 0.0)
            weights = alike * np.exp(-np.abs(outcomes.surprises[:count] - case.surprise))
            is_won = outcomes.ratios[:count, None] <= np.array(RATIOS)
            is_seen = is_won | (outcomes.bounds[:count, None] >= np.array(RATIOS))
            won, seen = won + weights @ is_won, seen + weights @ is_seen
        chances: Doubles = won / seen
        return chances

    def state(self) -> State:
        """Return every outcome kept."""
        return State({"arms": list(self._outcomes), **{arm: one.state() for arm, one in self._outcomes.items()}})

    @classmethod
    def from_state(cls, state: State, width: int) -> Self:
        """Return the odds that `state` came from.

        Raises:
            StoreError: damaged, or of another width.
        """
        odds = cls(width)
        for arm in state.texts("arms"):
            kept, one = state.child(arm), _Outcomes(width)
            one.embeddings = kept.floats("embeddings", _KEPT, width)
            one.ratios, one.bounds, one.surprises = kept.doubles("figures", 3, _KEPT)
            one.total = kept.whole("total")
            if one.total < 0 or np.isnan([one.ratios, one.bounds, one.surprises]).any():
                raise StoreError(f"saved state: what arm {arm!r} did is damaged")
            odds._outcomes[arm] = one
            odds.version += one.total
        return odds
