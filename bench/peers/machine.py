"""On what a bench ran: the machine, versions, and how busy it was."""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import timeit
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import sona
from peers.children import Peer

_CPUS = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """On what a bench ran.

    Args:
        processor: Its model and number of cores.
        system: Operating system and architecture.
        python: Version.
        numpy: Version, and the BLAS it was built with.
        sona: Version.
        kernel: What computes SONA's hot paths.
        peers: Versions of the peers' packages.
        skipped: Why a peer is absent.
        load_before: Load average of a minute before the first figure.
        load_after: The same after the last one.
        pace_ns: Nanoseconds a turn of an empty loop of Python takes now: what a neighbour takes of a shared machine's
            speed shows here, and not in its load.
    """

    processor: str
    system: str
    python: str
    numpy: str
    sona: str
    kernel: str
    peers: Mapping[str, str]
    skipped: Mapping[str, str]
    load_before: float | None
    load_after: float | None
    pace_ns: float

    @classmethod
    def now(cls, peers: Mapping[str, Peer], skipped: Mapping[str, str], load_before: float | None) -> Machine:
        """Return what this process runs on; `load_before` is what `load` returned at the start."""
        return cls(
            processor=f"{_model()}, {os.cpu_count()} cores",
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            numpy=f"{np.__version__} ({_blas()})",
            sona=sona.__version__,
            kernel=kernel(),
            peers={name: peer.version for name, peer in peers.items()},
            skipped=dict(skipped),
            load_before=load_before,
            load_after=load(),
            pace_ns=pace_ns(),
        )

    def as_json(self) -> dict:
        """Return it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it in words, a line each."""
        peers = [f"{name} {version}" for name, version in self.peers.items()]
        absent = [f"{name} is absent: {reason}" for name, reason in self.skipped.items()]
        loads = " and ".join("unknown" if value is None else f"{value:.2f}" for value in self._loads)
        return [
            f"{self.processor}, {self.system}; load average {loads} before and after",
            f"an empty loop of Python took {self.pace_ns:.0f} ns a turn at the end",
            f"Python {self.python}, numpy {self.numpy}, sona {self.sona} (kernel: {self.kernel})",
            *([f"peers: {', '.join(peers)}"] if peers else []),
            *absent,
        ]

    @property
    def _loads(self) -> tuple[float | None, float | None]:
        return self.load_before, self.load_after


def pace_ns() -> float:
    """Return nanoseconds a turn of an empty loop takes, the median of 200 short ones."""
    empty = timeit.Timer("pass")
    return 1e9 * statistics.median(empty.repeat(repeat=200, number=10_000)) / 10_000


def load() -> float | None:
    """Return the load average of the last minute; None where the system keeps none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def kernel() -> str:
    """Return what computes SONA's hot paths, as it says itself; numpy where there is no kernel."""
    try:
        found = importlib.import_module("sona.kernel")
    except ImportError:
        return "numpy"
    return str(getattr(found, "chosen", "numpy"))


def _model() -> str:
    if not _CPUS.exists():
        return platform.processor() or "unknown processor"
    named = [line.split(":", 1)[1].strip() for line in _CPUS.read_text().splitlines() if line.startswith("model name")]
    return named[0] if named else "unknown processor"


def _blas() -> str:
    found = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown BLAS')} {found.get('version', '')}".strip()
