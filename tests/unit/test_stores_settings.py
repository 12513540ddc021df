"""Leases in a SQLite file: they outlive it being open, are refused read-only, and damage is seen."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from sona.errors import StoreError
from sona.stores import SqliteStore


def test_a_lease_stays_when_the_file_is_closed(tmp_path):
    path = tmp_path / "log"
    with closing(SqliteStore(path)) as store:
        assert store.lease("learn", "ann", now=0.0, until=10.0)
    with closing(SqliteStore(path)) as store:
        assert not store.lease("learn", "bob", now=9.0, until=20.0)
        assert store.lease("learn", "bob", now=10.0, until=20.0)


def test_a_file_that_is_only_read_gives_no_lease(tmp_path):
    path = tmp_path / "log"
    SqliteStore(path).close()
    with closing(SqliteStore(path, is_read_only=True)) as store:
        with pytest.raises(StoreError, match="read-only"):
            store.lease("learn", "ann", now=0.0, until=10.0)
        with pytest.raises(StoreError, match="read-only"):
            store.release("learn", "ann")
    with closing(SqliteStore(path)) as store:
        assert store.lease("learn", "bob", now=0.0, until=10.0)


@pytest.mark.parametrize("change", ["value = '[\"bob\", 99.0]'", "checksum = x''"])
def test_a_damaged_lease_is_neither_given_nor_replaced(tmp_path, change):
    path = tmp_path / "log"
    with closing(SqliteStore(path)) as store:
        assert store.lease("learn", "ann", now=0.0, until=10.0)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(f"UPDATE settings SET {change} WHERE name LIKE '%learn%'").rowcount == 1
    with closing(SqliteStore(path)) as store:
        for call in (
            lambda: store.lease("learn", "ann", now=50.0, until=60.0),
            lambda: store.release("learn", "ann"),
        ):
            with pytest.raises(StoreError, match="damaged"):
                call()
        assert store.lease("dream", "ann", now=50.0, until=60.0)


def test_a_lease_that_cannot_be_written_is_not_given_and_the_store_goes_on(tmp_path):
    path = tmp_path / "log"
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path)) as other:
        assert store.lease("learn", "ann", now=0.0, until=10.0)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="in use by another program"):
            store.lease("learn", "bob", now=10.0, until=20.0)
        other.execute("ROLLBACK")
        assert store.lease("learn", "cid", now=10.0, until=20.0)
