"""Forgetting somebody: the log without their events, and others' events without their memories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from sona.engine.codec import encode, repack, unpack
from sona.engine.events import Submitted
from sona.errors import StoreError
from sona.state import State
from sona.stores.store import Event as Entry
from sona.trajectory import trajectories_from_state
from sona.types import QueryTrajectory


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went when somebody was forgotten.

    Args:
        memories: Texts.
        requests: Requests and trajectories.
        feedbacks: Times they gave feedback.
        amended: Entries of others that had named one of their memories.
    """

    memories: int = 0
    requests: int = 0
    feedbacks: int = 0
    amended: int = 0


@dataclass(slots=True)
class _Shelf:
    # The memories of a log as far as it was read: their order, and which wait for a vector of the embedder.
    rows: dict[str, None] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)

    def add(self, item: str, has_vector: bool) -> None:
        self.rows.setdefault(item)
        (self.waiting.discard if has_vector else self.waiting.add)(item)

    def to_embed(self) -> list[str]:
        return [item for item in self.rows if item in self.waiting]


class Without:
    """A log as it would be had somebody never been there; fed with its entries in their order.

    Args:
        subject: Who.
    """

    def __init__(self, subject: str) -> None:
        """Start at the beginning of the log."""
        self.subject = subject
        self.erased: list[int] = []
        self.replaced: list[Entry] = []
        self.result = Forgotten()
        self._all, self._left = _Shelf(), _Shelf()
        self._trajectories: set[int] = set()  # theirs
        self._texts: set[str] = set()  # what others asked in words

    def filtered(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield what is left: entries themselves, or others in their places."""
        for entry in entries:
            if self._is_theirs(entry):
                self._count(entry)
                self.erased.append(entry.seq)
                continue
            left = self._without_memories(entry)
            if left is not entry:
                self.replaced.append(left)
                self.result = replace(self.result, amended=self.result.amended + 1)
            yield left

    def _is_theirs(self, entry: Entry) -> bool:
        return entry.subject == self.subject or entry.trajectory_id in self._trajectories

    def _count(self, entry: Entry) -> None:
        done = self.result
        if entry.kind == "remembered":
            self._remember(entry, self._all)
            self.result = replace(done, memories=done.memories + 1)
        elif entry.kind == "judged":
            self.result = replace(done, feedbacks=done.feedbacks + 1)
        elif entry.trajectory_id is not None and entry.trajectory_id not in self._trajectories:
            self._trajectories.add(entry.trajectory_id)
            self.result = replace(done, requests=done.requests + 1)

    def _remember(self, entry: Entry, *shelves: _Shelf) -> None:
        document = unpack(entry.body)
        for shelf in shelves:
            shelf.add(str(document["id"]), document["vector"] is not None)

    def _without_memories(self, entry: Entry) -> Entry:
        lost = self._all.rows.keys() - self._left.rows.keys()
        if entry.kind == "remembered":
            self._remember(entry, self._all, self._left)
        elif entry.kind == "indexed":
            return self._indexed(entry)
        elif entry.kind == "answered":
            return self._answered(entry, lost)
        elif entry.kind == "reembedded":
            return _changed(entry, self._reembedded)
        elif lost and entry.kind == "judged":
            return _changed(entry, partial(_judged, lost))
        elif lost and entry.kind == "submitted":
            return _submitted(entry, lost)
        return entry

    def _answered(self, entry: Entry, lost: set[str]) -> Entry:
        document = unpack(entry.body)
        if isinstance(document["text"], str):
            self._texts.add(document["text"])
        if document["has_memories"] is not True or not lost.intersection(_texts_of(document["items"])):
            return entry
        return _changed(entry, partial(_shown, lost))

    def _indexed(self, entry: Entry) -> Entry:
        kept = [item in self._left.waiting for item in self._all.to_embed()]
        is_complete = self._left.waiting <= self._all.waiting
        self._all.waiting.clear()
        self._left.waiting.clear()
        if all(kept) and is_complete:
            return entry

        def change(document: dict[str, object]) -> None:
            vectors = document["vectors"]
            if isinstance(vectors, np.ndarray):  # with a row missing, the embedder is asked again
                document["vectors"] = vectors[kept] if is_complete and len(vectors) == len(kept) else None

        return _changed(entry, change)

    def _reembedded(self, document: dict[str, object]) -> None:
        memories, requests = document["memories"], document["requests"]
        texts = _texts_of(document["texts"])
        if not isinstance(memories, np.ndarray) or not isinstance(requests, np.ndarray):
            raise StoreError("an event of the log is damaged: vectors are missing")
        document["memories"] = memories[[item in self._left.rows for item in self._all.rows]]
        document["requests"] = requests[[text in self._texts for text in texts]]
        document["texts"] = [text for text in texts if text in self._texts]


def _changed(entry: Entry, change: Callable[[dict[str, object]], None]) -> Entry:
    body = repack(entry.body, change)
    return entry if body == entry.body else replace(entry, body=body)


def _shown(lost: set[str], document: dict[str, object]) -> None:
    items, serving = _texts_of(document["items"]), document["serving"]
    if not isinstance(serving, dict):
        raise StoreError("an event of the log is damaged: how it was answered is missing")
    serving["common"] = sum(item not in lost for item in items[: int(serving["common"])])
    document["items"] = [item for item in items if item not in lost]


def _judged(lost: set[str], document: dict[str, object]) -> None:
    rewards = document["rewards"]
    if isinstance(rewards, list):
        document["rewards"] = [pair for pair in rewards if pair[0] not in lost]


def _submitted(entry: Entry, lost: set[str]) -> Entry:
    trajectory = trajectories_from_state(_tree(unpack(entry.body)["trajectory"]))[0]
    fewer = _without_steps(trajectory, lost)
    if fewer is trajectory:
        return entry
    return encode(entry.seq, Submitted(entry.at, fewer))


def _without_steps(trajectory: QueryTrajectory, lost: set[str]) -> QueryTrajectory:
    steps = tuple(step for step in trajectory.steps if step.ref not in lost)
    context = tuple(item for item in trajectory.context_ids if item not in lost)
    if len(steps) == len(trajectory.steps) and len(context) == len(trajectory.context_ids):
        return trajectory
    return replace(trajectory, steps=steps, context_ids=context)


def _tree(value: object) -> State:
    if not isinstance(value, dict):
        raise StoreError("an event of the log is damaged: a trajectory is missing")
    return State(value)


def _texts_of(value: object) -> list[str]:
    if not isinstance(value, list | tuple):
        raise StoreError("an event of the log is damaged: a list is missing")
    return [str(item) for item in value]
