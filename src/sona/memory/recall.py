"""Recall over links: activation spreads from what is similar to a request to what is linked with it.

A request activates the memories nearest to it. Activation flows along links, each memory sharing its own among its
neighbours by weight, and part of it starts again at the seeds in every step. What arrives says which memories belong
to the answer although they are not the nearest. What it is worth in a score is not decided here: it is calibrated.

Source: Page et al. 1999, personalised PageRank; Collins and Loftus 1975, spreading activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats
from sona.config import GraphConfig
from sona.errors import MemoryGraphError
from sona.memory.activation import Doubles
from sona.memory.edges import EdgeArrays, Rows, greatest
from sona.memory.graph import MemoryGraph
from sona.memory.links import Links
from sona.memory.nodes import EdgeKind
from sona.state import State

LEARNED = (EdgeKind.TOGETHER, EdgeKind.DREAM, EdgeKind.PATTERN)
"""Kinds of links that were learned; the others are facts about the embeddings."""
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
        rows: Which candidates, each once, shape (r,).
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
    _weights: Floats = field(init=False)  # by kind, similar and learned, of the links row by row, shape (2, 2 m)

    def __post_init__(self) -> None:
        """Find rows by id, and links by row."""
        links, weights = Links.of(self.edges), self.edges.weights
        kinds = (greatest(weights, (EdgeKind.SIMILAR,)), greatest(weights, LEARNED))
        object.__setattr__(self, "row_of", dict(zip(self.ids, range(len(self.ids)), strict=True)))
        object.__setattr__(self, "_links", links)
        object.__setattr__(self, "_weights", np.stack([kind[links.places] for kind in kinds]))

    @classmethod
    def of(cls, graph: MemoryGraph) -> PublishedLinks:
        """Return the links of `graph` as they are now, those only dreamt where its settings follow them."""
        edges = graph.edges()
        if not graph.config.follow_dreams:
            edges = edges.without(EdgeKind.DREAM, np.ones(len(edges), np.bool_))
        return cls(graph.ids, edges)

    def places_in(self, ids: Sequence[str]) -> Places:
        """Return where the memories are among candidates of these ids."""
        candidate_of = np.full(len(self.ids), -1, np.int64)
        node_of = np.fromiter(map(self.row_of.get, ids, repeat(-1)), np.int64, len(ids))
        known = np.flatnonzero(node_of >= 0)
        candidate_of[node_of[known]] = known
        return Places(self, ids, candidate_of)

    def reached(self, seeds: Seeds, config: GraphConfig) -> tuple[Rows, Floats]:
        """Return which memories a request reaches, each once, and how much of it, by kind of link, at most 1.

        With P the links of one kind, each memory's as shares of their sum, and s the seeds: p_0 = s and
        p_h = restart s + (1 - restart) p_{h-1} P. What counts is what arrives over the last of `hops` steps; what
        starts again at the seeds in that step says nothing that similarity does not say.
        """
        nodes = np.fromiter(map(self.row_of.get, seeds.ids, repeat(-1)), np.int64, len(seeds.ids))
        is_known = nodes >= 0
        cosines = seeds.cosines
        if not is_known.all():
            nodes, cosines = nodes[is_known], cosines[is_known]
        if not len(nodes) or not len(self.edges):
            return np.zeros(0, np.int64), np.zeros((2, 0), np.float32)
        heat = np.exp((cosines - seeds.cosines[0]) / _TEMPERATURE)
        shares = np.empty((2, len(nodes)))
        shares[:] = heat / heat.sum()
        rows, active = self._step(nodes, shares)
        for _ in range(1, config.hops):
            both = np.concatenate([config.restart * shares, (1.0 - config.restart) * active], 1)
            rows, active = self._step(*_summed(np.concatenate([nodes, rows]), both))
        return rows, _as_parts_of_the_greatest(active)

    def _step(self, rows: Rows, active: Doubles) -> tuple[Rows, Doubles]:
        links = self._links
        found = kernel.spread(links.starts, links.neighbours, self._weights, rows, active)
        if found is None:
            raise MemoryGraphError("the links are no plain arrays")
        return found

    def activation(self, seeds: Seeds, ids: Sequence[str], config: GraphConfig) -> Floats:
        """Return how much of a request reaches some memories, by kind of link, shape (2, len(ids))."""
        rows, values = self.reached(seeds, config)
        found, place_of = np.zeros((2, len(ids)), np.float32), {row: place for place, row in enumerate(rows.tolist())}
        for column, name in enumerate(ids):
            place = place_of.get(self.row_of.get(name, -1))
            if place is not None:
                found[:, column] = values[:, place]
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
        nodes, values = self.links.reached(seeds, config)
        rows = self.candidate_of[nodes]
        is_candidate = (rows >= 0) & (rows < count)
        if not is_candidate.all():
            rows, values = rows[is_candidate], values[:, is_candidate]
        return Recalled(rows, values)


def links_state(links: PublishedLinks | None) -> State:
    """Return published links, or that there are none, as a state tree."""
    return State({"is_published": False}) if links is None else State({"is_published": True, "links": links.state()})


def links_from_state(state: State) -> PublishedLinks | None:
    """Return what `links_state` wrote, or raise StoreError."""
    return PublishedLinks.from_state(state.child("links")) if state.flag("is_published") else None


def _as_parts_of_the_greatest(active: Doubles) -> Floats:
    if not active.shape[1]:
        return np.zeros((2, 0), np.float32)
    top = active.max(axis=1)
    top[top <= 0.0] = 1.0
    active /= top[:, None]
    return active.astype(np.float32)


def _summed(rows: npt.NDArray[np.integer], amounts: Doubles) -> tuple[Rows, Doubles]:
    found, inverse = np.unique(rows, return_inverse=True)
    sums = np.stack([np.bincount(inverse, kind, len(found)) for kind in amounts])
    return found.astype(np.int64), sums.astype(np.float64)
