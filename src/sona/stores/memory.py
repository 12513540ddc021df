"""A store in memory, for an engine without a file and for tests: it ends with the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from sona.errors import StateError, StoreError
from sona.stores.lease import Lease, asked_for, may_have
from sona.stores.rules import made, require_erasable, require_later, require_newest
from sona.stores.store import Event, Snapshot, StoreMetrics

_log = logging.getLogger("sona")


class MemoryStore:
    """Keeps everything as it was made; nothing waits and nothing is refused for want of room.

    >>> store = MemoryStore()
    >>> store.append(1, lambda: Event(1, "note", 0.0, None, None, b"hello"), is_acknowledged=True)
    True
    >>> [event.body for event in store.events()], store.last_seq
    ([b'hello'], 1)
    """

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.RLock()
        self._events: dict[int, Event] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._snapshots: tuple[Snapshot, ...] = ()
        self._settings: dict[str, str] = {}
        self._leases: dict[str, Lease] = {}
        self._last_seq = self._whole_after = 0
        self._hole: int | None = None  # the last position that was refused, until a snapshot closes the hole
        self._written = self._refused = 0
        self._last_error: str | None = None
        self._is_closed = False

    @property
    def is_read_only(self) -> bool:
        """False."""
        return False

    @property
    def last_seq(self) -> int:
        """Position of the last event that was taken in or is part of a snapshot; 0 in a new store."""
        self._require_open()
        return self._last_seq

    @property
    def whole_after(self) -> int:
        """Position after which the log has no hole: 0, or that of the last snapshot that closed one."""
        self._require_open()
        return self._whole_after

    def _require_open(self) -> None:
        if self._is_closed:
            raise StateError("the store is closed")

    def append(self, seq: int, make: Callable[[], Event], *, is_acknowledged: bool) -> bool:
        """Take in one event; return False when it cannot be made, or after that until a snapshot closes the hole.

        Raises:
            InvalidValue: `seq` is not after `last_seq`.
        """
        with self._lock:
            self._require_open()
            require_later(seq, self._last_seq)
            if self._hole is None and self._keep(seq, make):
                self._last_seq = seq
                return True
            self._hole = max(seq, self._hole or 0)
            self._refused += 1
            return False

    def _keep(self, seq: int, make: Callable[[], Event]) -> bool:
        try:
            event = made(seq, make)
        except StoreError as error:
            self._last_error = str(error)
            _log.exception("event %d is lost; the log goes on after the next snapshot", seq)
            return False
        self._events[seq] = self._shared(event)
        self._written += 1
        self._last_error = None
        return True

    def _shared(self, event: Event) -> Event:
        blobs = {digest: self._blobs.setdefault(digest, data) for digest, data in event.blobs.items()}
        return replace(event, blobs=blobs)

    def wait(self, seq: int) -> None:
        """Return at once, or raise StoreError when the event was refused."""
        with self._lock:
            self._require_open()
            if seq > self._last_seq:
                raise StoreError(f"event {seq} was not taken in: {self._last_error or 'it was never handed over'}")

    def events(
        self, after: int = 0, until: int | None = None, *, subject: str | None = None, trajectory_id: int | None = None
    ) -> Iterator[Event]:
        """Yield the events with `after < seq <= until`, in order; those of one subject or request when given."""
        with self._lock:
            self._require_open()
            kept = list(self._events.values())
        return (
            event
            for event in kept
            if event.seq > after
            and (until is None or event.seq <= until)
            and (subject is None or event.subject == subject)
            and (trajectory_id is None or event.trajectory_id == trajectory_id)
        )

    def blob(self, digest: bytes) -> bytes:
        """Return the data kept under `digest`, or raise StoreError."""
        with self._lock:
            self._require_open()
            if digest not in self._blobs:
                raise StoreError(f"no data is kept under {digest.hex()}")
            return self._blobs[digest]

    def expect_snapshot(self, seq: int) -> None:
        """Say that a snapshot of the state after event `seq` is put next; what comes after it is taken in again."""
        with self._lock:
            self._require_open()
            if self._hole is not None and seq >= self._hole:
                self._go_on_after(seq)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot and the one before it; a hole before it is closed.

        Raises:
            InvalidValue: it is of an earlier state than the last one.
        """
        with self._lock:
            self._require_open()
            require_newest(snapshot, self._snapshots[-1].seq if self._snapshots else 0)
            others = [kept for kept in self._snapshots if kept.seq != snapshot.seq]
            self._snapshots = (*others[-1:], snapshot)
            self._go_on_after(snapshot.seq)

    def _go_on_after(self, seq: int) -> None:
        if seq > self._last_seq:  # what the snapshot holds beyond the log is not in the log
            self._last_seq = self._whole_after = seq
        if self._hole is not None and seq >= self._hole:
            self._hole = None

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """Return the latest snapshot (with `seq <= until`), or None when there is none.

        Raises:
            StoreError: only snapshots from before a hole in the log are left.
        """
        with self._lock:
            self._require_open()
            kept = [snapshot for snapshot in self._snapshots if until is None or snapshot.seq <= until]
            if self._whole_after and not (kept and kept[-1].seq >= self._whole_after):
                raise StoreError(f"no state before event {self._whole_after} can be rebuilt: the log has a hole there")
            return kept[-1] if kept else None

    def setting(self, name: str) -> str | None:
        """Return a small value kept under `name`, None when there is none."""
        with self._lock:
            self._require_open()
            return self._settings.get(name)

    def set_setting(self, name: str, value: str) -> None:
        """Keep a small value under `name`."""
        with self._lock:
            self._require_open()
            self._settings[name] = value

    def lease(self, task: str, holder: str, *, now: float, until: float) -> bool:
        """Return True when `holder` may do `task` until `until`; False while another's lease has not run out.

        Raises:
            InvalidValue: a name that is not text, a time that is not finite, or an `until` that is not after `now`.
        """
        wanted = asked_for(task, holder, now=now, until=until)
        with self._lock:
            self._require_open()
            is_granted = may_have(holder, self._leases.get(task), now)
            if is_granted:
                self._leases[task] = wanted
            return is_granted

    def release(self, task: str, holder: str) -> None:
        """Let go of the lease of `task` if `holder` has it; another's stays."""
        with self._lock:
            self._require_open()
            kept = self._leases.get(task)
            if kept is not None and kept.holder == holder:
                del self._leases[task]

    def erase(self, seqs: Collection[int], replaced: Collection[Event], snapshot: Snapshot) -> None:
        """Forget events, all at once or not at all, and blobs that nothing refers to any more.

        Raises:
            InvalidValue: a replaced event that is not there or is deleted too, or a snapshot before the last event.
        """
        with self._lock:
            self._require_open()
            gone = set(seqs)
            require_erasable(gone, replaced, snapshot, self._last_seq, self._events)
            changed = {event.seq: self._shared(event) for event in replaced}
            self._events = {seq: changed.get(seq, event) for seq, event in self._events.items() if seq not in gone}
            self._blobs = {digest: data for event in self._events.values() for digest, data in event.blobs.items()}
            self._snapshots = (snapshot,)
            self._go_on_after(snapshot.seq)

    def metrics(self) -> StoreMetrics:
        """Return how the store is doing; its size is that of bodies, blobs and snapshots."""
        with self._lock:
            size = sum(len(event.body) for event in self._events.values()) + sum(map(len, self._blobs.values()))
            size += sum(len(snapshot.data) for snapshot in self._snapshots)
            return StoreMetrics(0, self._written, self._refused, 0, self._last_error, size, None)

    def flush(self) -> None:
        """Return at once."""
        with self._lock:
            self._require_open()

    def close(self) -> None:
        """Let go; closing twice is harmless."""
        self._is_closed = True
