"""What every store asks of its caller, said in one place so that all stores refuse alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container

from sona.checks import whole
from sona.errors import InvalidValue, StoreError
from sona.stores.store import Event, Snapshot, blob_digest, require_bytes
from sona.types import LARGEST_ID


def require_later(seq: int, last_seq: int) -> None:
    """Raise InvalidValue unless `seq` comes after `last_seq`."""
    if whole(seq, "seq", 1, LARGEST_ID) <= last_seq:
        raise InvalidValue(f"seq: expected a position after {last_seq}, the last one of the log; got {seq}")


def require_newest(snapshot: Snapshot, newest: int) -> None:
    """Raise InvalidValue when `snapshot` is of a state before `newest`, the position of the last one kept."""
    if snapshot.seq < newest:
        raise InvalidValue(f"snapshot: expected seq of at least {newest}, that of the last one; got {snapshot.seq}")


def require_blobs(event: Event) -> None:
    """Raise InvalidValue unless the blobs of `event` are bytes under their own digests."""
    for digest, data in event.blobs.items():
        require_bytes(data, "blob")
        if digest != blob_digest(data):
            raise InvalidValue(f"event {event.seq}: a blob is not kept under its own digest")


def made(seq: int, make: Callable[[], Event]) -> Event:
    """Return the event that `make` makes for position `seq`.

    Raises:
        StoreError: `make` failed, or made something else.
    """
    try:
        event = make()
        if not isinstance(event, Event) or event.seq != seq:
            raise InvalidValue(f"expected an event at {seq}, got {event!r}")
        require_blobs(event)
    except Exception as error:  # whatever it is: `make` is the caller's
        raise StoreError(f"event {seq} could not be made: {error}") from error
    return event


def require_erasable(
    seqs: Collection[int], replaced: Collection[Event], snapshot: Snapshot, last_seq: int, kept: Container[int]
) -> None:
    """Raise InvalidValue unless this can be erased from a log that ends at `last_seq` and holds the events `kept`."""
    if snapshot.seq < last_seq:
        raise InvalidValue(f"snapshot: expected the state after the last event, {last_seq}; got seq {snapshot.seq}")
    for event in replaced:
        require_blobs(event)
        if event.seq in seqs or event.seq not in kept:
            raise InvalidValue(f"replaced: event {event.seq} is not there, or is to be deleted too")
