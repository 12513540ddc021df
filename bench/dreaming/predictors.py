"""Scores for pairs that are not linked: dreams through the public engine, and what they are to be compared with."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
from scipy.stats import rankdata

from dreaming.graphs import Split, matrix_of
from sona.config import DreamConfig
from sona.dreams.dream import DreamEngine, proposals
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode

KATZ = 0.5  # damping, as a share of the greatest that converges

SONA = DreamConfig()
SPECIFIED = DreamConfig(
    creative_jump=0.3,
    novelty_weight=0.3,
    coherence_weight=0.4,
    utility_weight=0.3,
    rule="specification",
    jumps_to_similar=False,
    min_novelty=0.0,
    threshold=0.7,
)
SPECIFICATION = replace(SPECIFIED, threshold=0.0)  # at the specified .7 hardly a dream passes; see `kept`
WITHOUT = {
    "without_window": replace(SONA, window=1),
    "jump_anywhere": replace(SONA, creative_jump=0.3, jumps_to_similar=False),
    "without_jumps": replace(SONA, creative_jump=0.0),
    "without_filter": replace(SONA, threshold=0.0, min_novelty=0.0),
}


def dreamer(part: Split, config: DreamConfig, *, blind: bool = False) -> DreamEngine:
    """Return an engine over the edges that are left; `blind` gives all memories the same vector."""
    vectors = np.ones_like(part.vectors) if blind else part.vectors
    graph = MemoryGraph(vectors.shape[1])
    for row, vector in enumerate(vectors):
        graph.add(MemoryNode(str(row), vector))
    graph.link(part.edges[:, 0], part.edges[:, 1], EdgeKind.TOGETHER, np.ones(len(part.edges), np.float32))
    return DreamEngine(config, graph=graph)


def dreamt(part: Split, config: DreamConfig, count: int, seed: int, *, blind: bool = False) -> tuple[np.ndarray, float]:
    """Return a matrix of what `count` dreams propose, 0 for pairs never proposed, and the share of dreams kept."""
    dreams = dreamer(part, config, blind=blind).generate_dreams(count, np.random.default_rng(seed))
    scores = np.zeros((part.n, part.n))
    for one in proposals(dreams, config):
        a, b = int(one.a), int(one.b)
        scores[a, b] = scores[b, a] = one.score
    passed = [dream.score >= config.threshold and dream.novelty >= config.min_novelty for dream in dreams]
    return scores, float(np.mean(passed))


def cycle(part: Split, config: DreamConfig, count: int, seed: int) -> tuple[int, int]:
    """Return how many links one cycle of dreams adds to the graph, and how many of those were held out."""
    engine = dreamer(part, config)
    added = engine.integrate_dreams(engine.generate_dreams(count, np.random.default_rng(seed))).added
    found = sum(any(edge.kind is EdgeKind.DREAM for edge in engine.graph.edge(str(a), str(b))) for a, b in part.held)
    return added, found


def auc(part: Split, scores: np.ndarray) -> float:
    """Return the chance that a held-out edge scores above a pair that never was one; equals count half."""
    held, never = (scores[pairs[:, 0], pairs[:, 1]] for pairs in (part.held, part.never))
    ranks = rankdata(np.concatenate([held, never]))
    above = ranks[: len(held)].sum() - len(held) * (len(held) + 1) / 2
    return float(above / (len(held) * len(never)))


def _from_networkx(part: Split, index: str) -> np.ndarray:
    graph = nx.Graph()
    graph.add_nodes_from(range(part.n))
    graph.add_edges_from(part.edges.tolist())
    scores = np.zeros((part.n, part.n))
    pairs = np.concatenate([part.held, part.never]).tolist()
    for a, b, score in getattr(nx, index)(graph, pairs):
        scores[a, b] = score
    return scores


def _katz(part: Split) -> np.ndarray:
    matrix = matrix_of(part.n, part.edges)
    damping = KATZ / np.abs(np.linalg.eigvalsh(matrix)).max()
    return np.linalg.inv(np.eye(part.n) - damping * matrix) - np.eye(part.n)


def _cosine(part: Split) -> np.ndarray:
    lengths = np.linalg.norm(part.vectors, axis=1)
    return part.vectors @ part.vectors.T / np.outer(lengths, lengths)


def compared(part: Split, seed: int) -> dict[str, float]:
    """Return the AUC of everything that is not a dream."""
    found = {
        "adamic_adar": _from_networkx(part, "adamic_adar_index"),
        "jaccard": _from_networkx(part, "jaccard_coefficient"),
        "katz": _katz(part),
        "cosine": _cosine(part),
        "random": np.random.default_rng(seed).random((part.n, part.n)),
    }
    return {name: auc(part, scores) for name, scores in found.items()}
