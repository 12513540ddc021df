"""The share shown: what is left of the budget over what the next hundred requests could lose."""

import pytest

from sona.guard.exposure import HORIZON, Account, exposure_within


def account(known: int = 1000, quality: float = 0.5, loss: float = 0.0, budget: float = 0.05) -> Account:
    return Account(known, quality, loss, budget * known * quality)


def test_the_next_hundred_cannot_lose_more_than_is_left():
    for known in (10, 100, 500, 1000):
        for loss in (0.0, 1.0, 10.0):
            one = account(known, loss=loss)
            exposure = exposure_within(one, 1.0)
            assert exposure * HORIZON * one.frozen_quality <= max(one.headroom, 0.0) + 1e-12


def test_after_the_warm_up_the_share_is_the_budget():
    assert exposure_within(account(known=100), 0.95) == pytest.approx(0.05)


def test_more_loss_is_less_exposure_and_beyond_the_budget_there_is_none():
    shares = [exposure_within(account(loss=loss), 0.95) for loss in (0.0, 10.0, 20.0, 25.0, 26.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.5)
    assert shares[-2:] == [0.0, 0.0]


def test_no_more_is_shown_than_may_be():
    assert exposure_within(account(known=10**6), 0.95) == 0.95


def test_with_nothing_to_lose_all_may_be_shown():
    assert exposure_within(account(quality=0.0), 0.95) == 0.95


def test_the_used_share_is_of_the_budget():
    assert account(loss=12.5).used == pytest.approx(0.5)
    assert account(loss=0.0, budget=0.0).used == 0.0
    assert account(loss=1.0, budget=0.0).used == 1.0
