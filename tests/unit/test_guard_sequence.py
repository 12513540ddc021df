"""Bounds of a running sum: against the mixture solved by scipy, the gamma-exponential mixture, and simulation."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln, logsumexp

from sona.errors import InvalidValue, StoreError
from sona.guard.sequence import RATES, Sequence, Step, sharpness
from sona.state import State, digest


def psi(u: float) -> float:
    return -math.log1p(-u) - u


def steps(count: int, seed: int, reach: float = 1.0) -> list[Step]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        below, above = rng.uniform(0.1, reach, 2)
        residual = rng.uniform(-below, above)
        made.append(Step(float(rng.normal()) + residual, residual, below, above))
    return made


def solved(taken: list[Step], level: float, reach: float, sign: int) -> float:
    # The definition, term by term: weights, rates and inequality written out anew.
    weights = 1.0 / (np.arange(28) + 3.0)
    weights /= weights.sum()
    rates = 0.95 / reach * 0.75 ** np.arange(28)

    def log_mixture(s: float) -> float:
        exponents = []
        for rate in rates:
            cost = 0.0
            for step in taken:
                c = step.below if sign > 0 else step.above
                cost += psi(rate * c) / c**2 * step.residual**2
            exponents.append(rate * s - cost)
        return float(logsumexp(exponents, b=weights))

    return brentq(lambda s: log_mixture(s) + math.log(level), 0.0, 1e5, xtol=1e-10)


@pytest.mark.parametrize(("count", "reach", "level"), [(1, 1.0, 0.05), (40, 1.0, 0.025), (60, 19.0, 0.001)])
def test_bounds_are_where_the_mixture_reaches_one_over_the_level(count, reach, level):
    taken = steps(count, seed=count, reach=reach)
    sequence = Sequence(reach)
    for step in taken:
        sequence.add(step)
    bounds = sequence.bounds(level, level)
    total = sum(step.value for step in taken)
    assert bounds.total == pytest.approx(total)
    assert bounds.low == pytest.approx(total - solved(taken, level, reach, 1), rel=1e-4)
    assert bounds.high == pytest.approx(total + solved(taken, level, reach, -1), rel=1e-4)


def gamma_exponential(variance: float, c: float, level: float, tuned_for: float) -> float:
    """Howard, Ramdas, McAuliffe, Sekhon 2021, proposition 9, one-sided; rho tuned as in their software."""
    rho = tuned_for / (2.0 * math.log(1.0 / level) + math.log(1.0 + 2.0 * math.log(1.0 / level)))

    def log_mixture(s: float) -> float:
        r, a, x = rho / c**2, (variance + rho) / c**2, (c * s + variance + rho) / c**2
        front = r * math.log(r) - gammaln(r) - math.log(gammainc(r, r))
        return front + gammaln(a) + math.log(gammainc(a, x)) - a * math.log(x) + (c * s + variance) / c**2

    return brentq(lambda s: log_mixture(s) + math.log(level), 0.0, 100.0 * (math.sqrt(variance) + c))


@pytest.mark.parametrize("reach", [1.0, 4.0])
@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_bounds_are_about_as_narrow_as_those_of_the_gamma_exponential_mixture(reach, level):
    for variance in reach * np.array([10.0, 100.0, 1e3, 1e4, 1e5]):
        sequence = Sequence(reach).after(Step(0.0, 1.0, reach, reach), times=variance)
        ours = -sequence.bounds(level, level).low
        assert ours < 1.16 * gamma_exponential(variance, reach, level, tuned_for=100.0 * reach)


def test_sharpness_is_never_below_what_the_inequality_needs():
    u = np.concatenate([np.geomspace(1e-12, 0.9, 200), [0.95]])
    found = sharpness(u)
    assert (found >= 0.5).all()
    exact = np.where(u < 1e-3, 0.5 + u / 3 + u**2 / 4 + u**3 / 5, (-np.log1p(-u) - u) / u**2)
    assert (found >= exact * (1 - 1e-6)).all()
    assert found == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(("mean", "level"), [(0.5, 0.1), (0.05, 0.1), (0.95, 0.1)])
def test_a_sum_leaves_its_bounds_no_more_often_than_the_level_says(mean, level):
    # The mean of a coin that drifts; both sides are looked at after every value.
    rng = np.random.default_rng(7)
    crossed = 0
    for _ in range(120):
        sequence, truth, heads, is_crossed = Sequence(1.0), 0.0, 0.5, False
        for t in range(100):
            chance = mean * (1.0 + 0.5 * math.sin(t / 20.0)) if mean < 0.6 else mean
            value = float(rng.random() < chance)
            predicted = heads / (t + 1.0)
            sequence.add(Step(value, value - predicted, predicted, 1.0 - predicted))
            heads += value
            truth += chance
            bounds = sequence.bounds(level / 2.0, level / 2.0)
            is_crossed |= not bounds.low <= truth <= bounds.high
        crossed += is_crossed
    assert crossed / 120 <= level


def test_replacing_a_value_is_as_if_it_had_been_so_from_the_start():
    taken = steps(30, seed=1)
    other = Step(0.3, taken[4].residual * 0.5, taken[4].below, taken[4].above)
    sequence, anew = Sequence(1.0), Sequence(1.0)
    for number, step in enumerate(taken):
        sequence.add(step)
        anew.add(other if number == 4 else step)
    sequence.replace(taken[4], other)
    assert astuple(sequence.bounds(0.01, 0.02)) == pytest.approx(astuple(anew.bounds(0.01, 0.02)))
    assert sequence.count == 30


def test_a_residual_beyond_its_bounds_is_refused_and_changes_nothing():
    sequence = Sequence(2.0)
    sequence.add(Step(1.0, 0.5, 1.0, 1.0))
    before = digest(sequence.state())
    for wrong in (Step(1.0, -1.1, 1.0, 1.0), Step(1.0, 1.1, 1.0, 1.0), Step(1.0, 0.0, 2.1, 1.0)):
        with pytest.raises(InvalidValue, match="within"):
            sequence.add(wrong)
        with pytest.raises(InvalidValue, match="within"):
            sequence.replace(Step(1.0, 0.5, 1.0, 1.0), wrong)
    assert digest(sequence.state()) == before


def test_what_was_saved_goes_on():
    sequence = Sequence(3.0)
    for step in steps(20, seed=2, reach=3.0):
        sequence.add(step)
    again = Sequence.from_state(sequence.state(), 3.0)
    for each in (sequence, again):
        each.add(steps(1, seed=3)[0])
    assert digest(sequence.state()) == digest(again.state())
    with pytest.raises(StoreError, match="costs"):
        Sequence.from_state(State({"sums": np.zeros(2), "count": 0, "costs": np.zeros((2, RATES - 1))}), 1.0)
