"""Missing mass: the estimate, a bound that holds on streams of known chances, and what removing may cost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sona.errors import InvalidValue
from sona.memory.missing import LossBound, _late_takings, missing_mass, rare_mass_bound

STREAMS = 300


def zipf(memories: int, exponent: float) -> np.ndarray:
    mass = np.arange(1.0, memories + 1.0) ** -exponent
    return mass / mass.sum()


def mcallester_schapire(takings: np.ndarray, confidence: float) -> float:
    total = takings.sum()
    return (takings == 1).sum() / total + (2 * 2**0.5 + 3**0.5) * math.sqrt(math.log(3 / (1 - confidence)) / total)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.5, 2.5])
@pytest.mark.parametrize("takings", [30, 1000, 20_000])
def test_the_bound_holds_and_is_not_vacuous_on_zipf_streams(exponent, takings):
    rng, mass = np.random.default_rng(7), zipf(1000, exponent)
    counts = rng.multinomial(takings, mass, STREAMS)
    missing = np.array([mass[row == 0].sum() for row in counts])
    bounds = np.array([rare_mass_bound(row) for row in counts])
    assert (missing <= bounds).mean() >= 0.95
    if takings >= 1000:
        assert bounds.mean() <= min(0.97, 2.0 * missing.mean() + 0.05)
        assert bounds.mean() <= mcallester_schapire(counts[0], 0.95)


def test_the_estimate_is_right_on_the_average():
    rng, mass = np.random.default_rng(1), zipf(500, 1.0)
    counts = rng.multinomial(400, mass, 2000)
    missing = [mass[row == 0].sum() for row in counts]
    estimates = [missing_mass(row) for row in counts]
    # One taking fewer is what the estimate is exact for; the difference is below the noise here.
    assert np.mean(estimates) == pytest.approx(np.mean(missing), abs=0.005)


def test_a_low_confidence_gives_a_bound_that_fails_more_often_and_is_tighter():
    counts = [40] * 30 + [1] * 30
    bounds = [rare_mass_bound(counts, confidence=confidence) for confidence in (0.5, 0.9, 0.99, 1.0)]
    assert bounds == sorted(bounds)
    assert bounds[0] > missing_mass(counts)
    assert bounds[-1] == 1.0


def test_more_of_the_same_record_lowers_the_bound():
    bounds = [rare_mass_bound([taken] * 20) for taken in (2, 20, 200, 2000)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 0.001


@pytest.mark.parametrize("at_most", [1, 3, 16])
def test_the_bound_holds_for_memories_taken_rarely(at_most):
    rng, mass = np.random.default_rng(2), zipf(300, 0.5)
    counts = rng.multinomial(3000, mass, STREAMS)
    rare = np.array([mass[row <= at_most].sum() for row in counts])
    bounds = np.array([rare_mass_bound(row, at_most) for row in counts])
    assert (rare <= bounds).mean() >= 0.95
    assert bounds.mean() <= min(0.99, 2.0 * rare.mean() + 0.05)


def test_takings_that_fall_late_are_those_of_all_orders():
    counts, rng = np.array([1, 3, 5, 20]), np.random.default_rng(4)
    takings, late = np.repeat(np.arange(4), counts), np.zeros((2, 4000))
    for trial in range(4000):
        rng.shuffle(takings)
        begins = rng.binomial(len(takings), 0.5)
        for memory in range(4):
            places = np.flatnonzero(takings == memory)
            late[0, trial] += (places[:1] >= begins).sum()
            late[1, trial] += (places[:3] >= begins).sum()
    assert _late_takings(counts)[0, [0, 2]] == pytest.approx(late.mean(axis=1), abs=0.06)


@pytest.mark.parametrize("takings", [[], [0], [0, 0, 0]])
def test_without_a_record_everything_may_be_lost(takings):
    assert missing_mass(takings) == rare_mass_bound(takings) == 1.0
    bound = LossBound.of(takings)
    if takings:
        assert bound.loss([True] + [False] * (len(takings) - 1)) == 1.0
    assert bound.loss(np.zeros(len(takings), bool)) == 0.0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("removed", [10, 60, 200])
def test_removing_the_least_taken_costs_no_more_than_the_bound(exponent, removed):
    rng = np.random.default_rng(3)
    mass = rng.permutation(zipf(300, exponent))  # of memories taken equally often any may go
    lost, bounds, shares = [], [], []
    for _ in range(STREAMS):
        counts = rng.multinomial(3000, mass)
        gone = np.zeros(300, bool)
        gone[np.argsort(counts, kind="stable")[:removed]] = True
        lost.append(mass[gone].sum())
        bounds.append(LossBound.of(counts).loss(gone))
        shares.append(counts[gone].sum() / counts.sum())
    held = np.array(lost) <= np.array(bounds)
    assert held.mean() >= 0.95
    assert np.mean(bounds) <= 3.0 * np.mean(lost) + 0.05
    if exponent == 0.0 and removed == 10:  # the control: the share in the record flatters
        assert np.mean(shares) < 0.6 * np.mean(lost)


def test_a_memory_taken_often_is_bounded_by_itself():
    counts = np.array([100] * 50 + [2000])
    alone = LossBound.of(counts).loss(np.arange(51) == 0)
    assert 100 / 7000 < alone < 200 / 7000


def test_one_that_was_never_taken_is_no_likelier_than_it_is_by_itself():
    counts = np.array([0] + [1] * 1000)  # much is missing, but not all of it is in this one
    bound = LossBound.of(counts)
    assert bound.loss(np.arange(1001) == 0) == bound.alone[0] < 0.03 < bound.rare[0]


def test_all_bounds_together_keep_the_confidence():
    counts = np.random.default_rng(0).poisson(3, 100)
    bound = LossBound.of(counts, confidence=0.9)
    for at_most, failing in ((0, 0.1 / 4), (1, 0.1 / 12), (2, 0.1 / 24)):
        assert bound.rare[at_most] == pytest.approx(rare_mass_bound(counts, at_most, confidence=1.0 - failing))


def test_the_loss_grows_with_what_is_removed_and_is_at_most_1():
    rng = np.random.default_rng(5)
    counts = rng.poisson(4, 40)
    bound, gone, losses = LossBound.of(counts), np.zeros(40, bool), []
    for row in rng.permutation(40):
        gone[row] = True
        losses.append(bound.loss(gone))
    assert losses == sorted(losses)
    assert losses[-1] == 1.0


@pytest.mark.parametrize("takings", [[-1], [0.5], [[1, 2]], [math.nan], ["a"]])
def test_counts_that_are_none_are_refused(takings):
    for function in (missing_mass, rare_mass_bound, LossBound.of):
        with pytest.raises(InvalidValue):
            function(takings)


def test_other_arguments_outside_their_range_are_refused():
    for confidence in (-0.1, 1.5, math.nan):
        for function in (rare_mass_bound, LossBound.of):
            with pytest.raises(InvalidValue):
                function([1, 2], confidence=confidence)
    for at_most in (-1, 17):
        with pytest.raises(InvalidValue):
            rare_mass_bound([1, 2], at_most)
    for gone in ([True], [1, 0], [[True, False]]):
        with pytest.raises(InvalidValue):
            LossBound.of([1, 2]).loss(gone)
