"""Laws of choosing settings, on simulated servers: what it costs, what it never does, that nothing is forgotten."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.config.tuner import DagConfig, TunerConfig
from sona.state import digest
from sona.tuner.choosing.arms import SERVER, Arm
from sona.tuner.choosing.budget import Budget
from sona.tuner.choosing.family_policy import FamilyPolicy
from sona.tuner.choosing.odds import RATIOS, ArmOdds, Case
from sona.tuner.choosing.plan_policy import Choice, PlanPolicy, Purpose
from sona.tuner.choosing.unit import PlanNote
from sona.tuner.execution import ExecutionParams

WIDTH = 16
ARMS = tuple(
    Arm(name, ExecutionParams(custom={"name": name}), is_remedy=name == "a", acts_at_run_time=name == "d")
    for name in "abcd"
)
EXPLAIN_S = 0.0015


def config(share: float = 0.05, capacity: int = 1000) -> TunerConfig:
    return TunerConfig(exploration_share=share, min_mean_s=0.005, capacity=capacity, dag=DagConfig(hidden_dim=WIDTH))


def direction(key: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big")
    found = np.random.default_rng(seed).normal(size=WIDTH)
    return (found / np.linalg.norm(found)).astype(np.float32)


@dataclass
class World:
    """Statements by name, with their seconds under the server's own choice and each arm, and what runs them."""

    times: dict[str, dict[str, float]]
    policy: PlanPolicy
    noise: float = 0.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    total_s: float = 0.0
    longest_s: float = 0.0
    runs: list[tuple[str, str]] = field(default_factory=list)

    def takes(self, key: str, arm: str) -> float:
        factor = float(np.exp(self.noise * self.rng.normal())) if self.noise else 1.0
        return self.times[key].get(arm, self.times[key]["server"]) * factor

    def run(self, key: str) -> None:
        choice = self.choose(key)
        time_s = self.takes(key, choice.arm.name)
        if choice.timeout_s is not None and time_s > choice.timeout_s:
            self.waits(choice.timeout_s)
            self.policy.abandon(key, choice, choice.timeout_s)
            self.check()
            choice = self.policy.in_force(key)
            time_s = self.takes(key, choice.arm.name)
        self.runs.append((choice.arm.name, choice.purpose.name))
        self.waits(time_s)
        self.policy.finish(key, key, choice, time_s)
        if self.policy.wants_plan(key):
            cost = self.times[key]["server"] * 1000.0
            note = PlanNote(f"{key} server", ("Hash Join",), cost, direction(key))
            self.waits(EXPLAIN_S)
            self.policy.describe(key, note, EXPLAIN_S)
        self.check()

    def choose(self, key):
        for _ in range(6):
            choice = self.policy.choose(key)
            if choice.purpose is not Purpose.TRIAL or self.policy.knows_plan(key, choice.arm):
                return choice
            self.waits(EXPLAIN_S)
            is_same = choice.arm.name not in self.times[key]
            shape = f"{key} server" if is_same else f"{key} {choice.arm.name}"
            is_new = self.policy.is_new_plan(key, choice.arm, shape, EXPLAIN_S)
            self.check()
            if is_new:
                return choice
        return self.policy.in_force(key)

    def waits(self, time_s: float) -> None:
        self.total_s += time_s
        self.longest_s = max(self.longest_s, time_s)

    def check(self) -> None:
        budget = self.policy.budget
        share = self.policy.config.exploration_share
        slack_s = self.longest_s if self.noise else 1e-9
        assert budget.explored_s <= share * budget.spent_s + slack_s
        assert budget.spent_s == pytest.approx(self.total_s)


SECONDS = st.floats(0.001, 20.0)
STATEMENT = st.fixed_dictionaries({"server": SECONDS}, optional=dict.fromkeys("abcd", SECONDS))
WORLDS = st.dictionaries(st.sampled_from([f"q{number}" for number in range(8)]), STATEMENT, min_size=1, max_size=6)
SHARES = st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0])
OUTCOMES = st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.floats(0.01, 5.0), st.booleans())
ORDERS = st.lists(st.integers(0, 5), min_size=5, max_size=250)


