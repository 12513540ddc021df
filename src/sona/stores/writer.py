"""The thread that writes: requests hand events over without waiting for a disk, and what waits is written together."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sona.errors import StoreError
from sona.stores.rules import require_later

T = TypeVar("T")
_BATCH = 1000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_log = logging.getLogger("sona")


@dataclass(frozen=True, slots=True)
class Linger:
    """How long events may wait for company before they are written, in seconds.

    Args:
        acknowledged_s: Those that somebody was told are taken in.
        others_s: All others.
    """

    acknowledged_s: float
    others_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """A hole that a state closes which is not written yet.

    Args:
        before: The last event taken in before the hole.
        after: Position of the state; what comes later waits for it.
    """

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events that were offered; see `StoreMetrics`."""

    queued: int
    written: int
    refused: int
    failures: int
    last_error: str | None


class Writer(Generic[T]):
    """A bounded queue in front of a disk, emptied by one thread, in order, without holes.

    A batch that cannot be written is kept and tried again, at growing intervals. A full queue refuses, and after one
    refusal it refuses everything until `go_on_after` says that the hole is closed. What cannot be made leaves a
    hole in the same way. While a state that closes the hole is being written, what comes after it is held back.

    Args:
        commit: Writes a batch as a whole, or raises StoreError and writes nothing.
        last_seq: Position of the last event there is.
        linger: How long events may wait for company.
        capacity: Events that may wait.
        limit_s: Seconds without progress after which `wait`, `flush` and `stop` give up.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], None],
        last_seq: int,
        *,
        linger: Linger,
        capacity: int,
        limit_s: float = 5.0,
    ) -> None:
        """Start the thread."""
        self._commit, self._linger, self._capacity, self._limit_s = commit, linger, capacity, limit_s
        self._lock = threading.Lock()
        self._work, self._done = threading.Condition(self._lock), threading.Condition(self._lock)
        self._waiting: deque[tuple[int, Callable[[], T]]] = deque()
        self._made: list[T] = []  # the first of those that wait, made; only the thread uses it
        self._last_seq = self._written_seq = last_seq
        self._hole: int | None = None  # the last position that was refused, until the hole is closed
        self._held: Held | None = None  # what waits for a state that closes it
        self._due = math.inf  # when the next batch is to be written
        self._retry_at = self._pause_s = 0.0  # after a failure: not before, and for how long
        self._written = self._refused = self._failures = 0
        self._last_error: str | None = None
        self._is_stopping = self._is_given_up = False
        self._thread = threading.Thread(target=self._run, name="sona-store", daemon=True)
        self._thread.start()

    @property
    def last_seq(self) -> int:
        """Position of the last event that was taken in."""
        return self._last_seq

    def counts(self) -> Counts:
        """Return what became of the events that were offered."""
        with self._lock:
            return Counts(len(self._waiting), self._written, self._refused, self._failures, self._last_error)

    # -- for callers ---------------------------------------------------------------------------------------------------

    def offer(self, seq: int, make: Callable[[], T], *, is_acknowledged: bool) -> bool:
        """Take in the event at `seq` without waiting, or return False when the queue is full or has a hole.

        Raises:
            InvalidValue: `seq` is not after `last_seq`.
        """
        with self._lock:
            require_later(seq, self._last_seq)
            if self._hole is not None or self._is_stopping or len(self._waiting) >= self._capacity:
                self._refuse(1, seq)
                return False
            self._waiting.append((seq, make))
            self._last_seq = seq
            self._hasten(time.monotonic() + self._patience_s(is_acknowledged))
            return True

    def _refuse(self, count: int, seq: int) -> None:
        if self._hole is None:
            _log.error("event %d is not written; the log goes on after the next snapshot", seq)
        self._hole = max(seq, self._hole or 0)
        self._refused += count

    def _patience_s(self, is_acknowledged: bool) -> float:
        if 2 * len(self._waiting) >= self._capacity:
            return 0.0
        return self._linger.acknowledged_s if is_acknowledged else self._linger.others_s

    def _hasten(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._work.notify()

    def wait(self, seq: int) -> None:
        """Return when everything up to `seq` is written, at once if possible.

        Raises:
            StoreError: it was not taken in, or nothing could be written for as long as the limit.
        """
        with self._lock:
            if self._waiting:
                self._hasten(0.0)
            self._await(lambda: self._written_seq >= seq or self._last_seq < seq)
            if self._last_seq < seq:
                raise StoreError(f"event {seq} was not taken in: {self._last_error or 'the queue was full'}")
            if self._written_seq < seq:
                reason = self._last_error or "the disk is slow"
                raise StoreError(f"event {seq} could not be written; nothing was for {self._limit_s:g} s: {reason}")

    def _await(self, is_done: Callable[[], bool]) -> None:
        # Gives up when nothing at all is written for so long; a long queue that is being emptied is waited for.
        while not is_done():
            written = self._written
            if not self._done.wait_for(partial(self._is_further, is_done, written), self._limit_s):
                return

    def _is_further(self, is_done: Callable[[], bool], written: int) -> bool:
        return is_done() or self._written > written

    def flush(self) -> None:
        """Return when everything taken in is written, or raise StoreError."""
        self.wait(self._last_seq)

    @contextlib.contextmanager
    def keeping(self, seq: int) -> Iterator[None]:
        """Have written what comes before a state after `seq` that is written now, and what comes later after it.

        Raises:
            StoreError: what comes before could not be written for as long as the limit.
        """
        last = self.hold_after(seq)
        try:
            self.wait(last)
            yield
        except BaseException:
            self.refuse_after(seq)
            raise
        self.go_on_after(seq)

    def hold_after(self, seq: int) -> int:
        """Take events in again after `seq`, if a hole was all before it; return the last position taken in before.

        They are not written until `go_on_after` says that a state with what was refused is kept; `refuse_after`
        says that it is not.
        """
        with self._lock:
            if self._held is not None and self._held.after != seq:
                self._refuse_held(self._held.after)
            if self._hole is not None and seq >= self._hole:
                self._held, self._hole = Held(self._last_seq, seq), None
                self._last_seq = max(self._last_seq, seq)
            return self._last_seq if self._held is None else self._held.before

    def refuse_after(self, seq: int) -> None:
        """Refuse what was held back after `seq`: the hole before it could not be closed."""
        with self._lock:
            if self._held is not None and self._held.after == seq:
                self._refuse_held(seq)

    def _refuse_held(self, seq: int) -> None:
        count = len(self._waiting)
        self._waiting = deque(itertools.takewhile(lambda entry: entry[0] <= seq, self._waiting))
        self._refused += count - len(self._waiting)
        self._hole, self._held = self._last_seq, None
        self._last_seq = self._waiting[-1][0] if self._waiting else self._written_seq
        self._done.notify_all()

    def go_on_after(self, seq: int) -> None:
        """Write events again after `seq`, if a hole was all before it: a state that holds them is kept."""
        with self._lock:
            self._last_seq, self._written_seq = max(self._last_seq, seq), max(self._written_seq, seq)
            if self._hole is not None and seq >= self._hole:
                self._hole = None
            if self._hole is None:
                self._last_error = None
            if self._held is not None and seq >= self._held.after:
                self._held = None
                self._hasten(0.0)
                self._done.notify_all()

    def stop(self) -> None:
        """Write what waits and end the thread.

        Raises:
            StoreError: something could not be written; the thread has ended all the same.
        """
        with self._lock:
            self._is_stopping = True
            self._work.notify()
            self._await(lambda: not self._waiting)
            self._is_given_up = True
            self._work.notify()
        self._thread.join()
        if self._waiting:
            raise StoreError(f"{len(self._waiting)} events could not be written: {self._last_error}")

    # -- on the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._is_due():
            self._make()
            if self._made:
                self._write()

    def _is_due(self) -> bool:
        # Sleeps until a batch is due; False when the thread is to end.
        with self._lock:
            while True:
                if self._is_stopping and (self._is_given_up or not self._waiting):
                    return False
                if not self._waiting or self._is_held(self._waiting[0]):
                    self._due = math.inf
                    self._work.wait()
                    continue
                due = max(0.0 if self._is_stopping else self._due, self._retry_at)
                pause_s = due - time.monotonic()
                if pause_s <= 0.0:
                    self._due = math.inf
                    return True
                self._work.wait(min(pause_s, _LONGEST_PAUSE_S))

    def _is_held(self, entry: tuple[int, Callable[[], T]]) -> bool:
        return self._held is not None and entry[0] > self._held.after

    def _make(self) -> None:
        if self._made:  # a batch that could not be written yet
            return
        with self._lock:
            free = itertools.takewhile(lambda entry: not self._is_held(entry), self._waiting)
            taken = list(itertools.islice(free, _BATCH))
        for _, make in taken:
            try:
                self._made.append(make())
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live on
                self._drop(len(self._made), error)
                return

    def _drop(self, first: int, error: Exception) -> None:
        # What comes after an event that cannot be made would follow a hole.
        with self._lock:
            kept = list(itertools.islice(self._waiting, first))
            dropped = len(self._waiting) - first
            _log.error("%s", error, exc_info=error)
            self._last_error = str(error)
            self._refuse(dropped, self._last_seq)
            self._waiting = deque(kept)
            self._last_seq = kept[-1][0] if kept else self._written_seq
            self._done.notify_all()

    def _write(self) -> None:
        try:
            self._commit(self._made)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live on
            self._failed(error)
            return
        with self._lock:
            if self._pause_s:
                _log.warning("writing works again; nothing that was taken in is lost")
            for _ in self._made:
                self._written_seq = self._waiting.popleft()[0]
            self._written += len(self._made)
            self._retry_at = self._pause_s = 0.0
            self._last_error = None if self._hole is None else self._last_error
            self._made = []
            if len(self._waiting) and self._due == math.inf:
                self._due = 0.0
            self._done.notify_all()

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if not self._pause_s:
                _log.error("cannot write: %s; it is tried again until it works", error)
            self._pause_s = min(2.0 * self._pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            self._retry_at = time.monotonic() + self._pause_s
            self._due = 0.0
            self._failures += 1
            self._last_error = str(error)
