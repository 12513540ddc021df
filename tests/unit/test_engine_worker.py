"""Worker: calls something now and then, survives its errors, and stops when told."""

from __future__ import annotations

import logging
import threading

from sona.engine.worker import Worker
from sona.errors import LearningError


def test_it_works_again_and_again_until_it_is_stopped():
    calls, enough = [], threading.Event()

    def work():
        calls.append(threading.current_thread())
        if len(calls) >= 3:
            enough.set()

    worker = Worker(work, 0.001)
    assert enough.wait(10.0)
    worker.stop()
    made = len(calls)
    assert not worker.is_running
    assert not enough.wait(0.0) or len(calls) == made
    assert worker.failure_count == 0
    assert set(calls) == {calls[0]} != {threading.current_thread()}


def test_an_error_is_counted_logged_and_the_next_call_comes(caplog):
    calls, enough = [], threading.Event()

    def work():
        calls.append(1)
        if len(calls) < 3:
            raise LearningError("not now")
        enough.set()

    with caplog.at_level(logging.ERROR, logger="sona"):
        worker = Worker(work, 0.001)
        assert enough.wait(10.0)
        worker.stop()
    assert worker.failure_count == 2
    assert "not now" in caplog.text


def test_stopping_waits_for_the_work_in_progress():
    began, may_end, ended = threading.Event(), threading.Event(), []

    def work():
        began.set()
        may_end.wait(10.0)
        ended.append(1)

    worker = Worker(work, 0.001)
    assert began.wait(10.0)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    assert not ended
    may_end.set()
    stopper.join(10.0)
    assert len(ended) == 1
    assert not worker.is_running
