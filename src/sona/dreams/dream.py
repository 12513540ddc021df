"""Dreams: walks over the memory graph that bring memories together which no link joins yet, and propose to link them.

What is proposed enters the graph as a weak link of its own kind. Whether it lasts is for the graph to find out: what
serves requests together is confirmed, the rest decays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sona.checks import whole
from sona.config import DreamConfig
from sona.dreams.proposals import Proposal, added_up, proposed_by
from sona.dreams.score import company_of, merits_of
from sona.dreams.walk import Rows, Terrain, walk
from sona.errors import InvalidValue
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import Adjacency, EdgeKind, MemoryNode

_NO_LINKS = Adjacency(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Dream:
    """One walk over the memory graph with what it is worth; the figures are defined in `dreams/score.py`.

    Args:
        id: Its id, drawn from the generator of the dream.
        path: Ids of the memories in the order of visits; empty in a graph without memories.
        rows: Their rows in the graph when it was dreamt, shape (len(path),).
        creative_jumps: Steps to a memory that was not linked to the one before.
        novelty: Share of its pairs that are not linked yet.
        coherence: Mean cosine of its pairs.
        utility: Mean worth of its memories.
        diversity: 1 - mean cosine of its memories.
        score: Weighted mean of novelty, coherence and utility; 0 when no two memories met.
        proposals: Links it proposes, the best first.
    """

    id: str
    path: tuple[str, ...]
    rows: Rows
    creative_jumps: int
    novelty: float
    coherence: float
    utility: float
    diversity: float
    score: float
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class Integration:
    """What became of dreams in the graph.

    Args:
        integrated: Dreams whose proposals were taken up.
        added: Links that are new.
        strengthened: Links that an earlier dream had made, and that are heavier now.
        skipped: Why none was taken up; None when one was.
    """

    integrated: int
    added: int
    strengthened: int
    skipped: str | None


@dataclass(frozen=True, slots=True)
class _Link:
    a_row: int
    b_row: int
    weight: float
    is_new: bool


def dreamt(terrain: Terrain, config: DreamConfig, rng: np.random.Generator) -> Dream:
    """Return one dream over `terrain`; the same generator dreams the same.

    Args:
        terrain: The memories; none or one give a dream that proposes nothing.
        config: How it walks, what counts, and the rule of its proposals.
        rng: Source of chance; nothing else is random.
    """
    name = f"dream-{int(rng.integers(2**63)):016x}"
    taken = walk(terrain, config, rng)
    company = company_of(terrain, taken.rows, 1 if config.rule == "specification" else config.window)
    merits = merits_of(company, terrain.worth[company.rows], config)
    return Dream(
        id=name,
        path=tuple(terrain.ids[row] for row in taken.rows.tolist()),
        rows=taken.rows,
        creative_jumps=taken.jumps,
        novelty=merits.novelty,
        coherence=merits.coherence,
        utility=merits.utility,
        diversity=merits.diversity,
        score=merits.score,
        proposals=proposed_by(company, merits, config, terrain.ids),
    )


def refusal(dream: Dream, config: DreamConfig) -> str | None:
    """Return in words why a dream's proposals are not taken up; None when they are."""
    if not dream.proposals:
        return "it proposes no link"
    if dream.novelty < config.min_novelty:
        return f"its novelty is {dream.novelty:.2f}, below {config.min_novelty:g}"
    if dream.score < config.threshold:
        return f"its score is {dream.score:.2f}, below {config.threshold:g}"
    return None


def proposals(dreams: Iterable[Dream], config: DreamConfig) -> tuple[Proposal, ...]:
    """Return what dreams propose together: one proposal per pair with the sum of its scores, the best first.

    Args:
        dreams: Dreams over one graph; those that `refusal` names a reason for say nothing.
        config: The least novelty and score.
    """
    return added_up(one for dream in dreams if refusal(dream, config) is None for one in dream.proposals)


