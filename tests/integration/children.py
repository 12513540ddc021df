"""Python processes beside that of a test: run, spoken with, and killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that runs `code`; in the end it is killed."""
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(code: str, *arguments: object) -> tuple[list[str], str, int]:
    """Return the lines that a process says, its complaints, and how it ended."""
    with running(code, *arguments) as process:
        said, problem = process.communicate(timeout=120)
    return said.splitlines(), problem, process.returncode


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process that waits for a line go on."""
    process.stdin.write("go on\n")
    process.stdin.flush()
