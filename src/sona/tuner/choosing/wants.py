"""What may be tried next on each statement, and which of it is worth saving up for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, cast

from sona.errors import StoreError
from sona.state import Plain, State


@dataclass(frozen=True, slots=True)
class Trial:
    """What is best tried next on a statement.

    Args:
        arm: Name of the arm.
        timeout_s: When it is given up.
        cost_s: What it costs at worst, in seconds.
        score: Expected gain for its cost; only to compare.
    """

    arm: str
    timeout_s: float
    cost_s: float
    score: float


@dataclass(frozen=True, slots=True)
class Want:
    """What is best tried next, and when that was found: it holds until a version changes.

    Args:
        versions: Of the odds and of what is known of the statement.
        trial: None when nothing is left to try.
    """

    versions: tuple[int, int]
    trial: Trial | None


class Wants:
    """Next trials by statement; the best of all is found without looking at all of them.

    >>> wants = Wants()
    >>> wants.put("a", Want((0, 0), Trial("serial", 1.0, 1.0, score=3.0)))
    >>> wants.put("b", Want((0, 0), Trial("serial", 1.0, 2.0, score=7.0)))
    >>> wants.best(lambda key: True).score, wants.best(lambda key: key != "b").score
    (7.0, 3.0)
    """

    def __init__(self) -> None:
        """Want nothing."""
        self._wants: dict[str, Want] = {}
        self._best = ""

    def __len__(self) -> int:
        """Return the number of statements."""
        return len(self._wants)

    def __contains__(self, key: str) -> bool:
        """Return True when the next trial of a statement was looked for."""
        return key in self._wants

    @property
    def arms(self) -> set[str]:
        """Names of the arms that are wanted."""
        return {want.trial.arm for want in self._wants.values() if want.trial is not None}

    def get(self, key: str) -> Want | None:
        """Return what was found for a statement; None when it was not looked for."""
        return self._wants.get(key)

    def put(self, key: str, want: Want) -> None:
        """Keep what is best tried next on a statement."""
        self._wants[key] = want
        if key == self._best or self._score(key) > self._score(self._best):
            self._best = key if self._score(key) > self._score(self._best) else self._highest()

    def forget(self, key: str) -> None:
        """Forget a statement."""
        self._wants.pop(key, None)
        if key == self._best:
            self._best = self._highest()

    def clear(self) -> None:
        """Forget all of them."""
        self._wants.clear()
        self._best = ""

    def best(self, is_awaited: Callable[[str], bool]) -> Trial | None:
        """Return the trial with the greatest score; those of statements that are not awaited any more are forgotten."""
        while self._best and not is_awaited(self._best):
            self.forget(self._best)
        want = self._wants.get(self._best)
        return None if want is None else want.trial

    def _score(self, key: str) -> float:
        want = self._wants.get(key)
        return -1.0 if want is None or want.trial is None else want.trial.score

    def _highest(self) -> str:
        highest = max(self._wants, key=self._score, default="")
        return highest if self._score(highest) >= 0.0 else ""

    def state(self) -> State:
        """Return all of them."""
        rows: list[Plain] = []
        for key, want in self._wants.items():
            one = want.trial
            found: list[Plain] = [] if one is None else [one.arm, one.timeout_s, one.cost_s, one.score]
            rows.append([key, *want.versions, *found])
        return State({"wants": rows, "best": self._best})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return what `state` came from.

        Raises:
            StoreError: damaged.
        """
        wants = cls()
        try:
            for row in cast("list[list[str]]", state.listing("wants")):
                key, odds, unit, *rest = row
                trial = Trial(str(rest[0]), *(float(one) for one in rest[1:])) if rest else None
                wants._wants[str(key)] = Want((int(odds), int(unit)), trial)
        except (TypeError, ValueError) as error:
            raise StoreError("saved state: what may be tried next is damaged") from error
        wants._best = state.text("best")
        return wants
