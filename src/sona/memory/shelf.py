"""Past requests as records that are replaced and never changed, so that readers need no lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.errors import StoreError
from sona.state import State

Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_NOTHING = 1e-9  # what rounding leaves of evidence that was taken back


@dataclass(frozen=True, slots=True)
class Showing:
    """One item shown for a request: what it earned, and the chance that it was looked at."""

    item: str
    reward: float
    examined: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One past request.

    Args:
        number: Its number, which no other request ever has.
        request: Of length 1, shape (d,).
        text: The request in words, if it had any.
        visits: Outcomes in the sums.
        items: Places of m items in the shelf's names, shape (m,).
        sums: What they were taken and passed, shape (m, 2).
    """

    number: int
    request: Floats
    text: str | None
    visits: int
    items: Rows
    sums: Doubles


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A past request that has a voice.

    Args:
        number: Its number.
        text: In words, if it had any.
        similarity: Its cosine to the present request.
        taken: What its items earned, by id; those that earned nothing are left out.
    """

    number: int
    text: str | None
    similarity: float
    taken: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """The records and the names their items are places in; both lists only grow, and are replaced together."""

    records: list[Record]
    names: list[str]
    place_of: dict[str, int]

    @classmethod
    def of(cls, records: Iterable[Record], names: Iterable[str]) -> Shelf:
        """Return a shelf with these records and names."""
        listed = list(names)
        return cls(list(records), listed, {name: place for place, name in enumerate(listed)})

    def taken_of(self, record: Record) -> dict[str, float]:
        """Return what the items of a request earned, by id; those that earned nothing are left out."""
        pairs = zip(record.items.tolist(), record.sums[:, 0].tolist(), strict=True)
        return {self.names[place]: earned for place, earned in pairs if earned > 0.0}

    def place(self, item: str) -> int:
        """Return the place of a name, giving it one when it is new."""
        place = self.place_of.get(item)
        if place is None:
            place = len(self.names)
            self.names.append(item)
            self.place_of[item] = place
        return place

    def tidied(self) -> Shelf:
        """Return a shelf of the same records without the names that none of them holds."""
        fresh = Shelf([], [], {})
        for record in self.records:
            items = np.array([fresh.place(self.names[place]) for place in record.items.tolist()], np.int64)
            fresh.records.append(replace(record, items=items))
        return fresh

    def moved(self, record: Record, showings: Iterable[Showing], sign: int) -> Record:
        """Return `record` with one more outcome (`sign` 1), or with one taken back (-1).

        Taking back what was added returns to what was there; an item with nothing left is dropped.
        """
        sums = dict(zip(record.items.tolist(), record.sums.tolist(), strict=True))
        for showing in showings:
            place = self.place(showing.item)
            taken, passed = sums.get(place, (0.0, 0.0))
            taken = max(taken + sign * showing.reward, 0.0)
            passed = max(passed + sign * (1.0 - showing.reward) * showing.examined, 0.0)
            sums[place] = [taken, passed]
        kept = {place: pair for place, pair in sums.items() if max(pair) >= _NOTHING}
        return replace(
            record,
            visits=max(record.visits + sign, 0),
            items=np.fromiter(kept, np.int64, len(kept)),
            sums=np.array(list(kept.values()), np.float64).reshape(-1, 2),
        )


def shelf_state(records: Sequence[Record], names: Sequence[str], hidden_dim: int) -> State:
    """Return records and names as a state tree, bit for bit."""
    nothing = np.zeros((0, hidden_dim), np.float32)
    return State(
        {
            "hidden_dim": hidden_dim,
            "requests": np.concatenate([nothing, *(record.request[None] for record in records)]),
            "numbers": np.array([record.number for record in records], np.int64),
            "visits": np.array([record.visits for record in records], np.int64),
            "sizes": np.array([len(record.items) for record in records], np.int64),
            "texts": [record.text for record in records],
            "names": list(names),
            "items": np.concatenate([np.zeros(0, np.int64), *(record.items for record in records)]),
            "sums": np.concatenate([np.zeros((0, 2)), *(record.sums for record in records)]),
        }
    )


def shelf_from_state(state: State) -> Shelf:
    """Return the shelf that `shelf_state` wrote.

    Raises:
        StoreError: the state is incomplete or its parts do not add up.
    """
    requests = state.floats("requests", None, state.whole("hidden_dim"))
    count = len(requests)
    numbers, visits, sizes = (state.wholes(name, count) for name in ("numbers", "visits", "sizes"))
    items, texts, names = state.wholes("items", None), state.listing("texts"), state.texts("names")
    sums = state.doubles("sums", len(items), 2)
    if int(sizes.sum()) != len(items) or len(texts) != count or (len(items) and items.max() >= len(names)):
        raise StoreError("saved state: the votes do not add up")
    ends = np.cumsum(sizes)[:-1]
    parts = zip(np.split(items, ends), np.split(sums, ends), strict=True) if count else iter(())
    records = [
        Record(int(numbers[row]), requests[row], _text(texts[row]), int(visits[row]), *part)
        for row, part in enumerate(parts)
    ]
    return Shelf.of(records, names)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
