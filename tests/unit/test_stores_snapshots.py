"""Snapshots in parts: what was written comes back whole, and a part that is missing or another is never overlooked."""

from __future__ import annotations

import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.stores import snapshots as module
from sona.stores.migrations import migrate
from sona.stores.rows import checksum, decoded
from sona.stores.snapshots import drop_snapshots, read_snapshot, write_snapshot
from sona.stores.store import Snapshot

PATH = Path("log")
DATA = bytes(range(10))


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.text_factory = decoded
    migrate(connection)
    return connection


@pytest.fixture
def connection(monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 4)
    made = opened()
    yield made
    made.close()


def held(snapshot: Snapshot | None) -> object:
    return snapshot and (snapshot.seq, snapshot.at, snapshot.digest, snapshot.data)


def parts(connection: sqlite3.Connection) -> list[tuple[int, int, bytes]]:
    return connection.execute("SELECT * FROM snapshot_parts ORDER BY seq, part").fetchall()


@given(st.binary(max_size=30), st.integers(1, 31), st.text())
def test_whatever_the_size_of_a_part_the_data_come_back(data, size, digest):
    connection = opened()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_BYTES", size)
        write_snapshot(connection, Snapshot(3, -0.5, digest, data))
    lengths = [len(part) for _, _, part in parts(connection)]
    assert len(lengths) == -(-len(data) // size)
    assert max(lengths, default=0) <= size
    assert held(read_snapshot(connection, PATH, 3)) == (3, -0.5, digest, data)
    connection.close()


def test_one_written_in_the_place_of_another_leaves_none_of_its_parts(connection):
    write_snapshot(connection, Snapshot(1, 0.0, "", DATA))
    write_snapshot(connection, Snapshot(2, 0.0, "", DATA))
    write_snapshot(connection, Snapshot(2, 0.0, "", b"short"))
    assert parts(connection) == [(1, 0, DATA[:4]), (1, 1, DATA[4:8]), (1, 2, DATA[8:]), (2, 0, b"shor"), (2, 1, b"t")]
    assert (read_snapshot(connection, PATH, 2).data, read_snapshot(connection, PATH, 1).data) == (b"short", DATA)


def test_the_newest_are_kept_and_all_parts_of_the_others_go(connection):
    for seq in (1, 2, 3):
        write_snapshot(connection, Snapshot(seq, 0.0, "", DATA))
    drop_snapshots(connection, but=2)
    assert {seq for seq, _, _ in parts(connection)} == {2, 3}
    assert read_snapshot(connection, PATH, 1) is None
    drop_snapshots(connection, but=0)
    assert (parts(connection), read_snapshot(connection, PATH, 9)) == ([], None)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM snapshot_parts WHERE seq = 2 AND part = 0",
        "DELETE FROM snapshot_parts WHERE seq = 2 AND part = 1",
        "DELETE FROM snapshot_parts WHERE seq = 2 AND part = 2",
        "DELETE FROM snapshot_parts WHERE seq = 2",
        "INSERT INTO snapshot_parts VALUES (2, 3, x'00')",
        "UPDATE snapshot_parts SET data = x'04050607' WHERE seq = 2 AND part = 0",
        "UPDATE snapshot_parts SET data = x'00010203ff' WHERE seq = 2 AND part = 0",
        "UPDATE snapshot_parts SET data = 'text' WHERE seq = 2 AND part = 0",
        "UPDATE snapshot_parts SET data = 7 WHERE seq = 2 AND part = 0",
        "UPDATE snapshot_parts SET part = 9 - part WHERE seq = 2",
        "UPDATE snapshots SET at = 1.5 WHERE seq = 2",
        "UPDATE snapshots SET digest = 'e' WHERE seq = 2",
        "UPDATE snapshots SET digest = CAST(x'ff' AS TEXT) WHERE seq = 2",
        "UPDATE snapshots SET checksum = x'00' WHERE seq = 2",
    ],
)
def test_one_that_is_damaged_anywhere_is_skipped_for_the_one_before(connection, change, caplog):
    write_snapshot(connection, Snapshot(1, 0.0, "d", b"before"))
    write_snapshot(connection, Snapshot(2, 0.0, "d", DATA))
    assert read_snapshot(connection, PATH, 2).seq == 2
    connection.execute(change)
    assert held(read_snapshot(connection, PATH, 2)) == (1, 0.0, "d", b"before")
    assert "log: a snapshot is skipped" in caplog.text


@pytest.mark.parametrize("cells", [(-1, 1.0, "d", b""), (1, float("inf"), "d", b"")])
def test_what_no_store_would_write_is_refused_though_its_checksum_is_right(connection, cells, caplog):
    seq, *_ = cells
    connection.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?)", (*cells[:3], checksum(cells)))
    assert read_snapshot(connection, PATH, 9) is None
    assert f"snapshot {seq} is damaged" in caplog.text


def test_a_table_that_cannot_be_read_is_a_store_error(connection):
    connection.execute("DROP TABLE snapshots")
    with pytest.raises(sqlite3.OperationalError):  # in words by who opened the file
        read_snapshot(connection, PATH, 9)


def test_neither_writing_nor_reading_holds_the_data_twice(monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 1 << 16)
    connection, size = opened(), 8 << 20
    snapshot = Snapshot(1, 0.0, "d", bytes(size))
    tracemalloc.start()
    write_snapshot(connection, snapshot)
    _, written = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    found = read_snapshot(connection, PATH, 1)
    _, read = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    connection.close()
    assert found.data == snapshot.data
    assert written < 0.1 * size
    assert read < 1.3 * size
