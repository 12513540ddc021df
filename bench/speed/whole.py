"""What takes longer than a request: a cycle of Loop B, saving and loading, what is held, and the import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sona import BaseLoRA, EwcPlusPlus, ReasoningBank, RidgeStatistics, SonaConfig, SonaEngine
from speed.parts import WIDTH, learning
from speed.timing import Figure, Topics, seconds

CLUSTERS = 100
PARTS = (
    ("patterns", ReasoningBank, "extract_patterns"),
    ("boundary test", EwcPlusPlus, "detect_task_boundary"),
    ("Fisher", EwcPlusPlus, "update_fisher"),
    ("sums", RidgeStatistics, "add"),
    ("refit", BaseLoRA, "fit_layer"),
)


def filled(trajectories: int, rng: np.random.Generator, engine: SonaEngine | None = None) -> SonaEngine:
    """Return an engine that recorded that many more trajectories of 3 steps, no two vectors the same."""
    engine = engine or SonaEngine(SonaConfig(hidden_dim=WIDTH))
    topics, block = Topics.drawn(CLUSTERS, WIDTH, rng), 100
    for _ in range(trajectories // block):
        learn = learning(engine, topics.draw(4 * block, rng).reshape(block, 4, WIDTH))
        for _ in range(block):
            learn()
    return engine


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Add up the seconds spent in the parts of a cycle while the block runs."""
    spent = {name: 0.0 for name, _, _ in PARTS}
    originals = [(owner, verb, getattr(owner, verb)) for _, owner, verb in PARTS]

    def timed(name: str, original: Callable) -> Callable:
        def call(*given, **named):
            began = time.perf_counter()
            try:
                return original(*given, **named)
            finally:
                spent[name] += time.perf_counter() - began

        return call

    for name, owner, verb in PARTS:
        setattr(owner, verb, timed(name, getattr(owner, verb)))
    try:
        yield spent
    finally:
        for owner, verb, original in originals:
            setattr(owner, verb, original)


def reference_clustering(queries: np.ndarray) -> tuple[float, str] | tuple[None, None]:
    """Return the seconds scikit-learn needs to cluster the same requests, where it is installed."""
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        return None, None
    found = KMeans(min(CLUSTERS, len(queries)), n_init=1, random_state=0)
    return seconds(lambda: found.fit(queries)), "scikit-learn KMeans alone, same data and k"


def loop_b(trajectories: int, rounds: int) -> list[Figure]:
    totals, parts = [], []
    for seed in range(rounds):
        rng = np.random.default_rng(10 + seed)
        engine = filled(trajectories, rng)
        with watched() as spent:
            began = time.perf_counter()
            engine.background_learn(force=True)
            totals.append(time.perf_counter() - began)
        parts.append(spent)
    queries = Topics.drawn(CLUSTERS, WIDTH, rng).draw(trajectories, rng)
    control, name = reference_clustering(queries)
    cycle = f"Loop B, {trajectories:,} trajectories, k = {CLUSTERS}"
    shares = {part: float(np.median([spent[part] for spent in parts])) for part in parts[0]}
    shares["the rest"] = float(np.median(totals)) - sum(shares.values())
    return [
        Figure(cycle, float(np.median(totals)), "s", 5.0, control, name),
        *(Figure(f"    {part}", value, "s") for part, value in shares.items()),
    ]


def disk(trajectories: int) -> list[Figure]:
    """Return what saving and loading an engine takes, half of its trajectories still waiting for Loop B."""
    rng = np.random.default_rng(20)
    engine = filled(trajectories // 2, rng)
    engine.background_learn(force=True)
    filled(trajectories // 2, rng, engine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.sona"
        saved = [seconds(lambda: engine.save(path)) for _ in range(3)]
        size = path.stat().st_size / 1e6
        loaded = [seconds(lambda: SonaEngine.load(path)) for _ in range(3)]
    payload = trajectories * 4 * WIDTH * 4 / 1e6
    what = f"{trajectories:,} trajectories"
    return [
        Figure(f"save, {what}", float(np.median(saved)), "s"),
        Figure(f"load, {what}", float(np.median(loaded)), "s"),
        Figure("file", size, "MB", None, payload, "the vectors alone"),
    ]


def child(*arguments: str, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path[1:]])
    known = os.environ | {"PYTHONPATH": path} | environment
    return subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=known).stdout


def memory(trajectories: int) -> list[Figure]:
    """Return what an engine holds, counted twice in fresh processes: by allocation, and by resident pages."""
    traced, resident = (json.loads(child("-m", "speed.held", kind, str(trajectories))) for kind in ("trace", "rss"))
    payload, name = trajectories * 4 * WIDTH * 4 / 1e6, "the vectors alone"
    what = f"{trajectories:,} trajectories x 3 steps"
    return [
        Figure(f"memory, {what}, peak (tracemalloc)", traced["peak"], "MB", 100.0, payload, name),
        Figure(f"memory, {what}, peak (resident)", resident["peak"], "MB", 100.0, payload, name),
        Figure("    held when recorded (tracemalloc)", traced["recorded"], "MB"),
        Figure("    held after Loop B (tracemalloc)", traced["learned"], "MB"),
    ]


def importing(rounds: int) -> list[Figure]:
    """Return what `import sona` adds to `import numpy`, in fresh interpreters that take turns, bytecode at hand."""
    code = "import time; a = time.perf_counter(); import {}; b = time.perf_counter(); print(b - a)"
    programs = {"numpy": code.format("numpy"), "sona": "import numpy; " + code.format("sona")}
    found: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + rounds):
            for name, program in programs.items():
                spent = child("-c", program, PYTHONPYCACHEPREFIX=folder, PYTHONDONTWRITEBYTECODE="")
                found[name].append(1e3 * float(spent))
    times = {name: float(np.median(values[1:])) for name, values in found.items()}  # the first one compiles
    return [Figure("import sona, over import numpy", times["sona"], "ms", 100.0, times["numpy"], "import numpy itself")]
