"""The ledger: counts and seconds that add up, and what they leave for another check."""

import math

import numpy as np
import pytest

from sona.errors import InvalidValue, StoreError
from sona.state import State, digest
from sona.tuner.searches.checks import Kind
from sona.tuner.searches.ledger import Ledger

KIND = Kind(-2, 5, 77)


def test_searches_add_up_per_fit_and_size_whatever_their_value():
    ledger = Ledger(3)
    ledger.served(KIND, 0, 0.5, is_early=True)
    ledger.served(Kind(-2, 5, 78), 2, 0.25, is_early=False)
    ledger.served(Kind(-3, 5, 77), 2, 1.0, is_early=False)
    tally = ledger.tally(KIND)
    assert (tally.counts.tolist(), tally.seconds.tolist(), tally.early) == ([1, 0, 1], [0.5, 0.0, 0.25], 1)
    assert ledger.served_s == 1.75
    assert [kind.fit for kind, _ in ledger.kinds()] == [-2, -3]


@pytest.mark.parametrize("time_s", [-1.0, math.nan, math.inf])
def test_times_that_cannot_be_are_refused_and_nothing_is_counted(time_s):
    ledger = Ledger(3)
    with pytest.raises(InvalidValue):
        ledger.served(KIND, 0, time_s, is_early=False)
    with pytest.raises(InvalidValue):
        ledger.gave_up(KIND, time_s)
    assert (ledger.served_s, ledger.check_s) == (0.0, 0.0)
    assert not ledger.tallies


def test_checks_after_the_first_stay_within_their_share():
    ledger = Ledger(3)
    ledger.checked(10.0, is_first=True)
    ledger.served(KIND, 0, 100.0, is_early=False)
    ledger.checked(3.0, is_first=False)
    assert not ledger.affords(0.05)  # 3 spent and 3 to come are more than 5
    ledger.served(KIND, 0, 20.0, is_early=False)
    assert ledger.affords(0.05)
    assert (ledger.checks, ledger.first_checks, ledger.check_s, ledger.first_s) == (2, 1, 13.0, 10.0)


def test_a_check_that_was_given_up_is_paid_for():
    ledger = Ledger(3)
    ledger.gave_up(KIND, 4.0)
    assert ledger.tally(KIND).failures == 1
    ledger.served(KIND, 0, 100.0, is_early=False)
    assert not ledger.affords(0.05)
    assert ledger.affords(0.08)


def test_the_first_checks_end_where_they_are_many_and_dear():
    ledger = Ledger(3)
    for _ in range(97):
        assert ledger.has_early_time()
        ledger.checked(1.0, is_first=True)
    assert not ledger.has_early_time()
    ledger.served(KIND, 0, 5.0, is_early=False)
    assert ledger.has_early_time()


def test_it_comes_back_bit_for_bit():
    ledger = Ledger(3)
    for place in range(3):
        ledger.served(Kind(place, 4, 0), place, 0.1 * place, is_early=place == 0)
    ledger.checked(0.3, is_first=True)
    ledger.gave_up(KIND, 0.7)
    again = Ledger.from_state(ledger.state(), 3)
    assert digest(again.state()) == digest(ledger.state())
    assert digest(Ledger.from_state(Ledger(3).state(), 3).state()) == digest(Ledger(3).state())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("counts", np.full((1, 3), -1)),
        ("seconds", np.full((1, 3), math.nan)),
        ("seconds", np.zeros((1, 4))),
        ("times", np.full(4, -1.0)),
        ("times", np.full(4, math.nan)),
        ("checks", -1),
        ("first_checks", True),
        ("early", np.zeros((2, 2), np.int64)),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    ledger = Ledger(3)
    ledger.served(KIND, 0, 1.0, is_early=False)
    with pytest.raises(StoreError):
        Ledger.from_state(State({**dict(ledger.state().items()), name: value}), 3)
