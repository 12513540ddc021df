"""The engine of plans: what it answers, what it counts, and what it never does."""

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from tuner_scans import CONFIG, NO_LOOP, NO_SORT, WIDTH, plan, took

from sona.config.tuner import DagConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.state import State, digest
from sona.tuner.dag.engine import DagSonaEngine
from sona.tuner.dag.quality import AgainstDefault
from sona.tuner.dag.results import DefaultWithAdaptation, PatternApplied
from sona.tuner.execution import AttentionType, ExecutionParams

PLAN, OTHER = plan("orders"), plan("customers", 10**6)


def taught(config=CONFIG, *, times=8, **more):
    engine = DagSonaEngine(config, **more)
    for n in range(times):
        engine.post_query(PLAN, took(1.0), params=NO_LOOP, baseline_us=9e3, now=float(n))
    engine.run_background_cycle(force=True, now=10.0)
    return engine


@pytest.mark.parametrize("adapts", [False, True])
def test_without_data_it_is_always_the_servers_own_choice(adapts):
    engine = DagSonaEngine(replace(CONFIG, adapts=adapts))
    for asked in (PLAN, OTHER, plan(rows=5)):
        told = engine.pre_query(asked)
        assert isinstance(told, DefaultWithAdaptation)
        assert told.params.is_default
        assert (told.reason, told.pattern_id) == ("no pattern is known yet", None)
    assert engine.find_similar(PLAN) == ()


def test_a_pattern_that_is_sure_is_applied_to_plans_like_it_alone():
    engine = taught()
    told = engine.pre_query(PLAN)
    assert isinstance(told, PatternApplied)
    assert (told.params, told.pattern_id, told.similarity) == (NO_LOOP, 0, pytest.approx(1.0, abs=1e-6))
    assert told.confidence == pytest.approx(8 / 9)
    stranger = engine.pre_query(OTHER)
    assert isinstance(stranger, DefaultWithAdaptation)
    assert "alike, 0.9 is needed" in stranger.reason
    assert stranger.pattern_id == 0


def test_a_pattern_that_is_not_sure_yet_is_not_applied():
    told = taught(times=3).pre_query(PLAN)
    assert isinstance(told, DefaultWithAdaptation)
    assert told.reason == "its pattern is 0.75 sure, 0.8 is needed"


def test_settings_that_lose_against_the_default_are_never_applied():
    engine = DagSonaEngine(CONFIG)
    for _ in range(10):
        engine.post_query(PLAN, took(1.0), params=NO_LOOP, baseline_us=0.5e3)
        engine.post_query(PLAN, took(0.5))
    engine.run_background_cycle()
    told = engine.pre_query(PLAN)
    assert isinstance(told, PatternApplied)
    assert told.params.is_default


def test_what_worked_nearby_is_told_with_its_evidence():
    engine = taught()
    engine.post_query(PLAN, took(20.0), params=NO_SORT, baseline_us=9e3)
    engine.run_background_cycle(force=True)
    found = engine.find_similar(PLAN, 3)
    assert [(one.params, one.count) for one in found[0].tried] == [(NO_LOOP, 8), (NO_SORT, 1)]
    assert found[0].tried[0].mean_gain > 0 > found[0].tried[1].mean_gain


def test_asking_changes_nothing_and_asked_again_it_says_the_same():
    engine = taught(replace(CONFIG, epsilon=1.0))
    before = digest(engine.state())
    answers = {repr(engine.pre_query(OTHER)) for _ in range(5)}
    assert len(answers) == 1
    assert digest(engine.state()) == before
    kinds = set()
    for _ in range(30):
        kinds.add(engine.pre_query(OTHER).attention_type)
        engine.post_query(OTHER, took(1.0))
    assert len(kinds) > 3  # with epsilon 1 every choice is at random


def test_the_attention_that_pays_is_chosen():
    engine = DagSonaEngine(replace(CONFIG, ucb_c=0.0))
    for n, attention in enumerate(AttentionType):
        engine.post_query(PLAN.with_attention(attention), took(1.0 if n == 3 else 50.0))
    assert engine.pre_query(PLAN).attention_type is list(AttentionType)[3]


def test_each_execution_is_told_what_it_was_worth():
    engine = taught(objective=AgainstDefault())
    hit = engine.post_query(PLAN, took(1.0), params=NO_LOOP, baseline_us=3e3)
    assert (hit.quality, hit.gain, hit.is_hit, hit.is_adapted, hit.skipped_reason) == (0.75, 0.25, True, False, None)
    assert not engine.post_query(PLAN, took(1.0), params=NO_SORT, baseline_us=3e3).is_hit
    assert not engine.post_query(OTHER, took(1.0), params=NO_LOOP, baseline_us=3e3).is_hit
    assert engine.post_query(PLAN, took(1.0), params=NO_SORT).gain is None


