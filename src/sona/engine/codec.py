"""Events as bytes for a store, and back, bit for bit.

A body is one JSON document and the arrays it names behind it. Vectors of shown items repeat from request to request,
so they are kept apart under their digest, each once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import get_args

import numpy as np

from sona.checks import Floats
from sona.engine import events
from sona.engine.candidates import Candidates
from sona.engine.choice import Scored
from sona.engine.events import Answered, CycleEnded, DeepEnded, Event, Judged, Remembered, Serving, Submitted
from sona.engine.machine import Machine
from sona.errors import StoreError
from sona.guard.holdout import Arm
from sona.memory.recall import Seeds
from sona.memory.votes import unit
from sona.state import Array, Plain, State
from sona.stores.store import Event as Entry
from sona.stores.store import blob_digest
from sona.trajectory import trajectories_from_state, trajectories_state
from sona.types import QueryTrajectory, TrajectoryStep

_LENGTH = struct.Struct("<I")
_KINDS: Mapping[str, type[Event]] = {kind.__name__.lower(): kind for kind in get_args(Event)}


@dataclass(slots=True)
class _Writer:
    # A document in the making: arrays are replaced by their place among the arrays.
    arrays: list[Array] = field(default_factory=list)
    blobs: dict[bytes, bytes] = field(default_factory=dict)

    def array(self, value: Array) -> Plain:
        self.arrays.append(np.ascontiguousarray(value))
        return {"array": len(self.arrays) - 1}

    def blob(self, value: Floats) -> Plain:
        data = np.ascontiguousarray(value, np.float32).tobytes()
        digest = blob_digest(data)
        self.blobs[digest] = data
        return digest.hex()

    def tree(self, state: State) -> Plain:
        return {
            name: self.tree(value) if isinstance(value, State) else self.plain(value) for name, value in state.items()
        }

    def plain(self, value: Array | Plain) -> Plain:
        return self.array(value) if isinstance(value, np.ndarray) else value

    def body(self, document: Mapping[str, Plain]) -> bytes:
        shapes: list[Plain] = [[array.dtype.str, list(array.shape)] for array in self.arrays]
        text = json.dumps([document, shapes], ensure_ascii=False, separators=(",", ":"))
        head = text.encode("utf-8", "surrogatepass")
        return b"".join([_LENGTH.pack(len(head)), head, *(array.tobytes() for array in self.arrays)])


def encode(seq: int, event: Event) -> Entry:
    """Return the entry of the log for `event` at position `seq`."""
    writer = _Writer()
    if isinstance(event, Answered):
        document = _answered(event, writer)
    elif isinstance(event, Submitted):
        document = {"trajectory": writer.tree(trajectories_state([event.trajectory]))}
    elif isinstance(event, CycleEnded | DeepEnded):  # what was computed follows from what is above it in the log
        document = {"units": event.units} if isinstance(event, DeepEnded) else {}
    else:
        document = _fields(event, writer)
    return Entry(
        seq=seq,
        kind=type(event).__name__.lower(),
        at=event.at,
        subject=subject_of(event),
        trajectory_id=_trajectory_id(event),
        body=writer.body(document),
        blobs=writer.blobs,
    )


def subject_of(event: Event) -> str | None:
    """Return whose event it is, if anybody's."""
    if isinstance(event, Answered | Submitted):
        return event.trajectory.subject
    return event.subject if isinstance(event, Remembered | Judged | events.Begun) else None


def _trajectory_id(event: Event) -> int | None:
    if isinstance(event, Answered | Submitted):
        return event.trajectory.id
    return event.trajectory_id if isinstance(event, Judged | events.Begun) else None


def _fields(event: Event, writer: _Writer) -> dict[str, Plain]:
    document: dict[str, Plain] = {}
    for entry in fields(event):
        value = getattr(event, entry.name)
        # Pairs, as a mapping of the caller's names could look like one of ours.
        pairs = [list(pair) for pair in value.items()] if isinstance(value, Mapping) else None
        document[entry.name] = writer.plain(value) if pairs is None else pairs
    return document


