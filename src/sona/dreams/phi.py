"""How integrated some memories are: what their network says as a whole beyond its two most separate parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, matrix
from sona.config import PhiConfig
from sona.dreams.dynamics import Doubles, Masks, square
from sona.dreams.neighbourhoods import MemoryPhi, Rows, links_among, mean_of_samples, neighbourhood
from sona.dreams.partition import MOST_NODES, minimum_bipartition, smaller_part
from sona.errors import DimensionMismatch, InvalidValue
from sona.memory.nodes import Adjacency

_SYMMETRIC = 1e-6  # of the greatest weight; float32 products are apart by less


@dataclass(frozen=True, slots=True)
class PhiResult:
    """Phi of some memories.

    Args:
        phi: sqrt(1 - exp(-2 si)), in [0, 1): the correlation that would carry as much information (Linfoot).
        si: Stochastic interaction of the two parts, nats.
        partition: The smaller of the two parts that lose least apart, ascending; empty below two memories.
        nodes: How many memories.
        is_exact: Whether no better partition can exist; otherwise phi may be too high.
    """

    phi: float
    si: float
    partition: tuple[int, ...]
    nodes: int
    is_exact: bool


def linfoot(si: float) -> float:
    """Return the correlation, in [0, 1), of two Gaussian variables that share `si` nats of information.

    Raises:
        InvalidValue: `si` is below 0 or NaN.

    >>> round(linfoot(0.0472), 3)
    0.3

    Source:
        Linfoot 1957, An informational measure of correlation.
    """
    if not si >= 0.0:
        raise InvalidValue(f"si: expected at least 0 nats, got {si!r}")
    return min(math.sqrt(-math.expm1(-2.0 * si)), math.nextafter(1.0, 0.0))


def couplings(weights: npt.ArrayLike, coupling: float) -> Doubles:
    """Return A = c D^-1/2 W D^-1/2, which has a spectral radius of c whatever the scale of W.

    Args:
        weights: W, at least 0 and symmetric, shape (n, n). What a node has to itself on the diagonal is not counted.
        coupling: c, in (0, 1).

    Returns:
        A, shape (n, n); zeros for a node that is linked to none.

    Raises:
        InvalidValue: another shape, NaN, infinity, below 0 or not symmetric, or c outside (0, 1).

    >>> couplings([[0, 2], [2, 0]], 0.9).tolist()
    [[0.0, 0.9], [0.9, 0.0]]
    """
    if not 0.0 < coupling < 1.0:
        raise InvalidValue(f"coupling: expected a number in (0, 1), got {coupling!r}")
    return _coupled(_weights(weights), coupling)


def _weights(value: npt.ArrayLike) -> Doubles:
    # As checked, without its diagonal and with a greatest weight of 1.
    weights = square(value, "weights")
    if (weights < 0.0).any():
        raise InvalidValue(f"weights: expected at least 0, got {weights.min()}")
    np.fill_diagonal(weights, 0.0)
    greatest = float(weights.max(initial=0.0))
    if greatest == 0.0:
        return weights
    weights /= greatest
    if np.abs(weights - weights.T).max() > _SYMMETRIC:
        raise InvalidValue("weights: expected a symmetric matrix; a link goes both ways")
    return np.maximum(weights, weights.T)


def _coupled(weights: Doubles, coupling: float) -> Doubles:
    degrees = weights.sum(axis=0)
    roots = np.zeros(len(degrees))
    np.divide(1.0, np.sqrt(degrees), out=roots, where=degrees > 0.0)
    return coupling * (weights * roots[:, None] * roots)


def _component(weights: Doubles) -> Masks:
    # What can be reached from node 0.
    reached, latest = np.zeros(len(weights), np.bool_), np.zeros(len(weights), np.bool_)
    latest[0] = True
    while latest.any():
        reached |= latest
        latest = (weights[latest] > 0.0).any(axis=0) & ~reached
    return reached


class PhiEvaluator:
    """Phi of a dream, or of any memories: a diagnostic; it did not predict which dreams are worth having.

    Links and similarities W couple the memories as A = c D^-1/2 W D^-1/2 in x_t = A x_{t-1} + unit noise. Phi is
    the stochastic interaction of the two parts of the memories that lose least apart, as a correlation.

    Args:
        config: Its settings.

    >>> evaluator = PhiEvaluator()
    >>> chain = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    >>> round(evaluator.phi_of(chain), 3)
    0.9
    >>> evaluator.phi_of([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    0.0
    """

    __slots__ = ("_config",)

    def __init__(self, config: PhiConfig | None = None) -> None:
        """Take the settings; there is nothing else to it."""
        self._config = PhiConfig() if config is None else config

    @property
    def config(self) -> PhiConfig:
        """Its settings."""
        return self._config

    def phi_of(self, weights: npt.ArrayLike) -> float:
        """Return Phi of a network of symmetric `weights`, shape (n, n); 0 where it falls apart or has no two nodes.

        Raises:
            InvalidValue: another shape, NaN, infinity, below 0, not symmetric, or more than 512 nodes.
        """
        return self._result(_weights(weights)).phi

    def evaluate(self, vectors: npt.ArrayLike, edge_weights: npt.ArrayLike) -> PhiResult:
        """Return Phi of memories that are linked by edges and by their similarity.

        Args:
            vectors: Their embeddings, of any length; one of zeros is similar to none, shape (n, d).
            edge_weights: Of the links, at least 0, 0 where there is none, symmetric, shape (n, n).

        Returns:
            Phi; its partition names rows of `vectors`.

        Raises:
            InvalidValue: another shape, NaN, infinity, a weight below 0, not symmetric, or more than 512 memories.
        """
        points, links = matrix(vectors, what="vectors"), square(edge_weights, "edge_weights")
        if len(points) != len(links):
            raise DimensionMismatch(len(points), len(links), "edge_weights")
        if (links < 0.0).any():
            raise InvalidValue(f"edge_weights: expected at least 0, got {links.min()}")
        return self._result(_weights(np.maximum(links, self._config.similarity_weight * _similarities(points))))

    def evaluate_rows(self, vectors: Floats, adjacency: Adjacency, rows: Sequence[int] | Rows) -> PhiResult:
        """Return Phi of the memories at `rows`, such as those a dream visited; each counts once.

        Args:
            vectors: Of all memories, shape (n, d).
            adjacency: Their links.
            rows: Rows of the memories, in any order.

        Returns:
            Phi; its partition names rows of the whole memory.

        Raises:
            InvalidValue: a row that does not exist, vectors or weights with NaN or infinity, a weight below 0, or
                more than 512 memories.
        """
        chosen = _distinct_rows(rows, vectors, adjacency)
        found = self.evaluate(np.asarray(vectors)[chosen], links_among(adjacency, chosen))
        return replace(found, partition=tuple(int(chosen[place]) for place in found.partition))

    def evaluate_memory(self, vectors: Floats, adjacency: Adjacency, rng: np.random.Generator) -> MemoryPhi:
        """Return the mean Phi of the neighbourhoods of a memory, from a sample; 0 of none for an empty one.

        Each begins at a memory drawn from all with the same chance, and gathers what a walk along links comes by. One
        that is linked to none is a neighbourhood of its own, of Phi 0.

        Args:
            vectors: Of all memories, shape (n, d).
            adjacency: Their links.
            rng: Draws the memories and the steps.

        Raises:
            InvalidValue: as `evaluate_rows`.
        """
        _same_length(vectors, adjacency)
        config, found = self._config, []
        for _ in range(config.samples if len(adjacency) else 0):
            start = int(rng.integers(len(adjacency)))
            rows = neighbourhood(adjacency, start, config.sample_nodes, rng)
            found.append(self.evaluate_rows(vectors, adjacency, rows).phi)
        return mean_of_samples(found)

    def _result(self, weights: Doubles) -> PhiResult:
        n = len(weights)
        if n > MOST_NODES:
            raise InvalidValue(f"expected at most {MOST_NODES} memories at once, got {n}; evaluate_memory samples more")
        if n < 2:
            return PhiResult(0.0, 0.0, (), n, is_exact=True)
        component = _component(weights)
        if not component.all():
            return PhiResult(0.0, 0.0, smaller_part(component), n, is_exact=True)
        found = minimum_bipartition(_coupled(weights, self._config.coupling), self._config.exhaustive_nodes)
        return PhiResult(linfoot(found.si), found.si, found.part, n, found.is_exact)


def _similarities(vectors: Floats) -> Doubles:
    # Cosines, 0 where they are negative or a vector has no direction.
    points = vectors.astype(np.float64)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    points = np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0.0)
    cosines: Doubles = np.clip(points @ points.T, 0.0, 1.0)
    return cosines


def _same_length(vectors: Floats, adjacency: Adjacency) -> None:
    if np.ndim(vectors) != 2 or len(vectors) != len(adjacency):
        raise InvalidValue(f"vectors: expected shape ({len(adjacency)}, d) for this adjacency, got {np.shape(vectors)}")


def _distinct_rows(rows: Sequence[int] | Rows, vectors: Floats, adjacency: Adjacency) -> Rows:
    _same_length(vectors, adjacency)
    given = np.asarray(rows)
    if given.size == 0:
        return np.zeros(0, np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InvalidValue(f"rows: expected whole numbers of shape (k,), got {given.dtype} of shape {given.shape}")
    if not 0 <= given.min() <= given.max() < len(adjacency):
        raise InvalidValue(f"rows: expected 0 to {len(adjacency) - 1}, got {given.min()} to {given.max()}")
    return np.unique(given).astype(np.int64)
