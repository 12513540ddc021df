"""Whose vote is whose: the latest opinion of each subject about each request, so that nobody counts twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sona.errors import StoreError
from sona.memory.shelf import Showing
from sona.state import State


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a subject thinks of what one request was shown; a later one replaces it.

    Args:
        serial: Its number, which no other opinion ever has.
        showings: What was shown, and what it earned.
    """

    serial: int
    showings: tuple[Showing, ...]


class Opinions:
    """The latest opinion of each subject about each request; empty, and without cost, where nobody is named.

    Bounded: beyond `capacity` the oldest is forgotten. Its votes stay, and the next opinion of that subject about
    that request adds to them. With room for twice as many opinions as there are requests, nobody can bring that
    about alone: whoever gives so many newer opinions has brought in enough new requests to push the old one out.

    Args:
        capacity: Most opinions held.
    """

    __slots__ = ("_capacity", "_held", "_next_serial")

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._held: OrderedDict[tuple[int, str], Opinion] = OrderedDict()  # by request and subject, oldest first
        self._next_serial = 0

    @property
    def capacity(self) -> int:
        """Most opinions held."""
        return self._capacity

    def __len__(self) -> int:
        """Opinions held, those about requests that are gone included until they are the oldest."""
        return len(self._held)

    def held(self, request: int, subject: str) -> Opinion | None:
        """Return the opinion held of a subject about a request, by its number."""
        return self._held.get((request, subject))

    def hold(self, request: int, subject: str, showings: tuple[Showing, ...]) -> Opinion:
        """Hold a new opinion in place of the earlier one, and return it."""
        opinion = Opinion(self._next_serial, showings)
        self._next_serial += 1
        self._held[request, subject] = opinion
        self._held.move_to_end((request, subject))
        if len(self._held) > self._capacity:
            self._held.popitem(last=False)
        return opinion

    def drop(self, request: int, subject: str, serial: int) -> bool:
        """Forget an opinion; False, and nothing changed, when another has replaced it or it is forgotten."""
        held = self._held.get((request, subject))
        if held is None or held.serial != serial:
            return False
        del self._held[request, subject]
        return True

    def copy(self) -> Opinions:
        """Return opinions equal to these; a later change of either leaves the other as it was."""
        twin = Opinions(self._capacity)
        twin._held, twin._next_serial = self._held.copy(), self._next_serial
        return twin

    def restore(self, earlier: Opinions) -> None:
        """Hold what was held earlier, as far as there is room, `earlier` itself unchanged; numbers go on."""
        self._held = earlier._held.copy()
        while len(self._held) > self._capacity:
            self._held.popitem(last=False)
        self._next_serial = max(self._next_serial, earlier._next_serial)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        held = list(self._held.values())
        showings = [showing for opinion in held for showing in opinion.showings]
        place_of: dict[str, int] = {}
        items = [place_of.setdefault(showing.item, len(place_of)) for showing in showings]
        worth = [value for showing in showings for value in (showing.reward, showing.examined)]
        return State(
            {
                "capacity": self._capacity,
                "next_serial": self._next_serial,
                "requests": np.array([request for request, _ in self._held], np.int64),
                "subjects": [subject for _, subject in self._held],
                "serials": np.array([opinion.serial for opinion in held], np.int64),
                "sizes": np.array([len(opinion.showings) for opinion in held], np.int64),
                "names": list(place_of),
                "items": np.array(items, np.int64),
                "worth": np.array(worth, np.float64).reshape(-1, 2),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Opinions:
        """Return the opinions that `state` was taken from.

        Raises:
            StoreError: the state is incomplete, damaged, or beyond the capacity.
        """
        opinions = cls(state.whole("capacity"))
        opinions._next_serial = state.whole("next_serial")
        subjects = state.texts("subjects")
        count = len(subjects)
        requests, serials = (state.wholes(name, count).tolist() for name in ("requests", "serials"))
        showings = _showings(state, state.wholes("sizes", count).tolist())
        if (
            count > opinions._capacity
            or serials != sorted(set(serials))
            or max(serials, default=-1) >= opinions._next_serial
        ):
            raise StoreError("saved state: the opinions do not add up")
        for request, subject, serial, shown in zip(requests, subjects, serials, showings, strict=True):
            opinions._held[request, subject] = Opinion(serial, shown)
        return opinions


def _showings(state: State, sizes: Sequence[int]) -> list[tuple[Showing, ...]]:
    names, items = state.texts("names"), state.wholes("items", None).tolist()
    worth = state.doubles("worth", len(items), 2).tolist()
    if min(sizes, default=0) < 0 or sum(sizes) != len(items) or not set(items) <= set(range(len(names))):
        raise StoreError("saved state: the opinions do not add up")
    every = [Showing(names[item], *pair) for item, pair in zip(items, worth, strict=True)]
    ends = np.cumsum([0, *sizes]).tolist()
    return [tuple(every[low:high]) for low, high in pairwise(ends)]
