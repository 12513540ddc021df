"""A thread that runs the background cycles of a `DagSonaEngine`: the only place of learning from plans with a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sona.checks import setting_number
from sona.engine.worker import Worker
from sona.tuner.dag.engine import DagSonaEngine


class DagWorker:
    """Runs a cycle every `interval_s` seconds between `start` and `stop`; also a context manager.

    A cycle that fails is logged and counted, changes nothing, and the next one comes.

    >>> with DagWorker(DagSonaEngine(), interval_s=60.0) as worker:
    ...     worker.is_running
    True
    >>> worker.is_running
    False
    """

    def __init__(
        self, engine: DagSonaEngine, interval_s: float | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Hold the engine; nothing runs before `start`.

        Args:
            engine: Whose cycles.
            interval_s: Seconds between them; those of the engine's settings when None.
            clock: What says the time, in seconds.

        Raises:
            ConfigError: an interval that is not above 0.
        """
        self._engine, self._clock = engine, clock
        self._interval_s = engine.config.interval_s if interval_s is None else interval_s
        setting_number(self._interval_s, "interval_s", 0.0, open_low=True)
        self._worker: Worker | None = None
        self._stopping = threading.Event()
        self._failures = 0

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._worker is not None and self._worker.is_running

    @property
    def failure_count(self) -> int:
        """Cycles that ended in an error, ever."""
        return self._failures + (0 if self._worker is None else self._worker.failure_count)

    def start(self) -> None:
        """Begin; nothing when it runs already."""
        if self._worker is None:
            self._stopping.clear()
            self._worker = Worker(self._run, self._interval_s)

    def stop(self) -> None:
        """End the thread; a cycle that runs is given up, and what it had begun to learn from waits on."""
        if self._worker is not None:
            self._stopping.set()
            self._worker.stop()
            self._failures += self._worker.failure_count
            self._worker = None

    def _run(self) -> None:
        self._engine.run_background_cycle(now=self._clock(), is_stopping=self._stopping.is_set)

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.stop()
