"""What an application keeps to have its queries tuned: everything learned, for all its connections and threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from sona.config.tuner import TunerConfig
from sona.errors import ConfigError
from sona.state import State, read_state, write_state
from sona.tuner.choosing.arms import Arm
from sona.tuner.choosing.choice import AS_SERVER, Choice
from sona.tuner.choosing.family_policy import FamilyPolicy
from sona.tuner.choosing.plan_policy import PlanPolicy
from sona.tuner.choosing.unit import PlanNote
from sona.tuner.dag.engine import DagSonaEngine
from sona.tuner.dag.trajectories import DagTrajectory
from sona.tuner.dag.worker import DagWorker
from sona.tuner.execution import ExecutionMetrics
from sona.tuner.ledger import Account, Ledger
from sona.tuner.plans.plan import NeuralDagPlan
from sona.tuner.report import TunerReport, read_report
from sona.tuner.requests import Request
from sona.tuner.search_memory import SearchMemory
from sona.tuner.statements.statement import StatementReader

TUNER_MODES = ("tune", "observe")
"""What a tuner does: choose settings, or only look on."""

_KIND = "tuner"


class Tuner:
    """Learns which settings each statement is best run with; attach it to connections with `sona.tuner.attach`.

    Any number of connections and threads share one: choosing and learning take a lock for microseconds.

    Args:
        config: Settings.
        mode: "tune", or "observe" to time statements and read their plans and never set anything.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(self, config: TunerConfig | None = None, *, mode: str = "tune") -> None:
        """Start with nothing learned: everything runs as the server chooses."""
        if mode not in TUNER_MODES:
            raise ConfigError(f"mode: expected one of {', '.join(TUNER_MODES)}, got {mode!r}")
        self.config, self.mode = config or TunerConfig(), mode
        self._reader = StatementReader()
        self._plans = PlanPolicy(self.config)
        self._families = FamilyPolicy(self.config, self._plans.budget)
        self._ledger = Ledger(self.config.capacity)
        self._lock = threading.Lock()
        self.searches = SearchMemory(self.config, self._ledger, self._lock, is_learning=mode == "tune")
        """What is known of nearest-neighbour searches."""
        self.engine = DagSonaEngine(self.config.dag)
        """What is learned from plans; it is told of every execution whose plan is known, and not followed."""
        self._worker = DagWorker(self.engine)
        self._turn = threading.Lock()  # of the one statement that may try, so that no two spend the same budget
        self._path: Path | None = None

    # -- what is kept --------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike[str], config: TunerConfig | None = None, *, mode: str = "tune") -> Self:
        """Return the tuner saved at `path`, or a new one; `close` saves it there.

        Raises:
            StoreError: the file is damaged, or of another kind.
        """
        target = Path(path)
        tuner = cls.load(target, config, mode=mode) if target.exists() else cls(config, mode=mode)
        tuner._path = target
        return tuner

    def close(self) -> None:
        """End the background worker, and save what was learned to where it was opened from, if it was."""
        self.stop_background()
        if self._path is not None:
            self.save(self._path)

    def __enter__(self) -> Self:
        """Return this tuner."""
        return self

    def __exit__(self, *_: object) -> None:
        """Save what was learned."""
        self.close()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything learned to one file, as a whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        write_state(path, _KIND, self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str], config: TunerConfig | None = None, *, mode: str = "tune") -> Self:
        """Return the tuner saved at `path`.

        Raises:
            StoreError: the file is missing, damaged, or of another kind.
        """
        return cls.from_state(read_state(path, _KIND), config, mode=mode)

    def state(self) -> State:
        """Return everything learned."""
        with self._lock:
            return State(
                {
                    "plans": self._plans.state(),
                    "families": self._families.state(),
                    "ledger": self._ledger.state(),
                    "searches": self.searches.state(),
                    "engine": self.engine.state(),
                }
            )

    @classmethod
    def from_state(cls, state: State, config: TunerConfig | None = None, *, mode: str = "tune") -> Self:
        """Return the tuner that `state` came from.

        Raises:
            StoreError: damaged.
        """
        tuner = cls(config, mode=mode)
        tuner._plans = PlanPolicy.from_state(state.child("plans"), tuner.config)
        tuner._families = FamilyPolicy.from_state(state.child("families"), tuner.config, tuner._plans.budget)
        tuner._ledger = Ledger.from_state(state.child("ledger"), tuner.config.capacity)
        is_learning = mode == "tune"
        tuner.searches = SearchMemory(tuner.config, tuner._ledger, tuner._lock, is_learning=is_learning)
        tuner.searches.read(state.child("searches"))
        tuner.engine = DagSonaEngine.from_state(state.child("engine"), tuner.config.dag)
        tuner._worker = DagWorker(tuner.engine)
        return tuner

    def start_background(self) -> None:
        """Run the cycles of `engine` in a thread, until `stop_background` or `close`."""
        self._worker.start()

    def stop_background(self) -> None:
        """End the thread, if there is one, within a second."""
        self._worker.stop()

    def report(self) -> TunerReport:
        """Return what was learned, what it saved and what it cost."""
        with self._lock:
            return read_report(self._plans, self._ledger, self.searches.policy.report(), self._families.families)

    # -- for sessions --------------------------------------------------------------------------------------------------

    def request(self, sql: str, params: Sequence[object] | Mapping[str, object] | None) -> Request:
        """Return what is known of a statement before it runs.

        Args:
            sql: Its text.
            params: Its parameters.
        """
        statement = self._reader.read(sql)
        given = "" if params is None or statement.search is not None else repr(params)
        digest = hashlib.blake2b(f"{statement.literal_key}{given}".encode("utf-8", "surrogatepass"), digest_size=8)
        key = f"{statement.fingerprint}:{digest.hexdigest()}"
        refusal = statement.refusal or self._ledger.refusal(statement.fingerprint)
        if refusal is None and statement.search is None and not self.config.tunes_plan_dependent:
            refusal = statement.plan_dependence
        with self._lock:
            return Request(statement, params, key, refusal, self._families.is_open(statement.fingerprint, key))

    def choose(self, request: Request) -> Choice:
        """Return what to run a statement with."""
        if self.mode == "observe":
            return AS_SERVER
        with self._lock:
            if request.is_family:
                return self._families.choose(request.fingerprint, barred=self._plans.barred)
            return self._plans.choose(request.key)

    def in_force(self, request: Request) -> Choice:
        """Return what to run a statement with when nothing is tried."""
        if self.mode == "observe":
            return AS_SERVER
        with self._lock:
            if request.is_family:
                return self._families.in_force(request.fingerprint)
            return self._plans.in_force(request.key)

    def wants_plan(self, request: Request) -> bool:
        """Return True when the server's own plan of a statement is worth asking for."""
        with self._lock:
            if request.is_family:
                return self._families.wants_plan(request.fingerprint, self._plans.explain_s)
            return self._plans.wants_plan(request.key)

    def knows_plan(self, request: Request, arm: Arm) -> bool:
        """Return True when the plan of a statement under an arm need not be asked for."""
        with self._lock:
            return request.is_family or self._plans.knows_plan(request.key, arm)

    def is_new_plan(self, request: Request, arm: Arm, shape: str, cost_s: float) -> bool:
        """Take in the plan of a statement under an arm; return False when it need not run."""
        with self._lock:
            self._waste(request, cost_s).explored_s += cost_s
            return self._plans.is_new_plan(request.key, arm, shape, cost_s)

    def describe(self, request: Request, plan: NeuralDagPlan | None, refusal: str | None, cost_s: float) -> None:
        """Take in the server's own plan of a statement, or why it is left alone from now on.

        Args:
            request: The statement.
            plan: The plan; None when it cannot be read.
            refusal: Why the statement is left alone; None when it may be tuned, or asked again another time.
            cost_s: Seconds that asking took.
        """
        with self._lock:
            account = self._waste(request, cost_s)
            account.explored_s += cost_s
            if plan is None or refusal is not None:
                account.refusal = refusal or account.refusal
                self._plans.drop(request.key, cost_s)
                return
            kinds = tuple(sorted({one.kind for one in plan.operators}))
            if request.is_family:
                self._families.describe(request.fingerprint, kinds)
                self._plans.asked(cost_s)
                return
            note = PlanNote(plan.shape, kinds, plan.total_cost, plan.plan_embedding)
            self._plans.describe(request.key, note, cost_s)

    def finish(self, request: Request, choice: Choice, time_s: float) -> None:
        """Take in that a statement came to its end after `time_s`, all that the application waited."""
        with self._lock, self._exploring(request) as account:
            self._ledger.add(account, time_s)
            server_s = self._server_s(request)
            if not choice.arm.params.is_default and server_s > 0.0:
                account.saved_s += server_s - time_s
            self._families.meet(request.fingerprint, request.key)
            if request.is_family:
                self._families.finish(request.fingerprint, choice, time_s)
                self._plans.spend(time_s)
                return
            self._plans.finish(request.key, request.fingerprint, choice, time_s)
            if choice.arm.params.is_default:
                self._families.overhear(request.fingerprint, time_s)
            unit, now = self._plans.units.get(request.key), self._ledger.total_s
        if unit is not None and unit.note is not None:
            self.engine.tell(_trajectory(request.fingerprint, unit.note, choice, time_s, server_s, now=now))

    def abandon(self, request: Request, choice: Choice, wasted_s: float) -> None:
        """Take in that a statement was given up after `wasted_s`, and is run again."""
        with self._lock, self._exploring(request):
            self._waste(request, wasted_s)
            if request.is_family:
                self._families.abandon(request.fingerprint, choice, wasted_s)
                self._plans.spend(wasted_s)
            else:
                self._plans.abandon(request.key, choice, wasted_s)

    def refuse(self, request: Request, arm: Arm, why: str, *, everywhere: bool = False, cost_s: float = 0.0) -> None:
        """Take in that an arm cannot be used, for a statement or on this server, which took `cost_s` to find out."""
        with self._lock:
            self._waste(request, cost_s).explored_s += cost_s
            if request.is_family:
                self._families.refuse(request.fingerprint, arm, why)
            self._plans.refuse(request.key, arm, why, everywhere=everywhere, cost_s=cost_s)

    def take_turn(self) -> bool:
        """Return True when the caller may try now, and has to end its turn: one statement at a time tries something."""
        return self._turn.acquire(blocking=False)

    def end_turn(self) -> None:
        """Let another statement try something."""
        self._turn.release()

    def leave_alone(self, request: Request, time_s: float) -> None:
        """Take in that a statement which is not tuned took `time_s`."""
        with self._lock:
            account = self._account(request)
            account.refusal = request.refusal or account.refusal
            self._ledger.add(account, time_s)

    # -- sums ----------------------------------------------------------------------------------------------------------

    def _server_s(self, request: Request) -> float:
        if request.is_family:
            return self._families.server_s(request.fingerprint)
        return self._plans.server_s(request.key)

    def _waste(self, request: Request, time_s: float) -> Account:
        # The application waits for it, and has nothing of it.
        account = self._account(request)
        self._ledger.wait(account, time_s)
        account.saved_s -= time_s
        return account

    @contextlib.contextmanager
    def _exploring(self, request: Request) -> Iterator[Account]:
        account, before_s = self._account(request), self._plans.budget.explored_s
        yield account
        account.explored_s += self._plans.budget.explored_s - before_s

    def _account(self, request: Request) -> Account:
        return self._ledger.account(request.fingerprint, request.statement.normalised)


def _trajectory(
    fingerprint: str, note: PlanNote, choice: Choice, time_s: float, server_s: float, *, now: float
) -> DagTrajectory:
    return DagTrajectory(
        0,
        note.embedding,
        ExecutionMetrics(latency_us=1e6 * time_s),
        choice.arm.params,
        fingerprint,
        note.shape,
        baseline_us=1e6 * server_s if server_s > 0.0 else None,
        timestamp=now,  # seconds of statements, so that the same calls give the same state
    )
