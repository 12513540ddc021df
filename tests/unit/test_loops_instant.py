"""InstantLoop: what one request teaches, at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal
from sona.config import EwcConfig, InstantConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.loops.instant import InstantLoop
from sona.retention.ewc import EwcPlusPlus
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 4
X = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
UP = np.array([0.0, 1.0, 0.0, 0.0], np.float32)
SIDE = np.array([0.0, 0.0, 1.0, 0.0], np.float32)


def outcome(number=1, *, quality=1.0, x=X, towards=UP, **more) -> QueryTrajectory:
    return QueryTrajectory(number, x, (TrajectoryStep(towards),), quality, **more)


def clicked(number=1, rewards=(1.0, 0.0), x=X) -> QueryTrajectory:
    steps = tuple(TrajectoryStep(v, reward=r) for v, r in zip((UP, SIDE), rewards, strict=True))
    return QueryTrajectory(number, x, steps, alternatives=True)


def loop(**settings) -> InstantLoop:
    return InstantLoop(MicroLoRA(D, 2, seed=3), config=InstantConfig(**settings))


def test_one_outcome_moves_the_adapter_as_its_signal_says():
    made, by_hand = loop(learning_rate=0.1), MicroLoRA(D, 2, seed=3)
    result = made.on_trajectory(outcome())
    by_hand.accumulate_gradient(LearningSignal.from_trajectory(outcome(), baseline=0.5))
    by_hand.apply_accumulated(0.1)
    assert (result.recorded, result.is_push, result.applied, result.skipped_reason) == (True, True, 1, None)
    assert (made.micro.flat() == by_hand.flat()).all()
    assert made.micro.forward(X) @ UP > 0.0


def test_a_good_outcome_pulls_and_a_bad_one_pushes_away():
    good, bad, clicks = loop(), loop(), loop()
    good.on_trajectory(outcome(quality=1.0))
    bad.on_trajectory(outcome(quality=0.0))
    clicks.on_trajectory(clicked())
    assert good.micro.forward(X) @ UP > 0.0 > bad.micro.forward(X) @ UP
    assert clicks.micro.forward(X) @ UP > clicks.micro.forward(X) @ SIDE


@pytest.mark.parametrize(
    "silent",
    [
        QueryTrajectory(1, X),
        QueryTrajectory(1, X, final_quality=1.0),
        QueryTrajectory(1, X, (TrajectoryStep(UP),)),
        clicked(rewards=(0.0, 0.0)),
        clicked(rewards=(0.2, 0.1)),
    ],
)
def test_a_silent_trajectory_is_recorded_counted_and_teaches_nothing(silent):
    made = loop()
    before = made.micro.flat()
    result = made.on_trajectory(silent)
    assert (result.recorded, result.is_push, result.applied) == (True, False, 0)
    assert result.skipped_reason == "nothing to learn: no step or no reward"
    assert (made.micro.flat() == before).all()
    assert (made.metrics().recorded, made.metrics().silent, made.metrics().pushes) == (1, 1, 0)


@pytest.mark.parametrize("settings", [{"flush_threshold": 3}, {"flush_threshold": 100, "max_pending_signals": 3}])
def test_signals_wait_for_the_threshold_and_move_the_adapter_by_their_mean(settings):
    made, by_hand = loop(**settings), MicroLoRA(D, 2, seed=3)
    results = [made.on_trajectory(clicked(number)) for number in range(3)]
    assert [result.applied for result in results] == [0, 0, 3]
    assert results[0].skipped_reason == "waiting for more signals"
    for number in range(3):
        by_hand.accumulate_gradient(LearningSignal.from_trajectory(clicked(number)))
    by_hand.apply_accumulated(made.config.learning_rate)
    np.testing.assert_allclose(made.micro.flat(), by_hand.flat(), atol=1e-7)


def test_waiting_signals_are_applied_on_demand():
    made = loop(flush_threshold=10)
    made.on_trajectory(outcome())
    assert made.metrics().pending == 1
    assert made.flush() == 1
    assert made.flush() == 0
    assert (made.metrics().pending, made.metrics().applied) == (0, 1)
    assert made.micro.forward(X) @ UP > 0.0


def test_a_switched_off_adapter_stays_and_says_so_while_trajectories_are_recorded():
    made = loop(learns=False)
    result = made.on_trajectory(outcome())
    assert (result.recorded, result.is_push, result.applied) == (True, True, 0)
    assert result.skipped_reason == "the micro adapter is switched off"
    assert (made.micro.forward(X) == X).all()
    assert (made.metrics().pushes, made.metrics().silent, made.metrics().pending) == (1, 0, 0)


def test_a_step_that_would_diverge_is_dropped_counted_and_said():
    made = loop(learning_rate=1e9)
    before = made.micro.flat()
    result = made.on_trajectory(outcome())
    assert (result.applied, result.skipped_reason) == (0, "the step would have diverged")
    assert (made.micro.flat() == before).all()
    assert (made.metrics().rejected, made.metrics().pending, made.metrics().applied) == (1, 0, 0)


def test_a_gradient_that_overflows_is_dropped_and_the_request_still_counts():
    made = loop(flush_threshold=100)
    huge = outcome(x=np.full(D, 9e18, np.float32))
    for number in range(3):
        made.on_trajectory(replace(huge, id=number))
    metrics = made.metrics()
    assert metrics.recorded == metrics.pushes == 3
    assert metrics.rejected + metrics.pending == 3
    assert metrics.rejected > 0


def test_a_full_buffer_drops_the_newest_counts_it_and_still_learns():
    made = loop(trajectory_capacity=2)
    assert [made.on_trajectory(outcome(number)).recorded for number in range(4)] == [True, True, False, False]
    metrics = made.metrics()
    assert (metrics.recorded, metrics.dropped, metrics.waiting, metrics.applied) == (2, 2, 2, 4)
    assert [trajectory.id for trajectory in made.drain()] == [0, 1]
    assert made.metrics().waiting == 0


def test_the_baseline_follows_outcomes_of_sequences_alone():
    made = loop()
    made.on_trajectory(clicked())
    made.on_trajectory(outcome(quality=None))
    made.on_trajectory(replace(clicked(2), final_quality=1.0))
    assert made.baseline.value == 0.5
    made.on_trajectory(outcome(2, quality=1.0))
    assert made.baseline.value > 0.5
    held = made.baseline.value
    made.on_trajectory(replace(outcome(2, quality=0.0), supersedes=outcome(2, quality=1.0)))
    assert made.baseline.value == held


def test_an_amended_outcome_teaches_the_difference():
    made, alone = loop(), loop()
    first = clicked(1, (1.0, 0.0))
    made.on_trajectory(first)
    made.on_trajectory(replace(clicked(1, (0.0, 1.0)), supersedes=first))
    alone.on_trajectory(clicked(1, (0.0, 1.0)))
    wanted = alone.micro.delta(X)
    # A second step starts from moved weights: equal up to terms of the order of the learning rate.
    np.testing.assert_allclose(made.micro.delta(X), wanted, atol=0.05 * np.abs(wanted).max())
    assert made.micro.forward(X) @ SIDE > made.micro.forward(X) @ UP


def test_learning_again_after_a_fold_moves_the_adapter_and_counts_nothing_twice():
    made = loop()
    for number in range(3):
        made.on_trajectory(outcome(number, quality=0.9))
    before, baseline = made.metrics(), made.baseline.value
    made.micro.fold()
    for trajectory in made.buffer.snapshot():
        made.relearn(trajectory)
    after = made.metrics()
    assert made.micro.forward(X) @ UP > 0.0
    assert made.baseline.value == baseline
    assert (after.recorded, after.waiting, after.pushes, after.silent) == (
        before.recorded,
        before.waiting,
        before.pushes,
        before.silent,
    )


def test_finished_tasks_hold_the_adapter_back():
    free, held = loop(learning_rate=0.05), loop(learning_rate=0.05)
    ewc = EwcPlusPlus(EwcConfig(param_count=held.micro.param_count, strength=15_000.0))
    held.ewc = ewc
    ewc.update_fisher(np.ones((1, ewc.param_count), np.float32))
    assert ewc.start_new_task(held.micro.flat()).closed
    start = held.micro.flat()
    for made in (free, held):
        made.on_trajectory(outcome())
    moved, moved_held = np.abs(free.micro.flat() - start).max(), np.abs(held.micro.flat() - start).max()
    # With F = 1 the implicit step is the free step / (1 + eta lambda).
    assert moved_held == pytest.approx(moved / (1.0 + 0.05 * 15_000.0), rel=1e-3)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("made_of", [outcome, clicked])
def test_a_trajectory_of_another_width_is_refused_and_changes_nothing(learns, made_of):
    made = loop(learns=learns)
    before = digest(made.state())
    steps = (TrajectoryStep(np.ones(3)),)
    with pytest.raises(DimensionMismatch):
        made.on_trajectory(replace(made_of(), query_embedding=np.ones(3), steps=steps))
    assert digest(made.state()) == before


def test_nothing_but_a_trajectory_can_be_recorded():
    with pytest.raises(InvalidValue):
        loop().buffer.record("a request")


def test_waiting_trajectories_of_another_width_do_not_load():
    made, other = loop(), InstantLoop(MicroLoRA(3, 2))
    made.on_trajectory(outcome())
    values = dict(made.state().items())
    with pytest.raises(StoreError, match="width"):
        InstantLoop.from_state(State({**values, "micro": other.micro.state()}))
