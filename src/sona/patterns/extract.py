"""How trajectories become patterns: join what is known, cluster the rest, merge what is alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.config import PatternConfig
from sona.errors import InvalidValue, PatternExtractionError
from sona.patterns.agglomerate import leaders
from sona.patterns.catalog import PatternRecord, Tally, centroids_of
from sona.patterns.kmeans import kmeans
from sona.patterns.search import normalised
from sona.types import LearnedPattern

FREE = -1
"""In place of a pattern's row: the request is not counted yet."""
SPENT = -2
"""In place of a pattern's row: it was counted in a pattern that is gone."""

_BLOCK = 512
_REFERENCES = 4096
_WITNESSES = 256

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """What one extraction did.

    Args:
        new: Patterns made.
        merged: Clusters that were merged into a pattern, as too like it to be another.
        joined: Trajectories that went straight to a pattern.
        clustered: Trajectories that reached a pattern by clustering.
        waiting: Trajectories kept for a later extraction.
        patterns: Patterns there are now.
        skipped_reason: Why nothing was clustered, in words; None when something was.
        inertia: Inertia of the clustering of normalised queries; None when there was none.
    """

    new: int
    merged: int
    joined: int
    clustered: int
    waiting: int
    patterns: int
    skipped_reason: str | None
    inertia: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Trajectories as rows: their directions (n, d), qualities, and the pattern row of each, or FREE or SPENT."""

    unit: Floats
    qualities: Sequence[float | None]
    owner: Rows

    @staticmethod
    def of(queries: Sequence[Floats], qualities: Sequence[float | None], owner: Sequence[int]) -> Requests:
        """Return trajectories as rows; their queries come in matrices (m, d) one after the other."""
        unit = np.empty((len(owner), queries[0].shape[1] if queries else 1), np.float32)
        start = 0
        for block in queries:  # by blocks: no copy of all queries but this one
            unit[start : start + len(block)] = normalised(block)
            start += len(block)
        return Requests(unit, qualities, np.array(owner, np.int64))


def nearest_rows(queries: Floats, references: Floats) -> tuple[Rows, Floats]:
    """Return for each unit query (n, d) the most similar unit reference (m, d) and the cosine; -1, -inf for m = 0."""
    return _nearest_of(queries, np.arange(queries.shape[0]), references)


def _nearest_of(queries: Floats, asked: Rows, references: Floats, among: Rows | None = None) -> tuple[Rows, Floats]:
    # The same of the queries `asked` and the references `among`, of which no more than a block is copied.
    rows = np.full(asked.size, -1, np.int64)
    cosines = np.full(asked.size, -np.inf, np.float32)
    for first in range(0, references.shape[0] if among is None else among.size, _REFERENCES):
        place = slice(first, first + _REFERENCES)
        block = references[place if among is None else among[place]]
        for start in range(0, asked.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            scores = queries[asked[part]] @ block.T
            found = scores.argmax(axis=1)
            best = scores[np.arange(found.size), found]
            better = best > cosines[part]
            rows[part] = np.where(better, first + found, rows[part])
            cosines[part] = np.where(better, best, cosines[part])
    return rows, cosines


def grouped(keys: Rows) -> Iterator[tuple[int, Rows]]:
    """Yield each of the keys (n,), ascending, with the places where it stands, ascending.

    >>> [(key, places.tolist()) for key, places in grouped(np.array([7, 3, 7]))]
    [(3, [1]), (7, [0, 2])]
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    bounds = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for places in np.split(order, bounds) if keys.size else ():
        yield int(keys[places[0]]), places


