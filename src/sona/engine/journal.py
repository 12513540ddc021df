"""The journal: gives every event its place in the log, and hands it to a store that never makes a request wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from sona.engine.codec import Decoder, encode
from sona.engine.events import Event
from sona.engine.machine import Machine
from sona.state import State, decode_state, digest, encode_state
from sona.stores.store import Durability, Snapshot, Store
from sona.stores.store import Event as Entry

_STATE_KIND = "machine"
SNAPSHOT_EVERY = 5_000
"""Events after which a new snapshot is worth its writing."""


class Journal:
    """Numbers events and keeps them in a store, if there is one. Whoever calls takes turns."""

    def __init__(self, store: Store | None, seq: int = 0, snapshot_seq: int = 0) -> None:
        """Go on after event `seq`, the last snapshot being that after event `snapshot_seq`."""
        self.store = store
        self._seq = seq
        self._snapshot_seq = snapshot_seq
        self._refused_seq = 0  # the last event that the store did not take in
        self._is_strict = store is not None and store.metrics().durability is Durability.STRICT

    @property
    def seq(self) -> int:
        """The last event's position."""
        return self._seq

    @property
    def has_hole(self) -> bool:
        """True when events were refused and no state after them is kept yet."""
        return self._refused_seq > self._snapshot_seq

    @property
    def is_snapshot_due(self) -> bool:
        """True when the log has a hole, or opening would have to replay much."""
        return self.store is not None and (self.has_hole or self.since_snapshot >= SNAPSHOT_EVERY)

    @property
    def since_snapshot(self) -> int:
        """Events after the last snapshot."""
        return self._seq - self._snapshot_seq

    def append(self, event: Event, *, is_acknowledged: bool = True) -> int:
        """Give `event` its place and return it.

        Args:
            event: What happened.
            is_acknowledged: Whether somebody is told that it is kept.
        """
        self._seq += 1
        if self.store is not None:
            make = partial(encode, self._seq, event)
            if not self.store.append(self._seq, make, is_acknowledged=is_acknowledged):
                self._refused_seq = self._seq
        return self._seq

    def wait(self, seq: int) -> None:
        """Return when event `seq` is as safe as an acknowledgement promises.

        Raises:
            StoreError: it cannot be made so.
        """
        if self.store is not None and self._is_strict:
            self.store.wait(seq)

    def snapshot(self, machine: Machine, now: float) -> Snapshot:
        """Return the machine's state after the last event, to be kept at once: the log goes on after it."""
        state = machine.state()
        snapshot = Snapshot(self._seq, now, digest(state), encode_state(_STATE_KIND, state))
        if self.store is not None:
            self.store.expect_snapshot(snapshot.seq)
        return snapshot

    def keep(self, snapshot: Snapshot) -> None:
        """Put a snapshot into the store, if there is one.

        Raises:
            StoreError: it cannot be written.
        """
        if self.store is not None:
            self.store.put_snapshot(snapshot)
            self._snapshot_seq = snapshot.seq

    def rewritten(self, snapshot: Snapshot) -> None:
        """Note that the store holds another log now, with this state after it."""
        self._snapshot_seq = snapshot.seq


def read_machine(
    store: Store, fresh: Callable[[], Machine], revive: Callable[[State], Machine], *, until: int | None = None
) -> tuple[Machine, int]:
    """Return the machine a store holds, and the position of its last snapshot: that snapshot, and what came after.

    Args:
        store: Where the log is.
        fresh: Makes a machine that knows nothing.
        revive: Makes one from a snapshot's state.
        until: Last event that happens to it; all of them when None.

    Raises:
        StoreError: the store is damaged, or its log has a hole that no snapshot closes.
    """
    snapshot = store.snapshot(until)
    machine = fresh() if snapshot is None else revive(decode_state(snapshot.data, _STATE_KIND, "the snapshot"))
    after = 0 if snapshot is None else snapshot.seq
    replay(machine, store, after=after, until=until)
    return machine, after


def replay(machine: Machine, store: Store, *, after: int = 0, until: int | None = None) -> int:
    """Let the events of a log happen to `machine`; return how many did.

    Raises:
        StoreError: the log is damaged.
    """
    return machine.replay(decoded(machine, store.events(after, until), store))


def decoded(machine: Machine, entries: Iterable[Entry], store: Store) -> Iterator[tuple[int, Event]]:
    """Yield the events of log entries with their positions, read as `machine` is when each of them happens.

    Args:
        machine: To what they happen, one after the other.
        entries: Of the log.
        store: Where the data they refer to are.
    """
    decoder = Decoder(machine, store.blob)
    for entry in entries:
        yield entry.seq, decoder.decode(entry)
