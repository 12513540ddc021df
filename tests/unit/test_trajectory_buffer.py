"""TrajectoryIds and TrajectoryBuffer: nothing lost, nothing twice, counters that add up."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sona.errors import ConfigError, InvalidValue
from sona.state import read_state, write_state
from sona.trajectory import TrajectoryBuffer, TrajectoryIds
from sona.types import QueryTrajectory


def trajectory(number: int) -> QueryTrajectory:
    return QueryTrajectory(number, np.ones(2, np.float32))


def test_ids_go_on_after_a_restart_and_start_where_told():
    ids = TrajectoryIds(start=5)
    assert ids.last == 4
    assert [ids.next(), ids.next()] == [5, 6]
    again = TrajectoryIds.from_state(ids.state())
    assert (again.last, again.next()) == (6, 7)


def test_ids_are_unique_under_eight_threads():
    ids = TrajectoryIds()
    with ThreadPoolExecutor(8) as pool:
        taken = [n for part in pool.map(lambda _: [ids.next() for _ in range(2000)], range(8)) for n in part]
    assert sorted(taken) == list(range(1, 16_001))


@pytest.mark.parametrize("start", [-1, 1.5, True])
def test_ids_refuse_a_start_that_is_no_id(start):
    with pytest.raises(ConfigError):
        TrajectoryIds(start)


@pytest.mark.parametrize("capacity", [0, -3, 2.5, None])
def test_a_buffer_of_no_capacity_is_refused(capacity):
    with pytest.raises(ConfigError):
        TrajectoryBuffer(capacity)


def test_a_full_buffer_drops_the_newest_and_counts_it():
    buffer = TrajectoryBuffer(2)
    assert buffer.is_empty
    assert buffer.success_rate == 1.0
    assert [buffer.record(trajectory(n)) for n in range(5)] == [True, True, False, False, False]
    assert buffer.is_full
    assert (len(buffer), buffer.capacity, buffer.dropped_count, buffer.total_seen) == (2, 2, 3, 5)
    assert buffer.success_rate == pytest.approx(2 / 5)
    assert [t.id for t in buffer.drain()] == [0, 1]
    assert buffer.is_empty
    assert buffer.record(trajectory(9))


def test_drain_n_takes_the_oldest_and_leaves_the_rest():
    buffer = TrajectoryBuffer(10)
    for n in range(5):
        buffer.record(trajectory(n))
    assert [t.id for t in buffer.drain_n(0)] == []
    assert [t.id for t in buffer.drain_n(2)] == [0, 1]
    assert [t.id for t in buffer.drain_n(99)] == [2, 3, 4]
    with pytest.raises(InvalidValue):
        buffer.drain_n(-1)


def test_what_is_no_trajectory_is_refused_and_not_counted():
    buffer = TrajectoryBuffer(1)
    with pytest.raises(InvalidValue):
        buffer.record("request")
    assert (len(buffer), buffer.total_seen) == (0, 0)


@pytest.fixture
def restless_threads():
    # Threads change places every few instructions, so that a missing lock shows.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless_threads")
def test_eight_threads_lose_nothing_and_double_nothing():
    buffer = TrajectoryBuffer(500)
    taken: list[int] = []
    stop = threading.Event()

    def produce(first: int) -> list[int]:
        return [n for n in range(first, first + 3000) if buffer.record(trajectory(n))]

    def consume(step: int) -> list[int]:
        mine: list[int] = []
        while not stop.is_set():
            mine.extend(t.id for t in (buffer.drain() if step else buffer.drain_n(7)))
        return mine

    with ThreadPoolExecutor(8) as pool:
        consumers = [pool.submit(consume, step) for step in (0, 1)]
        producers = [pool.submit(produce, 10_000 * k) for k in range(6)]
        accepted = [n for future in producers for n in future.result()]
        stop.set()
        taken.extend(n for future in consumers for n in future.result())
    taken.extend(t.id for t in buffer.drain())
    assert Counter(taken) == Counter(accepted)
    assert buffer.total_seen == 18_000
    assert buffer.total_seen - buffer.dropped_count == len(accepted)


def test_a_saved_buffer_comes_back_with_its_contents_and_counters(tmp_path):
    buffer = TrajectoryBuffer(2)
    for n in range(3):
        buffer.record(trajectory(n))
    write_state(tmp_path / "buffer", "buffer", buffer.state())
    again = TrajectoryBuffer.from_state(read_state(tmp_path / "buffer", "buffer"))
    assert (again.capacity, again.dropped_count, again.total_seen, again.success_rate) == (
        2,
        1,
        3,
        pytest.approx(2 / 3),
    )
    assert [t.id for t in again.drain()] == [0, 1]
