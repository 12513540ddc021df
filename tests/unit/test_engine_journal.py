"""The journal: every event has its place, and a hole in the log is known until a state from after it is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.config import SonaConfig
from sona.engine.events import Begun, Event, Flushed, Indexed, ModeSet, Remembered
from sona.engine.journal import SNAPSHOT_EVERY, Journal, read_machine, replay
from sona.engine.machine import Machine
from sona.engine.words import Words
from sona.errors import StoreError
from sona.state import digest, encode_state
from sona.stores import Durability, MemoryStore


class Full(MemoryStore):
    """Takes nothing in."""

    def append(self, seq, make, *, is_acknowledged):
        return False


class Strict(MemoryStore):
    """Has to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[int] = []

    def metrics(self):
        return replace(super().metrics(), durability=Durability.STRICT)

    def wait(self, seq, *more):
        self.waited.append(seq)


CONFIG = SonaConfig(hidden_dim=3)


def machine() -> Machine:
    return Machine(CONFIG, Words(CONFIG), b"key")


def revived(state) -> Machine:
    return Machine.from_state(state, CONFIG, Words.from_state(state.child("words"), CONFIG, None, None))


def happened(journal: Journal, made: Machine, *events: Event) -> None:
    for event in events:
        made.apply(event, journal.append(event))


STORY = (
    Remembered(1.0, "the first", "one", np.array([1.0, 0.0, 0.0], np.float32)),
    Indexed(2.0),
    Begun(3.0, 7, "me"),
    ModeSet(4.0, "shadow"),
)


def test_a_snapshot_is_due_after_a_refusal_until_one_is_kept_that_holds_what_was_refused():
    journal = Journal(Full())
    assert not journal.is_snapshot_due
    assert journal.append(Flushed(0.0)) == 1
    assert journal.is_snapshot_due
    early = journal.snapshot(machine(), 0.0)
    journal.append(Flushed(0.0))  # refused while the snapshot is being written
    journal.keep(early)
    assert journal.is_snapshot_due
    journal.keep(journal.snapshot(machine(), 0.0))
    assert not journal.is_snapshot_due


def test_without_a_store_nothing_is_refused():
    journal = Journal(None)
    assert [journal.append(Flushed(0.0)) for _ in range(3)] == [1, 2, 3]
    assert not journal.is_snapshot_due


def test_after_a_snapshot_is_made_the_log_goes_on_before_it_is_kept():
    journal, expected = Journal(MemoryStore()), []
    journal.store.expect_snapshot = expected.append
    journal.append(Flushed(0.0))
    journal.snapshot(machine(), 0.0)
    assert expected == [1]


def test_who_needs_it_safe_waits_and_nobody_else():
    strict = Strict()
    Journal(strict).wait(5)
    assert strict.waited == [5]
    Journal(None).wait(5)
    lax = MemoryStore()
    lax.wait = None  # asking it would be an error
    Journal(lax).wait(5)


def test_a_snapshot_is_due_when_opening_would_have_to_replay_much():
    journal = Journal(MemoryStore(), SNAPSHOT_EVERY - 1)
    assert not journal.is_snapshot_due
    journal.append(Flushed(0.0))
    assert journal.is_snapshot_due
    journal.keep(journal.snapshot(machine(), 0.0))
    assert (journal.is_snapshot_due, journal.since_snapshot) == (False, 0)


def test_a_log_that_was_rewritten_goes_on_after_its_new_state():
    journal = Journal(MemoryStore())
    journal.append(Flushed(0.0))
    snapshot = journal.snapshot(machine(), 0.0)
    journal.append(Flushed(0.0))
    journal.rewritten(snapshot)
    assert journal.since_snapshot == 1


def test_the_log_gives_the_machine_it_was_written_by():
    store, made = MemoryStore(), machine()
    happened(Journal(store), made, *STORY)
    again = machine()
    assert replay(again, store) == len(STORY)
    assert digest(again.state()) == digest(made.state()) != digest(machine().state())
    read, after = read_machine(store, machine, revived)
    assert (digest(read.state()), after) == (digest(made.state()), 0)


def test_a_snapshot_saves_the_way_to_it_and_what_came_after_happens_again():
    store, made = MemoryStore(), machine()
    journal = Journal(store)
    happened(journal, made, *STORY[:2])
    journal.keep(journal.snapshot(made, 2.0))
    happened(journal, made, *STORY[2:])

    def never() -> Machine:
        raise AssertionError("it was read from the beginning")

    read, after = read_machine(store, never, revived)
    assert (digest(read.state()), after) == (digest(made.state()), 2)


def test_a_moment_of_the_past_is_what_had_happened_until_then():
    store, made, digests = MemoryStore(), machine(), []
    journal = Journal(store)
    for event in STORY:
        happened(journal, made, event)
        digests.append(digest(made.state()))
        if journal.seq == 2:
            journal.keep(journal.snapshot(made, 2.0))
    for seq, wanted in enumerate(digests, 1):
        read, after = read_machine(store, machine, revived, until=seq)
        assert digest(read.state()) == wanted
        assert after == (2 if seq >= 2 else 0)


def test_a_snapshot_of_another_kind_is_refused():
    store = MemoryStore()
    journal = Journal(store)
    journal.append(Flushed(0.0))
    snapshot = journal.snapshot(machine(), 0.0)
    store.put_snapshot(replace(snapshot, data=encode_state("another", machine().state())))
    with pytest.raises(StoreError, match="another"):
        read_machine(store, machine, revived)
