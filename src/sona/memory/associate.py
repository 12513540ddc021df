"""Associative memory: the memory graph at work, with the links that requests see published apart from it.

Outcomes change the graph at once; what requests see changes only when links are published, whole, so that readers
never lock and a version that is rolled back takes its links with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sona.checks import Floats
from sona.config import GraphConfig
from sona.memory.graph import MemoryGraph
from sona.memory.linking import Nearest, nearest
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.recall import Places, PublishedLinks, Recalled, Seeds, links_from_state, links_state
from sona.memory.votes import Showing
from sona.state import State

BLOCK = 256
"""Memories that are compared with all others at a time."""
_MEMORY, _ITEM = "memory", "item"  # kinds: what was remembered here, and what a caller ranks
_FRESH_SHARE = 0.05  # of new links, from which publishing is worth its pass over all of them


class AssociativeMemory:
    """What is linked with what, learned from outcomes; a new one recalls nothing.

    Readers (`recall`) never lock. Writers take turns, which the caller sees to.

    Args:
        hidden_dim: Width d of the memories.
        config: Settings.
    """

    def __init__(self, hidden_dim: int, config: GraphConfig | None = None) -> None:
        """Know no memories."""
        self.config = config or GraphConfig()
        self.graph = MemoryGraph(hidden_dim, self.config)
        self.links: PublishedLinks | None = None
        self._unlinked: dict[str, None] = {}  # memories that were not compared with all others yet
        self._places: Places | None = None  # of the candidates that were looked at last

    @property
    def unlinked(self) -> tuple[str, ...]:
        """Ids of memories that were not compared with all others yet, oldest first."""
        return tuple(self._unlinked)

    def recall(self, seeds: Seeds, ids: Sequence[str], count: int) -> Recalled | None:
        """Return what of a request reaches the first `count` of the candidates; None before links are published.

        Args:
            seeds: What the request activates.
            ids: Ids of the candidates.
            count: Candidates that have a vector.
        """
        links, places = self.links, self._places
        if links is None:
            return None
        if places is None or places.links is not links or places.ids is not ids:
            places = links.places_in(ids)
            if isinstance(ids, tuple):  # a list may hold other ids the next time
                self._places = places
        return places.recall(seeds, count, self.config)

    def activation(self, seeds: Seeds, ids: Sequence[str]) -> Floats | None:
        """Return how much of a request reaches some memories, by kind of link, shape (2, m); None without links."""
        return None if self.links is None else self.links.activation(seeds, ids, self.config)

    def join(self, ids: Sequence[str], vectors: Floats, *, now: float) -> None:
        """Let memories be part of the graph; one that is there with another vector gets this one.

        Where the graph is full, the rest is left out.

        Args:
            ids: Their ids, n of them.
            vectors: Their vectors, shape (n, d).
            now: Seconds; a memory that never served is as old as that.
        """
        graph = self.graph
        known = [row for row, name in enumerate(ids) if name in graph]
        for name in [ids[row] for row in known if graph.kind(ids[row]) == _ITEM]:  # it was ranked before it came here
            graph.put(replace(graph.node(name), kind=_MEMORY))
        if known:
            self._re_embed([graph.row_of[ids[row]] for row in known], [ids[row] for row in known], vectors[known])
        room = self.config.capacity - len(graph)
        for row in [row for row, name in enumerate(ids) if name not in graph][:room]:
            graph.add(MemoryNode(ids[row], vectors[row], last_access=now))
            self._unlinked[ids[row]] = None

    def _re_embed(self, rows: list[int], ids: list[str], vectors: Floats) -> None:
        own = self.graph.vectors[rows]
        moved = np.flatnonzero(np.abs(own - vectors).max(axis=1) > 1e-6)  # beyond what scaling to length 1 rounds
        if not len(moved):
            return
        fresh = np.array(self.graph.vectors)
        fresh[np.asarray(rows)[moved]] = vectors[moved]
        self.graph.re_embed(fresh)
        self._unlinked = dict.fromkeys(self.graph.ids)

    def record(self, vectors: dict[str, Floats], showings: Sequence[Showing], *, now: float) -> None:
        """Learn from one request which memories serve together; those that are new to the graph join it.

        Args:
            vectors: Of what was shown, each of shape (d,), by id.
            showings: What was shown, and what it earned.
            now: Seconds.
        """
        named = [(self._present(showing.item), showing) for showing in showings]
        if len(self.graph) + len(showings) <= self.config.capacity:
            for name, showing in named:
                if name not in self.graph:
                    self.graph.add(MemoryNode(name, vectors[showing.item], kind=_ITEM, last_access=now))
                    self._unlinked[name] = None
        used: dict[str, float] = {}
        for name, showing in named:
            if showing.reward > 0.0:
                used[name] = max(used.get(name, 0.0), showing.reward)
        self.graph.served(used, [name for name, showing in named if showing.reward <= 0.0], now=now)

    def _present(self, name: str) -> str:
        # A memory that was merged serves as the one that it is part of.
        return name if name in self.graph else self.graph.heir(name) or name

    def link(self, most: int) -> int:
        """Link memories that wait for it to those similar to them, at most so many comparisons; return how many.

        Args:
            most: Cosines that may be computed.
        """
        waiting = list(self._unlinked)[: most // max(len(self.graph), 1)]
        for first in range(0, len(waiting), BLOCK):
            ids = waiting[first : first + BLOCK]
            found = nearest_to(self.graph, ids)
            if len(found.a_rows):
                self.graph.link(found.a_rows, found.b_rows, EdgeKind.SIMILAR, found.cosines)
            self.compared(ids)
        return len(waiting)

    def compared(self, ids: Sequence[str]) -> None:
        """Note that memories were compared with all others, or are gone: they wait for it no longer."""
        for name in ids:
            self._unlinked.pop(name, None)

    def publish(self) -> None:
        """Let requests see the links as they are now."""
        self.links = PublishedLinks.of(self.graph)

    def publish_if_worth_it(self) -> None:
        """Let requests see the links when enough of the memories are new to them."""
        known = 0 if self.links is None else len(self.links.ids)
        if len(self.graph) - known >= max(_FRESH_SHARE * known, 1.0):
            self.publish()

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {"graph": self.graph.state(), "waiting": list(self._unlinked), "published": links_state(self.links)}
        )

    @classmethod
    def from_state(cls, state: State, config: GraphConfig | None = None) -> AssociativeMemory:
        """Return the memory that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        graph = MemoryGraph.from_state(state.child("graph"), config)
        memory = cls(graph.hidden_dim, config)
        memory.graph = graph
        memory._unlinked = dict.fromkeys(state.texts("waiting"))
        memory.links = links_from_state(state.child("published"))
        return memory


def nearest_to(graph: MemoryGraph, ids: Sequence[str]) -> Nearest:
    """Return which memories are similar to some, as the graph's settings have it; unknown ids are passed over."""
    config = graph.config
    rows = np.array([graph.row_of[name] for name in ids if name in graph], np.int64)
    least = max(config.min_similarity, float(np.finfo(np.float32).tiny))
    return nearest(graph.vectors, rows, config.neighbours, least)
