"""The nearest of many vectors by cosine: one product and a partition, or an approximate index above a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, matrix, vector, whole
from sona.errors import DimensionMismatch

_BLOCK = 1024
_OVERSAMPLE = 4  # candidates asked of the approximate index per neighbour wanted, re-scored exactly
_LEAST_CANDIDATES = 64
_CONNECTIVITY, _EFFORT_BUILD, _EFFORT_SEARCH = 16, 128, 96

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest rows, best first: `rows` (m,), `similarities` (m,) cosines; m is at most the k asked for."""

    rows: Rows
    similarities: Floats


def normalised(vectors: npt.ArrayLike) -> Floats:
    """Return the rows scaled to length 1; a zero row stays zero, similar to nothing.

    Args:
        vectors: Shape (n, d).

    >>> normalised([[3.0, 4.0], [0.0, 0.0]]).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    rows = matrix(vectors, what="vectors")
    unit = np.empty(rows.shape, np.float32)
    for start in range(0, rows.shape[0], _BLOCK):
        # In float64: the square of a large float32 overflows float32.
        wide = rows[start : start + _BLOCK].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        norms[norms == 0.0] = 1.0
        unit[start : start + _BLOCK] = wide / norms[:, None]
    return unit


def best_rows(scores: Floats, k: int) -> Rows:
    """Return the indices of the `k` greatest scores, greatest first, equal ones by index; -inf never counts.

    >>> best_rows(np.array([0.1, 0.9, -np.inf, 0.9], np.float32), 3).tolist()
    [1, 3, 0]
    """
    everything = k >= scores.shape[0]
    found = np.arange(scores.shape[0]) if everything else np.sort(np.argpartition(scores, -k)[-k:])
    found = found[scores[found] > -np.inf]
    return found[np.argsort(-scores[found], kind="stable")]


Approximate = Callable[[Floats, int], Rows]
"""Candidates for a unit vector (d,): the rows of about that many of its neighbours, in any order."""


def approximate_index(unit: Floats) -> Approximate | None:
    """Return a search over the unit rows (n, d) by usearch, or None where that package is not installed.

    Built with one thread, so that the same rows always make the same index.
    """
    try:
        from usearch.index import Index
    except ImportError:
        return None
    index = Index(
        ndim=unit.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=_CONNECTIVITY,
        expansion_add=_EFFORT_BUILD,
        expansion_search=_EFFORT_SEARCH,
    )
    index.add(np.arange(unit.shape[0], dtype=np.uint64), unit, threads=1, copy=True)

    def candidates(query: Floats, count: int) -> Rows:
        return np.asarray(index.search(query, count, threads=1).keys, np.int64)

    return candidates


class VectorIndex:
    """An immutable set of vectors that any number of threads may search at once.

    Up to `exact_limit` rows the answer is exact. Above it usearch proposes and the cosines of its candidates are
    computed exactly; without usearch, or under a mask, the answer stays exact at any size.
    """

    __slots__ = ("_approximate", "unit")

    def __init__(self, vectors: npt.ArrayLike, *, exact_limit: int = 10_000) -> None:
        """Hold the directions of `vectors`, shape (n, d); n may be 0.

        Raises:
            InvalidValue: not a matrix, or NaN or infinity.
        """
        whole(exact_limit, "exact_limit", 1)
        self.unit = normalised(vectors)
        self.unit.setflags(write=False)
        self._approximate = approximate_index(self.unit) if len(self) > exact_limit else None

    def __len__(self) -> int:
        """Number of vectors."""
        return int(self.unit.shape[0])

    @property
    def is_exact(self) -> bool:
        """True when a search looks at every vector."""
        return self._approximate is None

    def alike(self, query: npt.ArrayLike, k: int, keep: Mask | None = None) -> tuple[list[int], list[float]]:
        """Return rows and cosines, in [-1, 1], of what `search` finds; it raises what `search` raises."""
        if self._approximate is None or keep is not None:
            found = kernel.alike(self.unit, query, k, keep)
            if found is not None:
                return found
        looked_up = self.search(query, k, keep=keep)
        return looked_up.rows.tolist(), np.clip(looked_up.similarities, -1.0, 1.0).tolist()

    def search(self, query: npt.ArrayLike, k: int, *, keep: Mask | None = None) -> Neighbours:
        """Return the `k` vectors most similar to `query`, of those `keep` marks.

        Args:
            query: Shape (d,), any length; a zero query is similar to nothing (cosine 0).
            k: Neighbours wanted.
            keep: Shape (n,); only rows marked True may be returned. All when None.

        Raises:
            DimensionMismatch: the query or the mask has another width than the vectors.
            InvalidValue: NaN or infinity, or `k` below 1.
        """
        k = whole(k, "k", 1)
        if len(self) == 0:
            vector(query, what="query")
            return Neighbours(np.zeros(0, np.int64), np.zeros(0, np.float32))
        asked = vector(query, self.unit.shape[1], "query")
        if keep is not None and keep.shape != (len(self),):
            raise DimensionMismatch(len(self), keep.size, "keep")
        direction = normalised(asked[None])[0]
        if self._approximate is None or keep is not None:
            return self._among_all(direction, k, keep)
        count = max(_OVERSAMPLE * k, _LEAST_CANDIDATES)
        if count >= len(self):
            return self._among_all(direction, k, None)
        rows = np.sort(self._approximate(direction, count))
        scores = self.unit[rows] @ direction
        order = best_rows(scores, k)
        return Neighbours(rows[order], scores[order])

    def _among_all(self, direction: Floats, k: int, keep: Mask | None) -> Neighbours:
        found = kernel.nearest(self.unit, direction, min(k, len(self)), keep, len(self))
        if found is not None:
            return Neighbours(*found)
        scores = self.unit @ direction
        if keep is not None:
            scores[~keep] = -np.inf
        rows = best_rows(scores, k)
        return Neighbours(rows, scores[rows])
