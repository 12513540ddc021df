"""Opinions: the latest of each subject about each request."""

from __future__ import annotations

import numpy as np
import pytest

from sona.errors import StoreError
from sona.memory.opinions import Opinions
from sona.memory.shelf import Showing
from sona.state import State, digest

LIKES, DISLIKES = (Showing("a", 1.0), Showing("b", 0.0, 0.5)), (Showing("a", 0.0),)


def held(opinions: Opinions) -> dict[tuple[int, str], int]:
    state = opinions.state()
    pairs = zip(state.wholes("requests", None).tolist(), state.texts("subjects"), strict=True)
    return dict(zip(pairs, state.wholes("serials", None).tolist(), strict=True))


def test_a_later_opinion_replaces_the_earlier_and_is_the_newest():
    opinions = Opinions(3)
    opinions.hold(1, "me", LIKES)
    opinions.hold(1, "you", LIKES)
    assert opinions.hold(1, "me", DISLIKES).serial == 2
    assert opinions.held(1, "me").showings == DISLIKES
    assert opinions.held(2, "me") is None
    assert list(held(opinions)) == [(1, "you"), (1, "me")]


def test_the_oldest_is_forgotten_beyond_the_capacity():
    opinions = Opinions(2)
    for request in range(4):
        opinions.hold(request, "me", LIKES)
    assert held(opinions) == {(2, "me"): 2, (3, "me"): 3}
    assert (len(opinions), opinions.capacity) == (2, 2)


def test_only_the_opinion_that_is_held_can_be_dropped():
    opinions = Opinions(2)
    first, last = opinions.hold(1, "me", LIKES), opinions.hold(1, "me", LIKES)
    assert [opinions.drop(1, "me", serial) for serial in (first.serial, -1, 99)] == [False, False, False]
    assert not opinions.drop(2, "me", last.serial)
    assert opinions.drop(1, "me", last.serial)
    assert not opinions.drop(1, "me", last.serial)
    assert opinions.hold(1, "me", LIKES).serial == 2


def test_opinions_come_back_bit_for_bit_and_go_on_as_before():
    opinions = Opinions(3)
    for number, showings in enumerate((LIKES, DISLIKES, (), LIKES)):
        opinions.hold(number, f"u{number}", showings)
    again = Opinions.from_state(opinions.state())
    assert digest(again.state()) == digest(opinions.state())
    assert again.held(3, "u3") == opinions.held(3, "u3")
    assert again.hold(9, "me", LIKES) == opinions.hold(9, "me", LIKES)
    assert held(again) == held(opinions)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("sizes", np.array([2, 2], np.int64)),
        ("sizes", np.array([4, -1], np.int64)),
        ("items", np.array([0, 1, 7], np.int64)),
        ("items", np.array([0, 1, -1], np.int64)),
        ("serials", np.array([1, 0], np.int64)),
        ("serials", np.array([0, 0], np.int64)),
        ("serials", np.array([0, 2], np.int64)),
        ("subjects", ["me"]),
        ("names", ["a"]),
        ("requests", np.array([1], np.int64)),
    ],
)
def test_parts_that_do_not_add_up_are_refused(part, value):
    opinions = Opinions(5)
    opinions.hold(1, "me", LIKES)
    opinions.hold(2, "me", DISLIKES)
    with pytest.raises(StoreError):
        Opinions.from_state(State({**dict(opinions.state().items()), part: value}))


def test_a_copy_goes_its_own_way_and_what_was_held_can_be_held_again():
    opinions = Opinions(2)
    opinions.hold(1, "me", LIKES)
    kept = opinions.copy()
    opinions.hold(1, "me", DISLIKES)
    opinions.hold(2, "you", DISLIKES)
    assert held(kept) == {(1, "me"): 0}
    opinions.restore(kept)
    assert held(opinions) == held(kept)
    assert opinions.hold(2, "me", LIKES).serial == 3
    assert kept.hold(2, "me", LIKES).serial == 1
    narrow = Opinions(1)
    narrow.restore(opinions)
    assert held(narrow) == {(2, "me"): 3}


def test_more_than_the_capacity_is_refused():
    opinions = Opinions(2)
    opinions.hold(1, "me", LIKES)
    opinions.hold(2, "me", LIKES)
    with pytest.raises(StoreError):
        Opinions.from_state(State({**dict(opinions.state().items()), "capacity": 1}))
