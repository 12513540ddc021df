"""EWC++: closed forms, the memory of tasks, what results say, and what is refused."""

import numpy as np
import pytest

from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal
from sona.config import BoundaryConfig, EwcConfig
from sona.errors import ConfigError, DimensionMismatch, InvalidValue, StoreError
from sona.retention.ewc import EwcPlusPlus
from sona.state import State, digest, read_state, write_state


def learner(width: int = 3, **settings) -> EwcPlusPlus:
    return EwcPlusPlus(EwcConfig(param_count=width, **settings))


def gradients_with_square(fisher: float) -> list[list[float]]:
    """Four exact gradients whose mean square is `fisher`, for 4 * fisher = a sum of four squares."""
    return {3.0: [[1.0], [-1.0], [1.0], [3.0]], 2.0: [[2.0], [-2.0], [0.0], [0.0]]}[fisher]


def after_one_task(weights, fisher_rows, **settings) -> EwcPlusPlus:
    ewc = learner(len(weights), **settings)
    ewc.update_fisher(fisher_rows)
    ewc.start_new_task(weights)
    return ewc


class TestClosedForm:
    """L1 = a/2 (w - t1)^2, then L2 = b/2 (w - t2)^2; EWC ends at (b t2 + lam a t1) / (b + lam a)."""

    a, b, t1, t2, lam, eta = 3.0, 2.0, -1.0, 4.0, 1.5, 0.05

    def end(self, step) -> float:
        weights = np.array([self.t1], np.float32)
        for _ in range(2000):
            gradient = (self.b * (weights - self.t2)).astype(np.float32)
            weights = weights - np.float32(self.eta) * step(gradient, weights)
        return float(weights[0])

    def test_implicit_steps_end_at_the_closed_form(self):
        rows = gradients_with_square(self.a)
        ewc = after_one_task([self.t1], rows, strength=self.lam, min_strength=0.0, learning_rate=self.eta)
        expected = (self.b * self.t2 + self.lam * self.a * self.t1) / (self.b + self.lam * self.a)
        assert expected == pytest.approx(0.5384615385, abs=1e-9)
        assert self.end(ewc.apply_constraints) == pytest.approx(expected, abs=1e-6)

    def test_explicit_steps_end_there_too(self):
        rows = gradients_with_square(self.a)
        ewc = after_one_task([self.t1], rows, strength=self.lam, min_strength=0.0)
        assert self.end(lambda g, w: g + ewc.regularization_gradient(w)) == pytest.approx(0.5384615385, abs=1e-6)

    def test_scaling_alone_only_delays(self):
        """g / (1 + lam F), the form without the pull, forgets the first task entirely."""
        assert self.end(lambda g, w: g / np.float32(1 + self.lam * self.a)) == pytest.approx(self.t2, abs=1e-5)


