"""Run in a process with the Python package of the peer: measures what it is told to, when it is told to.

python pypi_driver.py, one line of JSON a message: {"prepare", "sizes"}, then {"run"} once a round.
"""

from __future__ import annotations

import json
import sys
import time
import timeit
from collections.abc import Callable

import numpy as np
import ruvector


def batch(statement: str, names: dict[str, object], batch_s: float = 3e-3) -> Callable[[], float]:
    timer = timeit.Timer(statement, setup="import gc; gc.enable()", globals=names)
    timer.timeit(1)
    size = max(int(batch_s / min(timer.timeit(1) for _ in range(5))), 1)
    return lambda: timer.timeit(size) / size


def forward(width: int) -> Callable[[], float]:
    """Return the micro adapter; nothing can train it through this package, so it adds zero, in the same time."""
    x = np.random.default_rng(1).normal(size=width).astype(np.float32)
    x /= np.linalg.norm(x)
    return batch("forward(x)", {"forward": ruvector.SonaEngine(width).apply_micro_lora, "x": x})


def extract(file: str, clusters: int, width: int) -> Callable[[], float]:
    """Return its k-means over the vectors of that width in `file`, at its defaults."""
    vectors = np.load(file).reshape(-1, width)

    def once() -> float:
        began = time.perf_counter()
        ruvector.kmeans(vectors, clusters)
        return time.perf_counter() - began

    return once


CASES = {"forward": forward, "extract": extract}


def main() -> None:
    say({"version": ruvector.__version__})
    prepared: list[Callable[[], float]] = []
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if "run" in message:
                say({"value": prepared[message["run"]]()})
            elif message["prepare"] in CASES:
                prepared.append(CASES[message["prepare"]](**message["sizes"]))
                say({"prepared": len(prepared) - 1})
            else:
                say({"absent": True})
        except Exception as error:  # noqa: BLE001 - whatever it is, the bench prints it and goes on
            say({"failed": f"ruvector: {error}"})


def say(message: dict) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
