from sona.tuner.choosing.arms import SERVER, plan_arms
from sona.tuner.execution import ExecutionParams

CHANGES_ANSWERS = {
    "search_path",
    "timezone",
    "datestyle",
    "extra_float_digits",
    "row_security",
    "session_replication_role",
}


def test_the_servers_own_choice_sets_nothing():
    assert SERVER.params.is_default
    assert SERVER.can_change(("Result",))


def test_arms_differ_in_name_and_settings_and_none_is_the_servers_own():
    arms = plan_arms()
    assert len({arm.name for arm in arms} | {SERVER.name}) == len(arms) + 1
    assert len({tuple(arm.params.settings.items()) for arm in arms}) == len(arms)
    assert not any(arm.params.is_default for arm in arms)
    assert plan_arms() == arms


def test_arms_steer_how_an_answer_is_found_and_nothing_else():
    names = {name for arm in plan_arms() for name in arm.params.settings}
    steering = (
        "enable_",
        "parallel_",
        "min_parallel_",
        "max_parallel_workers_per_gather",
        "work_mem",
        "random_page_cost",
    )
    assert all(name.startswith(steering) for name in names)
    assert not names & CHANGES_ANSWERS


def test_an_arm_can_change_a_plan_with_an_operator_it_touches():
    arms = {arm.name: arm for arm in plan_arms()}
    assert arms["no nested loops"].can_change(("Seq Scan", "Nested Loop"))
    assert not arms["no nested loops"].can_change(("Seq Scan", "Hash Join"))
    assert not arms["no nested loops"].can_change(())
    assert arms["eager parallel"].can_change(())
    assert arms["serial, no nested loops"].params == ExecutionParams(parallelism=0, custom={"enable_nestloop": "off"})
