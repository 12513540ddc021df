"""A shift is seen, a wobble is not."""

import math

import numpy as np
import pytest

from sona.errors import InvalidValue
from sona.tuner.dag.shift import shift_test


def qualities(rng, mean, count, spread=0.05):
    return np.clip(rng.normal(mean, spread, count), 0.0, 1.0).tolist()


def test_a_wobble_is_seldom_taken_for_a_shift():
    rng = np.random.default_rng(0)
    alarms = sum(shift_test(qualities(rng, 0.6, 30), qualities(rng, 0.6, 10)).is_shift for _ in range(4000))
    single = 0
    rng = np.random.default_rng(0)
    for _ in range(4000):
        test = shift_test(qualities(rng, 0.6, 30), qualities(rng, 0.6, 10))
        single += abs(test.z) > 2.0
    assert alarms / 4000 < 0.01
    assert single / 4000 > 0.04  # what one test of all recent ones would say


@pytest.mark.parametrize("change", [-0.15, 0.15])
def test_a_shift_of_three_standard_deviations_is_seen(change):
    rng = np.random.default_rng(1)
    tests = [shift_test(qualities(rng, 0.6, 30), qualities(rng, 0.6 + change, 10)) for _ in range(200)]
    assert all(test.is_shift and test.is_fall == (change < 0) for test in tests)


def test_z_is_that_of_two_means():
    past, now = [0.4, 0.6, 0.5, 0.5], [0.3, 0.3, 0.3, 0.3]
    test = shift_test(past, now)
    assert test.z == pytest.approx((0.3 - 0.5) / (np.std(past, ddof=1) * math.sqrt(1 / 4 + 1 / 4)))
    assert (test.before, test.after) == (pytest.approx(0.5), pytest.approx(0.3))


def test_one_bad_run_of_luck_in_half_of_them_is_none():
    steady = [0.5, 0.51, 0.49, 0.5]
    assert not shift_test(steady, [0.5, 0.5, 0.0, 0.0]).is_shift
    assert not shift_test(steady, [0.9, 0.9, 0.1, 0.1]).is_shift


def test_a_difference_below_a_hundredth_is_none():
    assert not shift_test([0.5] * 20, [0.495] * 4).is_shift


@pytest.mark.parametrize(
    ("past", "now", "limit"),
    [
        ([0.5], [0.5] * 4, 2.0),
        ([0.5] * 2, [0.5] * 3, 2.0),
        ([0.5, math.nan], [0.5] * 4, 2.0),
        ([0.5] * 2, [1.5] * 4, 2.0),
        ([0.5] * 2, [0.5] * 4, 0.0),
    ],
)
def test_what_cannot_be_tested_is_refused(past, now, limit):
    with pytest.raises(InvalidValue):
        shift_test(past, now, limit)
