"""Samples of a memory that is too large to be evaluated whole: what a walk comes by, and what their mean says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.dreams.dynamics import Doubles
from sona.memory.nodes import Adjacency
from sona.patterns.welch import student_two_sided

Rows: TypeAlias = npt.NDArray[np.int64]

_STEPS_A_NODE = 16  # a walk that comes by nothing new ends after so many steps for each memory it was to gather
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class MemoryPhi:
    """Phi of the neighbourhoods of a memory.

    Args:
        mean: Over the sampled neighbourhoods; 0 without one.
        low: Lower end of an interval for the mean over all neighbourhoods, level 95 % (approximate).
        high: Its upper end.
        samples: How many neighbourhoods.
    """

    mean: float
    low: float
    high: float
    samples: int


def neighbourhood(adjacency: Adjacency, start: int, nodes: int, rng: np.random.Generator) -> Rows:
    """Return up to `nodes` memories that a walk along links comes by from `start`, ascending.

    Each link of a memory is taken with the same chance. There are fewer where the walk finds no more: none is
    linked, or it went on for 16 steps a memory.
    """
    found, at = {start}, start
    for draw in rng.random(_STEPS_A_NODE * nodes):
        neighbours, _ = adjacency.of(at)
        if len(found) >= nodes or not len(neighbours):
            break
        at = int(neighbours[int(draw * len(neighbours))])
        found.add(at)
    return np.array(sorted(found), np.int64)


def links_among(adjacency: Adjacency, rows: Rows) -> Doubles:
    """Return the weights of the links among the memories `rows`, ascending and distinct; shape (k, k), 0 for none."""
    weights = np.zeros((len(rows), len(rows)))
    for place, row in enumerate(rows.tolist()):
        neighbours, found = adjacency.of(row)
        columns = np.minimum(np.searchsorted(rows, neighbours), len(rows) - 1)
        is_inside = rows[columns] == neighbours
        weights[place, columns[is_inside]] = found[is_inside]
    return weights


def mean_of_samples(values: Sequence[float]) -> MemoryPhi:
    """Return the mean of independent `values` in [0, 1] with an approximate 95 % interval.

    It is Student's, cut to [0, 1]. Values that are all alike say nothing of their spread: then the interval reaches
    as far as rare others, which that many draws miss with a chance of 5 %, could move the mean.

    >>> mean_of_samples([0.2, 0.4, 0.3])
    MemoryPhi(mean=0.3, low=0.05158..., high=0.54841..., samples=3)
    """
    count = len(values)
    if count == 0:
        return MemoryPhi(0.0, 0.0, 0.0, 0)
    mean = min(math.fsum(values) / count, 1.0)
    if min(values) == max(values):
        unseen = 1.0 - _LEVEL ** (1.0 / count)
        return MemoryPhi(mean, mean * (1.0 - unseen), mean + (1.0 - mean) * unseen, count)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    reach = student_quantile(count - 1) * error
    return MemoryPhi(mean, max(mean - reach, 0.0), min(mean + reach, 1.0), count)


def student_quantile(degrees: float) -> float:
    """Return t that |T| of Student's t with `degrees` of freedom, at least 1, exceeds with a chance of 5 %.

    >>> round(student_quantile(15.0), 4)
    2.1314
    """
    low, high = 1.0, 16.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if student_two_sided(middle, degrees) > _LEVEL else (low, middle)
    return low
