"""What a graph knows of each memory, row by row, to be read and not to be changed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.config import GraphConfig
from sona.errors import MemoryGraphError
from sona.memory.edges import Rows
from sona.memory.nodes import MemoryNode
from sona.memory.roster import Doubles, Roster

_T = TypeVar("_T", bound=np.generic)


class Members:
    """The memories of a graph; arrays are views, good until the next change."""

    config: GraphConfig
    _dim: int
    _roster: Roster

    def __len__(self) -> int:
        """Return the number n of memories."""
        return len(self._roster)

    def __contains__(self, name: object) -> bool:
        """Return True when there is a memory of this id."""
        return name in self._roster.row_of

    @property
    def hidden_dim(self) -> int:
        """Width d of the embeddings."""
        return self._dim

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of their rows."""
        return self._roster.ids

    @property
    def row_of(self) -> Mapping[str, int]:
        """Rows by id, as they are until a memory is removed."""
        return MappingProxyType(self._roster.row_of)

    @property
    def vectors(self) -> Floats:
        """Embeddings of unit length (a zero one stays zero), shape (n, d); a view, good until the next change."""
        return _read_only(self._roster.vectors)

    @property
    def access_counts(self) -> Rows:
        """How often each memory served, shape (n,)."""
        return _read_only(self._roster.access_counts)

    @property
    def shown_counts(self) -> Rows:
        """How often each memory was shown and feedback came, shape (n,)."""
        return _read_only(self._roster.shown_counts)

    @property
    def last_access(self) -> Doubles:
        """When each memory last served, seconds, shape (n,)."""
        return _read_only(self._roster.last_access)

    @property
    def earned(self) -> Doubles:
        """What each memory earned in all, shape (n,)."""
        return _read_only(self._roster.earned)

    @property
    def importance(self) -> Doubles:
        """How much each memory matters to its owner, in [0, 1], shape (n,)."""
        return _read_only(self._roster.importance)

    @property
    def qualities(self) -> Doubles:
        """What each memory earned per showing, the quality it came with counting for two showings, shape (n,)."""
        return self._roster.qualities

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another memory."""
        return len(self) >= self.config.capacity

    def node(self, name: str) -> MemoryNode:
        """Return one memory as it is now.

        Raises:
            MemoryGraphError: there is none of this id.
        """
        return self._roster.node(self._row(name))

    def kind(self, name: str) -> str:
        """Return what sort of memory one is.

        Raises:
            MemoryGraphError: there is none of this id.
        """
        self._row(name)
        return self._roster.kind(name)

    def heir(self, name: str) -> str | None:
        """Return the id of the memory that another one was merged into; None when it was not, or that one is gone."""
        return self._roster.heirs.get(name)

    def provenance(self, name: str) -> tuple[str, ...]:
        """Return the ids of the memories that were merged into one.

        Raises:
            MemoryGraphError: there is none of this id.
        """
        self._row(name)
        return self._roster.provenance(name)

    def _row(self, name: str) -> int:
        row = self._roster.row_of.get(name)
        if row is None:
            raise MemoryGraphError(f"no memory {name!r} in the graph")
        return row


def _read_only(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
    view = array.view()
    view.flags.writeable = False
    return view
