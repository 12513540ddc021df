"""Which memories are near-duplicates, exactly and a block of rows at a time, and which of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, whole
from sona.errors import InvalidValue

Rows: TypeAlias = npt.NDArray[np.int64]
Doubles: TypeAlias = npt.NDArray[np.float64]

_COLUMNS = 4096  # vectors compared at a time
_SLACK = 1e-4  # float32 cosines of 4,096 dimensions are right to this; what passes is computed again


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of near-duplicates, each once, in the order of `a_rows` and then `b_rows`.

    Args:
        a_rows: One of each, shape (m,).
        b_rows: The other, at a greater row, shape (m,).
        similarities: Their cosines, at most 1, shape (m,).
    """

    a_rows: Rows
    b_rows: Rows
    similarities: Doubles

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Return the pairs of several calls as one."""
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        columns = [(part.a_rows, part.b_rows, part.similarities) for part in parts]
        a_rows, b_rows, similarities = (np.concatenate(column) for column in zip(*columns, strict=True))
        return cls(a_rows, b_rows, similarities)


def duplicates(vectors: Floats, rows: npt.ArrayLike, threshold: float, *, most: int = 64) -> Pairs:
    """Return the pairs of a row in `rows` and a later row of the memory whose cosine is at least `threshold`.

    Called for every block of rows in turn it finds every pair once, whatever the blocks. Cosines are of float64, so
    they do not depend on the blocks to the bit.

    Args:
        vectors: Of unit length, or zero, shape (n, d).
        rows: Rows asked about, shape (q,); a few hundred at a time are quickest.
        threshold: Least cosine, in (0, 1].
        most: Pairs of one row: its first partners. What has more of them is merged in part, and found again.

    Raises:
        InvalidValue: a row outside 0 to n - 1, a threshold outside (0, 1], or `most` below 1.

    >>> vectors = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    >>> pairs = duplicates(vectors, np.arange(3), 0.98)
    >>> pairs.a_rows.tolist(), pairs.b_rows.tolist(), pairs.similarities.tolist()
    ([0], [2], [1.0])
    """
    whole(most, "most", 1)
    if not 0.0 < threshold <= 1.0:
        raise InvalidValue(f"threshold: expected a cosine in (0, 1], got {threshold!r}")
    asked = np.unique(np.asarray(rows, np.int64))
    if asked.size and not 0 <= int(asked[0]) <= int(asked[-1]) < len(vectors):
        raise InvalidValue(f"rows: expected rows in [0, {len(vectors)}), got {asked[0]} to {asked[-1]}")
    counts = np.zeros(len(asked), np.int64)
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for first in range(int(asked[0]) + 1 if asked.size else len(vectors), len(vectors), _COLUMNS):
        open_rows = np.flatnonzero(counts < most)
        places, b_rows = _in_columns(vectors, asked[open_rows], first, threshold)
        # A row's partners come in ascending order, so the first ones are those found first.
        places, ranks = open_rows[places], np.arange(len(places)) - places.searchsorted(places)
        kept = ranks + counts[places] < most
        counts += np.bincount(places[kept], minlength=len(asked))
        parts.append((asked[places[kept]], b_rows[kept]))
    a_rows, b_rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((b_rows, a_rows))
    a_rows, b_rows = a_rows[order], b_rows[order]
    return Pairs(a_rows, b_rows, cosines_of(vectors, a_rows, b_rows))


def _in_columns(vectors: Floats, asked: Rows, first: int, threshold: float) -> tuple[Rows, Rows]:
    # Places in `asked`, and the rows near to them among the columns from `first`: both ascending.
    cosines = vectors[asked] @ vectors[first : first + _COLUMNS].T
    places, columns = np.nonzero(cosines >= threshold - _SLACK)
    b_rows = columns + first
    later = b_rows > asked[places]
    unsure = later & (cosines[places, columns] < threshold + _SLACK)
    later[unsure] = cosines_of(vectors, asked[places[unsure]], b_rows[unsure]) >= threshold
    return places[later], b_rows[later]


def cosines_of(vectors: Floats, a_rows: Rows, b_rows: Rows) -> Doubles:
    """Return the cosines of pairs of rows, at most 1, shape (m,); 1 means the same direction.

    Args:
        vectors: Of unit length, or zero, shape (n, d).
        a_rows: One of each pair, shape (m,).
        b_rows: The other, shape (m,).
    """
    # By steps, as a block may have many pairs. Lengths are 1 in float32 only.
    cosines = np.zeros(len(a_rows))
    for start in range(0, len(a_rows), _COLUMNS):
        step = slice(start, start + _COLUMNS)
        ones, others = vectors[a_rows[step]].astype(np.float64), vectors[b_rows[step]].astype(np.float64)
        product = np.einsum("nd,nd->n", ones, others)
        squares = np.einsum("nd,nd->n", ones, ones) * np.einsum("nd,nd->n", others, others)
        cosines[step] = product / np.sqrt(np.where(squares > 0.0, squares, 1.0))
    return np.minimum(np.where(cosines > 1.0 - 1e-9, 1.0, cosines), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Absorbed:
    """Which row takes in which: `gone` (m,) goes into `kept` (m,), their cosines `similarities` (m,); by `gone`."""

    kept: Rows
    gone: Rows
    similarities: Doubles


def absorbed(pairs: Pairs, values: Doubles, protected: npt.NDArray[np.bool_]) -> Absorbed:
    """Return which near-duplicates go into which: each into one it is paired with itself, never along a chain.

    In the order of their value, of equal ones the first row before the others, each memory that is still there takes
    in those it is paired with that are less in that order, still there, alone and not protected.

    Args:
        pairs: Near-duplicates.
        values: What each memory is worth, shape (n,).
        protected: Which memories must stay, shape (n,).

    Raises:
        InvalidValue: pairs or `protected` that are not of n memories.

    >>> pairs = Pairs(np.array([0, 1]), np.array([1, 2]), np.array([0.99, 0.985]))
    >>> found = absorbed(pairs, np.array([0.9, 0.5, 0.7]), np.zeros(3, bool))
    >>> found.kept.tolist(), found.gone.tolist()
    ([0], [1])
    """
    count = len(values)
    if protected.shape != values.shape or (len(pairs.a_rows) and int(pairs.b_rows.max()) >= count):
        raise InvalidValue(f"pairs, values and protected: expected those of one memory of {count}")
    ends = np.concatenate([pairs.a_rows, pairs.b_rows])
    others = np.concatenate([pairs.b_rows, pairs.a_rows])
    by_end = np.lexsort((others, ends))
    ends, others, similarities = ends[by_end], others[by_end], np.tile(pairs.similarities, 2)[by_end]
    involved = np.unique(ends)
    leader = np.full(count, -1, np.int64)
    into = np.zeros(count)
    for row in involved[np.lexsort((involved, -values[involved]))].tolist():
        if leader[row] >= 0:
            continue
        leader[row] = row
        part = slice(*ends.searchsorted([row, row + 1]).tolist())
        free = (leader[others[part]] < 0) & ~protected[others[part]]
        leader[others[part][free]] = row
        into[others[part][free]] = similarities[part][free]
    gone = np.flatnonzero((leader >= 0) & (leader != np.arange(count)))
    return Absorbed(leader[gone], gone, into[gone])
