"""The bank's trajectories: the last so many, and which pattern counted each."""

from __future__ import annotations

import copy
import enum
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from operator import attrgetter
from typing import TypeVar

import numpy as np

from sona.checks import Floats
from sona.errors import StoreError
from sona.state import State
from sona.trajectory import Place, TrajectoryShelf, shelved, trajectories_state
from sona.types import QueryTrajectory

Value = TypeVar("Value")

UNCOUNTED = -1
"""In place of a pattern's id: the trajectory waits to be counted."""


_id = attrgetter("id")


class AddOutcome(enum.StrEnum):
    """What became of a trajectory given to the bank."""

    ADDED = "added"
    AMENDED = "amended"
    REPEATED = "repeated"
    EXPIRED = "expired"


class TrajectoryRing:
    """The last `capacity` trajectories by id; a pattern's count of one outlives it.

    They lie in columns, all but the newest; what comes out equals what came in.
    """

    __slots__ = ("_amended", "_capacity", "_counted", "_greatest_evicted", "_live", "_number_of", "_owners", "_shelf")

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._shelf = TrajectoryShelf()  # numbers its trajectories, and drops the oldest
        self._number_of: dict[int, int] = {}  # trajectory -> its number
        self._amended: dict[int, QueryTrajectory] = {}  # number -> the version held, where it is not the first
        self._owners = array(
            "q"
        )  # at its number modulo the capacity: the pattern that counted it, even if pruned since
        self._counted = 0
        self._live: set[int] = set()  # patterns that are there and have counted something
        self._greatest_evicted = -1

    def copy(self) -> TrajectoryRing:
        """Return a ring of the same trajectories; a later change of either leaves the other as it was."""
        twin = copy.copy(self)
        twin._shelf, twin._number_of, twin._amended = self._shelf.copy(), self._number_of.copy(), self._amended.copy()
        twin._owners, twin._live = self._owners[:], self._live.copy()
        return twin

    def __len__(self) -> int:
        """Trajectories held."""
        return len(self._shelf)

    @property
    def uncounted(self) -> int:
        """Trajectories held that no pattern has counted."""
        return len(self._shelf) - self._counted

    @property
    def trajectories(self) -> list[QueryTrajectory]:
        """The trajectories held, oldest first."""
        return self._with_amendments(list(self._shelf), lambda version: version)

    @property
    def queries(self) -> list[Floats]:
        """The queries of the trajectories held, oldest first, in matrices (m, d) one after the other."""
        matrices = self._shelf.queries()
        ends = list(accumulate(map(len, matrices)))
        for number, version in self._amended.items():
            row = number - self._shelf.start
            at = bisect_right(ends, row)
            matrices[at] = matrices[at].copy()
            matrices[at][row - ends[at]] = version.query_embedding
        return matrices

    @property
    def qualities(self) -> list[float | None]:
        """The quality of each trajectory held, oldest first."""
        return self._with_amendments(self._shelf.qualities(), lambda version: version.quality)

    @property
    def ids(self) -> list[int]:
        """The id of each trajectory held, oldest first."""
        return self._shelf.ids()

    @property
    def owners(self) -> list[int]:
        """The pattern that counted each trajectory held, oldest first; UNCOUNTED for those that wait."""
        oldest = self._shelf.start % self._capacity
        return [*self._owners[oldest:], *self._owners[:oldest]]

    def _with_amendments(self, values: list[Value], of: Callable[[QueryTrajectory], Value]) -> list[Value]:
        for number, version in self._amended.items():
            values[number - self._shelf.start] = of(version)
        return values

    def held(self, trajectory_id: int) -> QueryTrajectory | None:
        """Return the version held of a trajectory, or None."""
        number = self._number_of.get(trajectory_id)
        return None if number is None else self._version(number)

    def _version(self, number: int) -> QueryTrajectory:
        amended = self._amended.get(number)
        return self._shelf[number] if amended is None else amended

    def owner_of(self, trajectory_id: int) -> int:
        """Return the pattern that counted a trajectory held, else UNCOUNTED."""
        number = self._number_of.get(trajectory_id)
        return UNCOUNTED if number is None else self._owners[number % self._capacity]

    def add(self, trajectory: QueryTrajectory, at: Place | None = None) -> AddOutcome:
        """Hold a trajectory, which lies `at` a place already or is packed here; EXPIRED and REPEATED change nothing."""
        number = self._number_of.get(trajectory.id)
        if number is not None:
            if trajectory.supersedes is None or self._version(number) is trajectory:
                return AddOutcome.REPEATED
            self._amended[number] = trajectory
            return AddOutcome.AMENDED
        if trajectory.supersedes is not None and trajectory.id <= self._greatest_evicted:
            return AddOutcome.EXPIRED
        if len(self._shelf) >= self._capacity:
            self._evict()
        self._hold(trajectory, at)
        return AddOutcome.ADDED

    def _hold(self, trajectory: QueryTrajectory, at: Place | None = None) -> None:
        number = self._number_of[trajectory.id] = self._shelf.end
        self._shelf.append(trajectory, at)
        if number < self._capacity:
            self._owners.append(UNCOUNTED)
        else:
            self._owners[number % self._capacity] = UNCOUNTED

    def _evict(self) -> None:
        number = self._shelf.start
        oldest = self._shelf.id_of(number)
        self._greatest_evicted = max(self._greatest_evicted, oldest)
        self._counted -= self._owners[number % self._capacity] != UNCOUNTED
        self._shelf.drop(1)
        self._amended.pop(number, None)
        del self._number_of[oldest]

    def members(self, pattern_id: int) -> tuple[QueryTrajectory, ...]:
        """Return the trajectories held that a pattern counted, by id."""
        if pattern_id not in self._live:
            return ()
        first = self._shelf.start
        rows = np.flatnonzero(np.array(self.owners, np.int64) == pattern_id).tolist()
        return tuple(sorted((self._version(first + row) for row in rows), key=_id))

    def count(self, trajectory_id: int, pattern_id: int) -> None:
        """Note that a pattern has counted a trajectory held."""
        at = self._number_of[trajectory_id] % self._capacity
        self._counted += self._owners[at] == UNCOUNTED
        self._owners[at] = pattern_id
        self._live.add(pattern_id)

    def merge(self, survivors: Mapping[int, int]) -> None:
        """Hand the trajectories of absorbed patterns to their survivors."""
        taken_in = {absorbed: survivor for absorbed, survivor in survivors.items() if absorbed in self._live}
        self._owners = array("q", [taken_in.get(owner, owner) for owner in self._owners])
        self._live = {taken_in.get(pattern_id, pattern_id) for pattern_id in self._live}

    def keep_patterns(self, kept: Iterable[int]) -> None:
        """Let the other patterns go; their trajectories stay counted and never wait again."""
        self._live &= set(kept)

    def state(self) -> State:
        """Return everything held."""
        return State(
            {
                "trajectories": trajectories_state(self.trajectories),
                "owners": np.array(self.owners, np.int64),
                "greatest_evicted": self._greatest_evicted,
            }
        )

    @classmethod
    def from_state(cls, state: State, capacity: int, live: Iterable[int]) -> TrajectoryRing:
        """Return the ring that `state()` described; `live` are the patterns there are.

        Raises:
            StoreError: the state is damaged.
        """
        ring = cls(capacity)
        shelf = shelved(state.child("trajectories"))
        owners = state.wholes("owners", len(shelf)).tolist()
        if len(set(shelf.ids())) != len(shelf) or len(shelf) > capacity:
            raise StoreError("saved state: the bank's trajectories repeat an id or exceed its capacity")
        for (trajectory, at), owner in zip(shelf.placed(), owners, strict=True):
            ring._hold(trajectory, at)
            if owner != UNCOUNTED:
                ring.count(trajectory.id, owner)
        ring.keep_patterns(live)
        ring._greatest_evicted = state.whole("greatest_evicted")
        return ring
