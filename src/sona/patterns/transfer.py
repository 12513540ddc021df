"""What few outcomes say of a pattern, corrected by what its kin in the hierarchy earned; an option nothing calls.

Measured by `bench/quality_transfer.py` on BANKING77, patterns of fewer than ten outcomes: drawing them towards the mean
of all halves the squared error of their quality where they have about five outcomes, .041 to .021. The hierarchy adds
nothing to that, .021 as with groups drawn by lot. Where kin were made alike on purpose it cuts another 6 to 13 %. So it
does no harm, and helps only where like requests fare alike, which is to be measured first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.errors import InvalidValue
from sona.patterns.catalog import PatternRecord
from sona.patterns.hierarchy import Hierarchy, Level

Doubles: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

_LEAST_VARIANCE = 1e-4  # of one outcome: that all known ones agree is no proof that the next does


@dataclass(frozen=True, slots=True)
class Transferred:
    """The quality of one pattern with what others say of it.

    Args:
        pattern_id: The pattern.
        own: Mean of its own outcomes in [0, 1]; neutral (0.5) without one.
        quality: Its own and others' together, in [0, 1]; equal to `own` with many outcomes.
        weight: Share of `own` in it, in [0, 1]; 0 without outcomes.
    """

    pattern_id: int
    own: float
    quality: float
    weight: float


def transferred(records: Sequence[PatternRecord], hierarchy: Hierarchy) -> tuple[Transferred, ...]:
    """Return the quality of each pattern, drawn towards its group's, and that towards the group's above, and so on.

    Outcomes scatter about the quality of their pattern, patterns about that of their group, groups about that of
    theirs; how much on each level is estimated from all of it (empirical Bayes). Where groups do not differ by more
    than chance, each is taken for what all are.

    Args:
        records: Patterns with the tallies of their outcomes.
        hierarchy: Which of them belong together; a pattern it does not hold is drawn to what all are.

    Returns:
        One for each record, in their order.

    Raises:
        InvalidValue: an id twice.

    Source:
        Normal hierarchical model; variances by DerSimonian and Laird 1986, Meta-analysis in clinical trials.
    """
    ids = [record.pattern.id for record in records]
    if len(set(ids)) != len(ids):
        raise InvalidValue("records: expected each pattern once")
    own = np.array([record.tally.mean for record in records], np.float64)
    counts = np.array([record.tally.count for record in records], np.float64)
    if not counts.any():
        return tuple(Transferred(name, float(mean), float(mean), 0.0) for name, mean in zip(ids, own, strict=True))
    means, variances = [own], [_noise(records) / np.maximum(counts, 1e-9)]
    spreads, parents = [], _parents(ids, hierarchy)
    for parent in parents:
        spreads.append(_spread(means[-1], variances[-1], parent))
        precision = 1.0 / (spreads[-1] + variances[-1])
        total = np.bincount(parent, precision)
        means.append(np.bincount(parent, precision * means[-1]) / total)
        variances.append(1.0 / total)
    quality = means[-1]
    for level in reversed(range(len(parents))):
        above, share = quality[parents[level]], spreads[level] / (spreads[level] + variances[level])
        quality = share * means[level] + (1.0 - share) * above
    weights = spreads[0] / (spreads[0] + variances[0])
    columns = (own, np.clip(quality, 0.0, 1.0), weights * (counts > 0))
    return tuple(Transferred(name, *map(float, row)) for name, *row in zip(ids, *columns, strict=True))


def _noise(records: Sequence[PatternRecord]) -> float:
    # Variance of one outcome about the quality of its pattern, over all patterns with two or more.
    tallies = [record.tally for record in records if record.tally.count > 1]
    degrees = sum(tally.count - 1 for tally in tallies)
    scatter = sum(tally.count * tally.deviation**2 for tally in tallies)
    return max(scatter / degrees, _LEAST_VARIANCE) if degrees else 0.25  # the most that outcomes in [0, 1] can have


def _spread(means: Doubles, variances: Doubles, parent: Rows) -> float:
    # Variance of the true means about that of their parent, beyond what their own uncertainty explains.
    precision = 1.0 / variances
    total = np.bincount(parent, precision)
    centre = np.bincount(parent, precision * means) / total
    excess = float(precision @ (means - centre[parent]) ** 2) - (len(means) - len(total))
    freedom = float(precision.sum() - (np.bincount(parent, precision**2) / total).sum())
    return max(excess / freedom, 0.0) if freedom > 1e-9 else 0.0


def _parents(ids: Sequence[int], hierarchy: Hierarchy) -> list[Rows]:
    # For each level the group of each pattern, then of each group of the level below; last, one group of all.
    listed = [_places(level, ids) for level in hierarchy.levels]
    parents, below = [], np.arange(len(ids))
    for groups in [*listed, [0] * len(ids)]:
        _, group = np.unique(groups, return_inverse=True)
        count = int(below.max()) + 1
        parent = np.zeros(count, np.int64)
        parent[below] = group
        parents.append(parent)
        below = group
    return parents


def _places(level: Level, ids: Sequence[int]) -> list[int]:
    place_of = {name: place for place, group in enumerate(level.groups) for name in group.members}
    return [place_of.get(name, -1 - row) for row, name in enumerate(ids)]  # a stranger is a group of its own
