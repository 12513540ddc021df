"""Requests that were answered and may still earn feedback."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields

import numpy as np

from sona import kernel
from sona.checks import Floats
from sona.engine.events import Serving
from sona.errors import StoreError
from sona.guard.comparison import Testimony
from sona.guard.holdout import Arm
from sona.memory.recall import Seeds
from sona.memory.votes import Receipt, Showing
from sona.state import Plain, State
from sona.trajectory import trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory

_NO_SEEDS = Seeds((), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One answered request.

    Args:
        trajectory: The request and what was shown, position by position, without rewards.
        text: The request in words, if it had any.
        served_at: Seconds.
        serving: How it was answered.
        outcome: The trajectory with what is known of its outcome; None before feedback.
        is_learned: Whether the outcome was learned from.
        seeds: What the request activated in the memory graph.
        receipt: What the vote memory recorded for it.
        testimony: What the guard recorded for it.
    """

    trajectory: QueryTrajectory
    text: str | None
    served_at: float
    serving: Serving
    outcome: QueryTrajectory | None = None
    is_learned: bool = False
    seeds: Seeds | None = None
    receipt: Receipt | None = None
    testimony: Testimony | None = None


make_served = kernel.maker(Served)
"""An answered request, of all its fields in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """Feedback that has its place in the order of things; what it teaches comes next.

    Args:
        served: The request as it was held.
        outcome: With its outcome; None when the feedback says nothing new.
        why_not: Why it is not learned from; None when it is.
    """

    served: Served
    outcome: QueryTrajectory | None
    why_not: str | None = None


class ServedRequests:
    """Answered requests by id, bounded in number and age; those that go without feedback are counted."""

    def __init__(self, capacity: int, window_s: float) -> None:
        """Start empty.

        Args:
            capacity: Most requests held; the oldest go first.
            window_s: Seconds a request is held.
        """
        self._capacity, self._window_s = capacity, window_s
        self._held: OrderedDict[int, Served] = OrderedDict()
        self._lock = threading.Lock()
        self._unanswered = self._total = 0

    def __len__(self) -> int:
        """Return how many requests are held."""
        return len(self._held)

    @property
    def total_count(self) -> int:
        """Requests served, ever."""
        return self._total

    @property
    def unanswered_count(self) -> int:
        """Requests that went without feedback, ever."""
        return self._unanswered

    @property
    def awaiting_count(self) -> int:
        """Requests held that had no feedback yet."""
        with self._lock:
            return sum(served.outcome is None for served in self._held.values())

    @property
    def awaited(self) -> set[str]:
        """Ids of what was shown to requests that had no feedback yet."""
        with self._lock:
            waiting = [served.trajectory for served in self._held.values() if served.outcome is None]
        return {step.ref for trajectory in waiting for step in trajectory.steps if step.ref is not None}

    def add(self, served: Served) -> None:
        """Hold one more request."""
        with self._lock:
            self._total += 1
            self._held[served.trajectory.id] = served
            while len(self._held) > self._capacity:
                _, oldest = self._held.popitem(last=False)
                self._unanswered += oldest.outcome is None

    def get(self, trajectory_id: int) -> Served | None:
        """Return the request with this id, if it is held."""
        return self._held.get(trajectory_id)

    def renew(self, served: Served) -> None:
        """Put the new version of a request in its old place; nothing happens when it has gone meanwhile."""
        with self._lock:
            if served.trajectory.id in self._held:
                self._held[served.trajectory.id] = served

    def is_waiting_too_long(self, now: float) -> bool:
        """Return True when the oldest request is older than the window."""
        with self._lock:
            oldest = next(iter(self._held.values()), None)
        return oldest is not None and now - oldest.served_at >= self._window_s

    def expire(self, now: float) -> int:
        """Let go of requests older than the window; return how many went without feedback."""
        gone = 0
        with self._lock:
            while self._held:
                oldest = next(iter(self._held.values()))
                if now - oldest.served_at < self._window_s:
                    break
                self._held.popitem(last=False)
                gone += oldest.outcome is None
            self._unanswered += gone
        return gone

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        with self._lock:
            held, unanswered, total = list(self._held.values()), self._unanswered, self._total
        receipts = [served.receipt for served in held]
        seeds = [served.seeds or _NO_SEEDS for served in held]
        return State(
            {
                "trajectories": trajectories_state([served.trajectory for served in held]),
                "outcomes": trajectories_state([served.outcome for served in held if served.outcome is not None]),
                "texts": [served.text for served in held],
                "served_at": np.array([served.served_at for served in held], np.float64),
                "servings": [list(astuple(served.serving)) for served in held],
                "has_outcome": np.array([served.outcome is not None for served in held], np.int64),
                "is_learned": np.array([served.is_learned for served in held], np.int64),
                "seeds": [list(one.ids) for one in seeds],
                "seed_cosines": np.concatenate([_NO_SEEDS.cosines, *(one.cosines for one in seeds)]),
                "receipt_numbers": np.array([-1 if r is None else r.number for r in receipts], np.int64),
                "receipts": [None if r is None else _receipt_plain(r) for r in receipts],
                "testimonies": [None if s.testimony is None else s.testimony.plain() for s in held],
                "unanswered": unanswered,
                "total": total,
            }
        )

    @classmethod
    def from_state(cls, state: State, capacity: int, window_s: float) -> ServedRequests:
        """Return the requests that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        requests = cls(capacity, window_s)
        trajectories = trajectories_from_state(state.child("trajectories"))
        count = len(trajectories)
        outcomes = iter(trajectories_from_state(state.child("outcomes")))
        listings = [state.listing(name) for name in ("texts", "servings", "receipts", "testimonies")]
        if any(len(listing) != count for listing in listings):
            raise StoreError("saved state: served requests do not add up")
        texts, servings, receipts, testimonies = listings
        served_at = state.doubles("served_at", count).tolist()
        has_outcome, is_learned, numbers = (
            state.wholes(name, count).tolist() for name in ("has_outcome", "is_learned", "receipt_numbers")
        )
        seeds = _seeds(state, count)
        for row, trajectory in enumerate(trajectories):
            text, testimony = texts[row], testimonies[row]
            requests._held[trajectory.id] = Served(
                trajectory,
                text if isinstance(text, str) else None,
                served_at[row],
                _serving(servings[row]),
                next(outcomes, None) if has_outcome[row] else None,
                bool(is_learned[row]),
                seeds[row],
                _receipt(numbers[row], receipts[row]),
                None if testimony is None else Testimony.from_plain(testimony),
            )
        requests._unanswered, requests._total = state.whole("unanswered"), state.whole("total")
        return requests


