"""An engine on a file that is killed, torn, damaged, full, locked, read-only, or of another schema."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from children import outcome, running

from sona import Context, GuardConfig, PatternConfig, SonaConfig, SonaEngine
from sona.engine.events import CycleFailed
from sona.engine.journal import decoded
from sona.errors import StateError, StoreError
from sona.state import digest
from sona.stores import database, migrations

ROOT = Path(__file__).parents[2]
D, IDS = 6, tuple(f"d{row}" for row in range(9))
ITEMS = np.random.default_rng(0).normal(size=(9, D)).astype(np.float32)
CONFIG = SonaConfig(
    hidden_dim=D,
    min_trajectories=2,
    patterns=PatternConfig(min_cluster_size=2),
    guard=GuardConfig(warm_up=5, holdout=0.2, key="k"),
)
posix_only = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signal")

CHILD = f"""
import os, resource, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_engine_crashes import CONFIG, IDS, ITEMS, embed, open_engine, step
from sona import Context, SonaEngine
from sona.errors import StoreError
from sona.state import digest
from sona.stores import SqliteStore
path = sys.argv[1]
def say(what):
    os.write(1, f"{{what}}\\n".encode())
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def embed(texts):
    return np.array([[len(text), *map(ord, text[: D - 1].ljust(D - 1))] for text in texts], np.float32)


def open_engine(path, **options):
    return SonaEngine.open(path, CONFIG, embedder=embed, **options)


def step(engine: SonaEngine, number: int) -> None:
    """Let one of everything happen."""
    rng = np.random.default_rng(number)
    who = Context(user_id=f"u{number % 4}")
    ranking = engine.rank(rng.normal(size=D), IDS, ITEMS, k=4, context=who)
    engine.feedback(ranking.trajectory_id, rewards={ranking.ids[number % 4]: 1.0})
    engine.remember(f"text number {number}", f"m{number % 7}", subject=who.user_id)
    response = engine.process(f"number {number}", who)
    engine.feedback(response.trajectory_id, quality=0.5)
    if number % 5 == 4:
        engine.background_learn()


def state_of(engine: SonaEngine) -> str:
    return digest(engine._machine.state())


# -- killed ----------------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize("level", ["strict", "batched", "relaxed"])
def test_killed_under_load_it_keeps_what_it_acknowledged_and_is_what_its_log_says(tmp_path, level):
    pytest.importorskip("sklearn")
    target = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "bench" / "crash.py"), "--kills", "4", "--level", level, "--seed", "3"]
    done = subprocess.run(
        [*command, "--json", str(target), "--folder", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(target.read_text())
    for fault in ("lost_acknowledged", "torn_states", "replays_unequal", "answers_unequal", "untrue_counters"):
        assert figures[fault] == 0
    assert figures["kills"] == 4
    assert figures["levels"][level]["acknowledged"] > 0
    assert figures["control"]["acknowledged_before_written"]["lost_acknowledged"] > 0
    assert all(figures["control"]["harmed"].values())


def test_a_text_that_is_known_is_as_safe_as_a_new_one_when_remembering_it_returns(tmp_path):
    waited = []
    with open_engine(tmp_path / "engine", durability="strict") as engine:
        engine.remember("a text", "m")
        wait = engine._journal.store.wait
        engine._journal.store.wait = lambda seq: (waited.append(seq), wait(seq))
        engine.remember("a text", "m")  # another thread may have brought it a moment ago, and be waiting still
    assert waited[:1] == [1]


@dataclass(frozen=True)
class Left:
    """What was left of a file whose process was killed, and every state it went through, in order."""

    file: bytes
    log: bytes
    whole: bytes
    states: list[str]


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> Left:
    path = tmp_path_factory.mktemp("left") / "engine"
    code = "engine = open_engine(path, durability='strict')\nfor number in range(12): step(engine, number)\ndie()"
    _, problem, status = outcome(CHILD + code, path)
    assert status == -signal.SIGKILL, problem
    file, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert len(log) > 100_000
    with open_engine(path) as engine:
        store, machine = engine._journal.store, engine._blank()
        states = [digest(machine.state())]
        for seq, event in decoded(machine, store.events(), store):
            machine.apply(event, seq)
            states.append(digest(machine.state()))
        assert states[-1] == state_of(engine)
    assert not Path(f"{path}-wal").exists()
    return Left(file, log, path.read_bytes(), states)


def put(folder: Path, file: bytes, log: bytes = b"") -> Path:
    for entry in folder.iterdir():
        entry.unlink()
    (folder / "engine").write_bytes(file)
    if log:
        (folder / "engine-wal").write_bytes(log)
    return folder / "engine"


def found(path: Path) -> str | None:
    """Return the state in a file, which its log gives too; None when it is refused, and then it stays as it is."""
    before = path.read_bytes()
    try:
        engine = open_engine(path)
    except StoreError:
        assert path.read_bytes() == before
        return None
    with engine:
        with suppress(StoreError):  # damage before the last snapshot
            assert engine.replay().is_equal
        return moment_of(engine)


def moment_of(engine: SonaEngine) -> str:
    """Return the state in an engine's file, without what opening it says of a cycle that was cut off."""
    store, machine = engine._journal.store, engine._blank()
    last = [event for _, event in decoded(machine, store.events(max(engine._journal.seq - 1, 0)), store)]
    if not last or not isinstance(last[0], CycleFailed):
        return state_of(engine)
    for seq, event in decoded(machine, store.events(), store):
        if seq < engine._journal.seq:
            machine.apply(event, seq)
    return digest(machine.state())


def test_a_torn_write_ahead_log_gives_an_earlier_moment_and_the_longer_it_is_the_later(tmp_path, left):
    chance, last = random.Random(0), -1
    for size in sorted(chance.randrange(len(left.log)) for _ in range(12)):
        moment = left.states.index(found(put(tmp_path, left.file, left.log[:size])))
        assert moment >= last
        last = moment
    assert found(put(tmp_path, left.file, left.log)) == left.states[-1]
    assert 0 < last < len(left.states)


def test_a_damaged_write_ahead_log_gives_an_earlier_moment_or_is_refused(tmp_path, left):
    chance, seen = random.Random(1), set()
    for _ in range(12):
        log = bytearray(left.log)
        log[chance.randrange(len(log))] ^= 1 << chance.randrange(8)
        state = found(put(tmp_path, left.file, bytes(log)))
        assert state is None or state in left.states
        seen.add(state)
    assert len(seen) > 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 600])
