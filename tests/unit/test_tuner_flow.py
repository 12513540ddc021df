import pytest
from tuner_plans import NAMES, made, node, plan

from sona.tuner.plans.flow import first_below


def init_plan(name, **fields):
    return {**node("Result", **fields), "Parent Relationship": "InitPlan", "Subplan Name": name}


@pytest.mark.parametrize("name", NAMES)
def test_edges_go_both_ways_from_lower_to_higher_and_all_reach_the_root(name):
    found = plan(name)
    flow = found.flow
    pairs = {(one, row) for row, feeding in enumerate(flow.inputs) for one in feeding}
    assert pairs == {(row, reader) for row, readers in enumerate(flow.consumers) for reader in readers}
    assert all(one < row for one, row in pairs)
    assert [row for row, readers in enumerate(flow.consumers) if not readers] == [len(found) - 1]


def test_a_plan_without_subplans_is_its_own_tree():
    found = plan("hash_join_18")
    assert found.flow.inputs == tuple(one.children for one in found.operators)


@pytest.mark.parametrize("version", [16, 18])
def test_a_cte_feeds_its_scans(version):
    found = plan(f"cte_twice_{version}")
    scans = tuple(one.id for one in found.operators if one.kind == "CTE Scan")
    assert len(scans) == 3
    assert found.operators[1].subplan_name == "CTE big"
    assert found.flow.consumers[1] == scans
    assert 1 not in found.flow.inputs[found.root.id]


@pytest.mark.parametrize("version", [16, 18])
def test_an_init_plan_feeds_the_operator_that_asks_for_its_value(version):
    found = plan(f"init_plan_{version}")
    reader = next(one for one in found.operators if one.kind == "Bitmap Heap Scan")
    started = next(one for one in found.operators if one.relationship == "InitPlan")
    assert started.parent == found.root.id
    assert found.flow.consumers[started.id] == (reader.id,)


def test_a_recursive_scan_reads_the_table_of_its_last_round_and_no_operator():
    found = plan("recursive_18")
    assert found.flow.inputs[next(one.id for one in found.operators if one.kind == "WorkTable Scan")] == ()
    union = next(one.id for one in found.operators if one.kind == "Recursive Union")
    assert [found.operators[row].kind for row in found.flow.consumers[union]] == ["CTE Scan"]


def test_an_init_plan_that_nobody_mentions_feeds_its_owner():
    found = made({**node("Result"), "Plans": [init_plan("InitPlan 1 (returns $0)"), node(Filter="(a = $1)")]})
    assert found.flow.consumers[0] == (2,)


def test_a_parameter_is_told_from_one_that_begins_alike():
    below = node("Limit", plans=[node(Filter="(a = $12)"), node(Filter="(a > $1)")])
    found = made({**node("Result"), "Plans": [init_plan("InitPlan 1 (returns $1)"), below]})
    assert found.flow.consumers[0] == (2,)


def test_a_gather_node_computes_what_its_processes_ask_for():
    gather = node("Gather", plans=[node(Filter="(a > (InitPlan 1).col1)")], **{"Workers Planned": 2})
    found = made({**node("Aggregate"), "Plans": [init_plan("InitPlan 1"), gather]})
    assert found.operators[2].kind == "Gather"
    assert found.flow.consumers[0] == (2,)


def test_ctes_of_one_name_feed_the_scans_of_their_own_query():
    def query(owner):
        scan = node("CTE Scan", **{"CTE Name": "c"})
        return {**node(owner), "Plans": [init_plan("CTE c"), {**scan, "Parent Relationship": "Outer"}]}

    found = made(node("Append", plans=[query("Limit"), query("Unique")]))
    assert found.flow.consumers[0] == (1,)
    assert found.flow.consumers[3] == (4,)


def test_a_cte_hides_one_of_the_same_name_further_out():
    scan = node("CTE Scan", **{"CTE Name": "c"})
    within = {**node("Limit"), "Plans": [init_plan("CTE c"), {**scan, "Parent Relationship": "Outer"}]}
    found = made({**node("Append"), "Plans": [init_plan("CTE c"), within, {**scan, "Parent Relationship": "Member"}]})
    assert [found.operators[row].kind for row in (2, 4)] == ["CTE Scan"] * 2
    assert found.flow.consumers[0] == (4,)
    assert found.flow.consumers[1] == (2,)


def test_a_subtree_is_a_run_of_ids():
    found = plan("sub_plan_18")
    for one in found.operators:
        below = set(one.children).union(*(range(first_below(found.operators, row), row + 1) for row in one.children))
        assert below | {one.id} == set(range(first_below(found.operators, one.id), one.id + 1))
