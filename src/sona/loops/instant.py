"""Loop A: what one request teaches, at once.

A finished trajectory is recorded for Loop B, becomes a learning signal, and moves the micro adapter under the
constraint of EWC++: all within the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sona import kernel
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal, RunningBaseline, difference, taught
from sona.config import InstantConfig
from sona.errors import DimensionMismatch, LearningError, StoreError
from sona.retention.ewc import EwcPlusPlus
from sona.state import State
from sona.trajectory import TrajectoryBuffer
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True)
class InstantResult:
    """What Loop A did with one trajectory.

    Args:
        recorded: Kept for Loop B; False when the buffer was full.
        is_push: It had something to teach.
        applied: Signals the micro adapter took in now.
        skipped_reason: Why nothing was applied; None when something was.
    """

    recorded: bool
    is_push: bool
    applied: int
    skipped_reason: str | None


_make_result = kernel.maker(InstantResult)


@dataclass(frozen=True, slots=True)
class InstantMetrics:
    """Counters of Loop A over its whole life, restarts included.

    Args:
        recorded: Trajectories kept for Loop B.
        dropped: Trajectories refused because the buffer was full.
        waiting: Trajectories waiting for Loop B.
        pushes: Trajectories that had something to teach.
        silent: Trajectories that had not.
        applied: Signals the micro adapter has taken in; one that came while Loop B ran is taken in again after it.
        pending: Signals waiting for the next flush.
        rejected: Signals dropped because their step would have diverged.
    """

    recorded: int
    dropped: int
    waiting: int
    pushes: int
    silent: int
    applied: int
    pending: int
    rejected: int


class InstantLoop:
    """Records every trajectory and learns from it at once; silent ones are recorded and teach nothing.

    One writer at a time; whoever reads the adapter needs no lock.

    >>> loop = InstantLoop(MicroLoRA(2, 1))
    >>> loop.on_trajectory(QueryTrajectory(1, [1.0, 0.0])).skipped_reason
    'nothing to learn: no step or no reward'
    """

    def __init__(self, micro: MicroLoRA, ewc: EwcPlusPlus | None = None, config: InstantConfig | None = None) -> None:
        """Make Loop A over `micro`, constrained by `ewc` when given."""
        self.config = config or InstantConfig()
        self.micro = micro
        self.ewc = ewc
        self.baseline = RunningBaseline()
        self.buffer = TrajectoryBuffer(self.config.trajectory_capacity)
        self._pushes = self._silent = self._rejected = 0
        self._enough = min(self.config.flush_threshold, self.config.max_pending_signals)

    def on_trajectory(self, trajectory: QueryTrajectory) -> InstantResult:
        """Record `trajectory`, learn from it, and flush when enough signals wait.

        Raises:
            DimensionMismatch: it is of another width than the adapter; nothing was changed.
        """
        if trajectory.query_embedding.shape[0] != self.micro.hidden_dim:
            raise DimensionMismatch(self.micro.hidden_dim, trajectory.hidden_dim, "query_embedding")
        signal = self.signal(trajectory)
        result = self._learn(signal, self.buffer.record(trajectory))
        self._pushes += signal.is_push
        self._silent += not signal.is_push
        # Clicks on a list are measured against the list, outcomes of a sequence against what is usual.
        quality = signal.quality_score
        if quality is not None and not trajectory.alternatives and trajectory.supersedes is None:
            self.baseline.update(quality)
        return result

    def relearn(self, trajectory: QueryTrajectory) -> InstantResult:
        """Learn again from a trajectory that was recorded and counted when it came, after the adapter was folded."""
        return self._learn(self.signal(trajectory), recorded=True)

    def signal(self, trajectory: QueryTrajectory) -> LearningSignal:
        """Return what `trajectory` teaches now; an amended one teaches the difference to its earlier version."""
        signal = self._signal(trajectory)
        if trajectory.supersedes is None:
            return signal
        return difference(signal, self._signal(trajectory.supersedes))

    def _signal(self, trajectory: QueryTrajectory) -> LearningSignal:
        config, used = self.config, trajectory.query_embedding
        if trajectory.alternatives:
            used = self.micro.forward(used)
        return taught(trajectory, used, self.baseline.value, config.quality_threshold, config.temperature)

    def _learn(self, signal: LearningSignal, recorded: bool) -> InstantResult:
        if not self.config.learns:
            return _make_result(recorded, signal.is_push, 0, "the micro adapter is switched off")
        if not self._accumulate(signal):
            reason = "the step would have diverged" if signal.is_push else "nothing to learn: no step or no reward"
            return _make_result(recorded, signal.is_push, 0, reason)
        if self.micro.pending_updates < self._enough:
            return _make_result(recorded, True, 0, "waiting for more signals")
        applied = self.flush()
        return _make_result(recorded, True, applied, None if applied else "the step would have diverged")

    def _accumulate(self, signal: LearningSignal) -> bool:
        try:
            return self.micro.accumulate_gradient(signal)
        except LearningError:
            self._rejected += 1
            return False

    def flush(self) -> int:
        """Move the micro adapter by all waiting signals; return how many. A step that would diverge is dropped."""
        constrain = None
        if self.ewc is not None and self.ewc.task_count:
            constrain = partial(self.ewc.apply_constraints, learning_rate=self.config.learning_rate)
        try:
            return self.micro.apply_accumulated(self.config.learning_rate, constrain)
        except LearningError:
            self._rejected += self.micro.discard_accumulated()
            return 0

    def go_on_after(self, earlier: InstantLoop) -> None:
        """Count on from where `earlier` stood."""
        self._pushes, self._silent, self._rejected = earlier._pushes, earlier._silent, earlier._rejected
        self.buffer.go_on_after(earlier.buffer)
        self.micro.go_on_after(earlier.micro)

    def drain(self) -> list[QueryTrajectory]:
        """Hand all waiting trajectories to Loop B."""
        return self.buffer.drain()

    def metrics(self) -> InstantMetrics:
        """Return the counters."""
        return InstantMetrics(
            recorded=self.buffer.total_seen - self.buffer.dropped_count,
            dropped=self.buffer.dropped_count,
            waiting=len(self.buffer),
            pushes=self._pushes,
            silent=self._silent,
            applied=self.micro.applied_count,
            pending=self.micro.pending_updates,
            rejected=self._rejected,
        )

    def state(self) -> State:
        """Return everything but the constraint, which Loop B owns."""
        return State(
            {
                "micro": self.micro.state(),
                "baseline": self.baseline.state(),
                "buffer": self.buffer.state(),
                "pushes": self._pushes,
                "silent": self._silent,
                "rejected": self._rejected,
            }
        )

    @classmethod
    def from_state(
        cls, state: State, ewc: EwcPlusPlus | None = None, config: InstantConfig | None = None
    ) -> InstantLoop:
        """Return the loop that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        settings = config or InstantConfig()
        loop = cls(MicroLoRA.from_state(state.child("micro")), ewc, settings)
        loop.baseline = RunningBaseline.from_state(state.child("baseline"))
        loop.buffer = TrajectoryBuffer.from_state(state.child("buffer"))
        if any(trajectory.hidden_dim != loop.micro.hidden_dim for trajectory in loop.buffer.snapshot()):
            raise StoreError("saved state: waiting trajectories are of another width than the micro adapter")
        loop._pushes, loop._silent = state.whole("pushes"), state.whole("silent")
        loop._rejected = state.whole("rejected")
        return loop
