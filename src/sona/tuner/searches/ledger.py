"""What searches of one statement have taken, and what checking them has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sona.checks import finite
from sona.errors import InvalidValue, StoreError
from sona.state import State
from sona.tuner.searches.checks import Doubles, Kind, Wholes

_FIRST_SHARE, _FIRST_ALLOWED = 0.25, 96


class Tally:
    """What searches of one size and fit have taken.

    Args:
        counts: Searches that ran by each arm, shape (a,).
        seconds: What they took, shape (a,).
        early: Searches that ran before enough was known.
        failures: Checks that could not be finished.
    """

    __slots__ = ("counts", "early", "failures", "seconds")

    def __init__(self, counts: Wholes, seconds: Doubles, early: int = 0, failures: int = 0) -> None:
        """Take over the counts."""
        self.counts, self.seconds, self.early, self.failures = counts, seconds, early, failures


class Ledger:
    """Counts that only rise: searches, checks, and the seconds of both.

    Args:
        width: Number of arms.
    """

    __slots__ = ("check_s", "checks", "first_checks", "first_s", "last_check_s", "served_s", "tallies", "width")

    def __init__(self, width: int) -> None:
        """Begin with nothing."""
        self.width = width
        self.tallies: dict[tuple[int, int], Tally] = {}
        self.checks = self.first_checks = 0  # the first ones are among all
        self.check_s = self.first_s = self.last_check_s = self.served_s = 0.0

    def tally(self, kind: Kind) -> Tally:
        """Return the tally of a kind's fit and size; a new one is empty."""
        found = self.tallies.get((kind.fit, kind.size))
        if found is None:
            found = Tally(np.zeros(self.width, np.int64), np.zeros(self.width))
            self.tallies[kind.fit, kind.size] = found
        return found

    def kinds(self) -> Iterator[tuple[Kind, Tally]]:
        """Yield each fit and size with its tally, the best fit first, small before large."""
        for fit, size in sorted(self.tallies, key=lambda one: (-one[0], one[1])):
            yield Kind(fit, size, -1), self.tallies[fit, size]

    def served(self, kind: Kind, place: int, time_s: float, *, is_early: bool) -> None:
        """Count a search; raises InvalidValue for a time that is negative or not finite."""
        seconds = _seconds(time_s)
        tally = self.tally(kind)
        tally.counts[place] += 1
        tally.seconds[place] += seconds
        tally.early += is_early
        self.served_s += seconds

    def checked(self, time_s: float, *, is_first: bool) -> None:
        """Count a check."""
        self.checks += 1
        self.check_s += time_s
        self.last_check_s = time_s
        if is_first:
            self.first_checks += 1
            self.first_s += time_s

    def gave_up(self, kind: Kind, time_s: float) -> None:
        """Count a check that could not be finished, and that it was no first one, so that time limits the next."""
        self.check_s += _seconds(time_s)
        self.last_check_s = max(self.last_check_s, time_s)
        self.tally(kind).failures += 1

    def affords(self, share: float) -> bool:
        """Return whether another check keeps those after the first within a share of the time of searches."""
        return self.check_s - self.first_s + self.last_check_s <= share * self.served_s

    def has_early_time(self) -> bool:
        """Return whether another of the first checks keeps them within a quarter of the time of searches, 96 aside."""
        return self.first_s <= _FIRST_SHARE * self.served_s + _FIRST_ALLOWED * self.last_check_s

    def state(self) -> State:
        """Return everything it holds."""
        tallies = list(self.tallies.values())
        return State(
            {
                "kinds": np.array(list(self.tallies), np.int64).reshape(-1, 2),
                "counts": np.array([one.counts for one in tallies], np.int64).reshape(-1, self.width),
                "seconds": np.array([one.seconds for one in tallies], np.float64).reshape(-1, self.width),
                "early": np.array([(one.early, one.failures) for one in tallies], np.int64).reshape(-1, 2),
                "checks": self.checks,
                "first_checks": self.first_checks,
                "times": np.array([self.check_s, self.first_s, self.last_check_s, self.served_s]),
            }
        )

    @classmethod
    def from_state(cls, state: State, width: int) -> Ledger:
        """Return the ledger that `state` holds; raises StoreError when it is damaged."""
        ledger = cls(width)
        kinds = state.wholes("kinds", None, 2)
        counts, seconds = state.wholes("counts", len(kinds), width), state.doubles("seconds", len(kinds), width)
        early, times = state.wholes("early", len(kinds), 2), state.doubles("times", 4)
        if not all((part >= 0).all() and np.isfinite(part).all() for part in (counts, seconds, early, times)):
            raise StoreError("saved state: counts and times should be finite and at least 0")
        for row, (fit, size) in enumerate(kinds.tolist()):
            ledger.tallies[fit, size] = Tally(counts[row], seconds[row], int(early[row, 0]), int(early[row, 1]))
        ledger.checks, ledger.first_checks = state.whole("checks"), state.whole("first_checks")
        if min(ledger.checks, ledger.first_checks) < 0:
            raise StoreError("saved state: checks should be at least 0")
        ledger.check_s, ledger.first_s, ledger.last_check_s, ledger.served_s = times.tolist()
        return ledger


def _seconds(time_s: float) -> float:
    if finite(time_s, "time_s") < 0.0:
        raise InvalidValue(f"time_s: expected at least 0, got {time_s}")
    return time_s
