"""Who is linked to whom, memory by memory: compressed sparse rows over the sorted pairs, made in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.memory.edges import EdgeArrays, Rows, greatest
from sona.memory.nodes import Adjacency, EdgeKind


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """The links of some memories, in the order of those memories and of the rows at the other end.

    Args:
        owners: Which of the memories asked about each link is of, shape (m,).
        neighbours: Row at the other end, shape (m,).
        weights: In (0, 1], shape (m,).
    """

    owners: Rows
    neighbours: Rows
    weights: Floats

    def joined(self, more: Around) -> Around:
        """Return these links and others in one order, whichever came from where."""
        owners = np.concatenate([self.owners, more.owners])
        neighbours = np.concatenate([self.neighbours, more.neighbours])
        order = np.lexsort((neighbours, owners))
        return Around(owners[order], neighbours[order], np.concatenate([self.weights, more.weights])[order])


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Each pair of `EdgeArrays` twice, once from either end.

    Args:
        starts: Row i has the entries starts[i] to starts[i + 1]; rows beyond have none, shape (n + 1,).
        neighbours: Rows at the other end, ascending within each row, shape (2 m,).
        places: Where the pair stands among the edges, shape (2 m,).
    """

    starts: Rows
    neighbours: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]

    @classmethod
    def of(cls, edges: EdgeArrays) -> Links:
        """Return the links of `edges`.

        A row's lesser neighbours come first: those pairs sorted by their greater row. Its greater neighbours follow,
        and lie together already.
        """
        a_rows, b_rows, count = edges.a_rows, edges.b_rows, len(edges)
        size = int(b_rows.max()) + 1 if count else 0
        by_b = np.sort(b_rows << 32 | np.arange(count)) & ((1 << 32) - 1)  # four times as fast as argsort
        lesser, greater = np.bincount(b_rows, minlength=size), np.bincount(a_rows, minlength=size)
        starts = np.concatenate([[0], np.cumsum(lesser + greater)])
        neighbours, places = np.empty(2 * count, np.int32), np.empty(2 * count, np.int32)
        greater_before, lesser_before = np.cumsum(greater) - greater, np.cumsum(lesser) - lesser
        ahead = np.arange(count) + (starts[:-1] + lesser - greater_before)[a_rows]
        neighbours[ahead], places[ahead] = b_rows, np.arange(count)
        behind = np.arange(count) + (starts[:-1] - lesser_before)[b_rows[by_b]]
        neighbours[behind], places[behind] = a_rows[by_b], by_b
        return cls(starts, neighbours, places)

    def adjacency(self, strengths: Floats, count: int) -> Adjacency:
        """Return the links as others read them.

        Args:
            strengths: Of the pairs, shape (m,); those of strength 0 are left out.
            count: Memories of the graph.
        """
        missing = count + 1 - len(self.starts)
        starts = np.concatenate([self.starts, np.full(missing, self.starts[-1])])
        weights = strengths[self.places]
        if (strengths > 0.0).all():
            return Adjacency(starts, self.neighbours, weights)
        is_there = weights > 0.0
        before = np.concatenate([[0], np.cumsum(is_there)])
        return Adjacency(before[starts], self.neighbours[is_there], weights[is_there])

    def around(self, rows: Rows, weights: Floats) -> Around:
        """Return the links of `rows`, shape (k,).

        Args:
            rows: Of the memories.
            weights: Of the pairs, by kind, shape (m, 4) or more.
        """
        owners, entries = self.entries(rows)
        strengths = greatest(weights[self.places[entries]], tuple(EdgeKind))
        return Around(owners, self.neighbours[entries].astype(np.int64), strengths)

    def entries(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return where the links of `rows`, shape (k,), stand, and which of those rows each is of, shape (m,) both."""
        last = len(self.starts) - 1
        lows = self.starts[np.minimum(rows, last)]
        counts = self.starts[np.minimum(rows + 1, last)] - lows
        owners = np.repeat(np.arange(len(rows)), counts)
        return owners, np.arange(len(owners)) + np.repeat(lows - (np.cumsum(counts) - counts), counts)
