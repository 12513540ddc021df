"""What the text of a statement tells the tuner: its fingerprint, its values, its searches, and why not to tune it."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sona.checks import whole
from sona.errors import InvalidValue
from sona.tuner.statements.normal import NormalForm, normal_form
from sona.tuner.statements.reading import Reading, StatementKind, read_form
from sona.tuner.statements.tokens import TokenKind, tokens
from sona.tuner.statements.values import Literal, Parameter, Value
from sona.tuner.statements.vector_search import SearchShape, VectorSearch

__all__ = ["Statement", "StatementKind", "StatementReader", "read_statement"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it was read; nothing is known here of the server it is meant for.

    Args:
        sql: Its text, unchanged.
        fingerprint: Digest of `normalised`: equal for statements that ask the same about other values.
        normalised: Its text without values, comments and the writer's habits: `$1`, `$2`, ... where values stand.
        places: What fills each `$n` of `normalised`, in order; several values where a list stands.
        literal_key: Digest of the literals; parameters, which are given when it runs, do not count.
        kind: What it does.
        tables: The tables and views it reads, with their schemas where those are given.
        functions: The functions it calls, likewise; those of operators and of views are not among them.
        refusal: Why it is never tuned, in one sentence; None when nothing in the text forbids it.
        plan_dependence: Why another plan may rightly give another answer; None when every plan gives the same rows.
        searches: Its nearest-neighbour searches.
    """

    sql: str
    fingerprint: str
    normalised: str
    places: tuple[tuple[Value, ...], ...]
    literal_key: str
    kind: StatementKind
    tables: tuple[str, ...]
    functions: tuple[str, ...]
    refusal: str | None
    plan_dependence: str | None
    searches: tuple[VectorSearch, ...]

    @property
    def literals(self) -> tuple[str, ...]:
        """The texts of its literals, in the order of `places`."""
        return tuple(value.text for place in self.places for value in place if isinstance(value, Literal))

    @property
    def parameters(self) -> tuple[int | str, ...]:
        """What its parameters take, each time one stands in the text: places from 0, or names."""
        return tuple(value.key for place in self.places for value in place if isinstance(value, Parameter))

    @property
    def is_plan_dependent(self) -> bool:
        """True when another plan may rightly give another answer."""
        return self.plan_dependence is not None

    @property
    def search(self) -> VectorSearch | None:
        """Its nearest-neighbour search; None when there is none, or more than one."""
        return self.searches[0] if len(self.searches) == 1 else None


def read_statement(sql: str) -> Statement:
    """Return what the text of a statement tells; a text that is no statement is one that is refused.

    Args:
        sql: One statement of PostgreSQL, with psycopg's `%s` and `%(name)s` or with `$1` as parameters.

    Raises:
        InvalidValue: `sql` is not text.
        MissingExtra: sqlglot is not installed.

    Example:
        >>> read_statement("SELECT count(*) FROM package WHERE name LIKE %s AND size > 100").normalised
        'SELECT count(*) FROM package WHERE name LIKE $1 AND size > $2'
        >>> read_statement("DELETE FROM package").refusal
        'it writes'
        >>> read_statement("SELECT id FROM doc ORDER BY embedding <=> %s LIMIT 10").search.limit
        10
    """
    return _Text(sql).statement(read_form)


class StatementReader:
    """Reads statements, and remembers the last ones: by their exact text, and by their normal form.

    What is not known by its text but by its normal form (the same question about other values) is not parsed again.
    Any thread may read at any time.

    Args:
        capacity: Texts remembered, and normal forms; the one asked longest ago goes first.

    Raises:
        InvalidValue: `capacity` is below 1.
    """

    def __init__(self, capacity: int = 1000) -> None:
        """Start with nothing remembered."""
        whole(capacity, "capacity", 1)
        self._statements: _Recent[Statement] = _Recent(capacity)
        self._readings: _Recent[Reading] = _Recent(capacity)

    def read(self, sql: str) -> Statement:
        """Return what `read_statement` returns.

        Raises:
            InvalidValue: `sql` is not text.
            MissingExtra: sqlglot is not installed.
        """
        known = self._statements.get(sql) if isinstance(sql, str) else None
        if known is not None:
            return known
        statement = _Text(sql).statement(self._reading)
        self._statements.put(sql, statement)
        return statement

    def _reading(self, normalised: str, form: NormalForm) -> Reading:
        known = self._readings.get(normalised)
        if known is None:
            known = read_form(normalised, form)
            self._readings.put(normalised, known)
        return known


_T = TypeVar("_T")


class _Recent(Generic[_T]):
    """The values asked for last, by a text."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[str, _T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> _T | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: str, value: _T) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)


class _Text:
    """A text on its way to a statement."""

    def __init__(self, sql: str) -> None:
        if not isinstance(sql, str):
            raise InvalidValue(f"sql: expected text, got {type(sql).__name__}")
        self.sql = sql
        self.given = tokens(sql)
        while self.given and self.given[-1].text == ";":
            self.given.pop()
        self.form = normal_form(self.given)

    def statement(self, read: Callable[[str, NormalForm], Reading]) -> Statement:
        normalised = self.form.text
        ends = not self.given or self.given[-1].kind is not TokenKind.JUNK
        reading = read(normalised, self.form) if ends else _ENDLESS
        places = tuple(piece.values for piece in self.form.places)
        return Statement(
            sql=self.sql,
            fingerprint=_digest(normalised),
            normalised=normalised,
            places=places,
            literal_key=_digest(repr([[v.text for v in p if isinstance(v, Literal)] for p in places])),
            kind=reading.kind,
            tables=reading.tables,
            functions=reading.functions,
            refusal=reading.refusal,
            plan_dependence=reading.plan_dependence,
            searches=tuple(self.search(shape, places) for shape in reading.shapes),
        )

    def search(self, shape: SearchShape, places: tuple[tuple[Value, ...], ...]) -> VectorSearch:
        start = self.given[self.form.pieces[shape.piece].origin].start
        return shape.filled(places, self.sql, start)


_ENDLESS = Reading(StatementKind.OTHER, "it cannot be read: a string, a name or a comment has no end")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
