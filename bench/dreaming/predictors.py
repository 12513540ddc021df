"""Scores for pairs that are not linked: dreams through the public engine, and what they are to be compared with."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
from scipy.stats import rankdata, spearmanr

from dreaming.graphs import Split, matrix_of
from sona.config import DreamConfig
from sona.dreams.dream import Dream, DreamEngine, proposals, refusal
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
SPECIFICATION = replace(SPECIFIED, threshold=0.0)  # at the specified .7 hardly a dream passes
UNFILTERED = replace(SONA, threshold=0.0, min_novelty=0.0)
CHANGED = {
    "without_window": replace(SONA, window=1),
    "without_jumps": replace(SONA, creative_jump=0.0),
    "jump_anywhere": replace(SONA, creative_jump=0.3, jumps_to_similar=False),
}
CYCLES = {"sona": SONA, "sona_16_links": replace(SONA, max_edges=16), "specification": SPECIFICATION}


def dreamer(part: Split, config: DreamConfig, *, blind: bool = False) -> DreamEngine:
    """Return an engine over the edges that are left; `blind` gives all memories the same vector."""
    vectors = np.ones_like(part.vectors) if blind else part.vectors
    graph = MemoryGraph(vectors.shape[1])
    for row, vector in enumerate(vectors):
        graph.add(MemoryNode(str(row), vector))
    graph.link(part.edges[:, 0], part.edges[:, 1], EdgeKind.TOGETHER, np.ones(len(part.edges), np.float32))
    return DreamEngine(config, graph=graph)


def dreamt(part: Split, config: DreamConfig, count: int, seed: int, *, blind: bool = False) -> list[Dream]:
    """Return `count` dreams over the edges that are left."""
    return dreamer(part, config, blind=blind).generate_dreams(count, np.random.default_rng(seed))


def scores_of(part: Split, dreams: list[Dream], config: DreamConfig) -> np.ndarray:
    """Return what dreams propose together as a matrix, 0 for pairs that none proposed."""
    scores = np.zeros((part.n, part.n))
    for one in proposals(dreams, config):
        a, b = int(one.a), int(one.b)
        scores[a, b] = scores[b, a] = one.score
    return scores


def kept(dreams: list[Dream], config: DreamConfig) -> float:
    """Return the share of dreams whose proposals are taken up."""
    return float(np.mean([refusal(dream, config) is None for dream in dreams]))


def foretold(part: Split, dreams: list[Dream]) -> dict[str, float]:
    """Return how the merits of dreams go with the share of their proposals that was held out (Spearman)."""
    held = {tuple(sorted((str(a), str(b)))) for a, b in part.held}
    told = [dream for dream in dreams if dream.proposals]
    share = [np.mean([(one.a, one.b) in held for one in dream.proposals]) for dream in told]
    names = ("coherence", "novelty", "diversity", "score")
    return {name: float(spearmanr([getattr(dream, name) for dream in told], share).statistic) for name in names}


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
