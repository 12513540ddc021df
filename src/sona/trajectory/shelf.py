"""A queue of trajectories that lie still: all but the newest in columns, which several queues can share."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from sona.checks import Floats
from sona.errors import InvalidValue
from sona.state import State
from sona.trajectory.columns import TrajectoryColumns
from sona.trajectory.record import trajectories_from_state
from sona.types import QueryTrajectory

BLOCK = 64
"""Trajectories packed at once: a request that packs waits for these, and a view on one of them holds them all."""
_FRESH = 32  # newest ones left as they are: whoever finished them may still hold them


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trajectory lies: a row of columns."""

    columns: TrajectoryColumns
    row: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows of columns that follow one another in a shelf; `first` is the shelf's number of the first of them."""

    first: int
    columns: TrajectoryColumns
    start: int
    stop: int

    @property
    def end(self) -> int:
        return self.first + self.stop - self.start

    def within(self, low: int, high: int) -> _Stretch:
        """Return the part numbered from `low` to before `high`, of which there is one at least."""
        start = self.start + max(low - self.first, 0)
        return _Stretch(max(self.first, low), self.columns, start, self.stop - max(self.end - high, 0))


_first = attrgetter("first")


class TrajectoryShelf:
    """Trajectories in order, each with a number one greater than the one before; the oldest can be dropped.

    What was taken from one shelf and put on another with its place lies in the same columns. Not safe for threads.

    >>> import numpy as np
    >>> shelf = TrajectoryShelf()
    >>> for id in range(100):
    ...     shelf.append(QueryTrajectory(id, np.ones(2, np.float32)))
    >>> len(shelf), shelf[70].id, [trajectory.id for trajectory in shelf.take(2)], shelf[70].id
    (100, 70, [0, 1], 70)
    """

    __slots__ = ("_loose", "_packed", "_start", "_stretches")

    def __init__(self) -> None:
        """Start empty, with the number 0."""
        self._stretches: list[_Stretch] = []
        self._loose: list[QueryTrajectory] = []
        self._start = 0  # number of the oldest
        self._packed = 0  # number of the first that is loose

    def __len__(self) -> int:
        """Return how many there are."""
        return self._packed + len(self._loose) - self._start

    @property
    def start(self) -> int:
        """Number of the oldest trajectory."""
        return self._start

    @property
    def end(self) -> int:
        """Number that the next one gets."""
        return self._packed + len(self._loose)

    def append(self, trajectory: QueryTrajectory, at: Place | None = None) -> None:
        """Put a trajectory at the end; `at` is where it lies already, as `placed` told."""
        if at is not None:
            self._adopt(at)
            return
        self._loose.append(trajectory)
        if len(self._loose) >= BLOCK + _FRESH:
            self._pack(BLOCK)

    def _adopt(self, at: Place) -> None:
        self.settle()
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.columns is at.columns and last.stop == at.row:
            self._stretches[-1] = _Stretch(last.first, last.columns, last.start, at.row + 1)
        else:
            self._stretches.append(_Stretch(self._packed, at.columns, at.row, at.row + 1))
        self._packed += 1

    def settle(self) -> None:
        """Pack the newest ones, too: nobody is at work on them any more."""
        while self._loose:
            self._pack(BLOCK)

    def _pack(self, count: int) -> None:
        batch = self._loose[:count]
        del self._loose[:count]  # what the batch alone holds is moved
        self._stretches.append(_Stretch(self._packed, TrajectoryColumns.of(batch), 0, len(batch)))
        self._packed += len(batch)

    def drop(self, count: int) -> None:
        """Let go of the `count` oldest, at most as many as there are."""
        self._start += count
        gone = 0
        while gone < len(self._stretches) and self._stretches[gone].end <= self._start:
            gone += 1
        del self._stretches[:gone]
        if self._start > self._packed:
            del self._loose[: self._start - self._packed]
            self._packed = self._start

    def take(self, count: int) -> TrajectoryShelf:
        """Return the `count` oldest, or as many as there are, and let go of them."""
        taken = self.part(self._start, min(self._start + count, self.end))
        self.drop(len(taken))
        return taken

    def part(self, low: int, high: int) -> TrajectoryShelf:
        """Return those numbered from `low` to before `high`, which are there: the same numbers, the same places."""
        made = TrajectoryShelf()
        made._start, made._packed = low, min(max(self._packed, low), high)
        made._stretches = [each.within(low, high) for each in self._stretches if each.first < high and low < each.end]
        made._loose = self._loose[max(low - self._packed, 0) : max(high - self._packed, 0)]
        return made

    def copy(self) -> TrajectoryShelf:
        """Return a shelf of the same trajectories; a later change of either leaves the other as it was."""
        return self.part(self._start, self.end)

    def __getitem__(self, number: int) -> QueryTrajectory:
        """Return the trajectory of a number.

        Raises:
            InvalidValue: it is not here.
        """
        at = self._place(number)
        return self._loose[number - self._packed] if at is None else at.columns.rows(at.row, at.row + 1)[0]

    def id_of(self, number: int) -> int:
        """Return the id of the trajectory of a number, or raise as `shelf[number]` does."""
        at = self._place(number)
        return self._loose[number - self._packed].id if at is None else at.columns.ids[at.row]

    def _place(self, number: int) -> Place | None:
        if not self._start <= number < self.end:
            raise InvalidValue(f"number: expected one from {self._start} to before {self.end}, got {number!r}")
        if number >= self._packed:
            return None
        stretch = self._stretches[bisect_right(self._stretches, number, key=_first) - 1]
        return Place(stretch.columns, stretch.start + number - stretch.first)

    def _held(self) -> list[_Stretch]:
        # What is not loose, without what was dropped.
        stretches = self._stretches.copy()
        if stretches and stretches[0].first < self._start:
            stretches[0] = stretches[0].within(self._start, stretches[0].end)
        return stretches

    def __iter__(self) -> Iterator[QueryTrajectory]:
        """Yield the trajectories there are now, oldest first; those of one block at a time are made."""
        loose = self._loose.copy()
        for stretch in self._held():
            yield from stretch.columns.rows(stretch.start, stretch.stop)
        yield from loose

    def placed(self) -> Iterator[tuple[QueryTrajectory, Place | None]]:
        """Yield each trajectory with where it lies, for another shelf; None for the newest, which lie nowhere yet."""
        loose = self._loose.copy()
        for stretch in self._held():
            columns, rows = stretch.columns, range(stretch.start, stretch.stop)
            for row, trajectory in zip(rows, columns.rows(stretch.start, stretch.stop), strict=True):
                yield trajectory, Place(columns, row)
        for trajectory in loose:
            yield trajectory, None

    def ids(self) -> list[int]:
        """Return the id of each, oldest first."""
        ids: list[int] = []
        for stretch in self._held():
            ids += stretch.columns.ids[stretch.start : stretch.stop]
        return ids + [trajectory.id for trajectory in self._loose]

    def qualities(self) -> list[float | None]:
        """Return the quality of each, oldest first."""
        qualities: list[float | None] = []
        for stretch in self._held():
            qualities += stretch.columns.qualities(stretch.start, stretch.stop)
        return qualities + [trajectory.quality for trajectory in self._loose]

    def queries(self) -> list[Floats]:
        """Return the queries, oldest first, in matrices (m, d) one after the other, mostly views."""
        matrices = [stretch.columns.queries(stretch.start, stretch.stop) for stretch in self._held()]
        return matrices + [trajectory.query_embedding[None] for trajectory in self._loose]


def shelved(state: State) -> TrajectoryShelf:
    """Return on a shelf the trajectories that `trajectories_from_state` returns; it raises the same."""
    waiting = deque(trajectories_from_state(state))
    shelf = TrajectoryShelf()
    while waiting:  # what nothing else holds is packed
        shelf.append(waiting.popleft())
    return shelf
