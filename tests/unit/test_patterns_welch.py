"""Welch's test against scipy, Holm's correction, samples that do not vary."""

import math

import numpy as np
import pytest
from scipy import special, stats

from sona.errors import InvalidValue
from sona.patterns.welch import holm, regularised_beta, student_two_sided, welch_test


def test_incomplete_beta_equals_scipy():
    rng = np.random.default_rng(0)
    for _ in range(500):
        a, b, x = 10 ** rng.uniform(-1, 4), 10 ** rng.uniform(-1, 3), rng.random()
        assert regularised_beta(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-11)
    assert regularised_beta(0.0, 2.0, 3.0) == 0.0
    assert regularised_beta(1.0, 2.0, 3.0) == 1.0


@pytest.mark.parametrize("degrees", [1.0, 1.7, 4.0, 30.0, 1e4])
@pytest.mark.parametrize("statistic", [0.0, 1e-6, 0.5, -2.0, 8.0, 40.0])
def test_student_equals_scipy(statistic, degrees):
    expected = 2.0 * stats.t.sf(abs(statistic), degrees)
    assert student_two_sided(statistic, degrees) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_welch_equals_scipy():
    rng = np.random.default_rng(1)
    for _ in range(200):
        n, m = rng.integers(2, 80, 2)
        first, second = rng.random(n) * 10 ** rng.uniform(-3, 0), rng.random(m) + 0.3 * rng.normal()
        ours, theirs = welch_test(first, second), stats.ttest_ind(first, second, equal_var=False)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-300)
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)
        assert ours.degrees == pytest.approx(theirs.df, rel=1e-9)


def test_one_sample_without_variance_equals_scipy():
    first, second = [0.0] * 7, [0.1, 0.5, 0.9, 0.4]
    assert welch_test(first, second).p_value == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)


def test_variances_too_small_to_square_are_no_division_by_zero():
    assert 0.0 <= welch_test([0.0, 1e-160], [0.0, 2e-160]).p_value <= 1.0


class TestNoVariance:
    def test_equal_means_are_no_difference(self):
        assert welch_test([0.3, 0.3], [0.3, 0.3, 0.3]).p_value == 1.0

    def test_different_means_give_the_exact_permutation_test(self):
        for n, m in ((2, 2), (3, 4), (6, 6)):
            found = welch_test([1.0] * n, [0.0] * m)
            # The chance that a random split puts all the ones on the first side.
            exact = stats.hypergeom.pmf(n, n + m, n, n)
            assert found.p_value == pytest.approx(min(1.0, 2.0 * exact))
            assert found.is_exact
            assert found.statistic == math.inf

    def test_two_against_two_prove_nothing(self):
        assert welch_test([1.0, 1.0], [0.0, 0.0]).p_value > 0.05


def test_too_few_values():
    with pytest.raises(InvalidValue):
        welch_test([1.0], [0.0, 1.0])


def test_holm_by_hand():
    assert holm([]) == ()
    assert holm([0.04]) == (0.04,)
    assert holm([0.02, 0.01, 0.9]) == pytest.approx((0.04, 0.03, 0.9))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
