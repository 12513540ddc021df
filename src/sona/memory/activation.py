"""Spreading activation: what is linked, over a few steps, to what is near."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import setting_number, setting_whole
from sona.memory.edges import Rows
from sona.memory.links import Around

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """How active some memories are; all others are at rest.

    Args:
        rows: Of the memories, ascending, each once, shape (k,).
        values: Above 0, in all 1, shape (k,); none where nothing was active at the start.
    """

    rows: Rows
    values: Doubles

    @classmethod
    def of(cls, rows: Rows, values: Doubles) -> Activation:
        """Return the activation of `rows`, repeated or not, scaled to 1 in all."""
        total = float(values.sum())
        if total <= 0.0:
            return cls(np.zeros(0, np.int64), np.zeros(0))
        found, inverse = np.unique(rows, return_inverse=True)
        sums = np.bincount(inverse, values / total, len(found)).astype(np.float64)
        return cls(found[sums > 0.0], sums[sums > 0.0])


def spread(around: Callable[[Rows], Around], seeds: Activation, *, hops: int, restart: float) -> Activation:
    """Return `p` after so many steps of `p <- restart * s + (1 - restart) * W' p`, begun at the seeds `s`.

    `W` holds the weights of the links, each memory's divided by their sum; what stands on a memory without links goes
    back to the seeds. This is personalised PageRank cut short: it reaches no memory farther than `hops` links, and its
    cost is that of the links of those it reaches.

    Args:
        around: Returns the links of given rows, such as `Adjacency` or a graph has them.
        seeds: Where activation starts.
        hops: Steps.
        restart: Share that starts again at the seeds in every step.

    Raises:
        ConfigError: fewer than 0 hops, or `restart` outside [0, 1].

    >>> from sona.memory.edges import EdgeArrays
    >>> from sona.memory.links import Links
    >>> one = EdgeArrays(np.array([1]), np.array([[0.5, 0, 0, 0]], np.float32), np.zeros(1, np.uint8))
    >>> start = Activation.of(np.array([0]), np.ones(1))
    >>> found = spread(lambda rows: Links.of(one).around(rows, one.weights), start, hops=1, restart=0.25)
    >>> found.rows.tolist(), found.values.tolist()
    ([0, 1], [0.25, 0.75])

    Source:
        Page, Brin, Motwani and Winograd 1999, section 6; Collins and Loftus 1975 for the idea.
    """
    setting_whole(hops, "hops", 0)
    setting_number(restart, "restart", 0.0, 1.0)
    active = seeds
    for _ in range(hops):
        links = around(active.rows)
        totals = np.bincount(links.owners, links.weights, len(active.rows))
        stuck = float(active.values[totals == 0.0].sum())
        per_weight = np.divide(active.values, totals, out=np.zeros(len(totals)), where=totals > 0.0)
        again = restart + (1.0 - restart) * stuck
        moved = ((1.0 - restart) * per_weight)[links.owners] * links.weights
        rows = np.concatenate([seeds.rows, links.neighbours])
        active = Activation.of(rows, np.concatenate([again * seeds.values, moved]))
    return active
