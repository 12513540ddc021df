"""Laws of plans, over whatever trees, graphs and costs hypothesis thinks of."""

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sona.errors import PlanError
from sona.state import digest
from sona.tuner.dag.bandit import UcbTuned
from sona.tuner.execution import AttentionType
from sona.tuner.plans.attention import attention_weights
from sona.tuner.plans.criticality import criticality
from sona.tuner.plans.mincut import vertex_min_cut
from sona.tuner.plans.operators import GROUPS
from sona.tuner.plans.plan import NeuralDagPlan
from sona.tuner.plans.view import PlanView

figures = st.floats(0.0, 1e6)
NOTHING = st.just([])
tables = st.sampled_from(["a", "b", "c", None])
EQUIVARIANT = (  # the others see an order: of rows, or of siblings around a circle
    AttentionType.CAUSAL_CONE,
    AttentionType.CRITICAL_PATH,
    AttentionType.PARALLEL_BRANCH,
    AttentionType.TEMPORAL_BTSP,
)


@st.composite
def nodes(draw, below=NOTHING, analyzed=False):
    total = draw(figures)
    node = {
        "Node Type": draw(st.sampled_from([*GROUPS, "Quantum Scan"])),
        "Startup Cost": total / 2,
        "Total Cost": total,
        "Plan Rows": draw(st.integers(0, 10**9)),
        "Plan Width": draw(st.integers(0, 3000)),
        "Parallel Aware": draw(st.booleans()),
        "Parent Relationship": draw(st.sampled_from(["Outer", "Inner", "Member", "InitPlan", "SubPlan", "Subquery"])),
        "Subplan Name": draw(st.sampled_from(["CTE c", "InitPlan 1 (returns $0)", "InitPlan 2", "SubPlan 1"])),
        "CTE Name": draw(st.sampled_from(["c", "d"])),
        "Filter": draw(st.sampled_from(["(a = $0)", "(b > (InitPlan 2).col1)", "(c = 'x'::text)", "(d < 4)"])),
        "Plans": draw(below),
    }
    if (table := draw(tables)) is not None:
        node["Relation Name"] = table
    if node["Node Type"].startswith("Gather"):
        node["Workers Planned"] = draw(st.integers(0, 8))
    if analyzed:
        times = {"Actual Total Time": draw(figures), "Actual Loops": draw(st.integers(0, 50))}
        node |= {**times, "Actual Rows": draw(st.integers(0, 10**6))}
    return node


def documents(analyzed=False):
    return st.recursive(
        nodes(analyzed=analyzed), lambda inner: nodes(st.lists(inner, max_size=3), analyzed=analyzed), max_leaves=8
    )


@st.composite
def views(draw, dyadic=False):
    n = draw(st.integers(1, 9))
    inputs = [draw(st.lists(st.integers(0, row - 1), unique=True, max_size=3)) if row else [] for row in range(n)]
    values = st.integers(0, 8).map(float) if dyadic else figures
    costs, rows = (draw(st.lists(values, min_size=n, max_size=n)) for _ in range(2))
    return PlanView.of(inputs, costs, rows=rows)


@given(st.one_of(documents(), documents(analyzed=True)))
def test_any_plan_is_read_and_weighed(document):
    plan = NeuralDagPlan.from_explain([{"Plan": document}])
    n, effort = len(plan), plan.effort
    assert sorted(set(plan.critical_path)) == sorted(plan.critical_path)
    assert all(reader > row for row, readers in enumerate(plan.flow.consumers) for reader in readers)
    assert (effort.costs >= 0.0).all()
    assert 0.0 <= plan.bottleneck_score <= 1.0
    for attention_type in AttentionType:
        weights = plan.with_attention(attention_type).attention_weights
        assert weights.shape == (n,)
        assert (weights >= 0.0).all()
        assert abs(weights.sum() - 1.0) < 1e-9
    embedding = plan.plan_embedding
    assert np.isfinite(embedding).all()
    assert abs(float(np.linalg.norm(embedding)) - 1.0) < 1e-5


@given(documents())
def test_what_is_below_costs_no_more_than_the_whole(document):
    plan = NeuralDagPlan.from_explain([{"Plan": document}])
    assert plan.criticality.length <= plan.total_cost * (1.0 + 1e-9)
    if not any(one.is_parallel_aware for one in plan.operators):
        assert plan.criticality.length == pytest.approx(plan.total_cost)
        assert plan.learned_costs.sum() == pytest.approx(plan.total_cost)