def played(times, order, *, share=0.05, noise=0.0, capacity=1000):
    world = World(times, PlanPolicy(config(share, capacity), ARMS), noise)
    keys = sorted(times)
    for place in order:
        world.run(keys[place % len(keys)])
    return world


@given(times=WORLDS, order=ORDERS, share=SHARES)
def test_trying_costs_at_most_its_share_at_every_moment(times, order, share):
    played(times, order, share=share)  # checked after every event


@given(times=WORLDS, order=ORDERS, share=SHARES, noise=st.sampled_from([0.1, 1.0]))
def test_what_takes_longer_than_expected_exceeds_the_share_by_no_more_than_one_wait(times, order, share, noise):
    played(times, order, share=share, noise=noise)


@given(times=WORLDS, order=ORDERS)
def test_without_a_budget_everything_is_the_servers_own(times, order):
    world = played(times, order, share=0.0)
    assert {arm for arm, _ in world.runs} == {"server"}
    assert world.total_s == pytest.approx(sum(times[sorted(times)[place % len(times)]]["server"] for place in order))


@given(times=WORLDS)
def test_what_is_not_known_is_run_as_the_server_likes(times):
    world = played(times, [])
    for key in times:
        for _ in range(2):
            assert world.policy.choose(key).arm is SERVER
            world.run(key)


@given(times=WORLDS, passes=st.integers(2, 40), share=st.sampled_from([0.02, 0.05, 0.2]))
def test_a_round_has_room_for_its_share_half_of_what_is_saved_or_a_tenth_of_what_was_not_spent(times, passes, share):
    world = World(times, PlanPolicy(config(share), ARMS))
    round_s = sum(one["server"] for one in times.values())
    for _ in range(passes):
        before_s, spent_s = world.policy.budget.explored_s, world.total_s
        saved_s = world.policy.saved_s
        for key in sorted(times):
            world.run(key)
        saved_s = max(saved_s, world.policy.saved_s)
        unspent_s = share * world.total_s - before_s
        limit_s = max(share * round_s + 0.5 * saved_s, 0.1 * unspent_s)
        cost_s = world.policy.budget.explored_s - before_s
        # What was left over from earlier rounds, and what this one brings: one round's worth each.
        assert cost_s <= limit_s * (1.0 + (world.total_s - spent_s) / round_s) + 1e-9


@given(times=WORLDS, order=ORDERS, share=st.sampled_from([0.05, 0.3, 0.6]))
def test_steady_statements_take_no_longer_in_all_than_the_servers_own_and_the_share(times, order, share):
    world = played(times, order, share=share)
    own_s = sum(times[sorted(times)[place % len(times)]]["server"] for place in order)
    assert world.total_s <= own_s / (1.0 - share) + 1e-6


@given(times=WORLDS, order=ORDERS, share=SHARES, cut=st.integers(0, 250))
def test_what_is_saved_goes_on_as_if_it_had_not_been(times, order, share, cut):
    world = played(times, order[:cut], share=share)
    again = PlanPolicy.from_state(world.policy.state(), world.policy.config, ARMS)
    assert digest(again.state()) == digest(world.policy.state())
    other = World(times, again, total_s=world.total_s, runs=list(world.runs))
    for place in order[cut:]:
        for one in (world, other):
            one.run(sorted(times)[place % len(times)])
    assert other.runs == world.runs
    assert digest(again.state()) == digest(world.policy.state())


@given(times=WORLDS, order=ORDERS, share=SHARES)
def test_the_same_calls_come_to_the_same(times, order, share):
    first, second = (played(times, order, share=share, noise=0.2) for _ in range(2))
    assert digest(first.policy.state()) == digest(second.policy.state())


