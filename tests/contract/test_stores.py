"""Every store keeps the same promises: what one of them holds after any calls, the others hold too."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sona.errors import InvalidValue, StateError, StoreError
from sona.stores import Event, MemoryStore, Snapshot, SqliteStore, Store, blob_digest, snapshots

BLOBS = (b"", b"one", b"two" * 500, b"three" * 3000)
SUBJECTS = (None, "ann", "bo\u00e9", "lone \ud800")


@pytest.fixture(params=["memory", "sqlite", "sqlite strict", "sqlite relaxed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    kind, _, level = request.param.partition(" ")
    made: Store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "log", durability=level or "batched")
    yield made
    made.close()


def blobs_of(*data: bytes) -> dict[bytes, bytes]:
    return {blob_digest(one): one for one in data}


def event(seq: int, body: bytes = b"body", subject: str | None = None, blobs: tuple[bytes, ...] = ()) -> Event:
    return Event(seq, "note", 0.1 * seq, subject, seq // 2, body, blobs_of(*blobs))


def put(store: Store, *seqs: int) -> None:
    for seq in seqs:
        assert store.append(seq, lambda seq=seq: event(seq), is_acknowledged=True)


def broken() -> Event:
    raise ValueError("no event")


def plain(entry: Event) -> tuple[object, ...]:
    blobs = tuple((digest, entry.blobs[digest]) for digest in entry.blobs)
    return entry.seq, entry.kind, entry.at, entry.subject, entry.trajectory_id, entry.body, blobs


def seqs(store: Store) -> list[int]:
    return [entry.seq for entry in store.events()]


def snapshot(seq: int, data: bytes = b"state") -> Snapshot:
    return Snapshot(seq, 2.0, f"digest {seq}", data)


# -- the log -------------------------------------------------------------------------------------------------------


def test_a_new_store_is_empty(store):
    assert (seqs(store), store.last_seq, store.whole_after) == ([], 0, 0)
    assert store.snapshot() is None
    assert store.setting("x") is None
    assert (store.metrics().queued, store.metrics().written, store.metrics().last_error) == (0, 0, None)


def test_events_come_back_as_they_were_in_order(store):
    sent = [
        Event(2, "k\u00e9", -1.5, "ann", 0, b"", {}),
        Event(
            3, "k", 1e300, "lone \ud800", 2**63 - 1, b"\0\xff" * 999, {blob_digest(b"b"): b"b", blob_digest(b"a"): b"a"}
        ),
        Event(2**63 - 1, "k", -0.0, None, None, b"x", {}),
    ]
    for one in sent:
        assert store.append(one.seq, lambda one=one: one, is_acknowledged=False)
    assert list(map(plain, store.events())) == list(map(plain, sent))
    assert [str(entry.at) for entry in store.events()] == ["-1.5", "1e+300", "0.0"]
    assert store.last_seq == 2**63 - 1


def test_a_part_of_the_log_is_read_by_position_subject_and_request(store):
    for seq in range(1, 601):
        store.append(seq, lambda seq=seq: event(seq, subject=SUBJECTS[seq % 4]), is_acknowledged=False)
    assert [entry.seq for entry in store.events(595)] == [596, 597, 598, 599, 600]
    assert [entry.seq for entry in store.events(2, 5)] == [3, 4, 5]
    assert [entry.seq for entry in store.events(9, 9)] == []
    for subject in SUBJECTS[1:]:
        expected = [seq for seq in range(1, 601) if SUBJECTS[seq % 4] == subject]
        assert [entry.seq for entry in store.events(subject=subject)] == expected
    assert [entry.seq for entry in store.events(trajectory_id=7)] == [14, 15]
    assert [entry.seq for entry in store.events(14, subject="lone \ud800", trajectory_id=7)] == [15]
    assert [entry.seq for entry in store.events(subject="nobody")] == []


def test_events_that_come_while_the_log_is_read_are_not_read(store):
    put(store, 1, 2)
    reading = store.events()
    put(store, 3)
    assert [entry.seq for entry in reading] == [1, 2]


def test_a_blob_is_kept_once(store):
    before = store.metrics().size_bytes
    data = bytes(50_000)
    for seq in range(1, 41):
        store.append(seq, lambda seq=seq: event(seq, blobs=(data,)), is_acknowledged=False)
    store.flush()
    assert store.blob(blob_digest(data)) == data
    assert store.metrics().size_bytes - before < 40 * len(data) / 4


def test_an_unknown_blob_is_a_store_error(store):
    with pytest.raises(StoreError, match="no data is kept"):
        store.blob(blob_digest(b"nowhere"))


@pytest.mark.parametrize("seq", [0, 2, 3, -1, 2**63, True, "4"])
def test_a_position_out_of_order_is_refused_and_nothing_changes(store, seq):
    put(store, 3)
    with pytest.raises(InvalidValue, match="seq"):
        store.append(seq, lambda: event(4), is_acknowledged=True)
    put(store, 4)
    assert seqs(store) == [3, 4]


def test_positions_may_have_gaps(store):
    put(store, 5, 9, 100)
    assert (seqs(store), store.last_seq, store.whole_after) == ([5, 9, 100], 100, 0)


def test_waiting_returns_for_what_was_taken_in_and_fails_for_what_was_not(store):
    put(store, 1, 2)
    store.wait(1)
    store.wait(2)
    assert store.metrics().written == 2
    with pytest.raises(StoreError, match="event 3 was not taken in"):
        store.wait(3)


# -- holes ---------------------------------------------------------------------------------------------------------


def wrong(seq: int) -> dict[str, Callable[[], Event]]:
    return {
        "fails": broken,
        "is at another position": lambda: event(seq + 1),
        "is none": lambda: "event",  # type: ignore[dict-item, return-value]
        "has a blob under another digest": lambda: replace(event(seq), blobs={b"0" * 16: b"data"}),
        "has a blob that is not bytes": lambda: replace(event(seq), blobs={blob_digest(b""): ""}),  # type: ignore[dict-item]
    }


def test_what_comes_after_an_expected_snapshot_is_taken_in_and_kept_with_it(store):
    put(store, 1)
    store.expect_snapshot(1)  # nothing is missing, nothing changes
    put(store, 2)
    store.append(3, broken, is_acknowledged=True)
    with pytest.raises(StoreError, match="event 3 was not taken in"):
        store.wait(3)
    store.expect_snapshot(2)  # of a state before the hole
    assert store.append(4, lambda: event(4), is_acknowledged=True) is False
    store.expect_snapshot(4)
    assert store.append(5, lambda: event(5), is_acknowledged=True)
    store.put_snapshot(snapshot(4))
    store.wait(5)
    assert (seqs(store), store.last_seq, store.whole_after) == ([1, 2, 5], 5, 4)


@pytest.mark.parametrize("why", list(wrong(3)))
def test_after_an_event_that_cannot_be_made_nothing_is_taken_in_until_a_snapshot_closes_the_hole(store, why):
    put(store, 1, 2)
    store.append(3, wrong(3)[why], is_acknowledged=True)
    with pytest.raises(StoreError, match="event 3 was not taken in"):
        store.wait(3)
    assert store.append(4, lambda: event(4), is_acknowledged=True) is False
    assert (seqs(store), store.last_seq) == ([1, 2], 2)
    assert (store.metrics().refused, store.metrics().written) == (2, 2)
    assert store.metrics().last_error
    store.put_snapshot(snapshot(2))  # of a state before the hole
    assert store.append(5, lambda: event(5), is_acknowledged=True) is False
    assert store.whole_after == 0
    store.put_snapshot(snapshot(5))
    assert (store.last_seq, store.whole_after) == (5, 5)
    store.wait(5)
    put(store, 6)
    assert (seqs(store), store.metrics().refused, store.metrics().last_error) == ([1, 2, 6], 3, None)


def test_a_state_from_before_a_hole_is_never_given_out_again(store):
    put(store, 1, 2)
    store.put_snapshot(snapshot(1))
    store.append(3, broken, is_acknowledged=True)
    with pytest.raises(StoreError):
        store.flush() if isinstance(store, SqliteStore) else store.wait(3)
    assert store.snapshot().seq == 1  # what was written is a whole beginning
    store.put_snapshot(snapshot(3))
    assert store.snapshot().seq == 3
    with pytest.raises(StoreError, match="hole"):
        store.snapshot(until=2)


# -- snapshots, settings -------------------------------------------------------------------------------------------


def test_the_last_two_snapshots_are_kept(store):
    put(store, 1, 2, 3, 4)
    for seq in (0, 1, 3, 4):
        store.put_snapshot(snapshot(seq, b"%d" % seq * 1000))
    latest = store.snapshot()
    assert (latest.seq, latest.at, latest.digest, latest.data) == (4, 2.0, "digest 4", b"4" * 1000)
    assert store.snapshot(until=3).data == b"3" * 1000
    assert store.snapshot(until=2) is None
    store.put_snapshot(snapshot(4, b"again"))  # in the place of the one that was there
    assert (store.snapshot().data, store.snapshot(until=3).seq) == (b"again", 3)
    with pytest.raises(InvalidValue, match="at least 4"):
        store.put_snapshot(snapshot(3))


def test_a_snapshot_ahead_of_the_log_closes_what_the_log_lacks(store):
    put(store, 1)
    store.put_snapshot(snapshot(8))
    assert (store.last_seq, store.whole_after) == (8, 8)
    with pytest.raises(InvalidValue):
        store.append(8, lambda: event(8), is_acknowledged=True)


def test_settings_come_back_and_the_last_counts(store):
    store.set_setting("config", "{}")
    store.set_setting("k\ud800", "\u00e9\0\ud800")
    store.set_setting("config", "")
    assert (store.setting("config"), store.setting("k\ud800"), store.setting("other")) == ("", "\u00e9\0\ud800", None)


# -- leases --------------------------------------------------------------------------------------------------------


def test_one_at_a_time_holds_a_lease_and_renews_it_until_it_runs_out(store):
    assert store.lease("learn", "ann", now=0.0, until=10.0)
    assert not store.lease("learn", "bob", now=9.999, until=20.0)
    assert store.lease("learn", "ann", now=9.0, until=15.0)
    assert not store.lease("learn", "bob", now=14.999, until=20.0)
    assert store.lease("learn", "bob", now=15.0, until=20.0)  # at its very end it has run out
    assert not store.lease("learn", "ann", now=19.0, until=30.0)
    assert store.lease("learn", "ann", now=1e9, until=1e9 + 1.0)


def test_a_refused_request_changes_nothing(store):
    assert store.lease("learn", "ann", now=0.0, until=10.0)
    assert not store.lease("learn", "bob", now=5.0, until=1e9)
    assert store.lease("learn", "cid", now=10.0, until=11.0)


def test_a_holder_whose_lease_ran_out_has_it_again_when_nobody_took_it(store):
    assert store.lease("learn", "ann", now=0.0, until=10.0)
    assert store.lease("learn", "ann", now=500.0, until=510.0)
    assert not store.lease("learn", "bob", now=505.0, until=600.0)


def test_a_holder_may_shorten_its_lease(store):
    assert store.lease("learn", "ann", now=0.0, until=1000.0)
    assert store.lease("learn", "ann", now=1.0, until=2.0)
    assert store.lease("learn", "bob", now=2.0, until=3.0)


def test_a_lease_is_let_go_by_its_holder_alone(store):
    store.release("learn", "nobody")
    assert store.lease("learn", "ann", now=0.0, until=10.0)
    store.release("learn", "bob")
    assert not store.lease("learn", "bob", now=1.0, until=10.0)
    store.release("learn", "ann")
    store.release("learn", "ann")
    assert store.lease("learn", "bob", now=1.0, until=10.0)


def test_each_task_has_a_lease_of_its_own_and_is_no_setting_of_that_name(store):
    store.set_setting("learn", "kept")
    assert store.lease("learn", "ann\ud800", now=0.0, until=10.0)
    assert store.lease("dream\u00e9", "bob", now=0.0, until=10.0)
    assert not store.lease("learn", "ann", now=0.0, until=10.0)
    assert store.lease("learn", "ann\ud800", now=0.0, until=10.0)
    store.release("learn", "ann\ud800")
    assert not store.lease("dream\u00e9", "ann", now=0.0, until=10.0)
    assert store.setting("learn") == "kept"


@pytest.mark.parametrize(
    ("task", "holder", "now", "until", "match"),
    [
        ("", "bob", 20.0, 30.0, "task"),
        (None, "bob", 20.0, 30.0, "task"),
        ("learn", " ", 20.0, 30.0, "holder"),
        ("learn", 7, 20.0, 30.0, "holder"),
        ("learn", "bob", float("nan"), 30.0, "now"),
        ("learn", "bob", "soon", 30.0, "now"),
        ("learn", "bob", 20.0, float("inf"), "until"),
        ("learn", "bob", 20.0, 20.0, "after now"),
        ("learn", "bob", 20.0, 19.0, "after now"),
    ],
)
def test_a_lease_that_makes_no_sense_is_refused_and_changes_nothing(store, task, holder, now, until, match):
    assert store.lease("learn", "ann", now=0.0, until=20.0)
    with pytest.raises(InvalidValue, match=match):
        store.lease(task, holder, now=now, until=until)
    assert not store.lease("learn", "cid", now=19.0, until=30.0)
    assert store.lease("learn", "cid", now=20.0, until=30.0)


def test_of_eight_threads_exactly_one_has_the_lease_at_a_time(store):
    granted: list[int] = []

    def work(name: str) -> None:
        mine = (turn for turn in range(20) if store.lease("learn", name, now=10.0 * turn, until=10.0 * turn + 10.0))
        granted.extend(mine)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(granted) == list(range(20))


# -- erasing -------------------------------------------------------------------------------------------------------


def test_erased_events_are_gone_and_others_changed_or_as_they_were(store):
    for seq in range(1, 7):
        one = event(seq, b"%d" % seq, blobs=(BLOBS[1], b"own %d" % seq))
        store.append(seq, partial(lambda one: one, one), is_acknowledged=False)
    store.put_snapshot(snapshot(6))
    changed = event(4, b"less", "ann", (b"new",))
    store.erase([2, 3, 6, 77], [changed], snapshot(6, b"after"))
    assert [(entry.seq, entry.body) for entry in store.events()] == [(1, b"1"), (4, b"less"), (5, b"5")]
    assert [plain(entry) for entry in store.events(subject="ann")] == [plain(changed)]
    assert (store.snapshot().data, store.snapshot(until=5)) == (b"after", None)
    assert (store.last_seq, store.whole_after) == (6, 0)
    for data in (b"own 2", b"own 3", b"own 4", b"own 6"):
        with pytest.raises(StoreError):
            store.blob(blob_digest(data))
    for data in (BLOBS[1], b"own 1", b"own 5", b"new"):
        assert store.blob(blob_digest(data)) == data
    with pytest.raises(InvalidValue):
        store.append(6, lambda: event(6), is_acknowledged=True)
    put(store, 7)
    assert seqs(store) == [1, 4, 5, 7]


def test_an_event_read_back_may_take_its_own_place(store):
    store.append(1, lambda: event(1, b"old", blobs=(b"kept", b"dropped")), is_acknowledged=True)
    (read,) = store.events()
    kept = {digest: data for digest, data in read.blobs.items() if data == b"kept"}
    store.erase([], [replace(read, body=b"new", blobs=kept)], snapshot(1))
    assert [(entry.body, dict(entry.blobs)) for entry in store.events()] == [(b"new", kept)]


def test_erasing_closes_a_hole_that_its_snapshot_holds(store):
    put(store, 1)
    store.append(2, broken, is_acknowledged=True)
    with pytest.raises(StoreError):
        store.wait(2)
    store.erase([1], [], snapshot(2))
    assert (store.last_seq, store.whole_after) == (2, 2)
    put(store, 3)
    assert seqs(store) == [3]


@pytest.mark.parametrize(
    ("gone", "replaced", "at"),
    [([1], [event(1)], 3), ([], [event(9)], 3), ([1], [], 2), ([1], [replace(event(2), blobs={b"0" * 16: b""})], 3)],
)
def test_an_erasure_that_does_not_fit_the_log_changes_nothing(store, gone, replaced, at):
    put(store, 1, 2, 3)
    store.put_snapshot(snapshot(2))
    with pytest.raises(InvalidValue):
        store.erase(gone, replaced, snapshot(at))
    assert (seqs(store), store.snapshot().seq) == ([1, 2, 3], 2)


# -- the store itself ----------------------------------------------------------------------------------------------


def test_a_closed_store_refuses_every_call(store):
    put(store, 1)
    store.close()
    store.close()
    calls = (
        lambda: store.append(2, lambda: event(2), is_acknowledged=True),
        lambda: store.wait(1),
        lambda: list(store.events()),
        lambda: store.blob(b"x"),
        lambda: store.put_snapshot(snapshot(1)),
        store.snapshot,
        lambda: store.setting("x"),
        lambda: store.set_setting("x", "y"),
        lambda: store.lease("x", "y", now=0.0, until=1.0),
        lambda: store.release("x", "y"),
        lambda: store.erase([], [], snapshot(1)),
        store.flush,
        lambda: store.last_seq,
        lambda: store.whole_after,
    )
    for call in calls:
        with pytest.raises(StateError, match="closed"):
            call()
    assert store.metrics().written == 1


def test_eight_threads_lose_nothing(store):
    lock, refused = threading.Lock(), []

    def work(number: int) -> None:
        for _ in range(50):
            with lock:  # positions ascend: who numbers events takes turns
                seq = store.last_seq + 1
                one = partial(event, seq, subject=f"s{number}", blobs=BLOBS[:2])
                taken = store.append(seq, one, is_acknowledged=True)
            if not taken:
                refused.append(seq)
            if seq % 40 == 0:
                store.wait(seq)
                store.set_setting(f"s{number}", str(seq))
                assert store.blob(blob_digest(BLOBS[1])) == BLOBS[1]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert seqs(store) == list(range(1, 401))
    assert all(len(list(store.events(subject=f"s{number}"))) == 50 for number in range(8))


# -- alike ---------------------------------------------------------------------------------------------------------


class Alike(RuleBasedStateMachine):
    """Any calls, made to a store in memory and to one in a file that is closed and opened again now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.small_parts = patch.object(snapshots, "PART_BYTES", 4)  # fewer bytes than most snapshots here have
        self.small_parts.start()
        self.memory, self.sqlite = MemoryStore(), SqliteStore(self.folder / "log")
        self.seq, self.has_hole = 0, False
        self.leases: dict[str, tuple[str, float]] = {}

    @property
    def both(self) -> tuple[Store, Store]:
        return self.memory, self.sqlite

    @rule(
        step=st.integers(1, 3),
        subject=st.sampled_from(SUBJECTS),
        body=st.binary(max_size=20),
        blobs=st.sets(st.sampled_from(BLOBS)),
        is_acknowledged=st.booleans(),
    )
    def append(self, step, subject, body, blobs, is_acknowledged):
        self.seq += step
        one = event(self.seq, body, subject, tuple(sorted(blobs)))
        for store in self.both:
            assert store.append(self.seq, lambda: one, is_acknowledged=is_acknowledged) is not self.has_hole

    @rule()
    def append_what_cannot_be_made(self):
        self.seq += 1
        self.has_hole = True
        for store in self.both:
            store.append(self.seq, broken, is_acknowledged=False)
            with pytest.raises(StoreError):
                store.wait(self.seq)

    @rule(back=st.integers(0, 3), data=st.binary(max_size=9))
    def put_snapshot(self, back, data):
        at = max(0, self.seq - back)
        outcomes = [self.outcome(store.put_snapshot, Snapshot(at, 1.0, "d", data)) for store in self.both]
        assert outcomes[0] == outcomes[1]
        if outcomes[0] is None and at == self.seq:
            self.has_hole = False

    @rule(name=st.sampled_from("ab"), value=st.text(max_size=5))
    def set_setting(self, name, value):
        for store in self.both:
            store.set_setting(name, value)

    @rule(task=st.sampled_from("ab"), holder=st.sampled_from("pqr"), now=st.integers(0, 9), length=st.integers(1, 5))
    def lease(self, task, holder, now, length):
        kept, until = self.leases.get(task, ("", 0.0))
        is_granted = holder == kept or until <= now
        for store in self.both:
            assert store.lease(task, holder, now=now, until=now + length) is is_granted
        if is_granted:
            self.leases[task] = holder, now + length

    @rule(task=st.sampled_from("ab"), holder=st.sampled_from("pqr"))
    def release(self, task, holder):
        for store in self.both:
            store.release(task, holder)
        if self.leases.get(task, ("", 0.0))[0] == holder:
            del self.leases[task]

    @rule(pick=st.randoms(use_true_random=False), back=st.integers(0, 1), blobs=st.sets(st.sampled_from(BLOBS)))
    def erase(self, pick, back, blobs):
        there = seqs(self.memory)
        gone = [seq for seq in there if pick.random() < 0.3]
        changed = [event(seq, b"new", None, tuple(blobs)) for seq in there if seq not in gone and pick.random() < 0.2]
        new = Snapshot(max(0, self.seq - back), 1.0, "e", b"erased")
        outcomes = [self.outcome(store.erase, gone, changed, new) for store in self.both]
        assert outcomes[0] == outcomes[1]
        if outcomes[0] is None and back == 0:
            self.has_hole = False

    @staticmethod
    def outcome(call, *arguments):
        try:
            call(*arguments)
        except InvalidValue as error:
            return str(error)
        return None

    @precondition(lambda self: not self.has_hole)
    @rule(level=st.sampled_from(["relaxed", "batched", "strict"]))
    def open_again(self, level):
        self.sqlite.close()
        self.sqlite = SqliteStore(self.folder / "log", durability=level)

    @invariant()
    def they_hold_the_same(self):
        def held(store: Store) -> object:
            return [plain(entry) for entry in store.events()], store.last_seq, store.whole_after

        assert held(self.memory) == held(self.sqlite)
        for until in (None, self.seq - 1):
            assert self.kept(self.memory, until) == self.kept(self.sqlite, until)
        for name in "ab":
            assert self.memory.setting(name) == self.sqlite.setting(name)
        for data in BLOBS:
            assert self.has(self.memory, data) == self.has(self.sqlite, data)

    @staticmethod
    def kept(store: Store, until: int | None) -> object:
        try:
            found = store.snapshot(until)
        except StoreError:
            return "hole"
        return None if found is None else (found.seq, found.digest, found.data)

    @staticmethod
    def has(store: Store, data: bytes) -> bool:
        try:
            return store.blob(blob_digest(data)) == data
        except StoreError:
            return False

    def teardown(self) -> None:
        self.small_parts.stop()
        self.sqlite.close()
        shutil.rmtree(self.folder)


TestAlike = Alike.TestCase
TestAlike.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
