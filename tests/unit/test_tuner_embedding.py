import numpy as np
import pytest
from tuner_plans import NAMES, made, node, plan

from sona.errors import DimensionMismatch, InvalidValue
from sona.tuner.execution import AttentionType
from sona.tuner.plans.embedding import comparable, embed_operators, embed_plan

each_attention = pytest.mark.parametrize("attention_type", AttentionType)


def cosine(a, b, attention_type=AttentionType.TOPOLOGICAL) -> float:
    first, second = (plan(name, attention_type=attention_type).plan_embedding for name in (a, b))
    return float(first @ second)


# -- near and far, of plans of a real server -----------------------------------------------------------------------


@each_attention
def test_another_literal_is_near(attention_type):
    assert cosine("month_18", "month_other_literals_18", attention_type) > 0.99
    assert cosine("scan_18", "scan_other_literal_18", attention_type) > 0.99


@each_attention
def test_another_order_of_joins_is_less_near(attention_type):
    near = cosine("month_18", "month_other_literals_18", attention_type)
    assert cosine("month_18", "month_other_order_18", attention_type) < near - 0.004


def test_another_order_of_joins_is_told_apart_by_the_default():
    # Below what makes two patterns one (0.95).
    assert cosine("month_18", "month_other_order_18") < 0.95


@each_attention
def test_another_table_is_far(attention_type):
    assert cosine("scan_18", "scan_other_table_18", attention_type) < 0.4


@each_attention
def test_another_way_to_scan_is_in_between(attention_type):
    near, far = (cosine("scan_18", f"scan_{one}_18", attention_type) for one in ("other_literal", "other_table"))
    for other in ("scan_index_18", "scan_sequential_18"):
        assert far + 0.1 < cosine("scan_18", other, attention_type) < near - 0.05


@each_attention
def test_another_query_is_far(attention_type):
    for other in ("bitmap_18", "nearest_18", "recursive_18", "window_18", "parallel_append_18"):
        assert cosine("month_18", other, attention_type) < 0.75


@pytest.mark.parametrize("attention_type", [AttentionType.TOPOLOGICAL, AttentionType.CAUSAL_CONE])
def test_what_explain_was_asked_for_makes_no_difference(attention_type):
    # Types that weigh by costs see times where there are some.
    assert cosine("month_18", "month_verbose_18", attention_type) > 0.999
    assert cosine("month_18", "month_untimed_18", attention_type) > 0.999


# -- features one by one -------------------------------------------------------------------------------------------


def nearness(one, other) -> float:
    return float(made(one).plan_embedding @ made(other).plan_embedding)


SCAN = node("Index Scan", **{"Relation Name": "t", "Index Name": "t_a", "Index Cond": "(a = 1)", "Plan Rows": 1000})


@pytest.mark.parametrize(
    "fields",
    [
        {"Relation Name": "u"},
        {"Index Name": "t_b"},
        {"Index Cond": "(b = 1)"},
        {"Scan Direction": "Backward"},
        {"Parallel Aware": True},
        {"Plan Rows": 1_000_000},
        {"Total Cost": 1_000_000.0},
        {"Plan Width": 3000},
    ],
)
def test_each_feature_counts(fields):
    assert nearness(SCAN, SCAN) == pytest.approx(1.0)
    assert nearness(SCAN, {**SCAN, **fields}) < 0.999


def test_sizes_of_the_same_order_are_near():
    by_rows = [nearness(SCAN, {**SCAN, "Plan Rows": rows}) for rows in (1000, 1500, 5000, 50_000)]
    assert by_rows == sorted(by_rows, reverse=True)
    assert by_rows[1] > 0.999
    assert by_rows[3] < 0.99


def test_a_size_makes_no_jump_anywhere():
    cosines = [nearness({**SCAN, "Plan Rows": rows}, {**SCAN, "Plan Rows": rows + 1}) for rows in range(20, 60)]
    assert min(cosines) > 0.9999


def test_how_two_tables_are_joined_counts():
    a, b = (node(**{"Relation Name": name}) for name in "ab")
    join = node("Hash Join", plans=[a, b], **{"Join Type": "Inner"})
    assert nearness(join, {**join, "Join Type": "Left"}) < 0.999
    assert nearness(join, node("Hash Join", plans=[b, a], **{"Join Type": "Inner"})) < 0.95
    assert nearness(join, node("Merge Join", plans=[a, b], **{"Join Type": "Inner"})) < 0.985


def test_an_operator_of_a_bitmap_is_of_its_table():
    def heap(table):
        bitmap = node("Bitmap Index Scan", **{"Index Name": "i"})
        return made(node("Bitmap Heap Scan", plans=[bitmap], **{"Relation Name": table})).operator_embeddings[0]

    assert heap("a") @ heap("a") == pytest.approx(1.0)
    assert heap("a") @ heap("b") < 0.7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a = 5)", "(a = ?)"),
        ("(a = '-5'::integer)", "(a = ?)"),
        ("(a = ANY ('{1,2,3}'::integer[]))", "(a = ANY (?))"),
        ("(name ~~ 'it''s (5)%'::text)", "(name ~~ ?)"),
        ("((t.placed > '2020-01-01 00:00:00'::timestamp) AND (t.b1 < 1.5e-3))", "((placed > ?) AND (b1 < ?))"),
        ("(o.a = $1)", "(a = $1)"),
        ('("my table"."a b" = c.d)', '("a b" = d)'),
        ("(embedding <-> '[1,2]'::vector)", "(embedding <-> ?)"),
    ],
)
def test_conditions_are_compared_without_literals_and_tables(text, expected):
    assert comparable(text) == expected


# -- vectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [16, 100, 256])
def test_every_operator_is_a_unit_vector(name, width):
    rows = embed_operators(plan(name).operators, width)
    assert (rows.shape, rows.dtype) == ((len(plan(name)), width), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_a_vector_is_the_same_in_every_process():
    # Were it not, what was learned could not be read back. Python's own hash differs from process to process.
    (row,) = embed_operators(plan("point_18").operators, 256)
    assert np.flatnonzero(row).tolist()[:8] == [12, 13, 15, 21, 32, 35, 38, 42]


def test_a_plan_is_the_weighted_sum_of_its_operators():
    rows = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(embed_plan(rows, [0.0, 3.0, 4.0]), [0.0, 0.6, 0.8], atol=1e-7)


@pytest.mark.parametrize(
    ("weights", "error"),
    [([1.0], DimensionMismatch), ([1, -1, 1], InvalidValue), ([0, 0, 0], InvalidValue), ([1, np.nan, 1], InvalidValue)],
)
def test_weights_that_give_no_vector_are_refused(weights, error):
    with pytest.raises(error):
        embed_plan(np.eye(3, dtype=np.float32), weights)


def test_bad_input_is_refused():
    with pytest.raises(InvalidValue, match="width"):
        embed_operators(plan("point_18").operators, 15)
    with pytest.raises(InvalidValue, match="at least one"):
        embed_operators((), 16)
