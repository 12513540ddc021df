"""The rhythm: Loop A on every trajectory, Loops B and C when they are due.

Time is an argument; who calls `tick` decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import RunningBaseline
from sona.config import BackgroundConfig, DeepSettings, GraphConfig, InstantConfig, ScheduleConfig
from sona.errors import DimensionMismatch, SonaError, StoreError
from sona.loops.adapters import Adapters, LoopCheckpoint, require_one_size
from sona.loops.background import BackgroundChange, BackgroundLoop, BackgroundResult
from sona.loops.cycle import Cycle
from sona.loops.instant import InstantLoop, InstantResult
from sona.loops.schedule import Schedule
from sona.memory.associate import AssociativeMemory
from sona.state import State
from sona.types import QueryTrajectory

if TYPE_CHECKING:
    from sona.loops.deep import DeepLoop
    from sona.loops.deep_cycle import DeepChange, DeepResult

_LINKED_PER_CYCLE = 25_000_000  # cosines at the end of a cycle of Loop B: less than a second


@dataclass(frozen=True, slots=True)
class TickResult:
    """What a tick did.

    Args:
        background: The cycle of Loop B that ran; None when it was not due.
        reason: Why Loop B did not run; None when it did.
        waiting: Trajectories waiting for Loop B.
        deep: The cycle of Loop C that ran; None when it was not due.
        failures: What went wrong, in words; it is tried again after a pause.
    """

    background: BackgroundResult | None
    reason: str | None
    waiting: int
    deep: DeepResult | None = None
    failures: tuple[str, ...] = ()


class LoopCoordinator:
    """Joins the loops: what Loop A records reaches Loop B, and what Loop B learns constrains Loop A.

    `tick` never throws trajectories away: when Loop B is not due or has too few, they wait.

    >>> from sona.adapters.base_lora import BaseLoRA
    >>> from sona.adapters.micro_lora import MicroLoRA
    >>> from sona.config import EwcConfig
    >>> from sona.patterns.bank import ReasoningBank
    >>> from sona.retention.ewc import EwcPlusPlus
    >>> micro = MicroLoRA(2, 1)
    >>> ewc = EwcPlusPlus(EwcConfig(param_count=micro.param_count))
    >>> loops = LoopCoordinator(InstantLoop(micro, ewc), BackgroundLoop(ReasoningBank(), BaseLoRA(2, 1, 1), ewc))
    >>> recorded = loops.on_trajectory(QueryTrajectory(1, [1.0, 0.0], final_quality=1.0)).recorded
    >>> loops.tick(now=0.0).waiting, loops.run_background(now=0.0, force=True).trajectories
    (1, 1)
    """

    def __init__(
        self,
        instant: InstantLoop,
        background: BackgroundLoop,
        settings: DeepSettings | None = None,
        *,
        associations: AssociativeMemory | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Join loops over the same micro adapter and the same memories.

        Args:
            instant: Loop A.
            background: Loop B.
            settings: Of Loop C; the defaults when None.
            associations: The memory graph; an empty one when None.
            schedule: When each loop runs; by default settings when None.
        """
        self.instant = instant
        self.background = background
        self.settings = settings or DeepSettings()
        self._deep: DeepLoop | None = None
        self.associations = associations or AssociativeMemory(instant.micro.hidden_dim)
        self.schedule = schedule or Schedule(
            ScheduleConfig(), background.config.interval_s, self.settings.deep.interval_s
        )
        self._adapters = Adapters(instant.micro, background.base)
        self._usual = instant.baseline.value  # what outcomes since the last cycle are measured against

    @property
    def deep(self) -> DeepLoop:
        """Loop C."""
        if self._deep is None:
            from sona.loops.deep import DeepLoop  # imported when it is first needed: `import sona` stays quick

            self._deep = DeepLoop(self.settings)
        return self._deep

    @property
    def adapters(self) -> Adapters:
        """The adapters in force; readers use one such pair and never lock."""
        return self._adapters

    @property
    def waiting_count(self) -> int:
        """Trajectories recorded and not yet learned from by Loop B."""
        return len(self.instant.buffer) + self.background.pending_count

    def on_trajectory(self, trajectory: QueryTrajectory) -> InstantResult:
        """Run Loop A on one finished trajectory."""
        return self.instant.on_trajectory(trajectory)

    @property
    def is_started(self) -> bool:
        """True once the intervals have begun."""
        return self.schedule.is_started

    def why_not(self, *, force: bool = False) -> str | None:
        """Return why a cycle would have nothing to do now; None when it would."""
        count, least = self.waiting_count, self.background.config.min_trajectories
        if count == 0:
            return "no new trajectories"
        if not force and count < least:
            return f"{count} of {least} trajectories are there; they wait for the next cycle"
        return None

    def is_due(self, now: float) -> bool:
        """Return True when Loop B has waited its interval and has enough to learn from."""
        has_enough = self.why_not(force=self.schedule.config.background == "forced") is None
        return has_enough and self.schedule.is_due("background", now, has_enough=has_enough)

    def is_deep_due(self, now: float) -> bool:
        """Return True when Loop C has waited its interval and has enough memories, or is in the middle of its work."""
        count, least = len(self.associations.graph), self.settings.deep.min_memories
        has_enough = count >= (1 if self.schedule.config.deep == "forced" else max(least, 1))
        return has_enough and self.schedule.is_due("deep", now, has_enough=has_enough)

    def tick(self, now: float) -> TickResult:
        """Run what is due: Loop B, then Loop C. A loop that fails is tried again after a pause; nothing is lost.

        The first tick begins the intervals.

        Args:
            now: Seconds.
        """
        self.schedule.start(now)
        background, deep, failures = None, None, []
        if self.is_due(now):
            try:
                background = self.run_background(now=now, force=self.schedule.config.background == "forced")
            except SonaError as error:
                self.schedule.failed("background", now, str(error) or type(error).__name__)
                failures.append(f"background: {error}")
        if self.is_deep_due(now):
            try:
                deep = self.run_deep(now=now, force=self.schedule.config.deep == "forced")
            except SonaError as error:
                self.schedule.failed("deep", now, str(error) or type(error).__name__)
                failures.append(f"deep: {error}")
        reason = "not due, or too few trajectories" if background is None else background.skipped_reason
        return TickResult(background, reason, self.waiting_count, deep, tuple(failures))

    def run_deep(self, *, now: float, force: bool = False, is_over: Callable[[], bool] = lambda: False) -> DeepResult:
        """Run one cycle of Loop C now and put it in force.

        Args:
            now: Seconds.
            force: Run with fewer memories than it needs.
            is_over: Asked before every unit of work; True ends the cycle there, and the next goes on.
        """
        cycle = self.deep.begin(self.associations, self.background.bank, now=now, force=force)
        if cycle.reason is not None:
            return self.deep.skipped(cycle.reason)
        self.schedule.began("deep", now)
        return self.reorganise(self.deep.compute(cycle, is_over=is_over), now=now)

    def reorganise(
        self, change: DeepChange, *, now: float, protected: Collection[str] = (), unsettled: Collection[str] = ()
    ) -> DeepResult:
        """Put a cycle of Loop C in force.

        Args:
            change: What it computed.
            now: Seconds.
            protected: Ids of memories that must stay.
            unsettled: Ids of memories that say something else by now and have no vector of it yet.

        Raises:
            StateError: another cycle was committed since this one began; nothing was changed.
        """
        bank = self.background.bank
        result = self.deep.commit(change, self.associations, bank, protected=protected, unsettled=unsettled)
        if self.settings.deep.merge_tasks and change.is_finished:
            result = replace(result, tasks_merged=self.merge_tasks())
        self.schedule.ended("deep", now, "done" if change.is_finished else "done in part; the next goes on")
        return result

    def run_background(self, *, now: float, force: bool = False) -> BackgroundResult:
        """Run one cycle of Loop B now and put it in force: `begin`, `compute` and `commit` in one.

        Args:
            now: Seconds.
            force: Run with fewer than `min_trajectories`.
        """
        return self.commit(self.compute(self.begin(now=now, force=force)), now=now)

    def _hand_over(self) -> None:
        # What Loop A recorded goes to Loop B, as far as there is room.
        room = max(self.instant.buffer.capacity - self.background.pending_count, 0)
        self.background.add(self.instant.buffer.hand_over(room))

    def begin(self, *, now: float, force: bool = False) -> Cycle:
        """Hand over what Loop A recorded, and return a cycle to be computed aside while requests go on.

        End it with `commit` or `reject`; without either, its trajectories wait for the next cycle.

        Args:
            now: Seconds.
            force: Run with fewer than `min_trajectories`.
        """
        self._hand_over()
        cycle = self.background.begin(self.instant.micro, baseline=self._usual, now=now, force=force)
        if cycle.reason is None:
            self.schedule.began("background", now)
        return cycle

    def compute(self, cycle: Cycle) -> BackgroundChange:
        """Return what `cycle` learns; nothing is in force yet, and any thread may do it while requests learn.

        Args:
            cycle: As `begin` returned it.

        Raises:
            LearningError: the refit failed; the batch waits for the next cycle.
            PatternExtractionError: clustering failed; the batch waits for the next cycle.
        """
        return self.background.compute(cycle)

    def commit(self, change: BackgroundChange, *, now: float) -> BackgroundResult:
        """Put a cycle in force; what Loop A learned while it was computed is learned again on top of it.

        Raises:
            StateError: what it was computed from is no longer in force; nothing was changed.
        """
        micro = MicroLoRA.from_state(self.instant.micro.state())  # readers go on with the pair they know
        result = self.background.commit(change, micro)
        if result.skipped_reason is None:
            self._end(now)
            self.instant.micro, self.instant.ewc = micro, self.background.ewc
            for trajectory in self.instant.buffer.snapshot():
                self.instant.relearn(trajectory)
            self._adapters = Adapters(micro, self.background.base)
            self.associations.link(_LINKED_PER_CYCLE)
            self.associations.publish()
        return result

    def reject(self, change: BackgroundChange, *, now: float) -> BackgroundResult:
        """Drop a cycle: its trajectories are used up without being learned from, and the interval starts anew.

        Adapters, sums, EWC++ and patterns stay as they are; what Loop A learned at once stays learned until the
        next commit. See `BackgroundLoop.reject`.

        Raises:
            StateError: what it was computed from is no longer in force; nothing was changed.
        """
        result = self.background.reject(change)
        if change.after is not None:
            self._end(now, "done, and rejected")
        return result

    def _end(self, now: float, outcome: str = "done") -> None:
        self._usual = self.instant.baseline.value
        self.schedule.ended("background", now, outcome)

    def merge_tasks(self) -> int:
        """Merge the tasks of EWC++ into one, and return how many there were; 0 when there was nothing to merge."""
        merged = self.background.merge_tasks()
        self.instant.ewc = self.background.ewc
        return merged

    def go_on_after(self, earlier: LoopCoordinator) -> None:
        """Count on from where `earlier` stood: versions, cycles, pattern ids, what was recorded and when each ran."""
        self.background.go_on_after(earlier.background)
        self.deep.go_on_after(earlier.deep)
        self.schedule = earlier.schedule
        self.instant.go_on_after(earlier.instant)

    def checkpoint(self) -> LoopCheckpoint:
        """Return everything that decides the adapters' answers and learning now, to come back to.

        What cycles learned is shared, as it is only ever replaced. Patterns, trajectories on their way and counters
        are no part of it; nor are signals that wait for a flush, whose trajectories are on their way to Loop B.
        """
        micro = MicroLoRA.from_state(self.instant.micro.state())
        micro.discard_accumulated()
        baseline = RunningBaseline.from_state(self.instant.baseline.state())
        return LoopCheckpoint(micro, self.background.in_force, baseline, self._usual)

    def restore(self, checkpoint: LoopCheckpoint) -> None:
        """Answer and learn as at `checkpoint`, bit for bit; waiting signals are dropped.

        Patterns, trajectories on their way, the interval and every counter go on: versions, cycles, learned, applied
        and skipped signals. So the next version has a number greater than any before, what was learned since the
        checkpoint is not learned again, and its amendments take nothing back. A cycle begun before cannot be
        committed any more.

        Raises:
            DimensionMismatch: it is of other sizes than these loops; nothing was changed.
        """
        micro = _going_on(checkpoint.micro, self.instant.micro)
        self.background.restore(checkpoint.in_force)
        self.instant.micro, self.instant.ewc = micro, self.background.ewc
        self.instant.baseline = RunningBaseline.from_state(checkpoint.baseline.state())
        self._usual = checkpoint.usual
        self._adapters = Adapters(micro, self.background.base)

    def state(self) -> State:
        """Return the loops, the memory graph and when each loop ran."""
        return State(
            {
                "instant": self.instant.state(),
                "background": self.background.state(),
                "deep": self.deep.state(),
                "associations": self.associations.state(),
                "schedule": self.schedule.state(),
                "usual": self._usual,
            }
        )

    @classmethod
    def from_state(
        cls,
        state: State,
        instant_config: InstantConfig | None = None,
        background_config: BackgroundConfig | None = None,
        *,
        settings: DeepSettings | None = None,
        graph: GraphConfig | None = None,
        schedule: ScheduleConfig | None = None,
    ) -> LoopCoordinator:
        """Return the coordinator that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        background = BackgroundLoop.from_state(state.child("background"), background_config)
        settings = settings or DeepSettings()
        intervals = background.config.interval_s, settings.deep.interval_s
        coordinator = cls(
            InstantLoop.from_state(state.child("instant"), background.ewc, instant_config),
            background,
            settings,
            associations=AssociativeMemory.from_state(state.child("associations"), graph),
            schedule=Schedule.from_state(state.child("schedule"), schedule or ScheduleConfig(), *intervals),
        )
        require_one_size(coordinator.instant.micro, background.in_force)
        if coordinator.associations.graph.hidden_dim != coordinator.instant.micro.hidden_dim:
            raise StoreError("saved state: the memory graph is of another width than the adapters")
        coordinator.deep.take_over(state.child("deep"))
        coordinator._usual = state.number("usual")
        return coordinator


def _going_on(earlier: MicroLoRA, present: MicroLoRA) -> MicroLoRA:
    # A copy of the earlier adapter whose counters are those of the present one.
    if earlier.hidden_dim != present.hidden_dim:
        raise DimensionMismatch(present.hidden_dim, earlier.hidden_dim, "checkpoint")
    if earlier.param_count != present.param_count:
        raise DimensionMismatch(present.param_count, earlier.param_count, "checkpoint: parameters")
    counters = {"skipped": present.skipped_count, "applied": present.applied_count}
    return MicroLoRA.from_state(State({**dict(earlier.state().items()), **counters}))