class TestMerging:
    """Three quadratic tasks, whose joint optimum is known."""

    curvature = np.array([3.0, 2.0, 3.0])
    target = np.array([-1.0, 4.0, 2.0])

    def joint(self, count: int) -> float:
        return float(np.average(self.target[:count], weights=self.curvature[:count]))

    def learn(self, ewc: EwcPlusPlus, k: int, start: float) -> float:
        weights = np.array([start], np.float32)
        for _ in range(3000):
            gradient = (self.curvature[k] * (weights - self.target[k])).astype(np.float32)
            weights = weights - np.float32(0.05) * ewc.apply_constraints(gradient, weights)
        return float(weights[0])

    def test_latest_anchor_is_exact_for_tasks_learned_one_after_another(self):
        ewc = learner(1, strength=1.0, min_strength=0.0, learning_rate=0.05)
        weights = 0.0
        for k in range(3):
            weights = self.learn(ewc, k, weights)
            assert weights == pytest.approx(self.joint(k + 1), abs=2e-6)
            ewc.update_fisher(gradients_with_square(self.curvature[k]))
            ewc.start_new_task([weights])
        assert ewc.anchor[0] == pytest.approx(self.joint(3), abs=2e-6)
        assert ewc.consolidated_fisher[0] == self.curvature.sum()

    def test_product_mean_is_exact_for_tasks_learned_apart(self):
        ewc = learner(1)
        for k in range(3):
            ewc.update_fisher(gradients_with_square(self.curvature[k]))
            ewc.start_new_task([self.target[k]])
        assert ewc.anchor[0] == self.target[2]
        result = ewc.consolidate_all_tasks()
        assert (result.consolidated, result.tasks_merged, result.uninformed_parameters) == (True, 3, 0)
        assert ewc.anchor[0] == pytest.approx(self.joint(3), abs=1e-6)
        assert ewc.consolidated_fisher[0] == self.curvature.sum()
        assert ewc.task_count == 1
        assert ewc.tasks_closed == 3
        assert ewc.tasks[0].examples == 12

    def test_consolidation_keeps_the_latest_weights_where_nothing_is_known(self):
        ewc = learner(2)
        for weights in ([1.0, 5.0], [3.0, 7.0]):
            ewc.update_fisher([1.0, 0.0])
            ewc.start_new_task(weights)
        assert ewc.consolidate_all_tasks().uninformed_parameters == 1
        np.testing.assert_allclose(ewc.anchor, [2.0, 7.0])

    def test_consolidation_says_why_it_did_nothing(self):
        ewc = learner(1)
        assert "no task" in ewc.consolidate_all_tasks().skipped_reason
        ewc.update_fisher([1.0])
        ewc.start_new_task([1.0])
        before = digest(ewc.state())
        assert "only one" in ewc.consolidate_all_tasks().skipped_reason
        assert digest(ewc.state()) == before

    def test_consolidating_twice_or_in_stages_is_consolidating_once(self):
        apart, staged = learner(1), learner(1)
        for k in range(3):
            for ewc in (apart, staged):
                ewc.update_fisher(gradients_with_square(self.curvature[k]))
                ewc.start_new_task([self.target[k]])
            staged.consolidate_all_tasks()
        apart.consolidate_all_tasks()
        assert apart.anchor[0] == pytest.approx(float(staged.anchor[0]), abs=1e-6)
        assert not apart.consolidate_all_tasks().consolidated


def test_the_eleventh_task_evicts_the_first_from_memory_but_not_from_the_sum():
    ewc = learner(11)
    for k in range(11):
        ewc.update_fisher(np.eye(11)[k])
        result = ewc.start_new_task(np.full(11, float(k)), now=100.0 + k)
        assert result.closed
        assert result.evicted == (k == 10)
        assert result.task_count == min(k + 1, 10)
    assert ewc.task_count == 10
    assert ewc.tasks_closed == 11
    assert [task.closed_at for task in ewc.tasks] == [101.0 + k for k in range(10)]
    np.testing.assert_array_equal(ewc.consolidated_fisher, np.ones(11))
    assert ewc.consolidate_all_tasks().tasks_merged == 11
    np.testing.assert_allclose(ewc.anchor, np.arange(11.0))


def test_a_task_without_gradients_is_not_closed_and_says_why():
    ewc = learner()
    before = digest(ewc.state())
    result = ewc.start_new_task(np.zeros(3))
    assert not result.closed
    assert "no gradients" in result.skipped_reason
    assert digest(ewc.state()) == before


