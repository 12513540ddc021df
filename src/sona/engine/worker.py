"""A background thread that calls something now and then, and stops when told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sona.errors import SonaError

_log = logging.getLogger("sona")


class Worker:
    """Calls `work` every `period_s` seconds until stopped; an error is logged and counted, and the next call comes."""

    def __init__(self, work: Callable[[], object], period_s: float) -> None:
        """Start the thread."""
        self._work, self._period_s = work, period_s
        self._stop = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="sona-background", daemon=True)
        self._thread.start()

    @property
    def failure_count(self) -> int:
        """Calls that ended in an error."""
        return self._failures

    @property
    def is_running(self) -> bool:
        """True until the thread has ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._work()
            except SonaError:
                self._failures += 1
                _log.exception("background learning failed; it is tried again in %g s", self._period_s)

    def stop(self) -> None:
        """Ask the thread to stop and wait for it; a cycle in progress is finished first."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
