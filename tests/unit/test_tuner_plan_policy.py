import numpy as np
import pytest

from sona.config.tuner import DagConfig, TunerConfig
from sona.errors import StoreError
from sona.state import State, digest
from sona.tuner.choosing.arms import SERVER, Arm
from sona.tuner.choosing.plan_policy import Choice, PlanPolicy, Purpose
from sona.tuner.choosing.unit import PlanNote
from sona.tuner.choosing.wants import Wants
from sona.tuner.execution import ExecutionParams

CONFIG = TunerConfig(exploration_share=1.0, min_mean_s=0.005, capacity=3, dag=DagConfig(hidden_dim=16))
NESTED = Arm("no nested loops", ExecutionParams(custom={"enable_nestloop": "off"}), frozenset({"Nested Loop"}))
MEMORY = Arm("more memory", ExecutionParams(custom={"work_mem": "1GB"}), acts_at_run_time=True)
OWN = Choice(SERVER, Purpose.SERVER)


def note(*kinds, shape="own"):
    return PlanNote(shape, kinds or ("Nested Loop",), 100.0, np.eye(16, dtype=np.float32)[0])


def known(policy=None, key="q", time_s=1.0, runs=4, **plan):
    policy = policy or PlanPolicy(CONFIG, [NESTED, MEMORY])
    for _ in range(runs):
        policy.finish(key, "f", OWN, time_s)
    policy.describe(key, note(**plan), 0.0015)
    return policy


def trial(policy, key="q"):
    choice = policy.choose(key)
    assert choice.purpose is Purpose.TRIAL
    return choice


def won(time_s=0.1):
    policy = known()
    choice = trial(policy)
    policy.finish("q", "f", choice, time_s)
    return policy, choice


def test_what_is_not_known_is_the_servers():
    policy = PlanPolicy(CONFIG, [NESTED])
    assert (policy.choose("q"), policy.in_force("q"), policy.wants_plan("q")) == (OWN, OWN, False)
    assert (policy.server_s("q"), policy.knows_plan("q", NESTED)) == (0.0, False)


def test_a_plan_is_asked_for_once_the_statement_is_worth_it():
    policy = PlanPolicy(CONFIG, [NESTED])
    for time_s, count in ((0.001, 50), (1.0, 1)):
        for _ in range(count):
            policy.finish(f"q{time_s}", "f", OWN, time_s)
        assert not policy.wants_plan(f"q{time_s}")
    policy.finish("q1.0", "f", OWN, 1.0)
    assert policy.wants_plan("q1.0")
    policy.describe("q1.0", note(), 0.0015)
    assert not policy.wants_plan("q1.0")


def test_a_trial_is_given_up_before_it_costs_more_than_the_hope_was_worth():
    policy = known()
    choice = trial(policy)
    assert choice.expected_s == 1.0
    assert 0.0 < choice.timeout_s <= 0.85
    assert choice.timeout_s + policy.explain_s <= policy.budget.room_s


def test_what_wins_is_in_force_and_guarded():
    policy, choice = won()
    force = policy.in_force("q")
    assert (force.arm, force.purpose) == (choice.arm, Purpose.KNOWN)
    assert force.timeout_s == pytest.approx(3.05)
    assert (policy.wins, policy.saved_s) == (1, pytest.approx(0.9))


def test_what_is_not_faster_is_closed():
    policy = known()
    choice = trial(policy)
    policy.finish("q", "f", choice, 1.2)
    assert policy.units["q"].closed == {choice.arm.name: "slower than server"}
    assert policy.in_force("q") == OWN
    assert policy.budget.explored_s == pytest.approx(0.2 + 0.0015)


def test_what_was_given_up_is_tried_again_with_more_time_alone():
    policy = known(runs=40)
    choice = trial(policy)
    policy.abandon("q", choice, choice.timeout_s)
    seen = {choice.arm.name: choice.timeout_s}
    for _ in range(12):
        policy.finish("q", "f", OWN, 1.0)
        again = policy.choose("q")
        if again.purpose is not Purpose.TRIAL:
            break
        assert again.timeout_s >= 1.3 * seen.get(again.arm.name, 0.0)
        seen[again.arm.name] = again.timeout_s
        policy.abandon("q", again, again.timeout_s)
    assert policy.trials >= 4
    assert policy.wins == 0


