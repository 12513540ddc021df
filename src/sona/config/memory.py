"""Settings of what is remembered: patterns, votes of past requests, the memory graph and its consolidation."""

from __future__ import annotations

from dataclasses import dataclass

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
class GraphConfig:
    """Settings of the memory graph.

    Args:
        capacity: Memories the graph may hold.
        neighbours: Most similar memories that each is linked to.
        min_similarity: Cosine from which two memories may be linked as similar.
        strengthen: Share of what is missing to 1 that an edge gains when both its ends served a request (spec +5 %).
        weaken: Share that an edge loses when one end served a request and the other was shown in vain (spec -2 %).
        max_pairs: Most edges that one request may touch.
        hops: Steps of spreading activation.
        restart: Share of activation that starts again at its seeds in every step.
        seeds: Nearest memories from which activation spreads.
        follow_dreams: Whether recall follows links that were only dreamt. They gained nothing in
            `bench/quality_recall_graph.py`; a dream that is confirmed becomes a learned link, which it does follow.
    """

    capacity: int = 100_000
    neighbours: int = 8
    min_similarity: float = 0.3
    strengthen: float = 0.05
    weaken: float = 0.02
    max_pairs: int = 64
    hops: int = 1
    restart: float = 0.2
    seeds: int = 16
    follow_dreams: bool = False

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.capacity, "capacity", 1)
        setting_whole(self.neighbours, "neighbours", 1)
        setting_number(self.min_similarity, "min_similarity", 0.0, 1.0)
        setting_number(self.strengthen, "strengthen", 0.0, 1.0)
        setting_number(self.weaken, "weaken", 0.0, 1.0)
        setting_whole(self.max_pairs, "max_pairs", 0)
        setting_whole(self.hops, "hops", 1)
        setting_number(self.restart, "restart", 0.0, 0.99)
        setting_whole(self.seeds, "seeds", 1)
        if not isinstance(self.follow_dreams, bool):
            raise ConfigError(f"follow_dreams: expected True or False, got {self.follow_dreams!r}")


@dataclass(frozen=True, slots=True)
class ConsolidationConfig:
    """Settings of consolidation: what a memory is worth, and what becomes of those that are worth little.

    Args:
        merge_similarity: Memories at least this similar (cosine) are one, if their words are.
        merge_words: Least share of their words that two texts must have in common to be one; embeddings alone take
            `strip` and `rstrip` for one (`bench/quality_recall_graph.py`).
        half_life_s: Seconds after which an access counts half.
        access_weight: Share of how often a memory was used in its value.
        recency_weight: Share of how lately it was used.
        quality_weight: Share of how well it served.
        connectivity_weight: Share of how well it is linked.
        edge_decay: Share of its weight that an edge keeps from cycle to cycle when it was not used in between.
        dream_decay: The same for an edge that was only dreamt.
        min_edge_weight: Edges lighter than this are dropped.
        prune: Whether memories of little value are removed; merging near-duplicates does not depend on it.
        min_value: Memories worth less than this, in [0, 1], may be removed.
        max_loss: Most recall that removing may cost, as a share, by the record of past requests.
        pattern_decay: Share of its weight that a pattern keeps from cycle to cycle when it was not used in between.
        min_pattern_accesses: Poor patterns used less often than this are removed.
    """

    merge_similarity: float = 0.98
    merge_words: float = 0.9
    half_life_s: float = 2_592_000.0
    access_weight: float = 0.3
    recency_weight: float = 0.2
    quality_weight: float = 0.3
    connectivity_weight: float = 0.2
    edge_decay: float = 0.9
    dream_decay: float = 0.5
    min_edge_weight: float = 0.02
    prune: bool = False
    min_value: float = 0.1
    max_loss: float = 0.01
    pattern_decay: float = 0.9
    min_pattern_accesses: int = 1

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.merge_similarity, "merge_similarity", 0.0, 1.0, open_low=True)
        setting_number(self.half_life_s, "half_life_s", 0.0, open_low=True)
        weights = ("access_weight", "recency_weight", "quality_weight", "connectivity_weight")
        for name in (*weights, "merge_words", "edge_decay", "dream_decay", "min_edge_weight", "min_value", "max_loss"):
            setting_number(getattr(self, name), name, 0.0, 1.0)
        if not any(getattr(self, name) for name in weights):
            raise ConfigError("access_weight, recency_weight, quality_weight and connectivity_weight are all 0")
        setting_number(self.pattern_decay, "pattern_decay", 0.0, 1.0)
        setting_whole(self.min_pattern_accesses, "min_pattern_accesses", 0)
        if not isinstance(self.prune, bool):
            raise ConfigError(f"prune: expected True or False, got {self.prune!r}")
