import numpy as np
import pytest
from tuner_plans import NAMES, made, node, plan, timed


@pytest.mark.parametrize("name", NAMES)
def test_costs_of_a_real_plan_add_up_to_its_root(name):
    found = plan(name)
    root = found.root
    if found.effort.is_measured:
        assert found.learned_costs.sum() >= root.actuals.total_ms - 1e-9
    if "mixed" not in name:  # there branches run side by side
        whole = root.actuals.total_ms if found.effort.is_measured else root.total_cost
        assert found.learned_costs.sum() == pytest.approx(whole)
        assert found.criticality.length == pytest.approx(whole)
        np.testing.assert_allclose(found.criticalities, found.learned_costs / whole, atol=1e-9)
    assert found.criticality.length == pytest.approx(
        root.actuals.total_ms if root.actuals and found.effort.is_measured else root.total_cost
    )


def test_times_are_used_only_where_all_was_timed():
    assert plan("hash_join_18").effort.is_measured
    assert not plan("point_18").effort.is_measured
    assert not plan("month_untimed_18").effort.is_measured
    assert not made(node("Sort", plans=[node(**timed(1.0))])).effort.is_measured


def test_loops_count_each():
    join = node("Nested Loop", plans=[node(**timed(2.0)), node("Index Scan", **timed(0.5, loops=10))], **timed(8.0))
    assert made(join).learned_costs.tolist() == [2.0, 5.0, 1.0]


def test_rounded_times_never_add_up_to_more_than_the_operator_above():
    join = node("Nested Loop", plans=[node(**timed(2.0)), node("Index Scan", **timed(0.002, loops=5000))], **timed(8.0))
    costs = made(join).learned_costs
    assert costs.sum() == pytest.approx(8.0)
    assert costs[0] / costs[1] == pytest.approx(0.2)


def test_an_operator_that_never_ran_costs_nothing():
    join = node("Hash Join", plans=[node(**timed(3.0)), node("Hash", **timed(0.0, loops=0))], **timed(4.0))
    assert made(join).learned_costs.tolist() == [3.0, 0.0, 1.0]


def test_processes_share_their_loops():
    # Three processes scan for 6 ms each; the inner side of the loop ran 300 times in all, 100 in each.
    inner = node("Index Scan", **timed(0.01, loops=300))
    join = node("Nested Loop", plans=[node(**timed(6.0, loops=3)), inner], **timed(8.0, loops=3))
    gather = node("Gather", plans=[join], **timed(10.0), **{"Workers Planned": 2, "Workers Launched": 2})
    np.testing.assert_allclose(made(gather).learned_costs, [6.0, 1.0, 1.0, 2.0])


def test_a_gather_node_may_itself_run_more_than_once():
    scan = node(**timed(2.0, loops=4))  # twice, by two processes of the three that were asked for
    gather = node("Gather", plans=[scan], **timed(3.0, loops=2), **{"Workers Planned": 2, "Workers Launched": 1})
    assert made(gather).learned_costs.tolist() == [4.0, 2.0]


def test_processes_that_were_not_to_be_had_share_nothing():
    scan = node(**timed(6.0, loops=1))
    gather = node("Gather", plans=[scan], **timed(7.0), **{"Workers Planned": 2, "Workers Launched": 0})
    assert made(gather).learned_costs.tolist() == [6.0, 1.0]


@pytest.mark.parametrize("version", [16, 18])
def test_an_init_plan_is_paid_where_its_value_is_asked_for(version):
    found = plan(f"init_plan_{version}")
    kinds = [one.kind for one in found.operators]
    started = next(one for one in found.operators if one.relationship == "InitPlan")
    heap = found.operators[kinds.index("Bitmap Heap Scan")]
    bitmap = found.operators[kinds.index("Bitmap Index Scan")]
    own = heap.actuals.total_ms - started.actuals.total_ms - bitmap.actuals.total_ms
    assert found.learned_costs[heap.id] == pytest.approx(own)
    own = found.root.actuals.total_ms - heap.actuals.total_ms
    assert found.learned_costs[found.root.id] == pytest.approx(own)


def cte(wall_first, wall_second):
    scan = {"CTE Name": "c"}
    started = {**node("Seq Scan", **timed(10.0)), "Parent Relationship": "InitPlan", "Subplan Name": "CTE c"}
    first = {**node("CTE Scan", **scan, **timed(wall_first)), "Parent Relationship": "Outer"}
    second = {**node("CTE Scan", **scan, **timed(wall_second)), "Parent Relationship": "Inner"}
    return made({**node("Merge Join", **timed(wall_first + wall_second + 1.0)), "Plans": [started, first, second]})


