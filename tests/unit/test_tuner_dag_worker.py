"""The worker runs cycles, and ends when told to."""

import threading
import time

import pytest
from tuner_scans import CONFIG, plan, took

from sona.errors import ConfigError
from sona.tuner.dag.engine import DagSonaEngine
from sona.tuner.dag.worker import DagWorker

PLAN = plan()


def told(**more):
    engine = DagSonaEngine(CONFIG, **more)
    for _ in range(6):
        engine.post_query(PLAN, took(1.0))
    return engine


def wait_for(happened):
    for _ in range(500):
        if happened():
            return True
        time.sleep(0.01)
    return False


def test_it_runs_cycles_with_the_time_of_its_clock():
    engine = told()
    with DagWorker(engine, 0.01, clock=lambda: 77.0) as worker:
        worker.start()  # it runs already
        assert wait_for(lambda: engine.metrics().background_cycles == 1)
        assert worker.is_running
    assert not worker.is_running
    assert worker.failure_count == 0
    worker.stop()  # it does not run any more


def test_it_stops_at_once_in_the_middle_of_a_long_cycle_and_loses_nothing():
    begun = threading.Event()
    engine = told()

    def slow(metrics, baseline_us):
        begun.set()
        time.sleep(0.05)
        return 0.8

    engine.objective = slow
    for _ in range(200):
        engine._buffer.record(engine._buffer.snapshot()[0])
    worker = DagWorker(engine, 0.01)
    worker.start()
    assert begun.wait(5.0)
    before = time.perf_counter()
    worker.stop()
    assert time.perf_counter() - before < 1.0
    assert not worker.is_running
    assert engine.metrics().background_cycles == 0
    engine.objective = None
    assert engine.run_background_cycle().trajectories == 206


def test_a_cycle_that_fails_is_counted_and_the_next_one_comes():
    engine = told()
    engine.objective = lambda metrics, baseline_us: 2.0
    with DagWorker(engine, 0.01) as worker:
        assert wait_for(lambda: worker.failure_count >= 2)
        engine.objective = None
        assert wait_for(lambda: engine.metrics().background_cycles == 1)
    assert worker.failure_count >= 2


def test_it_may_be_started_again():
    engine = told()
    worker = DagWorker(engine, 0.01)
    for _ in range(2):
        worker.start()
        worker.stop()
    with worker:
        assert wait_for(lambda: engine.metrics().background_cycles == 1)


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan")])
def test_an_interval_that_cannot_be_is_refused(interval_s):
    with pytest.raises(ConfigError, match="interval_s"):
        DagWorker(DagSonaEngine(CONFIG), interval_s)
