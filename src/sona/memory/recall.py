"""Recall over links: activation spreads from what is similar to a request to what is linked with it.

A request activates the memories nearest to it. Activation flows along links, each memory sharing its own among its
neighbours by weight, and part of it starts again at the seeds in every step. What arrives says which memories belong
to the answer although they are not the nearest. What it is worth in a score is not decided here: it is calibrated.

Source: Page et al. 1999, personalised PageRank; Collins and Loftus 1975, spreading activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

import numpy as np

from sona.checks import Floats
from sona.config import GraphConfig
from sona.memory.activation import Activation, Doubles, spread
from sona.memory.edges import EdgeArrays, Rows
from sona.memory.graph import MemoryGraph
from sona.memory.links import Around, Links
from sona.memory.nodes import EdgeKind
from sona.state import State

_TEMPERATURE = 0.05  # of the softmax that shares activation among the seeds, as of every softmax over cosines here


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """What a request activates: the candidates nearest to it.

    Args:
        ids: Their ids, nearest first.
        cosines: To the request, above 0, shape (k,).
    """

    ids: tuple[str, ...]
    cosines: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Recalled:
    """What activation reached among candidates, from others; those not named got none.

    Args:
        rows: Which candidates, ascending, shape (r,).
        values: What reached each, over links to similar memories and over learned ones, each at most 1, shape (2, r).
    """

    rows: Rows
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PublishedLinks:
    """The links of a memory graph as they were published; never changed.

    Args:
        ids: Ids of the n memories.
        edges: Every linked pair once, m of them.
    """

    ids: tuple[str, ...]
    edges: EdgeArrays
    row_of: Mapping[str, int] = field(init=False)
    _links: Links = field(init=False)
    _weights: tuple[Floats, Floats] = field(init=False)  # to similar memories, and learned, shape (m, 4)

    def __post_init__(self) -> None:
        """Find rows by id, and links by row."""
        is_similar = np.arange(len(EdgeKind)) == EdgeKind.SIMILAR
        kinds = (self.edges.weights * is_similar, self.edges.weights * ~is_similar)
        object.__setattr__(self, "row_of", dict(zip(self.ids, range(len(self.ids)), strict=True)))
        object.__setattr__(self, "_links", Links.of(self.edges))
        object.__setattr__(self, "_weights", kinds)

    @classmethod
    def of(cls, graph: MemoryGraph) -> PublishedLinks:
        """Return the links of `graph` as they are now."""
        return cls(graph.ids, graph.edges())

    def around(self, rows: Rows, kind: int) -> Around:
        """Return the links of some memories: to similar ones (`kind` 0), or learned ones (1)."""
        if not len(self.edges):
            return Around(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        return self._links.around(rows, self._weights[kind])

    def places_in(self, ids: Sequence[str]) -> Places:
        """Return where the memories are among candidates of these ids."""
        candidate_of = np.full(len(self.ids), -1, np.int64)
        node_of = np.fromiter(map(self.row_of.get, ids, repeat(-1)), np.int64, len(ids))
        known = np.flatnonzero(node_of >= 0)
        candidate_of[node_of[known]] = known
        return Places(self, ids, candidate_of)

    def reached(self, seeds: Seeds, kind: int, config: GraphConfig) -> tuple[Rows, Doubles]:
        """Return which memories a request reaches over links of one kind, ascending, and how much of it, at most 1."""
        nodes = np.fromiter(map(self.row_of.get, seeds.ids, repeat(-1)), np.int64, len(seeds.ids))
        is_known = nodes >= 0
        if not is_known.any():
            return np.zeros(0, np.int64), np.zeros(0)
        heat = np.exp((seeds.cosines[is_known] - seeds.cosines[0]) / _TEMPERATURE).astype(np.float64)
        around = partial(self.around, kind=kind)
        start = Activation.of(nodes[is_known], heat)
        rows, arrived = arriving(around, start, hops=config.hops, restart=config.restart)
        return rows, arrived / arrived.max() if len(rows) else arrived

    def activation(self, seeds: Seeds, ids: Sequence[str], config: GraphConfig) -> Floats:
        """Return how much of a request reaches some memories, by kind of link, shape (2, len(ids))."""
        nodes = np.fromiter(map(self.row_of.get, ids, repeat(-1)), np.int64, len(ids))
        found = np.zeros((2, len(ids)), np.float32)
        for kind in (0, 1):
            rows, values = self.reached(seeds, kind, config)
            if len(rows):
                places = np.minimum(np.searchsorted(rows, nodes), len(rows) - 1)
                found[kind] = np.where(rows[places] == nodes, values[places], 0.0)
        return found

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State({"ids": list(self.ids), "edges": self.edges.state()})

    @classmethod
    def from_state(cls, state: State) -> PublishedLinks:
        """Return the links that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        ids = tuple(state.texts("ids"))
        return cls(ids, EdgeArrays.from_state(state.child("edges"), len(ids)))


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the memories of published links are among candidates.

    Args:
        links: The links.
        ids: Ids of the candidates.
        candidate_of: Candidate of each memory, -1 for none.
    """

    links: PublishedLinks
    ids: Sequence[str]
    candidate_of: Rows

    def recall(self, seeds: Seeds, count: int, config: GraphConfig) -> Recalled:
        """Return what of a request reaches the first `count` candidates.

        Args:
            seeds: What the request activates.
            count: Candidates that have a vector; those beyond are none yet.
            config: How many hops, how much restarts.
        """
        reached = [self._among(*self.links.reached(seeds, kind, config), count) for kind in (0, 1)]
        rows = np.unique(np.concatenate([found for found, _ in reached]))
        values = np.zeros((2, len(rows)), np.float32)
        for kind, (found, amount) in enumerate(reached):
            values[kind, np.searchsorted(rows, found)] = amount
        return Recalled(rows, values)

    def _among(self, nodes: Rows, values: Doubles, count: int) -> tuple[Rows, Doubles]:
        rows = self.candidate_of[nodes]
        is_candidate = (rows >= 0) & (rows < count)
        return rows[is_candidate], values[is_candidate]


def links_state(links: PublishedLinks | None) -> State:
    """Return published links, or that there are none, as a state tree."""
    return State({"is_published": False}) if links is None else State({"is_published": True, "links": links.state()})


def links_from_state(state: State) -> PublishedLinks | None:
    """Return what `links_state` wrote, or raise StoreError."""
    return PublishedLinks.from_state(state.child("links")) if state.flag("is_published") else None


def arriving(around: Callable[[Rows], Around], seeds: Activation, *, hops: int, restart: float) -> tuple[Rows, Doubles]:
    """Return which memories activation reaches over the last of `hops` steps, ascending, and how much reaches each.

    What starts again at the seeds in that step does not count: it says nothing that similarity does not say.

    Args:
        around: Returns the links of given rows.
        seeds: Where activation starts.
        hops: Steps, at least 1.
        restart: Share that starts again in every step, in [0, 1).
    """
    active = spread(around, seeds, hops=hops - 1, restart=restart)
    links = around(active.rows)
    totals = np.bincount(links.owners, links.weights, len(active.rows))
    per_weight = np.divide(active.values, totals, out=np.zeros(len(totals)), where=totals > 0.0)
    found, inverse = np.unique(links.neighbours, return_inverse=True)
    arrived: Doubles = np.bincount(inverse, links.weights * per_weight[links.owners], len(found)).astype(np.float64)
    return found[arrived > 0.0], arrived[arrived > 0.0]
