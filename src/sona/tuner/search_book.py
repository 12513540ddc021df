"""What is remembered of searches between statements: their indexes, the rows that pass their filters, checks to do."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from sona.tuner.searches.fit import Surveyed

_WAITING = 16  # checks that may wait for a connection without a transaction
_TARGET_S = 300.0  # how long it is believed which indexes there are


@dataclass(frozen=True, slots=True)
class Target:
    """What a statement searches.

    Args:
        index_kind: Access method of the index on its distance, "hnsw" or "ivfflat"; "" without one.
        rows: Rows of the table, as the catalogue estimates them.
        surveyed: Averages over the table; None where they were not needed or cannot be had.
    """

    index_kind: str = ""
    rows: float = 0.0
    surveyed: Surveyed | None = None


class SearchBook:
    """What was asked of the server about searches, for as long as it is believed.

    Args:
        capacity: Filters kept; the one asked for longest ago goes first.
        survey_s: Seconds after which the rows that pass a filter are asked for again.
        clock: Seconds from any beginning.
    """

    def __init__(self, capacity: int, survey_s: float, clock: Callable[[], float]) -> None:
        """Start empty."""
        self._capacity, self._survey_s, self._clock = capacity, survey_s, clock
        self._targets: OrderedDict[str, tuple[float, Target]] = OrderedDict()
        self._surveys: OrderedDict[tuple[str, str], tuple[float, Surveyed | None]] = OrderedDict()
        self.due: deque[object] = deque(maxlen=_WAITING)

    def target(self, fingerprint: str) -> Target | None:
        """Return what a statement searches; None when it has to be asked for."""
        until, target = self._targets.get(fingerprint, (0.0, None))
        return target if self._clock() < until else None

    def set_target(self, fingerprint: str, target: Target) -> None:
        """Keep what a statement searches."""
        self._targets[fingerprint] = (self._clock() + _TARGET_S, target)
        while len(self._targets) > self._capacity:
            self._targets.popitem(last=False)

    def is_surveyed(self, fingerprint: str, values: str) -> bool:
        """Return True when the rows that pass a filter were asked for, whatever came of it."""
        return self._clock() < self._surveys.get((fingerprint, values), (0.0, None))[0]

    def surveyed(self, fingerprint: str, values: str) -> Surveyed | None:
        """Return what is known of the rows that pass a filter; None when it is nothing."""
        return self._surveys[fingerprint, values][1] if self.is_surveyed(fingerprint, values) else None

    def set_surveyed(self, fingerprint: str, values: str, surveyed: Surveyed | None) -> None:
        """Keep what is known of the rows that pass a filter."""
        self._surveys[fingerprint, values] = (self._clock() + self._survey_s, surveyed)
        self._surveys.move_to_end((fingerprint, values))
        while len(self._surveys) > self._capacity:
            self._surveys.popitem(last=False)
