"""Every setting: what it means, its unit, default, range and where the default comes from.

"spec" marks a default of the SONA specification; a bench is named where it decided otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError

GUARD_MODES = ("off", "shadow", "canary", "on")
"""Modes of the guard, least to most."""


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
        pattern_confidence: Least confidence at which `process` names a pattern as used (spec 0.5).
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
        own_head_start_nats: Evidence with which the same request's own feedback starts, so that it counts at once; it
            fades like all evidence.
        memory_lists: Lists after which evidence for or against a part has faded to 1/e.
        positions: Positions with a display bias of their own; later ones share the last.
    """

    capacity: int = 10_000
    neighbours: int = 32
    same_similarity: float = 0.995
    similarity_edges: tuple[float, ...] = (0.3, 0.5, 0.65, 0.8, 0.9)
    saturation: float = 1.0
    gate_nats: float = 2.0
    own_head_start_nats: float = 6.0
    memory_lists: int = 400
    positions: int = 10

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.capacity, "capacity", 1)
        setting_whole(self.neighbours, "neighbours", 1)
        setting_number(self.same_similarity, "same_similarity", 0.0, 1.0, open_low=True)
        setting_number(self.saturation, "saturation", 0.0, open_low=True)
        setting_number(self.gate_nats, "gate_nats", 0.0)
        setting_number(self.own_head_start_nats, "own_head_start_nats", 0.0)
        setting_whole(self.memory_lists, "memory_lists", 1)
        setting_whole(self.positions, "positions", 1)
        edges = tuple(self.similarity_edges)
        if not edges or list(edges) != sorted(set(edges)) or edges[0] <= 0.0 or edges[-1] >= self.same_similarity:
            raise ConfigError(
                f"similarity_edges: expected rising numbers above 0 and below same_similarity "
                f"({self.same_similarity}), got {self.similarity_edges!r}"
            )
        object.__setattr__(self, "similarity_edges", edges)


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """Settings of the guard: what proves that learning helps, and limits what it may cost.

    Args:
        mode: `off` answers frozen and learns nothing, `shadow` answers frozen and learns, `canary` answers at most
            the share `canary` learned, `on` as much as the budget allows. May be changed at run time.
        holdout: Share of units (subjects, else requests) that is answered frozen and never learned from; 0 for none,
            and then nothing is proved and nothing limited.
        canary: Greatest share of requests answered learned in the mode `canary`.
        budget: Share of what frozen answers would have earned that learned ones may cost, at level `alpha`; 1 sets
            no limit.
        budget_requests: Requests that the budget is for at least: early on, learned answers may cost as much as they
            might over so many. Fewer limit more, and learn less, before there is evidence.
        alpha: Level of every interval and of the limit.
        warm_up: Requests answered before anything is held out or compared.
        influence: Greatest share of recent lessons that one subject may give, where enough subjects ask.
        influence_window: Lessons that count as recent.
        key: Secret of the assignment, so that nobody can choose an arm; made from the seed when empty, and at random
            for a new file.
    """

    mode: str = "on"
    holdout: float = 0.05
    canary: float = 0.1
    budget: float = 0.05
    budget_requests: int = 1000
    alpha: float = 0.05
    warm_up: int = 100
    influence: float = 0.02
    influence_window: int = 1000
    key: str = ""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.mode not in GUARD_MODES:
            raise ConfigError(f"mode: expected one of {', '.join(GUARD_MODES)}, got {self.mode!r}")
        setting_number(self.holdout, "holdout", 0.0, 0.5)
        setting_number(self.canary, "canary", 0.0, 1.0)
        setting_number(self.budget, "budget", 0.0, 1.0)
        setting_whole(self.budget_requests, "budget_requests", 0)
        setting_number(self.alpha, "alpha", 0.0, 0.5, open_low=True)
        setting_whole(self.warm_up, "warm_up", 0)
        setting_number(self.influence, "influence", 0.0, 1.0, open_low=True)
        setting_whole(self.influence_window, "influence_window", 1)
        if not isinstance(self.key, str):
            raise ConfigError(f"key: expected text, got {type(self.key).__name__}")


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


@dataclass(frozen=True, slots=True)
class InstantConfig:
    """Settings of Loop A.

    Args:
        learning_rate: Step size of the micro adapter (spec 0.002).
        flush_threshold: Signals gathered before the micro adapter moves (spec 100). Here 1, so that one request
            moves the next answer; the law is tested in `tests/property/test_engine_laws.py`.
        max_pending_signals: Most signals that may wait, whatever the threshold (spec 1000).
        quality_threshold: Outcomes below it are bad and never reinforce (spec 0.3).
        temperature: tau of the softmax over cosines.
        trajectory_capacity: Finished trajectories that may wait for Loop B (spec 10,000).
        learns: Whether the micro adapter moves; trajectories are recorded either way.
    """

    learning_rate: float = 0.002
    flush_threshold: int = 1
    max_pending_signals: int = 1000
    quality_threshold: float = 0.3
    temperature: float = 0.05
    trajectory_capacity: int = 10_000
    learns: bool = True

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.learning_rate, "learning_rate", 0.0, open_low=True)
        setting_whole(self.flush_threshold, "flush_threshold", 1)
        setting_whole(self.max_pending_signals, "max_pending_signals", 1)
        setting_number(self.quality_threshold, "quality_threshold", 0.0, 1.0)
        setting_number(self.temperature, "temperature", 0.0, open_low=True)
        setting_whole(self.trajectory_capacity, "trajectory_capacity", 1)


@dataclass(frozen=True, slots=True)
class BackgroundConfig:
    """Settings of Loop B.

    Args:
        interval_s: Seconds between cycles (spec 1 hour).
        min_trajectories: Trajectories a cycle needs unless it is forced (spec 100).
        regularisation: lam of the ridge behind layer 0 of the base adapter (docs/decisions/0002).
        strength: Share of the ridge solution that is applied, in [0, 1] (docs/decisions/0002).
        quality_threshold: Outcomes below it are bad and never reinforce (spec 0.3).
        temperature: tau of the softmax over cosines.
        seed: Seed of everything random in a cycle, together with the cycle's number.
    """

    interval_s: float = 3600.0
    min_trajectories: int = 100
    regularisation: float = 3.0
    strength: float = 0.5
    quality_threshold: float = 0.3
    temperature: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.interval_s, "interval_s", 0.0)
        setting_whole(self.min_trajectories, "min_trajectories", 1)
        setting_number(self.regularisation, "regularisation", 0.0, open_low=True)
        setting_number(self.strength, "strength", 0.0, 1.0)
        setting_number(self.quality_threshold, "quality_threshold", 0.0, 1.0)
        setting_number(self.temperature, "temperature", 0.0, open_low=True)
        setting_whole(self.seed, "seed", 0)


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
        patterns: Settings of the ReasoningBank.
        votes: Settings of the vote memory.
        guard: Settings of the guard.
        ewc: Settings of EWC++; made for the micro adapter when None.
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
    patterns: PatternConfig = field(default_factory=PatternConfig)
    votes: VoteConfig = field(default_factory=VoteConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    ewc: EwcConfig | None = None

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
        for name in ("use_votes", "use_micro"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        self.instant()
        self.background()

    def instant(self) -> InstantConfig:
        """Return the settings of Loop A."""
        return InstantConfig(
            learning_rate=self.micro_lora_lr,
            flush_threshold=self.flush_threshold,
            max_pending_signals=self.max_pending_signals,
            quality_threshold=self.quality_threshold,
            trajectory_capacity=self.trajectory_capacity,
            learns=self.use_micro,
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
