"""One statement on one connection: run with what the tuner chose, and always to its own answer or its own error.

Settings hold for one transaction alone, so that nothing is left behind on a connection that others use next. A choice
of the server's own settings sends nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from sona.errors import PlanError
from sona.tuner.borrow import Borrowed, Connection, ask, is_idle, psycopg
from sona.tuner.facts import refusal_of
from sona.tuner.plan import Document, NeuralDagPlan
from sona.tuner.plan_policy import Choice, Purpose
from sona.tuner.searching import SearchSession
from sona.tuner.tuner import Request, Run, Tuner

if TYPE_CHECKING:
    from psycopg.abc import Params

_PLANS_AT_ONCE = 6  # plans asked for before one statement
_CANCELLED = 0.9  # of the limit: a statement cancelled earlier was not cancelled by it
_XACT_ID_VERSION = 130_000  # of the server: tells whether a transaction has written


class Session:
    """Statements of one connection, run with what a tuner chose.

    Args:
        tuner: What chooses and learns.
        connection: Where statements run.
        clock: Seconds from any beginning.
    """

    def __init__(self, tuner: Tuner, connection: Connection, clock: Callable[[], float] = time.perf_counter) -> None:
        """Look at nothing yet."""
        self._tuner, self._connection, self._clock = tuner, connection, clock
        self._searches = SearchSession(tuner, connection, clock)

    def execute(self, run: Run, sql: str, params: Params | None) -> None:
        """Run a statement, with other settings where they are known to be better or are tried.

        Args:
            run: Runs it on the application's cursor.
            sql: Its text.
            params: Its parameters, as the driver takes them.

        Raises:
            psycopg.Error: the statement's own error.
        """
        request = self._tuner.request(sql, params)
        if not self._is_plain() or request.refusal is not None:
            started = self._clock()
            run(prepare=None)
            self._tuner.leave_alone(request, self._clock() - started)
            return
        if self._tuner.has_checks and is_idle(self._connection):
            self._searches.check_due()
        if request.statement.search is not None:
            self._searches.execute(run, request, request.statement.search)
        else:
            self._run(run, request, self._choose(request))

    def _is_plain(self) -> bool:
        pg = psycopg.pq
        is_pipelined = self._connection.pgconn.pipeline_status != pg.PipelineStatus.OFF
        fit = (pg.TransactionStatus.IDLE, pg.TransactionStatus.INTRANS)
        return not is_pipelined and self._connection.info.transaction_status in fit

    # -- choosing ------------------------------------------------------------------------------------------------------

    def _choose(self, request: Request) -> Choice:
        # A trial of a plan that was seen under another arm is none; a few plans are asked for at once.
        for _ in range(_PLANS_AT_ONCE):
            choice = self._tuner.choose(request)
            if choice.purpose is not Purpose.TRIAL:
                return choice
            if not self._may_try():
                break
            if self._tuner.knows_plan(request, choice.arm) or self._is_new_plan(request, choice):
                return choice
        return self._tuner.in_force(request)

    def _may_try(self) -> bool:
        # Never within a transaction that has written.
        if is_idle(self._connection):
            return True
        if self._connection.info.server_version < _XACT_ID_VERSION:
            return False
        return ask(self._connection, "SELECT pg_current_xact_id_if_assigned() IS NULL") == [(True,)]

    def _is_new_plan(self, request: Request, choice: Choice) -> bool:
        started = self._clock()
        borrowed = Borrowed(self._connection, choice.arm.params.settings)
        try:
            with borrowed:
                shape = NeuralDagPlan.from_explain(self._explain(request)).shape
        except (psycopg.Error, PlanError) as error:
            self._require_open(error)
            self._tuner.refuse(request, choice.arm, str(error), everywhere=not borrowed.is_set)
            return False
        return self._tuner.is_new_plan(request, choice.arm, shape, self._clock() - started)

    def _explain(self, request: Request, options: str = "") -> Document:
        sql = f"EXPLAIN (FORMAT JSON{options}) {request.statement.sql}"
        return cast(Document, ask(self._connection, sql, request.params)[0][0])

    def _require_open(self, error: Exception) -> None:
        if self._connection.closed:
            raise error

    # -- running -------------------------------------------------------------------------------------------------------

    def _run(self, run: Run, request: Request, choice: Choice) -> None:
        if not choice.arm.params.is_default:
            self._tuned(run, request, choice)
            return
        started = self._clock()
        run(prepare=None)
        self._tuner.finish(request, choice, self._clock() - started)
        if self._tuner.wants_plan(request):
            self._describe(request)

    def _tuned(self, run: Run, request: Request, choice: Choice) -> None:
        started = self._clock()
        borrowed = Borrowed(self._connection, choice.arm.params.settings, choice.timeout_s)
        running = started
        try:
            with borrowed:
                running = self._clock()
                run(prepare=False)
        except psycopg.Error as error:
            ended = self._clock()
            self._require_open(error)
            if not borrowed.is_set:
                self._tuner.refuse(request, choice.arm, str(error), everywhere=True)
            elif not isinstance(error, psycopg.errors.QueryCanceled):
                self._tuner.refuse(request, choice.arm, str(error))
            elif borrowed.is_limited and ended - running >= _CANCELLED * (choice.timeout_s or 0.0):
                self._tuner.abandon(request, choice, ended - started)
            else:
                raise
            # An arm that failed is not chosen again, so this ends with the server's own choice at the latest.
            self._run(run, request, self._tuner.in_force(request))
        else:
            self._tuner.finish(request, choice, self._clock() - started)

    def _describe(self, request: Request) -> None:
        # The application has its answer: whatever goes wrong here is the tuner's matter alone.
        started = self._clock()
        with contextlib.suppress(psycopg.OperationalError):
            try:
                with Borrowed(self._connection):
                    document = self._explain(request, ", VERBOSE")
                    refusal = refusal_of(lambda *query: ask(self._connection, *query), request.statement, document)
                plan = NeuralDagPlan.from_explain(document)
            except (psycopg.Error, PlanError) as error:
                refusal, plan = f"its plan cannot be read: {error}", None
            self._tuner.describe(request, plan, refusal, self._clock() - started)
