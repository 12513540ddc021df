"""What takes longer, or holds: extracting patterns, answering over memories, what is kept, the import."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np

from peers.children import Peer, Question
from peers.contest import Contest, PeerFigure, WrongAnswer, require
from peers.controls import inertia_of, kmeans, nearest
from sona import PatternConfig, QueryTrajectory, ReasoningBank, SonaEngine
from sona.engine.turns import Turns
from speed.requests import TOPICS
from speed.timing import Batch, Source, Topics, seconds, unit
from speed.whole import child

_TOLERATED = 1.02  # inertia over that of the control
_STARTS = 10  # of scikit-learn, the best of which is the reference


class Extraction:
    """Pattern extraction from requests gathered around as many topics as clusters are asked for.

    Args:
        trajectories: Requests.
        width: d.
        clusters: k.
    """

    def __init__(self, trajectories: int, width: int = 256, clusters: int = 100) -> None:
        """Draw the requests."""
        rng = np.random.default_rng(6)
        self.name = f"pattern extraction, {trajectories:,} x {width}, k = {clusters}"
        self._width, self._clusters = width, clusters
        self.points = Topics.drawn(clusters, width, rng).draw(trajectories, rng)
        self._trajectories = [QueryTrajectory(row, x, final_quality=0.8) for row, x in enumerate(self.points)]
        self._seed = 0

    def _extracted(self) -> tuple[float, ReasoningBank]:
        self._seed += 1  # every round begins elsewhere
        size = len(self._trajectories)
        bank = ReasoningBank(PatternConfig(k_clusters=self._clusters, capacity=size), hidden_dim=self._width)
        for trajectory in self._trajectories:
            bank.add_trajectory(trajectory)
        rng = np.random.default_rng(self._seed)
        return seconds(lambda: bank.extract_patterns(now=0.0, rng=rng)), bank

    def inertia(self) -> float:
        """Return the inertia of the patterns of one extraction, computed from their centroids.

        Raises:
            WrongAnswer: it is clearly above that of the control.
        """
        _, bank = self._extracted()
        if bank.pattern_count > self._clusters:
            raise WrongAnswer(f"{self.name}: {bank.pattern_count} patterns, {self._clusters} were asked for")
        ours = inertia_of(self.points, np.stack([pattern.centroid for pattern in bank.patterns]))
        theirs = inertia_of(self.points, self._control())
        if ours > _TOLERATED * theirs:
            raise WrongAnswer(f"{self.name}: inertia {ours:.1f}, that of the control {theirs:.1f}")
        return ours

    def reference(self) -> float | None:
        """Return the least inertia of several starts of scikit-learn; None where it is not installed."""
        try:
            from sklearn.cluster import KMeans
        except ImportError:
            return None
        found = KMeans(self._clusters, n_init=_STARTS, random_state=0).fit(self.points)
        return inertia_of(self.points, found.cluster_centers_)

    def _control(self) -> np.ndarray:
        return kmeans(self.points, self._clusters, np.random.default_rng(self._seed))

    def contest(self, folder: Path | None = None, *, goal: float | None = None, rounds: int = 3) -> Contest:
        """Return the contest; peers find the requests in `folder`."""
        question = None
        if folder is not None:
            file = folder / "requests.npy"
            np.save(file, self.points)
            self.points.tofile(file.with_suffix(".bin"))
            question = Question("extract", {"file": str(file), "clusters": self._clusters, "width": self._width})
        sona, numpy = (lambda: self._extracted()[0]), (lambda: seconds(self._control))
        return Contest(self.name, "s", sona, numpy, question, goal, rounds)


def extraction(
    peers: Mapping[str, Peer], trajectories: int, clusters: int, goal: float | None, rounds: int
) -> Iterator[PeerFigure]:
    """Yield the seconds of pattern extraction, and its inertia over that of scikit-learn."""
    made = Extraction(trajectories, clusters=clusters)
    ours, reference = made.inertia(), made.reference()
    with tempfile.TemporaryDirectory() as folder:
        yield made.contest(Path(folder), goal=goal, rounds=rounds).held(peers)
    ratio = None if reference is None else ours / reference
    limit = None if goal is None else _TOLERATED
    name = f"{made.name}: inertia over the best of {_STARTS} of scikit-learn"
    yield PeerFigure(name, ratio, None, None, None, "x", limit)


class Answering:
    """`process` with vectors given over many memories, with past requests that were learned from, without an LLM.

    Args:
        memories: Memories.
        width: d.
        past: Past requests with feedback.
    """

    def __init__(self, memories: int, width: int = 256, past: int = 500) -> None:
        """Remember, check the untrained answers, and learn."""
        rng = np.random.default_rng(7)
        topics = Topics.drawn(TOPICS, width, rng)
        self.name = f"process(), {memories:,} memories x {width}"
        self.engine, vectors = SonaEngine(), topics.draw(memories, rng)
        for row, vector in enumerate(vectors):
            self.engine.remember(f"text {row}", f"m{row}", vector=vector)
        self.engine.index()
        self.held, self.asked = unit(vectors), topics.draw(256, rng)
        self._check()
        for row, x in enumerate(topics.draw(past, rng)):
            response = self.engine.process(f"past {row}", vector=x)
            self.engine.feedback(response.trajectory_id, rewards={response.sources[0].id: 1.0})
        self.engine.background_learn(force=True)

    def _check(self) -> None:
        k = self.engine.config.context_size
        for x in self.asked[:8]:
            rows, products = nearest(self.held, x, k)
            sources = self.engine.process("how do I", vector=x).sources
            require(self.name, [source.score for source in sources], products[products > 0.0])
            if [source.id for source in sources] != [f"m{row}" for row in rows[products > 0.0]]:
                raise WrongAnswer(f"{self.name}: an untrained engine does not answer by the cosine")

    def middle(self, *, goal: float | None = None, rounds: int = 300) -> Contest:
        """Return one call on one thread."""
        ours = {"process": self.engine.process, "asked": cycle(list(self.asked))}
        bare = {"nearest": nearest, "held": self.held, "asked": cycle(list(self.asked)), "k": 5}
        return Contest(
            f"{self.name}, median",
            "ms",
            Batch("process('how do I', vector=next(asked))", ours),
            Batch("nearest(held, next(asked), k)", bare),
            goal=goal,
            rounds=rounds,
        )

    def slowest(self, *, threads: int = 8, calls: int = 250, goal: float | None = None, rounds: int = 3) -> Contest:
        """Return the 99th percentile of single calls, every thread calling again as soon as it has its answer."""
        return Contest(
            f"{self.name}, p99 under {threads} threads",
            "ms",
            crowd(lambda x: self.engine.process("how do I", vector=x), self.asked, threads, calls),
            crowd(lambda x: nearest(self.held, x, 5), self.asked, threads, calls),
            goal=goal,
            rounds=rounds,
        )

    def slowest_at_will(self, *, threads: int = 8, calls: int = 250, rounds: int = 3) -> Contest:
        """Return the same without turns: every thread scores when Python lets it."""
        served = crowd(lambda x: self.engine.process("how do I", vector=x), self.asked, threads, calls)

        def without_turns() -> float:
            usual, self.engine._turns = self.engine._turns, Turns(threads)
            try:
                return served()
            finally:
                self.engine._turns = usual

        name = f"{self.name}, p99 under {threads} threads without turns"
        bare = crowd(lambda x: nearest(self.held, x, 5), self.asked, threads, calls)
        return Contest(name, "ms", without_turns, bare, rounds=rounds)


class Remembering:
    """Memories with vectors of the caller's, and what keeping them takes.

    Args:
        memories: Memories.
        width: d.
    """

    def __init__(self, memories: int, width: int = 256) -> None:
        """Remember and index."""
        rng = np.random.default_rng(9)
        vectors = Topics.drawn(TOPICS, width, rng).draw(memories, rng)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        self._engine = SonaEngine()
        for row, vector in enumerate(vectors):
            self._engine.remember(f"text {row}", f"m{row}", vector=vector)
        self._engine.index()
        self._held = (tracemalloc.get_traced_memory()[0] - before) / 1e6
        tracemalloc.stop()
        self._more = ((f"more {row}", x) for row, x in enumerate(unit(rng.normal(size=(1000, width)))))

    def held(self) -> Contest:
        """Return what is allocated for them."""
        return Contest("memories held", "MB", lambda: self._held)

    def kept(self) -> Contest:
        """Return the size of the file that `save` writes."""
        return Contest("memories saved", "MB", self._saved)

    def one_more(self) -> Contest:
        """Return what it takes to index one more."""
        return Contest("index one more memory", "ms", self._indexed)

    def _saved(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "engine.sona"
            self._engine.save(path)
            return path.stat().st_size / 1e6

    def _indexed(self) -> float:
        text, x = next(self._more)
        self._engine.remember(text, text, vector=x)
        return seconds(self._engine.index)


def crowd(call: Callable[[np.ndarray], object], asked: np.ndarray, threads: int, calls: int) -> Source:
    """Return what measures the 99th percentile of the seconds of single calls, all threads calling at once."""

    def once() -> float:
        times = np.zeros((threads, calls))
        barrier, failed = threading.Barrier(threads), []

        def work(own: np.ndarray, offset: int) -> None:
            try:
                barrier.wait()
                for turn in range(calls):
                    x = asked[(offset + turn) % len(asked)]
                    began = time.perf_counter()
                    call(x)
                    own[turn] = time.perf_counter() - began
            except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
                failed.append(error)

        workers = [threading.Thread(target=work, args=(times[row], 31 * row)) for row in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failed:
            raise failed[0]
        return float(np.quantile(times, 0.99))

    return once


def memory(
    peers: Mapping[str, Peer], trajectories: int, width: int = 256, goal: float | None = None
) -> Iterator[PeerFigure]:
    """Yield what an engine holds of trajectories recorded in a fresh process, by allocation and by resident pages."""
    payload = trajectories * 4 * width * 4 / 1e6
    name = f"memory, {trajectories:,} trajectories x {width}-d x 3 steps"
    theirs = _resident_of(peers.get("npm"), Question("memory", {"trajectories": trajectories, "width": width}))
    for kind, said, npm in (("trace", "allocated", None), ("rss", "resident", theirs)):
        held = json.loads(child("-m", "speed.held", kind, str(trajectories)))["recorded"]
        yield PeerFigure(f"{name}, {said}", held, payload, None, npm, "MB", goal)


def _resident_of(peer: Peer | None, question: Question) -> float | None:
    if peer is None:
        return None
    other = peer.fresh()
    try:
        source = other.source(question)
        return None if source is None else source()
    finally:
        other.close()


_TIMED = "import time; {}; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
_MADE = "from sona import SonaConfig, SonaEngine; SonaEngine(SonaConfig(hidden_dim=256))"


def importing(rounds: int, goal: float | None) -> Iterator[PeerFigure]:
    """Yield what `import sona` adds to `import numpy`, and what an engine adds, in fresh interpreters."""
    with tempfile.TemporaryDirectory() as folder:

        def timed(before: str, statement: str) -> Source:
            program = _TIMED.format(before, statement)
            return lambda: float(child("-c", program, PYTHONPYCACHEPREFIX=folder, PYTHONDONTWRITEBYTECODE=""))

        control = timed("pass", "import numpy")
        for name, statement, limit in (
            ("import sona, over import numpy", "import sona", goal),
            ("from sona import SonaEngine, and one made, over import numpy", _MADE, None),
        ):
            ours = timed("import numpy", statement)
            ours(), control()  # the first run compiles
            yield Contest(name, "ms", ours, control, goal=limit, rounds=rounds).held({})
