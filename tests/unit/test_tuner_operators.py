import pytest
from tuner_plans import NAMES, made, node, plan, timed

from sona.errors import PlanError
from sona.tuner.plans.operators import GROUPS, Condition, OperatorGroup


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_a_server_writes_is_known(name):
    assert all(one.kind in GROUPS and one.group is not OperatorGroup.OTHER for one in plan(name).operators)


def test_a_kind_not_known_is_kept_by_its_name():
    root = made(node("Quantum Scan")).root
    assert (root.kind, root.group, root.is_breaker) == ("Quantum Scan", OperatorGroup.OTHER, False)


@pytest.mark.parametrize(
    ("kind", "fields", "is_breaker"),
    [
        ("Sort", {}, True),
        ("Incremental Sort", {}, False),
        ("Hash", {}, True),
        ("Materialize", {}, True),
        ("Memoize", {}, False),
        ("Aggregate", {"Strategy": "Plain"}, True),
        ("Aggregate", {"Strategy": "Hashed"}, True),
        ("Aggregate", {"Strategy": "Sorted"}, False),
        ("SetOp", {"Strategy": "Hashed"}, True),
        ("SetOp", {"Strategy": "Sorted"}, False),
        ("WindowAgg", {}, True),
        ("Bitmap Index Scan", {}, True),
        ("Bitmap Heap Scan", {}, False),
        ("Nested Loop", {}, False),
        ("Hash Join", {}, False),
        ("Gather Merge", {}, False),
    ],
)
def test_pipeline_breakers(kind, fields, is_breaker):
    assert made(node(kind, **fields)).root.is_breaker is is_breaker


def test_an_operator_says_what_a_server_said():
    found = plan("hash_join_18")
    limit, join, scan = found.root, found.operators[3], found.operators[0]
    assert (limit.kind, limit.parent, limit.depth, limit.relationship) == ("Limit", None, 0, None)
    assert (join.kind, join.join_type, join.children, join.parent) == ("Hash Join", "Inner", (0, 2), 4)
    assert join.conditions == (Condition("Hash Cond", "(c.region_id = r.id)"),)
    assert (scan.relation, scan.alias, scan.index, scan.depth) == ("customer", "c", None, 4)
    assert scan.conditions == (Condition("Filter", "(since < '2021-06-01'::date)"),)
    assert scan.actuals is not None
    assert scan.actuals.rows == 5170
    assert scan.actuals.loops == 1
    assert scan.actuals.hit_blocks == 147
    assert scan.actuals.read_blocks == 0


def test_memory_and_disk_are_bytes():
    in_memory = {"Sort Space Used": 25, "Sort Space Type": "Memory"}
    on_disk = {"Sort Space Used": 7, "Sort Space Type": "Disk"}
    hashed = {"Peak Memory Usage": 3, "Disk Usage": 2}
    stored = {"Storage": "Memory", "Maximum Storage": 17}
    for fields, memory, disk in [(in_memory, 25, 0), (on_disk, 0, 7), (hashed, 3, 2), (stored, 17, 0), ({}, 0, 0)]:
        found = made(node("Sort", **fields, **timed(1.0))).root.actuals
        assert (found.memory_bytes, found.disk_bytes) == (1024 * memory, 1024 * disk)


def test_what_was_not_measured_is_not_known():
    assert made(node()).root.actuals is None
    untimed = plan("month_untimed_18").root.actuals
    assert untimed.total_ms is None
    assert untimed.loops == 1
    assert untimed.hit_blocks is not None  # PostgreSQL 18 counts blocks whenever it executes
    assert made(node(**timed(2.0))).root.actuals.hit_blocks is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Node Type": None}, "Node Type"),
        ({"Node Type": ""}, "Node Type"),
        ({"Total Cost": "high"}, "Total Cost"),
        ({"Total Cost": float("nan")}, "Total Cost"),
        ({"Plan Rows": -1}, "Plan Rows"),
        ({"Plan Rows": True}, "Plan Rows"),
        ({"Relation Name": 4}, "Relation Name"),
        ({"Filter": 4}, "Filter"),
        ({"Filter": ["a", 4]}, "Filter"),
        ({"Actual Loops": -1}, "Actual Loops"),
    ],
)
def test_a_field_of_another_kind_is_refused(fields, words):
    with pytest.raises(PlanError, match=words):
        made({**node(), **fields})


def test_a_plan_without_costs_says_how_to_ask_for_them():
    with pytest.raises(PlanError, match="COSTS ON"):
        made({"Node Type": "Seq Scan"})


def test_several_conditions_of_one_name_are_one_text():
    assert made(node(Filter=["(a = 1)", "(b = 2)"])).root.conditions == (Condition("Filter", "(a = 1), (b = 2)"),)
