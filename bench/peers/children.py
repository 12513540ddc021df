"""Peers in processes of their own: told what to measure, they time themselves, one round when they are asked.

So neither starting a process nor talking to it is in a figure, and rounds take turns with ours.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speed.timing import Source

_HERE = Path(__file__).parent


class PeerLost(Exception):
    """A peer's process ended, or said that it failed."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be measured: a case that drivers know by name, and its sizes."""

    case: str
    sizes: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Command:
    """How a peer's driver is started."""

    words: Sequence[str]
    environment: Mapping[str, str]


class Peer:
    """A driver in a process: one line of JSON each way.

    Args:
        command: How it is started.
    """

    def __init__(self, command: Command) -> None:
        """Start it, and learn the version it drives.

        Raises:
            PeerLost: it cannot be started, or its package cannot be loaded.
        """
        self._command = command
        self._process = subprocess.Popen(
            [*command.words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(command.environment),
        )
        self.version = str(self._heard()["version"])

    def source(self, question: Question) -> Source | None:
        """Return what measures `question` once; None, and a line printed, when this peer has no such thing."""
        try:
            answer = self._said({"prepare": question.case, "sizes": dict(question.sizes)})
        except PeerLost as error:
            print(error)
            return None
        if "absent" in answer:
            return None
        number = answer["prepared"]
        return lambda: float(self._said({"run": number})["value"])

    def fresh(self) -> Peer:
        """Return the same in another process."""
        return Peer(self._command)

    def close(self) -> None:
        """End the process, if it has not ended by itself."""
        if not self._process.stdout.closed:
            self._process.communicate()

    def _said(self, message: Mapping[str, object]) -> dict:
        if self._process.stdin.closed:
            raise PeerLost(f"{self._name} has ended")
        with contextlib.suppress(OSError):  # what it said before it ended is read next
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        return self._heard()

    @property
    def _name(self) -> str:
        return Path(self._command.words[0]).name

    def _heard(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            said = self._process.communicate()[1].strip().splitlines()
            raise PeerLost(f"{self._name} ended: {said[-1] if said else 'it said nothing'}")
        answer = json.loads(line)
        if "failed" in answer:
            raise PeerLost(answer["failed"])
        return answer


def pypi_command(folder: Path, environment: Mapping[str, str]) -> Command:
    """Return how the driver of the Python package in `folder` is started: this Python, this numpy."""
    return Command([sys.executable, str(_HERE / "pypi_driver.py")], {**environment, "PYTHONPATH": str(folder)})


def npm_command(node: str, folder: Path, environment: Mapping[str, str]) -> Command:
    """Return how the driver of the package under `folder` is started with `node`."""
    return Command([node, "--expose-gc", str(_HERE / "npm_driver.js"), str(folder)], environment)
