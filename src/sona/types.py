"""The nouns that travel between rooms: immutable records and nothing else."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from sona import kernel
from sona.checks import Floats, finite, fraction, vector, whole
from sona.errors import DimensionMismatch, InvalidValue

NO_WEIGHTS: Floats = np.zeros(0, np.float32)
"""The attention weights of a step that had none."""
NO_PARAMETERS: Mapping[str, float | str] = MappingProxyType({})
"""The parameters of a trajectory that was served with none."""
LARGEST_ID = 2**63 - 1
"""Greatest id of a trajectory; ids are saved as int64."""


def require_text_or_none(value: str | None, what: str) -> None:
    """Raise InvalidValue unless `value` is text or None."""
    if value is not None and not isinstance(value, str):
        raise InvalidValue(f"{what}: expected text or None, got {value!r}")


def texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Return `values` as a tuple of texts, or raise InvalidValue."""
    listed = tuple(values)
    if not all(isinstance(value, str) for value in listed):
        raise InvalidValue(f"{what}: expected texts, got {listed!r}")
    return listed


def require_settings(values: Mapping[str, float | str], what: str) -> None:
    """Raise InvalidValue unless `values` maps names to numbers or texts, which can be saved."""
    is_mapping = isinstance(values, Mapping)
    if not is_mapping or not all(
        isinstance(n, str) and isinstance(v, (bool, int, float, str)) for n, v in values.items()
    ):
        raise InvalidValue(f"{what}: expected numbers or texts by name, got {values!r}")


@dataclass(frozen=True, slots=True, eq=False)
class TrajectoryStep:
    """One alternative or action of a request, and what it earned.

    Args:
        activations: Vector of what was tried, shape (d,).
        attention_weights: The policy's weights, shape (m,); empty when it had none.
        reward: What it earned, in [0, 1]; None when nobody said.
        timestamp: Seconds since the trajectory began.
        ref: Id of what was tried, such as a memory's id.

    Raises:
        InvalidValue: a vector with NaN or infinity, a reward outside [0, 1], or a ref that is not text.
    """

    activations: Floats
    attention_weights: Floats = field(default_factory=lambda: NO_WEIGHTS)
    reward: float | None = None
    timestamp: float = 0.0
    ref: str | None = None

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        object.__setattr__(self, "activations", vector(self.activations, what="activations"))
        if self.attention_weights is not NO_WEIGHTS:
            weights = np.asarray(self.attention_weights)
            checked = NO_WEIGHTS if weights.size == 0 else vector(weights, what="attention_weights")
            object.__setattr__(self, "attention_weights", checked)
        if self.reward is not None:
            object.__setattr__(self, "reward", fraction(self.reward, "reward"))
        object.__setattr__(self, "timestamp", finite(self.timestamp, "timestamp"))
        require_text_or_none(self.ref, "ref")

    @classmethod
    def _checked(
        cls, activations: Floats, weights: Floats | None, reward: float | None, timestamp: float, ref: str | None
    ) -> TrajectoryStep:
        # For rooms that checked every field themselves: a request and a load of 100,000 steps pay for one check only.
        return make_step(activations, NO_WEIGHTS if weights is None else weights, reward, timestamp, ref)

    def with_reward(self, reward: float | None) -> TrajectoryStep:
        """Return the step as having earned `reward`, in [0, 1] or None, or raise InvalidValue."""
        earned = None if reward is None else fraction(reward, "reward")
        return TrajectoryStep._checked(self.activations, self.attention_weights, earned, self.timestamp, self.ref)


make_step = kernel.maker(TrajectoryStep)
"""A step of all its fields in their order, each checked by its caller."""


