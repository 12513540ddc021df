"""Influence: a hostile subject gives no more than its share, and the ordinary are left alone."""

from collections import Counter

import numpy as np
import pytest

from sona.config import GuardConfig
from sona.errors import StoreError
from sona.guard.influence import Influence
from sona.state import State, digest


def limits(**settings: float) -> Influence:
    return Influence(GuardConfig(**settings))


def test_nobody_in_particular_and_one_or_two_subjects_are_never_limited():
    influence = limits()
    assert all(influence.admit(None) for _ in range(100))
    assert all(influence.admit("ann") for _ in range(100))
    influence = limits()
    assert all(influence.admit(("ann", "bob")[n % 2]) for n in range(3000))


def test_a_thousand_hostile_clicks_among_many_subjects_give_a_twentieth():
    rng = np.random.default_rng(0)
    influence = limits()
    window: list[str] = []
    for _ in range(4000):
        subject = "hostile" if rng.random() < 0.5 else f"user-{rng.integers(100)}"
        if influence.admit(subject):
            window.append(subject)
        if len(window) >= 1000:
            recent = Counter(window[-1000:])
            assert recent["hostile"] <= 50
    assert influence.limited_count > 1000
    assert influence.admitted_count == len(window)
    ordinary = Counter(window)
    assert min(ordinary[f"user-{n}"] for n in range(100)) > 5


def test_few_subjects_may_give_more_each():
    influence = limits()
    taken = Counter(subject for n in range(3000) if influence.admit(subject := f"user-{n % 8}"))
    assert min(taken.values()) == max(taken.values()) == 375
    hostile = sum(influence.admit("user-0") for _ in range(1000))
    assert hostile <= 250


def test_what_falls_out_of_the_window_makes_room():
    influence = limits(influence=0.1, influence_window=100)
    for n in range(1000):
        influence.admit(f"user-{n % 50}")
    assert sum(influence.admit("new") for _ in range(50)) == 10
    for n in range(100):
        influence.admit(f"user-{n % 50}")
    assert influence.admit("new")


def test_a_subjects_first_lesson_is_always_taken():
    influence = limits(influence=0.001, influence_window=10)
    assert all(influence.admit(f"user-{n}") for n in range(100))


def test_what_was_saved_goes_on():
    influence = limits()
    for n in range(200):
        influence.admit(None if n % 7 == 0 else f"user-{n % 9}")
    again = Influence.from_state(influence.state(), influence.config)
    for each in (influence, again):
        for n in range(50):
            each.admit(f"user-{n % 2}")
    assert digest(influence.state()) == digest(again.state())


def test_a_smaller_window_keeps_the_latest():
    influence = limits()
    for n in range(100):
        influence.admit(f"user-{n}")
    again = Influence.from_state(influence.state(), GuardConfig(influence_window=10))
    assert len(again.state().wholes("window", None)) == 10


def test_a_damaged_state_is_refused():
    values = dict(limits().state().items())
    for wrong in ({"admitted": -1}, {"limited": -1}, {"window": np.zeros(1)}):
        with pytest.raises(StoreError):
            Influence.from_state(State({**values, **wrong}), GuardConfig())
