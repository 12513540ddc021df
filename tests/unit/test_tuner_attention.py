import math

import numpy as np
import pytest
from scipy.integrate import quad
from tuner_plans import NAMES, plan

from sona.errors import InvalidValue
from sona.tuner.execution import AttentionType
from sona.tuner.plans import attention
from sona.tuner.plans.attention import attention_weights
from sona.tuner.plans.view import PlanView

CHAIN = PlanView.of([[], [0], [1]], [1, 5, 2])
DIAMOND = PlanView.of([[], [0], [0], [1, 2]], [1, 4, 3, 2])
each_type = pytest.mark.parametrize("attention_type", AttentionType)


def shares(values):
    return pytest.approx(np.asarray(values) / np.sum(values))


def test_the_default_is_the_cheapest():
    assert attention.DEFAULT is AttentionType.TOPOLOGICAL
    np.testing.assert_array_equal(attention_weights(CHAIN), attention.topological(CHAIN))


def test_topological_decays_with_the_place():
    assert attention.topological(CHAIN) == shares([1, 1 / 2, 1 / 3])
    assert attention.topological(PlanView.of([[1], [], [0]], [1, 1, 1])) == shares([1 / 2, 1, 1 / 3])


def test_the_causal_cone_counts_what_an_operator_depends_on():
    assert attention.causal_cone(CHAIN) == shares([1, 1 + 1 / 2, 1 + 1 / 2 + 1 / 4])
    assert attention.causal_cone(DIAMOND) == shares([1, 1.5, 1.5, 1 + 1 / 2 + 1 / 2 + 1 / 4])


def test_the_critical_path_weighs_by_drag():
    assert attention.critical_path(CHAIN) == shares([1, 5, 2])
    assert attention.critical_path(DIAMOND) == shares([1, 1, 0, 2])


def test_the_gate_is_open_on_the_min_cut_alone():
    # Rows per cost: 2/10, 2/1, 2/1, 2/1: the first limits the flow.
    assert attention.min_cut_gated(PlanView.of([[], [0], [0], [1, 2]], [10, 1, 1, 1])) == shares([1, 0.1, 0.1, 0.1])
    both = PlanView.of([[], [0], [0], [1, 2]], [1, 10, 10, 1], rows=[9, 3, 2, 9])
    assert attention.min_cut_gated(both) == shares([0.1, 1, 1, 0.1])
    few = PlanView.of([[], [0], [1]], [1, 1, 1], rows=[9, 0, 9])
    assert attention.min_cut_gated(few) == shares([0.1, 1, 0.1])
    assert attention.min_cut_gated(PlanView.of([[], [0]], [1, 4], rows=[0, 0])) == shares([0.1, 1])
    assert attention.min_cut_gated(PlanView.of([[], [0]], [0, 0])) == shares([1, 1])  # nothing limits it


def test_every_branch_counts_the_same_however_long():
    assert attention.parallel_branch(CHAIN) == shares([1, 1, 1])
    assert attention.parallel_branch(DIAMOND) == shares([1, 1, 1, 1])
    fork = PlanView.of([[], [0], [1], [], [2, 3], [4]], np.ones(6))  # three below, one below, two above
    assert attention.parallel_branch(fork) == shares([1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])


def faded(start, end, opens, closes):
    value, _ = quad(lambda t: math.exp(-max(opens - t, t - closes, 0.0) / 0.25), start, end, points=[opens, closes])
    return value / (end - start)


def test_the_trace_fades_around_the_plateau():
    spans = [(0, 1 / 8), (1 / 8, 6 / 8), (6 / 8, 1)]
    assert attention.temporal_btsp(CHAIN) == shares([faded(*span, *spans[1]) for span in spans])
    last = PlanView.of([[], [0], [1]], [2, 1, 5])
    spans = [(0, 2 / 8), (2 / 8, 3 / 8), (3 / 8, 1)]
    found = attention.temporal_btsp(last)
    assert found == shares([faded(*span, *spans[2]) for span in spans])
    assert found[0] < found[1] < found[2]


def test_a_trace_of_no_time_is_its_value_there():
    found = attention.temporal_btsp(PlanView.of([[], [0], [1]], [0, 1, 0]))
    assert found == shares([1, 1, 1])
    near = attention.temporal_btsp(PlanView.of([[], [0], [1], [2]], [0, 0.2, 0.8, 0]))
    assert near[0] / near[3] == pytest.approx(math.exp(-0.2 / 0.25))


def test_the_lorentz_distance_of_a_chain_is_the_difference_of_depths():
    # All cost in one operator: the centroid lies there, and others are as many steps away as levels.
    found = attention_weights(PlanView.of([[], [0], [1], [2]], [0, 5, 0, 0]), AttentionType.HIERARCHICAL_LORENTZ)
    assert found == shares(np.exp([-1, 0, -1, -2]))


def test_the_lorentz_centroid_lies_between_branches_of_equal_cost():
    # Two leaves a step from the root in opposite directions: the centroid is the root.
    found = attention_weights(PlanView.of([[], [], [0, 1]], [3, 3, 0]), AttentionType.HIERARCHICAL_LORENTZ)
    assert found == shares(np.exp([-1, -1, 0]))
    lop = attention_weights(PlanView.of([[], [], [0, 1]], [9, 1, 0]), AttentionType.HIERARCHICAL_LORENTZ)
    assert lop[0] > lop[2] > lop[1]


def test_opposite_branches_are_as_far_apart_as_by_way_of_the_root():
    # All cost at the end of one branch of two levels; the end of the other is two levels up and two down from it.
    inputs, costs = [[], [0], [], [2], [1, 3]], [1, 0, 0, 0, 0]
    found = attention_weights(PlanView.of(inputs, costs), AttentionType.HIERARCHICAL_LORENTZ)
    assert math.log(found[0] / found[2]) == pytest.approx(4.0)


@each_type
def test_one_operator_has_all_the_weight(attention_type):
    for cost in (0.0, 3.0):
        assert attention_weights(PlanView.of([[]], [cost]), attention_type).tolist() == [1.0]


@each_type
def test_a_long_chain_has_weights(attention_type):
    n = 400
    view = PlanView.of([[row - 1] if row else [] for row in range(n)], np.ones(n))
    weights = attention_weights(view, attention_type)
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0)


@each_type
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_real_plans_are_shares(attention_type, name):
    weights = attention_weights(plan(name).view, attention_type)
    assert weights.shape == (len(plan(name)),)
    assert (weights >= 0.0).all()
    assert weights.sum() == pytest.approx(1.0)


def test_the_types_differ_on_a_real_plan():
    weights = [attention_weights(plan("parallel_18").view, one).round(6).tobytes() for one in AttentionType]
    assert len(set(weights)) == len(AttentionType)


def test_a_type_may_be_named_by_its_text_and_an_unknown_one_is_refused():
    np.testing.assert_array_equal(attention_weights(CHAIN, "topological"), attention.topological(CHAIN))
    with pytest.raises(InvalidValue, match="attention_type"):
        attention_weights(CHAIN, "clairvoyant")