def test_an_id_counts_once_also_after_a_restart():
    engine = DagSonaEngine(CONFIG)
    first = engine.post_query(PLAN, took(1.0), trajectory_id=40)
    again = engine.post_query(PLAN, took(9.0), trajectory_id=40)
    assert (first.trajectory_id, first.skipped_reason) == (40, None)
    assert again.skipped_reason == "its id was told before"
    engine = DagSonaEngine.from_state(engine.state(), CONFIG)
    assert engine.post_query(PLAN, took(9.0), trajectory_id=40).skipped_reason is not None
    assert engine.post_query(PLAN, took(1.0)).trajectory_id == 41
    assert engine.metrics().queries_processed == 2
    assert engine.run_background_cycle(force=True).trajectories == 2


def test_counters_tell_the_truth_also_after_a_restart():
    config = replace(CONFIG, trajectory_capacity=5)
    engine = taught(config)  # 8 told, 5 kept
    engine.post_query(PLAN, took(4.0), params=NO_LOOP)
    engine.post_query(PLAN, took(4.0), params=NO_SORT)
    assert engine.run_background_cycle().skipped_reason == "2 executions wait, 4 are needed"
    expected = {
        "queries_processed": 10,
        "pattern_hit_rate": 0.1,
        "avg_latency_us": 1600.0,
        "background_cycles": 1,
        "patterns_stored": 1,
        "trajectories_dropped": 3,
        "ewc_tasks": 0,
    }
    for one in (engine, DagSonaEngine.from_state(engine.state(), config)):
        told = json.loads(one.metrics().to_json())
        assert list(told) == list(expected)
        assert told == pytest.approx(expected)


def test_before_the_first_query_the_counters_are_zero():
    assert set(json.loads(DagSonaEngine(CONFIG).metrics().to_json()).values()) == {0}


def test_hits_reach_their_pattern_in_the_next_cycle():
    engine = taught()
    for _ in range(5):
        engine.post_query(PLAN, took(1.0), params=NO_LOOP, baseline_us=9e3)
    engine.run_background_cycle(force=True, now=20.0)
    assert engine.bank.get(0).learned.access_count == 5


@pytest.mark.parametrize("adapts", [False, True])
def test_the_same_seed_gives_the_same_state(adapts):
    def states():
        engine, rng = DagSonaEngine(replace(CONFIG, adapts=adapts, seed=3)), np.random.default_rng(0)
        for n in range(60):
            told = engine.pre_query((PLAN, OTHER)[n % 2])
            params = (told.params, NO_LOOP, NO_SORT)[n % 3]
            engine.post_query((PLAN, OTHER)[n % 2], took(float(rng.uniform(1, 9))), params=params, baseline_us=5e3)
            if n % 20 == 19:
                engine.run_background_cycle(now=float(n))
        return digest(engine.state())

    assert states() == states()


def test_a_cycle_that_fails_changes_nothing_and_its_executions_wait():
    broken = []
    engine = DagSonaEngine(CONFIG, objective=lambda metrics, baseline_us: math.nan if broken else 0.8)
    for _ in range(6):
        engine.post_query(PLAN, took(1.0), params=NO_LOOP)
    before = digest(engine.state())
    broken.append(True)
    with pytest.raises(InvalidValue, match="quality"):
        engine.run_background_cycle()
    assert digest(engine.state()) == before
    broken.clear()
    assert engine.run_background_cycle().trajectories == 6


def test_a_cycle_that_is_given_up_changes_nothing():
    engine = taught()
    for _ in range(6):
        engine.post_query(PLAN, took(1.0), params=NO_LOOP)
    before = digest(engine.state())
    asked = iter([False, False, True])
    result = engine.run_background_cycle(is_stopping=lambda: next(asked))
    assert (result.trajectories, result.skipped_reason) == (0, "the cycle was given up; nothing was changed")
    assert digest(engine.state()) == before


def test_what_comes_while_a_cycle_runs_waits_for_the_next():
    engine, told = DagSonaEngine(CONFIG), []

    def objective(metrics, baseline_us):
        if engine._cycling.locked() and not told:
            told.append(True)
            told.append(engine.run_background_cycle().skipped_reason)
            engine.post_query(OTHER, took(1.0))
        return 0.8

    engine.objective = objective
    for _ in range(6):
        engine.post_query(PLAN, took(1.0))
    assert engine.run_background_cycle().trajectories == 6
    assert told[1] == "another cycle is running"
    assert engine.run_background_cycle(force=True).trajectories == 1
    assert engine.metrics().patterns_stored == 2


