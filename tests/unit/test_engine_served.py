"""ServedRequests: answered requests that may still earn feedback."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from sona.engine.served import Served, ServedRequests, SharedVectors
from sona.errors import StoreError
from sona.memory.calibrate import ShownList
from sona.memory.votes import Receipt, Showing
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep


def shown(count: int) -> ShownList:
    rng = np.random.default_rng(count)
    columns = [rng.normal(size=count).astype(np.float32) for _ in range(3)]
    tables = [rng.normal(size=(count, 6)).astype(np.float32) for _ in range(2)]
    return ShownList(columns[0], *tables, *columns[1:], bool(count % 2))


def served(number: int, at: float = 0.0, count: int = 2) -> Served:
    steps = tuple(TrajectoryStep([1.0, float(i)], ref=f"d{i}") for i in range(count))
    trajectory = QueryTrajectory(number, [1.0, 0.0], steps, alternatives=True)
    return Served(trajectory, shown(count), f"question {number}", at)


def answered(one: Served, *rewards: float | None) -> Served:
    steps = tuple(replace(s, reward=r) for s, r in zip(one.trajectory.steps, rewards, strict=True))
    receipt = Receipt(7, tuple(Showing(s.ref, s.reward or 0.0, 0.5) for s in steps))
    return one.learned(replace(one.trajectory, steps=steps), receipt)


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


def test_a_list_is_kept_so_that_feedback_can_be_amended():
    one = served(1)
    quality_only = one.learned(replace(one.trajectory, final_quality=1.0), None)
    assert quality_only.shown is one.shown
    assert answered(quality_only, 1.0, 0.0).shown is one.shown


def test_everything_comes_back_bit_for_bit():
    held = ServedRequests(capacity=10, window_s=10.0)
    for number in range(6):
        held.add(served(number, at=0.1 * number, count=number))
    held.add(Served(QueryTrajectory(6, [1.0, 0.0]), None, None, 0.7))
    held.renew(answered(held.get(2), 1.0, 0.0))
    held.renew(held.get(3).learned(replace(held.get(3).trajectory, final_quality=0.5), None))
    again = ServedRequests.from_state(held.state(), 10, 10.0)
    assert digest(again.state()) == digest(held.state())
    for number in range(7):
        one, other = held.get(number), again.get(number)
        assert (one.text, one.served_at, one.receipt) == (other.text, other.served_at, other.receipt)
        assert (one.outcome is None) == (other.outcome is None)
        if one.shown is not None:
            for name in ("similarity", "taken", "passed", "micro", "base"):
                assert (getattr(one.shown, name) == getattr(other.shown, name)).all()
            assert one.shown.is_known == other.shown.is_known
        else:
            assert other.shown is None


def test_parts_that_do_not_add_up_do_not_load():
    held = ServedRequests(capacity=10, window_s=10.0)
    held.add(served(1))
    values = dict(held.state().items())
    with pytest.raises(StoreError):
        ServedRequests.from_state(State({**values, "texts": []}), 10, 10.0)


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