def _answered(event: Answered, writer: _Writer) -> dict[str, Plain]:
    trajectory, serving = event.trajectory, event.serving
    vectors = [] if event.has_memories else [writer.blob(step.activations) for step in trajectory.steps]
    return {
        "id": trajectory.id,
        "request": None if event.is_embedded else writer.array(trajectory.query_embedding),
        "items": [step.ref for step in trajectory.steps],
        "vectors": vectors,
        "latency_us": trajectory.latency_us,
        "subject": trajectory.subject,
        "text": event.text,
        "serving": asdict(serving),
        "touched": event.touched,
        "has_memories": event.has_memories,
        "is_embedded": event.is_embedded,
        **_seeds_fields(event, writer),
    }


class Decoder:
    """Reads a log back; what a request took from the memories of its day is taken from them again.

    Args:
        machine: To what the events happen; each is read when those before it have.
        blob: Returns what is kept under a digest.
    """

    def __init__(self, machine: Machine, blob: Callable[[bytes], bytes]) -> None:
        """Start reading."""
        self._machine, self._blob = machine, blob
        self._vectors: dict[str, Floats] = {}

    def decode(self, entry: Entry) -> Event:
        """Return the event of a log entry.

        Raises:
            StoreError: the entry is damaged or of a kind this SONA does not know.
        """
        kind = _KINDS.get(entry.kind)
        if kind is None:
            raise StoreError(f"event {entry.seq} is a {entry.kind!r}, which this SONA does not know")
        try:
            document = unpack(entry.body)
            if kind is Answered:
                return self._answered(entry, document)
            if kind is Submitted:
                tree = _tree(document["trajectory"])
                return Submitted(entry.at, trajectories_from_state(tree)[0])
            if kind is CycleEnded:
                return CycleEnded(entry.at)
            if kind is DeepEnded:
                return DeepEnded(entry.at, int(str(document["units"])))
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
            if kind is Judged and values["rewards"] is not None:
                values["rewards"] = self._rewards(document)
            make: Callable[..., Event] = kind
            return make(**values)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StoreError(f"event {entry.seq} ({entry.kind}) cannot be read: {error}") from error

    def _rewards(self, document: Mapping[str, object]) -> dict[str, object]:
        # What was not shown was refused before it got here; where a log is read without somebody, less may be shown.
        rewards = {str(pair[0]): pair[1] for pair in _pairs(document["rewards"])}
        served = self._machine.intake.served.get(int(str(document["trajectory_id"])))
        if served is None:
            return rewards
        shown = {step.ref for step in served.trajectory.steps}
        return {item: reward for item, reward in rewards.items() if item in shown}

    def _answered(self, entry: Entry, document: Mapping[str, object]) -> Answered:
        text, subject = _text_or_none(document["text"]), _text_or_none(document["subject"])
        items = [str(item) for item in _list(document["items"])]
        has_memories, is_embedded = document["has_memories"] is True, document["is_embedded"] is True
        serving = dict(_mapping(document["serving"]))
        serving["arm"] = Arm(str(serving["arm"]))
        request = self._machine.words.embed(text or "") if is_embedded else document["request"]
        if not isinstance(request, np.ndarray):
            raise StoreError(f"event {entry.seq}: the request is missing")
        if has_memories:
            memories = self._machine.memories
            # One may have gone, or be back without a vector yet, where a log is read without somebody.
            present = [item in memories and memories.row(item) < len(memories.vectors) for item in items]
            serving["common"] = sum(present[: int(str(serving["common"]))])
            items = [item for item, is_there in zip(items, present, strict=True) if is_there]
            shown = [memories.vectors[memories.row(item)] for item in items]
        else:
            shown = [self._shared(str(digest)) for digest in _list(document["vectors"])]
        steps = tuple(
            TrajectoryStep._checked(row, None, None, 0.0, item) for row, item in zip(shown, items, strict=True)
        )
        trajectory = QueryTrajectory(
            int(str(document["id"])),
            request,
            steps,
            latency_us=float(str(document["latency_us"])),
            alternatives=True,
            subject=subject,
        )
        make: Callable[..., Serving] = Serving
        touched = tuple(int(str(pattern)) for pattern in _list(document["touched"]))
        return Answered(
            entry.at,
            trajectory,
            text,
            make(**serving),
            touched,
            has_memories,
            is_embedded,
            self._seeds(document, request, has_memories=has_memories),
        )

    def _seeds(self, document: Mapping[str, object], request: Floats, *, has_memories: bool) -> Seeds | None:
        has_seeds, ids, listed = (document[name] for name in ("has_seeds", "seeds", "seed_cosines"))
        memories, config = self._machine.memories, self._machine.config
        if has_seeds is not True or (has_memories and not len(memories.vectors)):
            return None
        if not has_memories:
            if not isinstance(listed, np.ndarray):
                raise StoreError("an event of the log is damaged: seeds are missing")
            return Seeds(tuple(str(name) for name in _list(ids)), listed)
        # Of the memories of that day, as `Learner.score` found them.
        cosines = Candidates(memories.ids, memories.vectors, None, memories.row_of).cosines(unit(request))
        return Scored.best(cosines, config.graph.seeds).seeds(memories.ids, config.graph.seeds)

    def _shared(self, digest: str) -> Floats:
        vector = self._vectors.get(digest)
        if vector is None:
            vector = self._vectors[digest] = np.frombuffer(self._blob(bytes.fromhex(digest)), np.float32)
        return vector


