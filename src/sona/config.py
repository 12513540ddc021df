"""Every setting: what it means, its unit, default, range and where the default comes from.

"spec" marks a default of the SONA specification; a bench is named where it decided otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PatternConfig:
    """Settings of the ReasoningBank.

    Args:
        k_clusters: Most clusters per extraction (spec 100); fewer when the data are few.
        min_cluster_size: Trajectories a cluster needs to become a pattern (spec 5).
        min_cohesion: Median cosine to the others of its cluster that a trajectory needs to be counted with them:
            strangers grouped for want of company have about 0, clusters of BANKING77 .41 to .86. 0 turns it off.
        max_iterations: Lloyd iterations (spec 100).
        convergence_threshold: Stop when no centroid moves farther, relative to the data's spread (spec 0.001).
        quality_threshold: Outcomes below it are bad: a pattern poorer than this may be pruned (spec 0.3).
        pattern_confidence: Least confidence at which `find_similar` returns a pattern to act on (spec 0.5).
        consolidation_similarity: Patterns with centroids at least this similar (cosine) are one (spec 0.95).
        capacity: Trajectories kept in the ring (spec 10,000).
        max_patterns: Most patterns kept; the least valuable go first.
        exact_search_limit: Above this many patterns `find_similar` uses an approximate index if `ann` is installed.
        verdict_alpha: Level of the Welch test behind a verdict.
    """

    k_clusters: int = 100
    min_cluster_size: int = 5
    min_cohesion: float = 0.25
    max_iterations: int = 100
    convergence_threshold: float = 0.001
    quality_threshold: float = 0.3
    pattern_confidence: float = 0.5
    consolidation_similarity: float = 0.95
    capacity: int = 10_000
    max_patterns: int = 10_000
    exact_search_limit: int = 10_000
    verdict_alpha: float = 0.05

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.k_clusters, "k_clusters", 1)
        setting_whole(self.min_cluster_size, "min_cluster_size", 1)
        setting_number(self.min_cohesion, "min_cohesion", 0.0, 1.0)
        setting_whole(self.max_iterations, "max_iterations", 1)
        setting_number(self.convergence_threshold, "convergence_threshold", 0.0)
        setting_number(self.quality_threshold, "quality_threshold", 0.0, 1.0)
        setting_number(self.pattern_confidence, "pattern_confidence", 0.0, 1.0)
        setting_number(self.consolidation_similarity, "consolidation_similarity", -1.0, 1.0)
        setting_whole(self.capacity, "capacity", 1)
        setting_whole(self.max_patterns, "max_patterns", 1)
        setting_whole(self.exact_search_limit, "exact_search_limit", 1)
        setting_number(self.verdict_alpha, "verdict_alpha", 0.0, 1.0, open_low=True)


@dataclass(frozen=True, slots=True)
class VoteConfig:
    """Settings of the vote memory and its calibration; decided by `bench/quality_retrieval.py`.

    Args:
        capacity: Distinct past requests remembered; the oldest go first.
        neighbours: Most similar past requests that may vote.
        same_similarity: From this cosine on, a past request is the same request and is trusted at once.
        similarity_edges: Lower edges of the similarity bins below it; each bin earns its own reach.
        saturation: Observations beyond which further ones of the same kind count less.
        gate_nats: Evidence (log-likelihood gained on requests not yet learned from, in nats) at which a part that
            reaches beyond the same request gets half its weight.
        positions: Positions with a display bias of their own; later ones share the last.
    """

    capacity: int = 10_000
    neighbours: int = 32
    same_similarity: float = 0.995
    similarity_edges: tuple[float, ...] = (0.3, 0.5, 0.65, 0.8, 0.9)
    saturation: float = 1.0
    gate_nats: float = 2.0
    positions: int = 10

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.capacity, "capacity", 1)
        setting_whole(self.neighbours, "neighbours", 1)
        setting_number(self.same_similarity, "same_similarity", 0.0, 1.0, open_low=True)
        setting_number(self.saturation, "saturation", 0.0, open_low=True)
        setting_number(self.gate_nats, "gate_nats", 0.0)
        setting_whole(self.positions, "positions", 1)
        edges = tuple(self.similarity_edges)
        if not edges or list(edges) != sorted(set(edges)) or edges[0] <= 0.0 or edges[-1] >= self.same_similarity:
            raise ConfigError(
                f"similarity_edges: expected rising numbers in (0, {self.same_similarity}), got {self.similarity_edges!r}"
            )
        object.__setattr__(self, "similarity_edges", edges)


@dataclass(frozen=True, slots=True)
class BoundaryConfig:
    """Settings of the task-boundary detector (SCIENCE: energy test on embeddings, loss channel beside it).

    Args:
        reference_size: Embeddings the past is judged by.
        window_size: Most recent embeddings compared with it.
        null_splits: Random splits of the reference that make the null distribution.
        alarm_sd: Alarm above null mean + this many standard deviations.
        patience: Alarms in a row that make a boundary.
        loss_z: z-score of the window's mean loss that counts as an alarm (spec 2.0 on gradients).
        loss_history: Losses the z-score is measured against (spec 100).
    """

    reference_size: int = 192
    window_size: int = 64
    null_splits: int = 200
    alarm_sd: float = 4.0
    patience: int = 2
    loss_z: float = 4.0
    loss_history: int = 100

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.reference_size, "reference_size", 4)
        setting_whole(self.window_size, "window_size", 2, self.reference_size)
        setting_whole(self.null_splits, "null_splits", 2)
        setting_number(self.alarm_sd, "alarm_sd", 0.0, open_low=True)
        setting_whole(self.patience, "patience", 1)
        setting_number(self.loss_z, "loss_z", 0.0, open_low=True)
        setting_whole(self.loss_history, "loss_history", 2)


@dataclass(frozen=True, slots=True)
class EwcConfig:
    """Settings of EWC++.

    Args:
        param_count: Number of protected parameters, in the layout of the gradients.
        strength: lambda, the pull towards what was learned (spec 2000).
        min_strength: Least lambda the adaptive rule may reach (spec 100).
        max_strength: Greatest lambda (spec 15000).
        fisher_decay: Share of the running Fisher kept per update (spec 0.999); bias is corrected.
        max_tasks: Tasks remembered with an anchor of their own (spec 10).
        learning_rate: Step size eta the constrained gradient is used with.
        boundary: Settings of the task-boundary detector.
    """

    param_count: int
    strength: float = 2000.0
    min_strength: float = 100.0
    max_strength: float = 15_000.0
    fisher_decay: float = 0.999
    max_tasks: int = 10
    learning_rate: float = 0.002
    boundary: BoundaryConfig = field(default_factory=BoundaryConfig)

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.param_count, "param_count", 1)
        setting_number(self.min_strength, "min_strength", 0.0)
        setting_number(self.max_strength, "max_strength", self.min_strength)
        setting_number(self.strength, "strength", self.min_strength, self.max_strength)
        setting_number(self.fisher_decay, "fisher_decay", 0.0, 0.999999)
        setting_whole(self.max_tasks, "max_tasks", 1)
        setting_number(self.learning_rate, "learning_rate", 0.0, open_low=True)
