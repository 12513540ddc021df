"""One statement on one connection: run with what the tuner chose, and always to its own answer or its own error.

Settings hold for one transaction alone, so that nothing is left behind on a connection that others use next. A choice
of the server's own settings sends nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from sona.errors import PlanError
from sona.tuner.borrow import (
    Borrowed,
    Connection,
    Cursor,
    ask,
    is_idle,
    is_not_taken,
    is_of_others,
    plain_kind,
    psycopg,
)
from sona.tuner.choosing.choice import Choice, Purpose
from sona.tuner.facts import refusal_of
from sona.tuner.plans.plan import Document, NeuralDagPlan
from sona.tuner.requests import Request, Run
from sona.tuner.searching import SearchSession
from sona.tuner.tuner import Tuner

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
        kind: Kind of cursor that runs them, which decides how parameters stand in their text.
    """

    def __init__(
        self,
        tuner: Tuner,
        connection: Connection,
        clock: Callable[[], float] = time.perf_counter,
        kind: type[Cursor] = psycopg.Cursor,
    ) -> None:
        """Look at nothing yet."""
        self._tuner, self._connection, self._clock, self._kind = tuner, connection, clock, plain_kind(kind)
        self._has_turn = False
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
        if self._tuner.searches.has_checks and is_idle(self._connection):
            self._searches.check_due()
        if request.statement.search is not None:
            self._searches.execute(run, request, request.statement.search)
            return
        try:
            self._run(run, request, self._choose(request))
        finally:
            if self._has_turn:
                self._tuner.end_turn()

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
            if choice.purpose in (Purpose.SERVER, Purpose.KNOWN):
                return choice
            if not self._has_turn:
                if not self._takes_turn():
                    break
                continue  # what another thread has found out in the meantime counts
            if choice.purpose is Purpose.CHECK:
                return choice
            if not self._may_try():
                break
            if self._tuner.knows_plan(request, choice.arm) or self._is_new_plan(request, choice):
                return choice
        return self._tuner.in_force(request)

    def _takes_turn(self) -> bool:
        self._has_turn = self._has_turn or self._tuner.take_turn()
        return self._has_turn

    def _may_try(self) -> bool:
        # Never within a transaction that has written.
        if is_idle(self._connection):
            return True
        if self._connection.info.server_version < _XACT_ID_VERSION:
            return False
        return ask(self._connection, "SELECT pg_current_xact_id_if_assigned() IS NULL") == [(True,)]

    def _is_new_plan(self, request: Request, choice: Choice) -> bool:
        started = self._clock()
        borrowed = Borrowed(self._connection, choice.arm.params.settings, choice.timeout_s)
        try:
            with borrowed, self._judging(borrowed):
                shape = NeuralDagPlan.from_explain(self._explain(request)).shape
        except (psycopg.Error, PlanError) as error:
            self._refuse(request, choice, borrowed, error, cost_s=self._clock() - started)
            return False
        return self._tuner.is_new_plan(request, choice.arm, shape, self._clock() - started)

    def _explain(self, request: Request, options: str = "") -> Document:
        sql = f"EXPLAIN (FORMAT JSON{options}) {request.statement.sql}"
        return cast(Document, ask(self._connection, sql, request.params, kind=self._kind)[0][0])

    # -- errors --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _judging(self, borrowed: Borrowed) -> Iterator[None]:
        # What the application would have met without a tuner leaves its transaction as it would have.
        started = self._clock()
        try:
            yield
        except BaseException as error:
            borrowed.keeps_failure = self._is_own(error, borrowed, self._clock() - started)
            raise

    def _is_own(self, error: BaseException, borrowed: Borrowed, time_s: float) -> bool:
        if isinstance(error, psycopg.errors.QueryCanceled):
            return borrowed.limit_s is None or not 0.0 < _CANCELLED * borrowed.limit_s <= time_s
        if isinstance(error, psycopg.Error):
            return self._connection.closed or is_of_others(error)
        return not isinstance(error, PlanError)

    def _refuse(
        self, request: Request, choice: Choice, borrowed: Borrowed, error: psycopg.Error | PlanError, *, cost_s: float
    ) -> None:
        if self._connection.closed or borrowed.keeps_failure or not (borrowed.is_set or is_not_taken(error)):
            raise error
        self._tuner.refuse(request, choice.arm, str(error), everywhere=not borrowed.is_set, cost_s=cost_s)

    # -- running -------------------------------------------------------------------------------------------------------

    def _run(self, run: Run, request: Request, choice: Choice) -> None:
        if not choice.arm.params.is_default:
            self._tuned(run, request, choice)
            return
        started = self._clock()
        try:
            run(prepare=None)
        except psycopg.errors.QueryCanceled:  # it takes at least so long, and is worth trying on
            self._told(request, choice, self._clock() - started)
            raise
        self._told(request, choice, self._clock() - started)

    def _told(self, request: Request, choice: Choice, time_s: float) -> None:
        self._tuner.finish(request, choice, time_s)
        if self._is_plain() and self._tuner.wants_plan(request) and self._takes_turn():
            self._describe(request)

    def _tuned(self, run: Run, request: Request, choice: Choice) -> None:
        started = self._clock()
        borrowed = Borrowed(self._connection, choice.arm.params.settings, choice.timeout_s)
        try:
            with borrowed, self._judging(borrowed):
                run(prepare=False)
        except psycopg.Error as error:
            wasted_s = self._clock() - started
            if borrowed.is_set and not borrowed.keeps_failure and isinstance(error, psycopg.errors.QueryCanceled):
                self._tuner.abandon(request, choice, wasted_s)
            else:
                self._refuse(request, choice, borrowed, error, cost_s=wasted_s)
            # An arm that failed is not chosen again, so this ends with the server's own choice at the latest.
            self._run(run, request, self._tuner.in_force(request))
        else:
            self._tuner.finish(request, choice, self._clock() - started)

    def _describe(self, request: Request) -> None:
        # The application has its answer: whatever goes wrong here is the tuner's matter alone.
        started = self._clock()
        plan, refusal = None, None
        try:
            with Borrowed(self._connection):
                document = self._explain(request, ", VERBOSE")
                refusal = refusal_of(lambda *query: ask(self._connection, *query), request.statement, document)
            plan = NeuralDagPlan.from_explain(document)
        except psycopg.OperationalError:  # as a lost connection: another time
            plan = None
        except (psycopg.Error, PlanError) as error:
            refusal = f"its plan cannot be read: {error}"
        self._tuner.describe(request, plan, refusal, self._clock() - started)
