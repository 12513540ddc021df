"""The bank's patterns as one published set: records, their index, and what is known of their outcomes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats
from sona.patterns.search import VectorIndex
from sona.types import LearnedPattern

NEUTRAL_QUALITY = 0.5
"""The average quality of a pattern none of whose outcomes is known."""

_UNIT = 1 << 60  # fixed point: a quality is this many parts, so what is added can be taken away exactly


@dataclass(frozen=True, slots=True)
class Tally:
    """Running sums of outcomes in whole numbers: order never matters and an amendment leaves no rounding.

    Args:
        count: Outcomes known.
        total: Their sum, in parts of 2^-60.
        squares: Sum of their squares, in parts of 2^-120.

    >>> tally = Tally().add(0.1).add(0.7)
    >>> round(tally.mean, 12), tally.remove(0.7) == Tally().add(0.1)
    (0.4, True)
    """

    count: int = 0
    total: int = 0
    squares: int = 0

    def add(self, quality: float | None) -> Tally:
        """Return the tally with one more outcome; None changes nothing."""
        return self._shift(quality, 1)

    def remove(self, quality: float | None) -> Tally:
        """Return the tally without an outcome added before; None changes nothing."""
        return self._shift(quality, -1)

    def _shift(self, quality: float | None, sign: int) -> Tally:
        if quality is None:
            return self
        parts = int(quality * _UNIT)
        return Tally(self.count + sign, self.total + sign * parts, self.squares + sign * parts * parts)

    def merge(self, other: Tally) -> Tally:
        """Return the tally of both sets of outcomes."""
        return Tally(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """Mean outcome in [0, 1]; neutral (0.5) when none is known."""
        return self.total / (self.count * _UNIT) if self.count else NEUTRAL_QUALITY

    @property
    def deviation(self) -> float:
        """Standard deviation of the known outcomes (of the population); 0 for fewer than two."""
        if self.count < 2:
            return 0.0
        scatter = self.squares * self.count - self.total * self.total
        return math.sqrt(scatter / (self.count * _UNIT) ** 2)

    @property
    def confidence(self) -> float:
        """(1 - deviation) (1 - 1 / (n + 1)): many outcomes that agree; 0 when none is known."""
        return (1.0 - self.deviation) * (1.0 - 1.0 / (self.count + 1))


@dataclass(frozen=True, slots=True, eq=False)
class PatternRecord:
    """A pattern, the tally of its outcomes and the confidence they give; replaced, never changed."""

    pattern: LearnedPattern
    tally: Tally
    confidence: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out the confidence once, as every search tells it."""
        object.__setattr__(self, "confidence", self.tally.confidence)

    def with_tally(self, tally: Tally) -> PatternRecord:
        """Return the record with other outcomes and the average they give."""
        return PatternRecord(replace(self.pattern, avg_quality=tally.mean), tally)

    def merge(self, other: PatternRecord) -> PatternRecord:
        """Return both as one pattern under this record's id; the average is over the outcomes known."""
        merged = PatternRecord(self.pattern.merge(other.pattern), self.tally)
        return merged.with_tally(self.tally.merge(other.tally))

    @property
    def value(self) -> float:
        """What is lost when the pattern goes: weight x quality x (1 + accesses)."""
        return self.pattern.total_weight * self.pattern.avg_quality * (1 + self.pattern.access_count)


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """A pattern found for a query.

    Args:
        pattern: The pattern.
        similarity: Cosine of the query to its centroid.
        confidence: How many outcomes it has and how well they agree, in [0, 1).
    """

    pattern: LearnedPattern
    similarity: float
    confidence: float


_match = kernel.maker(PatternMatch)
_accessed = kernel.changer(LearnedPattern, "last_accessed", "access_count")
_recorded = kernel.maker(PatternRecord)
_with_pattern = kernel.changer(PatternRecord, "pattern")


