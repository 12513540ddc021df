"""What a walk is worth: how new, how coherent, how useful and how varied the memories are that it brings together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.config import DreamConfig
from sona.dreams.walk import Doubles, Rows, Terrain
from sona.memory.nodes import Adjacency


@dataclass(frozen=True, slots=True, eq=False)
class Company:
    """The u distinct memories of a walk, and how each two of them stand to each other.

    Args:
        rows: Rows of the memories, ascending, shape (u,).
        nearness: Sum over their meetings of 1 / steps between them, 0 for those that never met, shape (u, u).
        cosines: Of their vectors, shape (u, u).
        linked: Whether they are linked, shape (u, u).
    """

    rows: Rows
    nearness: Doubles
    cosines: Doubles
    linked: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Merits:
    """What a dream is worth, each figure in [0, 1].

    Args:
        novelty: Share of the pairs that are not linked yet.
        coherence: Mean cosine of the pairs, 0 where it is negative.
        utility: Mean worth of the memories.
        diversity: 1 - mean cosine of any two of the memories.
        score: Mean of novelty, coherence and utility by the weights of the settings; 0 without a pair.
    """

    novelty: float
    coherence: float
    utility: float
    diversity: float
    score: float


def nearness(places: Rows, window: int) -> Doubles:
    """Return for any two places how near a walk brought them: the sum of 1 / steps over their meetings.

    Args:
        places: Place visited in each step, from 0, shape (steps,).
        window: Most steps between two that meet.

    Returns:
        Symmetric with zeros on the diagonal, shape (u, u) for u distinct places.

    >>> nearness(np.array([0, 1, 2, 0]), window=2)
    array([[0. , 1.5, 1.5],
           [1.5, 0. , 1. ],
           [1.5, 1. , 0. ]])
    """
    count = int(places.max(initial=-1)) + 1
    near = np.zeros((count, count))
    for steps in range(1, min(window, len(places) - 1) + 1):
        np.add.at(near, (places[:-steps], places[steps:]), 1.0 / steps)
    np.fill_diagonal(near, 0.0)
    return near + near.T


def linked_among(adjacency: Adjacency, rows: Rows) -> npt.NDArray[np.bool_]:
    """Return which of the memories `rows`, ascending, are linked to each other, shape (u, u)."""
    linked = np.zeros((len(rows), len(rows)), np.bool_)
    for place, row in enumerate(rows.tolist()):
        neighbours, _ = adjacency.of(row)
        if len(neighbours):
            found = neighbours.searchsorted(rows).clip(max=len(neighbours) - 1)
            linked[place] = neighbours[found] == rows
    return linked


def company_of(terrain: Terrain, rows: Rows, window: int) -> Company:
    """Return the distinct memories of a walk over `rows`, and how they stand to each other within `window` steps."""
    distinct, places = np.unique(rows, return_inverse=True)
    vectors = terrain.vectors[distinct].astype(np.float64)
    cosines = (vectors @ vectors.T).clip(-1.0, 1.0)
    return Company(distinct, nearness(places, window), cosines, linked_among(terrain.adjacency, distinct))


def merits_of(company: Company, worth: Doubles, config: DreamConfig) -> Merits:
    """Return what a dream is worth: the weighted mean of novelty, coherence and utility, and 0 without a pair.

    With P the pairs of distinct memories that met within the window and V the memories visited:
    novelty = |{p in P: not linked}| / |P|, coherence = max(0, mean over P of cos), utility = mean over V of worth,
    diversity = 1 - mean cos over all pairs of V, within [0, 1].

    Args:
        company: The memories visited.
        worth: What each is worth, in [0, 1], shape (u,).
        config: The weights.
    """
    met = np.triu(company.nearness, 1) > 0.0
    utility = float(worth.mean()) if len(worth) else 0.0
    if not met.any():
        return Merits(0.0, 0.0, utility, 0.0, 0.0)
    novelty = float((~company.linked[met]).mean())
    coherence = max(float(company.cosines[met].mean()), 0.0)
    apart = 1.0 - company.cosines[np.triu_indices(len(worth), 1)].mean()
    weights = (config.novelty_weight, config.coherence_weight, config.utility_weight)
    total = float(np.dot(weights, (novelty, coherence, utility)) / sum(weights))
    return Merits(novelty, coherence, utility, float(apart.clip(0.0, 1.0)), total)
