"""Arrays of a subclass, as `np.memmap` is one, teach and are answered as plain ones."""

import numpy as np

from sona import EwcConfig, EwcPlusPlus, LearningSignal, MicroLoRA, QueryTrajectory, TrajectoryStep

D = 40


class Odd(np.ndarray):
    """An array that the kernel does not take as it is."""


def odd(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32).view(Odd)


def protected() -> EwcPlusPlus:
    rng = np.random.default_rng(0)
    ewc = EwcPlusPlus(EwcConfig(param_count=D))
    ewc.update_fisher(rng.normal(size=(3, D)).astype(np.float32))
    ewc.start_new_task(rng.normal(size=D).astype(np.float32))
    return ewc


def test_constraints_are_those_of_plain_arrays():
    ewc, rng = protected(), np.random.default_rng(1)
    g, w = rng.normal(size=(2, D)).astype(np.float32)
    expected, out = ewc.apply_constraints(g, w), odd(np.zeros(D))
    assert (ewc.apply_constraints(odd(g), odd(w)) == expected).all()
    assert (ewc.apply_constraints(odd(g), w, out=out) == expected).all()
    assert (np.asarray(out) == expected).all()


def test_the_fisher_learns_what_it_learns_of_plain_arrays():
    one, two = protected(), protected()
    gradients = np.random.default_rng(2).normal(size=(5, D)).astype(np.float32)
    assert one.update_fisher(gradients).updated
    assert two.update_fisher(odd(gradients)).updated
    assert one.fisher.any()
    assert (one.fisher == two.fisher).all()


def test_an_adapter_learns_and_answers_as_of_plain_arrays():
    plain, other, rng = MicroLoRA(D), MicroLoRA(D), np.random.default_rng(3)
    x, g = rng.normal(size=(2, D)).astype(np.float32)
    for adapter, read in ((plain, np.asarray), (other, odd)):
        adapter.accumulate_gradient(LearningSignal.with_gradient(read(x), read(g), 1.0))
        adapter.apply_accumulated(0.1)
    assert plain.delta(x).any()
    assert (plain.forward(x) == other.forward(odd(x))).all()


def test_a_trajectory_teaches_what_it_teaches_of_plain_arrays():
    rng = np.random.default_rng(4)
    x, first, second = rng.normal(size=(3, D)).astype(np.float32)

    def taught(read, alternatives: bool) -> np.ndarray:
        steps = (TrajectoryStep(read(first), reward=1.0), TrajectoryStep(read(second), reward=0.2))
        trajectory = QueryTrajectory(1, read(x), steps, alternatives=alternatives)
        return LearningSignal.from_trajectory(trajectory).gradient_estimate

    for alternatives in (False, True):
        expected = taught(np.asarray, alternatives)
        assert expected.any()
        assert (taught(odd, alternatives) == expected).all()
