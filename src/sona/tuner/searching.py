"""Nearest-neighbour searches on one connection: run with what keeps their recall, checked against the exact ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from sona.errors import SonaError
from sona.tuner.borrow import Borrowed, Connection, Row, ask, is_idle, is_not_taken, is_of_others, psycopg
from sona.tuner.requests import Request, Run
from sona.tuner.search_book import Target
from sona.tuner.searches.arms import EXACT, OWN, SearchArm
from sona.tuner.searches.checks import ArmRun, SearchCheck, SearchKey
from sona.tuner.searches.fit import Survey, Surveyed, fit
from sona.tuner.statements.rewrite import Rewrite
from sona.tuner.statements.values import Literal, Parameter, Value
from sona.tuner.statements.vector_search import VectorSearch
from sona.tuner.tuner import Tuner

_TIE = 1e-6  # of a distance: rows as near as the last true neighbour are true ones
_CLASSES = {"<->": "l2", "<=>": "cosine", "<#>": "ip", "<+>": "l1", "<~>": "hamming", "<%>": "jaccard"}
_ITERATIVE_SCAN = (0, 8)  # the version of pgvector that brought it
_INDEX = """
SELECT t.reltuples, a.amname, x.extversion
FROM pg_catalog.pg_class t
LEFT JOIN (
  SELECT i.indrelid, m.amname FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname IN ('hnsw', 'ivfflat')
  JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0] AND o.opcname LIKE %s
  JOIN pg_catalog.pg_attribute n ON n.attrelid = i.indrelid AND n.attnum = i.indkey[0] AND n.attname = %s
  WHERE i.indisvalid) a ON a.indrelid = t.oid
LEFT JOIN pg_catalog.pg_extension x ON x.extname = 'vector'
WHERE t.oid = to_regclass(%s) ORDER BY a.amname LIMIT 1"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A search that is to be checked."""

    request: Request
    key: SearchKey
    search: VectorSearch


