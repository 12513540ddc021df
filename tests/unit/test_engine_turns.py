"""Turns are taken in the order of coming, by at most so many at a time, and are never lost."""

import sys
import threading

import pytest

from sona import ConfigError
from sona.engine import turns as module
from sona.engine.turns import Turns, usual_turns


def waiting(turns: Turns, count: int) -> None:
    """Return once that many threads wait."""
    while turns.waiting_count < count:
        pass


def run(work, *arguments) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def test_whoever_comes_first_is_let_in_first():
    turns, order, threads = Turns(1), [], []

    def work(name: int) -> None:
        with turns:
            order.append(name)

    with turns:
        for name in range(20):
            threads.append(run(work, name))
            waiting(turns, name + 1)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(20))
    assert turns.waiting_count == 0


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_at_most_so_many_are_in_at_once_and_as_many_where_they_come(at_once):
    turns, inside, most, lock = Turns(at_once), [0], [0], threading.Lock()
    together = threading.Barrier(at_once, timeout=30)

    def work() -> None:
        for turn in range(200):
            with turns:
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                if turn == 0:
                    together.wait()  # passes only when that many are in
                with lock:
                    inside[0] -= 1

    threads = [run(work) for _ in range(2 * at_once)]
    for thread in threads:
        thread.join()
    assert most[0] == at_once
    assert inside[0] == 0


def test_a_turn_that_fails_is_passed_on():
    turns = Turns(1)
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    with turns:
        assert turns.waiting_count == 0


class Interrupted:
    """A lock whose second `acquire` is interrupted, before its turn came or just after."""

    def __init__(self, turns: Turns, after) -> None:
        self._lock, self._turns, self._after, self._calls = threading.Lock(), turns, after, 0

    def acquire(self) -> bool:
        self._calls += 1
        if self._calls == 2:
            self._after()
            raise KeyboardInterrupt
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


@pytest.mark.parametrize("has_come", [False, True], ids=["before its turn", "after its turn had come"])
def test_one_who_is_interrupted_while_waiting_loses_no_turn(monkeypatch, has_come):
    turns = Turns(1)
    turns.__enter__()
    fake = Interrupted(turns, (lambda: turns.__exit__(None, None, None)) if has_come else (lambda: None))
    monkeypatch.setattr(module.threading, "Lock", lambda: fake)
    with pytest.raises(KeyboardInterrupt):
        turns.__enter__()
    monkeypatch.undo()
    assert turns.waiting_count == 0
    if not has_come:
        turns.__exit__(None, None, None)
    entered = threading.Event()

    def work() -> None:
        with turns:
            entered.set()

    run(work).join(10)
    assert entered.is_set()


def test_turns_without_room_are_refused():
    with pytest.raises(ConfigError, match="at_once"):
        Turns(0)


def test_where_python_has_one_lock_two_are_scored_at_once(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert usual_turns() == 2
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 16)
    assert usual_turns() == 16
