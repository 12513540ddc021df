"""Patterns that grew alike become one; what was compared before and did not change is not compared again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.patterns.catalog import PatternRecord, centroids_of
from sona.patterns.search import normalised

_BLOCK = 256
_FEW = 2048  # rows whose likeness to all others is held at once, a byte each

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Centroids = Mapping[int, Floats]
"""Centroids of patterns by id; the very arrays, so that another array is another centroid."""

_NONE: Centroids = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Consolidation:
    """Records after near-duplicates were merged; `survivors` maps each absorbed id to the id that took it in."""

    records: tuple[PatternRecord, ...]
    survivors: dict[int, int]


def agglomerate(records: Sequence[PatternRecord], similarity: float, *, apart: Centroids = _NONE) -> Consolidation:
    """Merge patterns until no two centroids are `similarity` (cosine) or more alike.

    In each round the larger pattern takes in those near it that are still free; memory stays at one block of
    rows, and neither the order of `records` nor what is told of `apart` matters to the result.

    Args:
        records: The patterns.
        similarity: Cosine in [-1, 1].
        apart: Centroids no two of which are that similar, as far as known.
    """
    current = sorted(records, key=_rank)
    survivors: dict[int, int] = {}
    while True:
        changed = [row for row, record in enumerate(current) if not _is_of(record, apart)]
        merged: dict[int, PatternRecord] = {}
        for row, leader in enumerate(leaders(normalised(centroids_of(current)), similarity, changed)):
            record = current[row]
            merged[leader] = merged[leader].merge(record) if row != leader else record
            if row != leader:
                survivors[record.pattern.id] = current[leader].pattern.id
        if len(merged) == len(current):
            break
        # No leader was near another one as it led; those that took somebody in have another centroid now.
        apart = centroids_by_id([current[leader] for leader in merged])
        current = sorted(merged.values(), key=_rank)
    for absorbed, survivor in survivors.items():
        while survivor in survivors:
            survivor = survivors[survivor]  # noqa: PLW2901 (follows the chain to its end)
        survivors[absorbed] = survivor
    return Consolidation(tuple(sorted(current, key=lambda record: record.pattern.id)), survivors)


def centroids_by_id(records: Sequence[PatternRecord]) -> Centroids:
    """Return the centroids of `records` by id."""
    return {record.pattern.id: record.pattern.centroid for record in records}


def _rank(record: PatternRecord) -> tuple[int, int]:
    return -record.pattern.cluster_size, record.pattern.id


def _is_of(record: PatternRecord, centroids: Centroids) -> bool:
    return centroids.get(record.pattern.id) is record.pattern.centroid


def leaders(unit: Floats, similarity: float, changed: Sequence[int] | None = None) -> list[int]:
    """Return for each unit row (n, d) the row that takes it in: itself, or the first leading row near enough.

    Args:
        unit: Unit rows, shape (n, d).
        similarity: Cosine at which rows are near.
        changed: Ascending; no two of the other rows are near. All rows when None.

    >>> leaders(np.array([[1, 0], [0, 1], [1, 0]], np.float32), 0.9)
    [0, 1, 0]
    """
    count = unit.shape[0]
    leader = np.full(count, -1, np.int64)
    if changed is None or len(changed) > min(_FEW, count // 2):
        for start in range(0, count, _BLOCK):
            close = near(unit, slice(start, start + _BLOCK), start, similarity)
            for offset in range(close.shape[0]):
                _lead(start + offset, start + np.flatnonzero(close[offset]), leader)
    else:
        _lead_changed(unit, np.array(changed, np.int64), similarity, leader)
    leader[leader < 0] = np.flatnonzero(leader < 0)  # near nobody
    return [int(row) for row in leader]


def _lead_changed(unit: Floats, changed: Rows, similarity: float, leader: Rows) -> None:
    # Each pair of near rows has a changed one in it, so the changed rows' neighbours are all there are.
    close = np.zeros((changed.size, unit.shape[0]), np.bool_)
    for at in range(0, changed.size, _BLOCK):
        close[at : at + _BLOCK] = near(unit, changed[at : at + _BLOCK], 0, similarity)
    place = np.full(unit.shape[0], -1, np.int64)
    place[changed] = np.arange(changed.size)
    close[place[changed], changed] = False
    involved = np.union1d(np.flatnonzero(close.any(axis=0)), changed[close.any(axis=1)])
    for row in involved.tolist():
        own = place[row]
        _lead(row, changed[close[:, row]] if own < 0 else np.flatnonzero(close[own]), leader)


def _lead(row: int, close: Rows, leader: Rows) -> None:
    if leader[row] < 0:
        leader[row] = row
        leader[close[(close > row) & (leader[close] < 0)]] = row


def near(unit: Floats, rows: Rows | slice, start: int, similarity: float) -> Mask:
    """Return which of the rows from `start` on are `similarity` or more alike to each of `rows`, shape (m, n - start).

    Where rounding could decide, a pair is judged in float64 by itself: the same comes out whatever else is compared.
    """
    others, own = unit[start:], unit[rows]
    cosines = own @ others.T
    close: Mask = cosines >= similarity
    rounding = 1.1 * (unit.shape[1] + 1) * 2.0**-24  # the most a float32 product of unit rows can be off
    at, of = np.nonzero(np.abs(cosines - similarity) <= rounding)
    for some in range(0, at.size, _FEW):
        part = slice(some, some + _FEW)
        pairs = own[at[part]].astype(np.float64), others[of[part]].astype(np.float64)
        close[at[part], of[part]] = np.einsum("ij,ij->i", *pairs) >= similarity
    return close
