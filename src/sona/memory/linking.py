"""The most similar memories of each, exactly: cosines by blocks of matrix products, within bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.checks import Floats, finite, whole
from sona.errors import InvalidValue
from sona.memory.edges import Rows

_COLUMNS = 4096  # vectors compared at a time: the cosines of 1,000 rows to as many take 16 MB


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest others of some rows, by row, the nearest first.

    Args:
        a_rows: The row asked about, shape (m,).
        b_rows: One of its nearest, never itself, shape (m,).
        cosines: Of the two, at most 1, shape (m,).
    """

    a_rows: Rows
    b_rows: Rows
    cosines: Floats


def nearest(vectors: Floats, rows: Rows, k: int, min_similarity: float) -> Nearest:
    """Return for each of `rows` the k others of greatest cosine, those less similar than `min_similarity` left out.

    Of equals the lesser row comes first. A few hundred rows at a time is quickest.

    Args:
        vectors: Of unit length, shape (n, d).
        rows: Rows asked about, shape (q,).
        k: Most of them for each.
        min_similarity: Least cosine.

    Raises:
        InvalidValue: a row outside 0 to n - 1, k below 1, or a similarity that is not a number.

    >>> found = nearest(np.eye(3, dtype=np.float32)[[0, 0, 1]], np.arange(3), 1, 0.5)
    >>> found.a_rows.tolist(), found.b_rows.tolist()
    ([0, 1], [1, 0])
    """
    whole(k, "k", 1)
    least = finite(min_similarity, "min_similarity")
    rows = np.asarray(rows, np.int64)
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(vectors):
        raise InvalidValue(f"rows: expected rows in [0, {len(vectors)}), got {rows.min()} to {rows.max()}")
    asked = vectors[rows]
    best = _Best(len(rows), k, least)
    for first in range(0, len(vectors), _COLUMNS):
        cosines = asked @ vectors[first : first + _COLUMNS].T
        own = rows - first
        is_here = (own >= 0) & (own < cosines.shape[1])
        cosines[is_here, own[is_here]] = -2.0
        best.offer(cosines, first)
    return Nearest(rows[best.places], best.columns, np.minimum(best.cosines, np.float32(1.0)))


class _Best:
    """The k greatest of each row so far; what does not pass the least of them costs one comparison."""

    def __init__(self, rows: int, k: int, least: float) -> None:
        self._k = k
        self._bars = np.full(rows, least, np.float32)
        self.places = self.columns = np.zeros(0, np.int64)
        self.cosines = np.zeros(0, np.float32)

    def offer(self, cosines: Floats, first: int) -> None:
        """Take the best of some more columns, of which the first has this number."""
        width = cosines.shape[1]
        if not first and width > self._k:  # no bar yet but the least: a first one, that k reach, from this block alone
            np.maximum(self._bars, np.partition(cosines, width - self._k, axis=1)[:, width - self._k], out=self._bars)
        found = np.flatnonzero(cosines >= self._bars[:, None])
        if not len(found):
            return
        places = np.concatenate([self.places, found // width])
        columns = np.concatenate([self.columns, first + found % width])
        values = np.concatenate([self.cosines, cosines.reshape(-1)[found]])
        order = np.lexsort((columns, -values, places))
        counts = np.bincount(places, minlength=len(self._bars))
        ranks = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = order[ranks < self._k]
        self.places, self.columns, self.cosines = places[kept], columns[kept], values[kept]
        is_full = counts >= self._k
        lasts = np.cumsum(np.minimum(counts, self._k)) - 1
        # What comes later must be better: of equals the lesser row stays.
        self._bars[is_full] = np.nextafter(self.cosines[lasts[is_full]], np.float32(np.inf))