def test_a_new_task_begins_without_evidence():
    ewc = after_one_task([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(ewc.fisher, np.zeros(3))
    ewc.update_fisher([5.0, 0.0, 0.0])
    np.testing.assert_allclose(ewc.fisher, [25.0, 0.0, 0.0])
    np.testing.assert_allclose(ewc.tasks[0].fisher, [1.0, 4.0, 9.0])


def test_without_tasks_nothing_is_changed_or_penalised():
    ewc = learner()
    gradients = np.array([1.0, -2.0, 3.0], np.float32)
    constrained = ewc.apply_constraints(gradients, [9.0, 9.0, 9.0])
    np.testing.assert_array_equal(constrained, gradients)
    assert constrained is not gradients
    assert ewc.regularization_loss([9.0, 9.0, 9.0]) == 0.0
    np.testing.assert_array_equal(ewc.regularization_gradient([9.0, 9.0, 9.0]), np.zeros(3))
    assert ewc.anchor is None


def test_at_the_anchor_the_gradient_is_only_shrunk():
    ewc = after_one_task([1.0, 2.0, 3.0], [1.0, 2.0, 0.0], strength=100.0, learning_rate=0.1)
    expected = np.array([1.0, 1.0, 1.0]) / (1 + 0.1 * 100 * np.array([1.0, 4.0, 0.0]))
    np.testing.assert_allclose(ewc.apply_constraints(np.ones(3)), expected, rtol=1e-6)
    np.testing.assert_allclose(ewc.apply_constraints(np.ones(3), [1.0, 2.0, 3.0]), expected, rtol=1e-6)


def test_out_is_written_and_may_be_the_gradients():
    ewc = after_one_task(np.zeros(3), [1.0, 2.0, 3.0])
    gradients, weights = np.array([1.0, 2.0, 3.0], np.float32), np.array([0.1, 0.2, 0.3], np.float32)
    expected = ewc.apply_constraints(gradients, weights)
    out = np.empty(3, np.float32)
    assert ewc.apply_constraints(gradients, weights, out=out) is out
    np.testing.assert_array_equal(out, expected)
    ewc.apply_constraints(gradients, weights, out=gradients)
    np.testing.assert_array_equal(gradients, expected)


def test_strength_and_step_size_changes_take_effect_at_once():
    ewc = after_one_task([0.0], [1.0], strength=1000.0, learning_rate=0.001)
    assert ewc.apply_constraints([1.0])[0] == pytest.approx(1 / 2)
    assert ewc.apply_constraints([1.0], learning_rate=0.01)[0] == pytest.approx(1 / 11)
    ewc.adapt_strength(1.0)
    assert ewc.apply_constraints([1.0])[0] == pytest.approx(1 / 2.25)
    ewc.update_fisher([1.0])
    ewc.start_new_task([0.0])
    assert ewc.apply_constraints([1.0])[0] == pytest.approx(1 / 3.5)


def test_strength_rises_with_old_loss_falls_with_it_and_stays_in_range():
    ewc = learner(strength=2000.0)
    assert ewc.adapt_strength(0.1) == pytest.approx(2500.0)
    assert ewc.adapt_strength(-0.1) == pytest.approx(2000.0)
    assert ewc.adapt_strength(0.0) == pytest.approx(2000.0)
    assert ewc.adapt_strength(0.1, tolerance=0.2) == pytest.approx(2000.0)
    for _ in range(50):
        ewc.adapt_strength(1.0)
    assert ewc.strength == 15_000.0
    for _ in range(50):
        ewc.adapt_strength(-1.0)
    assert ewc.strength == 100.0


def test_rebase_keeps_the_meaning_of_the_protected_point():
    ewc = after_one_task([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    ewc.update_fisher([3.0, 2.0, 1.0])
    ewc.start_new_task([2.0, 1.0, 0.5])
    weights, offset = np.array([0.5, 0.25, 4.0]), np.array([0.25, -1.0, 2.0])
    loss, step = ewc.regularization_loss(weights), ewc.apply_constraints(np.ones(3), weights)
    apart = EwcPlusPlus.from_state(ewc.state())
    apart.consolidate_all_tasks()
    result = ewc.rebase(offset)
    assert (result.tasks_shifted, result.skipped_reason) == (2, None)
    assert ewc.regularization_loss(weights - offset) == pytest.approx(loss)
    np.testing.assert_allclose(ewc.apply_constraints(np.ones(3), weights - offset), step, rtol=1e-5)
    np.testing.assert_allclose(ewc.tasks[0].anchor, np.array([1.0, 2.0, 3.0]) - offset)
    ewc.consolidate_all_tasks()
    np.testing.assert_allclose(ewc.anchor, apart.anchor - offset, rtol=1e-6)


def test_rebase_without_tasks_says_so():
    assert "no task" in learner().rebase(np.zeros(3)).skipped_reason


def test_task_arrays_cannot_be_changed_from_outside():
    weights = np.array([1.0, 2.0, 3.0], np.float32)
    ewc = after_one_task(weights, [1.0, 1.0, 1.0])
    weights[:] = 0.0
    np.testing.assert_array_equal(ewc.anchor, [1.0, 2.0, 3.0])
    for array in (ewc.anchor, ewc.tasks[0].fisher, ewc.tasks[0].anchor):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0


def test_boundary_detection_is_delegated():
    rng = np.random.default_rng(0)
    ewc = learner(boundary=BoundaryConfig(reference_size=32, window_size=16))
    assert not ewc.detect_task_boundary(rng.normal(size=(64, 4)), rng=rng).is_boundary
    assert ewc.detect_task_boundary(rng.normal(5.0, size=(32, 4)), rng=rng).is_boundary
    assert ewc.boundary.boundary_count == 1


class TestWithMicroLora:
    """`apply_constraints` is a constraint of `MicroLoRA.apply_accumulated` as it is."""

    rate = 0.5

    def teach(self, adapter: MicroLoRA, x, towards, constrain=None) -> None:
        for _ in range(30):
            adapter.accumulate_gradient(LearningSignal.with_gradient(x, towards - adapter.forward(x)))
            adapter.apply_accumulated(self.rate, constrain)

    def test_the_first_task_is_kept_while_the_second_is_learned(self):
        noise = np.random.default_rng(0).normal(size=(1000, 8))
        first, second, goal_1, goal_2 = np.eye(8, dtype=np.float32)[:4]
        second = (0.6 * first + 0.8 * second).astype(np.float32)
        lost, left = {}, {}
        for name in ("free", "constrained"):
            adapter = MicroLoRA(8, rank=2, seed=2)
            ewc = learner(adapter.param_count, strength=30.0, min_strength=0.0, learning_rate=self.rate)
            self.teach(adapter, first, goal_1)
            learned = adapter.forward(first)
            assert ewc.update_fisher([adapter.flat_gradient(first, g) for g in noise]).updated
            assert ewc.start_new_task(adapter.flat()).closed
            self.teach(adapter, second, goal_2, ewc.apply_constraints if name == "constrained" else None)
            lost[name] = float(np.linalg.norm(adapter.forward(first) - learned))
            left[name] = float(np.linalg.norm(adapter.forward(second) - goal_2))
        start = float(np.linalg.norm(second - goal_2))
        assert lost["constrained"] < 0.2 * lost["free"]
        assert start - left["constrained"] > 0.8 * (start - left["free"]) > 0.1

    def test_gradients_of_another_layout_are_refused_not_skipped(self):
        """A peer sized its Fisher for the adapter, fed it gradients of the embedding's width, and reported success."""
        adapter = MicroLoRA(8, rank=2, seed=1)
        ewc = learner(adapter.param_count)
        with pytest.raises(DimensionMismatch):
            ewc.update_fisher(np.ones(8))
        with pytest.raises(DimensionMismatch):
            ewc.apply_constraints(np.ones(8), adapter.flat())


BAD = [
    (np.zeros(2), DimensionMismatch),
    (np.zeros(4), DimensionMismatch),
    (np.zeros((1, 3)), InvalidValue),
    ([0.0, np.nan, 0.0], InvalidValue),
    ([0.0, np.inf, 0.0], InvalidValue),
    ([], DimensionMismatch),
]


@pytest.mark.parametrize(("bad", "error"), BAD)
@pytest.mark.parametrize(
    "call",
    [
        lambda ewc, bad: ewc.start_new_task(bad),
        lambda ewc, bad: ewc.apply_constraints(bad),
        lambda ewc, bad: ewc.apply_constraints(np.zeros(3), bad),
        lambda ewc, bad: ewc.regularization_loss(bad),
        lambda ewc, bad: ewc.regularization_gradient(bad),
        lambda ewc, bad: ewc.rebase(bad),
    ],
)
def test_bad_vectors_are_refused_with_and_without_tasks(call, bad, error):
    for ewc in (learner(), after_one_task(np.ones(3), np.ones(3))):
        ewc.update_fisher([1.0, 2.0, 3.0])
        before = digest(ewc.state())
        with pytest.raises(error):
            call(ewc, bad)
        assert digest(ewc.state()) == before


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf, "x"])
def test_bad_learning_rates_are_refused(rate):
    with pytest.raises(InvalidValue):
        after_one_task(np.ones(3), np.ones(3)).apply_constraints(np.zeros(3), learning_rate=rate)


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros(2, np.float32), DimensionMismatch),
        (np.zeros(3), InvalidValue),
        (np.zeros((1, 3), np.float32), InvalidValue),
        ([0.0, 0.0, 0.0], InvalidValue),
    ],
)
def test_bad_out_is_refused(out, error):
    with pytest.raises(error):
        learner().apply_constraints(np.zeros(3), out=out)


