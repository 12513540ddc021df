"""The edges of a memory graph while they change: looked up and moved in microseconds, put in order when it pays.

Settled pairs stand in sorted arrays. A pair that is new waits behind them, known by its key, until so many wait that
sorting them in costs little for each, or until somebody asks for everything. What is read never depends on which pairs
wait: the same calls give the same weights, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from sona.checks import Floats
from sona.memory.edges import KINDS, EdgeArrays, Rows, greatest
from sona.memory.links import Around, Links
from sona.memory.nodes import Adjacency, EdgeKind

LIGHTEST = 1e-6  # weakening alone never ends a link; fading does
LEAST_ROOM = 1024  # pairs that may wait, at least; beyond, a sixty-fourth of those that are settled
_BEYOND = np.iinfo(np.int64).max  # a key that no pair has, so that every search ends at some key
_LOW = (1 << 32) - 1


class EdgeTable:
    """Weighted links between rows; readers and writers take turns, which the caller sees to."""

    __slots__ = (
        "_adjacencies",
        "_end",
        "_fresh",
        "_fresh_of",
        "_key_at",
        "_keys",
        "_links",
        "_room",
        "_settled",
        "_used",
        "_used_at",
        "_weight_of",
        "_weights",
    )

    def __init__(self, edges: EdgeArrays | None = None) -> None:
        """Hold `edges`; none when None."""
        self.replace(edges or EdgeArrays.empty())

    def __len__(self) -> int:
        """Return how many pairs are linked."""
        return self._end

    def replace(self, edges: EdgeArrays, *, room_for: int = 0) -> None:
        """Hold `edges`, which are copied, and no others, with room for at least so many more to wait."""
        count = len(edges)
        self._room = room = count + max(LEAST_ROOM, count // 64, room_for)
        self._settled = self._end = count  # the settled pairs, and with those that wait
        self._links: Links | None = None
        self._adjacencies: dict[tuple[EdgeKind, ...], Adjacency] = {}  # of the kinds asked for, until something changes
        self._fresh: dict[int, int] = {}  # key of a pair that waits -> its place behind the settled ones
        self._fresh_of: dict[int, list[int]] = {}  # row -> keys of its pairs that wait
        self._keys = np.append(edges.keys, _BEYOND)
        self._weights, self._used = np.zeros((room, KINDS), np.float32), np.zeros(room, np.uint8)
        self._weights[:count], self._used[:count] = edges.weights, edges.used
        # A memoryview reads and writes one number in a third of the time that numpy takes for it.
        self._key_at, self._used_at = self._keys.data, self._used.data
        self._weight_of = [cast("memoryview[float]", self._weights[:, kind].data) for kind in EdgeKind]

    def arrays(self) -> EdgeArrays:
        """Return every pair in order, as copies."""
        self._settle()
        edges = self._settled_arrays()
        return EdgeArrays(edges.keys.copy(), edges.weights.copy(), edges.used.copy())

    def _settle(self) -> None:
        # Sorts in the pairs that wait.
        if not self._fresh:
            return
        count, end = self._settled, self._end
        keys = np.fromiter(self._fresh, np.int64, len(self._fresh))
        self.replace(self._settled_arrays().joined(EdgeArrays(keys, self._weights[count:end], self._used[count:end])))

    def _make_room(self, more: int) -> bool:
        # False when so many are more than ever wait.
        if self._end + more > self._room:
            self._settle()
        return self._end + more <= self._room

    def _places(self, keys: Sequence[int] | Rows) -> list[int]:
        # Where each pair stands, -1 when it is not linked.
        key_at, fresh = self._key_at, self._fresh
        found = self._keys.searchsorted(np.asarray(keys, np.int64)).tolist()
        return [at if key_at[at] == key else fresh.get(key, -1) for key, at in zip(keys, found, strict=True)]

    def _append(self, key: int) -> int:
        place = self._end
        self._end += 1
        self._fresh[key] = place
        self._fresh_of.setdefault(key >> 32, []).append(key)
        self._fresh_of.setdefault(key & _LOW, []).append(key)
        return place

    def weights_of(self, key: int) -> tuple[float, ...]:
        """Return the weights of one pair by kind; all 0 when it is not linked."""
        place = self._places([key])[0]
        return (0.0,) * KINDS if place < 0 else tuple(self._weights[place].tolist())

    def link(self, keys: Rows, kind: EdgeKind, weights: Floats) -> int:
        """Link pairs, the greater weight winning where a link is there already; return how many links are new.

        Args:
            keys: Of the pairs, in any order, repeated or not, shape (m,).
            kind: Why they are linked.
            weights: In (0, 1], shape (m,).
        """
        order = np.lexsort((-weights, keys))
        keys, weights = keys[order], weights[order]
        firsts = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, np.bool_)
        keys, weights = keys[firsts], weights[firsts]
        if not self._make_room(len(keys)):
            return self._link_many(keys, kind, weights)
        places = [
            self._append(key) if at < 0 else at for key, at in zip(keys.tolist(), self._places(keys), strict=True)
        ]
        return self._raise(np.array(places, np.int64), kind, weights)

    def _link_many(self, keys: Rows, kind: EdgeKind, weights: Floats) -> int:
        settled = self.arrays()
        is_new = self._keys[self._keys.searchsorted(keys)] != keys
        fresh = keys[is_new]
        nothing = np.zeros((len(fresh), KINDS), np.float32)
        self.replace(settled.joined(EdgeArrays(fresh, nothing, np.zeros(len(fresh), np.uint8))))
        return self._raise(self._keys.searchsorted(keys), kind, weights)

    def _raise(self, places: Rows, kind: EdgeKind, weights: Floats) -> int:
        held = self._weights[places, kind]
        is_new = held == 0.0
        self._weights[places, kind] = np.maximum(held, weights)
        if kind != EdgeKind.SIMILAR:
            self._used[places[is_new]] |= np.uint8(1 << kind)
        self._adjacencies.clear()
        return int(is_new.sum())

    def serve(self, keys: Sequence[int], shares: Sequence[float], weaken: float) -> None:
        """Strengthen the pairs that served together, and weaken those of which one end was shown in vain.

        Args:
            keys: Each once, first those that served together: a pair among them without a link gets one, a later one
                gets none.
            shares: Share of what is missing to 1 that each of the first gains, in (0, 1].
            weaken: Share that each of the others loses.
        """
        if not self._make_room(len(shares)):
            self.replace(self.arrays(), room_for=len(shares))
        found = self._keys.searchsorted(np.array(keys, np.int64)).tolist()
        pairs = zip(keys, found, strict=True)
        key_at, fresh = self._key_at, self._fresh
        for share, (key, place) in zip(shares, pairs, strict=False):  # the shares end first, and then no pair is lost
            self._strengthen(place if key_at[place] == key else fresh.get(key, -1), key, share)
        keep, (_, together, dream, _) = 1.0 - weaken, self._weight_of
        for key, settled in pairs:
            place = settled if key_at[settled] == key else fresh.get(key, -1)
            if place >= 0:
                if held := together[place]:
                    together[place] = max(held * keep, min(held, LIGHTEST))
                if held := dream[place]:
                    dream[place] = max(held * keep, min(held, LIGHTEST))
        self._adjacencies.clear()

    def _strengthen(self, found: int, key: int, share: float) -> None:
        place = self._append(key) if found < 0 else found
        _, together, dream, pattern = self._weight_of
        together[place] += share * (1.0 - together[place])
        used = 1 << EdgeKind.TOGETHER
        if held := dream[place]:
            dream[place] = held + share * (1.0 - held)
            used |= 1 << EdgeKind.DREAM
        if pattern[place]:
            used |= 1 << EdgeKind.PATTERN
        self._used_at[place] |= used

    def adjacency(self, count: int, kinds: tuple[EdgeKind, ...]) -> Adjacency:
        """Return the links of `count` memories, each pair by its greatest weight; kept until something changes."""
        kept = self._adjacencies.get(kinds)
        if kept is None or len(kept) != count:
            self._settle()
            kept = self._settled_links().adjacency(self._settled_arrays().strengths(kinds), count)
            self._adjacencies[kinds] = kept
        return kept

    def _settled_arrays(self) -> EdgeArrays:
        # Views of what is settled.
        count = self._settled
        return EdgeArrays(self._keys[:count], self._weights[:count], self._used[:count])

    def _settled_links(self) -> Links:
        if self._links is None:
            self._links = Links.of(self._settled_arrays())
        return self._links

    def around(self, rows: Rows) -> Around:
        """Return the links of the memories at `rows`, shape (k,), as they are now."""
        settled = self._settled_links().around(rows, self._weights)
        if not self._fresh:
            return settled
        of = self._fresh_of
        found = [(owner, key) for owner, row in enumerate(rows.tolist()) for key in of.get(row, ())]
        if not found:
            return settled
        owners, keys = (np.array(column, np.int64) for column in zip(*found, strict=True))
        ends = np.where(keys >> 32 == rows[owners], keys & _LOW, keys >> 32)
        places = [self._fresh[key] for _, key in found]
        return settled.joined(Around(owners, ends, greatest(self._weights[places], tuple(EdgeKind))))