def test_two_slow_runs_end_what_is_in_force():
    policy, _ = won()
    policy.finish("q", "f", policy.in_force("q"), 1.5)
    assert policy.in_force("q").purpose is Purpose.KNOWN
    policy.finish("q", "f", policy.in_force("q"), 1.5)
    assert policy.in_force("q") == OWN
    assert policy.units["q"].rollbacks == 1
    assert policy.saved_s == 0.0


def test_a_run_far_beyond_the_servers_ends_it_at_once():
    policy, choice = won()
    force = policy.in_force("q")
    policy.abandon("q", force, force.timeout_s)
    assert policy.in_force("q") == OWN
    assert choice.arm.name in policy.units["q"].closed
    policy.abandon("q", force, force.timeout_s)  # by another thread, that began before
    assert policy.units["q"].rollbacks == 1
    assert SERVER.name not in policy.units["q"].closed


def test_the_servers_own_choice_is_measured_again():
    policy, _ = won()
    for _ in range(200):
        choice = policy.choose("q")
        if choice.purpose is Purpose.CHECK:
            break
        time_s = 0.1 if choice.purpose is Purpose.KNOWN else 9.0
        policy.finish("q", "f", choice, time_s)
    assert choice.purpose is Purpose.CHECK
    assert choice.arm is SERVER
    policy.finish("q", "f", choice, 1.0)
    assert policy.choose("q").purpose is not Purpose.CHECK


def test_a_plan_that_was_seen_need_not_run_unless_the_arm_acts_at_run_time():
    policy = known()
    assert not policy.is_new_plan("q", NESTED, "own", 0.001)
    assert policy.units["q"].closed == {NESTED.name: "the same plan as server"}
    assert policy.is_new_plan("q", MEMORY, "own", 0.001)
    assert policy.knows_plan("q", MEMORY)


def test_an_arm_that_cannot_change_the_plan_is_not_tried():
    policy = PlanPolicy(CONFIG, [NESTED])
    for _ in range(6):
        policy.finish("q", "f", OWN, 1.0)
    policy.describe("q", note("Hash Join"), 0.001)
    assert policy.choose("q") == OWN
    assert policy.units["q"].closed == {NESTED.name: "cannot change the plan"}


def test_what_the_server_does_not_take_is_tried_nowhere():
    policy = known(known(), "other")
    choice = trial(policy)
    trial(policy, "other")
    before_s = policy.budget.explored_s
    policy.refuse("q", choice.arm, "permission denied", everywhere=True, cost_s=0.25)
    assert policy.barred == {choice.arm.name: "permission denied"}
    assert policy.budget.explored_s == before_s + 0.25
    for key in ("q", "other"):
        assert policy.choose(key).arm is not choice.arm


def test_what_is_refused_for_a_statement_is_not_in_force_any_more():
    policy, choice = won()
    policy.refuse("q", choice.arm, "division by zero")
    assert policy.in_force("q") == OWN
    assert policy.barred == {}


# -- what other threads do in between ------------------------------------------------------------------------------


def test_a_statement_that_was_forgotten_meanwhile_is_a_new_one():
    policy = known()
    choice = trial(policy)
    policy.drop("q", 0.0)
    policy.abandon("q", choice, 0.1)
    assert "q" not in policy.units
    policy.describe("q", note(), 0.001)
    assert not policy.is_new_plan("q", NESTED, "x", 0.001)
    assert not policy.knows_plan("q", NESTED)
    policy.refuse("q", NESTED, "why")
    assert "q" not in policy.units
    policy.finish("q", "f", choice, 0.1)
    assert policy.units["q"].incumbent == SERVER.name


def test_a_trial_of_a_statement_that_has_changed_meanwhile_teaches_nothing():
    policy = known()
    choice = trial(policy)
    for _ in range(8):
        policy.finish("q", "f", OWN, 9.0)
    assert policy.units["q"].note is None
    policy.finish("q", "f", choice, 0.1)
    policy.abandon("q", choice, 0.1)
    assert policy.in_force("q") == OWN
    assert policy.odds.version == 0


