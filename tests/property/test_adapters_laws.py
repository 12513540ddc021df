"""The laws that signals and adapters obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal, RunningBaseline
from sona.adapters.statistics import RidgeStatistics
from sona.errors import InvalidValue
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 6
numbers = st.floats(-100.0, 100.0, width=32).map(lambda value: 0.0 if abs(value) < 1e-3 else value)
vectors = hnp.arrays(np.float32, D, elements=numbers)
batches = hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(D)), elements=numbers)
rewards = st.floats(0.0, 1.0)
seeds = st.integers(0, 1000)
ranks = st.integers(1, 2)


def trained(seed: int, rank: int, trust_region: float = 0.3) -> MicroLoRA:
    rng = np.random.default_rng(seed)
    adapter = MicroLoRA(D, rank, seed=seed, trust_region=trust_region)
    for _ in range(4):
        adapter.accumulate_gradient(LearningSignal.with_gradient(rng.normal(size=D), rng.normal(size=D), 1.0))
        adapter.apply_accumulated(0.05)
    return adapter


def request(x: np.ndarray, steps: list[tuple[np.ndarray, float | None]], quality: float | None, alternatives: bool):
    made = tuple(TrajectoryStep(vector, reward=reward) for vector, reward in steps)
    return QueryTrajectory(1, x, made, quality, alternatives=alternatives)


@given(x=st.one_of(vectors, batches), rank=ranks, seed=seeds)
def test_an_untrained_adapter_is_the_identity(x, rank, seed):
    assert MicroLoRA(D, rank, seed=seed).forward(x).tobytes() == x.tobytes()
    assert BaseLoRA(D, rank, 1).forward_layer(0, x).tobytes() == x.tobytes()


@given(x=batches, rank=ranks, seed=seeds, trust_region=st.floats(1e-3, 10.0))
def test_a_correction_never_leaves_the_trust_region(x, rank, seed, trust_region):
    adapter = trained(seed, rank, trust_region)
    lengths = np.linalg.norm(x.astype(float), axis=1)
    assert (np.linalg.norm(adapter.delta(x).astype(float), axis=1) <= trust_region * lengths * (1.0 + 1e-4)).all()
    for row, length in zip(x, lengths, strict=True):
        assert np.linalg.norm(adapter.delta(row).astype(float)) <= trust_region * length * (1.0 + 1e-4)


@given(x=vectors, g=vectors, rank=ranks, seed=seeds)
def test_a_small_step_along_the_gradient_never_makes_it_worse(x, g, rank, seed):
    # <g, x'> of the adapter with and without one step; holds inside and at the edge of the trust region.
    adapter = trained(seed, rank)
    push = g / max(float(np.linalg.norm(g)), 1e-9)
    request_ = x / max(float(np.linalg.norm(x)), 1e-9)
    before = float(adapter.forward(request_).astype(float) @ push)
    adapter.accumulate_gradient(LearningSignal.with_gradient(request_, push, 1.0))
    adapter.apply_accumulated(1e-3)
    assert float(adapter.forward(request_).astype(float) @ push) >= before - 1e-6


@given(x=vectors, answer=vectors, reward=rewards, seed=seeds)
def test_one_feedback_moves_the_next_answer_the_right_way(x, answer, reward, seed):
    signal = LearningSignal.from_trajectory(request(x, [(answer, reward)], None, False), baseline=0.5)
    adapter = MicroLoRA(D, seed=seed)
    if not signal.is_push or not x.any():
        return
    adapter.accumulate_gradient(signal)
    adapter.apply_accumulated(0.1)
    moved = float(adapter.delta(x).astype(float) @ answer)
    assert moved * np.sign(reward - 0.5) >= 0.0


@given(
    x=vectors,
    answers=st.lists(vectors, min_size=1, max_size=4),
    quality=st.floats(0.0, 0.299),
    baseline=rewards,
    alternatives=st.booleans(),
    per_step=st.booleans(),
)
def test_a_bad_outcome_never_reinforces(x, answers, quality, baseline, alternatives, per_step):
    steps = [(answer, quality if per_step else None) for answer in answers]
    made = request(x, steps, None if per_step else quality, alternatives)
    gradient = LearningSignal.from_trajectory(made, baseline=baseline).gradient_estimate.astype(float)
    directions = [a.astype(float) / n for a in answers if (n := np.linalg.norm(a.astype(float))) > 0.0]
    told = directions[:1] if alternatives and not per_step and answers[0].any() else directions
    assert gradient @ sum(told, np.zeros(D)) <= 1e-6


@given(
    x=vectors,
    answers=st.lists(vectors, min_size=1, max_size=4),
    advantage=st.floats(0.01, 0.5),
    scale=st.floats(0.1, 1.0),
)
def test_the_size_of_the_advantage_survives(x, answers, advantage, scale):
    def gradient(reward: float) -> np.ndarray:
        return LearningSignal.from_trajectory(request(x, [(a, reward) for a in answers], None, False)).gradient_estimate

    whole, part = gradient(0.5 + advantage), gradient(0.5 + advantage * scale)
    assert part == pytest.approx(whole * scale, abs=1e-5)


@given(
    x=vectors,
    steps=st.lists(st.tuples(vectors, st.none() | rewards), max_size=5),
    quality=st.none() | rewards,
    alternatives=st.booleans(),
)
def test_every_valid_trajectory_is_a_finite_signal_and_no_outcome_is_no_push(x, steps, quality, alternatives):
    signal = LearningSignal.from_trajectory(request(x, steps, quality, alternatives))
    assert np.isfinite(signal.gradient_estimate).all()
    if not steps or (quality is None and all(reward is None for _, reward in steps)):
        assert not signal.is_push


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_shuffled_rewards_teach_nothing(seed):
    # With the baseline at the mean reward and rewards drawn without regard to the answer, the drift along the
    # answer that rewards would have taught stays far below what the true rewards teach.
    rng = np.random.default_rng(seed)
    x, good = rng.normal(size=(2, 64)).astype(np.float32)
    x /= np.linalg.norm(x)
    good /= np.linalg.norm(good)

    def taught(shuffled: bool) -> float:
        adapter = MicroLoRA(64, seed=seed)
        for _ in range(200):
            is_good = bool(rng.integers(2))
            reward = float(rng.integers(2)) if shuffled else float(is_good)
            adapter.accumulate_gradient(
                LearningSignal.from_trajectory(request(x, [(good if is_good else -good, reward)], None, False))
            )
        adapter.apply_accumulated(0.2)
        return float(adapter.delta(x) @ good)

    assert abs(taught(shuffled=True)) < 0.5 * taught(shuffled=False)


@given(seed=seeds, rank=ranks)
def test_the_same_seed_and_signals_give_the_same_state(seed, rank):
    assert digest(trained(seed, rank).state()) == digest(trained(seed, rank).state())


@given(seed=seeds, rank=ranks, x=vectors)
def test_a_saved_adapter_answers_bit_for_bit(seed, rank, x):
    adapter = trained(seed, rank)
    assert MicroLoRA.from_state(adapter.state()).forward(x).tobytes() == adapter.forward(x).tobytes()


@given(
    x=hnp.arrays(np.float32, st.integers(0, 8), elements=st.floats(width=32)),
    out=st.none() | hnp.arrays(np.float32, st.integers(5, 7)),
)
def test_any_vector_is_adapted_or_refused_and_nothing_changes(x, out):
    adapter = trained(0, 2)
    before = digest(State({"weights": adapter.flat()}))
    try:
        answer = adapter.forward(x, out=out)
    except InvalidValue:
        pass
    else:
        assert answer.shape == (D,)
        assert np.isfinite(answer).all()
    assert digest(State({"weights": adapter.flat()})) == before


@given(first=batches, second=batches, seed=seeds)
def test_statistics_of_workers_add_up(first, second, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for x in (first, second):
        part = RidgeStatistics(D)
        part.add(x, rng.normal(size=x.shape))
        parts.append(part)
    one, other = parts[0] + parts[1], parts[1] + parts[0]
    assert one.count == first.shape[0] + second.shape[0]
    assert one.solve(1.0) == pytest.approx(other.solve(1.0), abs=1e-6)
    assert (one + RidgeStatistics(D)).solve(1.0).tobytes() == one.solve(1.0).tobytes()


@given(x=batches, seed=seeds, rank=st.integers(1, D))
def test_merged_weights_equal_applying(x, seed, rank):
    rng = np.random.default_rng(seed)
    adapter = BaseLoRA(D, rank, 1, alpha=2.0)
    adapter.set_layer(0, rng.normal(size=(D, rank)), rng.normal(size=(rank, D)))
    assert x @ adapter.merge_weights(np.eye(D), 0) == pytest.approx(adapter.forward_layer(0, x), rel=1e-4, abs=1e-2)


@given(qualities=st.lists(rewards, max_size=50), prior=rewards)
def test_a_baseline_stays_between_what_was_earned_and_the_prior(qualities, prior):
    baseline = RunningBaseline(prior)
    for quality in qualities:
        baseline.update(quality)
    assert min([prior, *qualities]) - 1e-9 <= baseline.value <= max([prior, *qualities]) + 1e-9
