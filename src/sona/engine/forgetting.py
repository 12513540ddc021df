"""Forgetting somebody: the log without their events, and others' events without their memories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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
        self._all: dict[str, int] = {}  # memories of the whole log, each with the entry that worded it last
        self._left: dict[str, int] = {}  # the same of what is left
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
            self._all[_id_of(entry)] = entry.seq
            self.result = replace(done, memories=done.memories + 1)
        elif entry.kind == "judged":
            self.result = replace(done, feedbacks=done.feedbacks + 1)
        elif entry.trajectory_id is not None and entry.trajectory_id not in self._trajectories:
            self._trajectories.add(entry.trajectory_id)
            self.result = replace(done, requests=done.requests + 1)

    def _without_memories(self, entry: Entry) -> Entry:
        lost = self._all.keys() - self._left.keys()
        if entry.kind == "remembered":
            self._all[_id_of(entry)] = self._left[_id_of(entry)] = entry.seq
        elif entry.kind == "answered":
            return self._answered(entry, lost)
        elif lost and entry.kind == "submitted":
            return _submitted(entry, lost)
        changes: Mapping[str, Callable[[dict[str, object]], None]] = {
            "indexed": partial(self._reworded, "vectors"),
            "reembedded": self._reembedded,
            **({"begun": partial(_begun, lost), "judged": partial(_judged, lost)} if lost else {}),
        }
        return _changed(entry, changes[entry.kind]) if entry.kind in changes else entry

    def _answered(self, entry: Entry, lost: set[str]) -> Entry:
        document = unpack(entry.body)
        if isinstance(document["text"], str):
            self._texts.add(document["text"])
        if document["has_memories"] is not True or not lost.intersection(_texts_of(document["items"])):
            return entry
        return _changed(entry, partial(_shown, lost))

    def _reworded(self, vectors: str, document: dict[str, object]) -> None:
        # Vectors of what others did not say, or not as last worded, go; who replays makes those that are missing.
        made, ids = document[vectors], _texts_of(document["ids"])
        if not isinstance(made, np.ndarray):
            return
        kept = [self._left.get(item) == self._all.get(item) for item in ids]
        document[vectors] = made[kept]
        document["ids"] = [item for item, is_kept in zip(ids, kept, strict=True) if is_kept]

    def _reembedded(self, document: dict[str, object]) -> None:
        requests, texts = document["requests"], _texts_of(document["texts"])
        if not isinstance(document["memories"], np.ndarray) or not isinstance(requests, np.ndarray):
            raise StoreError("an event of the log is damaged: vectors are missing")
        self._reworded("memories", document)
        document["requests"] = requests[[text in self._texts for text in texts]]
        document["texts"] = [text for text in texts if text in self._texts]


def _id_of(entry: Entry) -> str:
    return str(unpack(entry.body)["id"])


def _changed(entry: Entry, change: Callable[[dict[str, object]], None]) -> Entry:
    body = repack(entry.body, change)
    return entry if body == entry.body else replace(entry, body=body)


def _shown(lost: set[str], document: dict[str, object]) -> None:
    items, serving = _texts_of(document["items"]), document["serving"]
    if not isinstance(serving, dict):
        raise StoreError("an event of the log is damaged: how it was answered is missing")
    serving["common"] = sum(item not in lost for item in items[: int(serving["common"])])
    document["items"] = [item for item in items if item not in lost]


def _begun(lost: set[str], document: dict[str, object]) -> None:
    document["context_ids"] = [item for item in _texts_of(document["context_ids"]) if item not in lost]


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
