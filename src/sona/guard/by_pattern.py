"""A comparison per pattern of requests: where learning helps and where not."""

from __future__ import annotations

from dataclasses import dataclass

from sona.errors import StoreError
from sona.guard.comparison import Comparison, Lift, Noted
from sona.guard.trial import Trial
from sona.state import State

CAPACITY = 200


@dataclass(frozen=True, slots=True)
class PatternLift:
    """The lift among the requests of one pattern; its level is shared with all patterns that are compared."""

    pattern_id: int
    lift: Lift


class PatternComparisons:
    """Compares within each of the most active patterns; a new one takes the place of the least active."""

    def __init__(self) -> None:
        """Start without patterns."""
        self._serials: dict[int, int] = {}
        self._comparisons: dict[int, Comparison] = {}
        self._next_serial = 1

    def __len__(self) -> int:
        """Return how many patterns are compared."""
        return len(self._comparisons)

    def observe(self, pattern_id: int, trial: Trial) -> Noted:
        """Count a trial of a pattern."""
        if pattern_id not in self._serials:
            self._begin(pattern_id)
        serial = self._serials[pattern_id]
        return Noted(serial, self._comparisons[serial].observe(trial))

    def _begin(self, pattern_id: int) -> None:
        if len(self._serials) >= CAPACITY:
            least = min(self._serials, key=lambda held: self._comparisons[self._serials[held]].trials)
            del self._comparisons[self._serials.pop(least)]
        self._serials[pattern_id] = self._next_serial
        self._comparisons[self._next_serial] = Comparison()
        self._next_serial += 1

    def amend(self, old: Trial, new: Trial, noted: Noted) -> None:
        """Count an amended outcome; one of a pattern that gave way changes nothing."""
        comparison = self._comparisons.get(noted.serial)
        if comparison is not None:
            comparison.amend(old, new, noted.expected)

    def lifts(self, alpha: float, most: int) -> tuple[PatternLift, ...]:
        """Return the lifts of the most active patterns, each at level alpha over the number compared (Bonferroni)."""
        level = alpha / max(len(self), 1)
        held = sorted(self._serials.items(), key=lambda item: -self._comparisons[item[1]].trials)
        return tuple(PatternLift(pattern, self._comparisons[serial].lift(level)) for pattern, serial in held[:most])

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        held = {str(pattern): self._comparisons[serial].state() for pattern, serial in self._serials.items()}
        return State(
            {
                "patterns": list(self._serials),
                "serials": list(self._serials.values()),
                "comparisons": State(held),
                "next_serial": self._next_serial,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> PatternComparisons:
        """Return the comparisons that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        patterns = cls()
        held, serials = state.listing("patterns"), state.listing("serials")
        comparisons = state.child("comparisons")
        if len(held) != len(serials):
            raise StoreError("saved state: patterns are damaged")
        for pattern, serial in zip(held, serials, strict=True):
            if not isinstance(pattern, int) or not isinstance(serial, int):
                raise StoreError("saved state: patterns are damaged")
            patterns._serials[pattern] = serial
            patterns._comparisons[serial] = Comparison.from_state(comparisons.child(str(pattern)))
        patterns._next_serial = state.whole("next_serial")
        return patterns
