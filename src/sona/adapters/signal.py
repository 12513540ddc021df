"""What one request teaches: a direction for its embedding, and how good it was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, contiguous, finite, fraction, setting_number, vector
from sona.errors import DimensionMismatch, InvalidValue
from sona.state import State
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True)
class SignalMetadata:
    """Where a signal comes from.

    Args:
        trajectory_id: Id of the trajectory; None when the gradient was given by hand.
        step_count: Steps it had.
        baseline: The baseline its rewards were measured against.
        alternatives: True when the steps were alternatives of one decision.
        model_route: The model or route that answered, if any.
    """

    trajectory_id: int | None = None
    step_count: int = 0
    baseline: float = 0.0
    alternatives: bool = False
    model_route: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LearningSignal:
    """A direction that would have made one request go better; never a push when nobody said how it went.

    Args:
        query_embedding: The request x, shape (d,).
        gradient_estimate: Ascent direction for the adapted request x', shape (d,); zero is no push.
        quality_score: Quality in [0, 1]; None when nobody said.
        metadata: Where it comes from.

    Raises:
        DimensionMismatch: the gradient has another width than the query.
        InvalidValue: NaN or infinity, or a quality outside [0, 1].
    """

    query_embedding: Floats
    gradient_estimate: Floats
    quality_score: float | None
    metadata: SignalMetadata = SignalMetadata()
    is_push: bool = field(init=False)
    """False when the gradient is zero: recorded, but nothing to learn from."""

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        query = vector(self.query_embedding, what="query_embedding")
        object.__setattr__(self, "query_embedding", query)
        gradient = vector(self.gradient_estimate, query.shape[0], "gradient_estimate")
        object.__setattr__(self, "gradient_estimate", gradient)
        if self.quality_score is not None:
            object.__setattr__(self, "quality_score", fraction(self.quality_score, "quality_score"))
        object.__setattr__(self, "is_push", bool(gradient.any()))

    @classmethod
    def with_gradient(
        cls, embedding: npt.ArrayLike, gradient: npt.ArrayLike, quality: float | None = None
    ) -> LearningSignal:
        """Return a signal whose ascent direction the caller knows.

        >>> LearningSignal.with_gradient([1.0, 0.0], [0.0, 0.0], 0.5).is_push
        False
        """
        return cls(vector(embedding, what="embedding"), vector(gradient, what="gradient"), quality)

    @classmethod
    def from_trajectory(
        cls,
        trajectory: QueryTrajectory,
        *,
        baseline: float = 0.5,
        quality_threshold: float = 0.3,
        temperature: float = 0.05,
        adapted: npt.ArrayLike | None = None,
    ) -> LearningSignal:
        """Return what `trajectory` teaches; a bad outcome never reinforces, and no outcome is no push.

        A sequence follows REINFORCE: g = mean over rewarded steps of (reward - baseline) a / |a|. Without any
        step reward the final quality stands for each step's. Alternatives of one decision follow the softmax
        of their cosines to x': g = max(r) sum_k (t_k - p_k) a_k / |a_k| orthogonal to x', t the rewards made to
        sum to 1; a step without a reward earned 0. Without any step reward, the first step is the answer and
        follows REINFORCE. A reward below `quality_threshold` gives an advantage of at most 0, or no share of t.

        Args:
            trajectory: The request, steps of width d.
            baseline: What a request usually earns, in [0, 1] (`RunningBaseline`).
            quality_threshold: Rewards below it are bad, in [0, 1].
            temperature: tau of the softmax over cosines.
            adapted: x', the request as it was used, shape (d,); the request itself when None.

        Raises:
            DimensionMismatch: `adapted` has another width than the request.
            InvalidValue: a baseline or threshold outside [0, 1], a temperature not above 0.

        Source:
            Williams 1992, REINFORCE, eq. 2 with a reinforcement baseline; the softmax form is the gradient of
            the reward-weighted cross-entropy.
        """
        floor = fraction(quality_threshold, "quality_threshold")
        usual = fraction(baseline, "baseline")
        if finite(temperature, "temperature") <= 0.0:
            raise InvalidValue(f"temperature: expected a number above 0, got {temperature!r}")
        query = trajectory.query_embedding
        used = query if adapted is None else vector(adapted, query.shape[0], "adapted")
        return taught(trajectory, used, usual, floor, temperature)


def taught(
    trajectory: QueryTrajectory, used: Floats, baseline: float, floor: float, temperature: float
) -> LearningSignal:
    """Return what `LearningSignal.from_trajectory` returns, of settings that were checked already.

    Args:
        trajectory: The request, steps of width d.
        used: x', the request as it was used, shape (d,).
        baseline: What a request usually earns, in [0, 1].
        floor: Rewards below it are bad, in [0, 1].
        temperature: tau of the softmax over cosines, above 0.
    """
    query, steps = trajectory.query_embedding, trajectory.steps
    if trajectory.alternatives and any(step.reward is not None for step in steps):
        gradient = _softmax_gradient(trajectory, used, floor, temperature)
    else:
        gradient = _reinforce_gradient(trajectory, baseline, floor)
    metadata = _make_metadata(trajectory.id, len(steps), baseline, trajectory.alternatives, trajectory.model_route)
    quality = trajectory.quality
    if gradient is None:
        return _make_signal(query, np.zeros(query.shape, np.float32), quality, metadata, False)
    is_push = gradient.item(0) != 0.0 or bool(gradient.any())
    return _make_signal(query, gradient, quality, metadata, is_push)


_make_metadata, _make_signal = kernel.maker(SignalMetadata), kernel.maker(LearningSignal)


def _reinforce_gradient(trajectory: QueryTrajectory, baseline: float, floor: float) -> Floats | None:
    # None when nothing pushes.
    tried, rewards = [], []
    for step in trajectory.steps:
        if step.reward is not None:
            tried.append(step.activations)
            rewards.append(step.reward)
    if not tried:
        tried, rewards = _heard(trajectory)
    count, width = len(rewards), trajectory.query_embedding.shape[0]
    advantages = [0.0 if baseline < reward < floor else (reward - baseline) / count for reward in rewards]
    if not any(advantages):
        return None
    weights = tuple(advantages)
    gradient = kernel.headed(tuple(tried), weights, width)
    return kernel.headed(tuple(map(contiguous, tried)), weights, width) if gradient is None else gradient


def _heard(trajectory: QueryTrajectory) -> tuple[list[Floats], list[float]]:
    # The final quality speaks for silent steps; of alternatives, the first is the answer.
    if trajectory.final_quality is None:
        return [], []
    heard = trajectory.steps[:1] if trajectory.alternatives else trajectory.steps
    return [step.activations for step in heard], [trajectory.final_quality] * len(heard)


def _softmax_gradient(trajectory: QueryTrajectory, used: Floats, floor: float, temperature: float) -> Floats | None:
    earned = tuple([0.0 if (r := step.reward) is None or r < floor else r for step in trajectory.steps])
    if not any(earned):
        return None
    tried = tuple([step.activations for step in trajectory.steps])
    gradient = kernel.preferred(tried, earned, used, temperature)
    if gradient is None:
        gradient = kernel.preferred(tuple(map(contiguous, tried)), earned, contiguous(used), temperature)
    return gradient


def difference(new: LearningSignal, old: LearningSignal) -> LearningSignal:
    """Return what is left to learn when feedback is amended: the new gradient less the one learned already.

    Raises:
        DimensionMismatch: the signals differ in width.
    """
    if new.gradient_estimate.shape != old.gradient_estimate.shape:
        raise DimensionMismatch(new.gradient_estimate.shape[0], old.gradient_estimate.shape[0], "gradient_estimate")
    return replace(new, gradient_estimate=new.gradient_estimate - old.gradient_estimate)


class RunningBaseline:
    """What a request usually earns: a running mean across requests that starts at a prior.

    The first request already has a baseline, so a request of one step learns from the beginning.

    >>> baseline = RunningBaseline(prior=0.5, prior_weight=4.0, decay=1.0)
    >>> baseline.value, baseline.update(1.0)
    (0.5, 0.6)
    """

    __slots__ = ("_decay", "_prior", "_prior_weight", "_total", "_weight")

    def __init__(self, prior: float = 0.5, prior_weight: float = 4.0, decay: float = 0.99) -> None:
        """Begin at the prior.

        Args:
            prior: Quality expected before any request, in [0, 1].
            prior_weight: Requests the prior counts as, above 0.
            decay: Share of the past that each request keeps, in (0, 1]; .99 remembers about 100 requests.

        Raises:
            ConfigError: a setting outside its range.
        """
        setting_number(prior, "prior", 0.0, 1.0)
        setting_number(prior_weight, "prior_weight", 0.0, open_low=True)
        setting_number(decay, "decay", 0.0, 1.0, open_low=True)
        self._prior, self._prior_weight, self._decay = float(prior), float(prior_weight), float(decay)
        self._total, self._weight = self._prior * self._prior_weight, self._prior_weight

    @property
    def value(self) -> float:
        """The baseline now, in [0, 1]."""
        value = self._total / self._weight
        return value if 0.0 <= value <= 1.0 else min(max(value, 0.0), 1.0)

    def update(self, quality: float) -> float:
        """Take in the quality of one more request, in [0, 1], and return the baseline.

        Raises:
            InvalidValue: a quality outside [0, 1].
        """
        decay = self._decay
        self._total = decay * self._total + fraction(quality, "quality")
        self._weight = decay * self._weight + 1.0
        return self.value

    def state(self) -> State:
        """Return all that `from_state` needs to go on."""
        names = ("prior", "prior_weight", "decay", "total", "weight")
        return State({name: getattr(self, f"_{name}") for name in names})

    @classmethod
    def from_state(cls, state: State) -> RunningBaseline:
        """Return the baseline that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or of another kind.
        """
        baseline = cls(state.number("prior"), state.number("prior_weight"), state.number("decay"))
        baseline._total, baseline._weight = state.number("total"), state.number("weight")
        return baseline
