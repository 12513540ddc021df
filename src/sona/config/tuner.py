"""Settings of the tuner: how it learns which server settings a query is best run with."""

from __future__ import annotations

from dataclasses import dataclass, field

from sona.checks import setting_number, setting_whole


@dataclass(frozen=True, slots=True)
class DagConfig:
    """Settings of what is learned from plans.

    Args:
        hidden_dim: Width of operator and plan embeddings (spec 256).
        ucb_c: Width of the confidence bound when an attention type is chosen (spec 1.4).
        epsilon: Share of choices made at random (spec 0.1).
        apply_confidence: Confidence from which a known pattern's settings are applied (spec 0.8).
        min_similarity: Cosine of plan embeddings from which a pattern speaks for a plan.
        capacity: Patterns kept; the least certain goes first.
        consolidation_similarity: Cosine from which two patterns are one (spec 0.95).
        trajectory_capacity: Executions that may wait for the background cycle (spec 10,000).
        interval_s: Seconds between background cycles (spec 1 hour).
        shift_z: Standard errors between recent and earlier qualities from which a pattern has changed (spec 2).
        shift_history: Qualities kept per pattern (spec 100).
        seed: Seed of everything random.
    """

    hidden_dim: int = 256
    ucb_c: float = 1.4
    epsilon: float = 0.1
    apply_confidence: float = 0.8
    min_similarity: float = 0.9
    capacity: int = 1000
    consolidation_similarity: float = 0.95
    trajectory_capacity: int = 10_000
    interval_s: float = 3600.0
    shift_z: float = 2.0
    shift_history: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.hidden_dim, "hidden_dim", 16)
        setting_number(self.ucb_c, "ucb_c", 0.0)
        setting_number(self.epsilon, "epsilon", 0.0, 1.0)
        setting_number(self.apply_confidence, "apply_confidence", 0.0, 1.0)
        setting_number(self.min_similarity, "min_similarity", -1.0, 1.0)
        setting_whole(self.capacity, "capacity", 1)
        setting_number(self.consolidation_similarity, "consolidation_similarity", -1.0, 1.0)
        setting_whole(self.trajectory_capacity, "trajectory_capacity", 1)
        setting_number(self.interval_s, "interval_s", 0.0)
        setting_number(self.shift_z, "shift_z", 0.0, open_low=True)
        setting_whole(self.shift_history, "shift_history", 10)
        setting_whole(self.seed, "seed", 0)


@dataclass(frozen=True, slots=True)
class VectorConfig:
    """Settings of what is learned about vector searches.

    Args:
        recall_target: Share of the true neighbours that a search has to find on average.
        check_share: Share of searches that are run again exactly.
        first_checks: Searches of a new kind that are checked before the share applies.
    """

    recall_target: float = 0.95
    check_share: float = 0.01
    first_checks: int = 8

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.recall_target, "recall_target", 0.0, 1.0)
        setting_number(self.check_share, "check_share", 0.0, 1.0)
        setting_whole(self.first_checks, "first_checks", 1)


@dataclass(frozen=True, slots=True)
class TunerConfig:
    """Settings of a tuner.

    Args:
        exploration_share: Most of the time spent so far that trying other settings may have cost.
        min_mean_s: Mean time from which a statement is worth trying other settings on, in seconds.
        capacity: Statements kept; the one asked longest ago goes first.
        vector: Settings of vector searches.
        dag: Settings of what is learned from plans.
        seed: Seed of everything random.
    """

    exploration_share: float = 0.05
    min_mean_s: float = 0.005
    capacity: int = 10_000
    vector: VectorConfig = field(default_factory=VectorConfig)
    dag: DagConfig = field(default_factory=DagConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.exploration_share, "exploration_share", 0.0, 1.0)
        setting_number(self.min_mean_s, "min_mean_s", 0.0)
        setting_whole(self.capacity, "capacity", 1)
        setting_whole(self.seed, "seed", 0)
