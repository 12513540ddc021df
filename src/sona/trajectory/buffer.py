"""Where finished requests wait for the background loop, and the ids they are known by."""

from __future__ import annotations

import threading

from sona.checks import setting_whole, whole
from sona.errors import InvalidValue
from sona.state import State
from sona.trajectory.record import trajectories_state
from sona.trajectory.shelf import TrajectoryShelf, shelved
from sona.types import QueryTrajectory


class TrajectoryIds:
    """Ids of one engine: each number is given out once, in order, also across threads and restarts.

    >>> ids = TrajectoryIds()
    >>> ids.next(), ids.next(), TrajectoryIds.from_state(ids.state()).next()
    (1, 2, 3)
    """

    __slots__ = ("_last", "_lock")

    def __init__(self, start: int = 1) -> None:
        """Begin with the id `start`, at least 0.

        Raises:
            ConfigError: `start` is not a whole number of at least 0.
        """
        setting_whole(start, "start", 0)
        self._last = start - 1
        self._lock = threading.Lock()

    @property
    def last(self) -> int:
        """The id given out last; one less than the first before any."""
        return self._last

    def next(self) -> int:
        """Return an id that was never given out before."""
        with self._lock:
            self._last += 1
            return self._last

    def advance(self, id: int) -> None:  # noqa: A002 - the trajectory's own word for it
        """Never issue `id` or a smaller one again: somebody brought it along."""
        if id <= self._last:  # which never falls
            return
        with self._lock:
            self._last = max(self._last, id)

    def state(self) -> State:
        """Return what `from_state` needs to go on after the last id."""
        return State({"last": self._last})

    @classmethod
    def from_state(cls, state: State) -> TrajectoryIds:
        """Return ids that go on after the last one given out."""
        return cls(state.whole("last") + 1)


class TrajectoryBuffer:
    """A bounded queue of finished trajectories that never makes a request wait.

    When full it refuses the newest and counts it, so what is already waiting is never lost. What waits lies in
    columns, all but the newest: one request in 64 packs those before it, which is the longest a request waits.
    What comes out equals what went in, bit for bit; it is the same object only while it is among the newest.
    """

    __slots__ = ("_capacity", "_dropped", "_lock", "_seen", "_shelf")

    def __init__(self, capacity: int = 10_000) -> None:
        """Make an empty buffer.

        Args:
            capacity: Most trajectories held, at least 1.

        Raises:
            ConfigError: `capacity` is not a whole number of at least 1.
        """
        setting_whole(capacity, "capacity", 1)
        self._capacity = capacity
        self._shelf = TrajectoryShelf()
        self._lock = threading.Lock()
        self._seen = 0
        self._dropped = 0

    def record(self, trajectory: QueryTrajectory) -> bool:
        """Return True when `trajectory` was taken, False when the buffer was full and it was dropped.

        Raises:
            InvalidValue: not a QueryTrajectory.
        """
        if not isinstance(trajectory, QueryTrajectory):
            raise InvalidValue(f"trajectory: expected a QueryTrajectory, got {type(trajectory).__name__}")
        with self._lock:
            self._seen += 1
            if len(self._shelf) >= self._capacity:
                self._dropped += 1
                return False
            self._shelf.append(trajectory)
            return True

    def drain(self) -> list[QueryTrajectory]:
        """Return all waiting trajectories, oldest first, and leave the buffer empty."""
        with self._lock:
            taken, self._shelf = self._shelf, TrajectoryShelf()
        return list(taken)

    def drain_n(self, n: int) -> list[QueryTrajectory]:
        """Return at most the `n` oldest trajectories, oldest first, and remove them.

        Raises:
            InvalidValue: `n` is not a whole number of at least 0.
        """
        return list(self._taken(n))

    def hand_over(self, n: int) -> TrajectoryShelf:
        """Return what `drain_n` returns, without making objects of what lies in columns.

        Raises:
            InvalidValue: `n` is not a whole number of at least 0.
        """
        taken = self._taken(n)
        taken.settle()
        return taken

    def _taken(self, n: int) -> TrajectoryShelf:
        whole(n, "n", 0)
        with self._lock:
            return self._shelf.take(n)

    def go_on_after(self, earlier: TrajectoryBuffer) -> None:
        """Count on from where `earlier` stood."""
        with self._lock:
            self._seen, self._dropped = earlier._seen, earlier._dropped

    def snapshot(self) -> list[QueryTrajectory]:
        """Return all waiting trajectories, oldest first, and leave them waiting."""
        with self._lock:
            waiting = self._shelf.copy()
        return list(waiting)

    def __len__(self) -> int:
        """Return the number of waiting trajectories."""
        return len(self._shelf)

    @property
    def is_empty(self) -> bool:
        """True when nothing waits."""
        return len(self._shelf) == 0

    @property
    def is_full(self) -> bool:
        """True when the next trajectory would be dropped."""
        return len(self._shelf) >= self._capacity

    @property
    def capacity(self) -> int:
        """Most trajectories held."""
        return self._capacity

    @property
    def dropped_count(self) -> int:
        """Trajectories refused because the buffer was full, ever."""
        return self._dropped

    @property
    def total_seen(self) -> int:
        """Trajectories offered, ever: taken or dropped."""
        return self._seen

    @property
    def success_rate(self) -> float:
        """Share of the offered trajectories that was taken; 1.0 before any."""
        with self._lock:
            seen, dropped = self._seen, self._dropped
        return (seen - dropped) / seen if seen else 1.0

    def state(self) -> State:
        """Return all that `from_state` needs to go on, counters included."""
        with self._lock:
            waiting, seen, dropped = self._shelf.copy(), self._seen, self._dropped
        return State(
            {"capacity": self._capacity, "seen": seen, "dropped": dropped, "waiting": trajectories_state(list(waiting))}
        )

    @classmethod
    def from_state(cls, state: State) -> TrajectoryBuffer:
        """Return the buffer that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or of another kind.
        """
        buffer = cls(state.whole("capacity"))
        buffer._shelf = shelved(state.child("waiting"))
        buffer._seen, buffer._dropped = state.whole("seen"), state.whole("dropped")
        return buffer
