"""The bank's trajectories: the last so many, and which pattern counted each."""

from __future__ import annotations

import copy
import enum
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import numpy as np

from sona.errors import StoreError
from sona.state import State
from sona.trajectory import trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory

UNCOUNTED = -1
"""In place of a pattern's id: the trajectory waits to be counted."""


class AddOutcome(enum.StrEnum):
    """What became of a trajectory given to the bank."""

    ADDED = "added"
    AMENDED = "amended"
    REPEATED = "repeated"
    EXPIRED = "expired"


class TrajectoryRing:
    """The last `capacity` trajectories by id; a pattern's count of one outlives it."""

    __slots__ = ("_capacity", "_greatest_evicted", "_held", "_members", "_pattern_of")

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._held: OrderedDict[int, QueryTrajectory] = OrderedDict()
        self._pattern_of: dict[int, int] = {}  # trajectory -> the pattern that counted it, even if pruned since
        self._members: dict[int, set[int]] = {}  # live pattern -> its trajectories held
        self._greatest_evicted = -1

    def copy(self) -> TrajectoryRing:
        """Return a ring of the same trajectories; a later change of either leaves the other as it was."""
        twin = copy.copy(self)
        twin._held, twin._pattern_of = self._held.copy(), self._pattern_of.copy()
        twin._members = {pattern_id: ids.copy() for pattern_id, ids in self._members.items()}
        return twin

    def __len__(self) -> int:
        """Trajectories held."""
        return len(self._held)

    @property
    def uncounted(self) -> int:
        """Trajectories held that no pattern has counted."""
        return len(self._held) - len(self._pattern_of)

    @property
    def trajectories(self) -> list[QueryTrajectory]:
        """The trajectories held, oldest first."""
        return list(self._held.values())

    @property
    def owners(self) -> list[int]:
        """The pattern that counted each trajectory held, oldest first; UNCOUNTED for those that wait."""
        return [self._pattern_of.get(trajectory_id, UNCOUNTED) for trajectory_id in self._held]

    def held(self, trajectory_id: int) -> QueryTrajectory | None:
        """Return the version held of a trajectory, or None."""
        return self._held.get(trajectory_id)

    def owner_of(self, trajectory_id: int) -> int:
        """Return the pattern that counted a trajectory held, else UNCOUNTED."""
        return self._pattern_of.get(trajectory_id, UNCOUNTED)

    def add(self, trajectory: QueryTrajectory) -> AddOutcome:
        """Hold a trajectory; EXPIRED and REPEATED change nothing."""
        held = self._held.get(trajectory.id)
        if held is not None:
            if trajectory.supersedes is None or held is trajectory:
                return AddOutcome.REPEATED
            self._held[trajectory.id] = trajectory
            return AddOutcome.AMENDED
        if trajectory.supersedes is not None and trajectory.id <= self._greatest_evicted:
            return AddOutcome.EXPIRED
        if len(self._held) >= self._capacity:
            self._evict()
        self._held[trajectory.id] = trajectory
        return AddOutcome.ADDED

    def _evict(self) -> None:
        oldest, _ = self._held.popitem(last=False)
        self._greatest_evicted = max(self._greatest_evicted, oldest)
        pattern_id = self._pattern_of.pop(oldest, UNCOUNTED)
        if pattern_id in self._members:
            self._members[pattern_id].discard(oldest)

    def members(self, pattern_id: int) -> tuple[QueryTrajectory, ...]:
        """Return the trajectories held that a pattern counted, by id."""
        return tuple(self._held[member] for member in sorted(self._members.get(pattern_id, ())))

    def count(self, trajectory_id: int, pattern_id: int) -> None:
        """Note that a pattern has counted a trajectory held."""
        self._pattern_of[trajectory_id] = pattern_id
        self._members.setdefault(pattern_id, set()).add(trajectory_id)

    def merge(self, survivors: Mapping[int, int]) -> None:
        """Hand the trajectories of absorbed patterns to their survivors."""
        for absorbed, survivor in survivors.items():
            for member in self._members.pop(absorbed, ()):
                self.count(member, survivor)

    def keep_patterns(self, kept: Iterable[int]) -> None:
        """Let the other patterns go; their trajectories stay counted and never wait again."""
        alive = set(kept)
        self._members = {pattern_id: ids for pattern_id, ids in self._members.items() if pattern_id in alive}

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
        trajectories = trajectories_from_state(state.child("trajectories"))
        owners = state.wholes("owners", len(trajectories)).tolist()
        ring._held = OrderedDict((trajectory.id, trajectory) for trajectory in trajectories)
        if len(ring._held) != len(trajectories) or len(trajectories) > capacity:
            raise StoreError("saved state: the bank's trajectories repeat an id or exceed its capacity")
        for trajectory, owner in zip(trajectories, owners, strict=True):
            if owner != UNCOUNTED:
                ring.count(trajectory.id, owner)
        ring.keep_patterns(live)
        ring._greatest_evicted = state.whole("greatest_evicted")
        return ring
