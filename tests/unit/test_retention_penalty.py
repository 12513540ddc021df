"""The two forms of a step under the penalty: explicit diverges where implicit does not."""

import numpy as np
import pytest

from sona.retention.penalty import QuadraticPenalty


def penalty(precision, anchor) -> QuadraticPenalty:
    return QuadraticPenalty(np.asarray(precision, np.float64), np.asarray(anchor, np.float32))


def descend(quadratic, eta, strength, *, implicit, steps=200):
    weights, zero = np.array([1.0], np.float32), np.zeros(1, np.float32)
    factors, out = quadratic.factors(strength, eta), np.zeros(1, np.float32)
    for _ in range(steps):
        if implicit:
            quadratic.constrain(factors, zero, weights, out)
        else:
            out = quadratic.gradient(weights, strength)
        weights = np.clip(weights - np.float32(eta) * out, -1e30, 1e30)
    return float(weights[0])


@pytest.mark.parametrize("stiffness", [1.5, 2.5, 100.0])
def test_explicit_steps_diverge_above_two_and_implicit_steps_never(stiffness):
    eta, strength = 0.1, 10.0
    quadratic = penalty([stiffness / (eta * strength)], [0.0])
    assert abs(descend(quadratic, eta, strength, implicit=True)) < 1e-6
    explicit = abs(descend(quadratic, eta, strength, implicit=False))
    assert (explicit > 1e6) == (stiffness > 2.0)


@pytest.mark.parametrize("eta", [1e-12, 1e-3, 1.0, 1e6, 1e300])
def test_factors_are_finite_and_bounded_for_every_step_size(eta):
    factors = penalty([0.0, 1e-30, 1.0, 1e30, 3e38], np.zeros(5)).factors(1e5, eta)
    assert np.isfinite(factors.pull).all()
    assert (factors.pull >= 0.0).all()
    assert (factors.pull <= np.float32(1.0 / eta)).all()
    assert factors.pull[0] == 0.0


@pytest.mark.parametrize("eta", [1e-300, 1e-35, 1e-12, 1e-3, 1.0, 1e6, 1e35, 1e300])
def test_a_step_is_the_implicit_one_for_every_step_size(eta):
    rng = np.random.default_rng(1)
    quadratic = penalty([0.0, 1e-30, 1e-9, 1.0, 1e9, 1e20], rng.normal(size=6))
    g, w = rng.normal(size=(2, 6)).astype(np.float32)
    out, f = np.empty(6, np.float32), 3.0 * quadratic.precision
    quadratic.constrain(quadratic.factors(3.0, eta), g, w, out)
    offset = w.astype(float) - quadratic.anchor
    with np.errstate(over="ignore"):
        expected = (g + f * offset) / (1.0 + eta * f)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_strided_and_overlapping_arrays_give_the_same_step():
    rng = np.random.default_rng(2)
    quadratic = penalty(rng.random(40), rng.normal(size=40))
    factors, plain = quadratic.factors(7.0, 0.3), np.empty(40, np.float32)
    g, w = rng.normal(size=(2, 40)).astype(np.float32)
    quadratic.constrain(factors, g, w, plain)
    wide = np.zeros(80, np.float32)
    wide[::2] = g
    quadratic.constrain(factors, wide[::2], w, wide[::2])
    assert (wide[::2] == plain).all()
    assert not wide[1::2].any()
    shared = np.concatenate((g, g[:1]))
    quadratic.constrain(factors, shared[:40], w, shared[1:])
    assert (shared[1:] == plain).all()


def test_blocks_join_without_a_seam():
    rng = np.random.default_rng(0)
    for width in (1, 16_383, 16_384, 16_385, 40_000):
        quadratic = penalty(rng.random(width), rng.normal(size=width))
        g, w = rng.normal(size=(2, width)).astype(np.float32)
        out = np.full(width, np.nan, np.float32)
        quadratic.constrain(quadratic.factors(7.0, 0.3), g, w, out)
        f = quadratic.precision
        np.testing.assert_allclose(out, (g + 7 * f * (w - quadratic.anchor)) / (1 + 2.1 * f), rtol=2e-4, atol=2e-6)


def test_loss_is_the_sum_it_says():
    quadratic = penalty([1.0, 2.0], [1.0, -1.0])
    assert quadratic.loss(np.array([3.0, 0.0], np.float32), 10.0) == pytest.approx(10 / 2 * (1 * 4 + 2 * 1))
