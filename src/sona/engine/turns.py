"""Turns: a few requests at a time are scored, in the order they came.

A thread that is to take Python's lock from a busy one waits for it up to a switch interval, 5 ms, and who gets it is
chance; many threads that all score wait for each other in this way, some of them many times over. Taking turns, each
waits once, for those before it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from types import TracebackType

from sona.checks import setting_whole


def usual_turns() -> int:
    """Return how many requests it pays to score at once.

    Two where Python has one lock: one computes in the kernel, without that lock, while another holds it. Without it, a
    request a core.
    """
    is_locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    return 2 if is_locked else max(os.cpu_count() or 1, 2)


class Turns:
    """Lets at most so many threads in at once, first come, first served; one that fails or is interrupted passes on.

    Not for a thread that is in already.

    >>> turns = Turns(1)
    >>> with turns:
    ...     turns.waiting_count
    0
    """

    __slots__ = ("_free", "_lock", "_waiting")

    def __init__(self, at_once: int) -> None:
        """Let `at_once` threads in at a time, at least 1."""
        setting_whole(at_once, "at_once", 1)
        self._free = at_once
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()  # one each, held until its turn comes

    @property
    def waiting_count(self) -> int:
        """Threads that wait for their turn."""
        return len(self._waiting)

    def __enter__(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # interrupted: give the turn up, or on when it had come already
            self._give_up(turn)
            raise

    def _give_up(self, turn: threading.Lock) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let in whoever came next."""
        self._pass_on()
