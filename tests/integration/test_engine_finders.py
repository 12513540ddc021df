"""Threads that look up patterns at once, some while others learn: every access counts once, none is lost."""

import sys
import threading

import numpy as np
import pytest

from sona import PatternConfig, QueryTrajectory, SonaConfig, SonaEngine
from sona.engine.journal import replay
from sona.state import digest
from sona.stores.memory import MemoryStore

D, THREADS, CALLS = 8, 8, 150


@pytest.fixture(autouse=True)
def hasty_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def learned(store: MemoryStore | None = None) -> SonaEngine:
    config = SonaConfig(hidden_dim=D, min_trajectories=1, patterns=PatternConfig(min_cluster_size=2))
    engine = SonaEngine(config, store=store)
    teach(engine, 0)
    return engine


def teach(engine: SonaEngine, start: int) -> None:
    rng = np.random.default_rng(start)
    for number in range(20):
        query = np.eye(D)[number % 5] + 0.05 * rng.normal(size=D)
        engine.submit_trajectory(QueryTrajectory(10**6 + start + number, query, (), 0.9))
    engine.background_learn(force=True)


def together(work, count: int = THREADS) -> list:
    results, errors, start = [], [], threading.Barrier(count)

    def run(name: int) -> None:
        start.wait()
        try:
            results.append(work(name))
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return results


def find(engine: SonaEngine, name: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(name)
    queries = rng.normal(size=(CALLS, D)).astype(np.float32)
    return [(m.pattern.id, m.pattern.access_count) for query in queries for m in engine.find_patterns(query, k=3)]


def test_the_counts_of_many_threads_add_up_exactly_and_are_there_at_once():
    engine = learned()
    told = [seen for one in together(lambda name: find(engine, name)) for seen in one]
    found = {pattern.id: pattern.access_count for pattern in engine.bank.patterns}
    assert sum(found.values()) == THREADS * CALLS * 3
    for pattern_id, count in found.items():
        assert sum(seen[0] == pattern_id for seen in told) == count
        assert max(seen[1] for seen in told if seen[0] == pattern_id) <= count


def test_no_access_is_lost_while_others_learn_and_the_log_gives_the_same_state():
    store = MemoryStore()
    engine = learned(store)

    def work(name: int) -> None:
        if name == 0:
            for cycle in range(1, 4):
                teach(engine, 100 * cycle)
        else:
            find(engine, name)

    together(work, 5)
    engine.find_patterns(np.eye(D, dtype=np.float32)[0])  # counts what is left
    assert sum(pattern.access_count for pattern in engine.bank.patterns) == 4 * CALLS * 3 + 5
    fresh = SonaEngine(engine.config)._fresh(engine._machine.key)
    replay(fresh, store)
    fresh.settle()
    assert digest(fresh.learner.bank.state()) == digest(engine._machine.learner.bank.state())
