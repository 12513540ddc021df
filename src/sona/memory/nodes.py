"""The nouns of the memory graph: memories, typed edges between them, and adjacency as others read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, finite, fraction, nonempty_text, vector, whole


class EdgeKind(IntEnum):
    """Why two memories are linked."""

    SIMILAR = 0  # their embeddings are near
    TOGETHER = 1  # they served the same request
    DREAM = 2  # a dream proposed it
    PATTERN = 3  # they serve the same pattern of requests


@dataclass(frozen=True, slots=True, eq=False)
class MemoryNode:
    """One memory of the graph.

    Args:
        id: Its id.
        embedding: Its vector, shape (d,); the graph keeps it at unit length.
        payload: Its text or whatever stands for it; None when it is kept elsewhere.
        kind: What sort of memory it is.
        importance: How much it matters to its owner, in [0, 1].
        quality: How well it served, in [0, 1].
        access_count: How often it served.
        last_access: When it last served, seconds.
        provenance: Ids of the memories that were merged into it.

    Raises:
        InvalidValue: a value outside its range, NaN, infinity or an empty id.
    """

    id: str
    embedding: Floats
    payload: str | None = None
    kind: str = "memory"
    importance: float = 0.5
    quality: float = 0.5
    access_count: int = 0
    last_access: float = 0.0
    provenance: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Refuse what no memory can be."""
        nonempty_text(self.id, "id")
        nonempty_text(self.kind, "kind")
        object.__setattr__(self, "embedding", vector(self.embedding, what="embedding"))
        object.__setattr__(self, "importance", fraction(self.importance, "importance"))
        object.__setattr__(self, "quality", fraction(self.quality, "quality"))
        whole(self.access_count, "access_count", 0)
        finite(self.last_access, "last_access")


@dataclass(frozen=True, slots=True)
class Edge:
    """One link between two memories, in both directions.

    Args:
        a: Id of one end.
        b: Id of the other.
        kind: Why they are linked.
        weight: How strongly, in (0, 1].
    """

    a: str
    b: str
    kind: EdgeKind
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Adjacency:
    """The links of n memories as compressed sparse rows, each link once in either direction; never changed.

    Args:
        starts: Row i has the entries starts[i] to starts[i + 1], shape (n + 1,).
        neighbours: Rows at the other end, ascending within each row, shape (m,).
        weights: Of the links, in (0, 1], shape (m,).
    """

    starts: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int32]
    weights: Floats

    def __len__(self) -> int:
        """Return the number n of memories."""
        return len(self.starts) - 1

    def of(self, row: int) -> tuple[npt.NDArray[np.int32], Floats]:
        """Return the neighbours of one memory and the weights of its links to them."""
        part = slice(int(self.starts[row]), int(self.starts[row + 1]))
        return self.neighbours[part], self.weights[part]
