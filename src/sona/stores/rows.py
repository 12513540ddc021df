"""Rows of the tables: each carries a checksum over all of it, so that a damaged row is an error and never a value."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sona.errors import InvalidValue, StoreError
from sona.stores.store import DIGEST_BYTES, Event

Cell: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Cell, ...]
_CHECKSUM_BYTES = 8


def checksum(cells: Sequence[Cell]) -> bytes:
    """Return 8 bytes that differ, but for one chance in 2^64, when any cell or its type differs.

    >>> checksum((1, "a")) == checksum((1, b"a"))
    False
    """
    hasher = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for cell in cells:
        kind, data = _packed(cell)
        hasher.update(kind + struct.pack("<q", len(data)))
        hasher.update(data)
    return hasher.digest()


def _packed(cell: Cell) -> tuple[bytes, bytes]:
    if cell is None:
        return b"n", b""
    if isinstance(cell, bytes):
        return b"b", cell
    if isinstance(cell, str):
        return b"s", encoded(cell)
    return (b"i", struct.pack("<q", cell)) if isinstance(cell, int) else (b"f", struct.pack("<d", cell))


def encoded(text: str) -> bytes:
    """Return `text` as UTF-8; ids and names of files may hold lone surrogates, which come back too."""
    return text.encode("utf-8", "surrogatepass")


def decoded(data: bytes) -> str:
    """Return the text that `encoded` wrote."""
    return data.decode("utf-8", "surrogatepass")


def sealed(*cells: Cell) -> Row:
    """Return the cells of a row with their checksum; texts as bytes, which SQL casts back to text."""
    return (*(encoded(cell) if isinstance(cell, str) else cell for cell in cells), checksum(cells))


def opened(row: Sequence[Cell], what: str) -> Row:
    """Return the cells of a row without their checksum.

    Raises:
        StoreError: the row is damaged.
    """
    *cells, seal = row
    if seal != checksum(cells):
        raise StoreError(f"{what} is damaged: its checksum does not match")
    return tuple(cells)


# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event ready to be written: its row, and what it refers to."""

    seq: int
    cells: Row
    blobs: Mapping[bytes, bytes]


class StoredBlobs(Mapping[bytes, bytes]):
    """What an event refers to: the digests are at hand, data are read when asked for."""

    def __init__(self, digests: bytes, read: Callable[[bytes], bytes]) -> None:
        """Split the joined digests of a row."""
        starts = range(0, len(digests), DIGEST_BYTES)
        self._digests = dict.fromkeys(digests[start : start + DIGEST_BYTES] for start in starts)
        self._read = read

    def __getitem__(self, digest: bytes) -> bytes:
        """Return the data under one of the digests."""
        if digest not in self._digests:
            raise KeyError(digest)
        return self._read(digest)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the digests, in the order they were given."""
        return iter(self._digests)

    def __len__(self) -> int:
        """Return the number of digests."""
        return len(self._digests)


def event_row(event: Event) -> EventRow:
    """Return an event ready to be written."""
    digests = b"".join(event.blobs)
    cells = (event.seq, event.kind, float(event.at), event.subject, event.trajectory_id, event.body, digests)
    return EventRow(event.seq, sealed(*cells), event.blobs)


def event_of(row: Sequence[Cell], read: Callable[[bytes], bytes]) -> Event:
    """Return the event of a row, or raise StoreError when the row is damaged."""
    seq, kind, at, subject, trajectory_id, body, digests = opened(row, f"event {row[0]!r}")
    try:
        return Event(seq, kind, at, subject, trajectory_id, body, StoredBlobs(digests, read))  # type: ignore[arg-type]
    except (InvalidValue, TypeError) as error:
        raise StoreError(f"event {row[0]!r} is damaged: {error}") from error


# -- the ledger --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the log should hold; it changes in the transaction that changes the log.

    Args:
        last_seq: Position of the last event, also of one that only a snapshot holds.
        events: Number of events.
        whole_after: Position after which the log has no hole.
        is_wiping: Whether bytes of erased events may still be in the file.
    """

    last_seq: int = 0
    events: int = 0
    whole_after: int = 0
    is_wiping: bool = False

    def after_events(self, seq: int, added: int) -> Ledger:
        """Return the ledger of a log with `added` more events, the last one at `seq`."""
        return replace(self, last_seq=max(self.last_seq, seq), events=self.events + added)

    def after_snapshot(self, seq: int) -> Ledger:
        """Return the ledger of a log that goes on after a snapshot at `seq`."""
        if seq <= self.last_seq:
            return self
        return replace(self, last_seq=seq, whole_after=seq)  # what the snapshot holds beyond the log is not in it


def read_ledger(connection: sqlite3.Connection) -> Ledger:
    """Return the ledger, or raise StoreError when it is damaged."""
    row = connection.execute("SELECT * FROM ledger").fetchone()
    if row is None:
        return Ledger()
    _, last_seq, events, whole_after, is_wiping = opened(row, "the ledger")
    return Ledger(int(last_seq or 0), int(events or 0), int(whole_after or 0), bool(is_wiping))


def write_ledger(connection: sqlite3.Connection, ledger: Ledger) -> None:
    """Write the ledger."""
    row = sealed(1, ledger.last_seq, ledger.events, ledger.whole_after, int(ledger.is_wiping))
    connection.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?)", row)