class Catalog:
    """A published set of patterns: readers hold one reference and always see a whole set.

    The set and its index never change; a changed set is another catalog. Only a record's statistics are renewed in
    place, each by swapping one immutable value for another: outcomes with their record, accesses beside it. A pattern
    is put together with its accesses when it is read.
    """

    __slots__ = ("_accesses", "_confidences", "_records", "index", "row_of")

    def __init__(self, records: Iterable[PatternRecord], *, exact_limit: int, index: VectorIndex | None = None) -> None:
        """Publish `records`; `index` is reused when their centroids did not change."""
        self._records = list(records)
        self._accesses = [(record.pattern.access_count, record.pattern.last_accessed) for record in self._records]
        self._confidences = np.array([record.confidence for record in self._records], np.float64)
        self.row_of = {record.pattern.id: row for row, record in enumerate(self._records)}
        self.index = VectorIndex(centroids_of(self._records), exact_limit=exact_limit) if index is None else index

    def copy(self) -> Catalog:
        """Return a catalog of the same records over the same index; renewing a record of either leaves the other."""
        twin = copy.copy(self)
        twin._records, twin._confidences = self._records.copy(), self._confidences.copy()
        twin._accesses = self._accesses.copy()
        return twin

    def __len__(self) -> int:
        """Number of patterns."""
        return len(self._records)

    @property
    def records(self) -> tuple[PatternRecord, ...]:
        """The records as they are now, in the order of their rows."""
        return tuple(map(self._record, range(len(self._records))))

    def _record(self, row: int) -> PatternRecord:
        record, (count, latest) = self._records[row], self._accesses[row]
        if record.pattern.access_count == count:  # counts only grow
            return record
        return _with_pattern(record, _accessed(record.pattern, latest, count))

    def get(self, pattern_id: int) -> PatternRecord | None:
        """Return the record of a pattern, or None."""
        row = self.row_of.get(pattern_id)
        return None if row is None else self._record(row)

    def renew(self, record: PatternRecord) -> None:
        """Swap in newer statistics of a pattern with the same centroid, its accesses among them."""
        row = self.row_of[record.pattern.id]
        self._confidences[row] = record.confidence
        self._records[row] = record
        self._accesses[row] = record.pattern.access_count, record.pattern.last_accessed

    def touch(self, pattern_ids: Iterable[int], now: float) -> None:
        """Count an access at `now` for each of these patterns; unknown ones are left out."""
        row_of, accesses = self.row_of, self._accesses
        for pattern_id in pattern_ids:
            row = row_of.get(pattern_id)
            if row is not None:
                count, latest = accesses[row]
                accesses[row] = count + 1, now if now > latest else latest

    def nearest(self, query: npt.ArrayLike, k: int, min_confidence: float = 0.0) -> list[PatternMatch]:
        """Return the `k` patterns nearest to `query` (d,) with at least this confidence, best first."""
        return self.seek(query, k, min_confidence).matches()

    def seek(self, query: npt.ArrayLike, k: int, min_confidence: float = 0.0) -> Sighting:
        """Return where `nearest` finds what it returns."""
        keep = self._confidences >= min_confidence if min_confidence > 0.0 else None
        return _sighting(self, *self.index.alike(query, k, keep))


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """The rows of a catalog that a search found, best first, with the cosines to its query.

    Args:
        catalog: Where.
        rows: Which.
        cosines: How similar, in [-1, 1].
    """

    catalog: Catalog
    rows: list[int]
    cosines: list[float]

    def matches(self) -> list[PatternMatch]:
        """Return the patterns found, as they are now."""
        records, accesses, matches = self.catalog._records, self.catalog._accesses, []
        for row, cosine in zip(self.rows, self.cosines, strict=True):
            record, (count, latest) = records[row], accesses[row]
            matches.append(_match(_accessed(record.pattern, latest, count), cosine, record.confidence))
        return matches

    def touched(self, now: float, *, counts: bool) -> tuple[list[PatternMatch], tuple[int, ...]]:
        """Return the patterns found, each with one more access at `now`, and their ids.

        Args:
            now: Seconds.
            counts: Whether the catalog counts these accesses; else somebody does later.
        """
        catalog = self.catalog
        return kernel.touched(
            _accessed, _match, _recorded, catalog._records, catalog._accesses, self.rows, self.cosines, now, counts
        )


_sighting = kernel.maker(Sighting)


def centroids_of(records: Sequence[PatternRecord]) -> Floats:
    """Return the centroids, shape (n, d); (0, 0) when there are none."""
    if not records:
        return np.zeros((0, 0), np.float32)
    return np.stack([record.pattern.centroid for record in records])
