"""What happens to an engine, one record each: the machine's state follows from these alone, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sona.checks import Floats
from sona.guard.holdout import Arm
from sona.loops.background import BackgroundChange
from sona.memory.recall import Seeds
from sona.types import QueryTrajectory

if TYPE_CHECKING:
    from sona.loops.deep_cycle import DeepChange


@dataclass(frozen=True, slots=True, eq=False)
class Shaped:
    """The width of embeddings was decided.

    Args:
        at: Seconds.
        width: d.
    """

    at: float
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """A text was remembered.

    Args:
        at: Seconds.
        text: What to remember.
        id: Its id.
        vector: Its embedding, shape (d,), when the caller gave one.
        subject: Whose it is, if anybody's.
    """

    at: float
    text: str
    id: str
    vector: Floats | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """Waiting memories got their vectors.

    Args:
        at: Seconds.
        vectors: Those a caller's embedder made, shape (n, d); None when the built-in one, which can be run again.
        ids: Of which memories, n of them; none when the built-in one made them.
    """

    at: float
    vectors: Floats | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """How a request was answered.

    Args:
        arm: Which answer was shown.
        exposure: Chance that it was the learned one, in [0, 1].
        is_held_out: Whether the request belongs to the part that is never learned from.
        is_compared: Whether chance decided, so that the request testifies.
        is_identical: Whether both answers were the same.
        common: Items that both answers begin with.
        version: The version in force.
        learning_us: Microseconds spent on the learned answer beyond the frozen one.
    """

    arm: Arm = Arm.LEARNED
    exposure: float = 1.0
    is_held_out: bool = False
    is_compared: bool = False
    is_identical: bool = True
    common: int = 0
    version: int = 0
    learning_us: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A request was answered and may earn feedback.

    Args:
        at: Seconds.
        trajectory: The request and what was shown, without rewards.
        text: The request in words, if it had any.
        serving: How it was answered.
        touched: Patterns that were used.
        has_memories: Whether what was shown are the engine's own memories.
        is_embedded: Whether the built-in embedder made the request's vector of its words.
        seeds: What the request activated in the memory graph.
    """

    at: float
    trajectory: QueryTrajectory
    text: str | None
    serving: Serving
    touched: tuple[int, ...] = ()
    has_memories: bool = False
    is_embedded: bool = False
    seeds: Seeds | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Feedback came.

    Args:
        at: Seconds.
        trajectory_id: For which request.
        quality: How good the whole was, in [0, 1].
        rewards: What items earned, by id.
        subject: Who had asked.
    """

    at: float
    trajectory_id: int
    quality: float | None = None
    rewards: Mapping[str, float] | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A trajectory was begun by hand.

    Args:
        at: Seconds.
        trajectory_id: Its id.
        subject: Who asks.
        context_ids: Memories it was given, which stay as long as it is open.
    """

    at: float
    trajectory_id: int
    subject: str | None = None
    context_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """Trajectories begun by hand were given up.

    Args:
        at: Seconds.
        trajectory_ids: Their ids.
        is_expired: Whether they waited too long; else their maker gave them up.
    """

    at: float
    trajectory_ids: tuple[int, ...]
    is_expired: bool


@dataclass(frozen=True, slots=True, eq=False)
class Submitted:
    """A finished trajectory was handed in.

    Args:
        at: Seconds.
        trajectory: It.
    """

    at: float
    trajectory: QueryTrajectory


@dataclass(frozen=True, slots=True, eq=False)
class Touched:
    """Patterns were looked up.

    Args:
        at: Seconds.
        patterns: Their ids.
    """

    at: float
    patterns: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Flushed:
    """Waiting signals were applied."""

    at: float


@dataclass(frozen=True, slots=True, eq=False)
class Ticked:
    """Time went by: what waited too long was let go, and the interval of Loop B began."""

    at: float


@dataclass(frozen=True, slots=True, eq=False)
class CycleBegun:
    """A cycle of Loop B took its batch.

    Args:
        at: Seconds.
        force: Whether it runs with fewer trajectories than it needs.
    """

    at: float
    force: bool


@dataclass(frozen=True, slots=True, eq=False)
class CycleEnded:
    """The cycle of Loop B was computed, to be put in force or rejected.

    Args:
        at: Seconds.
        change: What was computed; computed again when None.
    """

    at: float
    change: BackgroundChange | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CycleFailed:
    """The cycle of Loop B came to nothing; its batch waits.

    Args:
        at: Seconds.
        reason: Why.
    """

    at: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class DeepBegun:
    """A cycle of Loop C took what it works on.

    Args:
        at: Seconds.
        force: Whether it runs with fewer memories than it needs.
        stages: What it is to do, by name.
    """

    at: float
    force: bool
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DeepEnded:
    """The cycle of Loop C was computed as far as its time allowed, to be put in force.

    Args:
        at: Seconds.
        units: Units of work that were done.
        change: What was computed; computed again when None.
    """

    at: float
    units: int
    change: DeepChange | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DeepFailed:
    """The cycle of Loop C came to nothing.

    Args:
        at: Seconds.
        reason: Why.
    """

    at: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ModeSet:
    """The guard's mode was changed.

    Args:
        at: Seconds.
        mode: See GuardConfig.
    """

    at: float
    mode: str


@dataclass(frozen=True, slots=True, eq=False)
class RolledBack:
    """Somebody went back to an earlier version.

    Args:
        at: Seconds.
        version: To which.
        reason: Why.
    """

    at: float
    version: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """The guard decided something; a note for people, the decision follows from what is above it.

    Args:
        at: Seconds.
        decision: What.
        version: About which version.
        reason: Why.
    """

    at: float
    decision: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Noted:
    """Something for people to know that changes nothing learned, such as that a subject was forgotten.

    Args:
        at: Seconds.
        note: What.
        last_id: Greatest id of a trajectory so far; none up to it is given out again.
    """

    at: float
    note: str
    last_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Reembedded:
    """Another embedder took over.

    Args:
        at: Seconds.
        memories: New vectors of all memories, shape (n, d).
        texts: Past requests that have words, m of them.
        requests: Their new vectors, shape (m, d).
        ids: Of the memories, n of them.
    """

    at: float
    memories: Floats
    texts: tuple[str, ...]
    requests: Floats
    ids: tuple[str, ...]


Event: TypeAlias = (
    Shaped
    | Remembered
    | Indexed
    | Answered
    | Judged
    | Begun
    | Dropped
    | Submitted
    | Touched
    | Flushed
    | Ticked
    | CycleBegun
    | CycleEnded
    | CycleFailed
    | DeepBegun
    | DeepEnded
    | DeepFailed
    | ModeSet
    | RolledBack
    | Decided
    | Noted
    | Reembedded
)
"""Everything that may happen."""
