"""Settings of an engine: one record of everything."""

from __future__ import annotations

from dataclasses import dataclass, field

from sona.checks import setting_number, setting_whole
from sona.config.dreams import DreamConfig, PhiConfig
from sona.config.guard import GuardConfig
from sona.config.loops import BackgroundConfig, DeepConfig, InstantConfig, ScheduleConfig
from sona.config.memory import ConsolidationConfig, GraphConfig, PatternConfig, VoteConfig
from sona.config.retention import EwcConfig
from sona.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DeepSettings:
    """Everything that decides what a cycle of Loop C does.

    Args:
        deep: Settings of the cycle.
        dreams: Settings of the DreamEngine.
        phi: Settings of the PhiEvaluator.
        consolidation: Settings of consolidation.
    """

    deep: DeepConfig = field(default_factory=DeepConfig)
    dreams: DreamConfig = field(default_factory=DreamConfig)
    phi: PhiConfig = field(default_factory=PhiConfig)
    consolidation: ConsolidationConfig = field(default_factory=ConsolidationConfig)


@dataclass(frozen=True, slots=True)
class SonaConfig:
    """Every setting of an engine; the defaults are one set for all data.

    Args:
        hidden_dim: Width d of embeddings; that of the first vector when None.
        seed: Seed of everything random.
        micro_lora_rank: Rank of the instant adapter, 1 or 2 (spec 2).
        micro_lora_lr: Its step size (spec 0.002).
        micro_lora_trust_region: Its correction is never longer than this share of |x|.
        base_lora_rank: Rank of the lasting adapter (spec 8, or d where that is less), at most d;
            `bench/quality_retrieval.py` shows what each buys.
        base_lora_layers: Its layers (spec 12); Loop B refits layer 0.
        trajectory_capacity: Finished trajectories that may wait for Loop B (spec 10,000).
        trajectory_ttl_s: Seconds after which an unfinished trajectory is given up and counted.
        feedback_window_s: Seconds during which feedback for a request is taken.
        served_capacity: Requests that may await feedback; the oldest go first and are counted.
        flush_threshold: See InstantConfig.
        max_pending_signals: See InstantConfig.
        quality_threshold: Outcomes below it are bad and never reinforce (spec 0.3).
        background_interval_s: Seconds between cycles of Loop B (spec 1 hour).
        min_trajectories: Trajectories a cycle of Loop B needs unless forced (spec 100).
        base_strength: Share of the ridge solution that is applied, in [0, 1]; 0 switches the base adapter off.
        context_size: Memories given to the responder.
        use_votes: Whether the vote memory takes part in `rank` and `process`.
        use_micro: Whether the micro adapter learns.
        use_graph: Whether the memory graph learns, and takes part in `rank` and `process` as far as it has earned it.
        patterns: Settings of the ReasoningBank.
        votes: Settings of the vote memory.
        guard: Settings of the guard.
        ewc: Settings of EWC++; made for the micro adapter when None.
        graph: Settings of the memory graph.
        dreams: Settings of the DreamEngine.
        phi: Settings of the PhiEvaluator.
        consolidation: Settings of consolidation.
        deep: Settings of Loop C.
        schedule: When each loop runs.
    """

    hidden_dim: int | None = None
    seed: int = 0
    micro_lora_rank: int = 2
    micro_lora_lr: float = 0.002
    micro_lora_trust_region: float = 0.3
    base_lora_rank: int = 8
    base_lora_layers: int = 12
    trajectory_capacity: int = 10_000
    trajectory_ttl_s: float = 3600.0
    feedback_window_s: float = 604_800.0
    served_capacity: int = 10_000
    flush_threshold: int = 1
    max_pending_signals: int = 1000
    quality_threshold: float = 0.3
    background_interval_s: float = 3600.0
    min_trajectories: int = 100
    base_strength: float = 0.5
    context_size: int = 5
    use_votes: bool = True
    use_micro: bool = True
    use_graph: bool = True
    patterns: PatternConfig = field(default_factory=PatternConfig)
    votes: VoteConfig = field(default_factory=VoteConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    ewc: EwcConfig | None = None
    graph: GraphConfig = field(default_factory=GraphConfig)
    dreams: DreamConfig = field(default_factory=DreamConfig)
    phi: PhiConfig = field(default_factory=PhiConfig)
    consolidation: ConsolidationConfig = field(default_factory=ConsolidationConfig)
    deep: DeepConfig = field(default_factory=DeepConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.hidden_dim is not None:
            setting_whole(self.hidden_dim, "hidden_dim", 1)
        setting_whole(self.seed, "seed", 0, 2**32 - 1)
        setting_whole(self.micro_lora_rank, "micro_lora_rank", 1, 2)
        setting_number(self.micro_lora_trust_region, "micro_lora_trust_region", 0.0, open_low=True)
        setting_whole(self.base_lora_rank, "base_lora_rank", 1)
        setting_whole(self.base_lora_layers, "base_lora_layers", 1)
        setting_number(self.trajectory_ttl_s, "trajectory_ttl_s", 0.0, open_low=True)
        setting_number(self.feedback_window_s, "feedback_window_s", 0.0, open_low=True)
        setting_whole(self.served_capacity, "served_capacity", 1)
        setting_whole(self.context_size, "context_size", 1)
        for name in ("use_votes", "use_micro", "use_graph"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        self.instant()
        self.background()

    @property
    def learns_instantly(self) -> bool:
        """True unless Loop A is switched off."""
        return self.schedule.instant != "off"

    def instant(self) -> InstantConfig:
        """Return the settings of Loop A."""
        return InstantConfig(
            learning_rate=self.micro_lora_lr,
            flush_threshold=self.flush_threshold,
            max_pending_signals=self.max_pending_signals,
            quality_threshold=self.quality_threshold,
            trajectory_capacity=self.trajectory_capacity,
            learns=self.use_micro and self.learns_instantly,
        )

    def background(self) -> BackgroundConfig:
        """Return the settings of Loop B."""
        return BackgroundConfig(
            interval_s=self.background_interval_s,
            min_trajectories=self.min_trajectories,
            strength=self.base_strength,
            quality_threshold=self.quality_threshold,
            seed=self.seed,
        )

    def deep_settings(self) -> DeepSettings:
        """Return the settings of Loop C."""
        return DeepSettings(self.deep, self.dreams, self.phi, self.consolidation)
