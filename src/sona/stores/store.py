"""What a store keeps for an engine: an append-only log, and snapshots of the state behind it.

An engine is a deterministic machine over its log, so a snapshot and the events after it give its state again. The
store does not know what events mean; it knows their order, and that a log with a hole in it gives a wrong state.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from sona.checks import finite, nonempty_text, whole
from sona.errors import InvalidValue
from sona.types import LARGEST_ID, require_text_or_none

DIGEST_BYTES = 16
LARGEST_BYTES = 1 << 29
"""Greatest length of a body or blob of an event; SQLite keeps no row beyond 10^9 bytes."""
_NO_BLOBS: Mapping[bytes, bytes] = MappingProxyType({})


def blob_digest(data: bytes) -> bytes:
    """Return the digest under which `data` is kept once, however often it is referred to: BLAKE2b, 16 bytes.

    >>> blob_digest(b"").hex()
    'cae66941d9efbd404e4d88758ea67670'
    """
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def require_bytes(value: bytes, what: str) -> None:
    """Raise InvalidValue unless `value` is bytes, at most LARGEST_BYTES of them."""
    if not isinstance(value, bytes) or len(value) > LARGEST_BYTES:
        raise InvalidValue(f"{what}: expected at most {LARGEST_BYTES} bytes, got {type(value).__name__}")


def moment(at: float) -> float:
    """Return `at` as finite seconds, without the sign of zero, which SQLite does not keep; or raise InvalidValue."""
    return finite(at, "at") + 0.0


class Durability(enum.StrEnum):
    """What can be lost at most: by the death of the process, and by a power cut.

    Whatever is lost is lost from the end of the log: what is left is what was there a moment earlier, without a hole.

    relaxed: events are written once a second. Death of the process: the last second. Power cut: besides, what the
        operating system had not written to disk (Linux: about 30 s).
    batched: acknowledged events are written at once, others within 50 ms, both by a thread of their own. Death of the
        process: what still waited for that thread. Power cut: besides, what the system had not written to disk.
    strict: as batched, and each write reaches the disk before `wait` returns. What was waited for is not lost, even
        in a power cut, as far as the disk keeps its word.
    """

    RELAXED = "relaxed"
    BATCHED = "batched"
    STRICT = "strict"


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One entry of the log.

    Args:
        seq: Position in the log, from 1; ascending, and after `erase` with gaps.
        kind: What it is, a name.
        at: Seconds since the epoch.
        subject: Whose it is, if anybody's.
        trajectory_id: The request it belongs to, if any.
        body: What happened, in the engine's own encoding.
        blobs: What the body refers to, by digest (see `blob_digest`). Of an event read back, data are read from
            the store when they are asked for.

    Raises:
        InvalidValue: a position, id or time out of range, a body too long or not bytes, or a name that is not text.
    """

    seq: int
    kind: str
    at: float
    subject: str | None
    trajectory_id: int | None
    body: bytes
    blobs: Mapping[bytes, bytes] = field(default_factory=lambda: _NO_BLOBS)

    def __post_init__(self) -> None:
        """Refuse what no store can keep."""
        whole(self.seq, "seq", 1, LARGEST_ID)
        nonempty_text(self.kind, "kind")
        object.__setattr__(self, "at", moment(self.at))
        require_text_or_none(self.subject, "subject")
        if self.trajectory_id is not None:
            whole(self.trajectory_id, "trajectory_id", 0, LARGEST_ID)
        require_bytes(self.body, "body")


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The state of a machine after one event.

    Args:
        seq: The last event that is in it; 0 before the first.
        at: Seconds since the epoch.
        digest: Digest of the state, the engine's.
        data: The state, in the engine's encoding.

    Raises:
        InvalidValue: a position or time out of range, or data that are not bytes.
    """

    seq: int
    at: float
    digest: str
    data: bytes

    def __post_init__(self) -> None:
        """Refuse what no store can keep."""
        whole(self.seq, "seq", 0, LARGEST_ID)
        object.__setattr__(self, "at", moment(self.at))
        if not isinstance(self.data, bytes):  # of any length: a store keeps them in parts
            raise InvalidValue(f"data: expected bytes, got {type(self.data).__name__}")


@dataclass(frozen=True, slots=True)
class StoreMetrics:
    """How a store is doing.

    Args:
        queued: Events taken in and not yet written.
        written: Events written since the store was opened.
        refused: Events not taken in, or given up unwritten, since the store was opened.
        failures: Failed attempts to write since the store was opened.
        last_error: Why the last write failed; None once a write succeeded again.
        size_bytes: Bytes in use.
        durability: What can be lost at most; None of a store in memory, which ends with the process.
        is_wiping: Whether bytes of erased events may still be in the file; the store goes on trying.
    """

    queued: int
    written: int
    refused: int
    failures: int
    last_error: str | None
    size_bytes: int
    durability: Durability | None
    is_wiping: bool = False


class Store(Protocol):
    """What keeps an engine's log; safe to use from many threads.

    Every call but `metrics` and `close` raises StateError on a closed store; what writes raises StoreError on one
    opened read-only.
    """

    @property
    def is_read_only(self) -> bool:
        """True when nothing may be written."""
        ...

    @property
    def last_seq(self) -> int:
        """Position of the last event that was taken in or is part of a snapshot; 0 in a new store."""
        ...

    @property
    def whole_after(self) -> int:
        """Position after which the log has no hole: 0, or that of the last snapshot that closed one.

        Before it, events that were refused are missing, and no state can be rebuilt from them.
        """
        ...

    def append(self, seq: int, make: Callable[[], Event], *, is_acknowledged: bool) -> bool:
        """Take in one event without waiting for a disk, and return True; return False when it cannot be kept.

        A refused event leaves a hole: nothing later is taken in until `put_snapshot` closes it, because a state
        rebuilt from a log with a hole would be wrong. The same holds when `make` fails later on.

        Args:
            seq: Its position, after `last_seq`.
            make: Makes the event, once, perhaps later and on another thread.
            is_acknowledged: Whether somebody is told that it was taken in; then it is written first.

        Raises:
            InvalidValue: `seq` is not after `last_seq`.
        """
        ...

    def wait(self, seq: int) -> None:
        """Return when everything up to `seq` is as safe as the store's durability promises.

        Raises:
            StoreError: it was refused, or cannot be written in time.
        """
        ...

    def events(
        self, after: int = 0, until: int | None = None, *, subject: str | None = None, trajectory_id: int | None = None
    ) -> Iterator[Event]:
        """Yield the events with `after < seq <= until`, in order; those of one subject or request when given.

        Raises:
            StoreError: what waits cannot be written in time, or an event is damaged.
        """
        ...

    def blob(self, digest: bytes) -> bytes:
        """Return the data kept under `digest`, or raise StoreError."""
        ...

    def expect_snapshot(self, seq: int) -> None:
        """Say that a snapshot of the state after event `seq` is put next; without a hole before `seq` nothing changes.

        What comes after `seq` is taken in again from now on, and refused after all when the snapshot cannot be put.
        Said while nothing else is appended, it lets the log go on without a pause.
        """
        ...

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot and the one before it; the log goes on after it, and a hole before it is closed.

        Raises:
            InvalidValue: it is of an earlier state than the last one.
            StoreError: it cannot be written; nothing changed.
        """
        ...

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """Return the latest undamaged snapshot (with `seq <= until`), or None when there is none.

        Raises:
            StoreError: only snapshots from before a hole in the log are undamaged.
        """
        ...

    def setting(self, name: str) -> str | None:
        """Return a small value kept under `name`, None when there is none, or raise StoreError."""
        ...

    def set_setting(self, name: str, value: str) -> None:
        """Keep a small value under `name`, or raise StoreError."""
        ...

    def lease(self, task: str, holder: str, *, now: float, until: float) -> bool:
        """Return True when `holder` may do `task` until `until`: nobody had the lease, or it had it and renews it.

        False while another holder's has not run out. Only the times that the callers name count, so their clocks may
        differ by less than what a holder has left when it renews. A lease outlives the store's closing.

        Args:
            task: What is to be done by one alone.
            holder: Who asks; the same name means the same one.
            now: Seconds, the caller's clock.
            until: When the lease runs out, seconds; an earlier moment than before shortens it.

        Raises:
            InvalidValue: a name that is not text, a time that is not finite, or an `until` that is not after `now`.
            StoreError: it cannot be written; nothing changed.
        """
        ...

    def release(self, task: str, holder: str) -> None:
        """Let go of the lease of `task` if `holder` has it, or raise StoreError; another's stays."""
        ...

    def erase(self, seqs: Collection[int], replaced: Collection[Event], snapshot: Snapshot) -> None:
        """Forget events for good, all at once or not at all; no byte of what only they held is left behind.

        Args:
            seqs: Events to delete; unknown positions are ignored.
            replaced: Events that take the place of those at their positions, which exist and are not deleted.
            snapshot: The state without what is erased; earlier snapshots go.

        Raises:
            InvalidValue: a replaced event that is not there or is deleted too, or a snapshot before the last event.
            StoreError: it cannot be written; nothing changed.
        """
        ...

    def metrics(self) -> StoreMetrics:
        """Return how the store is doing."""
        ...

    def flush(self) -> None:
        """Return when everything taken in is written, or raise StoreError."""
        ...

    def close(self) -> None:
        """Write what waits and let go; closing twice is harmless.

        Raises:
            StoreError: something could not be written; the message says how much. The store is closed all the same.
        """
        ...
