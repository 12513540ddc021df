"""Long work made visible on stderr: a bar in a terminal, in a log a line for each stage and every ten seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_LOG_EVERY_S = 10.0


class Work:
    """Shows stages of work, one at a time; nothing of a bar stays on the screen afterwards.

    Args:
        console: Where to; stderr when None.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Show nothing yet."""
        self._console = console or Console(stderr=True, highlight=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to show."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the bar."""
        self._bar.stop()

    def stage(self, name: str) -> None:
        """Say what begins; how much it is, the first `step` tells."""
        if self._bar.disable:
            self._say(name)
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=None, count="")

    def step(self, done: int, total: int) -> None:
        """Say how far the stage is: `done` of `total`."""
        if self._bar.disable:
            if time.monotonic() - self._said_at >= _LOG_EVERY_S:
                self._say(f"  {done:,} of {total:,}")
        elif self._task is not None:
            self._bar.update(self._task, completed=done, total=total, count=f"{done:,} of {total:,}")

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        self._console.print(line, markup=False, emoji=False, soft_wrap=True)