def _seeds_fields(event: Answered, writer: _Writer) -> dict[str, Plain]:
    # Seeds among the engine's own memories are found again; a caller's items are not at hand any more.
    seeds = None if event.has_memories else event.seeds
    return {
        "has_seeds": event.seeds is not None,
        "seeds": None if seeds is None else list(seeds.ids),
        "seed_cosines": None if seeds is None else writer.array(seeds.cosines),
    }


def unpack(body: bytes) -> dict[str, object]:
    """Return the document of a body, its arrays in their places, read-only.

    Raises:
        StoreError: the body is damaged.
    """
    try:
        (length,) = _LENGTH.unpack_from(body)
        start = _LENGTH.size + length
        document, shapes = json.loads(body[_LENGTH.size : start].decode("utf-8", "surrogatepass"))
        arrays: list[Array] = []
        for kind, shape in shapes:
            count = int(np.prod(shape, dtype=np.int64))
            arrays.append(np.frombuffer(body, np.dtype(kind), count, start).reshape(shape))
            start += arrays[-1].nbytes
        placed = _placed(document, arrays)
    except (struct.error, ValueError, TypeError, IndexError) as error:
        raise StoreError(f"an event of the log is damaged: {error}") from error
    if not isinstance(placed, dict):
        raise StoreError("an event of the log is damaged: it holds no document")
    return placed


def repack(body: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """Return a body with its document changed in place by `change`; arrays it still names go along."""
    document = unpack(body)
    change(document)
    writer = _Writer()
    return writer.body({name: _unplaced(value, writer) for name, value in document.items()})


def _unplaced(value: object, writer: _Writer) -> Plain:
    if isinstance(value, np.ndarray):
        return writer.array(value)
    if isinstance(value, dict):
        return {name: _unplaced(entry, writer) for name, entry in value.items()}
    return value  # type: ignore[return-value]


def _placed(value: object, arrays: Sequence[Array]) -> object:
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {name: _placed(entry, arrays) for name, entry in value.items()}
    return value


def _tree(value: object) -> State:
    return State({name: _tree(entry) if isinstance(entry, dict) else entry for name, entry in _mapping(value).items()})  # type: ignore[misc]


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise StoreError("an event of the log is damaged: a mapping is missing")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise StoreError("an event of the log is damaged: a list is missing")
    return value


def _pairs(value: object) -> list[list[object]]:
    return [_list(pair) for pair in _list(value)]


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