def test_a_damaged_file_is_refused_or_gives_the_same_state_and_never_another(tmp_path, left, size):
    chance, states = random.Random(size), []
    for most in (len(left.whole) - size, 50_000) * 40:  # anywhere, and where the log is: most of the file is snapshots
        file, start = bytearray(left.whole), chance.randrange(most)
        for place in range(start, start + size):
            file[place] ^= chance.randrange(1, 256)
        states.append(found(put(tmp_path, bytes(file))))
    assert set(states) == {None, left.states[-1]}


def test_a_file_that_is_cut_short_is_refused(tmp_path, left):
    chance = random.Random(4)
    for _ in range(10):
        assert found(put(tmp_path, left.whole[: chance.randrange(1, len(left.whole))])) is None


# -- another process, another user, another schema -------------------------------------------------------------------

SERVING = """
engine = open_engine(path)
number = 0
while True:
    step(engine, number)
    number += 1
    say(number)
"""


@posix_only
def test_while_one_process_serves_another_may_look_and_not_come_in(tmp_path):
    path = tmp_path / "engine"
    with running(CHILD + SERVING, path) as process:
        while process.stdout.readline().strip() != "4":
            assert process.poll() is None, process.stderr.read()
        with pytest.raises(StoreError, match=r"engine is open in another process, or a second time in this one"):
            open_engine(path)
        deadline = time.monotonic() + 20.0
        looking = SonaEngine.load(path, embedder=embed)
        while looking.metrics().feedbacks < 6 and time.monotonic() < deadline:  # what was said may not be written yet
            looking = SonaEngine.load(path, embedder=embed)
        assert looking.metrics().feedbacks >= 6
        assert looking.rank(np.ones(D), IDS, ITEMS).ids
        while process.stdout.readline().strip() != "8":
            assert process.poll() is None
    with open_engine(path) as engine:
        assert engine.metrics().feedbacks > looking.metrics().feedbacks
        assert engine.replay().is_equal


READ_ONLY = """
step(SonaEngine(CONFIG, embedder=embed), 0)  # imports what another user may be kept from reading
os.setuid(65534) if os.getuid() == 0 else None
try:
    open_engine(path)
except StoreError as error:
    say(error)
engine = SonaEngine.load(path, embedder=embed)
say(digest(engine._machine.state()))
step(engine, 100)
"""