class DreamEngine:
    """Dreams over a memory graph; all it holds besides its settings is the graph.

    >>> dreamer = DreamEngine(DreamConfig(path_length=3))
    >>> for name, embedding in (("a", [1.0, 0.0]), ("b", [0.9, 0.1]), ("c", [0.8, 0.2])):
    ...     dreamer.add_memory_node(MemoryNode(name, np.array(embedding)))
    >>> dream = dreamer.generate_dream(np.random.default_rng(0))
    >>> len(dream.path), dreamer.integrate_dream(dream).added > 0
    (3, True)
    """

    def __init__(self, config: DreamConfig | None = None, *, graph: MemoryGraph | None = None) -> None:
        """Dream over `graph`; without one, over a graph of its own as wide as the first memory."""
        self._config = config or DreamConfig()
        self._graph = graph

    @property
    def config(self) -> DreamConfig:
        """The settings."""
        return self._config

    @property
    def graph(self) -> MemoryGraph | None:
        """The graph; None before the first memory."""
        return self._graph

    @property
    def node_count(self) -> int:
        """Memories in the graph."""
        return 0 if self._graph is None else len(self._graph)

    def add_memory_node(self, node: MemoryNode) -> None:
        """Add a memory, linked to none.

        Raises:
            DimensionMismatch: the graph is of another width.
            MemoryGraphError: the graph has a memory of this id, or is full.
        """
        graph = MemoryGraph(len(node.embedding)) if self._graph is None else self._graph
        graph.add(node)
        self._graph = graph

    def generate_dream(self, rng: np.random.Generator) -> Dream:
        """Return one dream; the graph stays as it is.

        Raises:
            InvalidValue: `rng` is not a generator.
        """
        return self.generate_dreams(1, rng)[0]

    def generate_dreams(self, count: int, rng: np.random.Generator) -> list[Dream]:
        """Return `count` dreams over the graph as it is; integrate them together when all are there.

        Raises:
            InvalidValue: `count` is not a whole number of at least 0, or `rng` is not a generator.
        """
        whole(count, "count", 0)
        if not isinstance(rng, np.random.Generator):
            raise InvalidValue(f"rng: expected a numpy Generator, got {rng!r}")
        terrain = self._terrain()
        return [dreamt(terrain, self._config, rng) for _ in range(count)]

    def integrate_dream(self, dream: Dream) -> Integration:
        """Add the links that a dream proposes; see `integrate_dreams`."""
        return self.integrate_dreams([dream])

    def integrate_dreams(self, dreams: Sequence[Dream]) -> Integration:
        """Add the best of what dreams propose together, as links of weight `edge_weight` x min(score, 1).

        At most `max_edges` are taken per dream that is not refused. A link of another kind is left as it is, one that
        an earlier dream made is never made lighter, and a pair of which one memory is gone is passed over.
        """
        reasons = [refusal(dream, self._config) for dream in dreams]
        integrated = reasons.count(None)
        if not integrated:
            return Integration(0, 0, 0, reasons[0] if reasons else "there is no dream")
        best = proposals(dreams, self._config)[: self._config.max_edges * integrated]
        links = [] if self._graph is None else list(self._fresh(self._graph, best))
        if self._graph is not None and links:
            a_rows, b_rows = [link.a_row for link in links], [link.b_row for link in links]
            self._graph.link(a_rows, b_rows, EdgeKind.DREAM, [link.weight for link in links])
        added = sum(link.is_new for link in links)
        return Integration(integrated, added, len(links) - added, None)

    def _terrain(self) -> Terrain:
        graph = self._graph
        if graph is None:
            nothing = np.zeros(0)
            return Terrain((), np.zeros((0, 0), np.float32), _NO_LINKS, nothing)
        worth = (graph.importance + graph.qualities) / 2.0
        return Terrain(graph.ids, graph.vectors, graph.adjacency(), worth, graph.importance)

    def _fresh(self, graph: MemoryGraph, best: Iterable[Proposal]) -> Iterator[_Link]:
        for one in best:
            if one.a not in graph or one.b not in graph:
                continue
            weight = float(np.float32(self._config.edge_weight * min(one.score, 1.0)))  # as the graph holds it
            weights = {edge.kind: edge.weight for edge in graph.edge(one.a, one.b)}
            before = weights.get(EdgeKind.DREAM, 0.0)
            if weight > before and (before or not weights):
                yield _Link(graph.row_of[one.a], graph.row_of[one.b], weight, is_new=not before)