@given(times=WORLDS, order=ORDERS, capacity=st.integers(1, 4))
def test_no_more_is_kept_than_there_is_room_for(times, order, capacity):
    world = played(times, order, share=1.0, capacity=capacity)
    policy = world.policy
    assert len(policy.units) <= capacity
    assert len(policy._wanted) <= capacity
    assert set(policy._rates) <= set(policy.units)
    assert policy.round_s == pytest.approx(sum(unit.server_s for unit in policy.units.values()), abs=1e-6)
    assert policy.saved_s == pytest.approx(sum(max(0.0, unit.saved_s) for unit in policy.units.values()), abs=1e-6)


@given(slower=st.floats(1.3, 2.9), server_s=st.floats(0.05, 3.0), share=st.sampled_from([0.05, 0.3, 1.0]))
def test_an_arm_slower_than_the_server_is_in_force_for_two_runs_at_most(slower, server_s, share):
    times = {"q": {"server": server_s, "a": 0.01 * server_s}}
    world = World(times, PlanPolicy(config(share), ARMS[:1]))
    for _ in range(150):
        world.run("q")
    assert world.policy.units["q"].incumbent == "a"
    times["q"]["a"] = slower * server_s
    before = len(world.runs)
    for _ in range(10):
        world.run("q")
    assert [arm for arm, _ in world.runs[before:]].count("a") <= 2
    assert world.policy.units["q"].incumbent == "server"


@given(server_s=st.floats(0.05, 3.0), factor=st.floats(0.02, 0.5), share=st.sampled_from([0.05, 0.3, 1.0]))
def test_a_server_that_has_become_faster_than_what_is_in_force_gets_its_statement_back(server_s, factor, share):
    times = {f"q{number}": {"server": server_s} for number in range(12)}
    times["q"] = {"server": server_s, "a": 0.2 * server_s}
    world = World(times, PlanPolicy(config(share), ARMS[:1]))
    for _ in range(60):
        for key in times:
            world.run(key)
    unit = world.policy.units["q"]
    assert unit.incumbent == "a"
    times["q"]["server"] = factor * times["q"]["a"]
    for _ in range(unit.next_check - unit.count + 16):
        for key in times:
            world.run(key)
    assert unit.incumbent == "server"
    assert world.runs[-1][0] == "server"


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_statement_that_has_changed_is_looked_at_anew(factor):
    times = {"q": {"server": 1.0, "a": 5.0, "b": 5.0, "c": 5.0, "d": 5.0}}
    world = World(times, PlanPolicy(config(1.0), ARMS))
    for _ in range(300):
        world.run("q")
    assert set(world.policy.units["q"].closed) == set("abcd")
    times["q"] = {"server": factor, "a": 0.1 * factor}
    for _ in range(300):
        world.run("q")
    assert world.policy.units["q"].incumbent == "a"


@given(seed=st.integers(0, 10_000), noise=st.sampled_from([0.05, 0.3]))
@settings(max_examples=25)
def test_where_arms_change_nothing_nothing_is_lost_but_the_share(seed, noise):
    times = {f"q{number}": dict.fromkeys(["server", *"abcd"], 0.02 * 2.0**number) for number in range(6)}
    world = World(times, PlanPolicy(config(), ARMS), noise, np.random.default_rng(seed))
    own_s = 0.0
    for _ in range(60):
        for key in times:
            world.run(key)
            own_s += times[key]["server"] * np.exp(0.5 * noise**2)
    assert world.total_s <= own_s * (1.0 / 0.95 + 4.0 * noise / np.sqrt(60))


