"""Visits: counted by name, bounded, and put into layers that leave none out and share the level."""

import numpy as np
import pytest

from sona.errors import StoreError
from sona.guard.visits import Visits, layer_of, share_of, size_of
from sona.state import State, digest


def test_every_visit_has_a_layer_and_every_layer_its_size():
    layers = [layer_of(visit) for visit in range(1, 1025)]
    assert layers == sorted(layers)
    for layer in range(layers[-1] + 1):
        assert layers.count(layer) == size_of(layer)


def test_the_shares_of_all_layers_are_the_whole_level():
    assert sum(share_of(layer) for layer in range(100_000)) == pytest.approx(1.0, abs=1e-4)
    assert share_of(0) == 0.5


def test_visits_are_numbered_per_unit():
    visits = Visits()
    assert [visits.count(name) for name in (5, 5, -7, 5)] == [1, 2, 1, 3]
    assert len(visits) == 2


def test_the_unit_not_seen_for_longest_is_forgotten():
    visits = Visits(capacity=2)
    for name in (1, 2, 1, 3):
        visits.count(name)
    assert [visits.count(name) for name in (1, 2)] == [3, 1]
    assert len(visits) == 2


def test_what_was_saved_goes_on_in_the_same_order():
    visits = Visits(capacity=3)
    for name in (1, 2, 1, 3):
        visits.count(name)
    again = Visits.from_state(visits.state(), capacity=3)
    for each in (visits, again):
        each.count(4)
    assert digest(visits.state()) == digest(again.state())


@pytest.mark.parametrize(("names", "counts"), [([1, 1], [1, 1]), ([1], [0]), ([1, 2], [1])])
def test_a_damaged_state_is_refused(names, counts):
    with pytest.raises(StoreError):
        Visits.from_state(State({"names": np.array(names), "counts": np.array(counts)}))
