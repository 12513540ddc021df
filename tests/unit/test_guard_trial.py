"""The estimate of one trial: unbiased for any expectation, within its bounds, exactly zero for identical lists."""

import itertools

import pytest

from sona.guard.trial import Expected, Trial, weighed


@pytest.mark.parametrize("exposure", [0.01, 0.3, 0.95])
@pytest.mark.parametrize("expected", [Expected(0.0, 0.0), Expected(0.4, 0.1), Expected(0.0, 0.5)])
def test_over_both_draws_the_mean_is_the_weighted_effect(exposure, expected):
    learned, frozen = 0.45, 0.2
    for weight in (exposure, exposure * (1.0 - exposure)):
        drawn = [
            weighed(Trial(0, 1, is_learned, exposure, quality, prefix=1), expected, weight).step.value * chance
            for is_learned, quality, chance in ((True, learned, exposure), (False, frozen, 1.0 - exposure))
        ]
        assert sum(drawn) == pytest.approx(weight * (learned - frozen))


def test_no_outcome_leaves_the_bounds_and_the_farthest_reach_them():
    for exposure, prefix, m1, m0 in itertools.product((0.1, 0.5, 0.95), (0, 3), (0.0, 0.1, 0.25), (0.0, 0.2)):
        found = [
            weighed(Trial(0, 1, arm, exposure, quality, prefix=prefix), Expected(m1, m0), exposure).step
            for arm in (True, False)
            for quality in (0.0, 1.0 / (prefix + 1))
        ]
        assert min(step.residual for step in found) == pytest.approx(-found[0].below)
        assert max(step.residual for step in found) == pytest.approx(found[0].above)


def test_contested_weights_never_reach_farther_than_one():
    for exposure in (0.001, 0.5, 0.999):
        step = weighed(Trial(0, 1, True, exposure, 0.5), Expected(1.0, 0.0), exposure * (1.0 - exposure)).step
        assert max(step.below, step.above) <= 1.0


def test_identical_lists_gain_exactly_nothing_but_count():
    found = weighed(Trial(0, 1, True, 0.4, 1.0, is_identical=True), Expected(0.9, 0.2), 0.24)
    assert (found.step.value, found.step.residual, found.most) == (0.0, 0.0, 0.0)
    assert found.weight == 0.24


def test_nothing_exposed_is_nothing_gained():
    assert weighed(Trial(0, 1, False, 0.0, 1.0), Expected(0.9, 0.2), 0.0).step.value == 0.0


def test_the_whole_of_a_trial_forgets_what_the_lists_share():
    trial = Trial(1, 2, False, 0.3, 0.5, common=0.25, prefix=3, is_identical=True)
    assert trial.surplus == 0.25
    assert trial.whole() == Trial(1, 2, False, 0.3, 0.5)
    assert trial.whole().surplus == 0.5