@given(
    outcomes=st.lists(OUTCOMES, max_size=50),
    case=st.integers(0, 5),
    ratio=st.floats(0.0, 5.0),
)
def test_what_was_given_up_never_raises_a_chance_and_what_won_never_lowers_one(outcomes, case, ratio):
    cases = [Case(direction(str(one)), 0.3 * one, one % 2) for one in range(6)]
    odds = ArmOdds(WIDTH)
    for arm, place, time, is_censored in outcomes:
        odds.add(arm, cases[place], time, is_censored=is_censored)
    before = [odds.chances(ARMS[0], one) for one in cases]
    saved = odds.state()
    odds.add("a", cases[case], ratio, is_censored=True)
    for old, one in zip(before, cases, strict=True):
        assert (odds.chances(ARMS[0], one) <= old + 1e-6).all()
    odds = ArmOdds.from_state(saved, WIDTH)
    odds.add("a", cases[case], min(ratio, RATIOS[0]))
    for old, one in zip(before, cases, strict=True):
        chances = odds.chances(ARMS[0], one)
        assert (chances >= old - 1e-6).all()
        assert (chances[:-1] <= chances[1:] + 1e-6).all()


@given(gain=st.floats(0.01, 0.9), share=st.sampled_from([0.02, 0.05, 0.3]), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_statements_whose_values_never_come_again_cost_no_more_to_learn(gain, share, seed):
    rng, budget = np.random.default_rng(seed), Budget(share)
    families, longest_s = FamilyPolicy(config(share), budget, ARMS[:1]), 0.0
    for number in range(600):
        key = f"q{number}"
        choice = families.choose("f") if families.is_open("f", key) else Choice(SERVER, Purpose.SERVER)
        families.meet("f", key)
        time_s = (1.0 if choice.arm is SERVER else gain) * float(np.exp(0.1 * rng.normal()))
        longest_s = max(longest_s, time_s)
        if choice.timeout_s is not None and time_s > choice.timeout_s:
            families.abandon("f", choice, choice.timeout_s)
            budget.spend(choice.timeout_s, round_s=1.0, saved_s=0.0)
        else:
            families.finish("f", choice, time_s)
            budget.spend(time_s, round_s=1.0, saved_s=0.0)
        if families.wants_plan("f", EXPLAIN_S):
            families.describe("f", ("Nested Loop",))
        assert budget.explored_s <= share * budget.spent_s + 0.5 * longest_s
    assert gain > 0.7 or families.families["f"].incumbent == "a"


def test_a_statement_that_never_comes_again_does_not_stop_the_others():
    times = {"report": {"server": 60.0, "a": 5.0}, "page": {"server": 0.2, "a": 0.02}}
    world = World(times, PlanPolicy(config(), ARMS))
    for _ in range(3):
        world.run("report")
    for _ in range(400):
        world.run("page")
    assert world.policy.units["page"].incumbent == "a"


@pytest.mark.parametrize("others", [0, 20])
def test_a_statement_that_is_nearly_all_there_is_can_be_tried_on(others):
    times = {f"q{number}": {"server": 0.02, "a": 0.02} for number in range(others)}
    times["most"] = {"server": 5.0, "a": 0.1, "b": 9.0}
    world = World(times, PlanPolicy(config(), ARMS))
    for _ in range(100):
        before_s = world.total_s
        for key in times:
            world.run(key)
        assert world.total_s - before_s <= 1.1 * sum(one["server"] for one in times.values())
    assert world.policy.units["most"].incumbent == "a"


def test_what_costs_time_and_can_be_had_is_had():
    rng = np.random.default_rng(5)
    times = {}
    for number in range(40):
        server_s = float(np.exp(rng.normal(-3.0, 1.2)))
        times[f"q{number}"] = {
            "server": server_s,
            **{arm: server_s * float(np.exp(rng.normal(0.6, 1.0))) for arm in "abcd"},
        }
    best_s = sum(min(one.values()) for one in times.values())
    own_s = sum(one["server"] for one in times.values())
    world = World(times, PlanPolicy(config(), ARMS))
    passes = []
    for _ in range(60):
        before_s = world.total_s
        for key in times:
            world.run(key)
        passes.append(world.total_s - before_s)
    assert max(passes) <= 1.1 * own_s
    assert (own_s - passes[-1]) >= 0.5 * (own_s - best_s)
