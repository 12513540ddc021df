"""DagSonaEngine: which settings a plan runs best with, learned from how executions of plans like it went.

Whoever asks (`pre_query`) reads one published set of patterns and waits for nobody; whoever tells (`post_query`) holds
one short lock. A background cycle computes on copies and swaps its result in, or leaves everything as it was.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np

from sona.adapters import LearningSignal
from sona.checks import Floats, finite, whole
from sona.config.tuner import DagConfig
from sona.errors import DimensionMismatch, StoreError
from sona.state import State
from sona.trajectory import TrajectoryIds
from sona.tuner.dag.bank import DagReasoningBank, SimilarPattern
from sona.tuner.dag.cycle import NEIGHBOURS, CycleStopped, DagChange, DagCycle, compute_cycle, lesson_of, outcome_of
from sona.tuner.dag.micro import DagMicroLoRA
from sona.tuner.dag.outcomes import Outcome, choice_of
from sona.tuner.dag.quality import Objective
from sona.tuner.dag.results import (
    DagCycleResult,
    DagSonaMetrics,
    DefaultWithAdaptation,
    PatternApplied,
    PostQueryResult,
)
from sona.tuner.dag.selector import AttentionSelector
from sona.tuner.dag.trajectories import DagTrajectory, DagTrajectoryBuffer
from sona.tuner.execution import ExecutionMetrics, ExecutionParams
from sona.tuner.plans.plan import NeuralDagPlan
from sona.types import LARGEST_ID

_CHOOSING = 1  # its stream of chance: never that of a cycle


class DagSonaEngine:
    """Learn settings per pattern of plans; without data every plan runs by the server's own choice.

    Any thread may call any method. A plan is of the width `hidden_dim` of the settings.

    >>> node = {"Node Type": "Seq Scan", "Relation Name": "t", "Plan Rows": 10, "Plan Width": 4}
    >>> plan = NeuralDagPlan.from_explain([{"Plan": {**node, "Startup Cost": 0.0, "Total Cost": 1.5}}])
    >>> engine = DagSonaEngine()
    >>> engine.pre_query(plan).reason
    'no pattern is known yet'
    >>> quick = ExecutionParams(custom={"enable_nestloop": "off"})
    >>> for _ in range(8):
    ...     told = engine.post_query(plan, ExecutionMetrics(latency_us=1e3), params=quick, baseline_us=9e3)
    >>> engine.run_background_cycle(force=True).made, dict(engine.pre_query(plan).params.settings)
    ((0,), {'enable_nestloop': 'off'})
    """

    def __init__(self, config: DagConfig | None = None, *, objective: Objective | None = None) -> None:
        """Start knowing nothing.

        Args:
            config: Settings.
            objective: What says how well an execution went, the same of the same; None for the specified measure.
        """
        self.config = config or DagConfig()
        self.objective = objective
        self._bank = DagReasoningBank(self.config)
        self._adapter = DagMicroLoRA(self.config)
        self._selector = AttentionSelector(self.config)
        self._buffer = DagTrajectoryBuffer(self.config.trajectory_capacity)
        self._ids = TrajectoryIds()
        self._given: OrderedDict[int, None] = OrderedDict()  # ids that callers brought, the newest last
        self._hits: Counter[int] = Counter()  # by pattern, since the last cycle
        self._queries = self._hit_count = self._cycles = 0
        self._latency_us = 0.0
        self._telling, self._cycling = threading.Lock(), threading.Lock()

    @property
    def bank(self) -> DagReasoningBank:
        """The patterns in force; the next cycle puts another bank in its place."""
        return self._bank

    @property
    def adapter(self) -> DagMicroLoRA:
        """The adapter of embeddings; it moves only where `adapts` is on."""
        return self._adapter

    @property
    def selector(self) -> AttentionSelector:
        """What chooses attention types; its patterns are the shapes of plans."""
        return self._selector

    # -- asking --------------------------------------------------------------------------------------------------------

    def pre_query(self, plan: NeuralDagPlan) -> PatternApplied | DefaultWithAdaptation:
        """Return what to run `plan` with; nothing is changed, so asked twice the answer is the same.

        Settings are applied when the nearest pattern is `min_similarity` alike and `apply_confidence` sure.

        Raises:
            DimensionMismatch: the plan's embedding is of another width.
        """
        nearest = self._nearest(plan.plan_embedding)
        reason = self._why_not(nearest)
        if nearest is not None and reason is None:
            return PatternApplied(nearest.params, nearest.pattern_id, nearest.confidence, nearest.similarity)
        rng = np.random.default_rng([self.config.seed, _CHOOSING, self._queries])
        attention = self._selector.select(plan.shape, rng)
        if nearest is None or reason is None:
            return DefaultWithAdaptation("no pattern is known yet", attention)
        return DefaultWithAdaptation(reason, attention, nearest.pattern_id, nearest.confidence, nearest.similarity)

    def find_similar(self, plan: NeuralDagPlan, k: int = 5) -> tuple[SimilarPattern, ...]:
        """Return the `k` patterns most like `plan`, best first, and what became of the settings tried there.

        Raises:
            DimensionMismatch: the plan's embedding is of another width.
            InvalidValue: `k` below 1.
        """
        return self._similar(plan.plan_embedding, k)

    def _similar(self, embedding: Floats, k: int) -> tuple[SimilarPattern, ...]:
        if len(embedding) != self.config.hidden_dim:
            raise DimensionMismatch(self.config.hidden_dim, len(embedding), "plan_embedding")
        return self._bank.find_similar(self._adapter.forward(embedding) if self.config.adapts else embedding, k)

    def _nearest(self, embedding: Floats) -> SimilarPattern | None:
        found = self._similar(embedding, 1)
        return found[0] if found else None

    def _why_not(self, nearest: SimilarPattern | None) -> str | None:
        if nearest is None:
            return "no pattern is known yet"
        if nearest.similarity < self.config.min_similarity:
            return f"the nearest pattern is {nearest.similarity:.2f} alike, {self.config.min_similarity:g} is needed"
        if nearest.confidence < self.config.apply_confidence:
            return f"its pattern is {nearest.confidence:.2f} sure, {self.config.apply_confidence:g} is needed"
        return None

    # -- telling -------------------------------------------------------------------------------------------------------

    def post_query(
        self,
        plan: NeuralDagPlan,
        metrics: ExecutionMetrics,
        *,
        params: ExecutionParams | None = None,
        baseline_us: float | None = None,
        fingerprint: str = "",
        trajectory_id: int | None = None,
        now: float = 0.0,
    ) -> PostQueryResult:
        """Count an execution, learn from it at once what can be, and keep it for the next cycle.

        Args:
            plan: The plan that the server makes by itself.
            metrics: How it went.
            params: Settings it ran with; those of the plan when None.
            baseline_us: What the server's own choice takes, in microseconds; None where it is not known.
            fingerprint: Digest of the statement.
            trajectory_id: An id of the caller: of the last `trajectory_capacity` ones each is counted once.
            now: Seconds.

        Raises:
            DimensionMismatch: the plan's embedding is of another width; nothing was changed.
            InvalidValue: an argument that cannot be, or an objective that gave no quality; nothing was changed.
        """
        if trajectory_id is not None:
            whole(trajectory_id, "trajectory id", 0, LARGEST_ID)
        told = DagTrajectory(
            0 if trajectory_id is None else trajectory_id,
            plan.plan_embedding,
            metrics,
            plan.params if params is None else params,
            fingerprint,
            plan.shape,
            plan.attention_type,
            baseline_us,
            now,
        )
        return self.tell(told, is_given=trajectory_id is not None)

    def tell(self, told: DagTrajectory, *, is_given: bool = False) -> PostQueryResult:
        """Do what `post_query` does, for whoever keeps the embedding of a plan and not the plan.

        Args:
            told: The execution.
            is_given: Whether its id is the caller's, and counts once; otherwise it gets one.

        Raises:
            DimensionMismatch: the embedding is of another width; nothing was changed.
            InvalidValue: an objective that gave no quality; nothing was changed.
        """
        bank, found = self._bank, self._similar(told.plan_embedding, NEIGHBOURS if self.config.adapts else 1)
        outcome = outcome_of(told, self.objective)
        signal = lesson_of(told, outcome.gain, found, bank, self._adapter) if self.config.adapts else None
        nearest = found[0] if found else None
        hit = nearest is not None and self._why_not(nearest) is None and _ran_as(nearest, told.params)
        with self._telling:
            if is_given and told.id in self._given:
                return PostQueryResult(told.id, outcome.quality, outcome.gain, hit, False, "its id was told before")
            return self._count(told, outcome, signal, nearest if hit else None, is_given=is_given)

    def _count(
        self,
        told: DagTrajectory,
        outcome: Outcome,
        signal: LearningSignal | None,
        hit: SimilarPattern | None,
        *,
        is_given: bool,
    ) -> PostQueryResult:
        trajectory = told if is_given else replace(told, id=self._ids.next())
        if is_given:
            self._remember(told.id)
        recorded = self._buffer.record(trajectory)
        self._queries += 1
        self._latency_us += told.metrics.latency_us
        if hit is not None:
            self._hit_count += 1
            self._hits[hit.pattern_id] += 1
        self._selector.update(told.shape, told.attention_type, outcome.quality)
        is_adapted = signal is not None and self._adapter.learn(signal)
        return PostQueryResult(
            trajectory.id,
            outcome.quality,
            outcome.gain,
            hit is not None,
            is_adapted,
            None if recorded else "too many executions wait for a cycle",
        )

    def _remember(self, trajectory_id: int) -> None:
        self._ids.advance(trajectory_id)
        self._given[trajectory_id] = None
        if len(self._given) > self.config.trajectory_capacity:
            self._given.popitem(last=False)

    # -- learning ------------------------------------------------------------------------------------------------------

    def run_background_cycle(
        self, force: bool = False, *, now: float = 0.0, is_stopping: Callable[[], bool] = lambda: False
    ) -> DagCycleResult:
        """Learn from the waiting executions: all of it, or after an error nothing, and they wait on.

        Args:
            force: Begin with fewer than `min_trajectories`.
            now: Seconds.
            is_stopping: Asked now and then whether to give up; then nothing was changed.

        Raises:
            InvalidValue: the objective gave no quality; nothing was changed.
        """
        finite(now, "now")
        if not self._cycling.acquire(blocking=False):
            return DagCycleResult(skipped_reason="another cycle is running")
        try:
            waiting = len(self._buffer)
            if waiting == 0 or (waiting < self.config.min_trajectories and not force):
                needed = 1 if force else self.config.min_trajectories
                return DagCycleResult(skipped_reason=f"{waiting} executions wait, {needed} are needed")
            cycle = self._begin(now, is_stopping)
            return self._commit(cycle, compute_cycle(cycle, self.config))
        except CycleStopped as stopped:
            return DagCycleResult(skipped_reason=str(stopped))
        finally:
            self._cycling.release()

    def _begin(self, now: float, is_stopping: Callable[[], bool]) -> DagCycle:
        with self._telling:
            hits, adapter = Counter(self._hits), self._adapter.copy() if self.config.adapts else None
        return DagCycle(
            bank=self._bank,
            adapter=adapter,
            batch=tuple(self._buffer.snapshot()),
            hits=hits,
            objective=self.objective,
            number=self._cycles,
            now=now,
            is_stopping=is_stopping,
        )

    def _commit(self, cycle: DagCycle, change: DagChange) -> DagCycleResult:
        self._buffer.discard_n(len(cycle.batch))
        with self._telling:
            self._hits -= Counter(cycle.hits)
            if change.ewc is not None:
                self._adapter.protect(change.ewc)
            self._cycles += 1
            self._bank = change.bank
        return change.result

    def metrics(self) -> DagSonaMetrics:
        """Return the counters."""
        with self._telling:
            queries = max(self._queries, 1)
            return DagSonaMetrics(
                queries_processed=self._queries,
                pattern_hit_rate=self._hit_count / queries,
                avg_latency_us=self._latency_us / queries,
                background_cycles=self._cycles,
                patterns_stored=len(self._bank),
                trajectories_dropped=self._buffer.dropped_count,
                ewc_tasks=self._adapter.ewc.task_count,
            )

    # -- saving --------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything but settings and objective; a cycle that runs is waited for."""
        with self._cycling, self._telling:
            return State(
                {
                    "bank": self._bank.state(),
                    "adapter": self._adapter.state(),
                    "selector": self._selector.state(),
                    "buffer": self._buffer.state(),
                    "ids": self._ids.state(),
                    "given": np.array(list(self._given), np.int64),
                    "hits": np.array(sorted(self._hits.items()), np.int64).reshape(-1, 2),
                    "queries": self._queries,
                    "hit_count": self._hit_count,
                    "latency_us": self._latency_us,
                    "cycles": self._cycles,
                }
            )

    @classmethod
    def from_state(cls, state: State, config: DagConfig | None = None, *, objective: Objective | None = None) -> Self:
        """Return the engine that `state` was taken from.

        Args:
            state: The tree.
            config: Settings, of the same width.
            objective: As it was.

        Raises:
            StoreError: the state is damaged, or of another width.
        """
        engine = cls(config, objective=objective)
        engine._bank = DagReasoningBank.from_state(state.child("bank"), engine.config)
        engine._adapter = DagMicroLoRA.from_state(state.child("adapter"), engine.config)
        engine._selector = AttentionSelector.from_state(state.child("selector"), engine.config)
        engine._buffer = DagTrajectoryBuffer.from_state(
            state.child("buffer"), capacity=engine.config.trajectory_capacity
        )
        if any(len(one.plan_embedding) != engine.config.hidden_dim for one in engine._buffer.snapshot()):
            raise StoreError("saved state: waiting executions are of another width than the settings say")
        engine._ids = TrajectoryIds.from_state(state.child("ids"))
        engine._given = OrderedDict.fromkeys(state.wholes("given", None).tolist())
        engine._hits = Counter(dict(state.wholes("hits", None, 2).tolist()))
        engine._restore_counters(state)
        return engine

    def _restore_counters(self, state: State) -> None:
        self._queries, self._hit_count = state.whole("queries"), state.whole("hit_count")
        self._latency_us, self._cycles = state.number("latency_us"), state.whole("cycles")
        if not 0 <= self._hit_count <= self._queries or self._cycles < 0 or not self._latency_us >= 0.0:
            raise StoreError("saved state: the counters of the engine cannot be")


def _ran_as(nearest: SimilarPattern, params: ExecutionParams) -> bool:
    return choice_of(params) == choice_of(nearest.params)
