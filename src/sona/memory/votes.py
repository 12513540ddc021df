"""Vote memory: what past requests were shown and took, looked up by similarity.

Every distinct past request keeps, per item it was shown, two sums: `taken` (rewards) and `passed` (unrewarded
showings, each weighted by the chance that it was looked at). A new request pools these sums over its nearest
past requests, kept apart by similarity bin; `sona.memory.calibrate` learns what each bin's experience is worth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sona import kernel
from sona.checks import Floats, fraction, matrix, setting_whole, vector
from sona.config import VoteConfig
from sona.errors import DimensionMismatch, InvalidValue, StateError, StoreError
from sona.memory.checkpoints import VoteCheckpoint
from sona.memory.evidence import Evidence, LookedUp, make_evidence, make_looked_up
from sona.memory.opinions import Opinions
from sona.memory.shelf import Neighbour, Record, Rows, Shelf, Showing
from sona.state import State
from sona.types import require_text_or_none

__all__ = ["Evidence", "Receipt", "Showing", "VoteCheckpoint", "VoteMemory", "unit"]

_OPINIONS_PER_REQUEST = 2  # of the capacity; see `Opinions` for why two


@dataclass(frozen=True, slots=True)
class Receipt:
    """Names one recorded outcome, so that it can be taken back when its feedback is amended.

    Args:
        number: The request's.
        showings: What was recorded.
        subject: Whose opinion it is; None when nobody was named.
        serial: The opinion's; -1 when nobody was named.
    """

    number: int
    showings: tuple[Showing, ...]
    subject: str | None = None
    serial: int = -1


class VoteMemory:
    """Remembers what past requests took; neutral for a request without neighbours.

    Bounded (the oldest request goes first) and deduplicated (a request asked again adds to its own record; what a
    named subject thinks of a request counts once). Readers never lock; writers take turns, which the caller sees to.

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
        """Make an empty memory.

        Raises:
            ConfigError: `hidden_dim` is not at least 1.
        """
        setting_whole(hidden_dim, "hidden_dim", 1)
        self.config = config or VoteConfig()
        self._dim = hidden_dim
        # As float32, in which similarities are compared with them.
        self._edges = np.asarray(self.config.similarity_edges, np.float32).tolist()
        self._same_from = float(np.float32(self.config.same_similarity))
        self._requests = np.zeros((min(64, self.config.capacity), hidden_dim), np.float32)
        self._shelf = Shelf([], [], {})
        self._opinions = Opinions(_OPINIONS_PER_REQUEST * self.config.capacity)
        self._next_number = 0
        self._evicted = 0
        self._turn = 0  # goes on after every change of a request's vector
        self._looked_up: LookedUp | None = None

    def __len__(self) -> int:
        """Return how many distinct requests are remembered."""
        return len(self._shelf.records)

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
        shelf = self._shelf
        records, columns = self._nearest(shelf.records, unit(vector(x, self._dim, "request")))
        if not records:
            nothing = np.zeros((0, self.bin_count), np.float32)
            return Evidence((), nothing, nothing, False)
        places, taken, passed = self._pooled(records, columns)
        items = tuple(map(shelf.names.__getitem__, places.tolist()))
        return make_evidence(items, taken, passed, 0 in columns)

    def _pooled(self, records: Sequence[Record], columns: list[int]) -> tuple[Rows, Floats, Floats]:
        # A neighbour speaks for one visit, however often it was asked: its voice means the same all along.
        pairs = zip(records, columns, strict=True)
        shares = [1.0 if column == 0 else 1.0 / max(record.visits, 1) for record, column in pairs]
        items, sums = [record.items for record in records], [record.sums for record in records]
        found = kernel.pooled(items, sums, columns, shares, self.bin_count)
        if found is None:
            raise StateError("vote memory: a record's sums are no plain arrays")
        return found

    @property
    def bin_count(self) -> int:
        """Number of similarity bins, the same request included."""
        return 1 + len(self._edges)

    def _nearest(self, records: list[Record], x: Floats) -> tuple[list[Record], list[int]]:
        # The nearest past requests with their bin, nearest first. A writer may be at work: each record is read once.
        requests = self._requests
        turn, count = self._turn, min(len(records), len(requests))
        slots, similarities = self._most_similar(requests, x, count, self.config.neighbours)
        self._looked_up = make_looked_up(turn, count, x, slots[0], similarities[0]) if slots else None
        chosen = [records[slot] for slot in slots]
        if self._evicted and chosen:  # a row may have been another request's while it was being compared
            similarities = (np.array([record.request for record in chosen]) @ x).tolist()
        edges, least, same = self._edges, self._edges[0], self._same_from
        near = [(record, near) for record, near in zip(chosen, similarities, strict=True) if near >= least]
        columns = [0 if similarity >= same else bisect_right(edges, similarity) for _, similarity in near]
        return [record for record, _ in near], columns

    @staticmethod
    def _most_similar(requests: Floats, x: Floats, count: int, k: int) -> tuple[list[int], list[float]]:
        found = kernel.nearest(requests, x, k, None, count)
        if found is None:
            raise StateError("vote memory: the requests are no plain array")
        slots, similarities = found
        return slots.tolist(), similarities.tolist()

    def record(
        self, x: Floats, showings: Iterable[Showing], text: str | None = None, *, subject: str | None = None
    ) -> Receipt:
        """Add one request's outcome, to its own record when it was asked before.

        The latest opinion of a subject about one record counts once: an earlier one of the same subject is taken
        back first. See `Opinions` for how long it is known whose was whose.

        Args:
            x: The request, shape (d,).
            showings: What was shown, and what it earned.
            text: The request in words, if it had any; kept so that it can be embedded anew.
            subject: Whose opinion it is; None when nobody is named, and then every outcome counts.

        Returns:
            A receipt for `withdraw`.

        Raises:
            InvalidValue: a reward or look outside [0, 1], a vector that cannot be used, or a subject that is not
                text; nothing was changed.
        """
        require_text_or_none(subject, "subject")
        checked = tuple(map(_checked, showings))
        request = unit(vector(x, self._dim, "request"))
        slot = self._same(request)
        if slot is None:
            slot = self._make_room(request, text)
        shelf = self._shelf
        record = shelf.records[slot]
        earlier = None if subject is None else self._opinions.held(record.number, subject)
        if earlier is not None:
            record = shelf.moved(record, earlier.showings, -1)
        shelf.records[slot] = shelf.moved(record, checked, 1)
        if subject is None:
            return Receipt(record.number, checked)
        return Receipt(record.number, checked, subject, self._opinions.hold(record.number, subject, checked).serial)

    def withdraw(self, receipt: Receipt) -> bool:
        """Take one recorded outcome back.

        Returns:
            False, and nothing changed, when its request has made room for newer ones meanwhile, or when the subject
            has another opinion by now, or so many others have one that it is no longer known which was whose.
        """
        shelf, slot = self._shelf, receipt.number % self.config.capacity
        if slot >= len(shelf.records) or shelf.records[slot].number != receipt.number:
            return False
        subject = receipt.subject
        if subject is not None and not self._opinions.drop(receipt.number, subject, receipt.serial):
            return False
        shelf.records[slot] = shelf.moved(shelf.records[slot], receipt.showings, -1)
        return True

    def _same(self, request: Floats) -> int | None:
        # A zero request has no direction: it equals only itself, and shares one record.
        records = self._shelf.records
        if not records:
            return None
        looked = self._looked_up  # what is learned from was looked up just before
        if looked is not None and looked.is_of(self._turn, len(records), request):
            best, similarity = looked.slot, looked.similarity
        else:
            [best], [similarity] = self._most_similar(self._requests, request, len(records), 1)
        if similarity >= self._same_from:
            return best
        if not request.any():
            return next((slot for slot, record in enumerate(records) if not record.request.any()), None)
        return None

    def _make_room(self, request: Floats, text: str | None) -> int:
        record = Record(self._next_number, request, text, 0, np.zeros(0, np.int64), np.zeros((0, 2)))
        self._next_number += 1
        records = self._shelf.records
        count = len(records)
        if count < self.config.capacity:
            if count == len(self._requests):
                grown = np.zeros((min(2 * count, self.config.capacity), self._dim), np.float32)
                grown[:count] = self._requests
                self._requests = grown
            self._requests[count] = request
            records.append(record)
            self._turn += 1
            return count
        slot = record.number % self.config.capacity
        if self._evicted % self.config.capacity == 0:
            self._shelf = self._shelf.tidied()  # once every time all records have been replaced
        self._evicted += 1
        self._shelf.records[slot] = record  # before the row: a reader that sees the old row re-reads the request
        self._requests[slot] = request
        self._turn += 1
        return slot

    @property
    def texts(self) -> tuple[str, ...]:
        """The past requests that have words, in the order `re_embed` asks for them."""
        return tuple(record.text for record in self._shelf.records if record.text is not None)

    def neighbours(self, x: Floats) -> list[Neighbour]:
        """Return the past requests that have a voice in what `x`, shape (d,), is answered, nearest first."""
        shelf, asked = self._shelf, unit(vector(x, self._dim, "request"))
        records, _ = self._nearest(shelf.records, asked)
        near = [
            Neighbour(record.number, record.text, float(record.request @ asked), shelf.taken_of(record))
            for record in records
        ]
        return sorted(near, key=lambda neighbour: (-neighbour.similarity, neighbour.number))

    def moved(self, hidden_dim: int, vector_of: Mapping[str, Floats]) -> VoteMemory:
        """Return a memory of vectors of another embedder: requests whose words have one stay, the others are gone.

        Numbers go on beyond all given out, so that an earlier receipt takes nothing back.

        Args:
            hidden_dim: Width of the new vectors.
            vector_of: Vectors by words, each of shape (d,).
        """
        memory, capacity = VoteMemory(hidden_dim, self.config), self.config.capacity
        first = -(-self._next_number // capacity) * capacity
        kept = [record for record in self._shelf.records if record.text in vector_of]
        rows = [unit(vector(vector_of[record.text or ""], hidden_dim, "request")) for record in kept]
        records = [
            replace(record, number=first + slot, request=row)
            for slot, (record, row) in enumerate(zip(kept, rows, strict=True))
        ]
        memory._shelf = replace(self._shelf, records=records)
        memory._requests, memory._next_number = memory._matrix(records), first + len(records)
        memory._evicted = self._evicted
        return memory

    def re_embed(self, embed: Callable[[list[str]], Floats]) -> int:
        """Give every request that has a text a new vector, and return how many; what the requests took stays.

        Args:
            embed: Returns one vector per text, shape (n, d).

        Raises:
            InvalidValue: the vectors cannot be used; nothing was changed.
        """
        shelf = self._shelf
        slots = [slot for slot, record in enumerate(shelf.records) if record.text is not None]
        if not slots:
            return 0
        fresh = unit(matrix(embed([shelf.records[slot].text or "" for slot in slots]), self._dim, "requests"))
        if len(fresh) != len(slots):
            raise InvalidValue(f"requests: expected {len(slots)} vectors, got {len(fresh)}")
        requests, records = self._requests.copy(), list(shelf.records)
        for slot, row in zip(slots, fresh, strict=True):
            requests[slot] = row
            records[slot] = replace(records[slot], request=row)
        self._requests, self._shelf = requests, replace(shelf, records=records)
        self._turn += 1
        return len(slots)

    @property
    def requests(self) -> Floats:
        """The remembered requests, unit length, shape (len(self), d)."""
        return self._requests[: len(self)].copy()

    def checkpoint(self) -> VoteCheckpoint:
        """Return what the memory holds now, to come back to; the records are shared, as none is ever changed."""
        records, names = tuple(self._shelf.records), tuple(self._shelf.names)
        return VoteCheckpoint(self._dim, records, names, self._opinions.copy(), self._next_number)

    def restore(self, checkpoint: VoteCheckpoint) -> None:
        """Hold what was held at `checkpoint`, bit for bit, and nothing that came since.

        The numbers of requests and opinions and the count of evicted requests go on, so that a receipt of what came
        since names nothing. Requests come back with the vectors they had: where the embedder was fitted since,
        `re_embed` is due.

        Raises:
            DimensionMismatch: it is of another width; nothing was changed.
            StateError: it was taken with another capacity; nothing was changed.
        """
        capacity = self.config.capacity
        if checkpoint.hidden_dim != self._dim:
            raise DimensionMismatch(self._dim, checkpoint.hidden_dim, "checkpoint")
        if any(record.number % capacity != slot for slot, record in enumerate(checkpoint.records)):
            raise StateError(f"checkpoint: taken with another capacity than {capacity}")
        self._requests, self._shelf = self._matrix(checkpoint.records), checkpoint.shelf()
        self._turn += 1
        self._opinions.restore(checkpoint.opinions)
        # A number also says where its record stands: on from the greatest, at the place that is next.
        greatest = max(self._next_number, checkpoint.next_number)
        self._next_number = greatest + (checkpoint.next_number - greatest) % capacity

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State({**dict(self.checkpoint().state().items()), "evicted": self._evicted})

    @classmethod
    def from_state(cls, state: State, config: VoteConfig | None = None) -> VoteMemory:
        """Return the memory that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or does not fit `config`.
        """
        checkpoint = VoteCheckpoint.from_state(state)
        memory = cls(checkpoint.hidden_dim, config)
        try:
            memory.restore(checkpoint)
        except StateError as error:
            raise StoreError(f"saved state: {error}") from error
        memory._evicted = state.whole("evicted")
        return memory

    def _matrix(self, records: Sequence[Record]) -> Floats:
        # The requests as rows, with room for more.
        count = len(records)
        requests = np.zeros((max(min(64, self.config.capacity), count), self._dim), np.float32)
        for slot, record in enumerate(records):
            requests[slot] = record.request
        return requests


def unit(x: Floats) -> Floats:
    """Return `x` with every row scaled to length 1; a zero row stays zero.

    Args:
        x: Shape (d,) or (n, d).
    """
    found = kernel.unit(x)
    if found is not None:
        return found
    length = np.sqrt(np.einsum("...d,...d->...", x, x, dtype=np.float64))[..., None].astype(np.float32)
    result: Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0.0)
    return result


def _checked(showing: Showing) -> Showing:
    reward, examined = showing.reward, showing.examined
    is_checked = type(reward) is type(examined) is float and 0.0 <= reward <= 1.0 and 0.0 <= examined <= 1.0
    return showing if is_checked else Showing(showing.item, fraction(reward, "reward"), fraction(examined, "examined"))
