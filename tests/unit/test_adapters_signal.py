"""LearningSignal and RunningBaseline: what one request teaches."""

from __future__ import annotations

import numpy as np
import pytest

from sona.adapters.signal import LearningSignal, RunningBaseline, SignalMetadata, difference
from sona.errors import ConfigError, DimensionMismatch, InvalidValue
from sona.state import read_state, write_state
from sona.types import QueryTrajectory, TrajectoryStep

X = np.array([1.0, 0.0, 0.0], np.float32)
UP = np.array([0.0, 2.0, 0.0], np.float32)
SIDE = np.array([0.0, 0.0, 5.0], np.float32)


def request(*steps: tuple[np.ndarray, float | None], quality: float | None = None, alternatives: bool = False):
    made = tuple(TrajectoryStep(vector, reward=reward) for vector, reward in steps)
    return QueryTrajectory(1, X, made, quality, alternatives=alternatives, model_route="m")


def gradient(*steps: tuple[np.ndarray, float | None], **options: object) -> list[float]:
    made = request(*steps, quality=options.pop("quality", None), alternatives=options.pop("alternatives", False))
    return LearningSignal.from_trajectory(made, **options).gradient_estimate.astype(float).round(6).tolist()


def test_one_step_learns_against_the_baseline():
    assert gradient((UP, 0.9), baseline=0.5) == [0.0, 0.4, 0.0]
    assert gradient((UP, 0.4), baseline=0.5) == [0.0, -0.1, 0.0]


def test_the_gradient_is_the_mean_over_rewarded_steps():
    assert gradient((UP, 1.0), (SIDE, 0.3), (X, None), baseline=0.5) == [0.0, 0.25, -0.1]


def test_size_and_sign_of_the_advantage_survive():
    low, middle, high = (gradient((7.0 * UP, r), baseline=0.5)[1] for r in (0.1, 0.5, 1.0))
    assert (low, middle, high) == (-0.4, 0.0, 0.5)


@pytest.mark.parametrize("baseline", [0.0, 0.05, 0.5])
def test_a_bad_outcome_never_reinforces(baseline):
    assert gradient((UP, 0.2), baseline=baseline)[1] <= 0.0
    assert gradient((UP, None), quality=0.2, baseline=baseline)[1] <= 0.0
    assert gradient((UP, None), quality=0.2, baseline=baseline, alternatives=True)[1] <= 0.0
    assert gradient((UP, 0.2), (SIDE, 0.1), baseline=baseline, alternatives=True) == [0.0, 0.0, 0.0]


def test_the_final_quality_speaks_for_steps_without_rewards():
    assert gradient((UP, None), quality=0.9, baseline=0.5) == [0.0, 0.4, 0.0]
    assert gradient((UP, None), (SIDE, None), quality=0.9, baseline=0.5) == [0.0, 0.2, 0.2]
    assert gradient((UP, 0.5), (SIDE, None), quality=0.9, baseline=0.5) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("alternatives", [False, True])
def test_no_step_or_no_outcome_is_no_push_but_a_signal(alternatives):
    for made in (
        request(alternatives=alternatives),
        request(quality=1.0, alternatives=alternatives),
        request((UP, None), (SIDE, None), alternatives=alternatives),
    ):
        signal = LearningSignal.from_trajectory(made)
        assert not signal.is_push
        assert signal.quality_score == made.quality
        assert signal.metadata.step_count == len(made.steps)


def test_a_zero_activation_pushes_nowhere():
    assert gradient((np.zeros(3, np.float32), 1.0)) == [0.0, 0.0, 0.0]
    assert gradient((np.zeros(3, np.float32), 1.0), (UP, 0.0), alternatives=True)[1] < 0.0


def cross_entropy(x: np.ndarray, steps: list[tuple[np.ndarray, float]], tau: float) -> float:
    # max(r) * sum t log p, the objective whose gradient on the cosine's direction the signal is.
    rewards = np.array([r for _, r in steps], float)
    cosines = np.array([v @ x / np.linalg.norm(v) for v, _ in steps], float)  # x enters as a unit vector
    logits = cosines / tau
    logp = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    return float(rewards.max() * (rewards / rewards.sum()) @ logp)


def test_alternatives_follow_the_gradient_of_the_softmax_over_cosines():
    rng = np.random.default_rng(0)
    x = rng.normal(size=6)
    x /= np.linalg.norm(x)
    steps = [(rng.normal(size=6), reward) for reward in (0.0, 0.9, 0.0, 0.45)]
    made = QueryTrajectory(1, x, tuple(TrajectoryStep(v, reward=r) for v, r in steps), alternatives=True)
    got = LearningSignal.from_trajectory(made, temperature=0.3).gradient_estimate
    for _ in range(5):
        tangent = rng.normal(size=6)
        tangent -= tangent @ x * x
        ahead, behind = (x + sign * 1e-5 * tangent for sign in (1.0, -1.0))
        slope = (cross_entropy(ahead, steps, 0.3) - cross_entropy(behind, steps, 0.3)) / 2e-5
        assert got @ tangent == pytest.approx(slope * 0.3, rel=1e-4)  # tau is left to the learning rate
    assert abs(float(got @ x)) < 1e-6


