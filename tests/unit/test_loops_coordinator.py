"""LoopCoordinator: Loop A on every trajectory, Loop B when it is due."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.config import BackgroundConfig, EwcConfig, InstantConfig, PatternConfig
from sona.errors import DimensionMismatch, PatternExtractionError, StateError, StoreError
from sona.loops.adapters import LoopCheckpoint
from sona.loops.background import BackgroundLoop
from sona.loops.coordinator import LoopCoordinator
from sona.loops.instant import InstantLoop
from sona.patterns.bank import ReasoningBank
from sona.retention.ewc import EwcPlusPlus
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 4
RNG = np.random.default_rng(0)
TARGETS = RNG.normal(size=(50, D)).astype(np.float32)
QUERIES = RNG.normal(size=(50, D)).astype(np.float32)


def trajectory(number: int, quality: float = 1.0) -> QueryTrajectory:
    return QueryTrajectory(number, QUERIES[number % 50], (TrajectoryStep(TARGETS[number % 50]),), quality)


def clicked(number: int) -> QueryTrajectory:
    steps = (TrajectoryStep(TARGETS[number % 50], reward=1.0), TrajectoryStep(TARGETS[(number + 1) % 50], reward=0.0))
    return QueryTrajectory(number, QUERIES[number % 50], steps, alternatives=True)


def coordinator(capacity=100, flush_threshold=1, **settings) -> LoopCoordinator:
    micro = MicroLoRA(D, 1)
    ewc = EwcPlusPlus(EwcConfig(param_count=micro.param_count))
    instant = InstantConfig(trajectory_capacity=capacity, flush_threshold=flush_threshold)
    background = BackgroundConfig(**{"interval_s": 10.0, "min_trajectories": 5, **settings})
    bank = ReasoningBank(PatternConfig(min_cluster_size=2), hidden_dim=D)
    return LoopCoordinator(InstantLoop(micro, ewc, instant), BackgroundLoop(bank, BaseLoRA(D, 2, 1), ewc, background))


def feed(loops: LoopCoordinator, numbers) -> None:
    for number in numbers:
        loops.on_trajectory(trajectory(number))


def test_the_first_tick_starts_the_interval():
    loops = coordinator()
    feed(loops, range(5))
    assert loops.tick(100.0).background is None
    assert not loops.is_due(109.9)
    assert loops.is_due(110.0)
    result = loops.tick(110.0)
    assert result.background is not None
    assert result.background.trajectories == 5
    assert (result.reason, result.waiting) == (None, 0)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_trajectories_wait_and_are_never_thrown_away(count):
    loops = coordinator()
    feed(loops, range(count))
    for now in (0.0, 20.0, 40.0, 60.0):
        result = loops.tick(now)
        assert result.background is None
        assert result.waiting == loops.waiting_count == count
    feed(loops, range(count, 5))
    assert loops.tick(61.0).background.trajectories == 5


def test_a_cycle_starts_the_interval_again():
    loops = coordinator()
    loops.tick(0.0)
    feed(loops, range(5))
    assert loops.tick(10.0).background is not None
    feed(loops, range(5, 10))
    assert loops.tick(19.0).background is None
    assert loops.tick(20.0).background is not None


def test_a_cycle_run_by_hand_also_starts_the_interval_again():
    loops = coordinator()
    loops.tick(0.0)
    feed(loops, range(5))
    loops.run_background(now=9.0)
    feed(loops, range(5, 10))
    assert loops.tick(12.0).background is None
    assert loops.waiting_count == 5


def test_a_skipped_cycle_says_why_and_keeps_everything():
    loops = coordinator()
    feed(loops, range(3))
    result = loops.run_background(now=0.0)
    assert "3 of 5" in result.skipped_reason
    assert loops.waiting_count == 3
    assert loops.run_background(now=0.0, force=True).trajectories == 3
    assert loops.run_background(now=0.0, force=True).skipped_reason == "no new trajectories"


def test_handing_over_never_holds_more_than_the_buffer_may():
    loops = coordinator(capacity=4, min_trajectories=100)
    for start in range(0, 20, 4):
        feed(loops, range(start, start + 4))
        loops.run_background(now=0.0)
    assert loops.waiting_count == 8  # four wait for Loop B, four in the buffer, the rest was refused and counted
    assert loops.instant.metrics().dropped == 12
    assert loops.run_background(now=0.0, force=True).trajectories == 4
    assert loops.run_background(now=0.0, force=True).trajectories == 4
    assert loops.waiting_count == 0


def test_a_cycle_in_three_steps_is_a_cycle_in_one():
    apart, at_once = coordinator(), coordinator()
    for loops in (apart, at_once):
        feed(loops, range(6))
    result = apart.commit(apart.compute(apart.begin(now=3.0)), now=3.0)
    assert repr(result) == repr(at_once.run_background(now=3.0))
    assert digest(apart.state()) == digest(at_once.state())


def test_a_cycle_is_the_same_computed_while_a_thread_goes_on_learning():
    loops = coordinator(capacity=10_000)
    feed(loops, range(6))
    loops.run_background(now=0.0)
    feed(loops, range(6, 40))
    begun = loops.begin(now=1.0)
    alone = loops.compute(begun)
    stop, fed = threading.Event(), []

    def learn() -> None:
        for number in range(40, 9_000):
            loops.on_trajectory(trajectory(number, quality=0.1 * (number % 10)))
            fed.append(number)
            if stop.is_set():
                return

    thread = threading.Thread(target=learn)
    thread.start()
    while not fed:
        pass
    changes = [loops.compute(begun) for _ in range(5)]
    stop.set()
    thread.join()
    for change in changes:
        assert repr(change.result) == repr(alone.result)
        assert digest(change.after.state()) == digest(alone.after.state())
        assert digest(change.bank.state()) == digest(alone.bank.state())
    assert loops.commit(changes[0], now=2.0).trajectories == 34
    assert loops.waiting_count == len(fed)


def test_a_rejected_cycle_is_never_tried_again_and_starts_the_interval_anew():
    loops = coordinator()
    loops.tick(0.0)
    feed(loops, range(6))
    before = loops.adapters
    result = loops.reject(loops.compute(loops.begin(now=10.0)), now=10.0)
    assert "rejected" in result.skipped_reason
    assert loops.adapters is before
    assert (loops.background.version, loops.background.rejected_count, loops.waiting_count) == (0, 1, 0)
    feed(loops, range(6, 12))
    assert loops.tick(19.0).background is None
    assert loops.tick(20.0).background.trajectories == 6
    again = LoopCoordinator.from_state(loops.state(), loops.instant.config, loops.background.config)
    assert (again.background.rejected_count, again.background.discarded_count) == (1, 6)


def test_rejecting_a_skipped_cycle_leaves_the_interval_alone():
    loops = coordinator()
    loops.tick(0.0)
    feed(loops, range(3))
    assert "3 of 5" in loops.reject(loops.compute(loops.begin(now=9.0)), now=9.0).skipped_reason
    feed(loops, range(3, 6))
    assert loops.tick(10.0).background.trajectories == 6


def test_what_loop_a_learned_of_a_rejected_batch_stays_until_the_next_commit():
    loops = coordinator()
    feed(loops, range(6))
    learned = loops.adapters.forward(QUERIES)
    loops.reject(loops.compute(loops.begin(now=0.0)), now=0.0)
    assert (loops.adapters.forward(QUERIES) == learned).all()
    feed(loops, range(6, 12))
    loops.run_background(now=1.0)
    assert not loops.adapters.micro.delta(QUERIES).any()
    assert loops.background.statistics.count == 6


def test_a_refused_commit_changes_nothing():
    loops = coordinator()
    feed(loops, range(6))
    change = loops.compute(loops.begin(now=0.0))
    loops.reject(change, now=1.0)
    feed(loops, [7])
    before = digest(loops.state())
    for end in (loops.commit, loops.reject):
        with pytest.raises(StateError, match="run the cycle again"):
            end(change, now=5.0)
    assert digest(loops.state()) == before


def test_a_failing_cycle_loses_nothing_and_can_be_repeated(monkeypatch):
    loops = coordinator()
    feed(loops, range(6))
    loops.begin(now=0.0)  # what Loop A recorded is handed over, whatever becomes of the cycle
    before = learned(loops)

    def fail(*_, **__):
        raise PatternExtractionError("no")

    monkeypatch.setattr(ReasoningBank, "extract_patterns", fail)
    with pytest.raises(PatternExtractionError):
        loops.run_background(now=1.0)
    monkeypatch.undo()
    assert learned(loops) == before
    assert loops.run_background(now=1.0).trajectories == 6


def learned(loops: LoopCoordinator) -> str:
    """Return the digest of everything but when each loop ran."""
    return digest(State({name: value for name, value in loops.state().items() if name != "schedule"}))


def both_ways(made_of) -> tuple[LoopCoordinator, LoopCoordinator]:
    """Six trajectories, a cycle, and three more: while the cycle was computed, and after it."""
    meanwhile, afterwards = coordinator(), coordinator()
    for loops in (meanwhile, afterwards):
        for number in range(6):
            loops.on_trajectory(made_of(number))
    change = meanwhile.compute(meanwhile.begin(now=0.0))
    for number in range(6, 9):
        meanwhile.on_trajectory(made_of(number))
    meanwhile.commit(change, now=0.0)
    afterwards.run_background(now=0.0)
    for number in range(6, 9):
        afterwards.on_trajectory(made_of(number))
    return meanwhile, afterwards


def test_what_came_while_a_cycle_ran_is_learned_on_top_of_it():
    meanwhile, afterwards = both_ways(clicked)
    wanted = afterwards.instant.micro.delta(QUERIES)
    assert np.abs(wanted).max() > 1e-3
    # A has moved a little further meanwhile, no more.
    np.testing.assert_allclose(meanwhile.instant.micro.delta(QUERIES), wanted, atol=0.02 * np.abs(wanted).max())
    assert (meanwhile.adapters.base.delta(0, QUERIES) == afterwards.adapters.base.delta(0, QUERIES)).all()
    assert meanwhile.waiting_count == afterwards.waiting_count == 3


@pytest.mark.parametrize("made_of", [trajectory, clicked])
def test_what_came_while_a_cycle_ran_is_counted_once(made_of):
    meanwhile, afterwards = both_ways(made_of)
    assert meanwhile.instant.baseline.value == afterwards.instant.baseline.value
    one, other = meanwhile.instant.metrics(), afterwards.instant.metrics()
    assert (one.recorded, one.pushes, one.silent) == (other.recorded, other.pushes, other.silent) == (9, 9, 0)


@pytest.mark.parametrize("flush_threshold", [4, 100])
def test_signals_that_wait_across_a_cycle_are_learned_once(flush_threshold):
    loops, apart = coordinator(flush_threshold=flush_threshold), coordinator(flush_threshold=flush_threshold)
    for number in range(6):
        loops.on_trajectory(clicked(number))
        apart.on_trajectory(clicked(number))
    change = loops.compute(loops.begin(now=0.0))
    loops.on_trajectory(clicked(6))
    loops.commit(change, now=0.0)
    apart.run_background(now=0.0)
    apart.on_trajectory(clicked(6))
    assert loops.instant.micro.pending_updates == apart.instant.micro.pending_updates == 1
    loops.instant.flush()
    apart.instant.flush()
    np.testing.assert_allclose(loops.adapters.forward(QUERIES), apart.adapters.forward(QUERIES), atol=1e-6)


def test_both_adapters_change_at_once_and_a_reader_keeps_its_pair():
    loops = coordinator()
    feed(loops, range(6))
    held = loops.adapters
    before = held.forward(QUERIES)
    loops.run_background(now=0.0)
    assert loops.adapters is not held
    assert (held.forward(QUERIES) == before).all()
    assert not np.allclose(loops.adapters.forward(QUERIES), before)
    assert loops.adapters.micro is loops.instant.micro
    assert loops.adapters.base is loops.background.base


def test_loop_b_constrains_loop_a_by_what_it_protects():
    loops = coordinator()
    feed(loops, range(6))
    loops.run_background(now=0.0)
    assert loops.instant.ewc is loops.background.ewc


def lived(loops: LoopCoordinator, numbers, every: int = 50) -> LoopCoordinator:
    for number in numbers:
        loops.on_trajectory(clicked(number) if number % 3 else trajectory(number, quality=0.1 * (number % 10)))
        if number % every == every - 1:
            loops.run_background(now=float(number))
    return loops


def decisive(loops: LoopCoordinator) -> str:
    values = dict(loops.checkpoint().state().items())
    micro = {name: value for name, value in values["micro"].items() if name not in ("applied", "skipped")}
    return digest(State({**values, "micro": State(micro)}))


@pytest.mark.parametrize("count", [0, 30, 120])
def test_restoring_what_was_just_kept_changes_nothing(count):
    loops = lived(coordinator(), range(count))
    before = digest(loops.state())
    loops.restore(loops.checkpoint())
    assert digest(loops.state()) == before


def test_signals_that_wait_are_dropped_by_a_restore_and_nothing_else_is():
    loops = lived(coordinator(flush_threshold=10), range(64))
    before = dict(loops.state().items())
    assert loops.instant.micro.pending_updates > 0
    loops.restore(loops.checkpoint())
    assert loops.instant.micro.pending_updates == 0
    after = dict(loops.state().items())
    assert digest(after.pop("background")) == digest(before.pop("background"))
    kept = [dict(values.pop("instant").items()) for values in (before, after)]
    micros = [{n: v for n, v in part.pop("micro").items() if n not in ("pending", "sum")} for part in kept]
    assert digest(State(after)) == digest(State(before))
    assert digest(State(kept[0])) == digest(State(kept[1]))
    assert digest(State(micros[0])) == digest(State(micros[1]))


@pytest.mark.parametrize("is_saved", [False, True])
def test_restored_loops_answer_and_learn_as_at_the_checkpoint_and_their_counters_go_on(is_saved):
    loops, same = lived(coordinator(), range(130)), lived(coordinator(), range(130))
    kept, before, answers = loops.checkpoint(), decisive(loops), loops.adapters.forward(QUERIES)
    if is_saved:
        kept = LoopCheckpoint.from_state(kept.state())
    as_kept = digest(kept.state())
    lived(loops, range(130, 1_130))
    state, metrics = dict(loops.state().items()), loops.instant.metrics()
    bank, version = digest(loops.background.bank.state()), loops.background.version
    assert decisive(loops) != before
    loops.restore(kept)
    assert decisive(loops) == before
    assert (loops.adapters.forward(QUERIES) == answers).all()
    assert (loops.adapters.micro, loops.adapters.base) == (loops.instant.micro, loops.background.base)
    assert loops.instant.ewc is loops.background.ewc
    assert loops.instant.metrics() == metrics
    assert digest(loops.background.bank.state()) == bank
    after = dict(loops.state().items())
    assert digest(after["schedule"]) == digest(state["schedule"])
    assert digest(after["instant"].child("buffer")) == digest(state["instant"].child("buffer"))
    for counter in ("version", "cycles", "learned", "rejected", "discarded"):
        assert after["background"].whole(counter) == state["background"].whole(counter)
    for each in (loops, same):
        lived(each, range(2_000, 2_020))
    assert (loops.adapters.forward(QUERIES) == same.adapters.forward(QUERIES)).all()
    assert loops.run_background(now=3_000.0).version == version + 1
    assert digest(kept.state()) == as_kept


def test_what_was_learned_since_a_checkpoint_is_neither_learned_again_nor_taken_back():
    loops = lived(coordinator(), range(50))
    kept = loops.checkpoint()
    lived(loops, range(50, 100))
    loops.restore(kept)
    assert loops.run_background(now=200.0, force=True).skipped_reason == "no new trajectories"
    before = loops.background.statistics.count
    since = clicked(61)
    steps = tuple(step.with_reward(1.0 - (step.reward or 0.0)) for step in since.steps)
    loops.on_trajectory(replace(since, steps=steps, supersedes=since))
    loops.run_background(now=201.0, force=True)
    assert loops.background.statistics.count == before + 1
    untouched = lived(coordinator(), range(50))
    untouched.on_trajectory(replace(since, steps=steps))
    untouched.run_background(now=201.0, force=True)
    one, other = (each.background.statistics.state() for each in (loops, untouched))
    np.testing.assert_allclose(one.doubles("cross", D, D), other.doubles("cross", D, D), atol=1e-9)


def test_a_cycle_begun_before_a_restore_cannot_be_ended_after_it():
    loops = coordinator()
    feed(loops, range(6))
    change = loops.compute(loops.begin(now=0.0))
    loops.restore(loops.checkpoint())
    before = digest(loops.state())
    for end in (loops.commit, loops.reject):
        with pytest.raises(StateError, match="run the cycle again"):
            end(change, now=0.0)
    assert digest(loops.state()) == before
    assert loops.run_background(now=0.0).trajectories == 6


def test_a_checkpoint_shares_what_cycles_learned():
    loops = lived(coordinator(), range(100))
    assert loops.checkpoint().in_force is loops.background.in_force
    kept = loops.checkpoint()
    loops.restore(kept)
    assert loops.background.statistics is kept.in_force.statistics


def test_a_checkpoint_of_other_sizes_is_refused_and_changes_nothing():
    loops = lived(coordinator(), range(60))
    before = digest(loops.state())
    kept = loops.checkpoint()
    wider, larger = MicroLoRA(D + 1, 1), MicroLoRA(D, 2)
    in_force = kept.in_force
    for broken in (
        replace(kept, micro=wider),
        replace(kept, micro=larger),
        replace(kept, in_force=replace(in_force, base=BaseLoRA(D + 1, 1, 1))),
        replace(kept, in_force=replace(in_force, ewc=EwcPlusPlus(EwcConfig(param_count=larger.param_count)))),
    ):
        with pytest.raises(DimensionMismatch):
            loops.restore(broken)
        with pytest.raises(StoreError):
            LoopCheckpoint.from_state(broken.state())
    assert digest(loops.state()) == before


def test_the_clock_of_cycles_survives_a_restart():
    loops = coordinator()
    loops.tick(50.0)
    feed(loops, range(5))
    config = loops.instant.config, loops.background.config
    again = LoopCoordinator.from_state(loops.state(), *config)
    assert digest(again.state()) == digest(loops.state())
    assert again.tick(59.0).background is None
    assert again.tick(60.0).background.trajectories == 5


def test_loops_over_adapters_of_different_sizes_do_not_load():
    loops = coordinator()
    values = dict(loops.state().items())
    other = InstantLoop(MicroLoRA(D + 1, 1))
    with pytest.raises(StoreError):
        LoopCoordinator.from_state(State({**values, "instant": other.state()}))
    other = InstantLoop(MicroLoRA(D, 2))
    with pytest.raises(StoreError):
        LoopCoordinator.from_state(State({**values, "instant": other.state()}))
