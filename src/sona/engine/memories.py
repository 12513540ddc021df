"""The engine's own memories: texts with an id and, once indexed, a vector each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sona.checks import Floats, matrix, nonempty_text, vector
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.memory.votes import unit
from sona.state import State


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors of memories that waited for them, or of all.

    Args:
        rows: Of which memories, ascending, k of them.
        vectors: Theirs, unit length, shape (k, d).
        made: Of those that were embedded just now, as the embedder made them, shape (m, d).
        ids: Of which memories, m of them.
    """

    rows: Sequence[int]
    vectors: Floats
    made: Floats
    ids: tuple[str, ...] = ()


class Memories:
    """Texts by id, in the order they came; a text remembered twice is one memory.

    Vectors are unit length. A memory waits until vectors are published. One that was merged into another leaves its
    id behind, which stands for the other from then on.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._row_of: dict[str, int] = {}
        self._merged_texts: dict[str, str] = {}  # what those said
        self._merged: dict[str, str] = {}  # id of one that was merged -> id of the one it is part of; in _row_of, too
        self._id_of_text: dict[str, str] = {}
        self._texts: list[str] = []
        self._names: list[str] = []  # ids by row
        self._numbered = 0  # greatest number that an id had; made-up ids go on from it, as votes name those that went
        self._ids: tuple[str, ...] = ()
        # Readers hold the first rows of the room, which never change: only rows behind them are ever written.
        self._vectors: Floats = np.zeros((0, 0), np.float32)
        self._room: Floats = self._vectors
        self._unindexed: set[int] = set()
        self._given: dict[int, Floats] = {}  # the caller's vectors of memories that wait, by row
        self._own: set[int] = set()  # rows of those that do not wait and whose vector is the caller's

    def __len__(self) -> int:
        """Return how many memories there are."""
        return len(self._texts)

    def __contains__(self, id: str) -> bool:  # noqa: A002 - the memory's own word for it
        """Return True when a memory has this id, or had it before it was merged."""
        return id in self._row_of

    @property
    def waiting_count(self) -> int:
        """Memories that have no vector yet."""
        return len(self._unindexed)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Ids of memories that have no vector, or not that of their present words."""
        ids = self.ids
        return tuple(ids[row] for row in self.waiting_rows)

    @property
    def waiting_rows(self) -> tuple[int, ...]:
        """Rows of the same, ascending."""
        return tuple(sorted(self._unindexed))

    @property
    def needs_words(self) -> bool:
        """True when a waiting memory has no vector of the caller's."""
        return any(row not in self._given for row in self._unindexed)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in row order."""
        ids = self._ids
        if len(ids) != len(self._names):  # ids only ever grow, and another thread may be adding one
            ids = self._ids = tuple(self._names)
        return ids

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts in row order."""
        return tuple(self._texts)

    @property
    def vectors(self) -> Floats:
        """Unit vectors in row order, shape (n, d); read-only, and another array whenever anything changed."""
        return self._vectors

    @property
    def width(self) -> int | None:
        """Width d of the vectors; None while there are none."""
        return self._vectors.shape[1] if len(self._vectors) else None

    @property
    def row_of(self) -> Mapping[str, int]:
        """Row of each id, those of merged memories included; ids only ever join it."""
        return self._row_of

    def row(self, id: str) -> int:  # noqa: A002 - the memory's own word for it
        """Return the row of a memory, or raise InvalidValue."""
        if id not in self._row_of:
            raise InvalidValue(f"no memory has the id {id!r}")
        return self._row_of[id]

    def text(self, id: str) -> str:  # noqa: A002 - the memory's own word for it
        """Return the text of a memory, or raise InvalidValue."""
        return self._texts[self.row(id)]

    def add(self, text: str, id: str | None = None, given: Floats | None = None) -> str:  # noqa: A002
        """Add a memory and return its id; the same id again replaces its text, the same text again is one memory.

        Args:
            text: What to remember.
            id: Its id; made up when None.
            given: Its vector, shape (d,), when the caller has embedded it.

        Raises:
            InvalidValue: an empty text or id, or a vector that cannot be used; nothing was added.
        """
        nonempty_text(text, "text")
        row_vector = None if given is None else unit(vector(given, what="vector"))
        id = self.id_for(text, id)  # noqa: A001
        row = self._row_of.get(nonempty_text(id, "id"))
        if self.is_known(id, text) and row_vector is None:
            return id
        if self._merged.pop(id, None) is not None:  # it is a memory of its own again
            row = None
            self._unname(id, self._merged_texts.pop(id))
        if row is None:
            row = len(self._texts)
            self._texts.append(text)
            self._names.append(id)
            self._row_of[id] = row
            self._numbered = max(self._numbered, _number_of(id))
        else:
            self._retext(id, row, text)
        known = self._id_of_text.get(text)
        if known is None or known in self._merged or self._row_of[known] > row:  # the first with the same words answers
            self._id_of_text[text] = id
        self._unindexed.add(row)
        self._own.discard(row)
        self._given.pop(row, None)
        if row_vector is not None:
            self._given[row] = row_vector
        return id

    def id_for(self, text: str, id: str | None = None) -> str:  # noqa: A002
        """Return the id under which `add` would keep a text: the one given, that of the same text, or a new one."""
        return (self._id_of_text.get(text) or self._new_id()) if id is None else id

    def is_known(self, id: str, text: str) -> bool:  # noqa: A002
        """Return True when the memory `id` has just this text, or had it when it was merged."""
        if id in self._merged:
            return self._merged_texts[id] == text
        row = self._row_of.get(id)
        return row is not None and self._texts[row] == text

    def _retext(self, id: str, row: int, text: str) -> None:  # noqa: A002
        old, self._texts[row] = self._texts[row], text
        self._unname(id, old)

    def _unname(self, id: str, text: str) -> None:  # noqa: A002
        # The memory `id` says this no more; another one may.
        if self._id_of_text.get(text) == id:
            del self._id_of_text[text]
            other = next((name for name, words in zip(self._names, self._texts, strict=True) if words == text), None)
            if other is not None:
                self._id_of_text[text] = other

    def _new_id(self) -> str:
        number = max(len(self._texts), self._numbered) + 1
        while f"m{number}" in self._row_of:
            number += 1
        return f"m{number}"

    def embedded(
        self,
        embed: Callable[[Sequence[str]], Floats],
        *,
        anew: bool = False,
        known: Mapping[str, Floats] | None = None,
    ) -> Embedded:
        """Return vectors of the waiting memories, or of all of them `anew`; those not given are made by `embed`.

        Args:
            embed: Returns one vector per text, shape (n, d).
            anew: Whether those that have a vector get another one.
            known: Vectors by id that `embed` made before and need not make again.

        Raises:
            DimensionMismatch: the vectors differ in width.
            InvalidValue: not one vector per text.
        """
        rows = sorted(range(len(self._texts)) if anew else self._unindexed)
        given = {row: self._vectors[row] for row in rows if row in self._own} | self._given
        to_embed = [row for row in rows if row not in given]
        nothing = np.zeros((0, 0), np.float32)
        if not rows:
            return Embedded((), nothing, nothing)
        made = self._made(to_embed, embed, known or {}) if to_embed else nothing
        width = made.shape[1] if to_embed else given[rows[0]].shape[0]
        if self.width not in (None, width):
            raise DimensionMismatch(width, self._vectors.shape[1], "memory vectors")
        fresh = np.zeros((len(rows), width), np.float32)
        for place, row in enumerate(rows):
            if row in given:
                fresh[place] = vector(given[row], width, "memory vector")
        if to_embed:
            fresh[[place for place, row in enumerate(rows) if row not in given]] = unit(made)
        ids = self.ids
        return Embedded(rows, fresh, made, tuple(ids[row] for row in to_embed))

    def _made(
        self, rows: Sequence[int], embed: Callable[[Sequence[str]], Floats], known: Mapping[str, Floats]
    ) -> Floats:
        ids = self.ids
        unknown = [row for row in rows if ids[row] not in known]
        fresh = matrix(embed([self._texts[row] for row in unknown])) if unknown else np.zeros((0, 0), np.float32)
        if len(fresh) != len(unknown):
            raise InvalidValue(f"embedder: expected {len(unknown)} vectors, got {len(fresh)}")
        if len(unknown) == len(rows):
            return fresh
        made = {**known, **{ids[row]: row_vector for row, row_vector in zip(unknown, fresh, strict=True)}}
        width = len(made[ids[rows[0]]])
        return np.stack([vector(made[ids[row]], width, "memory vector") for row in rows])

    def publish(self, vectors: Floats, rows: Sequence[int] | None = None) -> None:
        """Let `vectors`, shape (k, d), be those of the memories at `rows`, or of all; none waits any more.

        The time is that of the new rows, on average; where one that has a vector gets another, all are copied, as
        readers may hold the old ones.

        Args:
            vectors: Unit vectors, not to be changed any more.
            rows: Ascending, with all that wait.
        """
        if rows is None or 0 < len(rows) == len(self._texts):
            fresh = self._room = vectors
        else:
            fresh = self._extended(vectors, rows) if rows else self._vectors
        fresh.flags.writeable = False
        self._vectors = fresh
        self._own.update(self._given)
        self._given.clear()
        self._unindexed.clear()

    def _extended(self, vectors: Floats, rows: Sequence[int]) -> Floats:
        old, count = self._vectors, len(self._texts)
        is_full = count > len(self._room)
        if is_full or rows[0] < len(old):
            room = np.empty((max(count, 2 * len(old)) if is_full else len(self._room), old.shape[1]), np.float32)
            room[: len(old)] = old
            self._room = room
        self._room[list(rows)] = vectors
        return self._room[:count]

    def made_anew(self, embed: Callable[[Sequence[str]], Floats], known: Mapping[str, Floats]) -> Floats:
        """Return vectors of all memories, shape (n, d): those `known` by id, the others made by `embed`."""
        return self._made(range(len(self)), embed, known) if len(self) else np.zeros((0, 0), np.float32)

    def replace_vectors(self, vectors: Floats) -> None:
        """Take over the vectors of another embedder, shape (n, d); those the caller had given are gone.

        Raises:
            InvalidValue: not one vector per memory.
        """
        fresh = unit(matrix(vectors, what="memory vectors")).copy()
        if len(fresh) != len(self):
            raise InvalidValue(f"memory vectors: expected {len(self)}, got {len(fresh)}")
        self._given.clear()
        self._own.clear()
        self.publish(fresh)

    def without(self, gone: Mapping[str, str | None]) -> Memories:
        """Return the memories without some of them; these stay as they are, for whoever reads them.

        None goes into what is not a memory here that stays, nor into one whose present words have no vector yet:
        nobody compared the two. Such a one stays as well, and waits to be indexed again.

        Args:
            gone: Ids of those that go, each with the id of the one that it was merged into, or None.
        """
        left = Memories()
        leaving = {old: new for old, new in gone.items() if new is None or self._takes_in(new, gone)}
        kept = [row for row, id in enumerate(self._names) if id not in leaving]  # noqa: A001
        new_row = {row: place for place, row in enumerate(kept)}
        left._texts, left._names = [self._texts[row] for row in kept], [self._names[row] for row in kept]
        left._numbered = self._numbered
        left._row_of = {id: place for place, id in enumerate(left._names)}  # noqa: A001
        for id, text in zip(left._names, left._texts, strict=True):  # noqa: A001
            left._id_of_text.setdefault(text, id)
        merged = {**self._merged, **{old: new for old, new in leaving.items() if new is not None}}
        for old in merged:
            end = _end(old, merged)
            if end in left._row_of and old not in left._row_of:
                left._merged[old] = end
                words = self._merged_texts[old] if old in self._merged_texts else self._texts[self._row_of[old]]
                left._merged_texts[old] = words
                left._id_of_text.setdefault(words, old)
        left._row_of.update({old: left._row_of[new] for old, new in left._merged.items()})
        left._vectors = self._vectors[[row for row in kept if row < len(self._vectors)]]
        left._vectors.flags.writeable = False
        stayed = {self._row_of[old] for old in gone.keys() - leaving.keys() if old in self._row_of}
        left._unindexed = {new_row[row] for row in self._unindexed | stayed if row in new_row}
        given = self._given | {row: self._vectors[row].copy() for row in stayed & self._own}
        left._given = {new_row[row]: row_vector for row, row_vector in given.items() if row in new_row}
        left._own = {new_row[row] for row in self._own - stayed if row in new_row}
        return left

    def _takes_in(self, id: str, gone: Mapping[str, str | None]) -> bool:  # noqa: A002
        is_here = id in self._row_of and id not in self._merged and id not in gone
        return is_here and self._row_of[id] not in self._unindexed

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        given = sorted(self._given)
        rows = np.stack([self._given[row] for row in given]) if given else np.zeros((0, 0), np.float32)
        return State(
            {
                "ids": list(self.ids),
                "merged": list(self._merged),
                "merged_into": list(self._merged.values()),
                "merged_texts": [self._merged_texts[old] for old in self._merged],
                "texts": list(self._texts),
                "numbered": self._numbered,
                "vectors": self._vectors,
                "unindexed": np.array(sorted(self._unindexed), np.int64),
                "given_rows": np.array(sorted([*self._own, *given]), np.int64),
                "given": rows,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Memories:
        """Return the memories that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        memories = cls()
        ids, memories._texts = state.texts("ids"), state.texts("texts")
        if len(ids) != len(memories._texts):
            raise StoreError("saved state: memories/ids and memories/texts differ in number")
        memories._names, memories._numbered = ids, state.whole("numbered")
        memories._row_of = {id: row for row, id in enumerate(ids)}  # noqa: A001
        for id, text in zip(ids, memories._texts, strict=True):  # noqa: A001
            memories._id_of_text.setdefault(text, id)
        merged, into, said = (state.texts(name) for name in ("merged", "merged_into", "merged_texts"))
        if not len(merged) == len(into) == len(said) or any(new not in memories._row_of for new in into):
            raise StoreError("saved state: memories/merged names what is not there")
        if len(memories._row_of) < len(ids) or not memories._row_of.keys().isdisjoint(merged):
            raise StoreError("saved state: two memories have one id")
        memories._merged = dict(zip(merged, into, strict=True))
        memories._merged_texts = dict(zip(merged, said, strict=True))
        for old, words in memories._merged_texts.items():
            memories._id_of_text.setdefault(words, old)
        memories._row_of.update({old: memories._row_of[new] for old, new in memories._merged.items()})
        memories._vectors = state.floats("vectors", None, None)
        memories._vectors.flags.writeable = False
        memories._unindexed = set(state.wholes("unindexed", None).tolist())
        given_rows, given = state.wholes("given_rows", None).tolist(), state.floats("given", None, None)
        waiting = [row for row in given_rows if row in memories._unindexed]
        held = given_rows if len(given) == len(given_rows) else waiting  # older states hold those of all
        if len(given) != len(held):
            raise StoreError("saved state: memories/given and memories/given_rows differ in number")
        vector_of = dict(zip(held, given, strict=True))
        memories._given = {row: vector_of[row] for row in waiting}
        memories._own = {*given_rows} - memories._unindexed
        return memories


def _end(id: str, merged: Mapping[str, str]) -> str:  # noqa: A002
    # What was merged into something that was merged itself is part of the last of them.
    while id in merged:
        id = merged[id]  # noqa: A001
    return id


def _number_of(id: str) -> int:  # noqa: A002
    digits = id[1:]
    return int(digits) if id[0] == "m" and digits.isascii() and digits.isdecimal() and len(digits) < 16 else 0
