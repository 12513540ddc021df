"""Sorted pairs: what removing, merging and fading make of them."""

from __future__ import annotations

import numpy as np
import pytest

from sona.errors import StoreError
from sona.memory.edges import Decayed, EdgeArrays, keys_of
from sona.memory.nodes import EdgeKind
from sona.state import State, digest


def edges(*rows: tuple[int, int, tuple[float, float, float, float], int]) -> EdgeArrays:
    """Return pairs, each as its rows, its weights by kind and its marks."""
    a, b = (np.array([row[end] for row in rows], np.int64) for end in (0, 1))
    weights = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    return EdgeArrays(keys_of(a, b), weights, np.array([row[3] for row in rows], np.uint8))


def listed(held: EdgeArrays) -> list[tuple[int, int, list[float], int]]:
    columns = (held.a_rows, held.b_rows, held.weights, held.used)
    return list(zip(*(column.tolist() for column in columns), strict=True))


SIMILAR, TOGETHER, DREAM, PATTERN = np.eye(4) * 0.5
THREE = edges((0, 1, SIMILAR, 0), (0, 3, TOGETHER, 2), (2, 3, DREAM, 0))


def test_a_pair_has_one_key_in_either_order():
    high = 2**31 - 1
    keys = keys_of(np.array([3, high]), np.array([high, 3]))
    assert keys.tolist() == [(3 << 32) + high] * 2
    held = EdgeArrays(keys[:1], np.ones((1, 4), np.float32), np.zeros(1, np.uint8))
    assert (held.a_rows.tolist(), held.b_rows.tolist()) == ([3], [high])


def test_strength_is_the_greatest_of_the_kinds_asked_for():
    one = edges((0, 1, (0.5, 0.25, 0.0, 0.75), 0))
    assert one.strengths(tuple(EdgeKind)).tolist() == [0.75]
    assert one.strengths((EdgeKind.SIMILAR, EdgeKind.TOGETHER)).tolist() == [0.5]
    assert one.strengths((EdgeKind.DREAM,)).tolist() == one.strengths(()).tolist() == [0.0]


def test_joined_pairs_stand_in_order():
    joined = THREE.joined(edges((4, 5, PATTERN, 8), (0, 2, DREAM, 4)))
    assert [row[:2] for row in listed(joined)] == [(0, 1), (0, 2), (0, 3), (2, 3), (4, 5)]
    assert listed(joined)[1] == (0, 2, DREAM.tolist(), 4)
    assert listed(EdgeArrays.empty().joined(THREE)) == listed(THREE.joined(EdgeArrays.empty())) == listed(THREE)


def test_rows_that_leave_take_their_pairs_along():
    assert listed(THREE.renumbered(np.array([0, -1, 1, 2]))) == [
        (0, 2, TOGETHER.tolist(), 2),
        (1, 2, DREAM.tolist(), 0),
    ]
    assert not len(THREE.renumbered(np.full(4, -1)))


def test_pairs_that_become_one_keep_the_greater_weights_and_loops_are_gone():
    held = edges((0, 1, (0.5, 0.1, 0, 0), 0), (0, 2, (0.25, 0.4, 0, 0), 2), (1, 2, (0, 0, 0, 1), 8), (2, 3, DREAM, 4))
    redirected = listed(held.redirected(np.array([0, 1, 1, 3])))
    assert [row[:2] for row in redirected] == [(0, 1), (1, 3)]
    assert redirected[0][2] == pytest.approx([0.5, 0.4, 0.0, 0.0])
    assert redirected[0][3] == 2
    assert not len(held.redirected(np.zeros(4, np.int64)))


def test_without_one_kind_a_pair_stays_for_the_other():
    held = edges((0, 1, (0.5, 0.5, 0, 0), 2), (0, 2, SIMILAR, 0), (1, 2, SIMILAR, 0))
    left = held.without(EdgeKind.SIMILAR, np.array([True, True, False]))
    assert listed(left) == [(0, 1, TOGETHER.tolist(), 2), (1, 2, SIMILAR.tolist(), 0)]
    assert listed(held.without(EdgeKind.TOGETHER, np.ones(3, np.bool_)))[0] == (0, 1, SIMILAR.tolist(), 0)


def test_what_was_not_used_fades_by_its_kind_and_is_dropped_when_light():
    held = edges(
        (0, 1, (0.5, 0.5, 0.5, 0.5), 0),
        (0, 2, (0.0, 0.5, 0.5, 0.5), 14),
        (0, 3, (0.001, 0.001, 0, 0), 0),
        (0, 4, (0, 0.001, 0, 0), 0),
        (0, 5, (0, 0.001, 0, 0), 2),
    )
    left, done = held.decayed(keep_edge=0.5, keep_dream=0.25, min_weight=0.01)
    assert [row[:3] for row in listed(left)] == [
        (0, 1, [0.5, 0.25, 0.125, 0.25]),
        (0, 2, [0.0, 0.5, 0.5, 0.5]),
        (0, 3, [pytest.approx(0.001), 0.0, 0.0, 0.0]),
        (0, 5, [0.0, pytest.approx(0.001), 0.0, 0.0]),
    ]
    assert done == Decayed(spared=4, decayed=3, dropped=2)
    assert not left.used.any()
    assert held.weights[0].tolist() == [0.5] * 4  # what came in is as it was


def test_everything_unused_may_fade_at_once():
    left, done = THREE.decayed(keep_edge=0.0, keep_dream=0.0, min_weight=0.0)
    assert [row[:2] for row in listed(left)] == [(0, 1), (0, 3)]
    assert done == Decayed(spared=1, decayed=0, dropped=1)


def test_it_comes_back_bit_for_bit():
    again = EdgeArrays.from_state(THREE.state(), 4)
    assert digest(again.state()) == digest(THREE.state())
    assert len(EdgeArrays.from_state(EdgeArrays.empty().state(), 0)) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keys", THREE.keys[::-1].copy()),
        ("keys", np.array([THREE.keys[0]] * 3)),
        ("keys", np.array([-5, *THREE.keys[1:]])),
        ("keys", np.array([0, *THREE.keys[1:]])),
        ("keys", np.array([*THREE.keys[:2], 2 << 32 | 4])),
        ("weights", -THREE.weights),
        ("weights", THREE.weights * 3.0),
        ("weights", THREE.weights * np.float32(np.nan)),
        ("weights", np.zeros((3, 4), np.float32)),
        ("used", np.array([0, 0, 16], np.uint8)),
        ("used", np.zeros(2, np.uint8)),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    with pytest.raises(StoreError):
        EdgeArrays.from_state(State({**dict(THREE.state().items()), name: value}), 4)
