"""An engine among processes and threads: killed while it saves, opened twice, used by eight threads at once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sona.config import GuardConfig, PatternConfig, SonaConfig
from sona.engine.core import SonaEngine
from sona.errors import ConfigError, StoreError
from sona.state import State, digest
from sona.stores import snapshots
from sona.stores import store as stores
from sona.types import QueryTrajectory, TrajectoryStep

D = 6
CONFIG = SonaConfig(
    hidden_dim=D, min_trajectories=2, patterns=PatternConfig(min_cluster_size=2), guard=GuardConfig(holdout=0.0)
)
posix_only = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signal")


def step(engine: SonaEngine, number: int) -> None:
    """Do something that depends on the number alone."""
    rng = np.random.default_rng(number)
    items = np.random.default_rng(0).normal(size=(9, D))
    ranking = engine.rank(rng.normal(size=D), [f"d{row}" for row in range(9)], items, k=4)
    engine.feedback(ranking.trajectory_id, rewards={ranking.ids[number % 4]: 1.0})
    if number % 5 == 4:
        engine.background_learn()


def clock() -> float:
    return 1.0


def timeless(state: State) -> State:
    def still(name, value):
        if isinstance(value, State):
            return timeless(value)
        return np.zeros_like(value) if name in ("latency_us", "step_timestamp") else value

    return State({name: still(name, value) for name, value in state.items()})


def fingerprint(engine: SonaEngine) -> tuple[str, bytes]:
    x = np.random.default_rng(99).normal(size=(5, D))
    learned = engine.state().child("machine").child("learner")
    return digest(timeless(learned)), engine.adapt(x).tobytes()


CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_engine_processes import CONFIG, SonaEngine, clock, step
verb, path = sys.argv[1:]
def say(what):
    print(what, flush=True)
"""
SAVING = """
engine = SonaEngine(CONFIG, clock=clock)
for number in range(10_000):
    engine.save(path)
    say(number)
    step(engine, number)
"""
HOLDING = """
engine = SonaEngine.open(path, CONFIG, clock=clock)
for number in range(5):
    step(engine, number)
say("ready")
step(engine, 5)
say("more")
input()
"""


CRASHING = """
import os, signal
import sona.state
from test_engine_processes import fingerprint

def crash_at(line):
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code is not sona.state.replace_file.__code__:
            return None
        lines += event == "line"
        if lines == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

engine = SonaEngine(CONFIG, clock=clock)
step(engine, 0)
engine.save(path)
with open(path, "rb") as file:
    before = file.read()
old = fingerprint(engine)
step(engine, 1)
new = fingerprint(engine)
status = line = 1
while status:
    process = os.fork()
    if not process:
        sys.settrace(crash_at(line))
        engine.save(path)
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    try:
        found = fingerprint(SonaEngine.load(path, clock=clock))
        say("old" if found == old else "new" if found == new else "another")
    except Exception as error:
        say(f"broken: {error}")
    with open(path, "wb") as file:
        file.write(before)
    line += 1
"""


