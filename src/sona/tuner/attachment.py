"""One line that has an application's queries tuned: psycopg connections, cursors, and SQLAlchemy engines."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Self

from sona.config.tuner import TunerConfig
from sona.errors import InvalidValue
from sona.tuner.borrow import Connection, psycopg
from sona.tuner.session import Session
from sona.tuner.tuner import Tuner

if TYPE_CHECKING:
    from psycopg.abc import Params, Query
    from sqlalchemy import Engine

_Cursor = psycopg.Cursor[tuple[object, ...]]


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
    COPY, `executemany`, `stream`, or a pipeline.

    Args:
        target: A psycopg 3 connection, or an SQLAlchemy engine over psycopg 3.
        tuner: What chooses and learns; several connections share one. None for a new one.
        path: Where a new tuner is kept: found again there, and saved there by `close`.
        config: Settings of a new tuner.
        mode: Of a new tuner; see `Tuner`.

    Raises:
        InvalidValue: something else, or another driver.
        StoreError: the file at `path` is damaged.

    Example:
        connection = psycopg.connect(dsn)
        with sona.tuner.attach(connection, path="tuner.sona") as tuner:
            connection.execute("SELECT ...")
    """
    kept = (
        tuner
        if tuner is not None
        else (Tuner(config, mode=mode) if path is None else Tuner.open(path, config, mode=mode))
    )
    if isinstance(target, psycopg.Connection):
        target.cursor_factory = cursor_factory(kept, target.cursor_factory)
    elif _is_engine(target):
        _listen(target, kept)
    else:
        kinds = "a psycopg.Connection or an SQLAlchemy engine over psycopg 3"
        raise InvalidValue(f"target: expected {kinds}, got {type(target).__name__}")
    return kept


def _new(path: str | os.PathLike[str] | None, config: TunerConfig | None, mode: str) -> Tuner:
    return Tuner(config, mode=mode) if path is None else Tuner.open(path, config, mode=mode)


def connect(dsn: str, tuner: Tuner, *, autocommit: bool = False) -> Connection:
    """Return a new connection whose queries are tuned; `psycopg.connect` and `attach` in one.

    Raises:
        psycopg.OperationalError: no server answers.
    """
    return psycopg.connect(dsn, autocommit=autocommit, cursor_factory=cursor_factory(tuner))


def cursor_factory(tuner: Tuner, base: type[_Cursor] = psycopg.Cursor) -> type[_Cursor]:
    """Return a class of cursors whose queries are tuned, to pass as `cursor_factory` to psycopg.

    Args:
        tuner: What chooses and learns.
        base: The class of cursors the application uses.
    """

    class TunedCursor(base):  # type: ignore[valid-type, misc]
        """A cursor whose queries are run with the settings the tuner chose."""

        def execute(
            self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Self:
            """Execute a query, as psycopg does."""
            plain = partial(super().execute, query, params, binary=binary)
            text = _text(query, self.connection)
            if text is None:
                plain(prepare=prepare)
                return self

            def run(*, prepare: bool | None, given: bool | None = prepare) -> None:
                plain(prepare=given if prepare is None else prepare)

            Session(tuner, self.connection).execute(run, text, params)
            return self

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


def _is_engine(target: object) -> bool:
    dialect = getattr(target, "dialect", None)
    if dialect is None:
        return False
    if getattr(dialect, "driver", None) != "psycopg" or getattr(dialect, "is_async", False):
        raise InvalidValue(f"target: expected an engine over psycopg 3 (postgresql+psycopg), got {dialect.driver!r}")
    return True


def _listen(engine: Engine, tuner: Tuner) -> None:
    from sqlalchemy import event

    def do_execute(cursor: object, statement: str, parameters: Params | None, _context: object) -> bool | None:
        if not isinstance(cursor, psycopg.Cursor) or isinstance(cursor, psycopg.ServerCursor):
            return None

        def run(*, prepare: bool | None) -> None:
            cursor.execute(statement, parameters, prepare=prepare)

        Session(tuner, cursor.connection).execute(run, statement, parameters)
        return True

    event.listen(engine, "do_execute", do_execute)
