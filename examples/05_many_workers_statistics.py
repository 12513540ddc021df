"""Many workers, one adapter: statistics add up, so nobody has to see all the data, and data can be taken out again.

python examples/05_many_workers_statistics.py
"""

import tempfile
from pathlib import Path

import numpy as np

from sona import BaseLoRA, RidgeStatistics
from sona.state import read_state, write_state

WIDTH = 48


def pairs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return requests and what served them: the request, turned a little the same way each time."""
    x = rng.normal(size=(count, WIDTH))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    turn = np.random.default_rng(1).normal(size=(WIDTH, WIDTH)) * 0.1
    return x, x + x @ turn


def main() -> None:
    data = [pairs(np.random.default_rng(seed), 300) for seed in range(4)]

    with tempfile.TemporaryDirectory() as folder:
        # Each worker sums up its own data and sends two small matrices, here as files.
        paths = [Path(folder) / f"worker-{number}.safetensors" for number in range(len(data))]
        for (x, y), path in zip(data, paths, strict=True):
            own = RidgeStatistics(WIDTH)
            own.add(x, y)
            write_state(path, "ridge_statistics", own.state())
        total = RidgeStatistics(WIDTH)
        for path in paths:
            total.merge(RidgeStatistics.from_state(read_state(path, "ridge_statistics")))

    alone = RidgeStatistics(WIDTH)
    for x, y in data:
        alone.add(x, y)
    gap = float(np.abs(total.solve(3.0) - alone.solve(3.0)).max())
    print(f"{total.count} pairs of {len(data)} workers; largest difference to one worker with all data: {gap:.1e}")

    adapter = BaseLoRA(WIDTH, rank=16, num_layers=1)
    fit = adapter.fit_layer(0, total, strength=1.0)
    print(f"refit: rank {fit.rank}, {fit.energy_kept:.2f} of the solution inside the rank")

    # One worker's data are withdrawn: the sums are as if they had never been added.
    total.subtract(*data[-1])
    without = RidgeStatistics(WIDTH)
    for x, y in data[:-1]:
        without.add(x, y)
    gap = float(np.abs(total.solve(3.0) - without.solve(3.0)).max())
    print(f"after taking one worker out: {total.count} pairs; largest difference to never having had them: {gap:.1e}")


if __name__ == "__main__":
    main()
