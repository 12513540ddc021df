"""Events as bytes: every kind comes back bit for bit, and what is damaged is a StoreError and nothing else."""

from __future__ import annotations

import json
import struct
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import get_args

import numpy as np
import pytest

from sona.config import SonaConfig
from sona.engine import events
from sona.engine.codec import Decoder, encode, repack, unpack
from sona.engine.events import Answered, CycleEnded, Event, Judged, Reembedded, Remembered, Serving, Submitted
from sona.engine.machine import Machine
from sona.engine.words import Words
from sona.errors import StoreError
from sona.guard.holdout import Arm
from sona.memory.recall import Seeds
from sona.stores.store import blob_digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 3
RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(3, D)).astype(np.float32)
X = RNG.normal(size=D).astype(np.float32)
SERVING = Serving(Arm.FROZEN, 1 / 3, True, True, False, 1, 4, 12.345678901234567)
ODD = "süß \ud800 \x00 \u2028 {"  # half of a surrogate pair, as a broken client may send it


def shown(**more: object) -> QueryTrajectory:
    steps = tuple(TrajectoryStep(ITEMS[row], ref=f"d{row}") for row in range(3))
    return QueryTrajectory(7, X, steps, latency_us=1 / 7, alternatives=True, **more)


def submitted() -> QueryTrajectory:
    earlier = QueryTrajectory(8, X, (TrajectoryStep(ITEMS[0], reward=0.1),), 0.1)
    step = TrajectoryStep(ITEMS[1], ITEMS[2], 1 / 3, 5.5, "d1")
    return QueryTrajectory(8, X, (step,), 0.9, 3.25, False, "route", ("c",), ODD, {"t": 0.5, "m": "x"}, earlier)


EVERY: tuple[Event, ...] = (
    events.Shaped(0.1, D),
    Remembered(0.1, ODD, "m1"),
    Remembered(0.1, "text", "m1", ITEMS[0], "me"),
    events.Indexed(0.1),
    events.Indexed(0.1, ITEMS, ("m1", ODD, "m3")[: len(ITEMS)]),
    Answered(0.1, shown(), None, Serving()),
    Answered(1 / 3, shown(subject=ODD), ODD, SERVING, (3, 1)),
    Answered(0.1, QueryTrajectory(7, X, (), alternatives=True), "nothing found", Serving()),
    Answered(0.1, shown(), None, Serving(), seeds=Seeds(("d1", ODD), np.array([0.9, 1 / 3], np.float32))),
    Answered(0.1, shown(), None, Serving(), seeds=Seeds((), np.zeros(0, np.float32))),
    Judged(0.1, 7),
    Judged(0.1, 7, 1 / 3, {"d1": 1 / 3, "array": 0.0, ODD: 1.0}, "me"),
    Judged(0.1, 7, None, {}),
    events.Begun(0.1, 9, "me"),
    events.Begun(0.1, 9, None, ("m1", ODD)),
    events.Dropped(0.1, (9, 10), is_expired=True),
    Submitted(0.1, submitted()),
    events.Touched(0.1, (5, 6)),
    events.Flushed(0.1),
    events.Ticked(0.1),
    events.CycleBegun(0.1, force=True),
    CycleEnded(0.1),
    events.CycleFailed(0.1, ODD),
    events.DeepBegun(0.1, force=True, stages=("link", "dream")),
    events.DeepEnded(0.1, 12),
    events.DeepFailed(0.1, ODD),
    events.ModeSet(0.1, "off"),
    events.RolledBack(0.1, 3, "by hand"),
    events.Decided(0.1, "rejected", 4, "worse"),
    events.Noted(0.1, "a note", 2**53 + 1),
    Reembedded(0.1, ITEMS, ("one", ODD), ITEMS[:2], ("m1", ODD, "m3")[: len(ITEMS)]),
    Reembedded(0.1, ITEMS[:0], (), ITEMS[:0], ()),
)


def machine() -> Machine:
    config = SonaConfig(hidden_dim=D)
    return Machine(config, Words(config), b"key")


def read(entry) -> Event:
    return Decoder(machine(), entry.blobs.__getitem__).decode(entry)


