"""Loop C in an engine: dreams, consolidation and what a dry run of them would do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sona.checks import finite, whole
from sona.dreams.dream import Dream, DreamEngine
from sona.engine.events import DeepBegun, DeepEnded, DeepFailed
from sona.engine.learning import Learning
from sona.errors import InvalidValue
from sona.loops.deep import DeepLoop
from sona.loops.deep_cycle import STAGES, DeepCycle, DeepResult
from sona.memory.consolidate import ConsolidationPlan


class Reorganising(Learning):
    """An engine whose memory is reorganised as a whole, rarely."""

    def deep_learn(
        self, force: bool = False, *, time_limit_s: float | None = None, stages: Sequence[str] = STAGES
    ) -> DeepResult:
        """Run Loop C now: links, dreams, consolidation, pattern levels, Phi; requests go on meanwhile.

        What the time limit leaves over is done by the next call.

        Args:
            force: Run with fewer than `min_memories`.
            time_limit_s: Most seconds; that of the settings when None. With 0 nothing is done.
            stages: What to do: any of link, dream, compare, consolidate, abstract, measure.

        Raises:
            InvalidValue: there is no such stage, or a limit below 0.
            LearningError, MemoryGraphError: the cycle failed; nothing was changed.
        """
        limit = self.config.deep.time_limit_s if time_limit_s is None else finite(time_limit_s, "time_limit_s")
        if limit < 0.0:
            raise InvalidValue(f"time_limit_s: expected at least 0, got {time_limit_s!r}")
        chosen = _known(stages)
        began = time.perf_counter()
        self.index()
        with self._cycle_lock:
            with self._lock:
                learner = self._learner
                reason = "no memories" if learner is None else None
                if limit == 0.0:
                    reason = "no time: the limit is 0"
                if learner is None or reason is not None:
                    return DeepResult(0 if learner is None else learner.deep.progress.number, skipped_reason=reason)
                begun = DeepBegun(self._clock(), force, chosen)
                with self._log_lock:
                    self._journal.append(begun)
                cycle = self._machine.begin_deep(begun)
            if cycle.reason is not None:
                return DeepResult(learner.deep.progress.number, skipped_reason=cycle.reason)
            result, seq = self._reorganised(learner.deep, cycle, until=began + limit)
            self._keep_snapshot_if_possible()
        self._journal.wait(seq)
        return replace(result, elapsed_s=time.perf_counter() - began)

    def _reorganised(self, loop: DeepLoop, cycle: DeepCycle, *, until: float) -> tuple[DeepResult, int]:
        try:
            change = loop.compute(cycle, is_over=lambda: time.perf_counter() >= until)
        except BaseException as error:
            self._happen(DeepFailed(self._clock(), f"{type(error).__name__}: {error}"))
            raise
        with self._lock, self._log_lock:
            ended = DeepEnded(self._clock(), change.units, change)
            seq = self._journal.append(ended)
            result = self._machine.end_deep(ended)
        return result, seq

    def plan_consolidation(self) -> ConsolidationPlan:
        """Return what consolidation would merge and remove now, and what that may cost; nothing changes."""
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
        whole(count, "count", 1)
        self.index()
        with self._lock:
            learner = self._learner
            if learner is None or not len(learner.associations.graph):
                return ()
            graph, number = learner.associations.graph.copy(), learner.deep.progress.number
        rng = np.random.default_rng([self.config.deep.seed, number])
        dreams = DreamEngine(self.config.dreams, graph=graph).generate_dreams(count, rng)
        return tuple(sorted(dreams, key=lambda dream: -dream.score))


def _known(stages: Sequence[str]) -> tuple[str, ...]:
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or isinstance(stages, str):
        raise InvalidValue(f"stages: expected some of {', '.join(STAGES)}, got {stages!r}")
    return tuple(stage for stage in STAGES if stage in stages)
