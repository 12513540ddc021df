"""Laws of EWC++ that hold for all numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from sona.config import EwcConfig
from sona.retention.ewc import EwcPlusPlus
from sona.state import digest

WIDTH = 4
numbers = st.floats(-10.0, 10.0, width=32)
vectors = arrays(np.float32, WIDTH, elements=numbers)
batches = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(WIDTH)), elements=numbers)
strengths = st.floats(0.001, 1e5)
rates = st.floats(1e-4, 10.0)


def learner(strength: float, tasks: list[tuple[np.ndarray, np.ndarray]]) -> EwcPlusPlus:
    ewc = EwcPlusPlus(EwcConfig(param_count=WIDTH, strength=strength, min_strength=0.0, max_strength=1e5))
    for gradients, weights in tasks:
        ewc.update_fisher(gradients)
        ewc.start_new_task(weights)
    return ewc


tasks = st.lists(st.tuples(batches, vectors), min_size=1, max_size=3)


@given(tasks, strengths, vectors)
def test_penalty_gradient_is_zero_at_the_anchor_and_points_to_it(history, strength, weights):
    ewc = learner(strength, history)
    assert not ewc.regularization_gradient(ewc.anchor).any()
    assert ewc.regularization_loss(ewc.anchor) == 0.0
    away = weights - ewc.anchor
    gradient = ewc.regularization_gradient(weights)
    assert (gradient * away >= 0.0).all()
    informed = (ewc.consolidated_fisher * strength * np.abs(away)) > 1e-30
    assert (np.sign(gradient) == np.sign(away))[informed].all()


@given(tasks, strengths, vectors, st.integers(0, WIDTH - 1))
def test_penalty_gradient_is_the_slope_of_the_penalty(history, strength, weights, i):
    """Exact for a quadratic: (L(w + h) - L(w - h)) / 2h, whatever h."""
    ewc = learner(strength, history)
    step = np.zeros(WIDTH, np.float32)
    step[i] = 1.0
    up, down = weights + step, weights - step
    slope = (ewc.regularization_loss(up) - ewc.regularization_loss(down)) / (float(up[i]) - float(down[i]))
    middle = (up.astype(np.float64) + down) / 2
    expected = ewc.regularization_gradient(middle.astype(np.float32))[i]
    scale = ewc.regularization_loss(up) + ewc.regularization_loss(down)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6 * scale + 1e-12)


@settings(max_examples=40)
@given(tasks, st.floats(0.001, 100.0), st.floats(1e-3, 1.0), vectors, vectors)
def test_a_constrained_step_minimises_the_proximal_objective(history, strength, eta, gradients, weights):
    """The step w - eta g' is argmin g.(w' - w) + |w' - w|^2 / (2 eta) + lambda/2 F (w' - w*)^2, by scipy."""
    ewc = learner(strength, history)
    f, anchor = strength * ewc.consolidated_fisher.astype(np.float64), ewc.anchor.astype(np.float64)
    g, w = gradients.astype(np.float64), weights.astype(np.float64)
    curvature = 1 / eta + f

    def objective(scaled):
        # Scaled by the curvature: scipy's answer is then as exact for stiff parameters as for soft ones.
        at = scaled / np.sqrt(curvature)
        value = g @ (at - w) + (at - w) @ (at - w) / (2 * eta) + 0.5 * f @ (at - anchor) ** 2
        return value, (g + (at - w) / eta + f * (at - anchor)) / np.sqrt(curvature)

    best = minimize(objective, w * np.sqrt(curvature), jac=True, method="BFGS", options={"gtol": 1e-9})
    step = w - eta * ewc.apply_constraints(gradients, weights, learning_rate=eta).astype(np.float64)
    np.testing.assert_allclose(step, best.x / np.sqrt(curvature), rtol=1e-4, atol=2e-5)


@given(tasks, strengths, strengths, rates, vectors, vectors)
def test_more_strength_never_ends_farther_from_the_anchor(history, one, other, eta, gradients, weights):
    low, high = sorted((one, other))
    reach = []
    for strength in (low, high):
        ewc = learner(strength, history)
        step = ewc.apply_constraints(gradients, weights, learning_rate=eta)
        reach.append(np.abs(weights.astype(np.float64) - eta * step.astype(np.float64) - ewc.anchor))
    scale = np.abs(weights) + np.abs(ewc.anchor) + eta * np.abs(gradients) + 1.0
    assert (reach[1] <= reach[0] + 1e-5 * scale).all()


@given(tasks, rates, vectors, vectors)
def test_constraints_are_finite_at_the_greatest_strength(history, eta, gradients, weights):
    ewc = learner(1e5, history)
    for point in (None, weights):
        assert np.isfinite(ewc.apply_constraints(gradients, point, learning_rate=eta)).all()


@given(tasks, vectors, vectors)
def test_moving_parameters_and_anchors_together_changes_no_penalty(history, weights, offset):
    ewc = learner(10.0, history)
    before = ewc.regularization_loss(weights)
    ewc.rebase(offset)
    scale = float(ewc.consolidated_fisher.sum()) * 10.0
    np.testing.assert_allclose(ewc.regularization_loss(weights - offset), before, rtol=1e-3, atol=1e-4 * scale)


@given(batches)
def test_the_order_of_examples_in_a_batch_does_not_matter(batch):
    fishers = []
    for rows in (batch, batch[::-1]):
        ewc = learner(1.0, [])
        ewc.update_fisher(rows)
        fishers.append(ewc.fisher)
    np.testing.assert_allclose(*fishers, rtol=1e-6)
    np.testing.assert_allclose(fishers[0], np.mean(batch.astype(np.float64) ** 2, axis=0), rtol=1e-6, atol=1e-38)


@given(tasks, batches)
def test_what_was_saved_is_what_continues(history, batch):
    ewc = learner(10.0, history)
    again = EwcPlusPlus.from_state(ewc.state())
    for each in (ewc, again):
        each.update_fisher(batch)
        each.start_new_task(batch[0])
    assert digest(ewc.state()) == digest(again.state())
