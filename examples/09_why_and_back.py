"""Why this answer, what changed, go back: everything follows from the log, and is rebuilt from it.

python examples/09_why_and_back.py
"""

import tempfile
from pathlib import Path

import numpy as np

from sona import SonaConfig, SonaEngine

IDS = tuple(f"doc-{number}" for number in range(30))


def main() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topics = rng.normal(size=(4, 16)).astype(np.float32)
    wanted = [IDS[np.argsort(-(vectors @ topic))[3]] for topic in topics]  # similarity alone puts it fourth
    path = Path(tempfile.mkdtemp()) / "shop.db"

    with SonaEngine.open(path, SonaConfig(min_trajectories=10)) as engine:
        for turn in range(40):
            topic = turn % 4
            ranking = engine.rank(topics[topic], IDS, vectors, k=5)
            engine.feedback(ranking.trajectory_id, rewards={wanted[topic]: 1.0})
            if turn in (15, 35):
                engine.background_learn()

    with SonaEngine.open(path) as engine:  # another process, another day
        told = engine.explain(30)
        print(f"request 30 was shown the {told.serving.arm} answer of version {told.serving.version}:")
        for item in told.items[:3]:
            print(f"  {item.item:7} {item.score:.2f} = {item.similarity:.2f} similar {item.votes:+.2f} votes")

        for record in engine.versions():
            print(f"version {record.id} from {record.parent}, of {record.trajectories} trajectories")
        figures = engine.diff(1, 2).figures
        print("from 1 to 2 it changed:", ", ".join(sorted(figures)))

        before = engine.rank(topics[0], IDS, vectors, k=3).ids
        engine.rollback(0, reason="what does it say untrained?")
        print(f"version 2 says {before[0]}, version 0 says {engine.rank(topics[0], IDS, vectors, k=3).ids[0]}")
        engine.rollback(2)
        print(f"version 2 again says {engine.rank(topics[0], IDS, vectors, k=3).ids[0]}")
        for decided in engine.decisions():
            print(f"  {decided.decision} to version {decided.version}: {decided.reason}")

        rebuilt = engine.replay()
        print(f"{rebuilt.events} events happened again; equal bit for bit: {rebuilt.is_equal}")


if __name__ == "__main__":
    main()
