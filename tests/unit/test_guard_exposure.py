"""How much is shown: as much as the budget allows, and less the more it may have cost."""

from dataclasses import replace

import numpy as np
import pytest

from sona.guard.exposure import PROBE, Account, exposure_within

NEW = Account(known=100, frozen_quality=0.5, gain=0.0, error=0.0, noise=0.1, budget=0.05, least=1000, alpha=0.05)


def shares(**changes):
    return exposure_within(replace(NEW, **changes), 0.95)


def test_the_bound_is_that_of_a_normal_distribution():
    account = replace(NEW, gain=-3.0, error=2.0)
    assert account.loss == pytest.approx(3.0 + 2.3263478740408408 * 2.0)  # the 99 % point of a normal distribution
    assert replace(NEW, gain=9.0, error=2.0).loss == 0.0


def test_the_budget_is_for_a_thousand_requests_and_grows_with_more():
    assert NEW.allowed() == pytest.approx(20.0)
    assert replace(NEW, known=4000).allowed() == pytest.approx(80.0)
    assert replace(NEW, known=900).allowed(600) == pytest.approx(30.0)


def test_less_is_shown_the_more_was_lost_and_nothing_beyond_the_budget():
    found = [shares(gain=-loss) for loss in (0.0, 8.0, 16.0, 19.0, 21.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] >= 0.5
    assert found[-2] <= 0.1
    assert found[-1] == 0.0


def test_more_is_shown_the_more_was_gained_and_never_more_than_the_most():
    found = [shares(gain=gain) for gain in (0.0, 10.0, 50.0, 500.0)]
    assert found == sorted(found)
    assert found[-1] == 0.95


def test_what_is_shown_keeps_the_bound_within_the_budget_when_kept_up():
    rng = np.random.default_rng(0)
    for _ in range(200):
        account = replace(
            NEW, known=int(rng.integers(1, 5000)), gain=float(rng.normal(0, 20)), error=float(rng.uniform(0, 20))
        )
        share, ahead = exposure_within(account, 0.95), max(account.known, 500)
        if share:
            error = np.hypot(account.error, np.sqrt(ahead * account.noise * share / (1 - share)))
            assert account.bound(error) <= account.allowed(ahead)


def test_uncertainty_alone_limits_too_and_a_little_is_shown_before_nothing():
    assert shares(error=10.0) < shares()
    assert shares(error=20.0) == 0.0
    assert 0.0 < shares(error=8.0) <= 0.3
    assert min(share for share in (shares(error=error) for error in np.linspace(7, 9, 400)) if share) <= 2 * PROBE


def test_the_budget_used_is_a_share_and_all_of_it_where_nothing_is_allowed():
    assert replace(NEW, gain=-10.0).used == pytest.approx(0.5)
    assert replace(NEW, gain=5.0).used == 0.0
    assert replace(NEW, gain=-1.0, frozen_quality=0.0).used == 1.0
