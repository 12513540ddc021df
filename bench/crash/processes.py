"""Processes forked off a warm one, so that a life costs no imports: one that is killed, and one that looks."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from crash.workload import Busy, Plan

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that a process wrote down.

    Args:
        kind: What was done.
        key: To what.
        value: What it became.
        at: Monotonic seconds when the call had returned.
    """

    kind: str
    key: str
    value: str
    at: float


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill.

    Args:
        after: The first thing written down after which the delay runs; from the start when empty.
        delay_s: Seconds.
    """

    after: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Life:
    """What a process had written down when it was killed.

    Args:
        told: In the order of writing.
        killed_at: Monotonic seconds.
    """

    told: tuple[Told, ...]
    killed_at: float


@dataclass(slots=True)
class _Lines:
    # What comes out of a pipe, line by line; one that was cut off does not count.
    source: int
    told: list[Told] = field(default_factory=list)
    rest: bytes = b""
    is_over: bool = False

    def read(self, limit_s: float) -> None:
        if not select.select([self.source], [], [], max(limit_s, 0.0))[0]:
            return
        data = os.read(self.source, 1 << 16)
        self.is_over = not data
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            kind, key, value, at = line.decode().split("\t")
            self.told.append(Told(kind, key, value, float(at)))

    def has(self, kind: str) -> bool:
        return any(told.kind == kind for told in self.told)


@contextlib.contextmanager
def forked(work: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """Run `work`, given the pipe's writing end, in a process of its own; lend its id and the reading end."""
    source, sink = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if not process:
        status = 1
        try:
            os.close(source)
            work(sink)
            status = 0
        except BaseException:  # noqa: BLE001 - nothing of the parent may go on in the child
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(sink)
    try:
        yield process, source
    finally:
        os.close(source)
        os.waitpid(process, 0)


def lived(plan: Plan, moment: Moment) -> Life:
    """Let a process use an engine as planned, kill it at the moment, and return what it had written down."""
    with forked(lambda sink: Busy(plan, sink).run()) as (process, source):
        lines, deadline = _Lines(source), time.monotonic() + _PATIENCE_S
        while moment.after and not (lines.has(moment.after) or lines.is_over or time.monotonic() > deadline):
            lines.read(1.0)
        until = time.monotonic() + moment.delay_s
        while not lines.is_over and time.monotonic() < until:
            lines.read(until - time.monotonic())
        killed_at = time.monotonic()
        os.kill(process, signal.SIGKILL)
        while not lines.is_over:
            lines.read(_PATIENCE_S)
    return Life(tuple(lines.told), killed_at)


def found_by_another(look: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Return what `look` finds in a process of its own, so that this one stays without threads and open files.

    Raises:
        RuntimeError: it found nothing, because it ended in an error, which it has printed.
    """

    def work(sink: int) -> None:
        with os.fdopen(sink, "w") as file:
            json.dump(look(), file)

    with forked(work) as (_, source), os.fdopen(os.dup(source)) as file:
        said = file.read()
    if not said:
        raise RuntimeError("the file could not be looked at")
    found: dict[str, object] = json.loads(said)
    return found
