"""Versions: every committed state of what was learned, by number, with its parent and what it was made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from sona.checks import finite, whole
from sona.engine.events import Decided
from sona.engine.learner import Learner, LearnerCheckpoint
from sona.errors import InvalidValue, StoreError
from sona.loops.background import BackgroundResult
from sona.state import Plain, State, digest
from sona.types import LARGEST_ID

_KEPT = 3  # versions whose whole state is kept to go back to; the untrained one can always be made again
_LISTED = 1000
_DECISIONS = 100


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One committed state of everything learned.

    Args:
        id: Its number.
        parent: The version it came from.
        digest: Digest of its state.
        at: Seconds since the epoch.
        seq: The event that committed it.
        trajectories: Trajectories it was learned from.
        summary: Scores and other plain values, by name.
        reason: Why it was made.

    Raises:
        InvalidValue: a number out of range.
    """

    id: int
    parent: int | None
    digest: str
    at: float
    seq: int
    trajectories: int
    summary: Mapping[str, Plain]
    reason: str

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        whole(self.id, "version id", 0, LARGEST_ID)
        if self.parent is not None:
            whole(self.parent, "parent", 0, LARGEST_ID)
        object.__setattr__(self, "at", finite(self.at, "at"))
        whole(self.seq, "seq", 0, LARGEST_ID)
        whole(self.trajectories, "trajectories", 0, LARGEST_ID)


