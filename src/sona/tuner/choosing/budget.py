"""What trying other settings may cost: a share of the time spent, and never much of it at once."""

from __future__ import annotations

from typing import Self

from sona.checks import setting_number
from sona.errors import StoreError
from sona.state import State

_RELAXED = 0.5  # of what is saved in a round may be spent in a round, within the share of all time
_PATIENCE = 0.1  # of what was not spent for long may be spent at once: a statement may be most of its round


class Budget:
    """Time spent, and what of it trying cost.

    Two limits hold. Over all time, trying costs at most `share` of what was spent. In one round - every statement
    once - it costs at most about `share` of a round of the server's own choices, and half of what is saved by then:
    what was not spent early may not be spent all at once, but a tenth of it may.

    Args:
        share: Most of the time spent that trying may have cost.

    Example:
        >>> budget = Budget(0.05)
        >>> budget.spend(10.0, round_s=8.0, saved_s=0.0); round(budget.room_s, 3)
        0.4
        >>> budget.explore(0.4); budget.room_s
        0.0
    """

    def __init__(self, share: float) -> None:
        """Start with nothing spent."""
        setting_number(share, "share", 0.0, 1.0)
        self._share = share
        self.spent_s = 0.0
        self.explored_s = 0.0
        self._tokens_s = 0.0
        self._limit_s = 0.0

    @property
    def balance_s(self) -> float:
        """Seconds that trying may cost over all time, less what it did cost."""
        return self._share * self.spent_s - self.explored_s

    @property
    def room_s(self) -> float:
        """Seconds that a trial may cost now, within its round."""
        return max(0.0, min(self.balance_s, self._tokens_s))

    @property
    def limit_s(self) -> float:
        """The most `room_s` can become; what costs more cannot be tried."""
        return self._limit_s

    def spend(self, time_s: float, *, round_s: float, saved_s: float) -> None:
        """Count time that the application waited.

        Args:
            time_s: Seconds.
            round_s: Seconds that every statement once takes under the server's own choice.
            saved_s: Seconds that are saved of them at present.
        """
        self.spent_s += time_s
        of_round_s = self._share * round_s + _RELAXED * max(0.0, saved_s)
        self._limit_s = max(of_round_s, _PATIENCE * self.balance_s)
        if round_s > 0.0:
            self._tokens_s += time_s * self._limit_s / round_s
        self._tokens_s = min(self._tokens_s, self._limit_s)

    def explore(self, cost_s: float) -> None:
        """Count what of the time spent was the cost of trying."""
        self.explored_s += cost_s
        self._tokens_s -= cost_s

    def state(self) -> State:
        """Return everything it counted."""
        return State(
            {
                "spent_s": self.spent_s,
                "explored_s": self.explored_s,
                "tokens_s": self._tokens_s,
                "limit_s": self._limit_s,
            }
        )

    @classmethod
    def from_state(cls, state: State, share: float) -> Self:
        """Return the budget that `state` came from, with `share` from now on.

        Raises:
            StoreError: damaged.
        """
        budget = cls(share)
        budget.spent_s, budget.explored_s = state.number("spent_s"), state.number("explored_s")
        budget._tokens_s, budget._limit_s = state.number("tokens_s"), state.number("limit_s")
        if min(budget.spent_s, budget.explored_s, budget._limit_s) < 0.0:
            raise StoreError("saved state: a budget cannot be negative")
        return budget
