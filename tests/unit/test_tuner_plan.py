import dataclasses
import json

import numpy as np
import pytest
from tuner_plans import NAMES, document, made, node, plan

from sona.config.tuner import DagConfig
from sona.errors import PlanError
from sona.tuner.execution import AttentionType, ExecutionParams
from sona.tuner.plans.plan import NeuralDagPlan


def changed(value, edit):
    """A copy of a document with every node edited."""
    if isinstance(value, list):
        return [changed(one, edit) for one in value]
    if not isinstance(value, dict):
        return value
    inner = {name: changed(one, edit) for name, one in value.items()}
    return edit(inner) if "Node Type" in inner else inner


@pytest.mark.parametrize("name", NAMES)
def test_a_real_plan_is_read_whole(name):
    found, n = plan(name), 0
    waiting = [document(name)[0]["Plan"]]
    while waiting:
        n += 1
        waiting.extend(waiting.pop().get("Plans", []))
    assert len(found) == n
    for row, one in enumerate(found.operators):
        assert one.id == row
        assert all(child < row and found.operators[child].parent == row for child in one.children)
        assert one.depth == (0 if one.parent is None else found.operators[one.parent].depth + 1)
    assert [one.id for one in found.operators if one.parent is None] == [n - 1]
    assert found.operator_embeddings.shape == (n, 256)
    assert found.attention_weights.sum() == pytest.approx(1.0)
    assert np.linalg.norm(found.plan_embedding) == pytest.approx(1.0)
    assert 0.0 < found.bottleneck_score <= 1.0
    assert found.bottleneck_score == found.criticalities.max()
    assert set(found.critical_path) <= set(range(n))


def test_children_keep_the_order_of_the_plan():
    found = made(node("Append", plans=[node("A"), node("B", plans=[node("C"), node("D")]), node("E")]))
    assert [one.kind for one in found.operators] == ["A", "C", "D", "B", "E", "Append"]
    assert [found.operators[row].kind for row in found.root.children] == ["A", "B", "E"]


def test_a_document_is_read_in_every_form_a_driver_gives():
    listed = document("hash_join_18")
    forms = [
        listed,
        (listed,),
        [(listed,)],
        listed[0],
        json.dumps(listed),
        json.dumps(listed).encode(),
        (json.dumps(listed),),
    ]
    plans = [NeuralDagPlan.from_explain(form) for form in forms]
    assert all(one == plans[0] for one in plans)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[]", "one plan, got 0"),
        ([{"Plan": node()}, {"Plan": node()}], "one plan, got 2"),
        ("4", "EXPLAIN"),
        ("null", "EXPLAIN"),
        (["Utility Statement"], "not JSON"),
        ([{"Planning Time": 1.0}], "EXPLAIN"),
        ([{"Plan": [node()]}], "EXPLAIN"),
        ([{"Plan": {**node(), "Plans": 4}}], "Plans"),
        ([{"Plan": {**node(), "Plans": "Seq Scan"}}], "Plans"),
        ([{"Plan": {**node(), "Plans": [4]}}], "Plans"),
        ([{"Plan": node(), "Planning Time": "long"}], "Planning Time"),
        ([{"Plan": node(), "Execution Time": float("nan")}], "Execution Time"),
    ],
)
def test_what_is_no_plan_is_refused(given, words):
    with pytest.raises(PlanError, match=words):
        NeuralDagPlan.from_explain(given)


def test_a_plan_may_be_deeper_than_the_interpreter():
    root = node()
    for _ in range(3000):
        root = {**node("Limit"), "Plans": [{**root, "Parent Relationship": "Outer"}]}
    found = made(root)
    assert (len(found), found.operators[0].depth) == (3001, 3000)


def test_what_the_document_says_of_the_whole():
    found = plan("parallel_18")
    assert (found.estimated_rows, found.total_cost) == (found.root.estimated_rows, found.root.total_cost)
    assert found.is_analyzed
    assert found.execution_ms >= found.root.actuals.total_ms
    assert found.planning_ms > 0.0
    assert found.parallelism == 2
    assert {found.operators[row].kind for row in found.pipeline_breakers} >= {"Sort", "Hash"}
    bare = plan("point_18")
    assert (bare.is_analyzed, bare.execution_ms, bare.parallelism, bare.pipeline_breakers) == (False, None, 0, ())