class Draft:
    """Patterns while an extraction works on them; nothing published changes until it is done."""

    __slots__ = (
        "_config",
        "_directions",
        "_now",
        "clustered",
        "joined",
        "merged",
        "new",
        "next_id",
        "records",
        "requests",
    )

    def __init__(
        self,
        records: Sequence[PatternRecord],
        requests: Requests,
        config: PatternConfig,
        *,
        next_id: int,
        now: float,
    ) -> None:
        """Start from the published records; `requests.owner` names the row of the pattern each is counted in."""
        self.records = list(records)
        self.requests = Requests(requests.unit, requests.qualities, requests.owner.copy())
        self.next_id = next_id
        self.new = self.merged = self.joined = self.clustered = 0
        self._config = config
        self._now = now
        self._directions = normalised(centroids_of(self.records))

    def join(self) -> int:
        """Count free requests into the pattern they clearly belong to, and return how many.

        They belong when the pattern's centroid, or a request already counted in a pattern, is at least
        `consolidation_similarity` alike. So a repeated request always follows its first.
        """
        limit = self._config.consolidation_similarity
        return self._join(np.full(len(self.records), limit, np.float32))

    def adopt(self) -> int:
        """Count free requests that no cluster wanted into a pattern as near to them as to its own, return how many.

        A pattern's reach is the mean cosine of its requests to the centroid less three standard deviations.
        """
        reach = np.full(len(self.records), self._config.consolidation_similarity, np.float32)
        owner = self.requests.owner
        counted = np.flatnonzero(owner >= 0)
        for row, places in grouped(owner[counted]):
            if places.size >= self._config.min_cluster_size:
                own = np.einsum("ij,j->i", self.requests.unit[counted[places]], self._directions[row])
                reach[row] = min(reach[row], own.mean() - 3.0 * own.std())
        return self._join(reach)

    def _join(self, reach: Floats) -> int:
        # `reach` is the least cosine to each centroid that counts as belonging.
        owner, unit = self.requests.owner, self.requests.unit
        free = np.flatnonzero((owner == FREE) & unit.any(axis=1))
        if free.size == 0 or not self.records:
            return 0
        limit = self._config.consolidation_similarity
        rows, cosines = _nearest_of(unit, free, self._directions[: len(self.records)])
        rows[cosines < reach[rows]] = -1
        far, counted = np.flatnonzero(rows == -1), np.flatnonzero(owner >= 0)
        twins, likeness = _nearest_of(unit, free[far], unit, counted)
        alike = likeness >= limit
        rows[far[alike]] = owner[counted[twins[alike]]]
        joined = np.flatnonzero(rows >= 0)
        for row, places in grouped(rows[joined]):
            self._count(row, free[joined[places]])
        return int(joined.size)

    def _count(self, row: int, members: Rows) -> None:
        # The centroid stays the mean of all directions counted, in float64 before it is rounded.
        record = self.records[row]
        size = record.pattern.cluster_size
        total = record.pattern.centroid.astype(np.float64) * size
        total += self.requests.unit[members].sum(axis=0, dtype=np.float64)
        tally = record.tally
        for member in members.tolist():
            tally = tally.add(self.requests.qualities[member])
        grown = replace(
            record.pattern,
            centroid=(total / (size + members.size)).astype(np.float32),
            cluster_size=size + members.size,
            total_weight=record.pattern.total_weight + members.size,
        )
        self._place(row, PatternRecord(grown, record.tally).with_tally(tally))
        self.requests.owner[members] = row

    def _place(self, row: int, record: PatternRecord) -> None:
        self.records[row] = record
        self._directions[row] = normalised(record.pattern.centroid[None])[0]

    def cluster(self, rng: np.random.Generator) -> float | str:
        """Cluster the free requests and count those of sound clusters; return the inertia, or why there is none."""
        config = self._config
        free = np.flatnonzero((self.requests.owner == FREE) & self.requests.unit.any(axis=1))
        k = min(config.k_clusters, free.size // config.min_cluster_size)
        if k == 0:
            return f"{free.size} trajectories wait, {config.min_cluster_size} make a cluster"
        unit = self.requests.unit
        points = unit if free.size == unit.shape[0] else unit[free]
        try:
            found = kmeans(
                points, k, rng=rng, max_iterations=config.max_iterations, tolerance=config.convergence_threshold
            )
        except InvalidValue as error:
            raise PatternExtractionError(f"clustering {free.size} trajectories: {error}") from error
        if not np.isfinite(found.inertia) or not bool(np.isfinite(found.centroids).all()):
            raise PatternExtractionError(f"clustering {free.size} trajectories gave a result that is not finite")
        sound = self._sound(found.labels, points)
        room = np.zeros((len(sound), points.shape[1]), np.float32)
        self._directions = np.concatenate((self._directions, room)) if self.records else room
        for members in sound:
            self._insert(free[members])
        return found.inertia

    def _sound(self, labels: Rows, points: Floats) -> list[Rows]:
        # Clusters large enough once near-duplicates are one and strangers are left out, the largest first.
        clusters = united(labels, points, self._config.consolidation_similarity)
        least = self._config.min_cohesion
        if least > 0.0:
            clusters = [members[affinity(points[members]) >= least] for members in clusters]
        large = [members for members in clusters if members.size >= self._config.min_cluster_size]
        return sorted(large, key=lambda members: -members.size)

    def _insert(self, members: Rows) -> None:
        # A cluster too like an existing pattern is counted into it.
        self.clustered += members.size
        mean = self.requests.unit[members].mean(axis=0, dtype=np.float64).astype(np.float32)
        rows, cosines = nearest_rows(normalised(mean[None]), self._directions[: len(self.records)])
        tally = Tally()
        for member in members.tolist():
            tally = tally.add(self.requests.qualities[member])
        pattern = LearnedPattern(
            self.next_id, mean, members.size, float(members.size), tally.mean, self._now, self._now
        )
        record = PatternRecord(pattern, tally)
        row = int(rows[0])
        if cosines[0] >= self._config.consolidation_similarity:
            self._place(row, self.records[row].merge(record))
            self.merged += 1
        else:
            row = len(self.records)
            self.records.append(record)
            self._place(row, record)
            self.next_id += 1
            self.new += 1
        self.requests.owner[members] = row


def united(labels: Rows, points: Floats, similarity: float) -> list[Rows]:
    """Return the members of each cluster after clusters with centroids `similarity` alike became one.

    k-means was asked for a number of clusters; what it split for that number's sake is put together again.
    """
    clusters = [places for _, places in grouped(labels)]
    while True:
        clusters.sort(key=lambda members: (-members.size, int(members[0])))
        means = np.stack([points[members].mean(axis=0, dtype=np.float64) for members in clusters])
        groups: dict[int, list[Rows]] = {}
        for place, leader in enumerate(leaders(normalised(means), similarity)):
            groups.setdefault(leader, []).append(clusters[place])
        if len(groups) == len(clusters):
            return clusters
        clusters = [np.sort(np.concatenate(parts)) for parts in groups.values()]


def affinity(unit: Floats) -> Floats:
    """Return for each unit row (n, d) its median cosine to the others, shape (n,); 1 for a single row.

    A median, so that a request asked twice does not vouch for a cluster of strangers. Beyond 256 rows the others
    are 256 of them, evenly spaced.

    >>> affinity(np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    count = unit.shape[0]
    if count < 2:
        return np.ones(count, np.float32)
    if count > _WITNESSES:
        witnesses = unit[np.linspace(0, count - 1, _WITNESSES).astype(np.int64)]
        return np.concatenate(
            [np.median(unit[at : at + _BLOCK] @ witnesses.T, axis=1) for at in range(0, count, _BLOCK)]
        )
    others = ~np.eye(count, dtype=bool)
    cosines = (unit @ unit.T)[others].reshape(count, count - 1)
    medians: Floats = np.median(cosines, axis=1)
    return medians


def extract(draft: Draft, rng: np.random.Generator) -> ExtractionResult:
    """Bring every free request of `draft` to a pattern where one fits, each exactly once; the rest keep waiting."""
    draft.joined = draft.join()
    waiting = int((draft.requests.owner == FREE).sum())
    outcome = draft.cluster(rng) if waiting else 0.0
    if draft.clustered:
        # What fell into clusters too small may belong to a pattern that now exists.
        draft.clustered += draft.adopt()
    inertia = outcome if isinstance(outcome, float) and waiting else None
    return ExtractionResult(
        new=draft.new,
        merged=draft.merged,
        joined=draft.joined,
        clustered=draft.clustered,
        waiting=int((draft.requests.owner == FREE).sum()),
        patterns=len(draft.records),
        skipped_reason=outcome if isinstance(outcome, str) else None,
        inertia=inertia,
    )
