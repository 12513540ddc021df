"""Loop C in an engine: dreams, consolidation, what a dry run of them would do; and the rhythm of all loops."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sona.checks import finite, whole
from sona.config import DEEP_STAGES
from sona.engine.durable import LEASE
from sona.engine.events import DeepBegun, DeepEnded, DeepFailed, Ticked
from sona.engine.learning import Learning
from sona.engine.worker import Worker
from sona.errors import InvalidValue, StateError, StoreError
from sona.loops.coordinator import LoopCoordinator, TickResult

if TYPE_CHECKING:  # imported when Loop C first runs: `import sona` stays quick
    from sona.dreams.dream import Dream
    from sona.loops.deep import DeepLoop
    from sona.loops.deep_cycle import DeepCycle, DeepResult
    from sona.memory.consolidate import ConsolidationPlan

_log = logging.getLogger("sona")
R = TypeVar("R")


class Reorganising(Learning):
    """An engine whose memory is reorganised as a whole, rarely."""

    def deep_learn(
        self, force: bool = False, *, time_limit_s: float | None = None, stages: Sequence[str] = DEEP_STAGES
    ) -> DeepResult:
        """Run Loop C now: links, dreams, consolidation, pattern levels, Phi; requests go on meanwhile.

        What the time limit leaves over is done by the next call.

        Args:
            force: Run with fewer than `min_memories`.
            time_limit_s: Most seconds, asked after every unit of work, so that one is done at least; that of the
                settings when None. With 0 nothing is done.
            stages: What to do: any of link, dream, compare, consolidate, abstract, measure.

        Raises:
            InvalidValue: there is no such stage, or a limit below 0.
            LearningError, MemoryGraphError: the cycle failed; nothing was changed.
        """
        limit = self.config.deep.time_limit_s if time_limit_s is None else finite(time_limit_s, "time_limit_s")
        if limit < 0.0:
            raise InvalidValue(f"time_limit_s: expected at least 0, got {time_limit_s!r}")
        from sona.loops.deep_cycle import in_order  # imported when it is first needed: `import sona` stays quick

        chosen = in_order(stages)
        began = time.perf_counter()
        self.index()
        with self._cycle_lock:
            with self._lock:
                loop = self._deep_loop
                if self._learner is None or limit == 0.0:
                    return loop.skipped("no memories" if self._learner is None else "no time: the limit is 0")
                begun = DeepBegun(self._clock(), force, chosen)
                with self._log_lock:  # what was shown by now is spared, and what is shown later comes after this
                    self._journal.append(begun)
                    cycle = self._machine.begin_deep(begun)
            if cycle.reason is not None:
                return loop.skipped(cycle.reason)
            result, seq = self._reorganised(loop, cycle, until=began + limit)
            self._keep_snapshot_if_possible()
        self._journal.wait(seq)
        return replace(result, elapsed_s=time.perf_counter() - began)

    @property
    def _deep_loop(self) -> DeepLoop:
        from sona.loops.deep import DeepLoop  # imported when it is first needed: `import sona` stays quick

        return DeepLoop(self.config.deep_settings()) if self._learner is None else self._learner.loops.deep

    def _reorganised(self, loop: DeepLoop, cycle: DeepCycle, *, until: float) -> tuple[DeepResult, int]:
        try:
            change = loop.compute(cycle, is_over=lambda: self._is_stopping or time.perf_counter() >= until)
        except BaseException as error:
            self._happen(DeepFailed(self._clock(), f"{type(error).__name__}: {error}"))
            raise
        with self._lock, self._log_lock:  # no request between what is still shown and the place that says so
            machine, ended = self._machine, DeepEnded(self._clock(), change.units, change)
            result, machine.memories = machine.reorganise(ended)
            seq = self._journal.append(ended)
        return result, seq

    def plan_consolidation(self) -> ConsolidationPlan:
        """Return what consolidation would merge and remove now, and what that may cost; nothing changes."""
        from sona.memory.consolidate import ConsolidationPlan  # as above

        self.index()
        with self._cycle_lock, self._lock:
            if self._learner is None:
                return ConsolidationPlan((), (), 0.0, 0)
            change = self._machine.plan(DeepBegun(self._clock(), force=True, stages=("compare", "consolidate")))
            return change.plan or ConsolidationPlan((), (), 0.0, len(self._learner.associations.graph))

    def dream(self, count: int = 10) -> tuple[Dream, ...]:
        """Return dreams over the memories as they are, the best first; nothing changes.

        Args:
            count: Dreams.
        """
        from sona.dreams.dream import DreamEngine  # as above

        whole(count, "count", 1)
        self.index()
        with self._lock:
            learner = self._learner
            if learner is None or not len(learner.associations.graph):
                return ()
            graph, number = learner.associations.graph.copy(), learner.loops.deep.progress.number
        rng = np.random.default_rng([self.config.deep.seed, number])
        dreams = DreamEngine(self.config.dreams, graph=graph).generate_dreams(count, rng)
        return tuple(sorted(dreams, key=lambda dream: -dream.score))

    # -- the rhythm ------------------------------------------------------------------------------------------------

    def tick(self) -> TickResult:
        """Do what is due: forget what waited too long, run Loops B and C. Throws no trajectory away.

        A loop that fails is told and tried again after a pause; it raises nothing. Where several processes share a
        store, one of them runs the loops.
        """
        now = self._clock()
        self._open.expire(now)
        with self._lock:
            if self._machine.is_tick_due(now):
                self._happen(Ticked(now))
            learner = self._learner
            if learner is None:
                return TickResult(None, "nothing was seen yet", 0)
        if self._journal.is_snapshot_due:
            self._keep_snapshot()
        with self._cycle_lock:
            return self._run_what_is_due(learner.loops, now)

    def _run_what_is_due(self, loops: LoopCoordinator, now: float) -> TickResult:
        with self._lock:
            is_due, is_deep_due = loops.is_due(now), loops.is_deep_due(now)
        if (is_due or is_deep_due) and not self._leads(now):
            return TickResult(None, "another process that shares the store runs the loops", loops.waiting_count)
        modes, failures = self.config.schedule, list[str]()
        background = _told(self.background_learn, modes.background, failures) if is_due else None
        deep = _told(self.deep_learn, modes.deep, failures) if is_deep_due else None
        reason = "not due, or too few trajectories" if background is None else background.skipped_reason
        return TickResult(background, reason, loops.waiting_count, deep, tuple(failures))

    def _leads(self, now: float) -> bool:
        store = self._journal.store
        if store is None:
            return True
        try:
            return store.lease(LEASE, self._holder, now=now, until=now + self.config.schedule.lease_s)
        except StoreError as error:
            _log.warning("the loops wait: %s", error)
            return False

    def start_background(self, period_s: float = 60.0) -> None:
        """Call `tick` every `period_s` seconds in a thread, until `stop_background` or `close`.

        Raises:
            StateError: it runs already.
            InvalidValue: a period that is not finite and above 0.
        """
        if finite(period_s, "period_s") <= 0.0:
            raise InvalidValue(f"period_s: expected a number above 0, got {period_s!r}")
        with self._lock:
            if self._worker is not None:
                raise StateError("the background thread runs already")
            self._worker = Worker(self.tick, period_s)


def _told(learn: Callable[[bool], R], mode: str, failures: list[str]) -> R | None:
    # Whatever goes wrong in a loop, requests go on; the loop has noted it in the log and is tried again later.
    try:
        return learn(mode == "forced")
    except Exception as error:  # noqa: BLE001 - a thread of its own calls this, and must outlive what it calls
        failures.append(f"{learn.__name__}: {type(error).__name__}: {error}")
        _log.exception("%s failed; it is tried again", learn.__name__)
        return None
