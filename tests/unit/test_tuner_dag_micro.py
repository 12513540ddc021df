"""The adapter of plan embeddings: the right way, under protection that is real."""

import numpy as np
import pytest

from sona.config.tuner import DagConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.tuner.dag.micro import DagMicroLoRA, Lesson, Neighbour

D = 16
CONFIG = DagConfig(hidden_dim=D, micro_learning_rate=0.1)
LIKED, OTHER = np.eye(D, dtype=np.float32)[:2]
PLAN = ((LIKED + OTHER) / np.sqrt(2)).astype(np.float32)
BOTH = (Neighbour(LIKED, True), Neighbour(OTHER, False))


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_an_untrained_one_is_the_identity():
    rng = np.random.default_rng(0)
    for _ in range(5):
        plan = rng.normal(size=D).astype(np.float32)
        assert DagMicroLoRA(CONFIG).forward(plan).tobytes() == plan.tobytes()


def test_it_moves_towards_what_worked_and_away_from_the_rest():
    adapter = DagMicroLoRA(CONFIG)
    assert adapter.learn(adapter.lesson(PLAN, BOTH, 0.4))
    moved = adapter.forward(PLAN)
    assert cosine(moved, LIKED) > cosine(PLAN, LIKED) + 1e-4
    assert cosine(moved, OTHER) < cosine(PLAN, OTHER) - 1e-4


def test_plans_that_like_the_same_settings_come_nearer():
    rng = np.random.default_rng(1)
    adapter = DagMicroLoRA(CONFIG)
    plans = [PLAN + rng.normal(scale=0.1, size=D).astype(np.float32) for _ in range(2)]
    for _ in range(20):
        for plan in plans:
            adapter.learn(adapter.lesson(plan, BOTH, 0.4))
    before, after = (cosine(*pair) for pair in (plans, [adapter.forward(plan) for plan in plans]))
    assert after > before


@pytest.mark.parametrize(
    ("neighbours", "gain"),
    [(BOTH, 0.0), (BOTH, -0.5), ((), 0.4), (BOTH[:1], 0.4), (BOTH[1:], 0.4)],
)
def test_without_a_gain_or_a_choice_nothing_is_taught(neighbours, gain):
    adapter = DagMicroLoRA(CONFIG)
    signal = adapter.lesson(PLAN, neighbours, gain)
    assert not signal.is_push
    assert not adapter.learn(signal)
    assert adapter.forward(PLAN).tobytes() == PLAN.tobytes()


def lessons(adapter, count, plan=PLAN, quality=0.8, seed=0):
    rng = np.random.default_rng(seed)
    plans = [plan + rng.normal(scale=0.05, size=D).astype(np.float32) for _ in range(count)]
    return [Lesson(one, quality, adapter.lesson(one, BOTH, 0.4)) for one in plans]


def test_the_fisher_is_updated_and_a_change_of_plans_makes_a_task():
    adapter = DagMicroLoRA(CONFIG)
    adapter.learn(adapter.lesson(PLAN, BOTH, 0.4))
    ewc, update = adapter.protection_after(lessons(adapter, 300), now=1.0, rng=np.random.default_rng(0))
    assert (update.fisher.examples, update.fisher.updated, update.task) == (300, True, None)
    assert ewc.fisher.any()
    assert not adapter.ewc.fisher.any()  # nothing is in force yet
    adapter.protect(ewc)
    other = lessons(adapter, 200, plan=-PLAN, seed=1)
    ewc, update = adapter.protection_after(other, now=2.0, rng=np.random.default_rng(0))
    assert update.boundary.is_boundary
    assert update.task.closed
    assert ewc.task_count == 1
    adapter.protect(ewc)
    assert adapter.ewc.task_count == 1


def test_the_protection_holds_the_adapter_back():
    free, held = DagMicroLoRA(CONFIG), DagMicroLoRA(CONFIG)
    for adapter in (free, held):
        adapter.learn(adapter.lesson(PLAN, BOTH, 0.4))
    held.ewc.update_fisher(np.ones((1, held.micro.param_count)))
    held.ewc.start_new_task(held.micro.flat())
    start = free.micro.flat()
    other = (Neighbour(LIKED, False), Neighbour(OTHER, True))
    for adapter in (free, held):
        adapter.learn(adapter.lesson(PLAN, other, 0.4))
    assert np.linalg.norm(held.micro.flat() - start) < 0.1 * np.linalg.norm(free.micro.flat() - start)


def test_results_say_what_was_not_done():
    adapter = DagMicroLoRA(CONFIG)
    assert adapter.protection_after([], now=0.0, rng=np.random.default_rng(0))[1].skipped_reason == "no new executions"
    _, update = adapter.protection_after([Lesson(PLAN, 0.5)], now=0.0, rng=np.random.default_rng(0))
    assert (update.fisher.updated, update.fisher.skipped_reason) == (False, "no execution had anything to teach")


def test_a_copy_goes_its_own_way():
    adapter = DagMicroLoRA(CONFIG)
    twin = adapter.copy()
    twin.learn(twin.lesson(PLAN, BOTH, 0.4))
    assert adapter.forward(PLAN).tobytes() == PLAN.tobytes()


def test_another_width_is_refused():
    adapter = DagMicroLoRA(CONFIG)
    with pytest.raises(DimensionMismatch):
        adapter.forward(np.ones(D + 1))
    with pytest.raises(InvalidValue):
        adapter.lesson(np.full(D, np.nan), BOTH, 0.4)
    for other in (DagConfig(hidden_dim=D + 1), DagConfig(hidden_dim=D, micro_rank=1)):
        with pytest.raises(StoreError):
            DagMicroLoRA.from_state(adapter.state(), other)
