"""The memories of a graph, row by row: vectors of unit length, and what each was shown for and earned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import cast

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.errors import StoreError
from sona.memory.edges import Rows
from sona.memory.nodes import MemoryNode
from sona.memory.votes import unit
from sona.state import State

Doubles = npt.NDArray[np.float64]

PRIOR_SHOWINGS = (
    2.0  # showings that the quality a memory came with counts for; a power of two, so that it returns exact
)
_ACCESSES, _SHOWN = range(2)
_LAST_ACCESS, _EARNED, _IMPORTANCE, _PRIOR = range(4)
_DEFAULT_KIND = "memory"


class Roster:
    """Memories in dense rows 0 to n - 1; removing some moves the later ones up."""

    __slots__ = (
        "_accesses_at",
        "_counts",
        "_dim",
        "_earned_at",
        "_heirs",
        "_ids",
        "_kinds",
        "_last_at",
        "_payloads",
        "_provenances",
        "_row_of",
        "_shown_at",
        "_sums",
        "_vectors",
    )

    def __init__(self, hidden_dim: int) -> None:
        """Start without memories of width d."""
        self._dim = hidden_dim
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._payloads: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._provenances: dict[str, tuple[str, ...]] = {}
        self._heirs: dict[str, str] | None = None  # the same the other way round, made when it is asked for
        nothing = np.zeros((0, hidden_dim), np.float32)
        self._hold(nothing, np.zeros((0, 2), np.int64), np.zeros((0, 4), np.float64))

    def _hold(self, vectors: Floats, counts: Rows, sums: Doubles) -> None:
        self._vectors, self._counts, self._sums = vectors, counts, sums
        # A memoryview reads and writes one number in a third of the time that numpy takes for it.
        self._accesses_at, self._shown_at = counts[:, _ACCESSES].data, counts[:, _SHOWN].data
        self._last_at = cast("memoryview[float]", sums[:, _LAST_ACCESS].data)
        self._earned_at = cast("memoryview[float]", sums[:, _EARNED].data)

    def __len__(self) -> int:
        """Return the number n of memories."""
        return len(self._ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of their rows."""
        return tuple(self._ids)

    @property
    def row_of(self) -> dict[str, int]:
        """Rows by id; not to be changed."""
        return self._row_of

    @property
    def vectors(self) -> Floats:
        """Vectors, shape (n, d); a view."""
        return self._vectors[: len(self)]

    @property
    def access_counts(self) -> Rows:
        """How often each served, shape (n,)."""
        return self._counts[: len(self), _ACCESSES]

    @property
    def shown_counts(self) -> Rows:
        """How often each was shown, shape (n,)."""
        return self._counts[: len(self), _SHOWN]

    @property
    def last_access(self) -> Doubles:
        """When each last served, seconds, shape (n,)."""
        return self._sums[: len(self), _LAST_ACCESS]

    @property
    def earned(self) -> Doubles:
        """Rewards of each, shape (n,)."""
        return self._sums[: len(self), _EARNED]

    @property
    def importance(self) -> Doubles:
        """How much each matters, shape (n,)."""
        return self._sums[: len(self), _IMPORTANCE]

    @property
    def qualities(self) -> Doubles:
        """What each earned per showing, the quality it came with counting for two showings, shape (n,)."""
        given = PRIOR_SHOWINGS * self._sums[: len(self), _PRIOR]
        qualities: Doubles = (self.earned + given) / (self.shown_counts + PRIOR_SHOWINGS)
        return qualities

    def node(self, row: int) -> MemoryNode:
        """Return the memory at `row`."""
        name = self._ids[row]
        return MemoryNode(
            name,
            self._vectors[row].copy(),
            self._payloads.get(name),
            self.kind(name),
            float(self._sums[row, _IMPORTANCE]),
            float(self.qualities[row]),
            int(self._counts[row, _ACCESSES]),
            float(self._sums[row, _LAST_ACCESS]),
            self.provenance(name),
        )

    @property
    def heirs(self) -> dict[str, str]:
        """Ids of what memories were merged into, by id, of several the first; not to be changed."""
        if self._heirs is None:
            self._heirs = {}
            for name in sorted(self._provenances, key=self._row_of.__getitem__, reverse=True):
                self._heirs.update(dict.fromkeys(self._provenances[name], name))
        return self._heirs

    def kind(self, name: str) -> str:
        """Return what sort of memory one is."""
        return self._kinds.get(name, _DEFAULT_KIND)

    def provenance(self, name: str) -> tuple[str, ...]:
        """Return the ids of the memories that were merged into one."""
        return self._provenances.get(name, ())

    def add(self, node: MemoryNode) -> int:
        """Give a memory the next row, and return it."""
        row = len(self._ids)
        if row == len(self._vectors):
            self._grow(max(64, 2 * row))
        self._vectors[row] = unit(node.embedding)
        self._counts[row] = node.access_count, 0
        self._sums[row] = node.last_access, 0.0, node.importance, node.quality
        self._ids.append(node.id)
        self._row_of[node.id] = row
        self._describe(node)
        if node.provenance:
            self._provenances[node.id] = tuple(node.provenance)
            self._heirs = None
        return row

    def _grow(self, rows: int) -> None:
        count = len(self)
        vectors = np.zeros((rows, self._dim), np.float32)
        counts, sums = np.zeros((rows, 2), np.int64), np.zeros((rows, 4), np.float64)
        vectors[:count], counts[:count], sums[:count] = self._vectors, self._counts, self._sums
        self._hold(vectors, counts, sums)

    def _describe(self, node: MemoryNode) -> None:
        for texts, text in ((self._payloads, node.payload), (self._kinds, node.kind)):
            texts.pop(node.id, None)
            if text is not None and not (texts is self._kinds and text == _DEFAULT_KIND):
                texts[node.id] = text

    def change(self, row: int, node: MemoryNode) -> bool:
        """Give the memory at `row` another vector, payload, kind and importance; return whether the vector differs."""
        differs = bool((node.embedding != self._vectors[row]).any())
        if differs:  # a vector that was read here comes back as it is: scaled once more it might differ in a bit
            self._vectors[row] = unit(node.embedding)
        self._sums[row, _IMPORTANCE] = node.importance
        self._describe(node)
        return differs

    def serve(self, earned: Mapping[int, float], vain: Iterable[int], now: float) -> None:
        """Count one request: what each row earned, and those that were shown in vain."""
        accesses, shown, last, total = self._accesses_at, self._shown_at, self._last_at, self._earned_at
        for row, reward in earned.items():
            accesses[row] += 1
            shown[row] += 1
            total[row] += reward
            last[row] = max(last[row], now)
        for row in vain:
            shown[row] += 1

    def absorb(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Count for the first row of each pair what the second was counted, and name the second as its source."""
        for kept, gone in pairs:
            self._counts[kept] += self._counts[gone]
            self._sums[kept, _EARNED] += self._sums[gone, _EARNED]
            for column in (_LAST_ACCESS, _IMPORTANCE):
                self._sums[kept, column] = max(self._sums[kept, column], self._sums[gone, column])
        sources: dict[str, list[str]] = {}
        for kept, gone in pairs:
            ours, theirs = self._ids[kept], self._ids[gone]
            listed = sources.setdefault(ours, [*self.provenance(ours)])
            listed += [theirs, *self.provenance(theirs)]
        self._provenances.update({name: tuple(dict.fromkeys(listed)) for name, listed in sources.items()})
        self._heirs = None

    def remove(self, rows: set[int]) -> Rows:
        """Drop the memories at `rows`; return the new row of each old one, -1 where it is gone, shape (n,)."""
        keep = np.ones(len(self), np.bool_)
        keep[sorted(rows)] = False
        for row in rows:
            for texts in (self._payloads, self._kinds):
                texts.pop(self._ids[row], None)
            self._provenances.pop(self._ids[row], None)
        self._heirs = None
        kept = np.flatnonzero(keep)
        self._hold(self._vectors[kept], self._counts[kept], self._sums[kept])
        self._ids = [self._ids[row] for row in kept.tolist()]
        self._row_of = {name: row for row, name in enumerate(self._ids)}
        new_row: Rows = np.where(keep, np.cumsum(keep) - 1, -1)
        return new_row

    def copy(self) -> Roster:
        """Return memories equal to these; a later change of either leaves the other as it was."""
        twin, count = Roster(self._dim), len(self)
        twin._ids, twin._row_of = self._ids.copy(), self._row_of.copy()
        twin._payloads, twin._kinds = self._payloads.copy(), self._kinds.copy()
        twin._provenances = self._provenances.copy()
        twin._hold(self._vectors[:count].copy(), self._counts[:count].copy(), self._sums[:count].copy())
        return twin

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        count = len(self)
        sources = [self.provenance(name) for name in self._ids]
        return State(
            {
                "ids": list(self._ids),
                "vectors": self._vectors[:count].copy(),
                "counts": self._counts[:count].copy(),
                "sums": self._sums[:count].copy(),
                "payloads": [self._payloads.get(name) for name in self._ids],
                "kinds": [self._kinds.get(name) for name in self._ids],
                "source_counts": np.array([len(listed) for listed in sources], np.int64),
                "sources": [name for listed in sources for name in listed],
            }
        )

    @classmethod
    def from_state(cls, state: State, hidden_dim: int) -> Roster:
        """Return the memories that `state` was taken from.

        Raises:
            StoreError: the state is incomplete, of another width, or its parts do not add up.
        """
        roster, ids = cls(hidden_dim), state.texts("ids")
        count = len(ids)
        vectors = state.floats("vectors", count, hidden_dim)
        counts, sums = state.wholes("counts", count, 2), state.doubles("sums", count, 4)
        payloads, kinds = state.listing("payloads"), state.listing("kinds")
        sizes, sources = state.wholes("source_counts", count), state.texts("sources")
        if not (_are_unit(vectors) and _add_up(counts, sums) and len(payloads) == len(kinds) == count == len({*ids})):
            raise StoreError("saved state: the memories do not add up")
        if (sizes < 0).any() or int(sizes.sum()) != len(sources) or not all(name.strip() for name in ids):
            raise StoreError("saved state: the memories do not add up")
        roster._ids, roster._row_of = ids, {name: row for row, name in enumerate(ids)}
        roster._payloads = {name: text for name, text in zip(ids, payloads, strict=True) if isinstance(text, str)}
        roster._kinds = {name: text for name, text in zip(ids, kinds, strict=True) if isinstance(text, str)}
        rest = iter(sources)
        listed = {name: tuple(islice(rest, size)) for name, size in zip(ids, sizes.tolist(), strict=True) if size}
        roster._provenances = listed
        roster._hold(vectors, counts, sums)
        return roster


def _are_unit(vectors: Floats) -> bool:
    # Of length 1, or zero: a memory without a direction.
    lengths = np.einsum("nd,nd->n", vectors, vectors)
    return bool(((np.abs(lengths - 1.0) < 1e-3) | (lengths == 0.0)).all())


def _add_up(counts: Rows, sums: Doubles) -> bool:
    shares = sums[:, [_IMPORTANCE, _PRIOR]]
    is_earned = (sums[:, _EARNED] >= 0.0) & (sums[:, _EARNED] <= counts[:, _SHOWN] + 1e-6)
    in_range = np.isfinite(sums).all() and ((shares >= 0.0) & (shares <= 1.0)).all() and (counts >= 0).all()
    return bool(in_range and is_earned.all())
