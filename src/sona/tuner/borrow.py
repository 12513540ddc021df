"""Settings that hold for one statement on a connection, and are gone after it whatever happens."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self, cast

from sona.errors import MissingExtra

try:
    import psycopg
    import psycopg.types.json
    from psycopg.abc import Params, QueryNoTemplate
    from psycopg.pq import TransactionStatus
except ModuleNotFoundError as error:
    raise MissingExtra("psycopg", "postgres", "tuning a server") from error

__all__ = [
    "Borrowed",
    "Connection",
    "Cursor",
    "Row",
    "ask",
    "is_idle",
    "is_not_taken",
    "is_of_others",
    "plain_kind",
    "psycopg",
]

Row = tuple[object, ...]
Connection = psycopg.Connection[Row]
Cursor = psycopg.Cursor[Row]

_LONGEST_MS = 2_147_483_647
_UNDO = "ROLLBACK TO SAVEPOINT sona_tuner; RELEASE SAVEPOINT sona_tuner"
_NOT_TAKEN = frozenset({"22023", "42501", "42602", "42704", "55P02"})  # SQLSTATEs
_OF_OTHERS = ("40", "55")  # classes of SQLSTATEs
_TRIES = 3  # to undo: the limit of the statement may still hold, and end what undoes it
# The application's own limit stays in force where it is the shorter one. Returns the one in force, in seconds.
_LIMIT = """SELECT extract(epoch FROM CASE WHEN given = interval '0' OR given >= interval '{0} ms'
  THEN set_config('statement_timeout', '{0}', true) ELSE current_setting('statement_timeout') END::interval)::text
FROM (SELECT current_setting('statement_timeout')::interval AS given) AS setting"""


def ask(
    connection: Connection, sql: str, params: Params | None = None, *, kind: type[Cursor] = psycopg.Cursor
) -> list[Row]:
    """Return the rows of the last of the statements in `sql`, which is not tuned, prepared, or seen by the application.

    Args:
        connection: Where to ask.
        sql: Statements; several only without parameters.
        params: Parameters.
        kind: Kind of cursor, which decides how parameters stand in `sql`.

    Raises:
        psycopg.Error: as the server says.
    """
    cursor = kind(connection, row_factory=psycopg.rows.tuple_row)
    query: QueryNoTemplate = sql.encode(connection.info.encoding)
    if sql.startswith("EXPLAIN"):  # however the application reads its own JSON, and whatever its encoding
        psycopg.types.json.set_json_loads(partial(_document, encoding=connection.info.encoding), cursor)
    cursor.execute(query, params, prepare=False)
    while cursor.nextset():
        pass
    return [] if cursor.description is None else cursor.fetchall()


def _document(data: str | bytes, encoding: str) -> object:
    text = data if isinstance(data, str) else bytes(data).decode(encoding, "replace")
    found: object = json.loads(text)
    return found


def plain_kind(kind: type[Cursor]) -> type[Cursor]:
    """Return the driver's own kind of cursor behind one of the application's."""
    kinds: tuple[type[Cursor], ...] = (psycopg.ClientCursor, psycopg.RawCursor, psycopg.Cursor)
    return next(one for one in kinds if issubclass(kind, one))


def is_idle(connection: Connection) -> bool:
    """Return True when no transaction is open."""
    return connection.info.transaction_status == TransactionStatus.IDLE


def is_not_taken(error: Exception) -> bool:
    """Return True when the server does not take a setting, whoever runs what."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _NOT_TAKEN


def is_of_others(error: psycopg.Error) -> bool:
    """Return True when an error comes from what other transactions do, whatever the plan."""
    return (error.sqlstate or "").startswith(_OF_OTHERS)


class Borrowed:
    """A block in which settings hold: around it a transaction of its own, or a savepoint in that of the application.

    After an error the connection is as it was before the block; the application's transaction goes on.

    Args:
        connection: Not within a failed transaction, not in pipeline mode.
        settings: Value of each setting by name.
        timeout_s: When the server gives a statement of the block up; None for the application's own limit.
    """

    def __init__(
        self, connection: Connection, settings: Mapping[str, str] | None = None, timeout_s: float | None = None
    ) -> None:
        """Note what to set; nothing is sent yet."""
        self._connection, self._settings, self._timeout_s = connection, dict(settings or {}), timeout_s
        self._is_own = connection.autocommit and is_idle(connection)
        self._before: Row = ()
        self.is_set = False
        """True once every setting was taken."""
        self.limit_s: float | None = None
        """When a statement of the block is ended: after `timeout_s`, or a shorter limit of the application's."""
        self.keeps_failure = False
        """Whether an error is the application's own: its transaction stays failed, as it does without a tuner."""

    def __enter__(self) -> Self:
        """Set everything.

        Raises:
            psycopg.Error: a setting is refused; nothing is set.
        """
        try:
            self._begin()
        except BaseException:
            self._undo()
            raise
        self.is_set = True
        return self

    def _begin(self) -> None:
        names = self._names
        if self._is_own:
            ask(self._connection, "BEGIN")
        else:
            known = ", ".join(f"current_setting({_quoted(name)}, true)" for name in names)
            ask_first = f"; SELECT {known}" if names else ""
            self._before = next(iter(ask(self._connection, f"SAVEPOINT sona_tuner{ask_first}")), ())
        parts = []
        if self._settings:
            given = (f"set_config({_quoted(n)}, {_quoted(v)}, true)" for n, v in self._settings.items())
            parts.append(f"SELECT {', '.join(given)}")
        if self._timeout_s is not None:
            parts.append(_LIMIT.format(min(_LONGEST_MS, max(1, math.ceil(self._timeout_s * 1000.0)))))
        if parts:
            rows = ask(self._connection, "; ".join(parts))
            self.limit_s = None if self._timeout_s is None else float(cast(str, rows[0][0]))

    @property
    def _names(self) -> tuple[str, ...]:
        limit = ("statement_timeout",) if self._timeout_s is not None else ()
        return (*self._settings, *limit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the block: what was set is unset."""
        if kind is not None:
            is_failed = self._connection.info.transaction_status == TransactionStatus.INERROR
            if self._is_own or not (self.keeps_failure and is_failed):
                self._undo()
            return
        # The answer is here: what fails now is met by the application's next statement, if it still matters then. But
        # an answer that turns out not to fit between those of others is none.
        try:
            ask(self._connection, "COMMIT" if self._is_own else self._restored())
        except BaseException as met:
            self._undo()
            if not isinstance(met, psycopg.Error) or isinstance(met, psycopg.errors.SerializationFailure):
                raise

    def _restored(self) -> str:
        # Not by going back: the locks that the statement took are the transaction's, as they are without a tuner.
        back = "".join(
            f"SET LOCAL {name} TO {_quoted(str(value)) if value else 'DEFAULT'}; "
            for name, value in reversed(list(zip(self._names, self._before, strict=True)))
        )
        return f"{back}RELEASE SAVEPOINT sona_tuner"

    def _undo(self) -> None:
        for _ in range(_TRIES):
            if self._connection.closed or is_idle(self._connection):
                return
            with contextlib.suppress(psycopg.Error):
                ask(self._connection, "ROLLBACK" if self._is_own else _UNDO)
                return


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
