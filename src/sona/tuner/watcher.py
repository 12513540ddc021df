"""The process that holds an embedded server: it stops the server when the pipe to its owner ends, however that came.

Run by path, not imported: it needs the standard library alone and is there in milliseconds. A signal that kills the
owner, an exit without clean-up and an orderly stop look the same from here: the end of standard input. Commands are
lines: `restart`, and `crash`, which restarts without an orderly shutdown. Each is answered, as the first start is, by
a line: `ready` with the server's process id and the folder of its socket, or `failed` with what the server said.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

_NOTICED_S, _START_S, _STOP_S, _HARD_STOP_S = 1.0, 60.0, 60.0, 5.0
_POLL_S = 0.005
_STOPPING = b"stopping"  # what the lock says while a server of the folder ends
_PR_SET_PDEATHSIG = 1  # of sys/prctl.h
_READY_LINE = 7  # of postmaster.pid, as pg_ctl reads it
_INITDB = "-U postgres --auth=trust --encoding=UTF8 --no-sync --no-instructions"
_SAME_ORDER_EVERYWHERE = "--locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"


@dataclass(frozen=True, slots=True)
class Order:
    """What to hold; it travels as JSON.

    Args:
        programs: Folder of `postgres` and `initdb`.
        home: Folder of data, log and lock; empty to have them in the scratch folder.
        temporary: Where the scratch folder is made, which has the socket and is removed in the end.
        settings: Settings of the server, each `name=value`.
        user: System user to run it as; empty for one's own.
        scratch: The scratch folder, once it is made.
    """

    programs: str
    home: str
    temporary: str
    settings: list[str]
    user: str
    scratch: str = ""


class _NotUp(Exception):
    """The server is not up; the message is one line."""


def main(order: Order) -> None:
    """Hold the server until standard input ends, then stop it and remove what is temporary."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the end of the pipe decides, not who else was signalled
    try:
        # Made here, not by the owner: who makes it is there to remove it, whatever kills the owner.
        with TemporaryDirectory(prefix="sona-", dir=order.temporary, ignore_cleanup_errors=True) as scratch:
            if order.user:
                shutil.chown(scratch, order.user, order.user)
            placed = replace(order, scratch=scratch, home=order.home or scratch)
            with Path(placed.home, "lock").open("a+b", buffering=0) as lock:
                _hold(placed, lock)
    except (_NotUp, OSError) as failure:
        _say(f"failed {failure}")


def _hold(order: Order, lock: FileIO) -> None:
    _take(lock)
    _initialise(order)
    server = _started(order)
    try:
        while command := sys.stdin.readline():
            _stop(server, hard=command == "crash\n")
            server = _started(order)
        lock.write(_STOPPING)
    finally:
        _stop(server, hard=order.home == order.scratch)


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # an owner that is gone does not listen; its pipe has ended as well
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _take(lock: FileIO) -> None:
    # An earlier server of this folder may be stopping still, because its owner was killed a moment ago.
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            if time.monotonic() - began > (_STOP_S if lock.read() == _STOPPING else _NOTICED_S):
                raise _NotUp("another server runs in this folder") from error
            time.sleep(_POLL_S)
        else:
            lock.truncate(0)
            return


def _end_with_parent() -> None:
    # In the server, before it is one: should this process be killed itself, the server is told to shut down.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _run(order: Order, command: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    account = order.user or None
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=order.scratch,
            user=account,
            group=account,
            extra_groups=[] if account else None,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - there is one thread
        )
    except OSError as error:
        raise _NotUp(f"cannot run {command[0]}: {error.strerror or error}") from error


def _initialise(order: Order) -> None:
    # In a folder aside, which takes its name when it is whole: a kill in between leaves nothing half made.
    data, new = Path(order.home, "data"), Path(order.home, "data.new")
    if data.exists():
        return
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if order.user:
        shutil.chown(new, order.user, order.user)
    with Path(order.home, "log").open("w+b") as log:
        options = [*_INITDB.split(), *_SAME_ORDER_EVERYWHERE.split(), "-D", str(new)]
        if _run(order, [f"{order.programs}/initdb", *options], log).wait():
            raise _NotUp(_complaint(log))
    new.rename(data)


def _started(order: Order) -> subprocess.Popen[bytes]:
    # Start the server, wait until it answers, and say so.
    data = Path(order.home, "data")
    where = ["-D", str(data), "-k", order.scratch, "-h", "", "-p", "5432"]  # on a socket only
    settings = [part for setting in order.settings for part in ("-c", setting)]
    with Path(order.home, "log").open("w+b") as log:
        server = _run(order, [f"{order.programs}/postgres", *where, *settings], log)
        try:
            _await(server, data / "postmaster.pid", log)
        except BaseException:
            _stop(server, hard=True)
            raise
    _say(f"ready {server.pid} {order.scratch}")
    return server


def _await(server: subprocess.Popen[bytes], pid_file: Path, log: BinaryIO) -> None:
    deadline = time.monotonic() + _START_S
    while not _is_ready(pid_file, server.pid):
        if server.poll() is not None or time.monotonic() > deadline:
            raise _NotUp(_complaint(log))
        time.sleep(_POLL_S)


def _is_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > _READY_LINE and lines[0] == str(pid) and lines[_READY_LINE].strip() == "ready"


def _complaint(log: BinaryIO) -> str:
    # The first line that says what is wrong, else the last there is.
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    serious = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (serious or lines[-1:] or ["it said nothing"])[0].rpartition("FATAL: ")[2].strip()


def _stop(server: subprocess.Popen[bytes], hard: bool) -> None:
    # An orderly shutdown ends sessions and writes everything out; a hard one leaves that to the next start.
    for number, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, _HARD_STOP_S), (signal.SIGKILL, None)):
        if hard and number == signal.SIGINT:
            continue
        server.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(patience_s)
            return


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
