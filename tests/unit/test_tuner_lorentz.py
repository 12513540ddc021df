import numpy as np
import pytest

from sona.tuner.plans.lorentz import hierarchical_lorentz
from sona.tuner.plans.view import PlanView


def test_weights_fall_with_the_distance_from_where_the_cost_is():
    # A chain of three beside a leaf, all cost at the end of the chain.
    view = PlanView.of([[], [0], [1], [], [2, 3]], [1, 0, 0, 0, 0])
    weights = hierarchical_lorentz(view)
    assert weights[0] > weights[1] > weights[2] > weights[4] > weights[3]


def test_without_costs_every_operator_draws_alike():
    assert hierarchical_lorentz(PlanView.of([[], [], [0, 1]], np.zeros(3))).argmax() == 2


def test_the_unit_of_costs_does_not_matter():
    inputs, costs = [[], [], [0, 1], [], [2, 3]], np.array([1.0, 4.0, 2.0, 8.0, 1.0])
    for scale in (1e-200, 1e200):
        found = hierarchical_lorentz(PlanView.of(inputs, scale * costs))
        np.testing.assert_allclose(found, hierarchical_lorentz(PlanView.of(inputs, costs)))


def test_an_operator_read_twice_is_placed_once_and_several_roots_share_the_circle():
    assert hierarchical_lorentz(PlanView.of([[], [0], [0], [1, 2]], np.ones(4))).sum() == pytest.approx(1.0)
    roots = hierarchical_lorentz(PlanView.of([[], []], [1, 1]))
    np.testing.assert_allclose(roots, [0.5, 0.5])
