"""A SQLite file: what it must be before it is touched, how it is opened, and its errors in words.

Everything is looked at before anything is written, through a connection that cannot write, so that a file that is
not ours, too new or damaged stays as it is, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sona.errors import StateError, StoreError
from sona.state import replace_file
from sona.stores.lock import lock_file
from sona.stores.migrations import APPLICATION_ID, SCHEMA_VERSION, migrate, schema_version
from sona.stores.rows import decoded, read_ledger
from sona.stores.store import Durability

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_CHECKED_BYTES = 1 << 30  # a file is read through at opening up to this size, .1 s per 100 MB: bench/speed_stores.py
_BUSY_S = 0.5
_ERRORS = (sqlite3.Error, UnicodeDecodeError, OverflowError)


class Database:
    """One connection, used by one thread at a time.

    Args:
        path: The file, for errors.
        connection: Open on it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Take over the connection."""
        self._path, self._connection = path, connection
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._is_closed = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def is_closed(self) -> bool:
        """True once it was closed."""
        return self._is_closed

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its write-ahead log."""
        return sum(_size_bytes(Path(f"{self._path}{end}")) for end in ("", "-wal"))

    def require_open(self) -> None:
        """Raise StateError on a closed file, and in a process that was forked off the one that opened it."""
        if self._is_closed:
            raise StateError(f"{self._path} is closed")
        if os.getpid() != self._process:
            raise StateError(f"{self._path} was opened before this process was forked; open it in one process")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection; SQLite's errors come out as StoreError."""
        with self._lock, translated(self._path):
            self.require_open()
            yield self._connection

    @contextlib.contextmanager
    def at_one_moment(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to read from; what another process writes meanwhile is not seen."""
        with self.reading() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction: all of it is written, or on any error nothing."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file; closing twice is harmless."""
        with self._lock, translated(self._path):
            self._is_closed = True
            self._connection.close()


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into a StoreError that names the file and what to do."""
    try:
        yield
    except _ERRORS as error:
        raise StoreError(f"{path} {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    name = str(getattr(error, "sqlite_errorname", ""))
    for prefix, words in (
        ("SQLITE_FULL", "cannot be written: no room is left; make room on its disk"),
        ("SQLITE_BUSY", "is in use by another program; close it there"),
        ("SQLITE_LOCKED", "is in use by another program; close it there"),
        ("SQLITE_READONLY", "cannot be written: it or its folder is read-only"),
        ("SQLITE_IOERR", "cannot be read or written: the disk reports an error"),
        ("SQLITE_CANTOPEN", "cannot be opened: it or its folder may not be read or written"),
    ):
        if name.startswith(prefix):
            return f"{words} ({error})"
    return f"is damaged: {error}" if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB") else f"cannot be used: {error}"


# -- opening -----------------------------------------------------------------------------------------------------------


def identify(path: Path) -> bool:
    """Return True when `path` holds a store, False when nothing is there yet; read nothing but its head.

    Raises:
        StoreError: something else is there, or a store of a newer SONA, or it cannot be read.
    """
    if not path.parent.is_dir():
        raise StoreError(f"cannot open {path}: its folder does not exist")
    head = _head(path)
    if not head:
        return False
    if head[8:9] == b"{":
        raise StoreError(f"{path} was written by `save`, and is not a store; open it with `SonaEngine.load`")
    if len(head) < _HEADER_BYTES or not head.startswith(_MAGIC):
        raise StoreError(f"{path} is not a SONA store; name another file")
    if not _is_ours(head):
        raise StoreError(f"{path} is a SQLite file of another program; name another file")
    _require_known(path, int.from_bytes(head[60:64], "big"))
    return True


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return True when the file `path` is a store, damaged or not; a missing file is none.

    Raises:
        StoreError: it cannot be read.
    """
    return _is_ours(_head(Path(path)))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror or error}") from error


def _is_ours(head: bytes) -> bool:
    return head.startswith(_MAGIC) and int.from_bytes(head[68:72], "big") == APPLICATION_ID


