"""Arrays of a subclass, as `np.memmap` is one, teach and are answered as plain ones."""

import numpy as np
import pytest

from sona import (
    EwcConfig,
    EwcPlusPlus,
    LearningSignal,
    MicroLoRA,
    QueryTrajectory,
    SonaConfig,
    SonaEngine,
    TrajectoryStep,
)

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


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), np.float32)
    wide[..., ::2] = array
    return wide[..., ::2]


def misaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(np.asarray(array, np.float32).tobytes(), np.uint8)
    return raw[1:].view(np.float32).reshape(array.shape)


@pytest.mark.parametrize("laid", [odd, strided, misaligned, np.ndarray.tolist], ids=lambda laid: laid.__name__)
def test_an_engine_answers_and_learns_as_of_plain_arrays(laid):
    rng = np.random.default_rng(5)
    items, requests = rng.normal(size=(30, D)).astype(np.float32), rng.normal(size=(12, D)).astype(np.float32)
    ids, seen, scores = [f"i{row}" for row in range(30)], [], []
    for read in (np.asarray, laid):
        engine = SonaEngine(SonaConfig(hidden_dim=D), clock=lambda: 0.0)
        for row, item in enumerate(items[:10]):
            engine.remember(f"text {row}", f"m{row}", vector=read(item))
        answers = []
        for request in [*requests, *requests]:
            ranking = engine.rank(read(request), ids, read(items), k=5)
            engine.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
            response = engine.process("text", vector=read(request))
            builder = engine.begin_trajectory(read(request))
            builder.add_step(read(items[0]), None, 0.9)
            engine.end_trajectory(builder, 0.8)
            answers.append((ranking.ids, [source.id for source in response.sources]))
            scores.append(ranking.scores)
        engine.background_learn(force=True)
        answers.append([match.pattern.id for match in engine.find_patterns(read(requests[0]), 2)])
        answers.append(np.round(engine.adapt(read(requests)), 4).tolist())
        seen.append(answers)
    assert seen[0] == seen[1]
    # The product with a table that the kernel does not take is numpy's, which adds up in another order.
    np.testing.assert_allclose(scores[: len(scores) // 2], scores[len(scores) // 2 :], atol=2e-6)


def test_what_a_caller_writes_to_a_subclass_later_changes_no_trajectory():
    engine, x = SonaEngine(SonaConfig(hidden_dim=D)), odd(np.ones(D))
    builder = engine.begin_trajectory(x)
    builder.add_step(x, None, 1.0)
    x[:] = 7.0
    assert (builder.query_embedding == 1.0).all()
    assert (builder.build().steps[0].activations == 1.0).all()
