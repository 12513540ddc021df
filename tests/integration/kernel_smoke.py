"""What an installed SONA must do on its first day: adapt, rank, hear feedback. Prints its kernel and where it lies."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import sona
from sona import SonaConfig, SonaEngine, kernel


def main() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 32)).astype(np.float32)
    ids = [f"d{k}" for k in range(20)]
    engine = SonaEngine(SonaConfig(hidden_dim=32))
    if not (engine.adapt(vectors[0]) == vectors[0]).all():
        sys.exit("an untrained engine changed a vector")
    for _ in range(5):
        ranking = engine.rank(vectors[0], ids, vectors, k=5)
        engine.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    if (engine.adapt(vectors[0]) == vectors[0]).all():
        sys.exit("feedback taught nothing")
    place = Path(sona.__file__).parent
    sys.stdout.write(f"sona {sona.__version__} at {place}: adapts, ranks, learns\nkernel: {kernel.chosen}\n")


if __name__ == "__main__":
    main()
