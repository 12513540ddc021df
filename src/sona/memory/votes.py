"""Vote memory: what past requests were shown and took, looked up by similarity.

Every distinct past request keeps, per item it was shown, two sums: `taken` (rewards) and `passed` (unrewarded
showings, each weighted by the chance that it was looked at). A new request pools these sums over its nearest
past requests, kept apart by similarity bin; `sona.memory.calibrate` learns what each bin's experience is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sona.checks import Floats, fraction, matrix, vector
from sona.config import VoteConfig
from sona.errors import InvalidValue, StoreError
from sona.state import State


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Pooled experience of a neighbourhood, by item and similarity bin.

    Args:
        items: Item ids, m of them.
        taken: Rewards earned, shape (m, 1 + bins); column 0 is the same request.
        passed: Expected looks without reward, shape (m, 1 + bins).
        is_known: True when the same request was asked before.
    """

    items: tuple[str, ...]
    taken: Floats
    passed: Floats
    is_known: bool

    def rows(self, items: Sequence[str]) -> tuple[Floats, Floats]:
        """Return `taken` and `passed` for `items`, zero where nothing is known, each of shape (n, 1 + bins)."""
        row_of = {item: row for row, item in enumerate(self.items)}
        taken = np.zeros((len(items), self.taken.shape[1]), np.float32)
        passed = np.zeros_like(taken)
        for row, item in enumerate(items):
            found = row_of.get(item)
            if found is not None:
                taken[row] = self.taken[found]
                passed[row] = self.passed[found]
        return taken, passed


