"""The rhythm: Loop A on every trajectory, Loop B when it is due. Time is an argument; who calls `tick` decides when."""

from __future__ import annotations

from dataclasses import dataclass

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import RunningBaseline
from sona.checks import Floats
from sona.config import BackgroundConfig, InstantConfig
from sona.errors import DimensionMismatch, StoreError
from sona.loops.background import BackgroundChange, BackgroundLoop, BackgroundResult
from sona.loops.cycle import Consolidated, Cycle
from sona.loops.instant import InstantLoop, InstantResult
from sona.state import State
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True)
class TickResult:
    """What a tick did.

    Args:
        background: The cycle of Loop B that ran; None when it was not due.
        reason: Why Loop B did not run; None when it did.
        waiting: Trajectories waiting for Loop B.
    """

    background: BackgroundResult | None
    reason: str | None
    waiting: int


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """The two adapters that are in force together: a cycle replaces both at once, so no reader sees half of it."""

    micro: MicroLoRA
    base: BaseLoRA

    def forward(self, x: Floats) -> Floats:
        """Return `x`, shape (d,) or (n, d), corrected by both; untrained, `x` itself."""
        corrected = self.micro.forward(x)
        return corrected if self.base.layer(0) is None else corrected + self.base.delta(0, x)


@dataclass(frozen=True, slots=True, eq=False)
class LoopCheckpoint:
    """Everything of the loops that decided answers and learning at one moment; never changed.

    Args:
        micro: A copy of the instant adapter, with no signal waiting.
        in_force: What the cycles had learned.
        baseline: A copy of what a request usually earned.
        usual: What outcomes since the cycle before were measured against, in [0, 1].
    """

    micro: MicroLoRA
    in_force: Consolidated
    baseline: RunningBaseline
    usual: float

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "micro": self.micro.state(),
                "in_force": self.in_force.state(),
                "baseline": self.baseline.state(),
                "usual": self.usual,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> LoopCheckpoint:
        """Return the checkpoint that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        micro, in_force = MicroLoRA.from_state(state.child("micro")), Consolidated.from_state(state.child("in_force"))
        _require_one_size(micro, in_force)
        return cls(micro, in_force, RunningBaseline.from_state(state.child("baseline")), state.number("usual"))


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

    def __init__(self, instant: InstantLoop, background: BackgroundLoop) -> None:
        """Join two loops over the same micro adapter."""
        self.instant = instant
        self.background = background
        self._last_cycle: float | None = None
        self._adapters = Adapters(instant.micro, background.base)
        self._usual = instant.baseline.value  # what outcomes since the last cycle are measured against

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
        """True once the interval of Loop B has begun."""
        return self._last_cycle is not None

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
        enough = self.waiting_count >= self.background.config.min_trajectories
        waited = 0.0 if self._last_cycle is None else now - self._last_cycle
        return enough and waited >= self.background.config.interval_s

    def begin_tick(self, now: float) -> bool:
        """Return True when Loop B is due; the first tick starts the interval."""
        if self._last_cycle is None:
            self._last_cycle = now
        return self.is_due(now)

    def tick(self, now: float) -> TickResult:
        """Run Loop B when it is due.

        Args:
            now: Seconds, a clock that does not go back.
        """
        if not self.begin_tick(now):
            return TickResult(None, "not due, or too few trajectories", self.waiting_count)
        result = self.run_background(now=now)
        return TickResult(result, result.skipped_reason, self.waiting_count)

    def run_background(self, *, now: float, force: bool = False) -> BackgroundResult:
        """Run one cycle of Loop B now and put it in force: `begin`, `compute` and `commit` in one.

        Args:
            now: Seconds.
            force: Run with fewer than `min_trajectories`.
        """
        return self.commit(self.compute(self.begin(now=now, force=force)), now=now)

    def hand_over(self) -> int:
        """Move what Loop A recorded to Loop B, as far as there is room; return how many were new."""
        room = max(self.instant.buffer.capacity - self.background.pending_count, 0)
        return self.background.add(self.instant.buffer.drain_n(room))

    def begin(self, *, now: float, force: bool = False) -> Cycle:
        """Hand over what Loop A recorded, and return a cycle to be computed aside while requests go on.

        End it with `commit` or `reject`; without either, its trajectories wait for the next cycle.

        Args:
            now: Seconds.
            force: Run with fewer than `min_trajectories`.
        """
        self.hand_over()
        return self._cycle(now, force)

    def _cycle(self, now: float, force: bool) -> Cycle:
        return self.background.begin(self.instant.micro, baseline=self._usual, now=now, force=force)

    def compute(self, cycle: Cycle | None = None, *, now: float = 0.0, force: bool = False) -> BackgroundChange:
        """Return what `cycle` learns; nothing is in force yet, and any thread may do it while requests learn.

        Args:
            cycle: As `begin` returned it; None begins one here, over what was handed over before.
            now: Seconds, for a cycle begun here.
            force: Run with fewer than `min_trajectories`, for a cycle begun here.

        Raises:
            LearningError: the refit failed; the batch waits for the next cycle.
            PatternExtractionError: clustering failed; the batch waits for the next cycle.
        """
        return self.background.compute(self._cycle(now, force) if cycle is None else cycle)

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
            self._end(now)
        return result

    def _end(self, now: float) -> None:
        self._last_cycle, self._usual = now, self.instant.baseline.value

    def merge_tasks(self) -> int:
        """Merge the tasks of EWC++ into one, and return how many there were; 0 when there was nothing to merge."""
        merged = self.background.merge_tasks()
        self.instant.ewc = self.background.ewc
        return merged

    def go_on_after(self, earlier: LoopCoordinator) -> None:
        """Count on from where `earlier` stood: versions, cycles, pattern ids and what was recorded."""
        self.background.go_on_after(earlier.background)
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
        """Return both loops and when Loop B last ran."""
        return State(
            {
                "instant": self.instant.state(),
                "background": self.background.state(),
                "usual": self._usual,
                "last_cycle": [] if self._last_cycle is None else [self._last_cycle],
            }
        )

    @classmethod
    def from_state(
        cls,
        state: State,
        instant_config: InstantConfig | None = None,
        background_config: BackgroundConfig | None = None,
    ) -> LoopCoordinator:
        """Return the coordinator that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        background = BackgroundLoop.from_state(state.child("background"), background_config)
        coordinator = cls(InstantLoop.from_state(state.child("instant"), background.ewc, instant_config), background)
        _require_one_size(coordinator.instant.micro, background.in_force)
        coordinator._usual = state.number("usual")
        last = state.listing("last_cycle")
        coordinator._last_cycle = float(last[0]) if last and isinstance(last[0], (int, float)) else None
        return coordinator


def _require_one_size(micro: MicroLoRA, in_force: Consolidated) -> None:
    if micro.hidden_dim != in_force.base.hidden_dim or micro.param_count != in_force.ewc.param_count:
        raise StoreError("saved state: the loops differ in the size of their adapters")


def _going_on(earlier: MicroLoRA, present: MicroLoRA) -> MicroLoRA:
    # A copy of the earlier adapter whose counters are those of the present one.
    if earlier.hidden_dim != present.hidden_dim:
        raise DimensionMismatch(present.hidden_dim, earlier.hidden_dim, "checkpoint")
    if earlier.param_count != present.param_count:
        raise DimensionMismatch(present.param_count, earlier.param_count, "checkpoint: parameters")
    counters = {"skipped": present.skipped_count, "applied": present.applied_count}
    return MicroLoRA.from_state(State({**dict(earlier.state().items()), **counters}))
