"""A store in a file: what it refuses to touch, what it survives, and that what was erased is gone from the bytes."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import struct
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sona.errors import ConfigError, InvalidValue, StateError, StoreError
from sona.state import State, write_state
from sona.stores import Event, MemoryStore, Snapshot, SqliteStore, blob_digest, erasure, is_store, snapshots
from sona.stores import database as files
from sona.stores import sqlite as module
from sona.stores.migrations import MIGRATIONS, SCHEMA_VERSION, migrate
from sona.stores.rows import Ledger, sealed, write_ledger

KILOBYTE = bytes(range(256)) * 4


def event(seq: int, body: bytes = b"body", subject: str | None = None, blobs: tuple[bytes, ...] = ()) -> Event:
    return Event(seq, "note", 0.5 * seq, subject, seq, body, {blob_digest(data): data for data in blobs})


def put(store: SqliteStore, *events: Event) -> None:
    for one in events:
        assert store.append(one.seq, partial(lambda one: one, one), is_acknowledged=True)
    store.flush()


def bodies(store: SqliteStore) -> list[tuple[int, bytes]]:
    return [(entry.seq, entry.body) for entry in store.events()]


def filled(path: Path, count: int = 40) -> list[tuple[int, bytes]]:
    with closing(SqliteStore(path)) as store:
        put(
            store, *(event(seq, b"%d" % seq * 60, "ann", (b"blob %d" % (seq % 7) * 30,)) for seq in range(1, count + 1))
        )
        store.put_snapshot(Snapshot(max(0, count - 5), 1.0, "d", KILOBYTE))
        store.set_setting("config", "{}")
        return bodies(store)


def everything(store: SqliteStore) -> object:
    snapshot = store.snapshot()
    events = [
        (one.seq, one.kind, one.at, one.subject, one.trajectory_id, one.body, dict(one.blobs)) for one in store.events()
    ]
    held = None if snapshot is None else (snapshot.seq, snapshot.at, snapshot.digest, snapshot.data)
    return events, held, store.setting("config"), store.last_seq, store.whole_after


def raw(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


# -- opening -------------------------------------------------------------------------------------------------------


def test_a_store_is_there_again_after_it_was_closed(tmp_path):
    expected = filled(tmp_path / "log")
    with closing(SqliteStore(tmp_path / "log")) as store:
        assert bodies(store) == expected
        assert (store.last_seq, store.whole_after, store.metrics().written) == (40, 0, 0)
        put(store, event(41))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.lock"]


def test_the_end_of_the_log_is_known_though_only_a_snapshot_holds_it(tmp_path):
    with closing(SqliteStore(tmp_path / "log")) as store:
        put(store, event(1), event(2))
        store.put_snapshot(Snapshot(9, 1.0, "d", b""))
        store.erase([2], [], Snapshot(9, 1.0, "d", b""))
    with closing(SqliteStore(tmp_path / "log")) as store:
        assert (store.last_seq, store.whole_after) == (9, 9)


@pytest.mark.parametrize("name", ["a?b#c%20", "sp ace", "\u00e9\u4e2d", "x" * 100])
def test_any_file_name_will_do(tmp_path, name):
    expected = filled(tmp_path / name, 3)
    with closing(SqliteStore(str(tmp_path / name), is_read_only=True)) as store:
        assert bodies(store) == expected


def test_a_file_is_whole_and_written_ahead_from_its_first_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open_for_writing", lambda path, durability: pytest.fail("killed here", pytrace=False))
    with pytest.raises(pytest.fail.Exception):
        SqliteStore(tmp_path / "log")
    before = (tmp_path / "log").read_bytes()
    with closing(sqlite3.connect(tmp_path / "log")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    monkeypatch.undo()
    with closing(SqliteStore(tmp_path / "log")) as store:
        assert (tmp_path / "log").read_bytes() == before  # opening alone writes nothing
        assert (store.last_seq, bodies(store)) == (0, [])


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "log").touch()
    assert len(filled(tmp_path / "log")) == 40


@pytest.mark.parametrize(("level", "synchronous"), [("relaxed", 1), ("batched", 1), ("strict", 2)])
def test_each_level_asks_the_disk_for_what_it_promises(tmp_path, level, synchronous):
    with closing(SqliteStore(tmp_path / "log", durability=level)) as store:
        assert store.metrics().durability == level
        with store._database.reading() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA fullfsync").fetchone() == (int(level == "strict"),)


@pytest.mark.parametrize(("level", "is_soon"), [("relaxed", False), ("batched", True), ("strict", True)])
def test_what_was_acknowledged_is_written_at_once_but_at_relaxed(tmp_path, level, is_soon):
    with closing(SqliteStore(tmp_path / "log", durability=level)) as store:
        store.append(1, lambda: event(1), is_acknowledged=True)
        deadline = time.monotonic() + (10.0 if is_soon else 0.3)
        while not store.metrics().written and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.metrics().written == int(is_soon)
        store.wait(1)
        assert store.metrics().written == 1


@pytest.mark.parametrize("settings", [{"durability": "none"}, {"queue_size": 0}, {"limit_s": -1.0}])
def test_settings_out_of_range_are_refused_and_nothing_is_made(tmp_path, settings):
    with pytest.raises(ConfigError):
        SqliteStore(tmp_path / "log", **settings)
    assert list(tmp_path.iterdir()) == []


def saved_state(path: Path) -> None:
    write_state(path, "engine", State({"x": np.ones(3)}))


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (seq)")


def newer_store(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


FOREIGN = {
    "SonaEngine.load": saved_state,
    "SQLite file of another program": foreign_database,
    f"schema {SCHEMA_VERSION + 1}.*newer SONA": newer_store,
    "not a SONA store": lambda path: path.write_bytes(b"some text\n" * 50),
    "not a SONA.store": lambda path: path.write_bytes(b"SQLite format 3\0"),
}


@pytest.mark.parametrize("message", list(FOREIGN))
@pytest.mark.parametrize("is_read_only", [False, True])
def test_what_is_not_ours_is_refused_and_stays_as_it_is(tmp_path, message, is_read_only):
    path = tmp_path / "file"
    FOREIGN[message](path)
    for beside in ("file.lock",):
        (tmp_path / beside).unlink(missing_ok=True)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        SqliteStore(path, is_read_only=is_read_only)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert is_store(path) == ("newer" in message)


def test_a_store_is_told_from_other_files(tmp_path):
    assert not is_store(tmp_path / "missing")
    filled(tmp_path / "log")
    assert is_store(tmp_path / "log")
    with pytest.raises(StoreError, match="cannot open"):
        is_store(tmp_path)


def test_a_place_that_holds_no_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="folder does not exist"):
        SqliteStore(tmp_path / "missing" / "log")
    with pytest.raises(StoreError, match="Is a directory"):
        SqliteStore(tmp_path)
    with pytest.raises(StoreError, match="no store at"):
        SqliteStore(tmp_path / "log", is_read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_holds_its_snapshots_whole_is_brought_up_to_date_and_goes_on(tmp_path):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS[:1])
        row = sealed(7, 1.0, "d", KILOBYTE)
        connection.execute("INSERT INTO snapshots VALUES (?, ?, CAST(? AS TEXT), ?, ?)", row)
        write_ledger(connection, Ledger(last_seq=7, whole_after=7))
        (tmp_path / "log").write_bytes(connection.serialize())
    with pytest.raises(StoreError, match="older schema; open it once for writing"):
        SqliteStore(tmp_path / "log", is_read_only=True)
    for _ in range(2):
        with closing(SqliteStore(tmp_path / "log")) as store:
            assert (store.snapshot().seq, store.snapshot().data, store.last_seq) == (7, KILOBYTE, 7)
    with closing(SqliteStore(tmp_path / "log")) as store:
        put(store, event(8))
        store.put_snapshot(Snapshot(8, 1.0, "d", b"next"))
        assert (store.snapshot().data, store.snapshot(7).data) == (b"next", KILOBYTE)


def test_an_older_schema_is_brought_up_to_date_but_not_by_a_reader(tmp_path, monkeypatch):
    expected = filled(tmp_path / "log")
    steps = (*files.migrate.__defaults__[0], lambda connection: connection.execute("CREATE TABLE more (x)"))
    monkeypatch.setattr(files, "SCHEMA_VERSION", len(steps))
    monkeypatch.setattr(files, "migrate", partial(files.migrate, migrations=steps))
    with pytest.raises(StoreError, match="older schema; open it once for writing"):
        SqliteStore(tmp_path / "log", is_read_only=True)
    with closing(SqliteStore(tmp_path / "log")) as store:
        assert bodies(store) == expected
        with store._database.reading() as connection:
            assert connection.execute("SELECT * FROM more").fetchall() == []


def test_a_second_writer_is_refused_at_once_and_the_lock_goes_with_the_first(tmp_path):
    with closing(SqliteStore(tmp_path / "log")):
        began = time.monotonic()
        with pytest.raises(StoreError, match="open in another process"):
            SqliteStore(tmp_path / "log")
        assert time.monotonic() - began < 1.0
    SqliteStore(tmp_path / "log").close()


def test_opening_that_fails_leaves_no_lock(tmp_path):
    filled(tmp_path / "log")
    damage(tmp_path / "log", 4096 * 2, b"\xff" * 4096)
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged"):
            SqliteStore(tmp_path / "log")


def test_a_process_forked_off_may_not_use_it(tmp_path, monkeypatch):
    with closing(SqliteStore(tmp_path / "log")) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(StateError, match="forked"):
                store.append(1, lambda: event(1), is_acknowledged=True)
            with pytest.raises(StateError, match="forked"):
                store.setting("x")
        put(store, event(1))


# -- reading only --------------------------------------------------------------------------------------------------


def test_a_reader_reads_beside_a_writer_and_may_write_nothing(tmp_path):
    filled(tmp_path / "log")
    with (
        closing(SqliteStore(tmp_path / "log")) as writer,
        closing(SqliteStore(tmp_path / "log", is_read_only=True)) as reader,
    ):
        assert (reader.is_read_only, writer.is_read_only) == (True, False)
        put(writer, event(41))
        assert bodies(reader) == bodies(writer)
        assert (reader.last_seq, reader.setting("config"), reader.snapshot().seq) == (41, "{}", 35)
        reader.flush()
        for call in (
            lambda: reader.append(42, lambda: event(42), is_acknowledged=True),
            lambda: reader.wait(41),
            lambda: reader.put_snapshot(Snapshot(41, 1.0, "", b"")),
            lambda: reader.set_setting("a", "b"),
            lambda: reader.erase([], [], Snapshot(41, 1.0, "", b"")),
        ):
            with pytest.raises(StoreError, match="read-only"):
                call()
        put(writer, event(42))
        assert reader.last_seq == 42


def test_a_reader_changes_no_byte_of_the_file(tmp_path):
    filled(tmp_path / "log")
    before = (tmp_path / "log").read_bytes()
    with closing(SqliteStore(tmp_path / "log", is_read_only=True)) as reader:
        everything(reader)
    assert (tmp_path / "log").read_bytes() == before
    with closing(SqliteStore(tmp_path / "log")) as store:  # and is in no writer's way
        put(store, event(41))


def test_what_may_not_be_written_is_refused_with_what_to_do(tmp_path, monkeypatch):
    expected = filled(tmp_path / "log")
    (tmp_path / "log.lock").unlink()
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)
    with pytest.raises(StoreError, match="cannot be written; make it writable, or open the store with is_read_only"):
        SqliteStore(tmp_path / "log")
    with closing(SqliteStore(tmp_path / "log", is_read_only=True)) as reader:
        assert bodies(reader) == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]  # where nothing may be made, nothing is


# -- faults --------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_waited_out(tmp_path, caplog):
    with closing(SqliteStore(tmp_path / "log", limit_s=0.3)) as store:
        put(store, event(1))
        with store._database.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        for seq in range(2, 30):
            assert store.append(seq, partial(event, seq, KILOBYTE), is_acknowledged=True)
        with pytest.raises(StoreError, match="no room is left"):
            store.wait(29)
        with pytest.raises(StoreError, match="no room is left"):
            store.put_snapshot(Snapshot(29, 1.0, "", KILOBYTE))
        assert store.append(30, partial(event, 30), is_acknowledged=True)  # requests go on
        assert store.metrics().failures > 0
        assert "no room is left" in store.metrics().last_error
        with store._database.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        deadline = time.monotonic() + 10.0
        while store.metrics().queued and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [seq for seq, _ in bodies(store)] == list(range(1, 31))
        assert (store.metrics().refused, store.metrics().last_error) == (0, None)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_a_file_locked_by_another_program_is_waited_out(tmp_path):
    with closing(SqliteStore(tmp_path / "log", limit_s=0.2)) as store:
        put(store, event(1))
        with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.append(2, partial(event, 2), is_acknowledged=True)
            with pytest.raises(StoreError, match="could not be written"):
                store.wait(2)
            with pytest.raises(StoreError, match=r"in use by another program|could not be written"):
                store.set_setting("a", "b")
            other.execute("ROLLBACK")
        deadline = time.monotonic() + 10.0
        while store.metrics().queued and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [seq for seq, _ in bodies(store)] == [1, 2]
        assert store.setting("a") is None


def test_closing_says_what_could_not_be_written_and_lets_go_all_the_same(tmp_path):
    store = SqliteStore(tmp_path / "log", limit_s=0.1)
    put(store, event(1))
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.append(2, partial(event, 2), is_acknowledged=True)
        with pytest.raises(StoreError, match="1 events could not be written"):
            store.close()
    with closing(SqliteStore(tmp_path / "log")) as again:
        assert [seq for seq, _ in bodies(again)] == [1]


def test_a_full_queue_refuses_and_the_log_has_no_hole(tmp_path):
    with closing(SqliteStore(tmp_path / "log", queue_size=5)) as store:
        go_on = threading.Event()

        def slow(seq: int) -> Event:
            go_on.wait(10.0)
            return event(seq)

        taken = [store.append(seq, partial(slow, seq), is_acknowledged=True) for seq in range(1, 9)]
        go_on.set()
        assert taken == [True] * 5 + [False] * 3
        assert [seq for seq, _ in bodies(store)] == [1, 2, 3, 4, 5]
        store.put_snapshot(Snapshot(8, 1.0, "", b""))
        put(store, event(9))
        assert store.metrics().refused == 3
    with closing(SqliteStore(tmp_path / "log")) as again:
        assert ([seq for seq, _ in bodies(again)], again.whole_after) == ([1, 2, 3, 4, 5, 9], 8)


# -- damage --------------------------------------------------------------------------------------------------------


def damage(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def open_and_read(path: Path) -> object:
    with closing(SqliteStore(path)) as store:
        return everything(store)


def test_damage_anywhere_is_a_store_error_or_of_no_effect(tmp_path):
    filled(tmp_path / "log")
    expected = open_and_read(tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    rng = np.random.default_rng(1)
    # Every byte of the head, bytes all over, and lost or mixed up stretches.
    cases = [
        (offset, bytes([whole[offset] ^ 0x41])) for offset in (*range(0, 100, 3), *rng.integers(0, len(whole), 120))
    ]
    cases += [
        (int(at), rng.bytes(int(length)))
        for at, length in zip(rng.integers(0, len(whole) - 600, 30), rng.integers(2, 600, 30), strict=True)
    ]
    cases += [(4096 * page, bytes(4096)) for page in range(len(whole) // 4096)]
    refused = 0
    for number, (offset, content) in enumerate(cases):
        path = tmp_path / f"damaged {number}"
        path.write_bytes(whole)
        damage(path, offset, content)
        before = path.read_bytes()
        try:
            found = open_and_read(path)
        except StoreError:
            refused += 1
            is_as_it_was = path.read_bytes() == before
            assert is_as_it_was, offset
        else:
            found_snapshot, expected_snapshot = found[1], expected[1]  # type: ignore[index]
            assert found[0] == expected[0], offset  # type: ignore[index]
            assert found_snapshot in (expected_snapshot, None), offset  # a damaged snapshot is skipped
            assert found[2:] == expected[2:], offset  # type: ignore[index]
    assert refused > len(cases) / 5


@pytest.mark.parametrize("length", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused_and_stays_as_it_is(tmp_path, length):
    filled(tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[: int(length * len(whole))])
    before = (tmp_path / "log").read_bytes()
    for is_read_only in (False, True):
        with pytest.raises(StoreError, match=str(tmp_path / "log")):
            SqliteStore(tmp_path / "log", is_read_only=is_read_only)
    assert (tmp_path / "log").read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE seq = 7",
        "DELETE FROM events WHERE seq = 40",
        "DELETE FROM events",
        "DELETE FROM ledger",
        "UPDATE ledger SET last_seq = 39",
        "INSERT INTO events SELECT 99, kind, at, subject, trajectory_id, body, blobs, checksum FROM events LIMIT 1",
        "UPDATE events SET body = x'00' WHERE seq = 3",
        "UPDATE events SET seq = 41 WHERE seq = 3",
        "UPDATE blobs SET data = x'00'",
        "DELETE FROM blobs",
        "UPDATE settings SET value = 'other'",
        "DROP TABLE snapshots",
    ],
)
def test_a_file_tampered_with_is_never_taken_for_another_log(tmp_path, statement):
    filled(tmp_path / "log")
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as connection:
        connection.execute(statement)
    with pytest.raises(StoreError):
        open_and_read(tmp_path / "log")


def test_a_damaged_snapshot_is_skipped_for_the_one_before(tmp_path, caplog):
    filled(tmp_path / "log")
    with closing(SqliteStore(tmp_path / "log")) as store:
        store.put_snapshot(Snapshot(40, 1.0, "new", b"new"))
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as connection:
        connection.execute("UPDATE snapshot_parts SET data = x'00' WHERE seq = 40")
    with closing(SqliteStore(tmp_path / "log")) as store:
        assert store.snapshot().seq == 35
        assert "skipped" in caplog.text


def copied_before_every_statement(store: SqliteStore, live: Path, to: Path) -> None:
    def copy(statement: str) -> None:
        shutil.copytree(live, to / f"{len(list(to.iterdir())):03}")  # as a process that dies here leaves it

    with store._database.reading() as connection:
        connection.execute("PRAGMA cache_size = 4")  # pages reach the disk before the transaction ends
        connection.set_trace_callback(copy)


@pytest.mark.parametrize("seq", [40, 41])
def test_a_kill_between_any_two_parts_leaves_the_old_snapshot_or_the_new(tmp_path, monkeypatch, seq):
    monkeypatch.setattr(snapshots, "PART_BYTES", 20_000)
    live, killed = tmp_path / "live", tmp_path / "killed"
    live.mkdir()
    killed.mkdir()
    filled(live / "log")
    old, new = b"old" * 30_000, b"new" * 30_000
    with closing(SqliteStore(live / "log")) as store:
        store.put_snapshot(Snapshot(40, 1.0, "", old))
        copied_before_every_statement(store, live, killed)
        store.put_snapshot(Snapshot(seq, 1.0, "", new))
        assert store.snapshot().data == new  # copied once more
        with store._database.reading() as connection:
            connection.set_trace_callback(None)
    last = max(killed.iterdir())
    assert len((last / "log-wal").read_bytes()) > len(new)  # it was not all in memory
    found = []
    for folder in sorted(killed.iterdir()):
        with closing(SqliteStore(folder / "log")) as store:
            found.append(store.snapshot().data)
            assert store.last_seq == (seq if found[-1] == new else 40)
    assert len(found) > len(new) / 20_000 + 5
    assert found == sorted(found, reverse=True)  # never the old one again after the new one
    assert {found[0], found[-1]} == {old, new}


def test_a_reader_beside_a_writer_reads_one_snapshot_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "PART_BYTES", 100)
    filled(tmp_path / "log")
    path, read = tmp_path / "log", snapshots._read

    def read_late(connection, seq):  # the writer has put others in their place since they were listed
        for later in (50, 51):
            writer.put_snapshot(Snapshot(later, 1.0, "", b"later" * 100))
        monkeypatch.setattr(snapshots, "_read", read)
        return read(connection, seq)

    with closing(SqliteStore(path)) as writer, closing(SqliteStore(path, is_read_only=True)) as reader:
        monkeypatch.setattr(snapshots, "_read", read_late)
        assert reader.snapshot().data == KILOBYTE
        assert reader.snapshot().seq == 51


def test_when_the_snapshot_that_closes_a_hole_is_damaged_no_wrong_state_is_given_out(tmp_path):
    with closing(SqliteStore(tmp_path / "log")) as store:
        put(store, event(1))
        store.put_snapshot(Snapshot(1, 1.0, "", b"one"))
        store.put_snapshot(Snapshot(5, 1.0, "", b"five"))
        put(store, event(6))
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as connection:
        connection.execute("UPDATE snapshot_parts SET data = x'00' WHERE seq = 5")
    with closing(SqliteStore(tmp_path / "log")) as store, pytest.raises(StoreError, match="hole before event 5"):
        store.snapshot()


def test_a_torn_write_ahead_log_gives_a_beginning_never_a_hole(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    store = SqliteStore(folder / "log")
    for seq in range(1, 61):
        put(store, event(seq, b"%d" % seq * 40, "ann", (b"blob %d" % seq,)))
    expected = bodies(store)
    shutil.copytree(folder, tmp_path / "killed")  # as a process that dies leaves it
    store.close()
    log = (tmp_path / "killed" / "log-wal").read_bytes()
    rng = np.random.default_rng(2)
    lengths, lost = rng.integers(0, len(log), 25), 0
    for number, length in enumerate(lengths):
        torn = tmp_path / f"torn {number}"
        shutil.copytree(tmp_path / "killed", torn)
        (torn / "log-shm").unlink()
        tail = b"" if number % 2 else rng.bytes(len(log) - int(length))  # cut off, or never written properly
        (torn / "log-wal").write_bytes(log[:length] + tail)
        with closing(SqliteStore(torn / "log")) as again:
            found = bodies(again)
            assert found == expected[: len(found)]
            assert again.last_seq == len(found)
            lost += len(found) < 60
            put(again, event(len(found) + 1))
    assert lost == len(lengths)
    with closing(SqliteStore(tmp_path / "killed" / "log")) as again:
        assert bodies(again) == expected


# -- erasing -------------------------------------------------------------------------------------------------------


def secret(number: int) -> bytes:
    return b"secret-%d-" % number


def with_secrets(path: Path) -> tuple[SqliteStore, list[int]]:
    """Return a store in which every third event and all it refers to is to be erased, in rows short and long."""
    store = SqliteStore(path)
    gone = list(range(3, 91, 3))
    for seq in range(1, 91):
        word = secret(seq) if seq % 3 == 0 else b"open-%d-" % seq
        length = (1, 20, 700, 3000)[seq % 4]
        subject = word.decode() if seq % 3 == 0 else None
        put(store, event(seq, word * length, subject, (word * length + b"blob", b"shared" * 50)))
        if seq % 30 == 0:
            store.put_snapshot(Snapshot(seq, 1.0, "d", secret(seq) * 2000))
    return store, gone


@pytest.mark.parametrize("part", [snapshots.PART_BYTES, 3000])
def test_nothing_of_what_was_erased_is_in_any_file(tmp_path, monkeypatch, part):
    monkeypatch.setattr(snapshots, "PART_BYTES", part)
    store, gone = with_secrets(tmp_path / "log")
    assert all(secret(seq) in raw(tmp_path) for seq in gone)
    old = (b"open-1-", b"open-4-" * 20)
    changed = event(4, b"less", None, (b"shared" * 50,))
    store.erase(gone, [changed], Snapshot(90, 2.0, "d", b"without"))
    for content in (raw(tmp_path), *(path.read_bytes() for path in tmp_path.iterdir())):
        assert b"secret" not in content
        assert old[1] not in content
    assert old[0] in raw(tmp_path)
    assert b"less" in raw(tmp_path)
    assert not store.metrics().is_wiping
    left = [seq for seq in range(1, 91) if seq not in gone]
    assert [seq for seq, _ in bodies(store)] == left
    put(store, event(91))
    store.close()
    assert b"secret" not in raw(tmp_path)
    with closing(SqliteStore(tmp_path / "log")) as again:
        assert [seq for seq, _ in bodies(again)] == [*left, 91]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["VACUUM", "wal_checkpoint(TRUNCATE)"])
def test_wiping_that_was_cut_off_is_finished_by_the_next_opening(tmp_path, at, monkeypatch):
    live = tmp_path / "live"
    live.mkdir()
    store, gone = with_secrets(live / "log")
    wipe = erasure.is_wiped

    def killed(database):
        if at != "VACUUM":
            with database.reading() as connection:
                connection.execute("VACUUM")
        shutil.copytree(live, tmp_path / "killed")  # as a process that dies here leaves it
        return wipe(database)

    monkeypatch.setattr(module, "is_wiped", killed)
    store.erase(gone, [], Snapshot(90, 2.0, "d", b"without"))
    monkeypatch.undo()
    store.close()
    assert b"secret" in raw(tmp_path / "killed")
    with closing(SqliteStore(tmp_path / "killed" / "log")) as again:
        assert b"secret" not in raw(tmp_path / "killed")
        assert [seq for seq, _ in bodies(again)] == [seq for seq in range(1, 91) if seq not in gone]
        assert again.snapshot().data == b"without"
        assert not again.metrics().is_wiping


def test_a_reader_in_the_middle_of_reading_keeps_erasing_off(tmp_path):
    store, gone = with_secrets(tmp_path / "log")
    store._limit_s = 0.1
    before = bodies(store)
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        put(store, event(91))
        with pytest.raises(StoreError, match="read by another program"):
            store.erase(gone, [], Snapshot(91, 2.0, "d", b"without"))
    assert bodies(store)[:-1] == before
    store.erase(gone, [], Snapshot(91, 2.0, "d", b"without"))
    assert b"secret" not in raw(tmp_path)
    store.close()


def test_wiping_that_a_reader_hinders_is_said_and_finished_later(tmp_path, monkeypatch, caplog):
    store, gone = with_secrets(tmp_path / "log")
    reader = sqlite3.connect(tmp_path / "log", isolation_level=None)
    wait = module.wait_until_free

    def read_now(database, limit_s):
        wait(database, limit_s)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()

    monkeypatch.setattr(module, "wait_until_free", read_now)
    store.erase(gone, [], Snapshot(90, 2.0, "d", b"without"))
    assert store.metrics().is_wiping
    assert "may still be in the file" in caplog.text
    assert [seq for seq, _ in bodies(store)] == [seq for seq in range(1, 91) if seq not in gone]
    reader.close()
    store._next_wipe = 0.0
    put(store, event(91))
    store.flush()
    deadline = time.monotonic() + 10.0
    while store.metrics().is_wiping and time.monotonic() < deadline:
        time.sleep(0.01)
    assert b"secret" not in raw(tmp_path)
    store.close()


def test_an_erasure_that_cannot_be_written_changes_nothing(tmp_path):
    store, gone = with_secrets(tmp_path / "log")
    before = everything(store)
    with store._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="no room is left"):
        store.erase(gone, [], Snapshot(90, 2.0, "d", bytes(5_000_000)))
    assert everything(store) == before
    assert not store.metrics().is_wiping
    store.close()


def test_an_erasure_needs_the_state_after_the_last_event(tmp_path):
    with closing(SqliteStore(tmp_path / "log")) as store:
        put(store, event(1), event(2))
        with pytest.raises(InvalidValue, match="after the last event, 2"):
            store.erase([1], [], Snapshot(1, 1.0, "", b""))


def test_the_file_and_the_memory_agree_on_a_log_of_mixed_sizes(tmp_path):
    memory = MemoryStore()
    with closing(SqliteStore(tmp_path / "log")) as store:
        for seq in range(1, 700):
            one = event(seq, struct.pack("<q", seq) * (seq % 97), f"s{seq % 5}", (b"%d" % (seq % 11),))
            for each in (memory, store):
                each.append(seq, partial(lambda one: one, one), is_acknowledged=False)
        for subject in (None, "s3"):
            both = [
                [(one.seq, one.at, one.body, dict(one.blobs)) for one in each.events(subject=subject)]
                for each in (memory, store)
            ]
            assert both[0] == both[1]
