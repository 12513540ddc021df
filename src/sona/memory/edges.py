"""Edges of the memory graph as sorted arrays: what removing, merging and fading make of them, each in one pass.

A pair of rows a < b has the key `a << 32 | b` and one weight per kind of link; 0 stands for no such link. Sorted by
key, a pair is found by bisection, the pairs with one lesser row lie together, and numbering rows anew in their order
keeps the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.errors import StoreError
from sona.memory.nodes import EdgeKind
from sona.state import State

Rows = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_T = TypeVar("_T", bound=np.generic)

KINDS = len(EdgeKind)
EVERY_KIND = (1 << KINDS) - 1
_LOW = (1 << 32) - 1


def keys_of(a_rows: Rows, b_rows: Rows) -> Rows:
    """Return the keys of pairs of rows, in whichever order either pair is given, shape (m,)."""
    keys: Rows = np.minimum(a_rows, b_rows) << 32 | np.maximum(a_rows, b_rows)
    return keys


def greatest(weights: Floats, kinds: Sequence[EdgeKind]) -> Floats:
    """Return the greatest of some columns in each row of `weights`, shape (m, 4); 0 where there are no kinds."""
    columns = (weights[:, kind] for kind in kinds)  # one by one: `max(axis=1)` takes ten times as long
    return reduce(np.maximum, columns, np.zeros(len(weights), np.float32))


def is_linked(weights: Floats) -> Mask:
    """Return whether each row of `weights`, shape (m, 4), has a link of any kind."""
    return greatest(weights, tuple(EdgeKind)) > 0.0


@dataclass(frozen=True, slots=True)
class Decayed:
    """What fading did, in links: a pair that is linked for two reasons has two.

    Args:
        spared: Learned links that were used, or new, since the last time; they keep their weight.
        decayed: Links that lost a share of their weight and stay.
        dropped: Links that became too light.
    """

    spared: int
    decayed: int
    dropped: int


@dataclass(frozen=True, slots=True, eq=False)
class EdgeArrays:
    """Every linked pair once, by ascending key.

    Args:
        keys: `a << 32 | b` with a < b, shape (m,).
        weights: By kind, in [0, 1], 0 for no such link, at least one above 0, shape (m, 4).
        used: A bit per kind but the first, set when the link was used, or made, since the last decay, shape (m,).
    """

    keys: Rows
    weights: Floats
    used: Bits

    @classmethod
    def empty(cls) -> EdgeArrays:
        """Return no edges."""
        return cls(np.zeros(0, np.int64), np.zeros((0, KINDS), np.float32), np.zeros(0, np.uint8))

    def __len__(self) -> int:
        """Return the number m of pairs."""
        return len(self.keys)

    @property
    def a_rows(self) -> Rows:
        """The lesser row of each pair, shape (m,)."""
        rows: Rows = self.keys >> 32
        return rows

    @property
    def b_rows(self) -> Rows:
        """The greater row of each pair, shape (m,)."""
        rows: Rows = self.keys & _LOW
        return rows

    def strengths(self, kinds: Sequence[EdgeKind]) -> Floats:
        """Return the greatest weight of each pair among links of some kinds, shape (m,)."""
        return greatest(self.weights, kinds)

    def chosen(self, mask: Mask) -> EdgeArrays:
        """Return the pairs where `mask`, shape (m,), is true."""
        return self if mask.all() else EdgeArrays(self.keys[mask], self.weights[mask], self.used[mask])

    def joined(self, more: EdgeArrays) -> EdgeArrays:
        """Return these pairs and others, of which none is among these."""
        order = np.argsort(more.keys)
        places = self.keys.searchsorted(more.keys[order]) + np.arange(len(order))
        is_old = np.ones(len(self) + len(order), np.bool_)
        is_old[places] = False
        return EdgeArrays(
            _woven(is_old, self.keys, more.keys[order]),
            _woven(is_old, self.weights, more.weights[order]),
            _woven(is_old, self.used, more.used[order]),
        )

    def renumbered(self, new_row: Rows) -> EdgeArrays:
        """Return the pairs under other row numbers; those at a row numbered -1 are gone.

        Args:
            new_row: By old row; rows that stay keep their order, shape (n,).
        """
        a_rows, b_rows = new_row[self.a_rows], new_row[self.b_rows]
        stays = (a_rows >= 0) & (b_rows >= 0)
        kept = self.chosen(stays)
        return EdgeArrays(a_rows[stays] << 32 | b_rows[stays], kept.weights, kept.used)

    def redirected(self, row_for: Rows) -> EdgeArrays:
        """Return the pairs with both ends replaced: what falls on one pair keeps its greatest weights, loops are gone.

        Args:
            row_for: By row, the row that stands in its place, shape (n,).
        """
        a_rows, b_rows = row_for[self.a_rows], row_for[self.b_rows]
        kept = self.chosen(a_rows != b_rows)
        keys = keys_of(a_rows, b_rows)[a_rows != b_rows]
        if not len(keys):
            return EdgeArrays.empty()
        order = np.argsort(keys)
        keys = keys[order]
        firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        weights = np.maximum.reduceat(kept.weights[order], firsts, axis=0)
        return EdgeArrays(keys[firsts], weights, np.bitwise_or.reduceat(kept.used[order], firsts))

    def without(self, kind: EdgeKind, mask: Mask) -> EdgeArrays:
        """Return the pairs without the links of one kind where `mask`, shape (m,), is true."""
        weights = self.weights.copy()
        weights[mask, kind] = 0.0
        used = np.where(mask, self.used & np.uint8(~(1 << kind) & 0xFF), self.used)
        return EdgeArrays(self.keys, weights, used).chosen(is_linked(weights))

    def decayed(self, *, keep_edge: float, keep_dream: float, min_weight: float) -> tuple[EdgeArrays, Decayed]:
        """Return the pairs after one time of fading, and what it did; see `MemoryGraph.decay`."""
        weights, spared, faded, dropped = self.weights.copy(), 0, 0, 0
        for kind in (EdgeKind.TOGETHER, EdgeKind.DREAM, EdgeKind.PATTERN):
            column = weights[:, kind]
            is_used = (self.used & (1 << kind)).astype(np.bool_)
            fades = (column > 0.0) & ~is_used
            column[fades] *= np.float32(keep_dream if kind == EdgeKind.DREAM else keep_edge)
            falls = fades & ((column < min_weight) | (column == 0.0))
            column[falls] = 0.0
            spared += int(((column > 0.0) & is_used).sum())
            dropped += int(falls.sum())
            faded += int(fades.sum()) - int(falls.sum())
        left = EdgeArrays(self.keys, weights, np.zeros_like(self.used)).chosen(is_linked(weights))
        return left, Decayed(spared, faded, dropped)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State({"keys": self.keys.copy(), "weights": self.weights.copy(), "used": self.used.copy()})

    @classmethod
    def from_state(cls, state: State, count: int) -> EdgeArrays:
        """Return the edges that `state` was taken from.

        Args:
            state: The tree.
            count: Memories n of the graph.

        Raises:
            StoreError: the state is incomplete, or its pairs are none of a graph of n memories.
        """
        keys = state.wholes("keys", None)
        weights = state.floats("weights", len(keys), KINDS)
        used = state.array("used", np.uint8, (len(keys),)).astype(np.uint8, copy=False)
        edges = cls(keys, weights, used)
        is_sorted = bool((keys[1:] > keys[:-1]).all()) and bool((keys >= 0).all())
        in_graph = bool((edges.a_rows < edges.b_rows).all()) and bool((edges.b_rows < count).all())
        in_range = bool(((weights >= 0.0) & (weights <= 1.0)).all()) and bool((used <= EVERY_KIND).all())
        if not (is_sorted and in_graph and in_range and is_linked(weights).all()):
            raise StoreError("saved state: the edges are none of this graph")
        return edges


def _woven(is_old: Mask, old: npt.NDArray[_T], new: npt.NDArray[_T]) -> npt.NDArray[_T]:
    # Both in one array, each in its own order.
    woven = np.empty((len(is_old), *old.shape[1:]), old.dtype)
    woven[is_old], woven[~is_old] = old, new
    return woven
