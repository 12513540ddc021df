"""A lease among processes: several ask one file for it, while another one writes to it, and holders are killed.

A `SqliteStore` admits one writer, so the others come in by the layer beneath it, which knows no such lock.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import ExitStack, closing, contextmanager

import pytest
from children import running, tell

from sona.errors import StoreError
from sona.stores import Event, SqliteStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signal")

ASKING = """
import os, sys
from pathlib import Path
from sona.errors import StoreError
from sona.stores import Durability
from sona.stores.database import open_for_writing
from sona.stores.lease import asked_for
from sona.stores.settings import drop_lease, take_lease
database, name = open_for_writing(Path(sys.argv[1]), Durability.BATCHED), sys.argv[2]
def say(what):
    os.write(1, f"{what}\\n".encode())
def ask(now, until):
    while True:
        try:
            return take_lease(database, "learn", asked_for("learn", name, now=now, until=until), now=now)
        except StoreError as error:  # so many ask that the file was not free in time
            if "in use" not in str(error):
                raise
say("ready")
sys.stdin.readline()
"""
TURNS = 60
TAKING_TURNS = f"""
for turn in range({TURNS}):
    if ask(10.0 * turn, 10.0 * turn + 10.0):
        say(turn)
"""
HOLDING = """
say(ask(0.0, 100.0))
sys.stdin.readline()
"""


@contextmanager
def asking(code, *arguments):
    with running(ASKING + code, *arguments) as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        yield process


def event(seq):
    return Event(seq, "note", 0.5 * seq, None, None, b"%d" % seq)


def asked(store, turn):
    while True:
        try:
            return store.lease("learn", "writer", now=10.0 * turn, until=10.0 * turn + 10.0)
        except StoreError as error:
            if "in use" not in str(error):
                raise


def test_of_several_processes_exactly_one_has_the_lease_at_a_time_while_another_writes(tmp_path):
    path, names, seq = tmp_path / "log", ("ann", "bob", "cid", "dan"), 0
    with closing(SqliteStore(path)) as store, ExitStack() as stack:
        processes = [stack.enter_context(asking(TAKING_TURNS, path, name)) for name in names]
        for process in processes:
            tell(process)
        granted = []
        for turn in range(TURNS):
            if asked(store, turn):  # the writer asks, too
                granted.append(turn)
            seq += 1
            assert store.append(seq, lambda seq=seq: event(seq), is_acknowledged=True)
        for process in processes:
            said, problem = process.communicate(timeout=60)
            assert (problem, process.returncode) == ("", 0)
            granted += map(int, said.split())
        store.wait(seq)
    assert Counter(granted) == Counter(range(TURNS))
    with closing(SqliteStore(path)) as store:
        assert [(found.seq, found.body) for found in store.events()] == [
            (one, b"%d" % one) for one in range(1, seq + 1)
        ]


def test_the_lease_of_a_process_that_was_killed_runs_out(tmp_path):
    path = tmp_path / "log"
    with closing(SqliteStore(path)) as store, asking(HOLDING, path, "ann") as process:
        tell(process)
        assert process.stdout.readline() == "True\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not store.lease("learn", "bob", now=99.0, until=200.0)
        assert store.lease("learn", "bob", now=100.0, until=200.0)
