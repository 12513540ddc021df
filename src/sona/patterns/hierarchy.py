"""Which patterns belong together, level upon level: what few requests say of one pattern, its kin can say better.

Patterns are joined pairwise by average linkage on the cosines of their centroids, and the tree is cut where each
level has about a quarter of the groups of the one below. A group is named by its medoid, a pattern that exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, fraction, matrix, whole
from sona.errors import InvalidValue, StoreError
from sona.patterns.search import normalised
from sona.state import State
from sona.types import LearnedPattern

Doubles: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

LARGEST = 2000
"""Most patterns that are joined: the memory for their distances is 8 n^2 bytes."""

_NARROWING = 4  # groups of one level per group of the next


@dataclass(frozen=True, slots=True)
class Group:
    """Patterns that belong together.

    Args:
        medoid: Id of the member most similar to all of them: the group's name.
        members: Ids of its patterns, ascending.
        size: Requests behind them.
        quality: Their mean quality in [0, 1], by requests.

    Raises:
        InvalidValue: a medoid that is no member, members out of order, a size below 1 or a quality outside [0, 1].
    """

    medoid: int
    members: tuple[int, ...]
    size: int
    quality: float

    def __post_init__(self) -> None:
        """Refuse what no group can be."""
        whole(self.size, "size", 1)
        fraction(self.quality, "quality")
        if self.medoid not in self.members or list(self.members) != sorted(set(self.members)):
            raise InvalidValue(f"group: expected rising members with {self.medoid} among them, got {self.members!r}")


@dataclass(frozen=True, slots=True)
class Level:
    """One cut of the tree: every pattern is in one of its groups; ordered by their first members."""

    groups: tuple[Group, ...]

    def group_of(self, pattern_id: int) -> Group | None:
        """Return the group of a pattern; None when the hierarchy does not hold it."""
        return next((group for group in self.groups if pattern_id in group.members), None)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Levels of groups, finest first; each group lies within one of the level above. No level without two patterns."""

    levels: tuple[Level, ...] = ()

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        groups = [group for level in self.levels for group in level.groups]
        return State(
            {
                "level_sizes": np.array([len(level.groups) for level in self.levels], np.int64),
                "group_sizes": np.array([len(group.members) for group in groups], np.int64),
                "members": np.array([one for group in groups for one in group.members], np.int64),
                "medoids": np.array([group.medoid for group in groups], np.int64),
                "sizes": np.array([group.size for group in groups], np.int64),
                "qualities": np.array([group.quality for group in groups], np.float64),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Hierarchy:
        """Return the hierarchy that `state` was taken from.

        Raises:
            StoreError: the state is damaged, or its levels are not nested.
        """
        level_sizes, group_sizes = state.wholes("level_sizes", None), state.wholes("group_sizes", None)
        count = len(group_sizes)
        members, medoids = state.wholes("members", None), state.wholes("medoids", count)
        sizes, qualities = state.wholes("sizes", count), state.doubles("qualities", count)
        if (level_sizes < 1).any() or level_sizes.sum() != count:
            raise StoreError("saved state: the levels of the hierarchy do not have the groups that are there")
        if (group_sizes < 1).any() or group_sizes.sum() != len(members):
            raise StoreError("saved state: the groups of the hierarchy do not have the members that are there")
        parts = np.split(members, np.cumsum(group_sizes)[:-1]) if count else []
        try:
            groups = [
                Group(int(medoids[row]), tuple(part.tolist()), int(sizes[row]), float(qualities[row]))
                for row, part in enumerate(parts)
            ]
        except InvalidValue as error:
            raise StoreError(f"saved state: hierarchy: {error}") from error
        ends = np.cumsum(level_sizes).tolist()
        levels = tuple(Level(tuple(groups[end - size : end])) for end, size in zip(ends, level_sizes, strict=True))
        _require_nested(levels)
        return cls(levels)


def _require_nested(levels: Sequence[Level]) -> None:
    for level in levels:
        listed = [one for group in level.groups for one in group.members]
        firsts = [group.members[0] for group in level.groups]
        if len(set(listed)) != len(listed) or firsts != sorted(firsts):
            raise StoreError("saved state: two groups of a level of the hierarchy overlap or are out of order")
    for fine, coarse in pairwise(levels):
        above = {one: row for row, group in enumerate(coarse.groups) for one in group.members}
        is_whole = len(above) == sum(len(group.members) for group in fine.groups)
        if not is_whole or any(len({above.get(one) for one in group.members}) != 1 for group in fine.groups):
            raise StoreError("saved state: the levels of the hierarchy are not nested")


@dataclass(frozen=True, slots=True, eq=False)
class Joins:
    """The n - 1 joins of n rows, nearest first: groups `a` and `b` (m,) become group n, n + 1, ... at `distances` (m,).

    Rows are the groups 0 to n - 1; distances are 1 - cosine, averaged over the pairs of members.
    """

    a: Rows
    b: Rows
    distances: Doubles


def average_linkage(vectors: npt.ArrayLike) -> Joins:
    """Return the joins of average linkage on 1 - cosine, in O(n^2) time and 8 n^2 bytes.

    A chain of nearest neighbours is followed until two rows are each other's nearest; those are joined. For average
    linkage that gives the joins of the usual search for the nearest pair. Of equal distances the first row counts.

    Args:
        vectors: Shape (n, d); a zero vector is at distance 1 from all.

    Raises:
        InvalidValue: NaN, infinity or another shape.

    Source:
        Sokal and Michener 1958; Murtagh 1983, A survey of recent advances in hierarchical clustering algorithms.

    >>> joins = average_linkage([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    >>> joins.a.tolist(), joins.b.tolist(), joins.distances.round(3).tolist()
    ([0, 1], [2, 3], [0.2, 0.7])
    """
    unit = normalised(matrix(vectors, what="vectors")).astype(np.float64)
    distances = np.maximum(1.0 - unit @ unit.T, 0.0)
    np.fill_diagonal(distances, np.inf)
    sizes, is_left = np.ones(len(unit)), np.ones(len(unit), np.bool_)
    heights = np.zeros(len(unit))  # distance at which each group was joined; none is below its parts, rounding aside
    found: list[tuple[int, int, float]] = []
    chain: list[int] = []
    while len(found) < len(unit) - 1:
        if not chain:
            chain.append(int(np.argmax(is_left)))
        row = distances[chain[-1]]
        nearest = int(np.argmin(row))
        # Going back wins a tie, so the chain ends.
        if len(chain) > 1 and row[chain[-2]] <= row[nearest]:
            nearest = chain[-2]
            first, second = sorted((chain.pop(), chain.pop()))
            heights[first] = max(heights[first], heights[second], row[nearest])
            found.append((first, second, float(heights[first])))
            _join(distances, sizes, is_left, first, second)
        else:
            chain.append(nearest)
    return _in_order(found, len(unit))


def _join(distances: Doubles, sizes: Doubles, is_left: npt.NDArray[np.bool_], first: int, second: int) -> None:
    # Lance and Williams: the distance to a union is the mean of the distances, weighted by size.
    total = sizes[first] + sizes[second]
    merged = (sizes[first] * distances[first] + sizes[second] * distances[second]) / total
    merged[[first, second]] = np.inf
    distances[first], distances[:, first] = merged, merged
    distances[second], distances[:, second] = np.inf, np.inf
    sizes[first], is_left[second] = total, False


def _in_order(found: Sequence[tuple[int, int, float]], count: int) -> Joins:
    # The chain finds joins out of order, but parts before wholes; sorted, each names the groups of its rows by then.
    found = sorted(found, key=lambda join: join[2])
    group = list(range(count))  # of the row that stands for each group
    a, b = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
    for number, (first, second, _) in enumerate(found):
        a[number], b[number] = sorted((group[first], group[second]))
        group[first] = count + number
    return Joins(a, b, np.array([distance for _, _, distance in found], np.float64))


def arrange(patterns: Sequence[LearnedPattern], *, largest: int = LARGEST) -> Hierarchy:
    """Return the hierarchy of patterns: each level has a quarter of the groups of the one below, down to one group.

    Args:
        patterns: The patterns, each id once; their order does not matter.
        largest: Most patterns that are arranged, at least 2; of more, those of the greatest weight.

    Returns:
        No level for fewer than two patterns. A pattern alone in its group is one of few of its kind.

    Raises:
        DimensionMismatch: centroids of different widths.
        InvalidValue: an id twice, or `largest` below 2.

    >>> vectors = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.4, 0.6]]
    >>> known = [LearnedPattern(i, np.array(v), 5, 5.0, 0.2 * i) for i, v in enumerate(vectors)]
    >>> [[(group.medoid, group.members) for group in level.groups] for level in arrange(known).levels]
    [[(0, (0, 1)), (3, (2, 3, 4))], [(4, (0, 1, 2, 3, 4))]]
    """
    whole(largest, "largest", 2)
    if len({pattern.id for pattern in patterns}) != len(patterns):
        raise InvalidValue("patterns: expected each id once")
    heaviest = sorted(patterns, key=lambda pattern: (-pattern.total_weight, pattern.id))[:largest]
    known = sorted(heaviest, key=lambda pattern: pattern.id)
    if len(known) < 2:
        return Hierarchy()
    width = known[0].centroid.shape[0]
    unit = normalised(np.stack([matrix(pattern.centroid[None], width, "centroid")[0] for pattern in known]))
    joins = average_linkage(unit)
    return Hierarchy(tuple(_level(known, unit, joins, groups) for groups in _cuts(len(known))))


def _cuts(count: int) -> list[int]:
    cuts = [-(-count // _NARROWING)]
    while cuts[-1] > 1:
        cuts.append(-(-cuts[-1] // _NARROWING))
    return cuts


def _level(known: Sequence[LearnedPattern], unit: Floats, joins: Joins, groups: int) -> Level:
    members: dict[int, list[int]] = {row: [row] for row in range(len(known))}
    for number in range(len(known) - groups):
        a, b = int(joins.a[number]), int(joins.b[number])
        members[len(known) + number] = members.pop(a) + members.pop(b)
    ordered = sorted(sorted(rows) for rows in members.values())
    return Level(tuple(_group([known[row] for row in rows], unit[rows]) for rows in ordered))


def _group(patterns: Sequence[LearnedPattern], unit: Floats) -> Group:
    wide = unit.astype(np.float64)
    medoid = int(np.argmax((wide @ wide.sum(axis=0)).round(6)))  # of equals the first
    size = sum(pattern.cluster_size for pattern in patterns)
    quality = sum(pattern.cluster_size * pattern.avg_quality for pattern in patterns) / size
    members = tuple(pattern.id for pattern in patterns)
    return Group(patterns[medoid].id, members, size, min(max(quality, 0.0), 1.0))