def plain(value: object) -> object:
    """Return a value so that equal means equal bit for bit."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if is_dataclass(value):
        return (type(value).__name__, [(field.name, plain(getattr(value, field.name))) for field in fields(value)])
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return value


def test_every_kind_of_event_is_in_the_table():
    assert {type(event) for event in EVERY} == set(get_args(Event))


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_bit_for_bit(event):
    entry = encode(5, event)
    assert (entry.seq, entry.kind, entry.at) == (5, type(event).__name__.lower(), event.at)
    assert plain(read(entry)) == plain(event)


def test_an_entry_says_whose_it_is_and_of_which_request():
    def named(event: Event) -> tuple[str | None, int | None]:
        entry = encode(1, event)
        return entry.subject, entry.trajectory_id

    assert named(Answered(0.0, shown(subject="me"), None, SERVING)) == ("me", 7)
    assert named(Submitted(0.0, submitted())) == (ODD, 8)
    assert named(Judged(0.0, 7, 1.0, None, "me")) == ("me", 7)
    assert named(events.Begun(0.0, 9, "me")) == ("me", 9)
    assert named(Remembered(0.0, "text", "m1", None, "me")) == ("me", None)
    assert named(events.Flushed(0.0)) == (None, None)


def test_a_vector_that_is_shown_again_is_kept_once():
    entry = encode(1, Answered(0.0, shown(), None, SERVING))
    assert entry.blobs == {blob_digest(row.tobytes()): row.tobytes() for row in ITEMS}
    twice = replace(shown(), steps=(shown().steps[0], replace(shown().steps[1], activations=ITEMS[0])))
    assert len(encode(1, Answered(0.0, twice, None, SERVING)).blobs) == 1
    decoder = Decoder(machine(), entry.blobs.__getitem__)
    one, other = (decoder.decode(entry).trajectory.steps[0].activations for _ in range(2))
    assert np.shares_memory(one, other)


def test_what_the_memories_and_the_embedder_gave_is_taken_from_them_again():
    made = machine()
    made.words = Words(made.config)
    for number, text in enumerate(("a red house", "the green garden", "a blue sky")):
        made.remember(Remembered(0.0, text, f"m{number}"))
    made.index(events.Indexed(0.0))
    request = made.words.embed("a green house")
    steps = tuple(TrajectoryStep(made.memories.vectors[row], ref=f"m{row}") for row in (2, 0))
    trajectory = QueryTrajectory(1, request, steps, alternatives=True)
    event = Answered(0.0, trajectory, "a green house", SERVING, (), has_memories=True, is_embedded=True)
    entry = encode(1, event)
    assert not entry.blobs
    assert len(entry.body) < 500
    assert plain(Decoder(made, entry.blobs.__getitem__).decode(entry)) == plain(event)
    made.memories = made.memories.without({"m2": None})  # where a log is read without somebody, one may be gone
    left = Decoder(made, entry.blobs.__getitem__).decode(entry)
    assert isinstance(left, Answered)
    assert [step.ref for step in left.trajectory.steps] == ["m0"]


def test_what_a_cycle_computed_is_computed_again():
    learned = encode(1, CycleEnded(0.5, change=object()))
    assert learned.body == encode(1, CycleEnded(0.5)).body
    assert read(learned).change is None


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_a_body_cut_short_or_without_one_of_its_entries_is_a_store_error(event):
    entry = encode(5, event)
    for length in {0, 3, 4, 5, len(entry.body) // 2, len(entry.body) - 1}:
        with pytest.raises(StoreError):
            read(replace(entry, body=entry.body[:length]))
    required = set(unpack(entry.body))
    if not isinstance(event, Answered | Submitted):  # the others have defaults to fall back on
        required &= {field.name for field in fields(event) if field.default is MISSING}
    for name in required:
        less = repack(entry.body, lambda document, name=name: document.__delitem__(name))
        with pytest.raises(StoreError):
            read(replace(entry, body=less))


@pytest.mark.parametrize(
    "document",
    [
        [],
        5,
        {},
        [{}],
        [{}, 5],
        [[], []],
        [{"at": {"array": 3}}, []],
        [{"at": {"array": None}}, []],
        [{"at": {"array": "x"}}, []],
        [{"at": {"array": -1}}, [["<f4", [1]]]],
        [{}, [["no type", [1]]]],
        [{}, [["|O", [1]]]],
        [{}, [["<f4", [-1]]]],
        [{}, [["<f4", ["x"]]]],
        [{"at": 0.0, "unknown": 1}, []],
    ],
)
def test_a_document_that_is_none_is_a_store_error(document):
    head = json.dumps(document).encode()
    body = struct.pack("<I", len(head)) + head
    with pytest.raises(StoreError):
        read(replace(encode(1, events.Flushed(0.0)), body=body))


def test_bytes_that_are_no_json_and_arrays_that_are_not_there_are_a_store_error():
    for head in (b"\xff\xfe", b"{", b"", b'[{"at":{"array":3}},[]]', b'[{"at":{"array":[]}},[]]'):
        with pytest.raises(StoreError):
            unpack(struct.pack("<I", len(head)) + head)


def test_a_kind_nobody_knows_is_named():
    with pytest.raises(StoreError, match="'future'"):
        read(replace(encode(1, events.Flushed(0.0)), kind="future"))


def test_repacking_keeps_what_is_still_named_and_nothing_else():
    body = encode(1, Reembedded(0.1, ITEMS, ("one",), ITEMS[:1], ("m1", "m2", "m3"))).body
    assert repack(body, lambda document: None) == body
    less = repack(body, lambda document: document.__delitem__("memories"))
    assert set(unpack(less)) == {"at", "texts", "requests", "ids"}
    assert unpack(less)["requests"].tobytes() == ITEMS[:1].tobytes()
    assert len(less) < len(body) - ITEMS.nbytes
    assert not unpack(body)["requests"].flags.writeable