def _seeds(state: State, count: int) -> list[Seeds | None]:
    listed = state.listing("seeds")
    if len(listed) != count or not all(isinstance(ids, list) for ids in listed):
        raise StoreError("saved state: served requests do not add up")
    names = [tuple(str(name) for name in ids) for ids in listed if isinstance(ids, list)]
    ends = np.cumsum([len(ids) for ids in names], dtype=np.int64)
    cosines = state.floats("seed_cosines", int(ends[-1]) if count else 0)
    parts = np.split(cosines, ends[:-1]) if count else []
    return [Seeds(ids, part) if ids else None for ids, part in zip(names, parts, strict=True)]


def _serving(plain: Plain) -> Serving:
    try:
        if not isinstance(plain, list) or len(plain) != len(fields(Serving)):
            raise TypeError(f"expected {len(fields(Serving))} values")
        make: Callable[..., Serving] = Serving
        return make(Arm(str(plain[0])), *plain[1:])
    except (TypeError, ValueError) as error:
        raise StoreError(f"saved state: how a request was answered is damaged: {error}") from error


def _receipt_plain(receipt: Receipt) -> Plain:
    return [receipt.subject, receipt.serial, [[s.item, s.reward, s.examined] for s in receipt.showings]]


def _receipt(number: int, plain: Plain) -> Receipt | None:
    if number < 0:
        return None
    make: Callable[..., Showing] = Showing
    remake: Callable[..., Receipt] = Receipt
    try:
        if not isinstance(plain, list) or len(plain) != 3 or not isinstance(plain[2], list):
            raise TypeError("expected three values, the last one a list")
        return remake(number, tuple(make(*showing) for showing in plain[2]), *plain[:2])
    except (TypeError, ValueError) as error:
        raise StoreError(f"saved state: what was recorded of a request is damaged: {error}") from error


class SharedVectors:
    """One read-only copy of an item's vector for all requests that show it, for as long as one does."""

    def __init__(self) -> None:
        """Start empty."""
        self._by_id: weakref.WeakValueDictionary[str, Floats] = weakref.WeakValueDictionary()

    def share(self, item: str, row: Floats) -> Floats:
        """Return a read-only vector equal to `row`, the one already shared when the item has not changed."""
        held = self._by_id.get(item)
        if held is not None and held.tobytes() == row.tobytes():  # a tenth of the time of `array_equal`
            return held
        copy = np.array(row, np.float32)
        copy.flags.writeable = False
        self._by_id[item] = copy
        return copy