class Versions:
    """The versions of one engine, the states of the last few, and what was decided about them."""

    def __init__(self) -> None:
        """Start with the untrained version in force."""
        self.in_force = 0
        self._listed: dict[int, VersionRecord] = {}
        self._kept: dict[int, LearnerCheckpoint] = {}
        self._decisions: deque[Decided] = deque(maxlen=_DECISIONS)
        self._untold: list[Decided] = []

    @property
    def listed(self) -> tuple[VersionRecord, ...]:
        """The versions committed so far, oldest first."""
        return tuple(self._listed.values())

    @property
    def kept(self) -> tuple[int, ...]:
        """Versions one can go back to."""
        return (0, *sorted(self._kept))

    def find(self, version: int) -> VersionRecord:
        """Return a version's record, or raise InvalidValue."""
        if version not in self._listed:
            known = ", ".join(map(str, self._listed)) or "none"
            raise InvalidValue(f"version: no version {version} is known here; known are {known}")
        return self._listed[version]

    def parent_of(self, version: int) -> int:
        """Return the version that `version` was made from; 0 when nobody knows."""
        listed = self._listed.get(version)
        return 0 if listed is None or listed.parent is None else listed.parent

    def add(self, learner: Learner, result: BackgroundResult, *, at: float, seq: int) -> VersionRecord:
        """Put the version in force that a cycle of Loop B has just committed, and return its record."""
        checkpoint, version = learner.checkpoint(), result.version
        record = VersionRecord(
            id=version,
            parent=self.in_force,
            digest=digest(checkpoint.state()),
            at=at,
            seq=seq,
            trajectories=result.trajectories,
            summary=summary_of(learner),
            reason="committed by Loop B",
        )
        self._listed[version] = record
        self._kept[version] = checkpoint
        for store, most in ((self._listed, _LISTED), (self._kept, _KEPT)):
            while len(store) > most:
                del store[next(iter(store))]
        self.in_force = version
        return record

    def checkpoint(self, version: int) -> LearnerCheckpoint | None:
        """Return the state of a version; None for the untrained one.

        Raises:
            InvalidValue: there is no such version, or its state is not kept any more.
        """
        if version == 0:
            return None
        if version not in self._kept:
            self.find(version)
            raise InvalidValue(f"version {version} is not kept any more; one can go back to {self.kept}")
        return self._kept[version]

    def sound_before(self, version: int, is_bad: Callable[[int], bool]) -> int:
        """Return the nearest version before `version` that one can go back to and that was not found bad."""
        earlier = self.parent_of(version)
        while earlier and (is_bad(earlier) or earlier not in self._kept):
            earlier = self.parent_of(earlier)
        return earlier

    def go_back(self, learner: Learner | None, version: int) -> None:
        """Put an earlier version in force: the learner answers as it did.

        Raises:
            InvalidValue: there is none, or its state is not kept any more.
        """
        checkpoint = self.checkpoint(version)
        if learner is not None:
            untrained = Learner(learner.hidden_dim, learner.config)
            learner.restore(checkpoint or untrained.checkpoint())
        if checkpoint is not None:
            self._kept[version] = self._kept.pop(version)  # what comes next can go back to it, however old it is
        self.in_force = version

    def begin_anew(self) -> None:
        """Put the untrained version in force, and let go of the states of all others; their records stay."""
        self.in_force = 0
        self._kept.clear()

    @property
    def decisions(self) -> tuple[Decided, ...]:
        """What was decided of late, oldest first."""
        return tuple(self._decisions)

    def decide(self, at: float, decision: str, version: int, reason: str) -> None:
        """Note a decision."""
        decided = Decided(at, decision, version, reason)
        self._decisions.append(decided)
        self._untold.append(decided)

    def told(self) -> list[Decided]:
        """Return the decisions since the last call, for the log."""
        told, self._untold = self._untold, []
        return told

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "in_force": self.in_force,
                "listed": [asdict(version) for version in self._listed.values()],
                "decisions": [asdict(decision) for decision in self._decisions],
                "kept_ids": np.array(list(self._kept), np.int64),
                "kept": State({str(version): checkpoint.state() for version, checkpoint in self._kept.items()}),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Versions:
        """Return the versions that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        versions = cls()
        versions.in_force = state.whole("in_force")
        for plain in state.listing("listed"):
            version = _version(plain)
            versions._listed[version.id] = version
        kept = state.child("kept")
        for number in state.wholes("kept_ids", None).tolist():
            versions._kept[number] = LearnerCheckpoint.from_state(kept.child(str(number)))
        for plain in state.listing("decisions"):
            versions._decisions.append(_decided(plain))
        return versions


def _version(plain: Plain) -> VersionRecord:
    try:
        return VersionRecord(**plain)  # type: ignore[arg-type]
    except (InvalidValue, TypeError) as error:
        raise StoreError(f"saved state: a version is damaged: {error}") from error


def _decided(plain: Plain) -> Decided:
    try:
        return Decided(**plain)  # type: ignore[arg-type]
    except TypeError as error:
        raise StoreError(f"saved state: a decision is damaged: {error}") from error


def summary_of(learner: Learner) -> dict[str, Plain]:
    """Return the figures by which versions are compared."""
    gains, weights = learner.calibrator.gains, learner.calibrator.weights
    return {
        "past_requests": len(learner.votes),
        "patterns": learner.bank.pattern_count,
        "learned": learner.loops.background.learned_count,
        "ewc_tasks": learner.loops.background.ewc.task_count,
        "base_norm": float(np.linalg.norm(learner.base.delta(0, np.eye(learner.hidden_dim, dtype=np.float32)))),
        "micro_weight": weights.micro,
        "base_weight": weights.base,
        "taken_weight": weights.taken,
        "passed_weight": weights.passed,
        "own_gain": gains.own,
        "reach_gain": gains.reach,
        "micro_gain": gains.micro,
        "base_gain": gains.base,
        "lists": gains.lists,
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """What one version holds otherwise than another.

    Args:
        a: The one.
        b: The other.
        is_equal: Whether both answer alike, bit for bit.
        figures: For each figure its value in `a` and in `b`; those that differ.
        trajectories: Requests the cycles between them learned from; None when `b` does not come from `a`.
    """

    a: int
    b: int
    is_equal: bool
    figures: Mapping[str, tuple[float, float]]
    trajectories: int | None


def difference(versions: Versions, a: int, b: int, untrained: Mapping[str, Plain]) -> Difference:
    """Return what version `b` holds otherwise than version `a`; 0 is the untrained one.

    Args:
        versions: All of them.
        a: The one.
        b: The other.
        untrained: Figures of version 0.

    Raises:
        InvalidValue: there is no such version.
    """
    one, other = (_figures(versions.find(version).summary if version else untrained) for version in (a, b))
    changed = {name: (one.get(name, 0.0), value) for name, value in other.items() if value != one.get(name, 0.0)}
    gone = {name: (value, 0.0) for name, value in one.items() if name not in other and value}
    is_equal = a == b or (bool(a) and bool(b) and versions.find(a).digest == versions.find(b).digest)
    return Difference(a, b, is_equal, {**changed, **gone}, _between(versions, a, b))


def _figures(summary: Mapping[str, Plain]) -> dict[str, float]:
    return {name: float(value) for name, value in summary.items() if isinstance(value, int | float)}


def _between(versions: Versions, a: int, b: int) -> int | None:
    count = 0
    while b != a:
        if b == 0:
            return None
        count += versions.find(b).trajectories
        b = versions.parent_of(b)
    return count
