"""The tables of a store, and how an older file gets those of today: one numbered step at a time, all or none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

APPLICATION_ID = 0x534F4E41  # "SONA", in the header of the file
Migration: TypeAlias = Callable[[sqlite3.Connection], None]


def _first(connection: sqlite3.Connection) -> None:
    # `ledger` is one row: what the log should hold, so that rows that vanish are noticed.
    for statement in (
        """CREATE TABLE events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, at REAL NOT NULL, subject TEXT,
           trajectory_id INTEGER, body BLOB NOT NULL, blobs BLOB NOT NULL, checksum BLOB NOT NULL)""",
        "CREATE INDEX events_by_subject ON events (subject) WHERE subject IS NOT NULL",
        "CREATE INDEX events_by_trajectory ON events (trajectory_id) WHERE trajectory_id IS NOT NULL",
        "CREATE TABLE blobs (digest BLOB PRIMARY KEY NOT NULL, data BLOB NOT NULL)",
        """CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, at REAL NOT NULL, digest TEXT NOT NULL,
           data BLOB NOT NULL, checksum BLOB NOT NULL)""",
        "CREATE TABLE settings (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, checksum BLOB NOT NULL)",
        """CREATE TABLE ledger (id INTEGER PRIMARY KEY CHECK (id = 1), last_seq INTEGER NOT NULL,
           events INTEGER NOT NULL, whole_after INTEGER NOT NULL, is_wiping INTEGER NOT NULL,
           checksum BLOB NOT NULL)""",
    ):
        connection.execute(statement)


def _second(connection: sqlite3.Connection) -> None:
    # A snapshot's data lie in parts; the checksum of its row is over all of them, as it was over the data beside it.
    for statement in (
        "ALTER TABLE snapshots RENAME TO whole_snapshots",
        """CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, at REAL NOT NULL, digest TEXT NOT NULL,
           checksum BLOB NOT NULL)""",
        """CREATE TABLE snapshot_parts (seq INTEGER NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL,
           PRIMARY KEY (seq, part))""",
        "INSERT INTO snapshots SELECT seq, at, digest, checksum FROM whole_snapshots",
        "INSERT INTO snapshot_parts SELECT seq, 0, data FROM whole_snapshots",
        "DROP TABLE whole_snapshots",
    ):
        connection.execute(statement)


MIGRATIONS: tuple[Migration, ...] = (_first, _second)
SCHEMA_VERSION = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of steps a file has been through."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Take the steps that the file behind `connection` lacks, in one transaction.

    Raises:
        sqlite3.Error: a step failed; none was taken.
    """
    done = schema_version(connection)
    if done >= len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in migrations[done:]:
            step(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
