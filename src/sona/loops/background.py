"""Loop B: what many requests teach together.

A cycle tests whether the stream has changed, protects what the micro adapter learned before the change, adds the
new trajectories to additive statistics, refits layer 0 of the base adapter from all of them, and extracts patterns.
`begin` takes everything it needs into one record, `compute` works on copies of that and returns a change, `commit`
swaps it in or `reject` drops it. A cycle that skips or fails loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from sona.adapters.base_lora import BaseLoRA, FitResult
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.statistics import RidgeStatistics
from sona.config import BackgroundConfig
from sona.errors import DimensionMismatch, StateError, StoreError
from sona.loops.cycle import Consolidated, Cycle, detect_boundary, update_fisher
from sona.loops.lessons import Teacher, outcome_of
from sona.patterns.bank import ReasoningBank
from sona.patterns.extract import ExtractionResult
from sona.patterns.ring import AddOutcome
from sona.retention.boundary import BoundaryResult
from sona.retention.ewc import EwcPlusPlus
from sona.retention.results import FisherUpdate, TaskChange
from sona.state import State
from sona.trajectory import Place, TrajectoryShelf, shelved, trajectories_state
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True)
class BackgroundResult:
    """What a cycle of Loop B did, and what it left out and why.

    Args:
        version: Number of the committed version; that in force when the cycle was skipped.
        trajectories: Trajectories learned from.
        skipped_reason: Why nothing was done; None for a full cycle.
        boundary: Whether the stream has changed.
        task: The task protected because of it.
        fisher: What EWC++ took in.
        fit: The base adapter's refit.
        extraction: The patterns found.
        united: Patterns that had grown alike and are one now.
        pruned: Patterns dropped: the least valuable beyond `max_patterns`.
        folded: Whether the micro adapter was absorbed.
    """

    version: int
    trajectories: int
    skipped_reason: str | None = None
    boundary: BoundaryResult | None = None
    task: TaskChange | None = None
    fisher: FisherUpdate | None = None
    fit: FitResult | None = None
    extraction: ExtractionResult | None = None
    united: int = 0
    pruned: int = 0
    folded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundChange:
    """A cycle's outcome, not yet in force.

    Args:
        result: What the cycle did.
        cycle: What it was computed from.
        after: What it learned; None when it was skipped.
        bank: The patterns it found; None when it was skipped.
    """

    result: BackgroundResult
    cycle: Cycle
    after: Consolidated | None = None
    bank: ReasoningBank | None = None

    @property
    def base(self) -> BaseLoRA | None:
        """The base adapter it would put in force; None when it was skipped."""
        return None if self.after is None else self.after.base


class BackgroundLoop:
    """Consolidates trajectories in cycles; every trajectory is learned from once.

    Args:
        bank: Where patterns live.
        base: The lasting adapter.
        ewc: What protects the micro adapter.
        config: Settings.
    """

    def __init__(
        self, bank: ReasoningBank, base: BaseLoRA, ewc: EwcPlusPlus, config: BackgroundConfig | None = None
    ) -> None:
        """Start with nothing learned."""
        self.config = config or BackgroundConfig()
        self.bank = bank
        self._in_force = Consolidated(base, ewc, RidgeStatistics(base.hidden_dim), {})
        self._pending = TrajectoryShelf()
        self._version = self._cycles = 0
        self._learned = self._rejected = self._discarded = 0

    @property
    def in_force(self) -> Consolidated:
        """What the committed cycles have learned."""
        return self._in_force

    @property
    def base(self) -> BaseLoRA:
        """The lasting adapter."""
        return self._in_force.base

    @property
    def ewc(self) -> EwcPlusPlus:
        """What protects the micro adapter."""
        return self._in_force.ewc

    @property
    def statistics(self) -> RidgeStatistics:
        """The sums behind the base adapter."""
        return self._in_force.statistics

    @property
    def pending_count(self) -> int:
        """Trajectories the next cycle would learn from."""
        return len(self._pending)

    @property
    def version(self) -> int:
        """Number of the version committed last; 0 before the first."""
        return self._version

    @property
    def learned_count(self) -> int:
        """Trajectories learned from over the loop's whole life."""
        return self._learned

    @property
    def rejected_count(self) -> int:
        """Cycles that were rejected, ever."""
        return self._rejected

    @property
    def discarded_count(self) -> int:
        """Trajectories of rejected cycles, ever: used up without being learned from."""
        return self._discarded

    def add(self, trajectories: Iterable[QueryTrajectory] | TrajectoryShelf) -> int:
        """Take in trajectories for the next cycle; return how many. One that was taken in before counts once.

        What lies on a shelf goes on lying in the same columns.

        Raises:
            DimensionMismatch: one is of another width; those before it were taken in.
        """
        taken = 0
        for trajectory, at in _placed(trajectories):
            earlier = self.bank.held(trajectory.id)
            outcome = self.bank.add_trajectory(trajectory, at)
            if outcome is not AddOutcome.REPEATED:
                kept = trajectory if outcome is AddOutcome.EXPIRED else _replacing(trajectory, earlier)
                self._pending.append(kept, at if kept is trajectory else None)
                taken += 1
        return taken

    def begin(self, micro: MicroLoRA, *, baseline: float = 0.5, now: float = 0.0, force: bool = False) -> Cycle:
        """Return a cycle over all pending trajectories, ready to be computed; nothing here changes.

        Args:
            micro: The instant adapter, copied.
            baseline: What a request usually earns, in [0, 1].
            now: Seconds.
            force: Run with fewer than `min_trajectories`.
        """
        reason = self._why_not(len(self._pending), force)
        return Cycle(
            since=self._in_force,
            bank=self.bank.copy(),
            micro=MicroLoRA.from_state(micro.state()),
            batch=() if reason else self._pending.copy(),
            baseline=baseline,
            now=now,
            number=self._cycles,
            version=self._version + (reason is None),
            reason=reason,
        )

    def _why_not(self, count: int, force: bool) -> str | None:
        if count == 0:
            return "no new trajectories"
        if not force and count < self.config.min_trajectories:
            return f"{count} of {self.config.min_trajectories} trajectories are there; they wait for the next cycle"
        return None

    def compute(self, cycle: Cycle) -> BackgroundChange:
        """Return what `cycle` learns: the same from the same cycle, whatever comes meanwhile, in any thread.

        It reads the cycle and the settings, and changes neither. Nothing is in force before `commit`.

        Raises:
            LearningError: the refit failed; nothing was changed.
            PatternExtractionError: clustering failed; nothing was changed.
        """
        if cycle.reason is not None:
            return BackgroundChange(BackgroundResult(cycle.version, 0, cycle.reason), cycle)
        since, teacher = cycle.since, Teacher(self.config, cycle.bank.config.capacity)
        rng = np.random.default_rng([self.config.seed, cycle.number])
        ewc = EwcPlusPlus.from_state(since.ewc.state())
        boundary, task = detect_boundary(cycle, ewc, rng)
        fisher = update_fisher(cycle, ewc, teacher)
        statistics = RidgeStatistics.from_state(since.statistics.state())
        taught = teacher.accumulate(statistics, cycle.batch, since.taught, baseline=cycle.baseline)
        base = BaseLoRA.from_state(since.base.state())
        fit = base.fit_layer(0, statistics, self.config.regularisation, self.config.strength)
        bank = cycle.bank.copy()
        extraction = bank.extract_patterns(now=cycle.now, rng=rng)
        united, pruned = bank.consolidate(), bank.prune(min_quality=0.0)  # poor ones are told, not dropped
        result = BackgroundResult(
            version=cycle.version,
            trajectories=len(cycle.batch),
            boundary=boundary,
            task=task,
            fisher=fisher,
            fit=fit,
            extraction=extraction,
            united=united,
            pruned=pruned,
            folded=True,
        )
        return BackgroundChange(result, cycle, Consolidated(base, ewc, statistics, taught), bank)

    def run_cycle(
        self, micro: MicroLoRA, *, baseline: float = 0.5, now: float = 0.0, force: bool = False
    ) -> BackgroundChange:
        """Begin a cycle and compute it; see `begin` for what it takes and `compute` for what it raises."""
        return self.compute(self.begin(micro, baseline=baseline, now=now, force=force))

    def commit(self, change: BackgroundChange, micro: MicroLoRA) -> BackgroundResult:
        """Put a change in force: new base, statistics, EWC++ and patterns, and the micro adapter folded into them.

        The trajectories behind the micro adapter's steps are in the base adapter's statistics now, so its up factor
        returns to zero, signals waiting for a flush are dropped, and the protected points of EWC++ move with it.
        Trajectories added and patterns accessed since the cycle began are in the new patterns too.

        Raises:
            StateError: what the change was computed from is no longer in force; nothing was changed.
        """
        if change.after is None or change.bank is None:
            return change.result
        self._require_current(change)
        before = micro.flat()
        micro.discard_accumulated()  # waiting signals are of trajectories that are in the sums, or will be
        micro.fold()
        change.after.ewc.rebase(before - micro.flat())
        change.bank.take_accesses(change.cycle.bank, self.bank)
        for trajectory, at in self._pending.part(
            self._pending.start + len(change.cycle.batch), self._pending.end
        ).placed():
            change.bank.add_trajectory(trajectory, at)
        self.bank, self._in_force = change.bank, change.after
        self._version = change.result.version
        self._learned += self._end(change)
        return change.result

    def reject(self, change: BackgroundChange) -> BackgroundResult:
        """Drop a change and the trajectories behind it: they are counted, and never tried again.

        Adapters, sums, EWC++ and patterns stay as they are. When such a trajectory is amended, nothing is taken
        back, as it taught nothing; the amended version is learned from.

        Returns:
            What became of the cycle: the version in force, nothing learned, and why.

        Raises:
            StateError: what the change was computed from is no longer in force; nothing was changed.
        """
        if change.after is None:
            return change.result
        self._require_current(change)
        count = self._end(change)
        self._in_force = replace(self._in_force)  # another one: changes computed from the same are refused
        self._rejected += 1
        self._discarded += count
        return BackgroundResult(self._version, 0, f"the change was rejected; {count} trajectories are used up")

    def merge_tasks(self) -> int:
        """Merge the tasks of EWC++ into one, and return how many there were; 0 when there was nothing to merge."""
        ewc = EwcPlusPlus.from_state(self.ewc.state())
        done = ewc.consolidate_all_tasks()
        if not done.consolidated:
            return 0
        self._in_force = replace(self._in_force, ewc=ewc)
        return done.tasks_merged

    def go_on_after(self, earlier: BackgroundLoop) -> None:
        """Count on from where `earlier` stood, so that no number is ever used again."""
        self._version, self._cycles = earlier._version, earlier._cycles
        self._learned, self._rejected, self._discarded = earlier._learned, earlier._rejected, earlier._discarded
        self.bank.go_on_after(earlier.bank)

    def restore(self, earlier: Consolidated) -> None:
        """Put back what was in force earlier; patterns, pending trajectories, numbers and counters go on.

        Raises:
            DimensionMismatch: it is of another width; nothing was changed.
        """
        expected, actual = self._in_force, earlier
        if actual.base.hidden_dim != expected.base.hidden_dim:
            raise DimensionMismatch(expected.base.hidden_dim, actual.base.hidden_dim, "checkpoint")
        if actual.ewc.param_count != expected.ewc.param_count:
            raise DimensionMismatch(expected.ewc.param_count, actual.ewc.param_count, "checkpoint: parameters")
        self._in_force = replace(earlier)

    def _require_current(self, change: BackgroundChange) -> None:
        if change.cycle.since is not self._in_force:
            raise StateError(
                f"version {change.result.version} was computed from what is no longer in force; run the cycle again"
            )

    def _end(self, change: BackgroundChange) -> int:
        count = len(change.cycle.batch)
        self._pending.drop(count)
        self._cycles += 1
        return count

    def state(self) -> State:
        """Return everything the loop holds, bank, base adapter and EWC++ included."""
        return State(
            {
                "bank": self.bank.state(),
                **dict(self._in_force.state().items()),
                "pending": trajectories_state(list(self._pending)),
                "version": self._version,
                "cycles": self._cycles,
                "learned": self._learned,
                "rejected": self._rejected,
                "discarded": self._discarded,
            }
        )

    @classmethod
    def from_state(cls, state: State, config: BackgroundConfig | None = None) -> BackgroundLoop:
        """Return the loop that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        bank, learned = ReasoningBank.from_state(state.child("bank")), Consolidated.from_state(state)
        loop = cls(bank, learned.base, learned.ewc, config)
        loop._in_force = learned
        loop._pending = shelved(state.child("pending"))
        width = learned.base.hidden_dim
        if {bank.hidden_dim or width, *(trajectory.hidden_dim for trajectory in loop._pending)} != {width}:
            raise StoreError("saved state: the parts of the background loop differ in width")
        loop._version, loop._cycles = state.whole("version"), state.whole("cycles")
        loop._learned, loop._rejected = state.whole("learned"), state.whole("rejected")
        loop._discarded = state.whole("discarded")
        return loop


def _placed(
    trajectories: Iterable[QueryTrajectory] | TrajectoryShelf,
) -> Iterable[tuple[QueryTrajectory, Place | None]]:
    if isinstance(trajectories, TrajectoryShelf):
        return trajectories.placed()
    return ((trajectory, None) for trajectory in trajectories)


def _replacing(trajectory: QueryTrajectory, earlier: QueryTrajectory | None) -> QueryTrajectory:
    # An amendment takes back what was taken in, which is not what it names when that was dropped on the way.
    named = trajectory.supersedes
    if named is None or (earlier is not None and outcome_of(named) == outcome_of(earlier)):
        return trajectory
    return replace(trajectory, supersedes=None if earlier is None else replace(earlier, supersedes=None))
