"""The engine's counters in one record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sona.engine.learner import Learner
from sona.engine.machine import Machine
from sona.loops.instant import InstantMetrics
from sona.loops.schedule import LOOPS, LoopStatus
from sona.memory.calibrate import Gains
from sona.stores.store import Store, StoreMetrics


@dataclass(frozen=True, slots=True)
class SonaMetrics:
    """Counters over the engine's whole life, restarts included, and gauges of the present.

    Args:
        requests: Requests served or submitted.
        feedbacks: Requests that earned feedback.
        amended: Times feedback was changed later.
        repeated: Times feedback or a trajectory came again and counted once.
        unknown: Times feedback named an id that is not held.
        awaiting_feedback: Requests held that had no feedback yet; those that had can still be amended.
        unanswered: Requests that went without feedback.
        open_trajectories: Trajectories being recorded now.
        expired: Unfinished trajectories given up.
        memories: Texts remembered.
        hidden_dim: Width of embeddings; None before the first.
        version: Version in force; 0 is the untrained one.
        mode: The guard's mode.
        exposure: Share of requests that is answered with what was learned.
        limited: Lessons refused because their subject had given more than its share.
        rollbacks: Versions taken back because they were found worse than frozen answers.
        rejected_candidates: Cycles of Loop B rejected because they did worse on what was held out.
        learned: Trajectories Loop B has learned from.
        waiting: Trajectories waiting for Loop B.
        patterns: Patterns in the bank.
        ewc_tasks: Tasks protected by EWC++.
        past_requests: Distinct requests in the vote memory.
        evicted_requests: Requests that had to make room there.
        rejected_lists: Lists calibration refused because the update was not finite.
        gains: What each part of the score has won on lists it had not learned from.
        reach_trust: Share of its weight that the reach of votes has earned, in [0, 1].
        edges: Pairs of memories that are linked.
        linked_memories: Memories of the graph that requests see the links of.
        deep_cycles: Cycles of Loop C that were finished.
        phi: Mean Phi of sampled neighbourhoods of the memory, by the last cycle that measured it.
        levels: Groups in each level of the pattern hierarchy, lowest first.
        graph_weights: What activation 1 is worth in a score, over links to similar memories and over learned ones.
        loops: How each loop is doing.
        instant: Counters of Loop A.
        store: How the store does that keeps the log; None without one.
    """

    requests: int
    feedbacks: int
    amended: int
    repeated: int
    unknown: int
    awaiting_feedback: int
    unanswered: int
    open_trajectories: int
    expired: int
    memories: int
    hidden_dim: int | None = None
    version: int = 0
    mode: str = "on"
    exposure: float = 1.0
    limited: int = 0
    rollbacks: int = 0
    rejected_candidates: int = 0
    learned: int = 0
    waiting: int = 0
    patterns: int = 0
    ewc_tasks: int = 0
    past_requests: int = 0
    evicted_requests: int = 0
    rejected_lists: int = 0
    gains: Gains = field(default_factory=Gains)
    reach_trust: float = 0.0
    edges: int = 0
    linked_memories: int = 0
    deep_cycles: int = 0
    phi: float | None = None
    levels: tuple[int, ...] = ()
    graph_weights: tuple[float, float] = (0.0, 0.0)
    loops: tuple[LoopStatus, ...] = ()
    instant: InstantMetrics | None = None
    store: StoreMetrics | None = None

    @classmethod
    def of(cls, machine: Machine, store: Store | None, now: float) -> SonaMetrics:
        """Return the counters of an engine's parts, as of `now`, seconds."""
        intake, guard = machine.intake, machine.guard
        counts = intake.counts
        common = cls(
            requests=counts["submitted"] + intake.served.total_count,
            feedbacks=counts["feedbacks"],
            amended=counts["amended"],
            repeated=counts["repeated"],
            unknown=counts["unknown"],
            awaiting_feedback=intake.served.awaiting_count,
            unanswered=intake.served.unanswered_count,
            open_trajectories=len(intake.begun),
            expired=counts["expired"],
            memories=len(machine.memories),
            version=machine.versions.in_force,
            mode=guard.mode,
            exposure=guard.exposure,
            limited=counts["limited"],
            rollbacks=guard.rollback_count,
            rejected_candidates=guard.rejected_count,
            store=None if store is None else store.metrics(),
        )
        return common if machine.learner is None else common._with(machine.learner, now)

    def _with(self, learner: Learner, now: float) -> SonaMetrics:
        loops, links, weights = learner.loops, learner.associations.links, learner.calibrator.weights
        background, votes, gains = learner.loops.background, learner.votes, learner.calibrator.gains
        return replace(
            self,
            hidden_dim=learner.hidden_dim,
            learned=background.learned_count,
            waiting=learner.loops.waiting_count,
            patterns=background.bank.pattern_count,
            ewc_tasks=background.ewc.task_count,
            past_requests=len(votes),
            evicted_requests=votes.evicted_count,
            rejected_lists=learner.rejected_lists,
            gains=gains,
            reach_trust=learner.calibrator.trust(gains.reach),
            edges=learner.associations.graph.edge_count,
            linked_memories=0 if links is None else len(links.ids),
            deep_cycles=loops.deep.progress.number,
            phi=None if loops.deep.phi is None else loops.deep.phi.mean,
            levels=tuple(len(level.groups) for level in loops.deep.hierarchy.levels),
            graph_weights=(weights.similar, weights.linked),
            loops=tuple(loops.schedule.status(loop, now) for loop in LOOPS),
            instant=loops.instant.metrics(),
        )
