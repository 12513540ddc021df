"""Which of several arms pays best, learned by pulling them: UCB1-tuned, which soon knows an arm that is steady."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import numpy.typing as npt

from sona.checks import fraction, whole
from sona.errors import ConfigError, StoreError
from sona.state import State


class UcbTuned:
    """Choose the arm of greatest mean + c sqrt(ln t / n min(1/4, V)), V = variance + sqrt(2 ln t / n).

    Every arm is pulled once before, in order. t counts all pulls, n those of the arm; c is `width`, 1 in the source.

    >>> bandit = UcbTuned(2)
    >>> for reward in (0.2, 0.9):
    ...     bandit.update(bandit.select(), reward)
    >>> bandit.select(), bandit.means.tolist()
    (1, [0.2, 0.9])

    Source:
        Auer, Cesa-Bianchi and Fischer 2002, Finite-time Analysis of the Multiarmed Bandit Problem, section 4.
    """

    __slots__ = ("_counts", "_squares", "_sums", "_width")

    def __init__(self, arms: int, *, width: float = 1.0) -> None:
        """Start without pulls.

        Args:
            arms: How many there are, at least 1.
            width: Width c of the confidence bound, at least 0.

        Raises:
            ConfigError: a width that is negative or not finite.
            InvalidValue: no arms.
        """
        if not 0.0 <= width < math.inf:
            raise ConfigError(f"width: expected a finite number of at least 0, got {width!r}")
        self._width = float(width)
        self._counts = np.zeros(whole(arms, "arms", 1), np.int64)
        self._sums = np.zeros(arms)
        self._squares = np.zeros(arms)

    def __len__(self) -> int:
        """Return the number of arms."""
        return len(self._counts)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each arm was pulled, shape (arms,)."""
        return self._counts.copy()

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """Mean reward of each arm, shape (arms,); 0 for one never pulled."""
        return np.asarray(self._sums / np.maximum(self._counts, 1), np.float64)

    def select(self) -> int:
        """Return the arm to pull next; of equal ones the first."""
        if not self._counts.all():
            return int(np.argmin(self._counts > 0))
        means = self.means
        share = math.log(self._counts.sum()) / self._counts
        variances = np.maximum(self._squares / self._counts - means**2, 0.0) + np.sqrt(2.0 * share)
        return int(np.argmax(means + self._width * np.sqrt(share * np.minimum(0.25, variances))))

    def update(self, arm: int, reward: float) -> None:
        """Count a pull of `arm` that earned `reward`, in [0, 1].

        Raises:
            InvalidValue: an unknown arm, or a reward outside [0, 1]; nothing changed.
        """
        earned = fraction(reward, "reward")
        pulled = whole(arm, "arm", 0, len(self) - 1)
        self._counts[pulled] += 1
        self._sums[pulled] += earned
        self._squares[pulled] += earned * earned

    def state(self) -> State:
        """Return everything learned."""
        return State({"counts": self.counts, "sums": self._sums.copy(), "squares": self._squares.copy()})

    @classmethod
    def from_state(cls, state: State, arms: int, *, width: float = 1.0) -> Self:
        """Return the bandit that `state()` described.

        Raises:
            StoreError: the state is damaged, or of another number of arms.
        """
        bandit = cls(arms, width=width)
        bandit._counts = state.wholes("counts", arms)
        bandit._sums = state.doubles("sums", arms)
        bandit._squares = state.doubles("squares", arms)
        is_counted = bandit._counts >= 0  # rewards lie in [0, 1], and NaN compares as False
        in_order = (
            is_counted & (bandit._squares >= 0.0) & (bandit._squares <= bandit._sums) & (bandit._sums <= bandit._counts)
        )
        if not in_order.all():
            raise StoreError("saved state: the rewards of a bandit are not those of its pulls")
        return bandit
