"""A workload run through a tuner, beside it the server's own choices: what an application would have waited for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sona.checks import whole
from sona.errors import InvalidValue, TunerError
from sona.state import Plain
from sona.tuner.attachment import cursor_factory
from sona.tuner.borrow import Connection, Row, ask, psycopg
from sona.tuner.statements.workload import WorkloadQuery
from sona.tuner.tuner import Tuner

_TIMED_OUT = 0.9  # of the limit: a statement cancelled earlier was not cancelled by it
_LONGEST_MS = 2_147_483_647  # that the server takes


@dataclass(frozen=True, slots=True)
class Attempt:
    """One statement run once.

    Args:
        time_s: Seconds until its answer or its error was there.
        error: What the server said when it failed; None when it did not.
        is_timeout: True when the limit ended it.
    """

    time_s: float
    error: str | None = None
    is_timeout: bool = False

    @property
    def counts(self) -> bool:
        """True when its time counts: it was answered, or it used up the limit."""
        return self.error is None or self.is_timeout


@dataclass(frozen=True, slots=True)
class QueryRun:
    """One query of one pass.

    Args:
        name: Of the query.
        tuned: How it went with what the tuner chose.
        server: How it went as the server chooses; None when that was not run.
    """

    name: str
    tuned: Attempt
    server: Attempt | None


@dataclass(frozen=True, slots=True)
class PassResult:
    """Every query once.

    Args:
        number: Of the pass, from 1.
        runs: Its queries, in their order.
        is_whole: False when it was interrupted.
    """

    number: int
    runs: tuple[QueryRun, ...]
    is_whole: bool = True

    @property
    def tuned_s(self) -> float:
        """Seconds with what the tuner chose, of the queries that were answered or timed out."""
        return sum(run.tuned.time_s for run in self.runs if _is_comparable(run))

    @property
    def server_s(self) -> float | None:
        """Seconds of the same queries as the server chooses; None when they were not run so."""
        if not self.runs or any(run.server is None for run in self.runs):
            return None
        return sum(run.server.time_s for run in self.runs if run.server is not None and _is_comparable(run))

    @property
    def ratio(self) -> float | None:
        """Tuned time over the server's own, below 1 when tuning is worth it; None when there is nothing to compare."""
        server_s = self.server_s
        return self.tuned_s / server_s if server_s else None

    @property
    def errors(self) -> int:
        """Queries that failed, on either side."""
        return sum(not _is_comparable(run) for run in self.runs)

    @property
    def timeouts(self) -> int:
        """Queries that the limit ended with what the tuner chose."""
        return sum(run.tuned.is_timeout for run in self.runs)


def _is_comparable(run: QueryRun) -> bool:
    return run.tuned.counts and (run.server is None or run.server.counts)


@dataclass(frozen=True, slots=True)
class WorkloadResult:
    """How a workload went.

    Args:
        queries: Its queries, in their order.
        passes: In their order; the last may be interrupted.
    """

    queries: tuple[WorkloadQuery, ...]
    passes: tuple[PassResult, ...]

    @property
    def worst_ratio(self) -> float | None:
        """The greatest ratio of a whole pass; None when nothing was compared."""
        return max((one.ratio for one in self.passes if one.is_whole and one.ratio is not None), default=None)

    @property
    def compared_s(self) -> tuple[float, float] | None:
        """Seconds of all passes, tuned and as the server chooses; None when nothing was compared."""
        compared = [(one.tuned_s, one.server_s) for one in self.passes if one.server_s is not None]
        tuned_s, server_s = sum(pair[0] for pair in compared), sum(pair[1] for pair in compared)
        return (tuned_s, server_s) if server_s > 0.0 else None

    @property
    def errors(self) -> int:
        """Runs that failed, in all passes."""
        return sum(one.errors for one in self.passes)

    @property
    def is_failure(self) -> bool:
        """True when queries were run, and none of them was ever answered."""
        runs = [run for one in self.passes for run in one.runs]
        return bool(runs) and not any(_is_comparable(run) for run in runs)

    def to_json(self) -> dict[str, Plain]:
        """Return everything as plain values."""
        failures: dict[str, Plain] = dict(self.failures())
        return {
            "queries": len(self.queries),
            "worst_ratio": self.worst_ratio,
            "errors": self.errors,
            "failures": failures,
            "passes": [_pass_json(one) for one in self.passes],
        }

    def failures(self) -> dict[str, str]:
        """Return the first error of each query that ever failed, by its name."""
        found: dict[str, str] = {}
        for run in (run for one in self.passes for run in one.runs):
            for attempt in (run.tuned, run.server):
                if attempt is not None and attempt.error is not None and not attempt.is_timeout:
                    found.setdefault(run.name, attempt.error)
        return found


def _pass_json(one: PassResult) -> dict[str, Plain]:
    return {
        "number": one.number,
        "tuned_s": one.tuned_s,
        "server_s": one.server_s,
        "ratio": one.ratio,
        "timeouts": one.timeouts,
        "errors": one.errors,
        "is_whole": one.is_whole,
    }


Progress = Callable[[int, int, int], None]
"""Called after each query with the pass, the queries done in it, and how many there are."""


@dataclass(slots=True)
class _Pass:
    number: int
    runs: list[QueryRun] = field(default_factory=list)