def test_the_softmax_is_taken_where_the_request_was_used():
    made = request((UP, 1.0), (SIDE, 0.0), alternatives=True)
    near = LearningSignal.from_trajectory(made, adapted=X + 0.5 * UP)
    far = LearningSignal.from_trajectory(made)
    assert np.linalg.norm(near.gradient_estimate) < 0.05 * np.linalg.norm(far.gradient_estimate)


def test_what_was_shown_and_not_named_earned_nothing():
    named = gradient((UP, 1.0), (SIDE, None), alternatives=True)
    assert named == gradient((UP, 1.0), (SIDE, 0.0), alternatives=True)
    assert named[1] > 0.0 > named[2]


def test_the_size_of_the_best_reward_survives_the_softmax():
    whole, half = (gradient((UP, r), (SIDE, 0.0), alternatives=True) for r in (1.0, 0.5))
    assert half == pytest.approx([value / 2 for value in whole], abs=1e-6)


def test_no_click_is_no_push():
    assert gradient((UP, 0.0), (SIDE, 0.0), alternatives=True) == [0.0, 0.0, 0.0]


def test_metadata_says_where_a_signal_comes_from():
    signal = LearningSignal.from_trajectory(request((UP, 0.8), alternatives=True), baseline=0.25)
    assert signal.metadata == SignalMetadata(1, 1, 0.25, True, "m")
    assert signal.quality_score == 0.8
    assert LearningSignal.with_gradient([1.0], [2.0], 0.5).metadata == SignalMetadata()


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": 1.5},
        {"baseline": np.nan},
        {"quality_threshold": -1.0},
        {"temperature": 0.0},
        {"temperature": np.nan},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(InvalidValue):
        LearningSignal.from_trajectory(request((UP, 1.0)), **options)


def test_bad_vectors_are_refused():
    with pytest.raises(DimensionMismatch):
        LearningSignal.from_trajectory(request((UP, 1.0)), adapted=[1.0])
    with pytest.raises(DimensionMismatch):
        LearningSignal.with_gradient([1.0, 0.0], [1.0])
    for embedding, push, quality in (([np.nan], [1.0], 0.5), ([1.0], [np.inf], 0.5), ([1.0], [1.0], 5)):
        with pytest.raises(InvalidValue):
            LearningSignal.with_gradient(embedding, push, quality)


def test_amended_feedback_leaves_the_difference_to_learn():
    old, new = (LearningSignal.from_trajectory(request((UP, r))) for r in (1.0, 0.0))
    left = difference(new, old)
    assert left.gradient_estimate.tolist() == [0.0, -1.0, 0.0]
    assert (left.quality_score, left.metadata) == (new.quality_score, new.metadata)
    assert not difference(new, new).is_push
    with pytest.raises(DimensionMismatch):
        difference(new, LearningSignal.with_gradient([1.0], [1.0]))


def test_the_baseline_starts_at_its_prior_and_follows_what_requests_earn():
    baseline = RunningBaseline(prior=0.2, prior_weight=4.0, decay=1.0)
    assert baseline.value == pytest.approx(0.2)
    assert baseline.update(1.0) == pytest.approx((0.8 + 1.0) / 5)
    for _ in range(3000):
        baseline.update(0.9)
    assert baseline.value == pytest.approx(0.9, abs=0.005)


def test_a_decaying_baseline_forgets_the_prior():
    baseline = RunningBaseline(prior=0.0, decay=0.9)
    for _ in range(200):
        baseline.update(1.0)
    assert baseline.value == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InvalidValue):
        baseline.update(1.1)


def test_a_saved_baseline_goes_on_bit_for_bit(tmp_path):
    baseline = RunningBaseline(0.3, 2.0, 0.97)
    baseline.update(0.123)
    write_state(tmp_path / "b", "baseline", baseline.state())
    again = RunningBaseline.from_state(read_state(tmp_path / "b", "baseline"))
    assert [again.update(q) for q in (0.1, 0.9)] == [baseline.update(q) for q in (0.1, 0.9)]


@pytest.mark.parametrize("settings", [{"prior": 1.1}, {"prior_weight": 0.0}, {"decay": 0.0}, {"decay": 1.1}])
def test_a_baseline_refuses_bad_settings(settings):
    with pytest.raises(ConfigError):
        RunningBaseline(**settings)
