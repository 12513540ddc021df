"""The writing thread: in order, without holes; it waits out faults, and refuses rather than blocks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from sona.errors import InvalidValue, StoreError
from sona.stores.writer import Linger, Writer

AT_ONCE = Linger(0.0, 0.0)


class Disk:
    """Takes batches down; it can be held, and can fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.tries: list[list[int]] = []
        self.is_failing = False
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def __call__(self, batch: Sequence[int]) -> None:
        self.reached.set()
        assert self.open.wait(10.0)
        self.tries.append(list(batch))
        if self.is_failing:
            raise StoreError("the disk is full")
        self.batches.append(list(batch))

    @property
    def content(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def start(disk: Disk) -> Iterator[Callable[..., Writer[int]]]:
    writers: list[Writer[int]] = []

    def make(*, linger: Linger = AT_ONCE, capacity: int = 100, limit_s: float = 5.0, last_seq: int = 0) -> Writer[int]:
        writers.append(Writer(disk, last_seq, linger=linger, capacity=capacity, limit_s=limit_s))
        return writers[-1]

    yield make
    disk.open.set()
    disk.is_failing = False
    for writer in writers:
        writer.stop()


def offer(writer: Writer[int], *seqs: int, is_acknowledged: bool = True) -> list[bool]:
    return [writer.offer(seq, lambda seq=seq: seq, is_acknowledged=is_acknowledged) for seq in seqs]


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def broken() -> int:
    raise StoreError("event 3 could not be made")


def test_everything_is_written_in_order(disk, start):
    writer = start()
    offer(writer, *range(1, 51))
    writer.flush()
    assert disk.content == list(range(1, 51))
    assert writer.counts().written == 50
    assert writer.last_seq == 50


def test_what_waits_is_written_together(disk, start):
    writer = start()
    disk.open.clear()
    offer(writer, 1)
    assert disk.reached.wait(5.0)
    offer(writer, *range(2, 30))
    disk.open.set()
    writer.flush()
    assert disk.batches == [[1], list(range(2, 30))]


def test_a_batch_is_bounded(disk, start):
    writer = start(capacity=5000, linger=Linger(60.0, 60.0))
    offer(writer, *range(1, 2401))
    writer.flush()
    assert disk.content == list(range(1, 2401))
    assert max(map(len, disk.batches)) == 1000


def test_events_wait_for_company_unless_somebody_was_told_of_them(disk, start):
    writer = start(linger=Linger(0.0, 60.0))
    offer(writer, 1, 2, is_acknowledged=False)
    time.sleep(0.05)
    assert disk.batches == []
    offer(writer, 3, is_acknowledged=True)
    wait_for(lambda: disk.batches == [[1, 2, 3]])


def test_events_are_written_without_being_asked_for(disk, start):
    writer = start(linger=Linger(0.02, 0.02))
    for seq in (1, 2):  # the second finds the thread asleep
        offer(writer, seq)
        wait_for(lambda seq=seq: disk.content[-1:] == [seq])


def test_a_queue_half_full_is_not_left_to_wait(disk, start):
    writer = start(linger=Linger(60.0, 60.0), capacity=10)
    offer(writer, 1, 2, 3, 4)
    time.sleep(0.05)
    assert disk.content == []
    offer(writer, 5)
    wait_for(lambda: disk.content == [1, 2, 3, 4, 5])


def test_waiting_for_an_event_writes_at_once_and_leaves_the_thread_able_to_wake(disk, start):
    writer = start(linger=Linger(60.0, 60.0))
    writer.flush()  # nothing waits
    offer(writer, 1)
    writer.wait(1)
    writer.wait(1)
    offer(writer, 2)
    writer.wait(2)
    assert disk.batches == [[1], [2]]


def test_offering_does_not_wait_for_the_disk(disk, start):
    writer = start(capacity=50)
    disk.open.clear()
    assert offer(writer, *range(1, 61)) == [True] * 50 + [False] * 10
    assert disk.tries == []
    assert writer.counts().queued == 50


def test_after_a_full_queue_nothing_is_taken_in_until_the_hole_is_closed(disk, start, caplog):
    writer = start(capacity=2)
    disk.open.clear()
    assert offer(writer, 1, 2, 3) == [True, True, False]
    disk.open.set()
    writer.flush()
    assert offer(writer, 4, 5) == [False, False]
    assert (writer.last_seq, writer.counts().refused) == (2, 3)
    with pytest.raises(StoreError, match="event 4 was not taken in"):
        writer.wait(4)
    writer.go_on_after(4)  # the refused event 5 is in no state yet
    assert offer(writer, 6) == [False]
    writer.go_on_after(6)
    assert (writer.last_seq, offer(writer, 7)) == (6, [True])
    writer.flush()
    assert disk.content == [1, 2, 7]
    assert len([record for record in caplog.records if "not written" in record.message]) == 1


def with_a_hole(disk: Disk, start: Callable[..., Writer[int]]) -> Writer[int]:
    writer = start(capacity=2, limit_s=0.05)
    disk.open.clear()
    offer(writer, 1, 2, 3)
    disk.open.set()
    writer.flush()
    return writer


def test_while_a_state_that_closes_a_hole_is_written_what_comes_after_it_is_held_back(disk, start):
    writer = with_a_hole(disk, start)
    assert writer.hold_after(2) == 2  # the refused event 3 is not in that state
    assert offer(writer, 4) == [False]
    assert writer.hold_after(4) == 2
    assert offer(writer, 5, 6, 7) == [True, True, False]
    with pytest.raises(StoreError, match="event 5 could not be written"):
        writer.wait(5)
    writer.wait(2)
    assert disk.content == [1, 2]
    writer.go_on_after(4)
    writer.wait(6)
    assert disk.content == [1, 2, 5, 6]
    assert writer.hold_after(7) == 6
    writer.go_on_after(7)
    offer(writer, 8)
    writer.flush()
    assert disk.content == [1, 2, 5, 6, 8]


def test_what_was_held_back_for_a_state_that_could_not_be_written_is_refused(disk, start):
    writer = with_a_hole(disk, start)
    writer.hold_after(3)
    assert offer(writer, 4, 5) == [True, True]
    writer.refuse_after(3)
    assert (writer.counts().refused, writer.counts().queued, writer.last_seq) == (3, 0, 2)
    with pytest.raises(StoreError, match="event 4 was not taken in"):
        writer.wait(4)
    writer.go_on_after(4)  # event 5 is in no state yet
    assert offer(writer, 6) == [False]
    writer.hold_after(6)
    writer.go_on_after(6)
    offer(writer, 7)
    writer.flush()
    assert disk.content == [1, 2, 7]
    writer.refuse_after(6)  # nothing is held back any more
    assert offer(writer, 8) == [True]


def test_a_state_may_be_expected_before_it_is_written_and_another_may_come_in_its_place(disk, start):
    writer = with_a_hole(disk, start)
    writer.hold_after(3)
    assert offer(writer, 4) == [True]
    with writer.keeping(3):
        assert offer(writer, 5) == [True]
        assert disk.content == [1, 2]
    writer.flush()
    assert disk.content == [1, 2, 4, 5]
    disk.open.clear()
    assert offer(writer, 6, 7, 8) == [True, True, False]
    disk.open.set()
    writer.flush()
    writer.hold_after(8)
    assert offer(writer, 9) == [True]
    with writer.keeping(9):  # of the state after 9, so that 9 need not be written
        assert offer(writer, 10) == [True]
    writer.flush()
    assert disk.content == [1, 2, 4, 5, 6, 7, 10]


@pytest.mark.parametrize("seq", [0, 4, 5])
def test_positions_ascend(start, seq):
    writer = start(last_seq=5)
    with pytest.raises(InvalidValue, match="seq: expected"):
        writer.offer(seq, lambda: 0, is_acknowledged=True)
    assert writer.counts().queued == 0


def test_a_fault_is_waited_out_said_once_and_loses_nothing(disk, start, caplog):
    caplog.set_level(logging.INFO, "sona")
    writer = start(limit_s=0.05)
    disk.is_failing = True
    offer(writer, 1, 2)
    wait_for(lambda: writer.counts().failures >= 2)
    offer(writer, 3)
    with pytest.raises(StoreError, match=r"event 3 could not be written; nothing was for 0\.05 s: the disk is full"):
        writer.wait(3)
    with pytest.raises(StoreError):
        writer.flush()
    assert (writer.counts().last_error, writer.counts().written) == ("the disk is full", 0)
    disk.is_failing = False
    wait_for(lambda: disk.content == [1, 2, 3])
    wait_for(lambda: writer.counts().last_error is None)
    assert writer.counts().queued == 0
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_long_queue_that_is_being_emptied_is_waited_for(disk):
    def slowly(batch):
        time.sleep(0.06)
        disk(batch)

    writer = Writer(slowly, 0, linger=AT_ONCE, capacity=4000, limit_s=0.1)
    offer(writer, *range(1, 3501))
    writer.wait(3500)
    offer(writer, *range(3501, 7001))
    writer.stop()
    assert disk.content == list(range(1, 7001))


def test_tries_grow_rarer(disk, start):
    writer = start()
    disk.is_failing = True
    offer(writer, 1)
    wait_for(lambda: len(disk.tries) == 1)
    began = time.monotonic()
    for seq in range(2, 40):  # calls do not hasten what cannot be done
        offer(writer, seq)
    wait_for(lambda: len(disk.tries) == 3)
    assert time.monotonic() - began > 0.12  # .05 and .1 s
    assert len(disk.tries) == 3


def test_an_event_is_made_once_whatever_becomes_of_it(disk, start):
    writer = start()
    made: list[int] = []
    disk.is_failing = True
    writer.offer(1, lambda: made.append(1) or 1, is_acknowledged=True)
    wait_for(lambda: len(disk.tries) >= 2)
    disk.is_failing = False
    writer.flush()
    assert made == [1]


def test_what_cannot_be_made_ends_the_log_before_it(disk, start):
    writer = start(linger=Linger(60.0, 60.0))
    offer(writer, 1, 2)
    writer.offer(3, broken, is_acknowledged=True)
    offer(writer, 4, 5)
    with pytest.raises(StoreError, match="event 5 was not taken in: event 3 could not be made"):
        writer.wait(5)
    writer.wait(2)
    assert (disk.content, writer.last_seq) == ([1, 2], 2)
    assert (writer.counts().refused, writer.counts().last_error) == (3, "event 3 could not be made")
    assert offer(writer, 6) == [False]
    writer.go_on_after(6)
    offer(writer, 7)
    writer.flush()
    assert (disk.content, writer.counts().last_error) == ([1, 2, 7], None)


def test_stopping_writes_what_waits(disk):
    writer = Writer(disk, 0, linger=Linger(60.0, 60.0), capacity=100)
    offer(writer, 1, 2, 3)
    writer.stop()
    assert disk.content == [1, 2, 3]
    assert offer(writer, 4) == [False]


def test_stopping_says_what_could_not_be_written(disk):
    before = set(threading.enumerate())
    writer = Writer(disk, 0, linger=AT_ONCE, capacity=100, limit_s=0.05)
    disk.is_failing = True
    offer(writer, 1, 2)
    with pytest.raises(StoreError, match="2 events could not be written: the disk is full"):
        writer.stop()
    assert set(threading.enumerate()) <= before
