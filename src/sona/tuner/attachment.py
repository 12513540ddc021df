"""One line that has an application's queries tuned: psycopg connections, cursors, and SQLAlchemy engines."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Self

from sona.config.tuner import TunerConfig
from sona.errors import InvalidValue
from sona.tuner.borrow import Connection, Cursor, psycopg
from sona.tuner.session import Session
from sona.tuner.statements.statement import read_statement
from sona.tuner.tuner import Tuner

if TYPE_CHECKING:
    from psycopg import Copy
    from psycopg.abc import Params, Query
    from psycopg.copy import Writer
    from sqlalchemy import Engine

_TUNERS: weakref.WeakKeyDictionary[Engine, Tuner] = weakref.WeakKeyDictionary()
_HELD: weakref.WeakKeyDictionary[Connection, threading.RLock] = weakref.WeakKeyDictionary()


def attach(
    target: Connection | Engine,
    tuner: Tuner | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    config: TunerConfig | None = None,
    mode: str = "tune",
) -> Tuner:
    """Have every query of a psycopg connection or an SQLAlchemy engine tuned from now on, and return the tuner.

    Queries stay as they are. Only what is run by `execute` of a client-side cursor is tuned: not server-side cursors,
    COPY, `executemany`, `stream`, or a pipeline. What is attached already goes over to the tuner that came last.

    Args:
        target: A psycopg 3 connection, or an SQLAlchemy engine over psycopg 3.
        tuner: What chooses and learns; several connections share one. None for a new one.
        path: Where a new tuner is kept: found again there, and saved there by `close`.
        config: Settings of a new tuner.
        mode: Of a new tuner; see `Tuner`.

    Raises:
        InvalidValue: something else, or another driver; a tuner as well as what a new one is made of.
        StoreError: the file at `path` is damaged.
        MissingExtra: sqlglot is not installed.

    Example:
        connection = psycopg.connect(dsn)
        with sona.tuner.attach(connection, path="tuner.sona") as tuner:
            connection.execute("SELECT ...")
    """
    read_statement("SELECT 1")  # what reading statements needs is missing now, or never
    if tuner is not None and (path is not None or config is not None or mode != "tune"):
        raise InvalidValue("tuner: expected a tuner alone, or the path, config and mode of a new one; got both")
    _check_target(target)
    kept = _new(path, config, mode) if tuner is None else tuner
    if isinstance(target, psycopg.Connection):
        target.cursor_factory = cursor_factory(kept, target.cursor_factory)
    else:
        _listen(target, kept)
    return kept


def _new(path: str | os.PathLike[str] | None, config: TunerConfig | None, mode: str) -> Tuner:
    return Tuner(config, mode=mode) if path is None else Tuner.open(path, config, mode=mode)


def connect(dsn: str, tuner: Tuner, *, autocommit: bool = False) -> Connection:
    """Return a new connection whose queries are tuned; `psycopg.connect` and `attach` in one.

    Raises:
        psycopg.OperationalError: no server answers.
    """
    return psycopg.connect(dsn, autocommit=autocommit, cursor_factory=cursor_factory(tuner))


def cursor_factory(tuner: Tuner, base: type[Cursor] = psycopg.Cursor) -> type[Cursor]:
    """Return a class of cursors whose queries are tuned, to pass as `cursor_factory` to psycopg.

    Args:
        tuner: What chooses and learns.
        base: The class of cursors the application uses.
    """
    read_statement("SELECT 1")  # what reads statements is imported now, and not while the first one waits
    base = getattr(base, "untuned", base)

    class TunedCursor(base):  # type: ignore[valid-type, misc]
        """A cursor whose queries are run with the settings the tuner chose, in their turn if threads share them."""

        untuned = base

        def execute(
            self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Self:
            """Execute a query, as psycopg does."""
            plain = partial(super().execute, query, params, binary=binary)
            with _held(self.connection):
                text = _text(query, self.connection)
                if text is None:
                    plain(prepare=prepare)
                    return self

                def run(*, prepare: bool | None, given: bool | None = prepare) -> None:
                    plain(prepare=given if prepare is None else prepare)

                Session(tuner, self.connection, kind=base).execute(run, text, params)
            return self

        def executemany(self, query: Query, params_seq: Iterable[Params], *, returning: bool = False) -> None:
            """Execute a query with several sets of parameters, as psycopg does; it is not tuned."""
            with _held(self.connection):
                super().executemany(query, params_seq, returning=returning)

        @contextlib.contextmanager
        def copy(
            self, statement: Query, params: Params | None = None, *, writer: Writer | None = None
        ) -> Iterator[Copy]:
            """Copy rows, as psycopg does; it is not tuned."""
            with _held(self.connection), super().copy(statement, params, writer=writer) as copied:
                yield copied

    return TunedCursor


def _text(query: Query, connection: Connection) -> str | None:
    if isinstance(query, str):
        return query
    with contextlib.suppress(UnicodeDecodeError, psycopg.Error):
        if isinstance(query, bytes):
            return query.decode(connection.info.encoding)
        if isinstance(query, psycopg.sql.Composable):
            return query.as_string(connection)
    return None


def _held(connection: Connection) -> threading.RLock:
    # What one thread runs on a connection must not happen within the transaction around what another one runs.
    return _HELD.setdefault(connection, threading.RLock())


def _check_target(target: object) -> None:
    if isinstance(target, psycopg.Connection):
        return
    dialect = getattr(target, "dialect", None)
    if dialect is None:
        kinds = "a psycopg.Connection or an SQLAlchemy engine over psycopg 3"
        raise InvalidValue(f"target: expected {kinds}, got {type(target).__name__}")
    kind = "an asynchronous one" if getattr(dialect, "is_async", False) else getattr(dialect, "driver", None)
    if kind != "psycopg":
        raise InvalidValue(f"target: expected an engine over psycopg 3 (postgresql+psycopg), got {kind}")


def _listen(engine: Engine, tuner: Tuner) -> None:
    from sqlalchemy import event

    def do_execute(cursor: object, statement: str, parameters: Params | None, _context: object) -> bool | None:
        if not isinstance(cursor, psycopg.Cursor) or isinstance(cursor, psycopg.ServerCursor):
            return None

        def run(*, prepare: bool | None) -> None:
            cursor.execute(statement, parameters, prepare=prepare)

        Session(_TUNERS[engine], cursor.connection, kind=type(cursor)).execute(run, statement, parameters)
        return True

    if engine not in _TUNERS:
        event.listen(engine, "do_execute", do_execute)
    _TUNERS[engine] = tuner
