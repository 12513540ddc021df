"""The memories of a graph, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from sona.errors import StoreError
from sona.memory.nodes import MemoryNode
from sona.memory.roster import Roster
from sona.state import State, digest


def filled(count: int = 4) -> Roster:
    roster = Roster(3)
    for number in range(count):
        roster.add(MemoryNode(f"m{number}", np.eye(3)[number % 3] * (number + 1), quality=0.25 * (number % 4)))
    return roster


def test_a_memory_comes_back_as_it_was_given_at_unit_length():
    roster = Roster(2)
    node = MemoryNode("a", np.array([3.0, 4.0]), "text", "note", 0.7, 0.3, 5, 12.5, ("x", "y"))
    assert roster.add(node) == 0
    again = roster.node(0)
    assert again.embedding.tolist() == pytest.approx([0.6, 0.8])
    for name in ("id", "payload", "kind", "importance", "quality", "access_count", "last_access", "provenance"):
        assert getattr(again, name) == getattr(node, name)
    roster.add(MemoryNode("zero", np.zeros(2)))
    assert roster.vectors[1].tolist() == [0.0, 0.0]
    assert (roster.node(1).payload, roster.node(1).kind, roster.node(1).provenance) == (None, "memory", ())


def test_rows_grow_beyond_any_first_room():
    roster = filled(200)
    assert (len(roster), roster.ids[199], roster.row_of["m150"]) == (200, "m199", 150)
    assert roster.vectors.tolist() == [np.eye(3)[number % 3].tolist() for number in range(200)]


def test_a_request_is_counted_once_for_each_row():
    roster = filled()
    roster.serve({0: 1.0, 2: 0.5}, [1], 7.0)
    roster.serve({2: 0.25}, [0], 5.0)
    assert roster.access_counts.tolist() == [1, 0, 2, 0]
    assert roster.shown_counts.tolist() == [2, 1, 2, 0]
    assert roster.earned.tolist() == [1.0, 0.0, 0.75, 0.0]
    assert roster.last_access.tolist() == [7.0, 0.0, 7.0, 0.0]  # a clock that goes back takes nothing back


def test_quality_is_what_was_earned_with_the_given_one_for_two_showings():
    roster = filled()
    assert roster.qualities.tolist() == [0.0, 0.25, 0.5, 0.75]
    roster.serve({0: 1.0}, [3], 1.0)
    roster.serve({0: 1.0}, [3], 1.0)
    assert roster.qualities.tolist() == [0.5, 0.25, 0.5, 0.375]
    assert roster.node(0).quality == 0.5


def test_change_says_whether_the_vector_differs():
    roster = filled()
    roster.serve({1: 1.0}, [], 3.0)
    assert not roster.change(1, MemoryNode("m1", roster.node(1).embedding, "words", "note", 0.9, 0.1))
    assert roster.change(1, MemoryNode("m1", np.array([1.0, 1.0, 0.0]), importance=0.9))
    node = roster.node(1)
    assert (node.payload, node.kind, node.importance, node.access_count) == (None, "memory", 0.9, 1)
    assert node.embedding.tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0.0])


def test_what_is_absorbed_counts_for_the_one_that_stays():
    roster = filled()
    roster.add(MemoryNode("old", np.ones(3), importance=0.9, access_count=3, last_access=50.0, provenance=("older",)))
    roster.serve({4: 0.5}, [0], 9.0)
    roster.absorb([(0, 4), (2, 1), (0, 3)])
    assert roster.access_counts[[0, 2]].tolist() == [4, 0]
    assert (roster.shown_counts[0], roster.earned[0], roster.last_access[0]) == (2, 0.5, 50.0)
    assert roster.importance[0] == 0.9
    assert roster.provenance("m0") == ("old", "older", "m3")
    assert roster.provenance("m2") == ("m1",)


def test_removing_moves_the_later_ones_up_and_forgets_every_word():
    roster = Roster(2)
    for name in "abcd":
        roster.add(MemoryNode(name, np.ones(2), f"text {name}", f"kind {name}", provenance=(f"source {name}",)))
    assert roster.remove({0, 2}).tolist() == [-1, 0, -1, 1]
    assert (roster.ids, dict(roster.row_of)) == (("b", "d"), {"b": 0, "d": 1})
    assert (roster.node(1).payload, roster.node(1).kind, roster.provenance("d")) == ("text d", "kind d", ("source d",))
    written = repr(list(roster.state().items()))
    assert not any(f"text {name}" in written or f"source {name}" in written for name in "ac")
    roster.add(MemoryNode("a", np.ones(2)))
    assert (roster.node(2).payload, roster.node(2).provenance) == (None, ())


def test_a_copy_goes_its_own_way():
    roster = filled()
    twin = roster.copy()
    before = digest(twin.state())
    roster.serve({0: 1.0}, [1], 1.0)
    roster.change(2, MemoryNode("m2", np.ones(3), "other"))
    roster.add(MemoryNode("new", np.ones(3)))
    assert digest(twin.state()) == before
    twin.add(MemoryNode("other", np.ones(3)))
    assert "other" not in roster.row_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", ["m0", "m1", "m2", "m2"]),
        ("ids", ["m0", "m1", "m2", " "]),
        ("ids", ["m0", "m1"]),
        ("vectors", 2.0 * np.eye(4, 3, dtype=np.float32)),
        ("vectors", np.full((4, 3), np.nan, np.float32)),
        ("vectors", np.zeros((4, 2), np.float32)),
        ("counts", -np.ones((4, 2), np.int64)),
        ("sums", np.full((4, 4), np.nan)),
        ("sums", np.full((4, 4), 0.5)),  # earned without having been shown
        ("sums", np.array([[0.0, 0.0, 2.0, 0.5]] * 4)),
        ("payloads", [None]),
        ("kinds", [None] * 5),
        ("sources", ["x"]),
        ("source_counts", np.array([1, -1, 0, 0])),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    state = filled().state()
    assert digest(Roster.from_state(state, 3).state()) == digest(state)
    with pytest.raises(StoreError):
        Roster.from_state(State({**dict(state.items()), name: value}), 3)