def open_connection(dsn: str, tuner: Tuner | None = None, *, limit_s: float | None = None) -> Connection:
    """Return a new connection in autocommit mode, whose statements run as the server chooses or as a tuner does.

    Args:
        dsn: What psycopg connects with.
        tuner: What chooses and learns; None to leave everything to the server.
        limit_s: When the server gives a statement up; None for the server's own limit.

    Raises:
        TunerError: no connection comes about.
    """
    factory = psycopg.Cursor[Row] if tuner is None else cursor_factory(tuner)
    try:
        connection = psycopg.connect(dsn, autocommit=True, cursor_factory=factory)
        if limit_s is not None:
            ask(connection, f"SET statement_timeout = {min(_LONGEST_MS, max(1, math.ceil(1e3 * limit_s)))}")
    except psycopg.Error as error:
        raise TunerError(f"cannot connect: {_line(error)}") from error
    return connection


class WorkloadRun:
    """A workload on its way: what was done so far can be asked for at any time, after an interruption too.

    Args:
        tuner: What chooses and learns.
        dsn: What psycopg connects with.
        queries: What to run.
        is_compared: Whether each query is run as the server chooses as well. Who goes first alternates, so that
            neither finds more in memory than the other.
        limit_s: When the server gives a statement up; None for the server's own limit.
        clock: Seconds from any beginning.

    Raises:
        InvalidValue: no query, or a limit that is no positive number.
        TunerError: no connection comes about with `dsn`.
    """

    def __init__(
        self,
        tuner: Tuner,
        dsn: str,
        queries: Sequence[WorkloadQuery],
        *,
        is_compared: bool = False,
        limit_s: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Connect; nothing is run yet."""
        if not queries:
            raise InvalidValue("queries: expected at least one")
        if limit_s is not None and not (math.isfinite(limit_s) and limit_s > 0.0):
            raise InvalidValue(f"limit_s: expected seconds above 0, got {limit_s}")
        self._tuner, self._queries, self._limit_s, self._clock = tuner, tuple(queries), limit_s, clock
        self._passes: list[_Pass] = []
        self._tuned = open_connection(dsn, tuner, limit_s=limit_s)
        self._server = open_connection(dsn, limit_s=limit_s) if is_compared else None

    def run_pass(self, on_progress: Progress | None = None) -> PassResult:
        """Run every query once, and return how that went.

        Raises:
            TunerError: a connection was lost; what was done until then is in `result`.
        """
        done = _Pass(len(self._passes) + 1)
        self._passes.append(done)
        for place, query in enumerate(self._queries):
            done.runs.append(self._both(query, is_server_first=(place + done.number) % 2 == 0))
            if on_progress is not None:
                on_progress(done.number, place + 1, len(self._queries))
        return self._result(done)

    def _both(self, query: WorkloadQuery, *, is_server_first: bool) -> QueryRun:
        server = self._attempt(self._server, query) if self._server is not None and is_server_first else None
        tuned = self._attempt(self._tuned, query)
        if self._server is not None and server is None:
            server = self._attempt(self._server, query)
        return QueryRun(query.name, tuned, server)

    def _attempt(self, connection: Connection, query: WorkloadQuery) -> Attempt:
        began = self._clock()
        try:
            connection.execute(query.sql.encode())
            attempt = Attempt(self._clock() - began)
        except psycopg.Error as error:
            attempt = self._failed(error, self._clock() - began)
            if connection.closed:
                raise TunerError(f"the connection was lost at {query.name!r}: {attempt.error}") from error
        connection.rollback()  # of a transaction that the query left open; nothing is sent where there is none
        return attempt

    def _failed(self, error: psycopg.Error, time_s: float) -> Attempt:
        is_cancelled = isinstance(error, psycopg.errors.QueryCanceled)
        is_timeout = is_cancelled and self._limit_s is not None and time_s >= _TIMED_OUT * self._limit_s
        return Attempt(time_s, _line(error), is_timeout)

    def result(self) -> WorkloadResult:
        """Return how the passes went so far."""
        return WorkloadResult(self._queries, tuple(self._result(one) for one in self._passes if one.runs))

    def _result(self, one: _Pass) -> PassResult:
        return PassResult(one.number, tuple(one.runs), len(one.runs) == len(self._queries))

    def close(self) -> None:
        """Close the connections."""
        for connection in (self._tuned, self._server):
            if connection is not None:
                connection.close()


def run_workload(
    tuner: Tuner,
    dsn: str,
    queries: Sequence[WorkloadQuery],
    passes: int = 1,
    on_progress: Progress | None = None,
    *,
    is_compared: bool = False,
    limit_s: float | None = None,
) -> WorkloadResult:
    """Run each query of a workload `passes` times through a tuned connection, and return how that went.

    A query that fails is counted, and the run goes on.

    Args:
        tuner: What chooses and learns.
        dsn: What psycopg connects with.
        queries: What to run.
        passes: How often each is run.
        on_progress: Called after each query with the pass, the queries done in it, and how many there are.
        is_compared: Whether each query is run as the server chooses as well, in turn.
        limit_s: When the server gives a statement up; None for the server's own limit.

    Raises:
        InvalidValue: no query, no pass, or a limit that is no positive number.
        TunerError: no connection comes about, or it is lost.
    """
    whole(passes, "passes", 1)
    run = WorkloadRun(tuner, dsn, queries, is_compared=is_compared, limit_s=limit_s)
    try:
        for _ in range(passes):
            run.run_pass(on_progress)
        return run.result()
    finally:
        run.close()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
