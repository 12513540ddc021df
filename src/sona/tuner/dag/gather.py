"""Which executions are of plans that are alike: those known already, and new clusters by k-means++."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sona.checks import Floats
from sona.patterns.agglomerate import leaders
from sona.patterns.kmeans import kmeans
from sona.patterns.search import normalised

_BLOCK = 2048
_MOST = 1000
_UNKNOWN = -1


def nearest_known(embeddings: Floats, known: Floats, similarity: float) -> list[int]:
    """Return for each embedding (n, d) the row of the known unit vector (m, d) nearest to it, -1 where none is near.

    Args:
        embeddings: Plans.
        known: Directions of the patterns; m may be 0.
        similarity: Cosine from which a plan belongs to a pattern.

    >>> nearest_known(np.eye(2, dtype=np.float32), np.array([[1.0, 0.0]], np.float32), 0.9)
    [0, -1]
    """
    if not len(known):
        return [_UNKNOWN] * len(embeddings)
    found: list[int] = []
    for start in range(0, len(embeddings), _BLOCK):
        cosines = normalised(embeddings[start : start + _BLOCK]) @ known.T
        best = cosines.argmax(axis=1)
        near = cosines[np.arange(len(best)), best] >= similarity
        found += np.where(near, best, _UNKNOWN).tolist()
    return found


def clusters(embeddings: Floats, similarity: float, rng: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Return the rows (n, d) in clusters by k-means++ on their directions; each row is in one of them.

    There are as many as there are directions that are less than `similarity` alike. The same plan executed many times
    is one point. Beyond 1,000 clusters each plan goes to the first that is like it, as k-means would take too long.

    Args:
        embeddings: Plans.
        similarity: Cosine from which two are alike.
        rng: Source of chance.
    """
    if not len(embeddings):
        return ()
    unit = normalised(embeddings)
    distinct, place = _distinct(unit)
    leading = leaders(distinct, similarity)
    count = len(set(leading))
    is_found = count in (1, len(distinct)) or count > _MOST  # nothing is left to be found, or too much
    labels = leading if is_found else kmeans(distinct, count, rng=rng).labels
    members: dict[int, list[int]] = {}
    for row, point in enumerate(place):
        members.setdefault(int(labels[point]), []).append(row)
    return tuple(map(tuple, members.values()))


def _distinct(unit: Floats) -> tuple[Floats, Sequence[int]]:
    # Each vector once, in the order they came, and for each row which one it is.
    seen: dict[bytes, int] = {}
    first: list[int] = []
    place: list[int] = []
    for row, direction in enumerate(unit):
        point = seen.setdefault(direction.tobytes(), len(first))
        if point == len(first):
            first.append(row)
        place.append(point)
    return unit[first], place
