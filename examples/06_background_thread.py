"""Loop B in a thread: requests go on while it learns, and it stops cleanly.

python examples/06_background_thread.py
"""

import time

import numpy as np

from sona import SonaConfig, SonaEngine


def main() -> None:
    rng = np.random.default_rng(0)
    ids = tuple(f"item-{number}" for number in range(200))
    vectors = rng.normal(size=(200, 64)).astype(np.float32)
    vectors.flags.writeable = False  # a tuple of ids and a read-only array are checked once, not on every call
    wants = rng.integers(0, 200, 400)
    requests = vectors[wants] + 0.7 * rng.normal(size=(400, 64)).astype(np.float32)

    # An hour and 100 trajectories by default; short here, so that something happens.
    engine = SonaEngine(SonaConfig(background_interval_s=0.2, min_trajectories=50))
    with engine:  # leaving the block stops the thread and waits for a cycle in progress
        engine.start_background(period_s=0.05)
        slowest_ms = 0.0
        for request, want in zip(requests, wants.tolist(), strict=True):
            began = time.perf_counter()
            ranking = engine.rank(request, ids, vectors)
            slowest_ms = max(slowest_ms, (time.perf_counter() - began) * 1e3)
            if ids[want] in ranking.ids:
                engine.feedback(ranking.trajectory_id, rewards={ids[want]: 1.0})
            time.sleep(0.001)
        time.sleep(0.3)

    metrics = engine.metrics()
    print(f"{metrics.requests} requests, {metrics.feedbacks} with feedback, slowest rank {slowest_ms:.1f} ms")
    print(f"version {metrics.version}: {metrics.learned} trajectories learned in the background")
    print(f"{metrics.waiting} wait for the next cycle; none was thrown away")


if __name__ == "__main__":
    main()
