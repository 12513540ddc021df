"""The schema: made in numbered steps, all or none of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sona.stores.migrations import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION, migrate, schema_version
from sona.stores.rows import sealed
from sona.stores.snapshots import read_snapshot, write_snapshot


@pytest.fixture
def connection():
    made = sqlite3.connect(":memory:", isolation_level=None)
    yield made
    made.close()


def tables(connection):
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_new_file_gets_all_tables_its_owner_and_its_version(connection):
    migrate(connection)
    assert tables(connection) == {"events", "blobs", "snapshots", "snapshot_parts", "settings", "ledger"}
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert schema_version(connection) == SCHEMA_VERSION == len(MIGRATIONS)


def test_a_file_of_today_is_left_alone(connection):
    migrate(connection)
    before = connection.serialize()
    migrate(connection)
    assert connection.serialize() == before


def more(connection):
    connection.execute("CREATE TABLE more (x)")


def less(connection):
    connection.execute("INSERT INTO more VALUES (1)")
    connection.execute("DROP TABLE settings")


def test_an_older_file_takes_the_steps_it_lacks_and_keeps_what_it_has(connection):
    migrate(connection)
    connection.execute("INSERT INTO blobs VALUES (x'00', x'01')")
    migrate(connection, (*MIGRATIONS, more, less))
    assert schema_version(connection) == len(MIGRATIONS) + 2
    assert connection.execute("SELECT * FROM more").fetchall() == [(1,)]
    assert connection.execute("SELECT * FROM blobs").fetchall() == [(b"\0", b"\1")]
    assert "settings" not in tables(connection)


def test_snapshots_of_a_file_that_held_them_whole_are_there_in_parts(connection):
    migrate(connection, MIGRATIONS[:1])
    old = {seq: sealed(seq, 1.5 * seq, "digest", bytes([seq]) * seq) for seq in (0, 3)}
    for row in old.values():
        connection.execute("INSERT INTO snapshots VALUES (?, ?, CAST(? AS TEXT), ?, ?)", row)
    connection.execute("UPDATE snapshots SET data = x'05' WHERE seq = 0")  # damaged before, damaged after
    migrate(connection)
    assert schema_version(connection) == len(MIGRATIONS)
    found = read_snapshot(connection, Path("log"), 9)
    assert (found.seq, found.at, found.digest, found.data) == (3, 4.5, "digest", b"\3\3\3")
    assert read_snapshot(connection, Path("log"), 2) is None
    write_snapshot(connection, found)  # as it would be written today
    assert connection.execute("SELECT checksum FROM snapshots WHERE seq = 3").fetchone() == (old[3][-1],)


def test_when_a_step_fails_none_is_taken(connection):
    def broken(connection):
        connection.execute("DROP TABLE events")
        raise sqlite3.OperationalError("no")

    migrate(connection)
    before = connection.serialize()
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS, more, broken))
    assert not connection.in_transaction
    assert connection.serialize() == before
