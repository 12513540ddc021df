"""Everything an engine can give away: its memories, its requests with what came of them, its patterns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from sona.checks import Floats
from sona.engine.events import Answered, Event, Judged, Reembedded, Remembered, Submitted
from sona.engine.exchange.records import ANSWERED, SUBMITTED, MemoryRecord, RequestRecord
from sona.engine.journal import decoded
from sona.engine.learner import Learner
from sona.engine.machine import Machine
from sona.engine.memories import Memories
from sona.engine.served import ServedRequests
from sona.stores.store import Store
from sona.text.embed import LsaEmbedder
from sona.trajectory import trajectories_from_state
from sona.types import QueryTrajectory


@dataclass(slots=True)
class _Vectors:
    # Each distinct vector once: a log shows the same items again and again.
    known: dict[bytes, Floats] = field(default_factory=dict)

    def share(self, vector: Floats) -> Floats:
        data = vector.tobytes()
        held = self.known.get(data)
        if held is None:
            held = self.known[data] = np.frombuffer(data, np.float32)
        return held

    def shared(self, trajectory: QueryTrajectory) -> QueryTrajectory:
        steps = tuple(replace(step, activations=self.share(step.activations)) for step in trajectory.steps)
        query = self.share(trajectory.query_embedding)
        return replace(trajectory, query_embedding=query, steps=steps, supersedes=None)


class LogReader:
    """Everything a log tells of requests and of whose a memory is, gathered while it happens again.

    Args:
        machine: One that knows nothing yet.
    """

    def __init__(self, machine: Machine) -> None:
        """Start at the beginning of the log."""
        self._machine = machine
        self._vectors = _Vectors()
        self._requests: dict[int, RequestRecord] = {}
        self.subjects: dict[str, str | None] = {}

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests in the order they came."""
        return tuple(self._requests.values())

    def read(self, store: Store, until: int) -> None:
        """Let the log happen up to the event `until`.

        Raises:
            StoreError: the log is damaged.
        """
        counts = self._machine.intake.counts
        for seq, event in decoded(self._machine, store.events(until=until), store):
            before = counts["submitted"]
            self._machine.apply(event, seq)
            self._note(event, is_first=counts["submitted"] > before)

    def _note(self, event: Event, *, is_first: bool) -> None:
        match event:
            case Answered():
                shared = self._vectors.shared(event.trajectory)
                self._requests[shared.id] = RequestRecord(shared, ANSWERED, event.text, event.at, event.is_embedded)
            case Submitted() if is_first:
                self._submit(event)
            case Judged():
                self._judge(event.trajectory_id)
            case Remembered():
                self.subjects[event.id] = event.subject
            case Reembedded():  # vectors from before are of an embedder that is gone
                self._requests = {key: replace(record, reembed=True) for key, record in self._requests.items()}
            case _:
                pass

    def _submit(self, event: Submitted) -> None:
        shared = self._vectors.shared(event.trajectory)
        earlier = self._requests.get(shared.id)
        text = None if earlier is None else earlier.text
        self._requests[shared.id] = RequestRecord(shared, SUBMITTED, text, event.at)

    def _judge(self, trajectory_id: int) -> None:
        record, served = self._requests.get(trajectory_id), self._machine.intake.served.get(trajectory_id)
        if record is None or record.kind != ANSWERED or served is None or served.outcome is None:
            return
        self._requests[trajectory_id] = replace(record, trajectory=_judged(record.trajectory, served.outcome))


def _judged(trajectory: QueryTrajectory, outcome: QueryTrajectory) -> QueryTrajectory:
    pairs = zip(trajectory.steps, outcome.steps, strict=True)
    steps = tuple(step.with_reward(earned.reward) for step, earned in pairs)
    return replace(trajectory, steps=steps, final_quality=outcome.final_quality)


def held_requests(machine: Machine) -> tuple[RequestRecord, ...]:
    """Return the requests an engine holds without a log, by id: served of late, waiting, or behind its patterns."""
    embedder = machine.words.embedder
    is_embedding = isinstance(embedder, LsaEmbedder) and embedder.is_fitted
    found = {record.trajectory.id: record for record in _served(machine.intake.served, is_embedding)}
    for trajectory in () if machine.learner is None else _learned(machine.learner):
        known = found.get(trajectory.id)
        if known is None or not known.is_finished:
            found[trajectory.id] = RequestRecord(replace(trajectory, supersedes=None))
    return tuple(found[key] for key in sorted(found))


def _served(served: ServedRequests, is_embedding: bool) -> Iterable[RequestRecord]:
    state = served.state()
    trajectories = trajectories_from_state(state.child("trajectories"))
    outcomes = iter(trajectories_from_state(state.child("outcomes")))
    judged, times = state.wholes("has_outcome", None).tolist(), state.doubles("served_at", None).tolist()
    for row, (trajectory, text) in enumerate(zip(trajectories, state.listing("texts"), strict=True)):
        words = text if isinstance(text, str) else None
        latest = next(outcomes) if judged[row] else trajectory
        is_embedded = words is not None and is_embedding
        yield RequestRecord(replace(latest, supersedes=None), ANSWERED, words, times[row], is_embedded)


def _learned(learner: Learner) -> Iterable[QueryTrajectory]:
    # The newest first: what waits is of a later version than what a pattern was made of.
    background = learner.loops.background.state()
    ring = background.child("bank").child("ring")
    yield from reversed(learner.loops.instant.buffer.snapshot())
    yield from reversed(trajectories_from_state(background.child("pending")))
    yield from trajectories_from_state(ring.child("trajectories"))


def memory_records(memories: Memories, *, is_built_in: bool) -> tuple[MemoryRecord, ...]:
    """Return all memories in their order; whose they are is not known here.

    Args:
        memories: Them.
        is_built_in: Whether the built-in embedder makes the vectors nobody gave.
    """
    state = memories.state()
    given_rows, waiting = state.wholes("given_rows", None).tolist(), set(state.wholes("unindexed", None).tolist())
    awaited = [row for row in given_rows if row in waiting]
    given = dict(zip(awaited, state.floats("given", None, None), strict=True))
    theirs, vectors = {*given_rows}, memories.vectors
    return tuple(
        MemoryRecord(
            name,
            memories.text(name),
            None,
            given.get(row) if row in waiting else vectors[row],
            reembed=is_built_in and row not in theirs,
        )
        for row, name in enumerate(memories.ids)
    )
