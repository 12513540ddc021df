"""Settings of the tuner: how it learns which server settings a query is best run with."""

from __future__ import annotations

from dataclasses import dataclass, field

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError


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
        min_trajectories: Executions that have to wait before a cycle begins (spec 100).
        interval_s: Seconds between background cycles (spec 1 hour).
        shift_z: Standard errors between recent and earlier qualities from which a pattern has changed (spec 2).
        shift_history: Executions kept per pattern, newest first to stay (spec 100).
        adapts: Whether a low-rank adapter corrects the embedding a plan is looked up by.
        micro_rank: Rank of that adapter, 1 or 2 (spec 2).
        micro_learning_rate: Step size of that adapter.
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
    min_trajectories: int = 100
    interval_s: float = 3600.0
    shift_z: float = 2.0
    shift_history: int = 100
    adapts: bool = False
    micro_rank: int = 2
    micro_learning_rate: float = 0.05
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
        setting_whole(self.min_trajectories, "min_trajectories", 1)
        setting_number(self.interval_s, "interval_s", 0.0, open_low=True)
        setting_number(self.shift_z, "shift_z", 0.0, open_low=True)
        setting_whole(self.shift_history, "shift_history", 20)
        if not isinstance(self.adapts, bool):
            raise ConfigError(f"adapts: expected True or False, got {self.adapts!r}")
        setting_whole(self.micro_rank, "micro_rank", 1, 2)
        setting_number(self.micro_learning_rate, "micro_learning_rate", 0.0, open_low=True)
        setting_whole(self.seed, "seed", 0)


@dataclass(frozen=True, slots=True)
class VectorConfig:
    """Settings of what is learned about vector searches.

    Args:
        recall_target: Share of the true neighbours that a search has to find on average.
        check_share: Share of searches that are run again exactly.
        open_share: The same where a faster setting may still be good enough; time limits both.
        first_checks: Searches of a new kind that are checked before the shares apply.
        rival_checks: Checks that a setting gets at once which may take less than half of what is chosen.
        new_checks: Checks of a chosen setting until which every tenth of its searches is checked.
        confidence: Confidence that recall is at its target before a setting is kept.
        half_life: Later checks after which a check counts half.
        window: Checks kept per statement.
        keep_margin: Share of time that a setting has to save over the server's own choice.
        check_timeout_s: Seconds after which a check should be given up.
        survey_s: Seconds after which what is known of the rows that pass a filter should be asked again.
    """

    recall_target: float = 0.95
    check_share: float = 0.01
    open_share: float = 0.1
    first_checks: int = 8
    rival_checks: int = 64
    new_checks: int = 64
    confidence: float = 0.9
    half_life: float = 100.0
    window: int = 1024
    keep_margin: float = 0.05
    check_timeout_s: float = 10.0
    survey_s: float = 86_400.0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.recall_target, "recall_target", 0.0, 1.0)
        setting_number(self.check_share, "check_share", 0.0, 1.0)
        setting_number(self.open_share, "open_share", 0.0, 1.0)
        setting_whole(self.first_checks, "first_checks", 1)
        setting_whole(self.rival_checks, "rival_checks", 0)
        setting_whole(self.new_checks, "new_checks", 0)
        setting_number(self.confidence, "confidence", 0.5, 0.9999)
        setting_number(self.half_life, "half_life", 1.0)
        setting_whole(self.window, "window", 16)
        setting_number(self.keep_margin, "keep_margin", 0.0, 1.0)
        setting_number(self.check_timeout_s, "check_timeout_s", 0.0, open_low=True)
        setting_number(self.survey_s, "survey_s", 0.0)


@dataclass(frozen=True, slots=True)
class TunerConfig:
    """Settings of a tuner.

    Args:
        exploration_share: Most of the time spent so far that trying other settings may have cost.
        min_mean_s: Mean time from which a statement is worth trying other settings on, in seconds.
        tunes_plan_dependent: Whether statements are tuned to which another plan may rightly give another answer, as
            where LIMIT cuts among rows that are equal in the order asked for.
        capacity: Statements kept; the one asked longest ago goes first.
        vector: Settings of vector searches.
        dag: Settings of what is learned from plans.
        seed: Seed of everything random.
    """

    exploration_share: float = 0.05
    min_mean_s: float = 0.005
    tunes_plan_dependent: bool = False
    capacity: int = 10_000
    vector: VectorConfig = field(default_factory=VectorConfig)
    dag: DagConfig = field(default_factory=DagConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.exploration_share, "exploration_share", 0.0, 1.0)
        setting_number(self.min_mean_s, "min_mean_s", 0.0)
        if not isinstance(self.tunes_plan_dependent, bool):
            raise ConfigError(f"tunes_plan_dependent: expected True or False, got {self.tunes_plan_dependent!r}")
        setting_whole(self.capacity, "capacity", 1)
        setting_whole(self.seed, "seed", 0)