def test_an_arm_that_won_twice_at_once_stays_in_force():
    policy = known()
    choice = trial(policy)
    policy.finish("q", "f", choice, 0.1)
    policy.finish("q", "f", choice, 0.12)
    assert policy.in_force("q").arm is choice.arm
    assert choice.arm.name not in policy.units["q"].closed


def test_times_of_nothing_are_no_division_by_nothing():
    config = TunerConfig(exploration_share=1.0, min_mean_s=0.0, dag=DagConfig(hidden_dim=16))
    policy = PlanPolicy(config, [NESTED])
    for _ in range(20):
        policy.finish("q", "f", policy.choose("q"), 0.0)
        if policy.wants_plan("q"):
            policy.describe("q", PlanNote("s", ("Nested Loop",), 0.0, note().embedding), 0.0)
    assert policy.choose("q") == OWN


# -- room ----------------------------------------------------------------------------------------------------------


def test_the_statement_asked_longest_ago_goes_first():
    policy = PlanPolicy(CONFIG, [NESTED])
    for key in "abcad":
        policy.finish(key, "f", OWN, 1.0)
    assert list(policy.units) == ["c", "a", "d"]
    assert policy.round_s == pytest.approx(3.0)


def test_choosing_does_not_look_at_all_statements(monkeypatch):
    policy, looks = PlanPolicy(TunerConfig(dag=DagConfig(hidden_dim=16)), [NESTED, MEMORY]), []
    highest = Wants._highest
    monkeypatch.setattr(Wants, "_highest", lambda wants: looks.append(len(wants)) or highest(wants))
    for number in range(100):
        known(policy, f"q{number}", 0.5 + number / 100, 3)
        policy.choose(f"q{number}")
    assert len(policy._wanted) > 50
    looks.clear()
    for number in range(100):
        policy.choose(f"q{number}")
    assert looks == []


# -- state ---------------------------------------------------------------------------------------------------------


def full():
    policy, _ = won()
    known(policy, "other", 0.5)
    policy.abandon("other", trial(policy, "other"), 0.1)
    policy.refuse("other", MEMORY, "why", everywhere=True)
    policy.choose("q")
    return policy


def test_it_comes_back_bit_for_bit():
    policy = full()
    state = policy.state()
    saved = digest(state)
    again = PlanPolicy.from_state(state, CONFIG, [NESTED, MEMORY])
    assert digest(again.state()) == saved
    policy.finish("q", "f", policy.choose("q"), 0.1)
    policy.refuse("q", NESTED, "later", everywhere=True)
    assert digest(state) == saved
    assert again.barred == {MEMORY.name: "why"}


@pytest.mark.parametrize(
    "damage",
    [
        {"keys": ["q"]},
        {"keys": ["q", 3]},
        {"units": [1, 2]},
        {"embeddings": np.zeros((2, 8), np.float32)},
        {"barred": 3},
        {"rates": {"q": "fast"}},
        {"counts": [1, 2]},
        {"counts": ["a", "b", "c"]},
        {"explain_s": "x"},
        {"usual": None},
        {"sums": [1.0]},
        {"sums": ["x", "y"]},
        {"wanted": State({"wants": [["q", 1, 1, "unheard of", 1.0, 1.0, 1.0]], "best": "q"})},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_damage_is_refused(damage):
    values = {**dict(full().state().items()), **damage}
    with pytest.raises(StoreError):
        PlanPolicy.from_state(State(values), CONFIG, [NESTED, MEMORY])


@pytest.mark.parametrize(
    "name", ["keys", "units", "embeddings", "odds", "budget", "barred", "rates", "counts", "wanted"]
)
def test_nothing_may_be_missing(name):
    values = {key: value for key, value in full().state().items() if key != name}
    with pytest.raises(StoreError):
        PlanPolicy.from_state(State(values), CONFIG, [NESTED, MEMORY])


def test_an_arm_in_force_that_is_not_known_any_more_is_refused():
    policy, choice = won()
    rest = [arm for arm in (NESTED, MEMORY) if arm is not choice.arm]
    with pytest.raises(StoreError):
        PlanPolicy.from_state(policy.state(), CONFIG, rest)
