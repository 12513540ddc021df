"""Requests that were answered and may still earn feedback."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sona.checks import Floats
from sona.errors import StoreError
from sona.memory.calibrate import ShownList
from sona.memory.votes import Receipt, Showing
from sona.state import State
from sona.trajectory import trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One answered request.

    Args:
        trajectory: The request and what was shown, position by position, without rewards.
        shown: What calibration needs about it; None when nothing was shown.
        text: The request in words, if it had any.
        served_at: Seconds.
        outcome: The trajectory as it was learned from; None before feedback.
        receipt: What the vote memory recorded for it.
    """

    trajectory: QueryTrajectory
    shown: ShownList | None
    text: str | None
    served_at: float
    outcome: QueryTrajectory | None = None
    receipt: Receipt | None = None

    def learned(self, outcome: QueryTrajectory, receipt: Receipt | None) -> Served:
        """Return the request with its outcome; a later amendment replaces it."""
        return replace(self, outcome=outcome, receipt=receipt)


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
        lists = [served.shown for served in held if served.shown is not None]
        bins = lists[0].taken.shape[1] if lists else 0
        receipts = [served.receipt for served in held]
        return State(
            {
                "trajectories": trajectories_state([served.trajectory for served in held]),
                "outcomes": trajectories_state([served.outcome for served in held if served.outcome is not None]),
                "texts": [served.text for served in held],
                "served_at": np.array([served.served_at for served in held], np.float64),
                "has_outcome": np.array([served.outcome is not None for served in held], np.int64),
                "shown_sizes": np.array([_size(served.shown) for served in held], np.int64),
                "is_known": np.array([s.is_known for s in lists], np.int64),
                "scalars": _stacked([np.stack([s.similarity, s.micro, s.base], 1) for s in lists], 3),
                "taken": _stacked([s.taken for s in lists], bins),
                "passed": _stacked([s.passed for s in lists], bins),
                "receipt_numbers": np.array([-1 if r is None else r.number for r in receipts], np.int64),
                "receipts": [
                    None if r is None else [[s.item, s.reward, s.examined] for s in r.showings] for r in receipts
                ],
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
        texts, receipts = state.listing("texts"), state.listing("receipts")
        served_at = state.doubles("served_at", count).tolist()
        has_outcome = state.wholes("has_outcome", count).tolist()
        numbers = state.wholes("receipt_numbers", count).tolist()
        lists = _split_lists(state, state.wholes("shown_sizes", count).tolist())
        if len(texts) != count or len(receipts) != count:
            raise StoreError("saved state: served requests do not add up")
        for row, trajectory in enumerate(trajectories):
            text = texts[row]
            requests._held[trajectory.id] = Served(
                trajectory,
                lists[row],
                text if isinstance(text, str) else None,
                served_at[row],
                next(outcomes, None) if has_outcome[row] else None,
                _receipt(numbers[row], receipts[row]),
            )
        requests._unanswered, requests._total = state.whole("unanswered"), state.whole("total")
        return requests


def _size(shown: ShownList | None) -> int:
    return -1 if shown is None else len(shown.similarity)


def _stacked(parts: Sequence[Floats], width: int) -> Floats:
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)


def _split_lists(state: State, sizes: Sequence[int]) -> list[ShownList | None]:
    total = sum(max(size, 0) for size in sizes)
    scalars = state.floats("scalars", total, 3)
    taken, passed = state.floats("taken", total, None), state.floats("passed", total, None)
    known = iter(state.wholes("is_known", sum(size >= 0 for size in sizes)).tolist())
    lists: list[ShownList | None] = []
    end = 0
    for size in sizes:
        if size < 0:
            lists.append(None)
            continue
        rows = slice(end, end + size)
        end += size
        similarity, micro, base = (np.ascontiguousarray(scalars[rows, column]) for column in range(3))
        lists.append(ShownList(similarity, taken[rows], passed[rows], micro, base, bool(next(known))))
    return lists


def _receipt(number: int, showings: object) -> Receipt | None:
    if number < 0 or not isinstance(showings, list):
        return None
    return Receipt(number, tuple(Showing(str(item), float(reward), float(look)) for item, reward, look in showings))


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
