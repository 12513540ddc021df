"""A store among processes: killed while it writes or wipes, opened twice, and on a disk that is full."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from children import outcome, running, tell

from sona.errors import StoreError
from sona.stores import Event, SqliteStore, blob_digest

posix_only = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signal")
pytestmark = posix_only

CHILD = f"""
import os, sys, time
from functools import partial
sys.path.insert(0, {str(Path(__file__).parent)!r})
from sona.errors import StoreError
from sona.stores import Snapshot, SqliteStore
from test_stores_processes import event
path = sys.argv[1]
def say(what):
    os.write(1, f"{{what}}\\n".encode())
"""
WRITING = """
import sona.stores.snapshots
sona.stores.snapshots.PART_BYTES = 1000
store = SqliteStore(path, durability=sys.argv[2])
seq = store.last_seq
while True:
    seq += 1
    assert store.append(seq, partial(event, seq), is_acknowledged=True)
    if seq % 50 == 0:
        store.put_snapshot(Snapshot(seq, 1.0, "d", b"%d" % seq * 5000))
    if sys.argv[2] == "strict":
        store.wait(seq)
        say(seq)
    elif seq % 20 == 0:
        time.sleep(0.001)
"""
HOLDING = """
store = SqliteStore(path)
say("ready")
sys.stdin.readline()
store.append(store.last_seq + 1, partial(event, store.last_seq + 1), is_acknowledged=True)
store.flush()
say("written")
sys.stdin.readline()
"""
ERASING = """
import signal
import sona.stores.sqlite as module
import sona.stores.erasure as erasure
store = SqliteStore(path)
def killed(database):
    if sys.argv[2] == "after VACUUM":
        with database.reading() as connection:
            connection.execute("VACUUM")
    os.kill(os.getpid(), signal.SIGKILL)
module.is_wiped = killed
store.erase([seq for seq in range(1, store.last_seq + 1) if seq % 2], [], Snapshot(store.last_seq, 1.0, "d", b""))
"""
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(path, limit_s=0.3)
def put(seq):
    assert store.append(seq, partial(event, seq), is_acknowledged=True)
put(1)
store.wait(1)
full = 1 << 17
resource.setrlimit(resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
seq = 1
while store.metrics().failures == 0:
    seq += 1
    put(seq)
    time.sleep(0.001)
try:
    store.wait(seq)
    say("waited for what is not written")
except StoreError as error:
    say(error)
for _ in range(20):
    seq += 1
    put(seq)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while store.metrics().queued:
    time.sleep(0.01)
store.wait(seq)
say(seq)
os.kill(os.getpid(), signal.SIGKILL)
"""


def event(seq: int) -> Event:
    word = b"odd-%d-" if seq % 2 else b"even-%d-"
    data = word % seq * (seq % 90)
    return Event(seq, "note", 0.5 * seq, None, None, data, {blob_digest(one): one for one in (data, b"shared")})


def told(process: subprocess.Popen[str]) -> str:
    tell(process)
    return process.stdout.readline()


def require_beginning(store: SqliteStore) -> int:
    """Return how many events there are; they are the first ones, each as it was."""
    count = 0
    for count, found in enumerate(store.events(), 1):
        sent = event(count)
        assert (found.seq, found.at, found.body, dict(found.blobs)) == (count, sent.at, sent.body, dict(sent.blobs))
    assert store.last_seq == count
    snapshot = store.snapshot()
    assert snapshot is None or (snapshot.seq <= count and snapshot.data == b"%d" % snapshot.seq * 5000)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("level", ["strict", "batched", "relaxed"])
def test_a_process_killed_while_it_writes_leaves_a_beginning_and_all_that_was_waited_for(tmp_path, level):
    path, chance, total = tmp_path / "log", random.Random(3), 0
    for _ in range(8):
        with running(CHILD + WRITING, path, level) as process:
            while not path.exists():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.005)
            time.sleep(chance.uniform(0.0, 0.8))
            process.kill()
            said, problem = process.communicate()
        assert problem == ""
        with closing(SqliteStore(path, is_read_only=True)) as store:  # before and after recovery
            seen = require_beginning(store)
        with closing(SqliteStore(path)) as store:
            assert require_beginning(store) == seen >= total
        acknowledged = [int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
        assert seen >= max(acknowledged, default=0)
        total = seen
    assert total > 0


def test_a_second_process_is_refused_while_the_first_lives_and_not_after(tmp_path):
    path = tmp_path / "log"
    with running(CHILD + HOLDING, path) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(StoreError, match="open in another process"):
            SqliteStore(path)
        with closing(SqliteStore(path, is_read_only=True)) as reader:
            assert require_beginning(reader) == 0
            assert told(process) == "written\n"
            assert require_beginning(reader) == 1
    with closing(SqliteStore(path)) as store:
        assert require_beginning(store) == 1


@pytest.mark.parametrize("moment", ["before VACUUM", "after VACUUM"])
def test_a_process_killed_while_it_wipes_is_finished_by_the_next_opening(tmp_path, moment):
    path = tmp_path / "log"
    with closing(SqliteStore(path)) as store:
        for seq in range(1, 201):
            store.append(seq, lambda seq=seq: event(seq), is_acknowledged=False)
    _, problem, code = outcome(CHILD + ERASING, path, moment)
    assert code == -signal.SIGKILL, problem
    assert b"odd-" in b"".join(one.read_bytes() for one in tmp_path.iterdir())
    with closing(SqliteStore(path)) as store:
        assert b"odd-" not in b"".join(one.read_bytes() for one in tmp_path.iterdir())
        assert [found.seq for found in store.events()] == list(range(2, 201, 2))


@pytest.mark.slow
def test_on_a_full_disk_requests_go_on_and_nothing_is_lost_when_there_is_room_again(tmp_path):
    path = tmp_path / "log"
    (error, last), problem, _ = outcome(CHILD + FULL, path)
    assert "could not be written; nothing was for 0.3 s" in error
    assert problem.count("Traceback") == 0
    with closing(SqliteStore(path)) as store:
        assert require_beginning(store) == int(last) > 20


READ_ONLY = """
expected = len(list(SqliteStore(path, is_read_only=True).events()))
if os.getuid() == 0:
    os.setuid(65534)
try:
    SqliteStore(path)
    say("opened what may not be written")
except StoreError as error:
    say(error)
say(len(list(SqliteStore(path, is_read_only=True).events())) == expected)
"""


@pytest.mark.parametrize("has_log", [False, True])
def test_a_folder_that_may_not_be_written_can_be_read(has_log):
    with tempfile.TemporaryDirectory() as name:  # one that another user may enter
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "log"
        if has_log:  # a writer died here
            with running(CHILD + HOLDING, path) as process:
                assert process.stdout.readline() == "ready\n"
                assert told(process) == "written\n"
        else:
            with closing(SqliteStore(path)) as store:
                store.append(1, lambda: event(1), is_acknowledged=True)
        folder.chmod(0o555)
        said, problem, _ = outcome(CHILD + READ_ONLY, path)
        folder.chmod(0o755)
        assert said[1:] == ["True"], problem
        assert "make it writable, or open the store with is_read_only=True" in said[0]
