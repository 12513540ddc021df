"""Three graphs with 15 % of their edges held out, and vectors that know nothing of those.

Two are social networks without vectors of their own: theirs come from the edges that are left. The third links each of
600 digits to its nearest by cosine, so its vectors hold all of its edges, and cosine alone finds them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx
import numpy as np
from sklearn.datasets import load_digits

HELD_OUT = 0.15
WIDTH = 16  # of the vectors made from edges
DIGITS, NEIGHBOURS = 600, 8


@dataclass(frozen=True)
class Whole:
    """A graph of n nodes: its edges (m, 2) with the lesser end first, and its vectors if it has any."""

    n: int
    edges: np.ndarray
    vectors: np.ndarray | None


@dataclass(frozen=True)
class Split:
    """What is left of a graph, and what is to be told apart: edges held out, and pairs that never were edges."""

    n: int
    edges: np.ndarray
    vectors: np.ndarray
    held: np.ndarray
    never: np.ndarray

    @property
    def chance(self) -> float:
        """The share of held-out edges among all pairs that are not linked."""
        return len(self.held) / (len(self.held) + len(self.never))


def social(graph: nx.Graph) -> Whole:
    numbered = nx.convert_node_labels_to_integers(graph)
    return Whole(len(numbered), np.array(sorted((min(edge), max(edge)) for edge in numbered.edges)), None)


def digits() -> Whole:
    pixels = load_digits().data
    chosen = pixels[np.random.default_rng(600).permutation(len(pixels))[:DIGITS]]
    vectors = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
    pairs = {(min(a, b), max(a, b)) for a in range(DIGITS) for b in nearest[a].tolist()}
    return Whole(DIGITS, np.array(sorted(pairs)), vectors.astype(np.float32))


WHOLE: dict[str, Callable[[], Whole]] = {
    "karate": lambda: social(nx.karate_club_graph()),
    "les_mis": lambda: social(nx.les_miserables_graph()),
    "digits": digits,
}


def matrix_of(n: int, edges: np.ndarray) -> np.ndarray:
    matrix = np.zeros((n, n))
    matrix[edges[:, 0], edges[:, 1]] = matrix[edges[:, 1], edges[:, 0]] = 1.0
    return matrix


def embedded(n: int, edges: np.ndarray) -> np.ndarray:
    """Return vectors made from edges: the leading singular vectors of D^-1/2 (A + I) D^-1/2, times the values."""
    matrix = matrix_of(n, edges) + np.eye(n)
    roots = np.sqrt(matrix.sum(axis=1))
    left, values, _ = np.linalg.svd(matrix / roots[:, None] / roots)
    return (left[:, :WIDTH] * values[:WIDTH]).astype(np.float32)


def split(whole: Whole, seed: int) -> Split:
    """Return the graph without 15 % of its edges, drawn by `seed`."""
    order = np.random.default_rng(seed).permutation(len(whole.edges))
    count = round(HELD_OUT * len(order))
    held, kept = whole.edges[order[:count]], whole.edges[order[count:]]
    upper = np.argwhere(np.triu(1.0 - matrix_of(whole.n, whole.edges), 1) > 0.0)
    vectors = embedded(whole.n, kept) if whole.vectors is None else whole.vectors
    return Split(whole.n, kept, vectors, held, upper)


def rewired(part: Split, seed: int) -> Split:
    """Return the same graph with as many pairs drawn at random in place of the held-out edges: none can tell them."""
    pairs = np.concatenate([part.held, part.never])
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = len(part.held)
    return Split(part.n, part.edges, part.vectors, pairs[order[:count]], pairs[order[count:]])
