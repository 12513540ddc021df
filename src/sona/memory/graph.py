"""The memory graph: memories, and typed links between them that grow with use and fade without.

Loop A counts what served together; consolidation lets fade what did not; dreams and similarity propose. A memory is a
row of arrays and a link a row of sorted arrays, so that what concerns all of them is one pass, and what concerns one
request a handful of look-ups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, islice

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, embeddings, finite, fraction, setting_whole
from sona.config import GraphConfig
from sona.errors import InvalidValue, MemoryGraphError, StoreError
from sona.memory.activation import Activation, spread
from sona.memory.edges import Decayed, EdgeArrays, Rows, keys_of
from sona.memory.members import Members
from sona.memory.nodes import Adjacency, Edge, EdgeKind, MemoryNode
from sona.memory.roster import Roster
from sona.memory.table import EdgeTable
from sona.memory.votes import unit
from sona.state import State

__all__ = ["Decayed", "EdgeArrays", "MemoryGraph"]


class MemoryGraph(Members):
    """Memories and the links between them; deterministic to the bit, whatever is read in between.

    Rows number the memories 0 to n - 1; removing some moves the later ones up, in order. Readers and writers take
    turns, which the caller sees to; an `Adjacency` and `EdgeArrays` once returned never change.

    Args:
        hidden_dim: Width d of the embeddings.
        config: Settings.

    >>> graph = MemoryGraph(2)
    >>> [graph.add(MemoryNode(name, np.array(x))) for name, x in (("a", [1.0, 0.0]), ("b", [1.0, 1.0]))]
    [0, 1]
    >>> graph.served({"a": 1.0, "b": 1.0}, [], now=1.0)
    >>> graph.edge("a", "b")
    (Edge(a='a', b='b', kind=<EdgeKind.TOGETHER: 1>, weight=0.05000000074505806),)
    """

    def __init__(self, hidden_dim: int, config: GraphConfig | None = None) -> None:
        """Make an empty graph.

        Raises:
            ConfigError: `hidden_dim` is not at least 1.
        """
        setting_whole(hidden_dim, "hidden_dim", 1)
        self.config = config or GraphConfig()
        self._dim = hidden_dim
        self._roster = Roster(hidden_dim)
        self._table = EdgeTable()

    # -- memories ------------------------------------------------------------------------------------------------

    def add(self, node: MemoryNode) -> int:
        """Add a memory without links, and return its row.

        Raises:
            MemoryGraphError: there is one of this id, or no room; nothing was changed.
            InvalidValue: an embedding that cannot be used; nothing was changed.
        """
        if node.id in self._roster.row_of:
            raise MemoryGraphError(f"memory {node.id!r} is in the graph already; put replaces it")
        self._check_embedding(node.embedding)
        if self.is_full:
            raise MemoryGraphError(f"the graph is full: {self.config.capacity} memories; raise capacity or remove some")
        return self._roster.add(node)

    def put(self, node: MemoryNode) -> int:
        """Add a memory, or give the one of its id another embedding, payload, kind and importance; return its row.

        What it was counted, its sources and its learned links stay. Where the embedding differs, links of similarity
        go: they are none of the new one.

        Raises:
            MemoryGraphError: there is no room; nothing was changed.
            InvalidValue: an embedding that cannot be used; nothing was changed.
        """
        row = self._roster.row_of.get(node.id)
        if row is None:
            return self.add(node)
        self._check_embedding(node.embedding)
        if self._roster.change(row, node):
            self._drop_similar(np.array([row]))
        return row

    def _check_embedding(self, embedding: Floats) -> None:
        embeddings(embedding, self._dim, "embedding")

    def _drop_similar(self, rows: Rows) -> None:
        if not len(self._table):
            return
        edges, moved = self._table.arrays(), np.zeros(len(self), np.bool_)
        moved[rows] = True
        touched = (moved[edges.a_rows] | moved[edges.b_rows]) & (edges.weights[:, EdgeKind.SIMILAR] > 0.0)
        if touched.any():
            self._table.replace(edges.without(EdgeKind.SIMILAR, touched))

    def re_embed(self, vectors: Floats) -> int:
        """Give every memory an embedding anew, by row, and return how many have another one now.

        Links of similarity go where the embedding differs; everything else stays.

        Args:
            vectors: Shape (n, d).

        Raises:
            InvalidValue: vectors that cannot be used, or another number of them; nothing was changed.
        """
        fresh, held = embeddings(vectors, self._dim, "vectors"), self._roster.vectors
        if fresh.shape != held.shape:
            raise InvalidValue(f"vectors: expected shape {held.shape}, got {fresh.shape}")
        differ = np.flatnonzero((fresh != held).any(axis=1))
        held[differ] = unit(fresh[differ])
        self._drop_similar(differ)
        return len(differ)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove memories with their links, and return how many; ids that the graph does not know are passed over.

        The time is that of one pass over the graph, however many go.
        """
        rows = {self._roster.row_of[name] for name in ids if name in self._roster.row_of}
        if rows:
            edges = self._table.arrays()
            self._table.replace(edges.renumbered(self._roster.remove(rows)))
        return len(rows)

    def merged(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Merge memories into others, and return how many are gone.

        Of each pair (kept, gone), the kept one keeps its embedding and payload, gets the links of the other (of two of
        a kind the greater weight), its counts and rewards on top of its own, and its id and sources as sources. A kept
        one may take in several. The time is that of one pass over the graph, however many pairs there are.

        Raises:
            MemoryGraphError: an id the graph does not know; nothing was changed.
            InvalidValue: a memory that is to go twice, or is to go and to be kept; nothing was changed.
        """
        rows = [(self._row(kept), self._row(gone)) for kept, gone in pairs]
        leaving = {gone for _, gone in rows}
        if len(leaving) < len(rows):
            raise InvalidValue("pairs: a memory is to go twice")
        if leaving & {kept for kept, _ in rows}:
            raise InvalidValue("pairs: a memory is to go and to be kept")
        if not rows:
            return 0
        row_for = np.arange(len(self))
        row_for[[gone for _, gone in rows]] = [kept for kept, _ in rows]
        edges = self._table.arrays().redirected(row_for)
        self._roster.absorb(rows)
        self._table.replace(edges.renumbered(self._roster.remove(leaving)))
        return len(leaving)

    # -- links ---------------------------------------------------------------------------------------------------

    @property
    def edge_count(self) -> int:
        """How many pairs of memories are linked, for whatever reasons."""
        return len(self._table)

    def edge(self, a: str, b: str) -> tuple[Edge, ...]:
        """Return the links between two memories, by kind; none when they are not linked.

        Raises:
            MemoryGraphError: an id the graph does not know.
        """
        one, other = sorted((self._row(a), self._row(b)))
        weights = self._table.weights_of(one << 32 | other)
        return tuple(Edge(a, b, EdgeKind(kind), weight) for kind, weight in enumerate(weights) if weight > 0.0)

    def edges(self) -> EdgeArrays:
        """Return every linked pair, in the order of their rows."""
        return self._table.arrays()

    def connect(self, a: str, b: str, kind: EdgeKind, weight: float) -> bool:
        """Link two memories, or raise the weight of their link to `weight`; return True when the link is new.

        Raises:
            MemoryGraphError: an id the graph does not know, or a memory linked to itself; nothing was changed.
            InvalidValue: a weight outside (0, 1]; nothing was changed.
        """
        return self.link([self._row(a)], [self._row(b)], kind, [weight]) == 1

    def link(self, a_rows: npt.ArrayLike, b_rows: npt.ArrayLike, kind: EdgeKind, weights: npt.ArrayLike) -> int:
        """Link pairs of rows, the greater weight winning where a link is there already; return how many are new.

        A new link is spared by the next decay.

        Args:
            a_rows: One end of each, shape (m,).
            b_rows: The other, shape (m,).
            kind: Why they are linked.
            weights: In (0, 1], shape (m,).

        Raises:
            MemoryGraphError: a row the graph does not have, or one linked to itself; nothing was changed.
            InvalidValue: shapes that do not fit, or a weight outside (0, 1]; nothing was changed.
        """
        ones, others = np.asarray(a_rows), np.asarray(b_rows)
        given = np.asarray(weights, np.float64).astype(np.float32)
        if not (ones.ndim == 1 and ones.shape == others.shape == given.shape):
            raise InvalidValue(
                f"links: expected three lists of one length, got {ones.shape}, {others.shape}, {given.shape}"
            )
        if not ((given > 0.0) & (given <= 1.0)).all():  # NaN fails this too
            raise InvalidValue("weights: expected numbers in (0, 1]")
        if not len(ones):
            return 0
        if not (ones.dtype.kind in "iu" and others.dtype.kind in "iu"):
            raise InvalidValue(f"rows: expected whole numbers, got {ones.dtype} and {others.dtype}")
        least, greatest = min(ones.min(), others.min()), max(ones.max(), others.max())
        if least < 0 or greatest >= len(self):
            raise MemoryGraphError(f"links: rows {least} to {greatest} in a graph of {len(self)} memories")
        if (ones == others).any():
            raise MemoryGraphError("links: a memory cannot be linked to itself")
        return self._table.link(keys_of(ones.astype(np.int64), others.astype(np.int64)), EdgeKind(kind), given)

    def served(self, used: Mapping[str, float], unused: Iterable[str], *, now: float) -> None:
        """Learn from one request which memories serve together: `w += strengthen * (1 - w)` for pairs that did.

        Two memories that both earned something are linked as having served together, the more the lesser of the two
        rewards; a dream that linked them is confirmed likewise. Where one earned something and the other was shown in
        vain, links of either kind that are there lose the share `weaken`. Links of similarity stay. At most
        `max_pairs` pairs are looked at, in the order given, those that served together first. Every memory is counted
        as shown, and those that earned something as accessed.

        Nothing is taken back: feedback that is amended later teaches again on top. What one request can move is
        bounded by `strengthen`, and fades.

        Args:
            used: What each earned that was shown and taken, in [0, 1], by id; one that earned 0 was shown in vain.
                Ids that the graph does not know are passed over, here and below.
            unused: Ids that were shown and not taken; those that are among `used` too count there.
            now: The time, seconds.

        Raises:
            InvalidValue: a reward outside [0, 1], or a time that is not finite; nothing was changed.
        """
        finite(now, "now")
        find = self._roster.row_of.get
        earned: dict[int, float] = {}
        vain: dict[int, None] = {}
        for name, given in used.items():
            reward, row = fraction(given, "reward"), find(name)
            if row is not None and reward > 0.0:
                earned[row] = reward
            elif row is not None:
                vain[row] = None
        for name in unused:
            row = find(name)
            if row is not None and row not in earned:
                vain[row] = None
        self._roster.serve(earned, vain, now)
        self._learn(earned, vain)

    def _learn(self, earned: Mapping[int, float], vain: Iterable[int]) -> None:
        most, strengthen = self.config.max_pairs, self.config.strengthen
        keys: list[int] = []
        shares: list[float] = []
        if strengthen > 0.0:
            for (one, first), (other, second) in islice(combinations(earned.items(), 2), most):
                keys.append(one << 32 | other if one < other else other << 32 | one)
                shares.append(strengthen * (first if first < second else second))
        for one in earned:
            high = one << 32
            keys += [high | other if one < other else other << 32 | one for other in vain]
        if keys:
            self._table.serve(keys if len(keys) <= most else keys[:most], shares, self.config.weaken)

    def decay(self, *, keep_edge: float, keep_dream: float, min_weight: float) -> Decayed:
        """Let fade what was learned and not used since the last time, and return what that did.

        Links of having served together and of patterns keep the share `keep_edge` of their weight, dreams the share
        `keep_dream`; those that are then lighter than `min_weight` are dropped. Links that were used or made since the
        last decay are spared, whatever their weight, and are as unused as all others from now on. Links of similarity
        are facts and stay.

        Args:
            keep_edge: In [0, 1].
            keep_dream: In [0, 1].
            min_weight: In [0, 1].

        Raises:
            InvalidValue: an argument outside its range; nothing was changed.
        """
        left, done = self._table.arrays().decayed(
            keep_edge=fraction(keep_edge, "keep_edge"),
            keep_dream=fraction(keep_dream, "keep_dream"),
            min_weight=fraction(min_weight, "min_weight"),
        )
        self._table.replace(left)
        return done

    # -- reading along links -------------------------------------------------------------------------------------

    def adjacency(self, kinds: Iterable[EdgeKind] = EdgeKind) -> Adjacency:
        """Return the links of some kinds row by row, each pair by its greatest weight; kept until something changes."""
        return self._table.adjacency(len(self), tuple(sorted({*kinds})))

    def activate(self, seed_rows: npt.ArrayLike, seed_weights: npt.ArrayLike) -> Floats:
        """Return how active each memory is after `hops` steps of spreading with `restart` from the seeds.

        Args:
            seed_rows: Where activation starts, shape (k,).
            seed_weights: Shares of it, at least 0, of any sum, shape (k,).

        Returns:
            Shape (n,), in all 1; all 0 when there are no seeds or their weights are 0.

        Raises:
            MemoryGraphError: a row the graph does not have.
            InvalidValue: shapes that do not fit, or a weight that is negative, NaN or infinite.
        """
        rows, weights = np.asarray(seed_rows, np.int64), np.asarray(seed_weights, np.float64)
        if rows.ndim != 1 or rows.shape != weights.shape:
            raise InvalidValue(f"seeds: expected two lists of one length, got {rows.shape} and {weights.shape}")
        if not (np.isfinite(weights).all() and (weights >= 0.0).all()):
            raise InvalidValue("seeds: expected weights of at least 0")
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise MemoryGraphError(f"seeds: rows {rows.min()} to {rows.max()} in a graph of {len(self)} memories")
        seeds = Activation.of(rows, weights)
        found = spread(self._table.around, seeds, hops=self.config.hops, restart=self.config.restart)
        active = np.zeros(len(self), np.float32)
        active[found.rows] = found.values
        return active

    # -- as a whole ----------------------------------------------------------------------------------------------

    def copy(self) -> MemoryGraph:
        """Return a graph equal to this one; a later change of either leaves the other as it was."""
        twin = MemoryGraph(self._dim, self.config)
        twin._roster, twin._table = self._roster.copy(), EdgeTable(self._table.arrays())
        return twin

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        edges = self._table.arrays()
        return State({"hidden_dim": self._dim, "nodes": self._roster.state(), "edges": edges.state()})

    @classmethod
    def from_state(cls, state: State, config: GraphConfig | None = None) -> MemoryGraph:
        """Return the graph that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged, or does not fit `config`.
        """
        width = state.whole("hidden_dim")
        if width < 1:
            raise StoreError(f"saved state: hidden_dim should be at least 1, is {width}")
        graph = cls(width, config)
        roster = Roster.from_state(state.child("nodes"), width)
        if len(roster) > graph.config.capacity:
            raise StoreError(f"saved state: {len(roster)} memories, but the capacity is {graph.config.capacity}")
        graph._roster = roster
        graph._table = EdgeTable(EdgeArrays.from_state(state.child("edges"), len(roster)))
        return graph
