"""Settings of dreams and of Phi."""

from __future__ import annotations

from dataclasses import dataclass

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError

DREAM_RULES = ("cooccurrence", "specification")
"""How a dream proposes edges: pairs within a few steps, scored by distance and cosine; or consecutive pairs alone."""


@dataclass(frozen=True, slots=True)
class DreamConfig:
    """Settings of the DreamEngine; decided by `bench/quality_dreams.py`.

    Args:
        path_length: Memories a dream visits (spec 15).
        creative_jump: Chance of a jump to a memory that is not linked, in each step (spec 0.3).
        restart: Chance of going back to where the dream began, in each step (spec 0.1).
        novelty_weight: Share of novelty in a dream's score (spec 0.3).
        coherence_weight: Share of coherence (spec 0.4).
        utility_weight: Share of utility (spec 0.3).
        rule: How edges are proposed: `cooccurrence`, or `specification` for the rule as specified.
        jumps_to_similar: Whether a jump goes to a similar memory; else to any (spec).
        window: Steps within which two memories of a path are a pair.
        min_novelty: Dreams less novel than this are dropped, in [0, 1].
        threshold: Dreams that score less than this propose nothing (spec 0.7).
        edge_weight: Greatest weight of a new edge; whether it lasts, feedback decides.
        max_edges: Most edges that one dream may add.
    """

    path_length: int = 15
    creative_jump: float = 0.1
    restart: float = 0.1
    novelty_weight: float = 0.0
    coherence_weight: float = 0.7
    utility_weight: float = 0.3
    rule: str = "cooccurrence"
    jumps_to_similar: bool = True
    window: int = 3
    min_novelty: float = 0.05
    threshold: float = 0.3
    edge_weight: float = 0.1
    max_edges: int = 4

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_whole(self.path_length, "path_length", 2)
        setting_number(self.creative_jump, "creative_jump", 0.0, 1.0)
        setting_number(self.restart, "restart", 0.0, 1.0)
        weights = ("novelty_weight", "coherence_weight", "utility_weight")
        for name in (*weights, "min_novelty", "threshold"):
            setting_number(getattr(self, name), name, 0.0, 1.0)
        if not any(getattr(self, name) for name in weights):
            raise ConfigError("novelty_weight, coherence_weight and utility_weight are all 0")
        if self.rule not in DREAM_RULES:
            raise ConfigError(f"rule: expected one of {', '.join(DREAM_RULES)}, got {self.rule!r}")
        if not isinstance(self.jumps_to_similar, bool):
            raise ConfigError(f"jumps_to_similar: expected True or False, got {self.jumps_to_similar!r}")
        setting_whole(self.window, "window", 1)
        setting_number(self.edge_weight, "edge_weight", 0.0, 1.0, open_low=True)
        setting_whole(self.max_edges, "max_edges", 0)


@dataclass(frozen=True, slots=True)
class PhiConfig:
    """Settings of the PhiEvaluator.

    Args:
        threshold: Dreams below it are dropped where `is_gate` is on (spec 0.3).
        is_gate: Whether Phi decides over dreams at all; it did not predict their quality, so it is off.
        exhaustive_nodes: Up to so many nodes every bipartition is tried; above, Queyranne's algorithm searches.
        coupling: Spectral radius of the dynamics, below 1.
        similarity_weight: Weight of the cosine of two memories beside that of their edge.
        sample_nodes: Memories in each sampled part of the whole memory.
        samples: Parts that are sampled for the whole memory.
    """

    threshold: float = 0.3
    is_gate: bool = False
    exhaustive_nodes: int = 16
    coupling: float = 0.9
    similarity_weight: float = 0.5
    sample_nodes: int = 12
    samples: int = 16

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        setting_number(self.threshold, "threshold", 0.0, 1.0)
        if not isinstance(self.is_gate, bool):
            raise ConfigError(f"is_gate: expected True or False, got {self.is_gate!r}")
        setting_whole(self.exhaustive_nodes, "exhaustive_nodes", 2, 20)
        setting_number(self.coupling, "coupling", 0.0, 0.999, open_low=True)
        setting_number(self.similarity_weight, "similarity_weight", 0.0, 1.0)
        setting_whole(self.sample_nodes, "sample_nodes", 2, 512)
        setting_whole(self.samples, "samples", 1)