class SearchSession:
    """Searches of one connection.

    Args:
        tuner: What chooses and learns.
        connection: Where searches run.
        clock: Seconds from any beginning.
    """

    def __init__(self, tuner: Tuner, connection: Connection, clock: Callable[[], float] = time.perf_counter) -> None:
        """Look at nothing yet."""
        self._config, self._memory = tuner.config.vector, tuner.searches
        self._connection, self._clock = connection, clock

    def execute(self, run: Run, request: Request, search: VectorSearch) -> None:
        """Run a search with what was chosen for it, and check it when its turn has come.

        Raises:
            psycopg.Error: the search's own error.
        """
        started = self._clock()
        key = self._key(request, search)
        choice = self._memory.choose(key)
        asking_s = self._clock() - started
        started = self._clock()
        arm = self._run(run, choice.arm)
        self._memory.finish(request, key, arm, self._clock() - started, asking_s)
        if choice.is_check:
            self._check(_Asked(request, key, search))

    def _run(self, run: Run, arm: SearchArm) -> SearchArm:
        if not arm.params.is_default:
            borrowed = Borrowed(self._connection, arm.params.settings)
            try:
                with borrowed, self._judging(borrowed):
                    run(prepare=False)
                return arm
            except psycopg.Error as error:
                if borrowed.keeps_failure or not (borrowed.is_set or is_not_taken(error)):
                    raise
                if not borrowed.is_set:
                    self._memory.withdraw(arm)
        run(prepare=None)
        return OWN

    @contextlib.contextmanager
    def _judging(self, borrowed: Borrowed) -> Iterator[None]:
        # What the application would have met without a tuner leaves its transaction as it would have.
        borrowed.keeps_failure = True
        try:
            yield
        except psycopg.Error as error:
            is_cancelled = isinstance(error, psycopg.errors.QueryCanceled)
            borrowed.keeps_failure = is_cancelled or self._connection.closed or is_of_others(error)
            raise

    # -- what a search is known by -------------------------------------------------------------------------------------

    def _key(self, request: Request, search: VectorSearch) -> SearchKey:
        target = self._memory.target(request) or self._memory.set_target(request, self._target(search))
        values = [_given(one.value, request) for one in search.filters]
        limit = _given(search.limit, request) if isinstance(search.limit, Parameter) else search.limit
        rows_asked = limit if isinstance(limit, int) and limit >= 0 else None
        if not target.index_kind or (not values and search.has_other_conditions):
            return SearchKey(request.statement.fingerprint, "", rows_asked, index_kind=target.index_kind)
        size: float | None = target.rows
        fits: float | None = None
        if values:
            surveyed = self._surveyed(request, search, target, values)
            size = None if surveyed is None else surveyed.rows
            query = as_vector(_given(search.query, request))
            if surveyed is not None and query is not None and target.surveyed is not None:
                with contextlib.suppress(SonaError):
                    fits = fit(query, surveyed, target.surveyed, limit=rows_asked or 10, operator=search.operator)
        filter_key = repr(values) if values else ""
        return SearchKey(request.statement.fingerprint, filter_key, rows_asked, size, fits, target.index_kind)

    def _target(self, search: VectorSearch) -> Target:
        if search.table is None:
            return Target()
        opclass = f"%{_CLASSES.get(search.operator, '')}_ops"
        try:
            with Borrowed(self._connection):
                found = ask(self._connection, _INDEX, [opclass, search.column.strip('"'), search.table])
        except psycopg.Error:
            return Target()
        if not found or found[0][1] is None:
            return Target(rows=float(cast(float, found[0][0])) if found else 0.0)
        rows, index_kind, version = found[0]
        if _version(str(version)) < _ITERATIVE_SCAN:
            self._memory.without_iterative_scan()
        target = Target(str(index_kind), max(0.0, float(cast(float, rows))))
        if not search.filters:
            return target
        survey = Survey(search.table, search.column, (), target.rows)
        return Target(target.index_kind, target.rows, self._asked(survey, []))

    def _surveyed(
        self, request: Request, search: VectorSearch, target: Target, values: Sequence[object]
    ) -> Surveyed | None:
        known = self._memory.surveyed(request, repr(values))
        if search.table is not None and not self._memory.is_surveyed(request, repr(values)):
            survey = Survey(search.table, search.column, tuple(one.column for one in search.filters), target.rows)
            known = self._asked(survey, values)
            self._memory.set_surveyed(request, repr(values), known)
        return known

    def _asked(self, survey: Survey, values: Sequence[object]) -> Surveyed | None:
        try:
            with Borrowed(self._connection, timeout_s=self._config.check_timeout_s):
                ((rows, mean, squares),) = ask(self._connection, survey.sql, [*values, *values])
            texts = [None if text is None else str(text) for text in (mean, squares)]
            return Surveyed.of(float(cast(float, rows)), *texts)
        except (psycopg.Error, SonaError, ValueError):
            return None

    # -- checking ------------------------------------------------------------------------------------------------------

    def check_due(self) -> None:
        """Check a search that could not be checked within the application's transaction, if there is one."""
        asked = self._memory.next_check()
        if isinstance(asked, _Asked):
            self._check(asked)

    def _check(self, asked: _Asked) -> None:
        if not is_idle(self._connection):
            self._memory.check_later(asked)
            return
        started = self._clock()
        try:
            rewrite = asked.search.distances_sql()
            with self._snapshot():
                check = self._measured(asked, rewrite)
        except (psycopg.Error, SonaError):
            self._memory.give_up(asked.request, asked.key, self._clock() - started)
            return
        self._memory.learn(asked.request, asked.key, check)

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        # Everything within sees the same rows. A driver that opens transactions by itself would open another one.
        was_autocommit = self._connection.autocommit
        self._connection.autocommit = True
        limit_ms = max(1, round(self._config.check_timeout_s * 1000.0))
        try:
            ask(self._connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            ask(self._connection, f"SET LOCAL statement_timeout = {limit_ms}")
            yield
        finally:
            if not self._connection.closed:
                with contextlib.suppress(psycopg.Error):
                    ask(self._connection, "ROLLBACK")
                self._connection.autocommit = was_autocommit

    def _measured(self, asked: _Asked, rewrite: Rewrite) -> SearchCheck:
        exact, exact_s = self._distances(asked, rewrite, EXACT)
        runs = []
        for arm in self._memory.arms_to_check(asked.key):
            found, time_s = self._distances(asked, rewrite, arm)
            runs.append(ArmRun(arm.name, recall_of(found, exact), len(found), time_s))
        return SearchCheck(len(exact), exact_s, tuple(runs))

    def _distances(self, asked: _Asked, rewrite: Rewrite, arm: SearchArm) -> tuple[list[float], float]:
        params = rewrite.bind(asked.request.params)
        with Borrowed(self._connection, arm.params.settings):
            started = self._clock()
            rows = ask(self._connection, rewrite.sql, params)
            time_s = self._clock() - started
        return [float(cast(float, row[0])) for row in rows if row[0] is not None], max(time_s, 1e-9)


def recall_of(found: Sequence[float], exact: Sequence[float]) -> float:
    """Return the share of the true neighbours that were found, by their distances; rows as near as the last one count.

    >>> recall_of([0.1, 0.2, 0.4], [0.1, 0.2, 0.3]), recall_of([], [])
    (0.6666666666666666, 1.0)
    """
    if not exact:
        return 1.0
    last = max(exact)
    near = sum(distance <= last + _TIE * max(1.0, abs(last)) for distance in found)
    return min(near, len(exact)) / len(exact)


def as_vector(value: object) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Return a query vector as numbers, whichever way the driver was given it; None when it is none.

    >>> as_vector("[1, 2]").tolist(), as_vector([1.0, 2.0]).tolist(), as_vector("north")
    ([1.0, 2.0], [1.0, 2.0], None)
    """
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        if isinstance(value, str):
            return np.array([float(part) for part in value.strip("[] ").split(",")])
        given = value.to_list() if hasattr(value, "to_list") else value
        found = np.asarray(given, np.float64)
        return found if found.ndim == 1 and np.isfinite(found).all() else None
    return None


def _given(value: Value | int | None, request: Request) -> object:
    if isinstance(value, Literal):
        return value.content
    if not isinstance(value, Parameter):
        return value
    params = request.params
    with contextlib.suppress(LookupError, TypeError):
        return params[str(value.key)] if isinstance(params, Mapping) else cast(Row, params)[int(value.key)]
    return None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
