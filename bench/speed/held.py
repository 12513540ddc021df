"""Run in a fresh process: what an engine holds for trajectories whose vectors the caller has let go of.

python -m speed.held (trace|rss) TRAJECTORIES
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from speed.whole import filled

_STATUS = Path("/proc/self/status")


def traced() -> tuple[float, float]:
    """Return what is allocated now and was at most, MB."""
    now, peak = tracemalloc.get_traced_memory()
    return now / 1e6, peak / 1e6


def resident() -> tuple[float, float]:
    """Return what is resident now and was at most, MB; where only the latter is known, both are it."""
    if not _STATUS.exists():
        import resource  # POSIX only

        unit = 1.0 if sys.platform == "darwin" else 1024.0
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        return most, most
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    now, peak = (int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, peak


def main(kind: str, trajectories: int) -> None:
    rng = np.random.default_rng(30)
    filled(200, rng).background_learn(force=True)  # what is loaded and made once is no overhead of trajectories
    gc.collect()
    measure: Callable[[], tuple[float, float]] = resident
    if kind == "trace":
        tracemalloc.start()
        measure = traced
    before, _ = measure()
    engine = filled(trajectories, rng)
    recorded, _ = measure()
    engine.background_learn(force=True)
    gc.collect()
    learned, peak = measure()
    print(json.dumps({"recorded": recorded - before, "learned": learned - before, "peak": peak - before}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
