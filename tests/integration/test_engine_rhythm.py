"""Four simulated weeks of an engine: every loop runs when it should, nothing is lost, failures stay apart."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest

from sona.config import DeepConfig, GuardConfig, ScheduleConfig, SonaConfig
from sona.engine import SonaEngine
from sona.errors import LearningError
from sona.loops.background import BackgroundLoop
from sona.loops.deep import DeepLoop
from sona.stores import MemoryStore

HOUR, DAY, WEEK = 3600.0, 86_400.0, 604_800.0
RNG = np.random.default_rng(0)
MEMORIES = RNG.normal(size=(40, 8)).astype(np.float32)
REQUESTS = RNG.normal(size=(30, 8)).astype(np.float32)
CONFIG = SonaConfig(
    hidden_dim=8,
    min_trajectories=5,
    guard=GuardConfig(holdout=0.0),
    deep=DeepConfig(dreams=5),
    schedule=ScheduleConfig(quiet_hours=(2, 5)),
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def alive(config: SonaConfig = CONFIG, store: MemoryStore | None = None) -> tuple[SonaEngine, Clock]:
    clock = Clock()
    engine = SonaEngine(config, embedder=lambda texts: np.ones((len(texts), 8)), clock=clock, store=store)
    for row, vector in enumerate(MEMORIES):
        engine.remember(f"memory {row}", f"m{row}", vector=vector)
    return engine, clock


def asked(engine: SonaEngine, number: int) -> None:
    response = engine.process(f"request {number % 30}", vector=REQUESTS[number % 30])
    engine.feedback(response.trajectory_id, rewards={response.sources[number % 2].id: 1.0})


def weeks(engine: SonaEngine, clock: Clock, count: float) -> tuple[int, list[float], list[float]]:
    """Let time go by in steps of ten minutes; return requests asked and when Loops B and C ran."""
    end, requests, background, deep = clock.now + count * WEEK, 0, [], []
    while clock.now < end:
        if (clock.now // 600) % 2 == 0:
            asked(engine, requests)
            requests += 1
        done = engine.tick()
        if done.background is not None:
            background.append(clock.now)
        if done.deep is not None:
            deep.append(clock.now)
        clock.now += 600.0
    return requests, background, deep


@pytest.mark.slow
def test_in_four_weeks_every_loop_runs_as_often_as_it_should_and_nothing_is_lost():
    engine, clock = alive()
    requests, background, deep = weeks(engine, clock, 4)
    # Three requests an hour and five wanted: Loop B runs every other hour, whenever there are enough.
    assert requests // 6 - 2 <= len(background) <= requests // 5
    assert np.diff(background).min() >= HOUR
    assert len(deep) in (3, 4)  # a week after the first tick, then in the quiet hours of every week
    assert np.diff(deep).min() >= WEEK
    assert all(2 <= (moment % DAY) / HOUR < 5 for moment in deep)
    metrics = engine.metrics()
    assert metrics.learned + metrics.waiting == requests == metrics.feedbacks
    assert (metrics.deep_cycles, metrics.unanswered, metrics.expired) == (len(deep), 0, 0)
    a, b, c = metrics.loops
    assert (a.name, a.runs, b.name, b.runs, c.name, c.runs) == (
        "instant",
        requests,
        "background",
        len(background),
        "deep",
        len(deep),
    )
    assert (b.last_run, c.last_run, b.last_outcome, c.last_outcome) == (background[-1], deep[-1], "done", "done")
    assert b.next_run >= b.last_run + HOUR
    assert c.next_run >= c.last_run + WEEK


def test_a_loop_that_raises_every_time_leaves_serving_untouched_and_is_tried_ever_more_rarely(monkeypatch, caplog):
    def fail(*_: object, **__: object) -> None:
        raise LearningError("no")

    monkeypatch.setattr(BackgroundLoop, "compute", fail)
    monkeypatch.setattr(DeepLoop, "compute", fail)
    store = MemoryStore()
    engine, clock = alive(store=store)
    tried, requests = [], 0
    with caplog.at_level(logging.CRITICAL, "sona"):
        for _ in range(600):  # ten hours, minute by minute
            asked(engine, requests)
            requests += 1
            done = engine.tick()
            if done.failures:
                tried.append(clock.now)
                assert done.failures == ("background_learn: LearningError: no",)
            clock.now += 60.0
    metrics = engine.metrics()
    assert (metrics.waiting, metrics.learned, metrics.feedbacks) == (requests, 0, requests)
    gaps = np.diff(tried)
    assert gaps.min() >= 60.0
    assert (np.diff(gaps)[:5] >= 0.0).all()
    assert 5 <= len(tried) <= 16
    status = metrics.loops[1]
    assert (status.failures_in_a_row, status.last_outcome) == (len(tried), "failed: LearningError: no")
    monkeypatch.undo()
    clock.now += HOUR
    assert engine.tick().background.trajectories == requests
    assert engine.metrics().loops[1].failures_in_a_row == 0
    assert engine.replay().is_equal


@pytest.mark.parametrize("failing", [LearningError("no"), RuntimeError("what nobody expected"), MemoryError()])
def test_whatever_a_loop_raises_the_thread_goes_on(monkeypatch, caplog, failing):
    def fail(*_: object, **__: object) -> None:
        raise failing

    monkeypatch.setattr(BackgroundLoop, "compute", fail)
    engine, clock = alive()
    with caplog.at_level(logging.CRITICAL, "sona"):
        for number in range(5):
            asked(engine, number)
        engine.tick()
        clock.now += HOUR
        done = engine.tick()
    assert len(done.failures) == 1
    assert type(failing).__name__ in done.failures[0]
    asked(engine, 5)
    assert engine.metrics().waiting == 6


def test_loops_that_are_off_never_run_and_forced_ones_run_with_little():
    off, clock = alive(SonaConfig(hidden_dim=8, schedule=ScheduleConfig(background="off", deep="off")))
    forced, later = alive(SonaConfig(hidden_dim=8, schedule=ScheduleConfig(background="forced", deep="forced")))
    for engine, now in ((off, clock), (forced, later)):
        asked(engine, 0)
        engine.tick()
        now.now += WEEK
    assert (off.tick().background, off.tick().deep) == (None, None)
    done = forced.tick()
    assert (done.background.trajectories, done.deep.is_finished) == (1, True)


def test_switched_off_loop_a_records_and_learns_nothing_at_once():
    engine, _ = alive(
        SonaConfig(
            hidden_dim=8,
            min_trajectories=1,
            guard=GuardConfig(holdout=0.0),
            schedule=ScheduleConfig(instant="off"),
        )
    )
    before = engine.process("request 0", vector=REQUESTS[0])
    engine.feedback(before.trajectory_id, rewards={before.sources[-1].id: 1.0})
    again = engine.process("request 0", vector=REQUESTS[0])
    assert [source.id for source in again.sources] == [source.id for source in before.sources]
    assert engine.metrics().past_requests == 0
    assert engine.background_learn().trajectories == 1


def test_a_process_that_does_not_lead_runs_no_loop_and_takes_over_when_the_lease_runs_out():
    store = MemoryStore()
    engine, clock = alive(store=store)
    for number in range(5):
        asked(engine, number)
    engine.tick()
    clock.now += HOUR
    assert store.lease("loops", "somebody else", now=clock.now, until=clock.now + 900.0)
    done = engine.tick()
    assert (done.background, done.waiting) == (None, 5)
    assert "another process" in done.reason
    clock.now += 900.0
    assert engine.tick().background.trajectories == 5


def test_stopping_takes_less_than_a_second_also_in_the_middle_of_a_long_cycle_of_loop_c(monkeypatch):
    def slow(work: object, unit: int) -> None:
        time.sleep(0.1)

    monkeypatch.setattr("sona.loops.deep._Work._do_dream", slow)
    config = SonaConfig(hidden_dim=8, deep=DeepConfig(dreams=1000))  # 100 units of a tenth of a second
    engine, clock = alive(config)
    asked(engine, 0)
    engine.tick()
    clock.now += WEEK
    engine.start_background(period_s=0.01)
    deadline = time.monotonic() + 10.0
    while not engine.metrics().loops[2].is_running and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.perf_counter()
    engine.stop_background()
    assert time.perf_counter() - began < 1.0
    status = engine.metrics().loops[2]
    assert (status.runs, status.is_running) == (1, False)
    assert "in part" in status.last_outcome
