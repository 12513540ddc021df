"""Snapshots in a file: a state lies there in parts, so that no row is large, and the disk alone limits it."""

from __future__ import annotations

import io
import logging
import sqlite3
from pathlib import Path

from sona.errors import InvalidValue, StoreError
from sona.stores.database import translated
from sona.stores.rows import checksum, encoded, opened
from sona.stores.store import Snapshot
from sona.stores.tables import INSERT_PART, INSERT_SNAPSHOT, SELECT_PARTS, SELECT_SNAPSHOT

PART_BYTES = 1 << 26
"""Bytes of a state in a row of their own."""
KEPT = 2
"""Snapshots that are kept, the newest."""
_TABLES = ("snapshots", "snapshot_parts")
_log = logging.getLogger("sona")


def write_snapshot(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Write a snapshot within a transaction, in the place of the one at its position; the data are not copied whole."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE seq = ?", (snapshot.seq,))
    at, data = float(snapshot.at), memoryview(snapshot.data)
    seal = checksum((snapshot.seq, at, snapshot.digest, snapshot.data))
    connection.execute(INSERT_SNAPSHOT, (snapshot.seq, at, encoded(snapshot.digest), seal))
    starts = range(0, len(data), PART_BYTES)
    parts = ((snapshot.seq, part, data[start : start + PART_BYTES]) for part, start in enumerate(starts))
    connection.executemany(INSERT_PART, parts)


def drop_snapshots(connection: sqlite3.Connection, *, but: int) -> None:
    """Delete all snapshots within a transaction but the newest so many."""
    kept = "SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?"
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE seq NOT IN ({kept})", (but,))


def read_snapshot(connection: sqlite3.Connection, path: Path, until: int) -> Snapshot | None:
    """Return the latest undamaged snapshot with `seq <= until`, or None; damaged ones are named in the log.

    Args:
        connection: Of the file, at one moment of it.
        path: The file, for errors.
        until: The last position that counts.
    """
    seqs = connection.execute("SELECT seq FROM snapshots WHERE seq <= ? ORDER BY seq DESC", (until,)).fetchall()
    for (seq,) in seqs:
        try:
            with translated(path):
                return _read(connection, seq)
        except StoreError as error:
            _log.warning("%s: a snapshot is skipped: %s", path, error)
    return None


def _read(connection: sqlite3.Connection, seq: int) -> Snapshot:
    _, at, digest, seal = connection.execute(SELECT_SNAPSHOT, (seq,)).fetchone()
    whole = io.BytesIO()
    try:
        for (part,) in connection.execute(SELECT_PARTS, (seq,)):
            whole.write(part)
        return Snapshot(*opened((seq, at, digest, whole.getvalue(), seal), f"snapshot {seq}"))  # type: ignore[arg-type]
    except (InvalidValue, TypeError) as error:
        raise StoreError(f"snapshot {seq} is damaged: {error}") from error