@dataclass(frozen=True, slots=True, eq=False)
class QueryTrajectory:
    """One request with its steps: what was asked, what was tried, how well it went.

    Args:
        id: Id, unique within the engine that issued it.
        query_embedding: The request, shape (d,).
        steps: Its steps, activations of the same width.
        final_quality: Quality of the whole in [0, 1]; None when nobody said.
        latency_us: Time the request took, microseconds.
        alternatives: True when the steps are alternatives of one decision (a ranking), False for a sequence.
        model_route: The model or route that answered, if any.
        context_ids: Ids of the memories given as context.
        subject: Who asked (user id), if known.
        parameters: Settings the request was served with, by name.
        supersedes: The earlier version of this trajectory when feedback was amended.

    Raises:
        DimensionMismatch: a step of another width than the query.
        InvalidValue: NaN or infinity, a quality outside [0, 1], a name that is not text, or a parameter that is
            neither number nor text.
    """

    id: int
    query_embedding: Floats
    steps: tuple[TrajectoryStep, ...] = ()
    final_quality: float | None = None
    latency_us: float = 0.0
    alternatives: bool = False
    model_route: str | None = None
    context_ids: tuple[str, ...] = ()
    subject: str | None = None
    parameters: Mapping[str, float | str] = field(default_factory=lambda: NO_PARAMETERS)
    supersedes: QueryTrajectory | None = None

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        object.__setattr__(self, "id", whole(self.id, "trajectory id", 0, LARGEST_ID))
        query = vector(self.query_embedding, what="query_embedding")
        object.__setattr__(self, "query_embedding", query)
        object.__setattr__(self, "steps", tuple(self.steps))
        for step in self.steps:
            if step.activations.shape[0] != query.shape[0]:
                raise DimensionMismatch(query.shape[0], step.activations.shape[0], "activations")
        if self.final_quality is not None:
            object.__setattr__(self, "final_quality", fraction(self.final_quality, "final_quality"))
        if self.parameters:
            require_settings(self.parameters, f"parameters of trajectory {self.id}")
        object.__setattr__(self, "latency_us", finite(self.latency_us, "latency_us"))
        require_text_or_none(self.model_route, "model_route")
        require_text_or_none(self.subject, "subject")
        object.__setattr__(self, "context_ids", texts(self.context_ids, "context_ids"))

    @property
    def hidden_dim(self) -> int:
        """Width d of the query embedding."""
        return int(self.query_embedding.shape[0])

    @property
    def names_items(self) -> bool:
        """True when a step says what was tried."""
        for step in self.steps:  # noqa: SIM110 - `any` takes three times as long
            if step.ref is not None:
                return True
        return False

    @property
    def quality(self) -> float | None:
        """The final quality, else the best reward a step earned, else None."""
        if self.final_quality is not None:
            return self.final_quality
        return max((step.reward for step in self.steps if step.reward is not None), default=None)