# -- shape ---------------------------------------------------------------------------------------------------------


def test_a_shape_does_not_see_costs_rows_and_times():
    def edit(one):
        figures = {name: 3.0 * value for name, value in one.items() if type(value) is float}
        return {**one, **figures, "Plan Rows": 7, "Plan Width": 9}

    for name in NAMES:
        assert NeuralDagPlan.from_explain(changed(document(name), edit)).shape == plan(name).shape


def test_a_shape_does_not_see_literals_or_what_explain_was_asked_for():
    month = plan("month_18").shape
    assert {plan(f"month_{one}_18").shape for one in ("other_literals", "verbose", "untimed")} == {month}
    assert plan("scan_18").shape == plan("scan_other_literal_18").shape


def test_a_shape_is_the_same_in_every_version_that_plans_alike():
    assert plan("parallel_16").shape == plan("parallel_18").shape
    assert plan("sub_plan_16").shape == plan("sub_plan_18").shape


def test_other_plans_have_other_shapes():
    names = [name for name in NAMES if "month" not in name and "literal" not in name and not name.endswith("_16")]
    names += ["month_18", "month_other_order_18", "month_nested_18", "month_all_18"]
    assert len({plan(name).shape for name in names}) == len(names)


@pytest.mark.parametrize(
    "fields",
    [
        {"Node Type": "Merge Join"},
        {"Relation Name": "other"},
        {"Alias": "other"},
        {"Index Name": "other"},
        {"Join Type": "Left"},
        {"Strategy": "Sorted"},
        {"Partial Mode": "Partial"},
        {"Scan Direction": "Backward"},
        {"Workers Planned": 3},
        {"Parallel Aware": True},
        {"Filter": "(a = 1)"},
        {"Plans": [{**node(), "Parent Relationship": "Inner"}]},
    ],
)
def test_each_choice_of_the_planner_is_in_the_shape(fields):
    assert made({**node(), **fields}).shape != made(node()).shape


def test_the_order_of_children_and_where_they_hang_are_in_the_shape():
    first, second = node(**{"Relation Name": "a"}), node(**{"Relation Name": "b"})
    shapes = {
        made(node("Hash Join", plans=[first, second])).shape,
        made(node("Hash Join", plans=[second, first])).shape,
        made(node("Limit", plans=[node("Limit", plans=[first])])).shape,
        made(node("Limit", plans=[node("Limit"), first])).shape,
    }
    assert len(shapes) == 4


def test_a_shape_is_stable_over_processes():
    assert plan("hash_join_18").shape == "a42d9160435ba99d"


# -- a value -------------------------------------------------------------------------------------------------------


def test_a_plan_is_frozen_with_all_that_follows_from_it():
    found = plan("hash_join_18")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.operators = ()
    arrays = ("learned_costs", "criticalities", "attention_weights", "operator_embeddings", "plan_embedding")
    for name in arrays:
        assert getattr(found, name) is getattr(found, name)  # computed once
        with pytest.raises(ValueError, match="read-only"):
            getattr(found, name)[...] = 0.0


def test_embeddings_have_the_width_of_the_settings():
    assert plan("point_18", config=DagConfig(hidden_dim=32)).plan_embedding.shape == (32,)


def test_a_match_changes_nothing_else():
    found = plan("parallel_18")
    embedding = found.plan_embedding
    matched = found.with_match(7, ExecutionParams(parallelism=4))
    assert (matched.pattern_id, matched.params.parallelism) == (7, 4)
    assert (found.pattern_id, found.params.is_default) == (None, True)
    assert matched.plan_embedding is embedding
    assert matched.operators is found.operators


def test_another_attention_gives_the_weights_of_a_plan_read_with_it():
    found = plan("parallel_18")
    found.plan_embedding  # noqa: B018 - computed, so that something could be kept that should not
    for one in AttentionType:
        expected = plan("parallel_18", attention_type=one)
        np.testing.assert_array_equal(found.with_attention(one).attention_weights, expected.attention_weights)
        np.testing.assert_array_equal(found.with_attention(one).plan_embedding, expected.plan_embedding)
    assert found.attention_type is AttentionType.TOPOLOGICAL