def test_a_cte_is_paid_by_the_scan_that_waited_for_it():
    assert cte(11.0, 2.0).learned_costs.tolist() == [10.0, 1.0, 2.0, 1.0]
    assert cte(2.0, 11.0).learned_costs.tolist() == [10.0, 2.0, 1.0, 1.0]


def lanes(first, second, shared, **gathering):
    alone = [node(f"Scan {row}", **timed(wall)) for row, wall in enumerate((first, second))]
    together = node("Seq Scan", **{"Parallel Aware": True}, **timed(shared, loops=2))
    below = [{**one, "Parent Relationship": "Member"} for one in (*alone, together)]
    mean = (first + second + 2 * shared) / 2
    append = {**node("Append", **{"Parallel Aware": True}, **timed(mean, loops=2)), "Plans": below}
    return made(node("Gather", plans=[append], **timed(30.0), **{"Workers Planned": 1, "Workers Launched": 1}))


def test_children_that_no_process_shares_run_beside_each_other():
    found = lanes(20.0, 12.0, 1.0)
    first, second, together, append, gather = range(5)
    assert found.effort.before == ((), (), (), (together, first, second), (append,))
    assert found.criticality.length == pytest.approx(30.0)
    assert found.criticality.slack[second] == pytest.approx(8.0)
    assert found.criticalities[first] == pytest.approx(8.0 / 30.0)  # then the second would be waited for
    assert found.criticalities[second] == 0.0
    assert found.critical_path == (first, append, gather)
    assert found.learned_costs[gather] == pytest.approx(10.0)


def test_a_process_takes_one_child_after_another():
    # Three children for two processes: the two short ones follow each other.
    alone = [
        {**node(f"Scan {row}", **{"Total Cost": cost}), "Parent Relationship": "Member"}
        for row, cost in enumerate((9.0, 4.0, 3.0))
    ]
    append = {**node("Append", **{"Parallel Aware": True, "Total Cost": 9.0}), "Plans": alone}
    found = made(node("Gather", plans=[append], **{"Workers Planned": 1, "Total Cost": 10.0}))
    assert found.effort.before == ((), (), (1,), (0, 2), (3,))
    assert found.learned_costs.tolist() == [9.0, 4.0, 3.0, 0.0, 1.0]
    assert found.criticality.slack.tolist() == [0.0, 2.0, 2.0, 0.0, 0.0]


def test_in_a_real_parallel_append_only_the_longest_branch_is_waited_for():
    found = plan("parallel_append_mixed_18")
    append = next(one for one in found.operators if one.kind == "Append")
    assert append.is_parallel_aware
    walls = {row: found.operators[row].actuals.total_ms for row in append.children}
    longest = max(walls, key=walls.get)
    waited = [row for row in append.children if found.criticality.slack[row] == 0.0]
    assert waited == [longest]
    assert found.criticality.length == pytest.approx(found.root.actuals.total_ms)


def test_planner_costs_are_split_by_what_is_run():
    outer = node(**{"Total Cost": 10.0, "Plan Rows": 20})
    inner = node("Index Scan", **{"Total Cost": 2.0})
    join = node("Nested Loop", plans=[outer, inner], **{"Total Cost": 55.0})
    assert made(join).learned_costs.tolist() == [10.0, 40.0, 5.0]


def test_a_limit_ends_its_input_early():
    limit = node("Limit", plans=[node(**{"Total Cost": 100.0})], **{"Total Cost": 5.0})
    assert made(limit).learned_costs.tolist() == [5.0, 0.0]


def test_a_subplan_runs_once_a_row_unless_it_is_hashed():
    def owner(text):
        below = {
            **node("Index Scan", **{"Total Cost": 2.0}),
            "Parent Relationship": "SubPlan",
            "Subplan Name": "SubPlan 1",
        }
        return made({**node(Filter=text, **{"Total Cost": 30.0, "Plan Rows": 10}), "Plans": [below]})

    assert owner("(a = (SubPlan 1))").learned_costs.tolist() == [20.0, 10.0]
    assert owner("(NOT (ANY (a = (hashed SubPlan 1).col1)))").learned_costs.tolist() == [2.0, 28.0]


def test_one_thing_runs_after_another():
    found = plan("hash_join_18")
    scan, region, hashed, join = range(4)
    assert [found.operators[row].relation for row in (scan, region)] == ["customer", "region"]
    assert found.effort.before[scan] == (hashed,)  # the hash table is built before rows are looked up in it
    assert found.effort.before[region] == ()
    assert found.effort.before[join] == (scan,)
    assert found.critical_path[:4] == (region, hashed, scan, join)
