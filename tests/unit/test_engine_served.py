"""ServedRequests: answered requests that may still earn feedback."""

from __future__ import annotations

import gc
from dataclasses import astuple, replace

import numpy as np
import pytest

from sona.engine.events import Serving
from sona.engine.served import Served, ServedRequests, SharedVectors
from sona.errors import StoreError
from sona.guard import comparison as comparing  # pytest takes a name like Testimony for a class of tests
from sona.guard.holdout import Arm
from sona.guard.trial import Expected, Trial
from sona.memory.votes import Receipt, Showing
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep


def served(number: int, at: float = 0.0, count: int = 2, **serving) -> Served:
    steps = tuple(TrajectoryStep([1.0, float(i)], ref=f"d{i}") for i in range(count))
    trajectory = QueryTrajectory(number, [1.0, 0.0], steps, alternatives=True)
    return Served(trajectory, f"question {number}", at, Serving(**serving))


def answered(one: Served, *rewards: float | None) -> Served:
    steps = tuple(replace(s, reward=r) for s, r in zip(one.trajectory.steps, rewards, strict=True))
    receipt = Receipt(7, tuple(Showing(s.ref, s.reward or 0.0, 0.5) for s in steps), "me", 3)
    outcome = replace(one.trajectory, steps=steps)
    return replace(one, outcome=outcome, is_learned=True, receipt=receipt, testimony=TESTIMONY)


TRIAL = Trial(2**60 + 1, 1, True, 0.25, 0.5, common=0.125, prefix=2, is_identical=False)
WATCHED = comparing.Noted(4, Expected(0.1, 0.2))
TESTIMONY = comparing.Testimony(TRIAL, Expected(0.5, 0.25), Expected(0.75, 0.1), WATCHED, None)


def test_requests_are_held_by_id_until_they_are_too_many():
    held = ServedRequests(capacity=2, window_s=10.0)
    for number in range(4):
        held.add(served(number))
    assert len(held) == 2
    assert held.get(1) is None
    assert held.get(3).trajectory.id == 3
    assert held.unanswered_count == 2


def test_requests_older_than_the_window_go_and_only_those_without_feedback_count():
    held = ServedRequests(capacity=10, window_s=10.0)
    for number in range(4):
        held.add(served(number, at=float(number)))
    held.renew(answered(held.get(0), 1.0, 0.0))
    assert held.awaiting_count == 3
    assert held.expire(9.9) == 0
    assert held.expire(11.0) == 1
    assert (len(held), held.unanswered_count, held.awaiting_count) == (2, 1, 2)
    assert held.expire(1e9) == 2
    assert (len(held), held.unanswered_count) == (0, 3)


def test_a_request_that_has_gone_is_not_brought_back_by_its_feedback():
    held = ServedRequests(capacity=1, window_s=10.0)
    held.add(served(1))
    one = held.get(1)
    held.add(served(2))
    held.renew(answered(one, 1.0, 0.0))
    assert held.get(1) is None
    assert held.unanswered_count == 1


def test_everything_comes_back_bit_for_bit():
    held = ServedRequests(capacity=10, window_s=10.0)
    for number in range(6):
        held.add(served(number, at=0.1 * number, count=number, exposure=0.1 * number, version=number))
    odd = Serving(Arm.FROZEN, 0.3, True, True, False, 3, 4, 5.5)
    held.add(Served(QueryTrajectory(6, [1.0, 0.0]), None, 0.7, odd))
    held.renew(answered(held.get(2), 1.0, 0.0))
    held.renew(replace(held.get(3), outcome=replace(held.get(3).trajectory, final_quality=0.5)))
    again = ServedRequests.from_state(held.state(), 10, 10.0)
    assert digest(again.state()) == digest(held.state())
    for number in range(7):
        one, other = held.get(number), again.get(number)
        for name in ("text", "served_at", "is_learned", "receipt", "testimony"):
            assert getattr(one, name) == getattr(other, name), name
        assert astuple(one.serving) == astuple(other.serving)
        assert (one.outcome is None) == (other.outcome is None)
    assert astuple(again.get(6).serving) == astuple(odd)
    assert again.get(2).testimony == TESTIMONY
    assert [step.reward for step in again.get(2).outcome.steps] == [1.0, 0.0]
    assert (again.get(3).outcome.final_quality, again.get(3).is_learned) == (0.5, False)


def held_state() -> State:
    held = ServedRequests(capacity=10, window_s=10.0)
    held.add(served(1))
    held.renew(answered(held.get(1), 1.0, 0.0))
    return held.state()


@pytest.mark.parametrize("name", ["texts", "servings", "receipts", "testimonies"])
def test_parts_that_do_not_add_up_do_not_load(name):
    values = dict(held_state().items())
    with pytest.raises(StoreError):
        ServedRequests.from_state(State({**values, name: []}), 10, 10.0)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("servings", None),
        ("servings", ["nobody"]),
        ("servings", ["learned", 1.0, 2, 3, 4, 5, 6, 7, 8]),
        ("servings", ["learned", 1.0]),
        ("servings", []),
        ("receipts", None),
        ("receipts", ["me", 3, None]),
        ("receipts", ["me", 3, [[1, 2, 3, 4]]]),
        ("receipts", ["me"]),
        ("testimonies", 5),
        ("testimonies", []),
    ],
)
def test_how_it_was_answered_and_what_was_recorded_are_checked_on_loading(name, wrong):
    values = dict(held_state().items())
    with pytest.raises(StoreError):
        ServedRequests.from_state(State({**values, name: [wrong]}), 10, 10.0)


def test_requests_that_show_the_same_item_share_one_read_only_vector():
    shared = SharedVectors()
    row = np.array([1.0, 2.0], np.float32)
    first, second = shared.share("a", row), shared.share("a", row.copy())
    assert first is second
    assert not first.flags.writeable
    row[0] = 9.0
    assert first.tolist() == [1.0, 2.0]
    changed = shared.share("a", row)
    assert changed.tolist() == [9.0, 2.0]
    assert first.tolist() == [1.0, 2.0]
    del first, second, changed
    gc.collect()
    assert shared.share("a", row).tolist() == [9.0, 2.0]