def test_a_change_of_what_settings_are_worth_is_seen_and_undone():
    engine = taught(times=40)
    for _ in range(12):
        engine.post_query(PLAN, took(900.0), params=NO_LOOP, baseline_us=9e3)
    result = engine.run_background_cycle()
    assert [shift.test.is_fall for shift in result.shifts] == [True]
    told = engine.pre_query(PLAN)
    assert isinstance(told, DefaultWithAdaptation)
    assert told.confidence == 0.0


def test_the_adapter_learns_at_once_and_the_cycle_says_what_was_protected():
    config = replace(CONFIG, adapts=True, micro_learning_rate=0.5)
    engine, near = DagSonaEngine(config), plan("orders", 1000)
    for _ in range(4):
        engine.post_query(PLAN, took(1.0), params=NO_LOOP, baseline_us=9e3)
        engine.post_query(near, took(1.0), params=NO_SORT, baseline_us=9e3)
    engine.run_background_cycle()
    assert len(engine.bank) == 2
    before = {
        one.params.settings["enable_sort"]: one.similarity for one in engine.find_similar(PLAN) if one.params == NO_SORT
    }
    moved = [engine.post_query(PLAN, took(1.0), params=NO_SORT, baseline_us=9e3).is_adapted for _ in range(5)]
    assert all(moved)
    after = {
        one.params.settings["enable_sort"]: one.similarity for one in engine.find_similar(PLAN) if one.params == NO_SORT
    }
    assert after["off"] > before["off"]
    update = engine.run_background_cycle().ewc
    assert (update.fisher.updated, update.fisher.examples) == (True, 5)


def test_switched_off_the_adapter_stays_as_it_was():
    engine = taught()
    assert not engine.adapter.micro.weights.b.any()
    engine.post_query(PLAN, took(1.0), params=NO_LOOP, baseline_us=9e3)
    assert engine.run_background_cycle(force=True).ewc.skipped_reason == "the adapter is switched off"


@pytest.mark.parametrize(
    "more",
    [
        {"baseline_us": -1.0},
        {"baseline_us": math.nan},
        {"now": math.inf},
        {"trajectory_id": -1},
        {"params": ExecutionParams(custom={"work_mem": 4})},
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(more):
    engine = taught()
    before = digest(engine.state())
    with pytest.raises(InvalidValue):
        engine.post_query(PLAN, took(1.0), **more)
    wide = plan(width=WIDTH * 2)
    for refused in (lambda: engine.post_query(wide, took(1.0)), lambda: engine.pre_query(wide)):
        with pytest.raises(DimensionMismatch):
            refused()
    with pytest.raises(InvalidValue):
        engine.run_background_cycle(now=math.nan)
    assert digest(engine.state()) == before


def test_an_objective_that_gives_no_quality_is_refused_at_once():
    engine = DagSonaEngine(CONFIG, objective=lambda metrics, baseline_us: 1.5)
    with pytest.raises(InvalidValue, match="quality"):
        engine.post_query(PLAN, took(1.0))
    assert engine.metrics().queries_processed == 0


def test_eight_threads_lose_no_count_and_ask_while_cycles_run():
    engine = DagSonaEngine(replace(CONFIG, trajectory_capacity=10_000))
    errors = []

    def work(number):
        try:
            for _ in range(40):
                engine.pre_query((PLAN, OTHER)[number % 2])
                engine.post_query((PLAN, OTHER)[number % 2], took(1.0), params=NO_LOOP, baseline_us=2e3)
                if number == 0:
                    engine.run_background_cycle()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test has to say it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.run_background_cycle(force=True)
    assert errors == []
    assert engine.metrics().queries_processed == 320
    assert sum(one.learned.cluster_size for one in engine.bank.patterns) == 320


def test_a_state_of_another_width_or_with_counters_that_cannot_be_is_refused():
    state = taught().state()
    with pytest.raises(StoreError):
        DagSonaEngine.from_state(state, replace(CONFIG, hidden_dim=WIDTH * 2))
    for name, value in {"queries": -1, "hit_count": -1, "cycles": -1, "latency_us": -1.0}.items():
        with pytest.raises(StoreError, match="counters"):
            DagSonaEngine.from_state(State({**dict(state.items()), name: value}), CONFIG)


@pytest.mark.parametrize(
    "settings",
    [{"adapts": 1}, {"micro_rank": 3}, {"micro_learning_rate": 0.0}, {"min_trajectories": 0}, {"shift_history": 19}],
)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        DagConfig(**settings)
