"""A store in a SQLite file: a crash leaves a log that is a beginning of what was taken in, never one with a hole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError, StoreError
from sona.stores import database as files
from sona.stores.database import is_store
from sona.stores.erasure import erase_rows, is_wiped, wait_until_free
from sona.stores.lease import asked_for
from sona.stores.rows import (
    EventRow,
    encoded,
    event_of,
    event_row,
    read_ledger,
    write_ledger,
)
from sona.stores.rules import made, require_erasable, require_newest
from sona.stores.settings import drop_lease, read_setting, take_lease, write_setting
from sona.stores.snapshots import KEPT, drop_snapshots, read_snapshot, write_snapshot
from sona.stores.store import Durability, Event, Snapshot, StoreMetrics, blob_digest
from sona.stores.tables import INSERT_BLOB, INSERT_EVENT, select_events
from sona.stores.writer import Counts, Linger, Writer
from sona.types import LARGEST_ID

__all__ = ["SqliteStore", "is_store"]
_LINGER = {
    Durability.RELAXED: Linger(1.0, 1.0),
    Durability.BATCHED: Linger(0.0, 0.05),
    Durability.STRICT: Linger(0.0, 0.05),
}
_PAGE = 256  # events read at a time; the file is not held between
_WIPE_PAUSE_S = 10.0


class SqliteStore:
    """Keeps a log in the file `path`; only one writer at a time, any number of readers beside it.

    Events are handed to a thread that writes them; everything else is written before the call returns. While the
    disk is full or another program locks the file, events wait in the queue and are written when that ends.

    Args:
        path: The file, made when it is missing; `path-wal` and `path-shm` are part of it while it is open, and
            `path.lock` keeps other writers off.
        durability: What can be lost at most, see `Durability`.
        queue_size: Events that may wait to be written; more are refused.
        is_read_only: Only read, also beside a writer in another process.
        limit_s: Seconds without progress after which a call that waits for the disk gives up.

    Raises:
        ConfigError: a setting outside its range.
        StoreError: not a store, of a newer SONA, damaged, read-only, or open in another process; the file stays as it
            is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability | str = Durability.BATCHED,
        queue_size: int = 10_000,
        is_read_only: bool = False,
        limit_s: float = 5.0,
    ) -> None:
        """Open the file, or make it."""
        setting_whole(queue_size, "queue_size", 1)
        setting_number(limit_s, "limit_s", 0.0)
        self._durability, self._limit_s = _durability(durability), limit_s
        self._next_wipe = 0.0  # when wiping that was hindered is tried again
        self._is_wiping = False
        self._unlock: Callable[[], None] | None = None
        self._writer: Writer[EventRow] | None = None
        target = Path(path)
        if is_read_only:
            self._database = files.open_existing(target)
            return
        self._database, self._unlock = files.open_locked(target, self._durability)
        try:
            self._is_wiping = not is_wiped(self._database)
            with self._database.reading() as connection:
                last_seq = read_ledger(connection).last_seq
        except BaseException:
            self._let_go()
            raise
        linger = _LINGER[self._durability]
        self._writer = Writer(self._commit, last_seq, linger=linger, capacity=queue_size, limit_s=limit_s)

    def _require_writer(self) -> Writer[EventRow]:
        self._database.require_open()
        if self._writer is None:
            raise StoreError(f"{self._database.path} was opened read-only")
        return self._writer

    # -- the log -------------------------------------------------------------------------------------------------------

    @property
    def is_read_only(self) -> bool:
        """True when nothing may be written."""
        return self._writer is None

    @property
    def last_seq(self) -> int:
        """Position of the last event that was taken in or is part of a snapshot; 0 in a new store."""
        self._database.require_open()
        if self._writer is not None:
            return self._writer.last_seq
        with self._database.reading() as connection:
            return read_ledger(connection).last_seq

    @property
    def whole_after(self) -> int:
        """Position after which the log has no hole: 0, or that of the last snapshot that closed one."""
        with self._database.reading() as connection:
            return read_ledger(connection).whole_after

    def append(self, seq: int, make: Callable[[], Event], *, is_acknowledged: bool) -> bool:
        """Take in one event without touching the file, and return True; False when the queue is full or has a hole.

        Args:
            seq: Its position, after `last_seq`.
            make: Makes the event, once, on the thread that writes it.
            is_acknowledged: Whether somebody is told that it was taken in; then it is written at once.

        Raises:
            InvalidValue: `seq` is not after `last_seq`.
        """
        return self._require_writer().offer(seq, lambda: event_row(made(seq, make)), is_acknowledged=is_acknowledged)

    def _commit(self, batch: Sequence[EventRow]) -> None:
        with self._database.writing() as connection:
            blobs = [item for row in batch for item in row.blobs.items()]
            connection.executemany(INSERT_BLOB, blobs)
            added = connection.executemany(INSERT_EVENT, [row.cells for row in batch]).rowcount
            ledger = read_ledger(connection)
            write_ledger(connection, ledger.after_events(batch[-1].seq, added))
        self._go_on_wiping()

    def wait(self, seq: int) -> None:
        """Return when everything up to `seq` is as safe as the durability promises.

        Raises:
            StoreError: it was refused, or cannot be written within the limit.
        """
        self._require_writer().wait(seq)

    def events(
        self, after: int = 0, until: int | None = None, *, subject: str | None = None, trajectory_id: int | None = None
    ) -> Iterator[Event]:
        """Yield the events with `after < seq <= until`, in order; those of one subject or request when given.

        Raises:
            StoreError: what waits cannot be written within the limit, or an event is damaged.
        """
        self.flush()
        named = {
            "after": after,
            "until": min(LARGEST_ID if until is None else until, self.last_seq),
            "subject": None if subject is None else encoded(subject),
            "trajectory_id": trajectory_id,
            "page": _PAGE,
        }
        statement = select_events(is_of_subject=subject is not None, is_of_trajectory=trajectory_id is not None)
        return self._pages(statement, named)

    def _pages(self, statement: str, named: dict[str, int | bytes | None]) -> Iterator[Event]:
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(statement, named).fetchall()
            for row in rows:
                yield event_of(row, self.blob)
            if len(rows) < _PAGE:
                return
            named = {**named, "after": rows[-1][0]}

    def blob(self, digest: bytes) -> bytes:
        """Return the data kept under `digest`, or raise StoreError."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise StoreError(f"{self._database.path}: no data is kept under {digest.hex()}")
        data = row[0]
        if not isinstance(data, bytes) or blob_digest(data) != digest:
            raise StoreError(f"{self._database.path} is damaged: the data under {digest.hex()} are others")
        return data

    # -- snapshots, settings, leases -----------------------------------------------------------------------------------

    def expect_snapshot(self, seq: int) -> None:
        """Say that a snapshot of the state after event `seq` is put next; what comes after it is taken in again."""
        self._require_writer().hold_after(seq)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot and the one before it; the log goes on after it, and a hole before it is closed.

        Raises:
            InvalidValue: it is of an earlier state than the last one.
            StoreError: it cannot be written; nothing changed.
        """
        with self._require_writer().keeping(snapshot.seq), self._database.writing() as connection:
            (newest,) = connection.execute("SELECT max(seq) FROM snapshots").fetchone()
            require_newest(snapshot, newest or 0)
            write_snapshot(connection, snapshot)
            drop_snapshots(connection, but=KEPT)
            write_ledger(connection, read_ledger(connection).after_snapshot(snapshot.seq))

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """Return the latest undamaged snapshot (with `seq <= until`), or None when there is none.

        Raises:
            StoreError: only snapshots from before a hole in the log are undamaged.
        """
        last = LARGEST_ID if until is None else until
        with self._database.at_one_moment() as connection:
            kept = read_snapshot(connection, self._database.path, last)
            whole_after = read_ledger(connection).whole_after
        if whole_after and (kept is None or kept.seq < whole_after):
            raise StoreError(
                f"{self._database.path}: no state up to event {last} can be rebuilt: its log has a hole before "
                f"event {whole_after}, and no later snapshot is undamaged"
            )
        return kept

    def setting(self, name: str) -> str | None:
        """Return a small value kept under `name`, None when there is none, or raise StoreError."""
        with self._database.reading() as connection:
            return read_setting(connection, name)

    def set_setting(self, name: str, value: str) -> None:
        """Keep a small value under `name`, or raise StoreError."""
        self._require_writer()
        with self._database.writing() as connection:
            write_setting(connection, name, value)

    def lease(self, task: str, holder: str, *, now: float, until: float) -> bool:
        """Return True when `holder` may do `task` until `until`; False while another's lease has not run out.

        The lease is in the file and stays when it is closed, or its process killed, until it runs out.

        Raises:
            InvalidValue: a name that is not text, a time that is not finite, or an `until` that is not after `now`.
            StoreError: opened read-only, or it cannot be written; nothing changed.
        """
        self._require_writer()
        return take_lease(self._database, task, asked_for(task, holder, now=now, until=until), now=now)

    def release(self, task: str, holder: str) -> None:
        """Let go of the lease of `task` if `holder` has it, or raise StoreError; another's stays."""
        self._require_writer()
        drop_lease(self._database, task, holder)

    # -- erasing -------------------------------------------------------------------------------------------------------

    def erase(self, seqs: Collection[int], replaced: Collection[Event], snapshot: Snapshot) -> None:
        """Forget events for good, all at once or not at all; no byte of what only they held is left behind.

        When the process dies in between, the next opening finishes it. When another program begins to read the file
        in between, bytes may stay in it for a while: `metrics().is_wiping`, and a warning in the log.

        Args:
            seqs: Events to delete; unknown positions are ignored.
            replaced: Events that take the place of those at their positions, which exist and are not deleted.
            snapshot: The state without what is erased; earlier snapshots go.

        Raises:
            InvalidValue: a replaced event that is not there or is deleted too, or a snapshot before the last event.
            StoreError: it cannot be written, or another program reads the file; nothing changed.
        """
        writer = self._require_writer()
        writer.flush()
        gone = frozenset(seqs)
        require_erasable((), (), snapshot, writer.last_seq, ())
        wait_until_free(self._database, self._limit_s)
        with self._database.writing() as connection:
            erase_rows(connection, gone, replaced, snapshot)
        writer.go_on_after(snapshot.seq)
        self._is_wiping = True
        self._go_on_wiping()

    def _go_on_wiping(self) -> None:
        if self._is_wiping and time.monotonic() >= self._next_wipe:
            self._is_wiping = not is_wiped(self._database)
            self._next_wipe = time.monotonic() + _WIPE_PAUSE_S

    # -- the store itself ----------------------------------------------------------------------------------------------

    def metrics(self) -> StoreMetrics:
        """Return how the store is doing; its size is that of the file and its write-ahead log."""
        counts = Counts(0, 0, 0, 0, None) if self._writer is None else self._writer.counts()
        return StoreMetrics(
            queued=counts.queued,
            written=counts.written,
            refused=counts.refused,
            failures=counts.failures,
            last_error=counts.last_error,
            size_bytes=self._database.size_bytes,
            durability=self._durability,
            is_wiping=self._is_wiping,
        )

    def flush(self) -> None:
        """Return when everything taken in is written, or raise StoreError."""
        self._database.require_open()
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write what waits and let go; closing twice is harmless.

        Raises:
            StoreError: something could not be written; the message says how much. The store is closed all the same.
        """
        if self._database.is_closed:
            return
        try:
            if self._writer is not None:
                self._writer.stop()
                self._next_wipe = 0.0
                self._go_on_wiping()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._database.close()
        finally:
            if self._unlock is not None:
                self._unlock()
                self._unlock = None


def _durability(value: Durability | str) -> Durability:
    try:
        return Durability(value)
    except ValueError as error:
        raise ConfigError(
            f"durability: expected one of {[level.value for level in Durability]}, got {value!r}"
        ) from error