@dataclass(frozen=True, slots=True)
class Showing:
    """One item shown for a request: what it earned, and the chance that it was looked at."""

    item: str
    reward: float
    examined: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Record:
    # One past request: item -> (taken, passed). Never changed, only replaced, so that readers need no lock.
    number: int
    request: Floats
    text: str | None
    visits: int
    sums: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Names one recorded showing, so that it can be taken back when its feedback is amended."""

    number: int
    showings: tuple[Showing, ...]


class VoteMemory:
    """Remembers what past requests took; neutral for a request without neighbours.

    Bounded (the oldest request goes first) and deduplicated (a request asked again adds to its own record).
    Readers never lock; writers take turns, which the caller sees to.

    Args:
        hidden_dim: Width d of the requests.
        config: Settings.

    >>> votes = VoteMemory(2)
    >>> key = votes.record(np.array([1.0, 0.0]), [Showing("a", 1.0), Showing("b", 0.0)])
    >>> evidence = votes.look_up(np.array([1.0, 0.0]))
    >>> evidence.items, evidence.taken[:, 0].tolist(), evidence.passed[:, 0].tolist()
    (('a', 'b'), [1.0, 0.0], [0.0, 1.0])
    """

    def __init__(self, hidden_dim: int, config: VoteConfig | None = None) -> None:
        """Make an empty memory."""
        self.config = config or VoteConfig()
        self._dim = hidden_dim
        self._edges = np.asarray(self.config.similarity_edges, np.float32)
        self._requests = np.zeros((min(64, self.config.capacity), hidden_dim), np.float32)
        self._records: list[_Record] = []
        self._next_number = 0
        self._evicted = 0

    def __len__(self) -> int:
        """Return how many distinct requests are remembered."""
        return len(self._records)

    @property
    def hidden_dim(self) -> int:
        """Width d of the requests."""
        return self._dim

    @property
    def evicted_count(self) -> int:
        """How many requests had to make room for newer ones."""
        return self._evicted

    def look_up(self, x: Floats) -> Evidence:
        """Return the pooled experience of the requests nearest to `x`, shape (d,).

        Raises:
            InvalidValue: `x` is not a finite vector of width d.
        """
        row_of: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        taken: list[float] = []
        passed: list[float] = []
        is_known = False
        for record, column in self._nearest(unit(vector(x, self._dim, "request"))):
            is_known = is_known or column == 0
            # A neighbour speaks for one visit, however often it was asked: its voice means the same all along.
            share = 1.0 if column == 0 else 1.0 / max(record.visits, 1)
            for item, (item_taken, item_passed) in record.sums.items():
                rows.append(row_of.setdefault(item, len(row_of)))
                columns.append(column)
                taken.append(item_taken * share)
                passed.append(item_passed * share)
        sums = np.zeros((2, len(row_of), self.bin_count), np.float32)
        if rows:
            np.add.at(sums[0], (rows, columns), taken)
            np.add.at(sums[1], (rows, columns), passed)
        return Evidence(tuple(row_of), sums[0], sums[1], is_known)

    @property
    def bin_count(self) -> int:
        """Number of similarity bins, the same request included."""
        return 1 + len(self._edges)

    def _nearest(self, x: Floats) -> Iterator[tuple[_Record, int]]:
        # Yields the nearest past requests with their bin. The record list is read once: a writer may be at work.
        requests = self._requests
        count = min(len(self._records), len(requests))
        if count == 0:
            return
        similarities = requests[:count] @ x
        k = min(self.config.neighbours, count)
        near = np.argpartition(-similarities, k - 1)[:k] if k < count else np.arange(count)
        for slot in near[similarities[near] >= self._edges[0]].tolist():
            record = self._records[slot]
            # After an eviction the row may have been another request's while it was being compared.
            similarity = float(record.request @ x) if self._evicted else float(similarities[slot])
            if similarity >= self.config.same_similarity:
                yield record, 0
            elif similarity >= self._edges[0]:
                yield record, int(np.searchsorted(self._edges, similarity, "right"))

    def record(self, x: Floats, showings: Iterable[Showing], text: str | None = None) -> Receipt:
        """Add one request's outcome, to its own record when it was asked before.

        Args:
            x: The request, shape (d,).
            showings: What was shown, and what it earned.
            text: The request in words, if it had any; kept so that it can be embedded anew.

        Returns:
            A receipt for `withdraw`.

        Raises:
            InvalidValue: a reward or look outside [0, 1], or a vector that cannot be used; nothing was changed.
        """
        checked = tuple(
            Showing(showing.item, fraction(showing.reward, "reward"), fraction(showing.examined, "examined"))
            for showing in showings
        )
        request = unit(vector(x, self._dim, "request"))
        slot = self._same(request)
        if slot is None:
            slot = self._make_room(request, text)
        record = self._records[slot]
        self._records[slot] = replace(record, visits=record.visits + 1, sums=_added(record.sums, checked, 1.0))
        return Receipt(record.number, checked)

    def withdraw(self, receipt: Receipt) -> bool:
        """Take one recorded outcome back; False when its request has made room for newer ones meanwhile."""
        for slot, record in enumerate(self._records):
            if record.number == receipt.number:
                sums = _added(record.sums, receipt.showings, -1.0)
                self._records[slot] = replace(record, visits=max(record.visits - 1, 0), sums=sums)
                return True
        return False

    def _same(self, request: Floats) -> int | None:
        # A zero request has no direction: it equals only itself, and shares one record.
        if not self._records:
            return None
        similarities = self._requests[: len(self._records)] @ request
        best = int(np.argmax(similarities))
        if similarities[best] >= self.config.same_similarity:
            return best
        if not request.any():
            return next((slot for slot, record in enumerate(self._records) if not record.request.any()), None)
        return None

    def _make_room(self, request: Floats, text: str | None) -> int:
        record = _Record(self._next_number, request, text, 0, {})
        self._next_number += 1
        count = len(self._records)
        if count < self.config.capacity:
            if count == len(self._requests):
                grown = np.zeros((min(2 * count, self.config.capacity), self._dim), np.float32)
                grown[:count] = self._requests
                self._requests = grown
            self._requests[count] = request
            self._records.append(record)
            return count
        slot = record.number % self.config.capacity
        self._evicted += 1
        self._records[slot] = record  # before the row: a reader that sees the old row re-reads the request
        self._requests[slot] = request
        return slot

    def re_embed(self, embed: Callable[[list[str]], Floats]) -> int:
        """Give every request that has a text a new vector, and return how many; what the requests took stays.

        Args:
            embed: Returns one vector per text, shape (n, d).

        Raises:
            InvalidValue: the vectors cannot be used; nothing was changed.
        """
        slots = [slot for slot, record in enumerate(self._records) if record.text is not None]
        if not slots:
            return 0
        fresh = unit(matrix(embed([self._records[slot].text or "" for slot in slots]), self._dim, "requests"))
        if len(fresh) != len(slots):
            raise InvalidValue(f"requests: expected {len(slots)} vectors, got {len(fresh)}")
        requests, records = self._requests.copy(), list(self._records)
        for slot, row in zip(slots, fresh, strict=True):
            requests[slot] = row
            records[slot] = replace(records[slot], request=row)
        self._requests, self._records = requests, records
        return len(slots)

    @property
    def requests(self) -> Floats:
        """The remembered requests, unit length, shape (len(self), d)."""
        return self._requests[: len(self._records)].copy()

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        sums = [(item, *pair) for record in self._records for item, pair in record.sums.items()]
        return State(
            {
                "hidden_dim": self._dim,
                "requests": self.requests,
                "numbers": np.array([record.number for record in self._records], np.int64),
                "visits": np.array([record.visits for record in self._records], np.int64),
                "sizes": np.array([len(record.sums) for record in self._records], np.int64),
                "texts": [record.text for record in self._records],
                "items": [item for item, _, _ in sums],
                "taken": np.array([taken for _, taken, _ in sums], np.float64),
                "passed": np.array([passed for _, _, passed in sums], np.float64),
                "next_number": self._next_number,
                "evicted": self._evicted,
            }
        )

    @classmethod
    def from_state(cls, state: State, config: VoteConfig | None = None) -> VoteMemory:
        """Return the memory that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or does not fit `config`.
        """
        memory = cls(state.whole("hidden_dim"), config)
        requests = state.floats("requests", None, memory._dim)
        count = len(requests)
        if count > memory.config.capacity:
            raise StoreError(f"saved state: {count} requests, but the capacity is {memory.config.capacity}")
        numbers, visits, sizes = (state.wholes(name, count).tolist() for name in ("numbers", "visits", "sizes"))
        items, texts = state.texts("items"), state.listing("texts")
        taken, passed = (state.doubles(name, len(items)).tolist() for name in ("taken", "passed"))
        if sum(sizes) != len(items) or len(texts) != count:
            raise StoreError("saved state: votes/sizes do not add up")
        room = max(min(64, memory.config.capacity), count)
        memory._requests = np.zeros((room, memory._dim), np.float32)
        memory._requests[:count] = requests
        end = 0
        for row, (number, visit, size) in enumerate(zip(numbers, visits, sizes, strict=True)):
            begin, end = end, end + size
            pairs = zip(taken[begin:end], passed[begin:end], strict=True)
            sums = dict(zip(items[begin:end], pairs, strict=True))
            text = texts[row]
            text = text if isinstance(text, str) else None
            memory._records.append(_Record(number, requests[row], text, visit, sums))
        memory._next_number = state.whole("next_number")
        memory._evicted = state.whole("evicted")
        return memory


def unit(x: Floats) -> Floats:
    """Return `x` with every row scaled to length 1; a zero row stays zero.

    Args:
        x: Shape (d,) or (n, d).
    """
    length = np.sqrt(np.einsum("...d,...d->...", x, x, dtype=np.float64))[..., None].astype(np.float32)
    result: Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0.0)
    return result


def _added(
    sums: Mapping[str, tuple[float, float]], showings: Iterable[Showing], sign: float
) -> dict[str, tuple[float, float]]:
    # Taking back what was added returns to what was there; an item with nothing left is dropped.
    result = dict(sums)
    for showing in showings:
        taken, passed = result.get(showing.item, (0.0, 0.0))
        taken = max(taken + sign * showing.reward, 0.0)
        passed = max(passed + sign * (1.0 - showing.reward) * showing.examined, 0.0)
        if taken < 1e-9 and passed < 1e-9:
            result.pop(showing.item, None)
        else:
            result[showing.item] = (taken, passed)
    return result