@posix_only
@pytest.mark.parametrize("mode", [0o444, 0o555])
def test_a_file_that_may_not_be_written_is_refused_and_can_be_loaded(left, mode):
    with tempfile.TemporaryDirectory() as name:  # one that another user may enter
        folder = Path(name)
        path = put(folder, left.whole)
        path.chmod(0o444)
        folder.chmod(0o755 if mode == 0o444 else mode)
        said, problem, _ = outcome(CHILD + READ_ONLY, path)
        folder.chmod(0o755)
        assert len(said) == 2, problem
        assert "cannot be written" in said[0]
        assert said[1] == left.states[-1]
        assert path.read_bytes() == left.whole


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path, left):
    path = put(tmp_path, left.whole)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {migrations.SCHEMA_VERSION + 1}")
    newer = path.read_bytes()
    for use in (open_engine, partial(SonaEngine.load, embedder=embed)):
        with pytest.raises(StoreError, match="use a newer SONA"):
            use(path)
    assert path.read_bytes() == newer


def test_an_older_schema_is_brought_up_to_date_as_a_whole_or_not_at_all(tmp_path, left, monkeypatch):
    path = put(tmp_path, left.whole)

    def more(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE settings ADD COLUMN note TEXT")
        if is_failing:
            connection.execute("SELECT no_such_column FROM settings")
        connection.execute("ALTER TABLE settings DROP COLUMN note")

    here = migrations.SCHEMA_VERSION
    monkeypatch.setattr(database, "SCHEMA_VERSION", here + 1)
    monkeypatch.setattr(database, "migrate", partial(migrations.migrate, migrations=(*migrations.MIGRATIONS, more)))
    for is_failing in (True, False):
        if not is_failing:
            assert found(path) == left.states[-1]
            continue
        with pytest.raises(StoreError):
            open_engine(path)
        assert migrations.schema_version(sqlite3.connect(path)) == here
    with closing(sqlite3.connect(path)) as connection:
        assert migrations.schema_version(connection) == here + 1


# -- a full disk -----------------------------------------------------------------------------------------------------

FULL = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(path, durability=sys.argv[2], limit_s=0.2, queue_size=int(sys.argv[3]))
engine = SonaEngine(CONFIG, embedder=embed, store=store)
for number in range(5):
    step(engine, number)
engine.flush()
say(engine.metrics().store.failures)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, resource.RLIM_INFINITY))
ranked = refused = number = 0
deadline = time.monotonic() + 30.0
while (engine.metrics().store.failures < 3 or ranked < int(sys.argv[4])) and time.monotonic() < deadline:
    ranking = engine.rank(ITEMS[number % 9], IDS, ITEMS)
    response = engine.process("which number", Context(user_id="u1"))
    ranked += 1
    number += 1
    for given in (ranking, response):
        try:
            engine.feedback(given.trajectory_id, quality=1.0)
        except StoreError:
            refused += 1
metrics = engine.metrics()
say(f"{metrics.store.failures > 0} {metrics.store.last_error}")
say(f"{ranked} {refused} {metrics.feedbacks} {metrics.store.queued} {metrics.store.refused}")
try:
    engine.flush()
    say("flushed what cannot be written")
