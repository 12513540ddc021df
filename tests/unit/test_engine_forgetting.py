"""The log without somebody: theirs goes, what named their memories is amended, and all else stays byte for byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.config import GuardConfig, SonaConfig
from sona.engine import events
from sona.engine.codec import encode, unpack
from sona.engine.core import SonaEngine
from sona.engine.events import Answered, Indexed, Judged, Reembedded, Remembered, Serving, Submitted
from sona.engine.forgetting import Forgotten, Without
from sona.errors import InvalidValue, StateError, StoreError
from sona.state import State, digest
from sona.stores import MemoryStore
from sona.stores.store import Event as Entry
from sona.trajectory import trajectories_from_state
from sona.types import Context, QueryTrajectory, TrajectoryStep

D = 2
X = np.array([1.0, 0.5], np.float32)
GIVEN = np.array([0.0, 1.0], np.float32)


def log(*happened: events.Event) -> list[Entry]:
    return [encode(seq, event) for seq, event in enumerate(happened, 1)]


def remembered(item: str, subject: str | None = None, vector=None) -> Remembered:
    return Remembered(0.0, f"text {item}", item, vector, subject)


def answered(
    number: int, *items: str, subject: str | None = None, text: str | None = None, common: int = 0
) -> Answered:
    steps = tuple(TrajectoryStep(X, ref=item) for item in items)
    trajectory = QueryTrajectory(number, X, steps, alternatives=True, subject=subject)
    return Answered(0.0, trajectory, text, Serving(common=common), has_memories=True)


def without(subject: str, entries: list[Entry]) -> tuple[Without, list[Entry]]:
    one = Without(subject)
    return one, list(one.filtered(entries))


def test_what_is_theirs_goes_and_is_counted():
    entries = log(
        remembered("a", "me"),
        remembered("b"),
        answered(1, "b", subject="me"),
        answered(2, "b", subject="you"),
        Judged(0.0, 1, 1.0, None, "me"),
        Judged(0.0, 1, 0.5, None, None),  # for their request, whoever gave it
        Judged(0.0, 2, 1.0, None, "you"),
        events.Begun(0.0, 3, "me"),
        Submitted(0.0, QueryTrajectory(3, X, (), 1.0, subject="me")),
        events.ModeSet(0.0, "off"),
    )
    one, left = without("me", entries)
    assert [entry.seq for entry in left] == [2, 4, 7, 10]
    assert one.erased == [1, 3, 5, 6, 8, 9]
    assert one.result == Forgotten(memories=1, requests=2, feedbacks=2, amended=0)
    assert all(entry is entries[entry.seq - 1] for entry in left)
    assert one.replaced == []


def test_who_was_never_there_leaves_every_entry_as_it_is():
    entries = log(
        remembered("a", "you"),
        Indexed(0.0, np.eye(D, dtype=np.float32)[:1], ("a",)),
        answered(1, "a", subject="you", text="what?"),
        Judged(0.0, 1, None, {"a": 1.0}, "you"),
        Reembedded(0.0, X[None], ("what?",), X[None], ("a",)),
        Submitted(0.0, QueryTrajectory(5, X, (TrajectoryStep(X, ref="a"),), 1.0)),
    )
    one, left = without("nobody", entries)
    assert all(entry is given for entry, given in zip(left, entries, strict=True))
    assert one.result == Forgotten()


def test_others_lists_lose_their_memories_and_what_these_earned():
    trajectory = QueryTrajectory(
        3, X, (TrajectoryStep(X, ref="b"), TrajectoryStep(X, ref="a")), 1.0, context_ids=("a",)
    )
    entries = log(
        remembered("a", "me"),
        remembered("b", "you"),
        answered(1, "b", "a", "a2", subject="you", common=2),
        answered(2, "b", subject="you"),
        Judged(0.0, 1, None, {"a": 1.0, "b": 0.25}, "you"),
        Submitted(0.0, trajectory),
    )
    one, left = without("me", entries)
    assert [entry.seq for entry in left] == [2, 3, 4, 5, 6]
    shown = unpack(left[1].body)
    assert (shown["items"], shown["serving"]["common"]) == (["b", "a2"], 1)
    assert left[2] is entries[3]
    assert unpack(left[3].body)["rewards"] == [["b", 0.25]]
    fewer = trajectories_from_state(State(unpack(left[4].body)["trajectory"]))[0]
    assert ([step.ref for step in fewer.steps], fewer.context_ids) == (["b"], ())
    assert one.result.amended == 3
    assert [entry.seq for entry in one.replaced] == [3, 5, 6]
    assert all(
        (entry.kind, entry.at, entry.subject) == (was.kind, was.at, was.subject)
        for entry, was in ((left[1], entries[2]), (left[3], entries[4]))
    )


def test_a_memory_that_another_brought_as_well_stays():
    entries = log(remembered("a", "me"), remembered("a", "you"), answered(1, "a", subject="you"))
    one, left = without("me", entries)
    assert [entry.seq for entry in left] == [2, 3]
    assert one.replaced == []


def test_rows_of_theirs_go_from_the_vectors_of_the_embedder():
    rows = np.arange(6, dtype=np.float32).reshape(3, D)
    entries = log(
        remembered("a", "you"),
        remembered("b", "me"),
        remembered("given", "me", GIVEN),
        remembered("c"),
        Indexed(0.0, rows, ("a", "b", "c")),
        remembered("d", "me"),
        Indexed(1.0, rows[:1], ("d",)),
    )
    _, left = without("me", entries)
    assert unpack(left[2].body)["vectors"].tolist() == rows[[0, 2]].tolist()
    assert unpack(left[2].body)["ids"] == ["a", "c"]
    assert unpack(left[3].body)["vectors"].shape == (0, D)


def test_a_vector_of_words_that_were_theirs_is_made_anew():
    rows = np.arange(4, dtype=np.float32).reshape(2, D)
    entries = log(remembered("a", "you"), remembered("b"), remembered("a", "me"), Indexed(0.0, rows, ("a", "b")))
    _, left = without("me", entries)
    document = unpack(left[-1].body)
    assert (document["ids"], document["vectors"].tolist()) == (["b"], rows[1:].tolist())


def test_what_an_open_trajectory_was_given_loses_their_memories():
    entries = log(remembered("a", "me"), remembered("b"), events.Begun(0.0, 5, "you", ("a", "b")))
    _, left = without("me", entries)
    assert unpack(left[-1].body)["context_ids"] == ["b"]


def test_after_another_embedder_took_over_only_rows_that_are_left_stay():
    rows = np.arange(4, dtype=np.float32).reshape(2, D)
    entries = log(
        remembered("a", "me"),
        remembered("b"),
        answered(1, "b", subject="me", text="theirs"),
        answered(2, "b", text="others"),
        Reembedded(0.0, rows, ("theirs", "others"), rows, ("a", "b")),
    )
    _, left = without("me", entries)
    document = unpack(left[-1].body)
    assert document["memories"].tolist() == rows[1:].tolist()
    assert (document["texts"], document["requests"].tolist()) == (["others"], rows[1:].tolist())


@pytest.mark.parametrize("place", [0, 2])
def test_a_damaged_entry_is_a_store_error(place):
    entries = log(remembered("a", "me"), remembered("b"), answered(1, "a"))
    entries[place] = replace(entries[place], body=b"\x05\0\0\0abc")
    with pytest.raises(StoreError):
        without("me", entries)


def engine(store: MemoryStore | None) -> SonaEngine:
    config = SonaConfig(hidden_dim=D, guard=GuardConfig(influence=1.0))
    return SonaEngine(
        config, embedder=lambda texts: [[1.0, len(t) / 9.0] for t in texts], clock=lambda: 1.0, store=store
    )


def live(made: SonaEngine, *people: str) -> None:
    for number, person in enumerate(("you", "me", "you", "me", "you")):
        if person in people:
            made.remember(f"{person} {'x' * number}", f"{person}{number}", subject=person)
            response = made.process("what?", Context(user_id=person))
            made.feedback(response.trajectory_id, rewards={response.sources[0].id: 1.0})


def test_an_engine_that_forgot_answers_as_one_that_never_met_them_and_holds_nothing_of_theirs():
    store = MemoryStore()
    made, never = engine(store), engine(MemoryStore())
    live(made, "you", "me")
    live(never, "you")
    assert b"me1" in b"".join(event.body for event in store.events())
    assert made.forget("me").requests == 2
    assert made.memory_count == never.memory_count == 3
    for text in ("what?", "you x"):
        one, other = made.process(text), never.process(text)
        assert [(source.id, source.score) for source in one.sources] == [
            (source.id, source.score) for source in other.sources
        ]
    assert made.replay().is_equal
    assert b"me1" not in b"".join(event.body for event in store.events())
    assert made.forget("me") == Forgotten()


def test_forgetting_needs_a_name_and_the_log_and_changes_nothing_without():
    made, logged = engine(None), engine(MemoryStore())
    live(made, "me")
    before = digest(made.state())
    with pytest.raises(StateError, match="log"):
        made.forget("me")
    assert digest(made.state()) == before
    with pytest.raises(InvalidValue):
        logged.forget("")
