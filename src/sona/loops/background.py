"""Loop B: what many requests teach together.

A cycle tests whether the stream has changed, protects what the micro adapter learned before the change, adds the
new trajectories to additive statistics, refits layer 0 of the base adapter from all of them, and extracts patterns.
It works on copies and returns a change; `commit` swaps it in. A cycle that skips or fails loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sona.adapters.base_lora import BaseLoRA, FitResult
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal
from sona.adapters.statistics import RidgeStatistics
from sona.checks import Floats
from sona.config import BackgroundConfig
from sona.errors import StateError, StoreError
from sona.patterns.bank import ReasoningBank
from sona.patterns.extract import ExtractionResult
from sona.patterns.ring import AddOutcome
from sona.retention.boundary import BoundaryResult
from sona.retention.ewc import EwcPlusPlus
from sona.retention.results import FisherUpdate, TaskChange
from sona.state import State
from sona.trajectory import trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory

_BATCH = 256  # trajectories worked on at once, so that a cycle holds little beside what it learns from


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    # A request, where it should have pointed (both (d,), the request of length 1), and how much that counts.
    request: Floats
    target: Floats
    weight: float


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
    """A cycle's outcome, not yet in force."""

    result: BackgroundResult
    learned: int
    base: BaseLoRA | None = None
    ewc: EwcPlusPlus | None = None
    statistics: RidgeStatistics | None = None
    baselines: dict[int, float] | None = None


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
        self.bank, self.base, self.ewc = bank, base, ewc
        self.statistics = RidgeStatistics(base.hidden_dim)
        self._pending: list[QueryTrajectory] = []
        self._baselines: dict[int, float] = {}  # what each outcome in the sums was measured against, if anything
        self._version = 0
        self._cycles = 0
        self._learned = 0

    @property
    def pending_count(self) -> int:
        """Trajectories the next cycle would learn from."""
        return len(self._pending)

    @property
    def version(self) -> int:
        """Number of the version in force; 0 before the first cycle."""
        return self._version

    @property
    def learned_count(self) -> int:
        """Trajectories learned from over the loop's whole life."""
        return self._learned

    def add(self, trajectories: Iterable[QueryTrajectory]) -> int:
        """Take in trajectories for the next cycle; return how many. One that was taken in before counts once.

        Raises:
            DimensionMismatch: one is of another width; those before it were taken in.
        """
        taken = 0
        for trajectory in trajectories:
            earlier = self.bank.held(trajectory.id)
            outcome = self.bank.add_trajectory(trajectory)
            if outcome is not AddOutcome.REPEATED:
                self._pending.append(trajectory if outcome is AddOutcome.EXPIRED else _replacing(trajectory, earlier))
                taken += 1
        return taken

    def run_cycle(
        self, micro: MicroLoRA, *, baseline: float = 0.5, now: float = 0.0, force: bool = False
    ) -> BackgroundChange:
        """Compute one cycle over all pending trajectories; nothing is in force before `commit`.

        Args:
            micro: The instant adapter, read only.
            baseline: What a request usually earns, in [0, 1].
            now: Seconds.
            force: Run with fewer than `min_trajectories`.

        Raises:
            LearningError: the refit failed; nothing was changed.
            PatternExtractionError: clustering failed; nothing was changed.
        """
        batch = tuple(self._pending)
        reason = self._why_not(len(batch), force)
        if reason is not None:
            return BackgroundChange(BackgroundResult(self._version, 0, reason), 0)
        rng = np.random.default_rng([self.config.seed, self._cycles])
        ewc = EwcPlusPlus.from_state(self.ewc.state())
        boundary, task = self._detect(ewc, micro, batch, now, rng)
        fisher = self._fisher(ewc, micro, batch, baseline)
        statistics = RidgeStatistics.from_state(self.statistics.state())
        baselines = self._accumulate(statistics, batch, baseline)
        base = BaseLoRA.from_state(self.base.state())
        fit = base.fit_layer(0, statistics, self.config.regularisation, self.config.strength)
        extraction = self.bank.extract_patterns(now=now, rng=rng)
        united, pruned = self.bank.consolidate(), self.bank.prune(min_quality=0.0)  # poor ones are told, not dropped
        result = BackgroundResult(
            version=self._version + 1,
            trajectories=len(batch),
            boundary=boundary,
            task=task,
            fisher=fisher,
            fit=fit,
            extraction=extraction,
            united=united,
            pruned=pruned,
            folded=True,
        )
        return BackgroundChange(result, len(batch), base, ewc, statistics, baselines)

    def _why_not(self, count: int, force: bool) -> str | None:
        if count == 0:
            return "no new trajectories"
        if not force and count < self.config.min_trajectories:
            return f"{count} of {self.config.min_trajectories} trajectories are there; they wait for the next cycle"
        return None

    def commit(self, change: BackgroundChange, micro: MicroLoRA) -> BackgroundResult:
        """Put a change in force: new base, statistics and EWC++, and the micro adapter folded into them.

        The trajectories behind the micro adapter's steps are in the base adapter's statistics now, so its up factor
        returns to zero, signals waiting for a flush are dropped, and the protected points of EWC++ move with it.

        Raises:
            StateError: another change was committed since this one was computed.
        """
        result = change.result
        if change.base is None or change.ewc is None or change.statistics is None or change.baselines is None:
            return result
        if result.version != self._version + 1:
            raise StateError(f"version {result.version} does not follow version {self._version}; run the cycle again")
        before = micro.flat()
        micro.discard_accumulated()  # waiting signals are of trajectories that are in the sums, or will be
        micro.fold()
        change.ewc.rebase(before - micro.flat())
        self.base, self.ewc, self.statistics = change.base, change.ewc, change.statistics
        self._baselines = change.baselines
        del self._pending[: change.learned]
        self._version = result.version
        self._cycles += 1
        self._learned += change.learned
        return result

    def _detect(
        self,
        ewc: EwcPlusPlus,
        micro: MicroLoRA,
        batch: Sequence[QueryTrajectory],
        now: float,
        rng: np.random.Generator,
    ) -> tuple[BoundaryResult, TaskChange | None]:
        judged = [t for t in batch if t.supersedes is None]
        embeddings = np.array([t.query_embedding for t in judged], np.float32).reshape(len(judged), micro.hidden_dim)
        known = [t.quality for t in judged if t.quality is not None]
        losses = 1.0 - np.array(known, np.float32) if len(known) == len(judged) else None
        boundary = ewc.detect_task_boundary(embeddings, losses, rng=rng)
        task = ewc.start_new_task(micro.flat(), now) if boundary.is_boundary else None
        return boundary, task

    def _fisher(
        self, ewc: EwcPlusPlus, micro: MicroLoRA, batch: Sequence[QueryTrajectory], baseline: float
    ) -> FisherUpdate:
        examples = 0
        gradients: list[Floats] = []
        for trajectory in batch:
            signal = self._signal(trajectory, baseline)
            if signal.is_push:
                gradients.append(micro.flat_gradient(signal.query_embedding, signal.gradient_estimate))
            if len(gradients) == _BATCH:
                examples += ewc.update_fisher(np.array(gradients)).examples
                gradients.clear()
        if gradients:
            examples += ewc.update_fisher(np.array(gradients)).examples
        return FisherUpdate(examples > 0, examples, None if examples else "no trajectory had anything to teach")

    def _signal(self, trajectory: QueryTrajectory, baseline: float) -> LearningSignal:
        return LearningSignal.from_trajectory(
            trajectory,
            baseline=baseline,
            quality_threshold=self.config.quality_threshold,
            temperature=self.config.temperature,
        )

    def _accumulate(
        self, statistics: RidgeStatistics, batch: Sequence[QueryTrajectory], baseline: float
    ) -> dict[int, float]:
        # An amended outcome is taken out just as it was taken in, against the baseline of its day.
        baselines = dict(self._baselines)
        for start in range(0, len(batch), _BATCH):
            added: list[_Lesson] = []
            removed: list[_Lesson] = []
            for trajectory in batch[start : start + _BATCH]:
                if trajectory.supersedes is not None:
                    removed += self._lessons(trajectory.supersedes, baselines.pop(trajectory.id, None))
                added += self._lessons(trajectory, baseline)
                if not _is_choice(trajectory):
                    baselines[trajectory.id] = baseline
            _move(statistics.add, added)
            _move(statistics.subtract, removed)
        for oldest in list(baselines)[: max(len(baselines) - self.bank.config.capacity, 0)]:
            del baselines[oldest]
        return baselines

    def _lessons(self, trajectory: QueryTrajectory, baseline: float | None) -> list[_Lesson]:
        # None or one; of what was measured against a baseline nobody remembers, none.
        if baseline is None and not _is_choice(trajectory):
            return []
        lesson = self._chosen(trajectory) if _is_choice(trajectory) else self._sequence(trajectory, baseline or 0.0)
        return [] if lesson is None else [lesson]

    def _chosen(self, trajectory: QueryTrajectory) -> _Lesson | None:
        # A list should have pointed to the mean of what it took, by reward.
        rewards = np.array([step.reward or 0.0 for step in trajectory.steps], np.float32)
        rewards[rewards < self.config.quality_threshold] = 0.0
        if not rewards.any():
            return None
        taken = np.array([_direction(step.activations) for step in trajectory.steps], np.float32)
        return _Lesson(_direction(trajectory.query_embedding), (rewards / rewards.sum()) @ taken, 1.0)

    def _sequence(self, trajectory: QueryTrajectory, baseline: float) -> _Lesson | None:
        # Advantage-weighted regression (Peters and Schaal 2007): the target is where the signal points, from the
        # request on, and the size of the signal is what the lesson counts; so outcomes that have become usual add
        # little, and take nothing back. The part of a signal along the request changes no direction.
        signal = self._signal(trajectory, baseline)
        if not signal.is_push:
            return None
        query, g = _direction(trajectory.query_embedding), signal.gradient_estimate
        heading = _direction(g)
        return _Lesson(query, query + heading - (heading @ query) * query, float(np.sqrt(g @ g)))

    def state(self) -> State:
        """Return everything the loop holds, bank, base adapter and EWC++ included."""
        return State(
            {
                "bank": self.bank.state(),
                "base": self.base.state(),
                "ewc": self.ewc.state(),
                "statistics": self.statistics.state(),
                "pending": trajectories_state(self._pending),
                "baseline_of": np.array(list(self._baselines), np.int64),
                "baselines": np.array(list(self._baselines.values()), np.float64),
                "version": self._version,
                "cycles": self._cycles,
                "learned": self._learned,
            }
        )

    @classmethod
    def from_state(cls, state: State, config: BackgroundConfig | None = None) -> BackgroundLoop:
        """Return the loop that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        bank = ReasoningBank.from_state(state.child("bank"))
        base = BaseLoRA.from_state(state.child("base"))
        loop = cls(bank, base, EwcPlusPlus.from_state(state.child("ewc")), config)
        loop.statistics = RidgeStatistics.from_state(state.child("statistics"))
        loop._pending = trajectories_from_state(state.child("pending"))
        widths = {loop.statistics.hidden_dim, *(trajectory.hidden_dim for trajectory in loop._pending)}
        if widths | {bank.hidden_dim or base.hidden_dim} != {base.hidden_dim}:
            raise StoreError("saved state: the parts of the background loop differ in width")
        ids = state.wholes("baseline_of", None).tolist()
        loop._baselines = dict(zip(ids, state.doubles("baselines", len(ids)).tolist(), strict=True))
        loop._version, loop._cycles = state.whole("version"), state.whole("cycles")
        loop._learned = state.whole("learned")
        return loop


def _replacing(trajectory: QueryTrajectory, earlier: QueryTrajectory | None) -> QueryTrajectory:
    # An amendment takes back what was taken in, which is not what it names when that was dropped on the way.
    named = trajectory.supersedes
    if named is None or (earlier is not None and _outcome(named) == _outcome(earlier)):
        return trajectory
    return replace(trajectory, supersedes=None if earlier is None else replace(earlier, supersedes=None))


def _is_choice(trajectory: QueryTrajectory) -> bool:
    # Rewarded alternatives are measured against each other, everything else against a baseline.
    return trajectory.alternatives and any(step.reward is not None for step in trajectory.steps)


def _move(into: Callable[[Floats, Floats, Floats], None], lessons: Sequence[_Lesson]) -> None:
    if lessons:
        requests = np.array([lesson.request for lesson in lessons], np.float32)
        targets = np.array([lesson.target for lesson in lessons], np.float32)
        into(requests, targets, np.array([lesson.weight for lesson in lessons], np.float32))


def _outcome(trajectory: QueryTrajectory) -> tuple[float | None, ...]:
    return trajectory.final_quality, *(step.reward for step in trajectory.steps)


def _direction(x: Floats) -> Floats:
    length = float(np.sqrt(np.dot(x, x)))
    return x if length == 0.0 else x / np.float32(length)