class Child:
    """A process of its own that says how far it is, line by line."""

    def __init__(self, script: str, path: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD + script, "verb", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def hear(self) -> str:
        line = self.process.stdout.readline().strip()
        assert line, "the child process ended early"
        return line

    def kill(self) -> list[str]:
        self.process.send_signal(signal.SIGKILL)
        rest = self.process.stdout.read().split()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        return rest


@posix_only
def test_killed_while_saving_leaves_the_old_state_or_the_new_one_bit_for_bit(tmp_path):
    path = tmp_path / "engine"
    expected, replayed = [], SonaEngine(CONFIG, clock=clock)
    delays = np.linspace(0.0, 0.02, 5)
    found = []
    for delay in delays:
        path.unlink(missing_ok=True)
        child = Child(SAVING, path)
        last = int(child.hear())
        wait_for = 3 + last
        while last < wait_for:
            last = int(child.hear())
        time.sleep(delay)
        rest = child.kill()
        last = int(rest[-1]) if rest else last
        loaded = SonaEngine.load(path, clock=clock)
        while len(expected) <= last + 1:
            expected.append(fingerprint(replayed))
            step(replayed, len(expected) - 1)
        assert fingerprint(loaded) in expected[last : last + 2]
        found.append(expected.index(fingerprint(loaded)) - last)
        step(loaded, 1000)  # and it is of use
    assert set(found) <= {0, 1}


@posix_only
def test_killed_between_any_two_lines_of_a_write_leaves_the_old_state_or_the_new_one(tmp_path):
    child = Child(CRASHING, tmp_path / "engine")
    said = child.process.communicate(timeout=120)[0].split("\n")[:-1]
    assert set(said) == {"old", "new"}
    assert said == sorted(said, reverse=True)  # old, old, ... until the swap, and new ever after
    assert len(said) > 6


@posix_only
def test_a_file_is_open_in_one_process_at_a_time_and_free_when_that_one_dies(tmp_path):
    path = tmp_path / "engine"
    child = Child(HOLDING, path)
    assert child.hear() == "ready"
    for config in (None, CONFIG):
        with pytest.raises(StoreError, match="another process"):
            SonaEngine.open(path, config)
    child.hear()
    child.kill()
    with SonaEngine.open(path, clock=clock) as engine:
        replayed = SonaEngine(CONFIG, clock=clock)
        for number in range(5):  # written with the cycle of Loop B; of what came later the end may have died
            step(replayed, number)
        possible = [fingerprint(replayed)]
        step(replayed, 5)
        assert fingerprint(engine) in [*possible, fingerprint(replayed)]


def test_a_file_cannot_be_opened_twice_in_one_process_either(tmp_path):
    path = tmp_path / "engine"
    with SonaEngine.open(path, CONFIG), pytest.raises(StoreError):
        SonaEngine.open(path)
    SonaEngine.open(path).close()


def test_an_open_engine_is_written_when_it_closes_and_goes_on_where_it_was(tmp_path):
    path = tmp_path / "engine"
    with SonaEngine.open(path, CONFIG, clock=clock) as engine:
        for number in range(7):
            step(engine, number)
        left = fingerprint(engine)
    with SonaEngine.open(path, clock=clock) as engine:
        assert fingerprint(engine) == left
        step(engine, 7)
        assert fingerprint(engine) != left
    engine.close()


def test_a_state_beyond_what_an_event_may_be_is_kept_in_parts(tmp_path, monkeypatch, caplog):
    most = 50_000
    monkeypatch.setattr(stores, "LARGEST_BYTES", most)
    monkeypatch.setattr(snapshots, "PART_BYTES", 20_000)
    with SonaEngine.open(tmp_path / "engine", CONFIG, clock=clock) as engine:
        for number, x in enumerate(np.random.default_rng(1).normal(size=(600, D))):
            engine.remember(f"text {number}", vector=x)
        for number in range(7):
            step(engine, number)
        engine.flush()
        assert engine.background_learn(force=True).skipped_reason is None
        left = digest(engine.state())
        engine._keep_snapshot()
        kept = engine._journal.store.snapshot().data
        assert len(kept) > 3 * most
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with SonaEngine.open(tmp_path / "engine", clock=clock) as engine:
        assert digest(engine.state()) == left
        assert engine._journal.store.snapshot().data == kept


def test_what_was_learned_is_kept_when_the_block_fails(tmp_path):
    path = tmp_path / "engine"

    def fails():
        with SonaEngine.open(path, CONFIG) as engine:
            step(engine, 0)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fails()
    assert SonaEngine.load(path).metrics().feedbacks == 1


def test_a_file_that_cannot_be_opened_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "engine"
    SonaEngine.open(path, CONFIG).close()
    whole = path.read_bytes()
    with pytest.raises(ConfigError, match="other settings"):
        SonaEngine.open(path, SonaConfig(hidden_dim=D + 1))
    with pytest.raises(StoreError):
        SonaEngine.open(path, embedder=lambda texts: [[1.0]] * len(texts))
    assert path.read_bytes() == whole
    SonaEngine.open(path).close()
    path.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(StoreError):
            SonaEngine.open(path)
    assert path.read_bytes() == whole[: len(whole) // 2]
    with pytest.raises(StoreError):
        SonaEngine.open(tmp_path / "no folder" / "engine")
    with pytest.raises(StoreError):
        SonaEngine().save(tmp_path / "no folder" / "engine")
    with pytest.raises(StoreError):
        SonaEngine.load(tmp_path)


@pytest.fixture
def restless():
    """Let threads change turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def together(*tasks) -> None:
    """Run each task in a thread of its own, and raise what any of them raised."""
    errors = []

    def run(task):
        try:
            task()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("restless")
def test_eight_threads_lose_no_update(tmp_path):
    engine = SonaEngine(CONFIG, clock=clock)
    items = np.random.default_rng(0).normal(size=(9, D)).astype(np.float32)
    names = tuple(f"d{row}" for row in range(9))
    queries = np.random.default_rng(1).normal(size=(4, D))
    rounds, ids = 40, [[] for _ in range(8)]

    def use(worker: int) -> None:
        for number in range(rounds):
            ranking = engine.rank(queries[worker % 4], names, items, k=9)
            ids[worker].append(ranking.trajectory_id)
            engine.feedback(ranking.trajectory_id, rewards={names[worker]: 1.0})
            engine.feedback(ranking.trajectory_id, rewards={names[worker]: 1.0})
            with engine.begin_trajectory(queries[worker % 4]) as builder:
                builder.add_step(items[worker], reward=0.9)
                ids[worker].append(builder.id)
            engine.adapt(queries)
            engine.find_patterns(queries[0])
            if number % 10 == worker:
                engine.background_learn(force=True)
            if number == 20 and worker < 2:
                engine.save(tmp_path / f"engine{worker}")
            engine.tick()
            engine.metrics()

    together(*(lambda worker=worker: use(worker) for worker in range(8)))
    engine.background_learn(force=True)
    metrics = engine.metrics()
    every = [number for one in ids for number in one]
    assert len(set(every)) == len(every) == metrics.requests == 16 * rounds
    assert (metrics.feedbacks, metrics.repeated, metrics.awaiting_feedback) == (8 * rounds, 8 * rounds, 0)
    assert metrics.instant.recorded == metrics.learned == 16 * rounds
    assert metrics.instant.pushes + metrics.instant.silent == 16 * rounds
    assert (metrics.waiting, metrics.open_trajectories, metrics.instant.dropped, metrics.past_requests) == (0, 0, 0, 4)
    for query in range(4):
        evidence = engine._learner.votes.look_up(queries[query])
        taken = dict(zip(evidence.items, evidence.taken[:, 0].tolist(), strict=True))
        clicked = {names[worker]: float(rounds) for worker in range(8) if worker % 4 == query}
        assert {item: sum_ for item, sum_ in taken.items() if sum_} == clicked
    for worker in range(2):
        saved = SonaEngine.load(tmp_path / f"engine{worker}").metrics()
        assert saved.learned + saved.waiting == saved.instant.recorded


@pytest.mark.usefixtures("restless")
def test_what_is_saved_while_others_learn_is_one_moment_of_the_engine(tmp_path):
    engine = SonaEngine(CONFIG, clock=clock)
    done, saved = threading.Event(), []

    def use(worker: int) -> None:
        for number in range(60):
            step(engine, 100 * worker + number)

    def save() -> None:
        while not done.is_set():
            engine.save(tmp_path / f"engine{len(saved)}")
            saved.append(SonaEngine.load(tmp_path / f"engine{len(saved)}"))

    def learn() -> None:
        try:
            together(*(lambda worker=worker: use(worker) for worker in range(3)))
        finally:
            done.set()

    together(learn, save)
    assert len(saved) > 3
    for one in saved:
        metrics = one.metrics()
        outcomes = sum(served.outcome is not None for served in one._intake.served._held.values())
        assert metrics.feedbacks == metrics.instant.recorded == metrics.learned + metrics.waiting == outcomes
        assert metrics.instant.pushes + metrics.instant.silent == outcomes


@pytest.mark.usefixtures("restless")
def test_memories_that_arrive_while_others_ask_are_all_kept():
    engine = SonaEngine(SonaConfig(context_size=3), embedder=lambda texts: [[1.0, len(t) / 50.0] for t in texts])

    def write(worker: int) -> None:
        for number in range(30):
            engine.remember(f"text {number} of {worker}", f"{worker}/{number}")

    def ask() -> None:
        for _ in range(30):
            response = engine.process("a question")
            engine.feedback(response.trajectory_id, quality=1.0)

    together(*(lambda worker=worker: write(worker) for worker in range(4)), ask, ask, ask, ask)
    assert engine.memory_count == 120
    engine.index()
    assert len(engine._memories.ids) == len(engine._memories.vectors) == 120
    assert engine.metrics().feedbacks == 120


@pytest.mark.usefixtures("restless")
def test_a_reader_sees_the_state_before_a_cycle_or_after_it_and_nothing_between():
    engine = SonaEngine(SonaConfig(hidden_dim=D, min_trajectories=1, micro_lora_lr=0.05), clock=clock)
    rng = np.random.default_rng(0)
    x = rng.normal(size=D)
    for cycle in range(5):
        for number in range(8):
            trajectory = QueryTrajectory(
                1 + 8 * cycle + number, rng.normal(size=D), (TrajectoryStep(rng.normal(size=D)),), 1.0
            )
            engine.submit_trajectory(trajectory)
        before, seen, done = engine.adapt(x).tobytes(), set(), threading.Event()

        def read(seen=seen, done=done) -> None:
            while not done.is_set():
                seen.add(engine.adapt(x).tobytes())

        def learn(done=done) -> None:
            try:
                engine.background_learn(force=True)
            finally:
                done.set()

        together(read, read, learn)
        assert seen <= {before, engine.adapt(x).tobytes()}


def test_reading_does_not_wait_for_learning_and_answers_the_same():
    engine = SonaEngine(CONFIG, clock=clock)
    for number in range(8):
        step(engine, number)
    x = np.random.default_rng(5).normal(size=D)
    expected, held, read = engine.adapt(x).tobytes(), threading.Event(), []

    def learn() -> None:
        with engine._cycle_lock, engine._lock:
            held.set()
            deadline = time.monotonic() + 30.0
            while not read and time.monotonic() < deadline:
                time.sleep(0.001)

    def ask() -> None:
        held.wait(30.0)
        read.append(engine.adapt(x).tobytes())

    began = time.monotonic()
    together(learn, ask)
    assert read == [expected]
    assert time.monotonic() - began < 20.0


def test_the_background_thread_learns_while_requests_go_on(tmp_path):
    config = SonaConfig(hidden_dim=D, min_trajectories=1, background_interval_s=0.0)
    with SonaEngine.open(tmp_path / "engine", config) as engine:
        engine.start_background(0.002)
        deadline = time.monotonic() + 30.0
        number = 0
        while engine.metrics().version < 3 and time.monotonic() < deadline:
            step(engine, number)
            number += 1
        assert engine.metrics().version >= 3
        engine.stop_background()
        engine.background_learn(force=True)
        metrics = engine.metrics()
        assert metrics.learned == metrics.instant.recorded == number
    assert SonaEngine.load(tmp_path / "engine").metrics().learned == number


def test_a_worker_whose_file_cannot_be_written_goes_on_learning(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    config = SonaConfig(hidden_dim=D, min_trajectories=1, background_interval_s=0.0)
    engine = SonaEngine.open(folder / "engine", config)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    step(engine, 0)
    engine.background_learn(force=True)
    assert engine.metrics().version == 1  # learned all the same; only the file is missing
    with contextlib.suppress(StoreError):
        engine.close()
    engine.close()