def test_a_bad_gradient_leaves_out_alone():
    out = np.full(3, 7.0, np.float32)
    with pytest.raises(InvalidValue):
        learner().apply_constraints([np.nan, 0.0, 0.0], out=out)
    np.testing.assert_array_equal(out, np.full(3, 7.0))


@pytest.mark.parametrize(("change", "tolerance"), [(np.nan, 0.0), (np.inf, 0.0), (1.0, -1.0), (1.0, np.nan)])
def test_bad_loss_changes_are_refused(change, tolerance):
    ewc = learner()
    with pytest.raises(InvalidValue):
        ewc.adapt_strength(change, tolerance=tolerance)
    assert ewc.strength == 2000.0


@pytest.mark.parametrize("settings", [{"width": 0}, {"strength": 1.0}, {"max_tasks": 0}, {"fisher_decay": 1.0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        learner(**settings)


def test_a_saved_learner_continues_bit_for_bit(tmp_path):
    rng = np.random.default_rng(5)
    ewc = learner(7, max_tasks=2, boundary=BoundaryConfig(reference_size=16, window_size=8))
    for k in range(4):
        ewc.update_fisher(rng.normal(size=(3, 7)))
        ewc.detect_task_boundary(rng.normal(size=(9, 5)), rng.random(9), rng=rng)
        ewc.start_new_task(rng.normal(size=7), now=float(k))
    ewc.update_fisher(rng.normal(size=(3, 7)))
    ewc.adapt_strength(1.0)
    write_state(tmp_path / "ewc.sona", "ewc", ewc.state())
    again = EwcPlusPlus.from_state(read_state(tmp_path / "ewc.sona", "ewc"))
    assert digest(again.state()) == digest(ewc.state())
    assert again.config == ewc.config
    assert (again.strength, again.task_count, again.tasks_closed) == (ewc.strength, 2, 4)
    for each in (ewc, again):
        each.update_fisher(np.arange(7.0))
        each.start_new_task(np.ones(7))
        each.rebase(np.arange(7.0))
        each.consolidate_all_tasks()
        each.detect_task_boundary(np.ones((9, 5)), np.ones(9), rng=np.random.default_rng(0))
    assert digest(again.state()) == digest(ewc.state())
    step = [each.apply_constraints(np.ones(7), np.arange(7.0)) for each in (ewc, again)]
    np.testing.assert_array_equal(*step)


def test_an_untouched_learner_survives_saving(tmp_path):
    write_state(tmp_path / "ewc.sona", "ewc", learner().state())
    again = EwcPlusPlus.from_state(read_state(tmp_path / "ewc.sona", "ewc"))
    assert digest(again.state()) == digest(learner().state())


@pytest.mark.parametrize(
    ("name", "value"), [("strength", 1.0), ("param_count", 0), ("param_count", 4), ("max_tasks", 1)]
)
def test_a_state_that_does_not_fit_is_refused(name, value):
    ewc = after_one_task(np.ones(3), np.ones(3))
    ewc.update_fisher(np.ones(3))
    ewc.start_new_task(np.zeros(3))
    tree = ewc.state()
    config = State({**dict(tree.child("config").items()), name: value})
    with pytest.raises(StoreError):
        EwcPlusPlus.from_state(State({**dict(tree.items()), "config": config}))
