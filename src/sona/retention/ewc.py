"""EWC++: what earlier tasks need of the parameters is kept while later tasks are learned.

Two ways to merge the Gaussians N(w_k, 1 / F_k) that tasks leave behind, both with precision sum_k F_k:

- **Latest anchor** (`start_new_task`): w* is where the last task ended. Right for tasks trained one after another
  *under the constraint*: w_k is then already the optimum of tasks 1..k together, so pulling towards w_1..w_(k-1)
  again would count them twice (Huszar 2018).
- **Product mean** (`consolidate_all_tasks`): w* = sum_k F_k w_k / sum_k F_k. Right for tasks trained *apart*, each
  w_k the optimum of its own data alone: workers side by side, or tasks learned before the constraint was on.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, finite, rows, vector
from sona.config import EwcConfig
from sona.errors import ConfigError, DimensionMismatch, InvalidValue, StoreError
from sona.retention.boundary import BoundaryDetector, BoundaryResult, boundary_config_from
from sona.retention.fisher import RunningFisher, to_float32
from sona.retention.penalty import QuadraticPenalty, StepFactors
from sona.retention.results import Consolidation, FisherUpdate, Rebase, TaskChange
from sona.retention.tasks import ProtectedTask, TaskMemory
from sona.state import State

_STRENGTH_STEP = 1.25  # up and down by the same factor, so that noise without a trend leaves the strength where it is


class EwcPlusPlus:
    """Constrain gradient steps so that finished tasks are kept; before the first task ends it changes nothing.

    Args:
        config: Settings; `param_count` fixes the width p of every vector.

    Source:
        Kirkpatrick et al. 2017, EWC, eq. 3; Huszar 2018, one quadratic at the latest anchor; Chaudhry et al. 2018,
        EWC++, running Fisher.

    >>> ewc = EwcPlusPlus(EwcConfig(param_count=2, learning_rate=0.1))
    >>> ewc.update_fisher(np.array([1.0, 0.0])).updated, ewc.start_new_task(np.zeros(2)).closed
    (True, True)
    >>> ewc.apply_constraints(np.array([201.0, 1.0]))
    array([1., 1.], dtype=float32)
    """

    __slots__ = ("_config", "_detector", "_factors", "_fisher", "_memory", "_strength")

    def __init__(self, config: EwcConfig) -> None:
        """Start with no task protected."""
        self._config = config
        self._strength = float(config.strength)
        self._fisher = RunningFisher(config.param_count, config.fisher_decay)
        self._memory = TaskMemory(config.param_count, config.max_tasks)
        self._detector = BoundaryDetector(config.boundary)
        self._factors: StepFactors | None = None

    @property
    def config(self) -> EwcConfig:
        """The settings."""
        return self._config

    @property
    def param_count(self) -> int:
        """Number of protected parameters p."""
        return self._config.param_count

    @property
    def strength(self) -> float:
        """The present lambda."""
        return self._strength

    @property
    def fisher(self) -> Floats:
        """Bias-corrected Fisher of the task in progress, shape (p,)."""
        return self._fisher.value()

    @property
    def consolidated_fisher(self) -> Floats:
        """Summed Fisher of all finished tasks, evicted ones included, shape (p,)."""
        penalty = self._memory.penalty
        return np.zeros(self.param_count, np.float32) if penalty is None else to_float32(penalty.precision)

    @property
    def anchor(self) -> Floats | None:
        """The point the penalty pulls to, shape (p,), read-only; None before the first task ends."""
        return None if self._memory.penalty is None else self._memory.penalty.anchor

    @property
    def tasks(self) -> tuple[ProtectedTask, ...]:
        """The remembered tasks, oldest first."""
        return self._memory.tasks

    @property
    def task_count(self) -> int:
        """Number of remembered tasks, at most `max_tasks`."""
        return len(self._memory.tasks)

    @property
    def tasks_closed(self) -> int:
        """Number of tasks ever closed, evicted and merged ones included."""
        return self._memory.closed

    @property
    def boundary(self) -> BoundaryDetector:
        """The detector behind `detect_task_boundary`."""
        return self._detector

    def update_fisher(self, gradients: npt.ArrayLike) -> FisherUpdate:
        """Blend per-example gradients into the Fisher of the task in progress.

        Args:
            gradients: Gradients of the log-likelihood (or loss), one example (p,) or a batch (n, p) of PER-EXAMPLE
                gradients; the square of a batch mean is not a Fisher. A call is one step of the decay.

        Raises:
            DimensionMismatch: p differs from `param_count`.
            InvalidValue: NaN or infinity.
        """
        batch = rows(gradients, self.param_count, "gradients")
        if batch.shape[0] == 0:
            return FisherUpdate(updated=False, examples=0, skipped_reason="the batch holds no examples")
        self._fisher.update(batch)
        return FisherUpdate(updated=True, examples=int(batch.shape[0]), skipped_reason=None)

    def start_new_task(self, weights: npt.ArrayLike, now: float = 0.0) -> TaskChange:
        """Protect the task in progress at `weights`, and begin another with no evidence.

        The anchor moves to `weights` and the Fishers add up: right for tasks trained under `apply_constraints`.

        Args:
            weights: Where the task in progress ended, shape (p,).
            now: Seconds, the caller's clock.

        Raises:
            DimensionMismatch: p differs from `param_count`.
            InvalidValue: NaN or infinity.

        Source:
            Huszar 2018, Note on the quadratic penalties in elastic weight consolidation.
        """
        anchor = vector(weights, self.param_count, "weights").copy()
        closed_at = finite(now, "now")
        if self._fisher.steps == 0:
            return TaskChange(False, 0, self.task_count, False, "no gradients since the last task: nothing to protect")
        examples = self._fisher.examples
        evicted = self._memory.add(ProtectedTask(self.fisher, anchor, closed_at, examples))
        self._fisher.reset()
        return TaskChange(True, examples, self.task_count, evicted, None)

    def consolidate_all_tasks(self) -> Consolidation:
        """Merge all finished tasks into one at the mean of their product of Gaussians, sum F_k w_k / sum F_k.

        Right for tasks trained apart from each other. After training under the constraint the latest anchor is
        already the joint optimum, and this would pull it back towards earlier tasks.
        """
        penalty, count = self._memory.penalty, self._memory.summed
        if penalty is None or count < 2:
            reason = "no task is finished yet" if penalty is None else "there is only one task"
            return Consolidation(False, count, 0, reason)
        self._memory.merge(penalty)
        return Consolidation(True, count, int(np.count_nonzero(penalty.precision == 0.0)), None)

    def apply_constraints(
        self,
        gradients: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        *,
        learning_rate: float | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Return the descent gradient whose plain step w - eta g' is the implicit step on loss plus penalty.

        g' = (g + lambda F (w - w*)) / (1 + eta lambda F): the fixed point of the penalised loss, stable for every
        strength. Before the first task ends it is `gradients`, unchanged.
        Itself a constraint for `MicroLoRA.apply_accumulated`, whose learning rate must then be the one used here
        (`functools.partial(ewc.apply_constraints, learning_rate=eta)`).

        Args:
            gradients: Descent gradients g of the new loss, shape (p,).
            weights: Where the parameters stand, shape (p,); None says at the anchor.
            learning_rate: eta of the step that follows; the config's when None.
            out: Where to write, float32 (p,); may be `gradients`. A new array when None.

        Raises:
            DimensionMismatch: a vector of another width than `param_count`.
            InvalidValue: NaN, infinity, a learning rate not above 0, or an `out` that cannot be written.

        Source:
            Kirkpatrick et al. 2017, eq. 3, with the proximal (backward Euler) step for the penalty.
        """
        rate = self._config.learning_rate if learning_rate is None else _positive(learning_rate)
        penalty = self._memory.penalty
        if penalty is not None and out is None:  # a result that is finite shows that what went in was
            found = penalty.constrained(self._factors_for(penalty, rate), gradients, weights)
            if found is not None:
                return found
        gradient = vector(gradients, self.param_count, "gradients")
        point = None if weights is None else vector(weights, self.param_count, "weights")
        target = np.empty(self.param_count, np.float32) if out is None else self._writable(out)
        if penalty is None:
            np.copyto(target, gradient)
        else:
            penalty.constrain(self._factors_for(penalty, rate), gradient, point, target)
        return target

    def regularization_loss(self, weights: npt.ArrayLike) -> float:
        """Return lambda/2 sum F (w - w*)^2 at `weights` (p,); 0 before the first task ends."""
        point = vector(weights, self.param_count, "weights")
        penalty = self._memory.penalty
        return 0.0 if penalty is None else penalty.loss(point, self._strength)

    def regularization_gradient(self, weights: npt.ArrayLike) -> Floats:
        """Return lambda F (w - w*) at `weights`, shape (p,); zero before the first task ends.

        A plain step along it diverges once eta lambda max F exceeds 2; `apply_constraints` does not.
        """
        point = vector(weights, self.param_count, "weights")
        penalty = self._memory.penalty
        return np.zeros_like(point) if penalty is None else penalty.gradient(point, self._strength)

    def adapt_strength(self, old_loss_change: float, *, tolerance: float = 0.0) -> float:
        """Raise lambda by a quarter when remembered data got worse, lower it as much when they got better.

        Args:
            old_loss_change: Loss on remembered data now minus before.
            tolerance: Changes no larger than this are noise and leave lambda as it is.

        Returns:
            The new lambda, within [min_strength, max_strength].

        Raises:
            InvalidValue: NaN or infinity, or a negative tolerance.
        """
        change, slack = finite(old_loss_change, "old_loss_change"), finite(tolerance, "tolerance")
        if slack < 0.0:
            raise InvalidValue(f"tolerance: expected at least 0, got {tolerance!r}")
        if abs(change) > slack:
            strength = self._strength * _STRENGTH_STEP if change > 0.0 else self._strength / _STRENGTH_STEP
            self._strength = min(max(strength, self._config.min_strength), self._config.max_strength)
        return self._strength

    def rebase(self, offset: npt.ArrayLike) -> Rebase:
        """Move every anchor by -offset, so that w - offset is protected exactly as w was.

        Used when trained weights are folded elsewhere and the parameters go on from w - offset.

        Args:
            offset: What was taken out of the parameters, shape (p,).

        Raises:
            DimensionMismatch: p differs from `param_count`.
            InvalidValue: NaN or infinity.
        """
        shift = vector(offset, self.param_count, "offset")
        if self._memory.penalty is None:
            return Rebase(0, "no task is finished yet")
        self._memory.shift(shift)
        return Rebase(self.task_count, None)

    def detect_task_boundary(
        self, embeddings: npt.ArrayLike, losses: npt.ArrayLike | None = None, *, rng: np.random.Generator
    ) -> BoundaryResult:
        """Return whether the stream of requests has changed; see `BoundaryDetector.observe`."""
        return self._detector.observe(embeddings, losses, rng=rng)

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        return State(
            {
                "config": State({**asdict(self._config), "boundary": State(asdict(self._config.boundary))}),
                "strength": self._strength,
                "running": self._fisher.state(),
                "memory": self._memory.state(),
                "detector": self._detector.state(),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> EwcPlusPlus:
        """Return the learner that `state` describes, equal bit for bit.

        Raises:
            StoreError: something is missing, of another kind, or outside its range.
        """
        config = _config_from(state.child("config"))
        ewc = cls(config)
        ewc._strength = state.number("strength")
        ewc._fisher = RunningFisher.from_state(state.child("running"), config.param_count, config.fisher_decay)
        ewc._memory = TaskMemory.from_state(state.child("memory"), config.param_count, config.max_tasks)
        ewc._detector = BoundaryDetector.from_state(state.child("detector"))
        return ewc

    def _factors_for(self, penalty: QuadraticPenalty, learning_rate: float) -> StepFactors:
        # Made once per penalty, strength and step size, not per call.
        factors = self._factors
        if factors is None or not factors.fits(penalty, self._strength, learning_rate):
            factors = self._factors = penalty.factors(self._strength, learning_rate)
        return factors

    def _writable(self, out: Floats) -> Floats:
        if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.ndim != 1 or not out.flags.writeable:
            raise InvalidValue("out: expected a writable float32 array of shape (p,)")
        if out.shape[0] != self.param_count:
            raise DimensionMismatch(self.param_count, out.shape[0], "out")
        return out


def _positive(learning_rate: float) -> float:
    rate = finite(learning_rate, "learning_rate")
    if rate <= 0.0:
        raise InvalidValue(f"learning_rate: expected a number above 0, got {learning_rate!r}")
    return rate


def _config_from(state: State) -> EwcConfig:
    try:
        return EwcConfig(
            param_count=state.whole("param_count"),
            strength=state.number("strength"),
            min_strength=state.number("min_strength"),
            max_strength=state.number("max_strength"),
            fisher_decay=state.number("fisher_decay"),
            max_tasks=state.whole("max_tasks"),
            learning_rate=state.number("learning_rate"),
            boundary=boundary_config_from(state.child("boundary")),
        )
    except ConfigError as error:
        raise StoreError(f"saved state: {error}") from error