def _require_known(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this SONA reads up to {SCHEMA_VERSION}; use a newer SONA")


def require_writable(path: Path) -> None:
    """Raise StoreError unless `path` and its folder may be written."""
    for place in (path, path.parent):
        if place.exists() and not os.access(place, os.W_OK):
            raise StoreError(f"{place} cannot be written; make it writable, or open the store with is_read_only=True")


def create(path: Path) -> None:
    """Write an empty store to `path`: a crash leaves nothing or all of it."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        content = bytearray(connection.serialize())
    content[18:20] = b"\2\2"  # written ahead from its first moment: switching later on could be cut off half way
    replace_file(path, bytes(content))


def open_existing(path: Path) -> Database:
    """Return the file of a store that is there, to read, or raise StoreError."""
    if not identify(path):
        raise StoreError(f"no store at {path}")
    return open_for_reading(path)


def open_locked(path: Path, durability: Durability) -> tuple[Database, Callable[[], None]]:
    """Return a store's file to write, made when it is missing, and what lets other writers in again.

    Raises:
        StoreError: it is open elsewhere, not a store, damaged, or cannot be written.
    """
    identify(path)  # before the lock, which leaves a file beside it
    require_writable(path)
    unlock = lock_file(path)
    try:
        if not identify(path):
            create(path)
        return open_for_writing(path, durability), unlock
    except BaseException:
        unlock()
        raise


def open_for_reading(path: Path) -> Database:
    """Return a store's file that cannot be written through, looked through for damage.

    Raises:
        StoreError: damaged, of an older schema, or it cannot be read.
    """
    # Only where nobody can come to write, the file is read without regard to writers.
    is_still = not _has_log(path) and not _is_in_use(path) and not os.access(path.parent, os.W_OK)
    connection = _connect(path, "immutable=1" if is_still else "mode=ro")
    with _closed_on_error(path, connection):
        require_whole(path, connection)
        if schema_version(connection) < SCHEMA_VERSION:
            raise StoreError(f"{path} has an older schema; open it once for writing")
    return Database(path, connection)


def open_for_writing(path: Path, durability: Durability) -> Database:
    """Return a store's file with its schema brought up to date; nothing is written when it is damaged.

    Raises:
        StoreError: damaged, locked by another program, or it cannot be written.
    """
    # With nothing beside it a file can be read as it stands, and SQLite leaves nothing beside it.
    look = _connect(path, "mode=ro" if _has_log(path) else "immutable=1")
    with _closed_on_error(path, look):
        require_whole(path, look)
    look.close()
    connection = _connect(path, "mode=rw")
    with _closed_on_error(path, connection):
        _set_up(path, connection, durability)
        migrate(connection)
    return Database(path, connection)


def _has_log(path: Path) -> bool:
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def _is_in_use(path: Path) -> bool:
    return Path(f"{path}-shm").exists()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with translated(path):
        address = f"{path.absolute().as_uri()}?{mode}"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        connection.text_factory = decoded
        return connection


@contextlib.contextmanager
def _closed_on_error(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    try:
        with translated(path):
            yield
    except BaseException:
        connection.close()
        raise


def _set_up(path: Path, connection: sqlite3.Connection, durability: Durability) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"{path}: its file system does not take a write-ahead log; put it on a local disk")
    is_strict = durability is Durability.STRICT
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_strict else 'NORMAL'}")
    connection.execute(f"PRAGMA fullfsync = {int(is_strict)}")  # macOS: past the cache of the drive
    connection.execute("PRAGMA secure_delete = FAST")  # erased events besides go by VACUUM
    connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")


def require_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Raise StoreError unless the file is whole: its structure, and the log as long as its ledger says."""
    connection.execute("BEGIN")  # one moment of the file, whatever a writer does meanwhile
    _require_known(path, schema_version(connection))
    connection.execute("PRAGMA cell_size_check = ON")
    ledger = read_ledger(connection)
    size = path.stat().st_size
    (expected,) = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    ).fetchone()
    if size < expected and not _has_log(path):  # the log may hold the pages that the file lacks
        raise _damaged(path, f"it has {size} of {expected} bytes")
    if size <= _CHECKED_BYTES:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _damaged(path, found)
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        if events != ledger.events:
            raise _damaged(path, f"it holds {events} of {ledger.events} events")
    (last,) = connection.execute("SELECT max(seq) FROM events").fetchone()
    if (last or 0) > ledger.last_seq:
        raise _damaged(path, f"its log ends at {last}, not {ledger.last_seq}")
    connection.execute("COMMIT")


def _damaged(path: Path, how: str) -> StoreError:
    return StoreError(f"{path} is damaged: {how}; restore it from a copy")
