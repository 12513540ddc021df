"""Erasing events for good: what only they held is in no table, no free page and no log of the file afterwards."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from sona.errors import StoreError
from sona.stores.database import Database
from sona.stores.rows import Cell, event_row, read_ledger, write_ledger
from sona.stores.rules import require_erasable
from sona.stores.snapshots import drop_snapshots, write_snapshot
from sona.stores.store import DIGEST_BYTES, Event, Snapshot
from sona.stores.tables import INSERT_BLOB, SELECT_SEQ

_PAUSE_S = 0.02
_log = logging.getLogger("sona")


def erase_rows(
    connection: sqlite3.Connection, seqs: Collection[int], replaced: Collection[Event], snapshot: Snapshot
) -> None:
    """Delete and replace within a transaction, and mark the file as not yet wiped.

    Raises:
        InvalidValue: a replaced event that is not there or is deleted too, or a snapshot before the last event.
    """
    ledger = read_ledger(connection)
    kept = {event.seq for event in replaced if connection.execute(SELECT_SEQ, (event.seq,)).fetchone()}
    require_erasable(seqs, replaced, snapshot, ledger.last_seq, kept)
    deleted = connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in seqs]).rowcount
    for event in replaced:
        _replace(connection, event)
    _drop_unreferred(connection)
    drop_snapshots(connection, but=0)
    write_snapshot(connection, snapshot)
    events = ledger.events - max(deleted, 0)
    write_ledger(connection, replace(ledger, events=events, is_wiping=True).after_snapshot(snapshot.seq))


def _replace(connection: sqlite3.Connection, event: Event) -> None:
    row = event_row(event)
    connection.executemany(INSERT_BLOB, list(row.blobs.items()))
    cells: Sequence[Cell] = (*row.cells[1:], row.seq)
    connection.execute(
        """UPDATE events SET kind = CAST(? AS TEXT), at = ?, subject = CAST(? AS TEXT), trajectory_id = ?, body = ?,
           blobs = ?, checksum = ? WHERE seq = ?""",
        cells,
    )


def _drop_unreferred(connection: sqlite3.Connection) -> None:
    referred: set[bytes] = set()
    for (digests,) in connection.execute("SELECT blobs FROM events WHERE length(blobs) > 0"):
        referred.update(digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES))
    gone = [(digest,) for (digest,) in connection.execute("SELECT digest FROM blobs") if digest not in referred]
    connection.executemany("DELETE FROM blobs WHERE digest = ?", gone)


def is_log_free(connection: sqlite3.Connection) -> bool:
    """Empty the write-ahead log into the file; False when another program is reading what is in it."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def wait_until_free(database: Database, limit_s: float) -> None:
    """Return when nothing hinders wiping, or raise StoreError after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while True:
        with database.reading() as connection:
            if is_log_free(connection):
                return
        if time.monotonic() >= deadline:
            raise StoreError(f"{database.path} is being read by another program; close it there, then erase")
        time.sleep(_PAUSE_S)


def is_wiped(database: Database) -> bool:
    """Finish wiping what was erased; False, with a warning, when something hinders it for now."""
    try:
        with database.reading() as connection:
            if not read_ledger(connection).is_wiping:
                return True
            # Written anew, the file holds what the tables hold and nothing else.
            connection.execute("VACUUM")
            if not is_log_free(connection):
                raise StoreError(f"{database.path} is being read by another program")
        with database.writing() as connection:
            write_ledger(connection, replace(read_ledger(connection), is_wiping=False))
    except StoreError as error:
        _log.warning("bytes of erased events may still be in the file: %s; it is tried again", error)
        return False
    return True
