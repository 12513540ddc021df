"""Predictions: plain means in the long run, within what a surplus can be, the arm's mean where a stratum is new."""

import numpy as np
import pytest

from sona.errors import StoreError
from sona.guard.means import STRATA, ArmMeans
from sona.state import State, digest


def test_with_many_trials_the_prediction_is_the_mean_of_the_stratum():
    means = ArmMeans()
    for _ in range(2000):
        means.add(1, 0, 0.8)
        means.add(1, 3, 0.05)
        means.add(0, 0, 0.3)
    assert means.predicted(0) == pytest.approx((0.8, 0.3), abs=0.003)
    assert means.predicted(3)[0] == pytest.approx(0.05, abs=0.003)
    assert means.mean(1) == pytest.approx((0.8 + 0.05 * 4) / 2)
    assert (means.count(1), means.count(0)) == (4000, 2000)


def test_a_new_stratum_is_expected_to_do_like_its_arm():
    means = ArmMeans()
    for _ in range(1000):
        means.add(0, 0, 0.6)
    assert means.predicted(4)[1] == pytest.approx(0.6 / 5, abs=0.01)


def test_the_first_prediction_is_half_of_what_can_be():
    assert ArmMeans().predicted(1) == pytest.approx((0.25, 0.25))
    assert ArmMeans().mean(0) is None


@pytest.mark.parametrize("prefix", [0, 2, STRATA, 40])
def test_no_prediction_is_beyond_what_a_surplus_can_be(prefix):
    means = ArmMeans()
    for _ in range(50):
        means.add(1, prefix, 1.0 / (prefix + 1))
    learned, frozen = means.predicted(prefix)
    assert 0.0 <= frozen <= learned <= 1.0 / (prefix + 1)


def test_an_amendment_moves_the_sum_and_not_the_count():
    means, anew = ArmMeans(), ArmMeans()
    means.add(1, 2, 0.0)
    means.add(1, 2, 0.25, count=0.0)
    anew.add(1, 2, 0.25)
    assert digest(means.state()) == digest(anew.state())


def test_what_was_saved_comes_back_and_a_damaged_state_is_refused():
    means = ArmMeans()
    means.add(0, 5, 0.1)
    assert digest(ArmMeans.from_state(means.state()).state()) == digest(means.state())
    with pytest.raises(StoreError, match="sums"):
        ArmMeans.from_state(State({"sums": np.zeros((2, 2, STRATA + 1))}))
