"""Settings of what must not be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from sona.checks import setting_number, setting_whole


@dataclass(frozen=True, slots=True)
class BoundaryConfig:
    """Settings of the task-boundary detector; decided by `bench/quality_forgetting.py`.

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