@given(documents())
def test_a_document_means_the_same_as_its_text(document):
    plan = NeuralDagPlan.from_explain([{"Plan": document}])
    again = NeuralDagPlan.from_explain(json.dumps([{"Plan": document}]))
    assert again == plan
    assert again.shape == plan.shape
    assert again.plan_embedding.tobytes() == plan.plan_embedding.tobytes()


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Plan", "Plans", "Node Type", "Total Cost", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.one_of(junk, st.text(), st.binary(), junk.map(lambda inner: [{"Plan": inner}])))
def test_junk_is_refused_by_our_error_and_no_other(given_):
    with pytest.raises(PlanError):
        NeuralDagPlan.from_explain(given_)


@given(views())
def test_weights_are_shares_whatever_the_graph(view):
    for attention_type in AttentionType:
        weights = attention_weights(view, attention_type)
        assert (weights >= 0.0).all()
        assert abs(weights.sum() - 1.0) < 1e-9


@given(views(dyadic=True), st.randoms(use_true_random=False))
def test_the_names_of_operators_do_not_matter(view, random):
    names = list(range(len(view)))
    random.shuffle(names)  # operator i is called names[i]
    renamed = [()] * len(view)
    costs, rows = np.empty(len(view)), np.empty(len(view))
    for row, name in enumerate(names):
        renamed[name] = tuple(sorted(names[one] for one in view.inputs[row]))
        costs[name], rows[name] = view.costs[row], view.rows[row]
    other = PlanView.of(renamed, costs, rows=rows)
    drags = criticality(view.costs, view.before).drag
    for attention_type in EQUIVARIANT:
        if attention_type is AttentionType.TEMPORAL_BTSP and (drags == drags.max()).sum() > 1:
            continue  # of equal bottlenecks the first is the plateau
        found = attention_weights(other, attention_type)[names]
        np.testing.assert_allclose(found, attention_weights(view, attention_type), atol=1e-12)


@given(views(dyadic=True), st.sampled_from([0.25, 4.0, 1024.0]))
def test_the_unit_of_costs_does_not_matter(view, unit):
    other = PlanView.of(view.inputs, unit * view.costs, rows=view.rows)
    for attention_type in AttentionType:
        weights = attention_weights(view, attention_type)
        np.testing.assert_allclose(attention_weights(other, attention_type), weights, atol=1e-9)


@given(views(dyadic=True))
def test_drag_and_slack_bound_each_other(view):
    found = criticality(view.costs, view.before)
    assert (found.drag * found.length <= view.costs + 1e-9).all()  # no more is saved than it takes
    assert not (found.drag[found.slack > 0.0] > 0.0).any()
    assert (found.slack[list(found.path)] == 0.0).all()
    assert sum(view.costs[row] for row in found.path) == pytest.approx(found.length)
    assert found.length <= view.costs.sum() + 1e-9


@given(views(dyadic=True))
def test_closing_the_cut_closes_the_plan_and_widening_one_operator_never_narrows_it(view):
    found = vertex_min_cut(view.rows, view.inputs)
    assert view.rows[list(found.cut)].sum() == found.flow
    closed = view.rows.copy()
    closed[list(found.cut)] = 0.0
    assert vertex_min_cut(closed, view.inputs).flow == 0.0
    for row in range(len(view)):
        wider = view.rows.copy()
        wider[row] += 1.0
        grown = vertex_min_cut(wider, view.inputs).flow
        assert found.flow <= grown <= found.flow + 1.0
        assert row in found.cut or grown == found.flow


@given(st.integers(1, 7), st.lists(st.tuples(st.integers(0, 6), st.floats(0.0, 1.0)), max_size=60))
def test_a_bandit_comes_back_bit_for_bit(arms, pulls):
    bandit = UcbTuned(arms)
    for arm, reward in pulls:
        bandit.update(arm % arms, reward)
    again = UcbTuned.from_state(bandit.state(), arms)
    assert digest(again.state()) == digest(bandit.state())
    assert again.select() == bandit.select()
    assume(len(pulls))
    assert 0.0 <= bandit.means.min() <= bandit.means.max() <= 1.0
