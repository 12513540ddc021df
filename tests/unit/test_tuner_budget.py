import pytest

from sona.errors import ConfigError, StoreError
from sona.state import State, digest
from sona.tuner.choosing.budget import Budget


def spent(share=0.05, rounds=1, round_s=10.0, saved_s=0.0):
    budget = Budget(share)
    for _ in range(rounds):
        budget.spend(round_s, round_s=round_s, saved_s=saved_s)
    return budget


def test_nothing_spent_is_no_room():
    assert Budget(1.0).room_s == 0.0


def test_a_round_brings_its_share_and_no_more_is_saved_up():
    assert spent(rounds=1).room_s == pytest.approx(0.5)
    assert spent(rounds=10).room_s == pytest.approx(0.5)
    assert spent(rounds=10).balance_s == pytest.approx(5.0)


def test_of_what_was_not_spent_for_long_a_tenth_may_be_spent_at_once():
    assert spent(rounds=50).room_s == pytest.approx(2.5)
    assert spent(rounds=50).balance_s == pytest.approx(25.0)


def test_half_of_what_is_saved_may_be_spent_within_the_share_of_all_time():
    assert spent(rounds=10, saved_s=4.0).room_s == pytest.approx(2.5)
    assert spent(rounds=2, saved_s=40.0).room_s == pytest.approx(1.0)


def test_what_was_tried_is_gone_and_comes_back_with_time():
    budget = spent(rounds=8)
    budget.explore(0.4)
    assert budget.room_s == pytest.approx(0.1)
    budget.explore(0.6)
    assert budget.room_s == 0.0
    budget.spend(10.0, round_s=10.0, saved_s=0.0)
    assert budget.room_s == 0.0
    budget.spend(2.0, round_s=10.0, saved_s=0.0)
    assert budget.room_s == pytest.approx(0.1)


def test_a_limit_that_shrinks_takes_what_was_saved_up():
    budget = spent(rounds=10, saved_s=4.0)
    budget.spend(0.0, round_s=10.0, saved_s=0.0)
    assert budget.room_s == pytest.approx(0.5)
    assert budget.limit_s == pytest.approx(0.5)


def test_it_comes_back_bit_for_bit():
    budget = spent(rounds=3)
    budget.explore(0.123456789)
    again = Budget.from_state(budget.state(), 0.05)
    assert digest(again.state()) == digest(budget.state())
    assert again.room_s == budget.room_s


@pytest.mark.parametrize("damage", [{"spent_s": -1.0}, {"explored_s": "x"}, {"limit_s": None}, {"tokens_s": True}])
def test_damage_is_refused(damage):
    with pytest.raises(StoreError):
        Budget.from_state(State({**dict(spent().state().items()), **damage}), 0.05)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError):
        Budget(share)