except StoreError as error:
    say(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
deadline = time.monotonic() + 30.0
while engine.metrics().store.queued and time.monotonic() < deadline:
    time.sleep(0.05)
engine.flush()
say(f"{digest(engine._machine.state())} {engine.metrics().store.last_error}")
die()
"""


@posix_only
@pytest.mark.parametrize(
    ("level", "queue_size", "rounds"), [("batched", 10_000, 40), ("batched", 30, 40), ("strict", 10_000, 8)]
)
def test_on_a_full_disk_serving_goes_on_and_the_log_catches_up(tmp_path, level, queue_size, rounds):
    path = tmp_path / "engine"
    said, problem, _ = outcome(CHILD + FULL, path, level, queue_size, rounds)
    assert len(said) == 5, problem
    assert "Traceback" not in problem
    assert said[0] == "0"
    assert said[1].startswith("True ")
    assert "disk" in said[1] or "no room" in said[1]
    ranked, refused, feedbacks, queued, lost = map(int, said[2].split())
    assert feedbacks == 10 + 2 * ranked  # learned from, in memory, whatever the disk did
    assert queued > 0
    assert (refused > 0) == (level == "strict")
    assert (lost > 0) == (queue_size == 30)
    assert said[3] != "flushed what cannot be written"
    state, error = said[4].split(" ", 1)
    assert error == "None"
    with open_engine(path) as engine:
        assert state_of(engine) == state
        assert engine.metrics().feedbacks == feedbacks
        if queue_size == 30:  # a snapshot holds what the log could not take
            with pytest.raises(StateError, match="could not be written"):
                engine.replay()
        else:
            assert engine.replay().is_equal


BUSY_WHEN_FULL = """
import threading
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(path, limit_s=0.2, queue_size=300)
engine = SonaEngine(CONFIG, embedder=embed, store=store)
is_over = False
def ask():
    number = 0
    while not is_over:
        engine.rank(ITEMS[number % 9], IDS, ITEMS)
        number += 1
        time.sleep(0.002)  # three threads that only ask would leave the one that writes too little of the processor
def until(claim):
    deadline = time.monotonic() + 30.0
    while not (is_true := claim()) and time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            engine.tick()
        except StoreError:
            pass
    say(is_true)
threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
[thread.start() for thread in threads]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, resource.RLIM_INFINITY))
until(lambda: engine.metrics().store.refused > 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
def written_again():
    before = engine.metrics().store
    time.sleep(0.1)
    after = engine.metrics().store
    return after.written > before.written and after.refused == before.refused
until(written_again)
is_over = True
[thread.join() for thread in threads]
engine.flush()
say(digest(engine._machine.state()))
die()
"""


@posix_only
def test_after_a_full_disk_the_log_goes_on_although_requests_never_pause(tmp_path):
    path = tmp_path / "engine"
    said, problem, _ = outcome(CHILD + BUSY_WHEN_FULL, path)
    assert said[:2] == ["True", "True"], problem
    with open_engine(path) as engine:
        assert state_of(engine) == said[2]


# -- forgetting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 1, 3])
def test_who_gave_nearly_all_that_a_version_was_learned_from_can_be_forgotten(tmp_path, others):
    def live(name: str, people: list[str]) -> SonaEngine:
        engine = open_engine(tmp_path / name)
        for number, who in enumerate(people):
            ranking = engine.rank(ITEMS[number % 9], IDS, ITEMS, context=Context(user_id=who))
            engine.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
        return engine

    with live("engine", [*["ann"] * others, *["eve"] * 8]) as engine:
        assert engine.background_learn().version == 1
        engine.rollback(1)
        assert engine.forget("eve").requests == 8
        assert engine.replay().is_equal
        assert engine.version == len(engine.versions()) == (others > 1)
        left = engine.rank(ITEMS[0], IDS, ITEMS)
        feedbacks = engine.metrics().feedbacks
    with open_engine(tmp_path / "engine") as again, live("another", ["ann"] * others) as never:
        assert again.metrics().feedbacks == feedbacks == others
        for one in (again, never):
            one.background_learn()
        assert again.adapt(ITEMS).tobytes() == never.adapt(ITEMS).tobytes()
        assert left.scores == never.rank(ITEMS[0], IDS, ITEMS).scores


def wider(texts):
    return np.array([[len(text), 1.0, *map(ord, text[:D].ljust(D))] for text in texts], np.float32)


def test_requests_that_found_nothing_or_are_of_another_embedder_do_not_end_loop_b_or_the_file(tmp_path):
    config = SonaConfig(min_trajectories=2, guard=GuardConfig(warm_up=1, holdout=0.5, key="k"))
    path = tmp_path / "engine"

    def use(engine: SonaEngine, first: int) -> None:
        for number in range(first, first + 15):
            response = engine.process(f"number {number}", Context(user_id=f"u{number}"))
            engine.feedback(response.trajectory_id, quality=1.0)

    with SonaEngine.open(path, config, embedder=embed) as engine:
        use(engine, 0)  # before there is anything to find
        for number in range(5):
            engine.remember(f"text number {number}")
        use(engine, 20)
        assert engine.background_learn(force=True).skipped_reason is None
        assert engine.reembed(wider) == 5
        use(engine, 40)
        assert engine.background_learn(force=True).skipped_reason is None
        assert engine.replay().is_equal
        state = state_of(engine)
    with SonaEngine.open(path, embedder=wider) as again:
        assert state_of(again) == state
        assert again.replay().is_equal