make_trajectory = kernel.maker(QueryTrajectory)
"""A trajectory of all its fields in their order, each checked by its caller."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPattern:
    """A cluster of similar requests with what worked for it.

    Args:
        id: Id, unique within its bank, never reused.
        centroid: Mean query embedding, shape (d,).
        cluster_size: Number of requests behind it.
        total_weight: Summed weight of those requests (decays; `cluster_size` does not).
        avg_quality: Their mean quality in [0, 1].
        created_at: Seconds, the caller's clock.
        last_accessed: Seconds, the caller's clock.
        access_count: How often it was returned by a search.
    """

    id: int
    centroid: Floats
    cluster_size: int
    total_weight: float
    avg_quality: float
    created_at: float = 0.0
    last_accessed: float = 0.0
    access_count: int = 0

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        object.__setattr__(self, "centroid", vector(self.centroid, what="centroid"))
        whole(self.cluster_size, "cluster_size", 1)
        whole(self.access_count, "access_count", 0)
        object.__setattr__(self, "avg_quality", fraction(self.avg_quality, "avg_quality"))
        if finite(self.total_weight, "total_weight") < 0.0:
            raise InvalidValue(f"total_weight: expected at least 0, got {self.total_weight!r}")

    def merge(self, other: LearnedPattern) -> LearnedPattern:
        """Return both patterns as one: means weighted by size, sizes and counts summed.

        The result keeps this pattern's id, the earliest creation and the latest access.

        Raises:
            DimensionMismatch: the centroids differ in width.

        >>> import numpy as np
        >>> a = LearnedPattern(0, np.array([0.0, 0.0]), 1, 1.0, 0.2)
        >>> b = LearnedPattern(1, np.array([4.0, 0.0]), 3, 3.0, 0.6)
        >>> merged = a.merge(b)
        >>> merged.cluster_size, merged.centroid.tolist(), round(merged.avg_quality, 3)
        (4, [3.0, 0.0], 0.5)
        """
        if other.centroid.shape != self.centroid.shape:
            raise DimensionMismatch(self.centroid.shape[0], other.centroid.shape[0], "centroid")
        size = self.cluster_size + other.cluster_size
        share = np.float32(other.cluster_size / size)
        quality = self.avg_quality + (other.avg_quality - self.avg_quality) * other.cluster_size / size
        return replace(
            self,
            centroid=self.centroid + (other.centroid - self.centroid) * share,
            cluster_size=size,
            total_weight=self.total_weight + other.total_weight,
            avg_quality=min(max(quality, 0.0), 1.0),
            created_at=min(self.created_at, other.created_at),
            last_accessed=max(self.last_accessed, other.last_accessed),
            access_count=self.access_count + other.access_count,
        )

    def touch(self, now: float) -> LearnedPattern:
        """Return the pattern with one more access at `now` (seconds)."""
        return replace(self, last_accessed=max(self.last_accessed, now), access_count=self.access_count + 1)

    def decay(self, factor: float) -> LearnedPattern:
        """Return the pattern with its total weight multiplied by `factor` in [0, 1]."""
        return replace(self, total_weight=self.total_weight * fraction(factor, "factor"))

    def should_prune(self, min_quality: float, min_accesses: int) -> bool:
        """Return True when the pattern is both poor and unused."""
        return self.avg_quality < min_quality and self.access_count < min_accesses


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, and with what; every field is optional.

    Args:
        user_id: The subject: whose request this is.
        session_id: Groups the requests of one conversation; for the responder, not kept.
        metadata: Free labels; for the responder, not kept.

    Raises:
        InvalidValue: an id that is not text.
    """

    user_id: str | None = None
    session_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse ids that are not text."""
        require_text_or_none(self.user_id, "user_id")
        require_text_or_none(self.session_id, "session_id")


@dataclass(frozen=True, slots=True)
class Source:
    """A memory that was shown: its id, text and score."""

    id: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one request.

    Args:
        text: The answer.
        confidence: In [0, 1].
        patterns_used: Ids of the nearest patterns that are confident enough, nearest first.
        latency_us: Microseconds from call to answer.
        trajectory_id: Name it in `feedback`.
        sources: The memories behind the answer, best first.
    """

    text: str
    confidence: float
    patterns_used: tuple[int, ...]
    latency_us: float
    trajectory_id: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Items ranked for one request, best first; name `trajectory_id` in `feedback`."""

    trajectory_id: int
    ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """Both answers to a request that was not served: ids of items, best first.

    Args:
        frozen: By plain cosine.
        learned: With everything learned.
    """

    frozen: tuple[str, ...]
    learned: tuple[str, ...]


class FeedbackOutcome(enum.StrEnum):
    """What became of a piece of feedback."""

    LEARNED = "learned"
    AMENDED = "amended"
    REPEATED = "repeated"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of a piece of feedback.

    Args:
        trajectory_id: For which request.
        outcome: `recorded` is kept and not learned from.
        credited: Items whose reward became a vote.
        reason: Why it was not learned from; None when it was.
    """

    trajectory_id: int
    outcome: FeedbackOutcome
    credited: Sequence[str] = ()
    reason: str | None = None
