"""The journal: every event has its place, and a hole in the log is known until a state from after it is kept."""

from __future__ import annotations

from sona.config import SonaConfig
from sona.engine.events import Flushed
from sona.engine.journal import Journal
from sona.engine.machine import Machine
from sona.engine.words import Words
from sona.stores import MemoryStore


class Full(MemoryStore):
    """Takes nothing in."""

    def append(self, seq, make, *, is_acknowledged):
        return False


def machine() -> Machine:
    config = SonaConfig(hidden_dim=3)
    return Machine(config, Words(config), b"key")


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
