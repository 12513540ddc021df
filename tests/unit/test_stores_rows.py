"""Rows: everything comes back, and a row changed anywhere is an error."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.errors import StoreError
from sona.stores.rows import (
    Ledger,
    StoredBlobs,
    checksum,
    event_of,
    event_row,
    opened,
    read_ledger,
    sealed,
    write_ledger,
)
from sona.stores.store import Event, blob_digest

CELLS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()


@given(st.lists(CELLS), st.lists(CELLS))
def test_the_checksum_tells_rows_apart(one, other):
    same = [type(cell) for cell in one] == [type(cell) for cell in other] and list(map(str, one)) == list(
        map(str, other)
    )
    assert (checksum(one) == checksum(other)) == same


def test_the_checksum_tells_types_and_borders_apart():
    rows = [(1,), (1.0,), ("1",), (b"1",), (None,), ("a", "bc"), ("ab", "c"), ("abc",), ("", "abc"), ()]
    assert len({checksum(row) for row in rows}) == len(rows)


def texts_back(row):
    return tuple(
        cell.decode("utf-8", "surrogatepass") if place in {1, 3} and cell else cell for place, cell in enumerate(row)
    )


def test_an_event_comes_back_and_reads_its_blobs_when_asked():
    data = [b"b", b"a", b""]
    event = Event(3, "k\u00e9", 1.5, "s\ud800", None, b"body", {blob_digest(one): one for one in data})
    row = event_row(event)
    read = []

    def blob(digest):
        read.append(digest)
        return event.blobs[digest]

    back = event_of(texts_back(row.cells), blob)
    assert [getattr(back, name) for name in ("seq", "kind", "at", "subject", "trajectory_id", "body")] == [
        3, "k\u00e9", 1.5, "s\ud800", None, b"body",
    ]  # fmt: skip
    assert (list(back.blobs), len(back.blobs), read) == (list(event.blobs), 3, [])
    assert dict(back.blobs) == dict(event.blobs)
    with pytest.raises(KeyError):
        back.blobs[b"other"]


def test_blobs_named_twice_are_one():
    assert len(StoredBlobs(b"0123456789abcdef" * 2, lambda digest: digest)) == 1


CHANGES = [(0, 4), (1, "other"), (2, 2), (3, None), (4, 0), (5, b"Body"), (5, "body"), (6, b""), (7, b"12345678")]


@pytest.mark.parametrize(("place", "cell"), CHANGES)
def test_an_event_changed_anywhere_is_refused(place, cell):
    row = list(texts_back(event_row(Event(3, "k", 1.5, "s", None, b"body", {blob_digest(b""): b""})).cells))
    row[place] = cell
    with pytest.raises(StoreError, match="damaged"):
        event_of(row, lambda digest: digest)


def test_a_row_that_no_store_would_write_is_refused_though_its_checksum_is_right():
    for cells in (
        (0, "k", 1.0, None, None, b"", b""),
        (1, None, 1.0, None, None, b"", b""),
        (1, "k", "x", None, 1, b"", b""),
    ):
        with pytest.raises(StoreError, match="damaged"):
            event_of((*cells, checksum(cells)), lambda digest: digest)


def test_the_ledger_comes_back_and_is_refused_when_changed():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE ledger (id INTEGER PRIMARY KEY, a, b, c, d, e)")
    assert read_ledger(connection) == Ledger()
    for ledger in (Ledger(5, 4, 3, True), Ledger(6, 4, 3, False)):
        write_ledger(connection, ledger)
        assert read_ledger(connection) == ledger
    connection.execute("UPDATE ledger SET b = 5")
    with pytest.raises(StoreError, match="ledger is damaged"):
        read_ledger(connection)
    connection.close()


def test_the_ledger_follows_the_log():
    ledger = Ledger(5, 4)
    assert ledger.after_events(9, 2) == Ledger(9, 6)
    assert ledger.after_snapshot(5) == ledger
    assert ledger.after_snapshot(7) == replace(ledger, last_seq=7, whole_after=7)


def test_sealed_rows_open():
    assert opened((*("a", 1), sealed("a", 1)[-1]), "row") == ("a", 1)
