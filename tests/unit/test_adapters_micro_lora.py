"""MicroLoRA: identity when new, exact gradients, a trust region, and the faults of the peer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal
from sona.errors import ConfigError, DimensionMismatch, InvalidValue, LearningError, StoreError
from sona.state import State, digest, read_state, write_state
from sona.types import QueryTrajectory, TrajectoryStep

D = 32


def unit(rng: np.random.Generator, d: int = D) -> np.ndarray:
    x = rng.normal(size=d)
    return (x / np.linalg.norm(x)).astype(np.float32)


def trained(rank: int = 2, trust_region: float = 0.3, rate: float = 0.3, seed: int = 0) -> MicroLoRA:
    rng = np.random.default_rng(seed)
    adapter = MicroLoRA(D, rank, seed=seed, trust_region=trust_region)
    for _ in range(8):
        adapter.accumulate_gradient(LearningSignal.with_gradient(unit(rng), unit(rng), 1.0))
        adapter.apply_accumulated(rate)
    return adapter


def slow_forward(adapter: MicroLoRA, a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    # x' in float64, straight from the equation.
    correction = adapter.scale * (x @ a) @ b
    length = np.linalg.norm(correction)
    return x + correction * min(1.0, adapter.trust_region * np.linalg.norm(x) / length) if length > 0.0 else x


def slow_gradient(adapter: MicroLoRA, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    # Central differences of <g, x'> in float64, in the flat layout.
    flat = adapter.flat().astype(np.float64)
    cut = D * adapter.rank

    def value(weights: np.ndarray) -> float:
        moved = slow_forward(adapter, weights[:cut].reshape(D, -1), weights[cut:].reshape(-1, D), x.astype(np.float64))
        return float(g.astype(np.float64) @ moved)

    slopes = np.empty(flat.size)
    for i in range(flat.size):
        step = np.zeros(flat.size)
        step[i] = 1e-6
        slopes[i] = (value(flat + step) - value(flat - step)) / 2e-6
    return slopes


@pytest.mark.parametrize("rank", [1, 2])
def test_a_new_adapter_returns_its_input_bit_for_bit(rank):
    adapter = MicroLoRA(D, rank)
    rng = np.random.default_rng(0)
    for x in (
        rng.normal(size=D).astype(np.float32),
        rng.normal(size=(5, D)).astype(np.float32),
        np.zeros((0, D), np.float32),
    ):
        x[..., 0] = -0.0
        out = np.full_like(x, 7.0)
        assert adapter.forward(x).tobytes() == x.tobytes()
        assert adapter.forward(x, out=out) is out
        assert out.tobytes() == x.tobytes()
        assert not adapter.delta(x).any()
    assert not np.shares_memory(adapter.forward(x), x)


@pytest.mark.parametrize("trust_region", [0.3, np.inf, 1e-3])
def test_forward_is_the_equation_for_one_and_for_many(trust_region):
    adapter = trained(trust_region=trust_region, rate=0.1)
    rng = np.random.default_rng(1)
    many = np.concatenate([rng.normal(size=(6, D)), np.zeros((1, D))]).astype(np.float32)
    a, b = adapter.weights.a.astype(float), adapter.weights.b.astype(float)
    expected = np.array([slow_forward(adapter, a, b, row) for row in many.astype(float)])
    assert adapter.forward(many) == pytest.approx(expected, abs=1e-5)
    for row, want in zip(many, expected, strict=True):
        assert adapter.forward(row) == pytest.approx(want, abs=1e-5)
        assert (adapter.forward(row) == row + adapter.delta(row)).all()
        assert adapter.forward(row.tolist()) == pytest.approx(want, abs=1e-5)


def test_forward_and_delta_write_into_out_even_in_place():
    adapter = trained()
    many = np.random.default_rng(1).normal(size=(4, D)).astype(np.float32)
    for x in (many, many[0].copy()):
        want, correction, out = adapter.forward(x), adapter.delta(x), np.empty_like(x)
        assert adapter.delta(x, out=out) is out
        assert (out == correction).all()
        assert adapter.forward(x, out=x) is x
        assert (x == want).all()


def test_the_trust_region_holds_and_can_be_switched_off():
    x = unit(np.random.default_rng(5))
    near, far = trained(trust_region=0.01), trained(trust_region=np.inf)
    assert np.linalg.norm(near.delta(7.0 * x)) == pytest.approx(0.07, rel=1e-5)
    assert np.linalg.norm(far.delta(x)) > 0.05


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("trust_region", [np.inf, 0.05])
def test_gradients_equal_finite_differences(rank, trust_region):
    adapter = trained(rank, trust_region)
    rng = np.random.default_rng(2)
    checked = 0
    while checked < 3:
        x, g = unit(rng), unit(rng)
        if np.linalg.norm(adapter.delta(x)) < 0.9 * min(trust_region, 1e-2):
            continue
        if adapter.delta(x) @ g < 0.0:
            g = -g  # pointing outward, where the rule is the exact derivative
        want = slow_gradient(adapter, x, g)
        got = adapter.flat_gradient(x, g)
        assert got == pytest.approx(want, abs=2e-5 * np.abs(want).max())
        parts = adapter.gradient(x, g)
        assert (np.concatenate([parts.a.ravel(), parts.b.ravel()]) == got).all()
        assert (parts.a.shape, parts.b.shape) == ((D, rank), (rank, D))
        checked += 1


def test_a_saturated_adapter_comes_back():
    rng = np.random.default_rng(3)
    x, target = unit(rng), unit(rng)
    adapter = MicroLoRA(D, trust_region=0.2)
    for _ in range(30):
        adapter.accumulate_gradient(LearningSignal.with_gradient(x, target, 1.0))
        adapter.apply_accumulated(0.5)
    assert np.linalg.norm(adapter.delta(x)) == pytest.approx(0.2, rel=1e-4)
    towards = adapter.delta(x) @ target
    for _ in range(200):
        adapter.accumulate_gradient(LearningSignal.with_gradient(x, -target, 1.0))
        adapter.apply_accumulated(0.5)
    assert towards > 0.15
    assert adapter.delta(x) @ target < -0.15


def test_at_the_edge_an_inward_push_is_not_projected_away():
    adapter = trained(trust_region=0.02)
    x = unit(np.random.default_rng(5))
    weights, raw = adapter.weights, x @ adapter.weights.a @ adapter.weights.up
    shrink = 0.02 / np.linalg.norm(raw)
    assert shrink < 0.9
    inward = -raw / np.linalg.norm(raw)
    wanted = adapter.scale * np.outer(x @ weights.a, shrink * inward)
    assert adapter.gradient(x, inward).b == pytest.approx(wanted, abs=1e-5)
    assert adapter.gradient(x, -inward).b == pytest.approx(np.zeros((2, D)), abs=1e-5)


def test_one_plain_step_moves_the_correction_by_about_the_rate():
    rng = np.random.default_rng(4)
    moves = []
    for seed in range(200):
        x, g = unit(rng), unit(rng)
        adapter = MicroLoRA(D, seed=seed)
        adapter.accumulate_gradient(LearningSignal.with_gradient(x, g, 1.0))
        adapter.apply_accumulated(0.01)
        moves.append(adapter.delta(x) @ g / 0.01)
    assert np.mean(moves) == pytest.approx(1.0, abs=0.2)


def test_the_mean_of_what_waits_is_applied_once():
    rng = np.random.default_rng(6)
    signals = [LearningSignal.with_gradient(unit(rng), unit(rng), 1.0) for _ in range(3)]
    adapter = MicroLoRA(D)
    before = adapter.flat()
    mean = np.mean([adapter.flat_gradient(s.query_embedding, s.gradient_estimate) for s in signals], axis=0)
    assert [adapter.accumulate_gradient(s) for s in signals] == [True] * 3
    assert adapter.pending_updates == 3
    assert not adapter.delta(unit(rng)).any()
    assert (adapter.apply_accumulated(0.1), adapter.apply_accumulated(0.1)) == (3, 0)
    assert adapter.flat() == pytest.approx(before + 0.1 * mean, abs=1e-6)
    assert (adapter.pending_updates, adapter.applied_count) == (0, 3)


def test_a_signal_that_is_no_push_is_counted_and_changes_nothing():
    adapter = trained()
    before = digest(State({"weights": adapter.flat()}))
    assert adapter.accumulate_gradient(LearningSignal.with_gradient(np.ones(D), np.zeros(D), 0.5)) is False
    assert (adapter.skipped_count, adapter.pending_updates, adapter.apply_accumulated(1.0)) == (1, 0, 0)
    assert digest(State({"weights": adapter.flat()})) == before


def test_a_constraint_sees_descent_gradients_and_weights_and_has_the_last_word():
    adapter = trained()
    rng = np.random.default_rng(7)
    signal = LearningSignal.with_gradient(unit(rng), unit(rng), 1.0)
    before = adapter.flat()
    ascent = adapter.flat_gradient(signal.query_embedding, signal.gradient_estimate)
    seen: list[np.ndarray] = []

    def constrain(gradient: np.ndarray, weights: np.ndarray) -> np.ndarray:
        seen.extend((gradient.copy(), weights.copy()))
        return 0.5 * gradient

    adapter.accumulate_gradient(signal)
    assert adapter.apply_accumulated(0.2, constrain) == 1
    assert (seen[0] == -ascent).all()
    assert (seen[1] == before).all()
    assert adapter.flat() == pytest.approx(before + 0.1 * ascent, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, 1e7])
def test_a_result_that_is_not_finite_or_diverged_changes_nothing(bad):
    adapter = trained()
    adapter.accumulate_gradient(LearningSignal.with_gradient(np.ones(D), np.ones(D), 1.0))
    before = digest(adapter.state())
    with pytest.raises(LearningError):
        adapter.apply_accumulated(1.0, lambda gradient, _: np.full_like(gradient, bad))
    with pytest.raises(LearningError):
        adapter.apply_accumulated(1.0, lambda gradient, _: gradient[:-1])
    with pytest.raises(LearningError):
        adapter.apply_accumulated(1e30)
    assert digest(adapter.state()) == before
    assert adapter.discard_accumulated() == 1
    assert adapter.pending_updates == 0


def test_gradients_that_overflow_are_not_added():
    adapter = trained()
    before = digest(adapter.state())
    with pytest.raises(LearningError):
        adapter.accumulate_gradient(LearningSignal.with_gradient(np.full(D, 1e30), np.full(D, 1e30), 1.0))
    assert digest(adapter.state()) == before


def test_reset_is_a_new_adapter_and_fold_hands_the_weights_over():
    adapter = trained()
    weights, x = adapter.weights, unit(np.random.default_rng(8))
    folded = adapter.fold()
    assert (folded.a == weights.a).all()
    assert (folded.b == weights.b).all()
    assert weights.b.any()
    assert not adapter.delta(x).any()
    assert (adapter.weights.a == weights.a).all()
    adapter.accumulate_gradient(LearningSignal.with_gradient(x, x, 1.0))
    adapter.reset()
    assert (adapter.flat() == MicroLoRA(D).flat()).all()
    assert adapter.pending_updates == 0


def test_published_weights_cannot_be_changed():
    weights = trained().weights
    for array in (weights.a, weights.b):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0.0


def test_a_saved_adapter_answers_and_goes_on_bit_for_bit(tmp_path):
    adapter = MicroLoRA(D, 1, seed=5, trust_region=0.2, scale=3.0)
    rng = np.random.default_rng(9)
    for applied in (True, False):
        adapter.accumulate_gradient(LearningSignal.with_gradient(unit(rng), unit(rng), 1.0))
        if applied:
            adapter.apply_accumulated(0.7)
    adapter.accumulate_gradient(LearningSignal.with_gradient(unit(rng), np.zeros(D), 1.0))
    write_state(tmp_path / "a", "micro_lora", adapter.state())
    again = MicroLoRA.from_state(read_state(tmp_path / "a", "micro_lora"))
    assert digest(again.state()) == digest(adapter.state())
    x = unit(rng)
    for one in (adapter, again):
        one.apply_accumulated(0.3)
    assert again.forward(x).tobytes() == adapter.forward(x).tobytes()
    assert (again.skipped_count, again.applied_count) == (1, 2)
    for one in (adapter, again):
        one.reset()
    assert again.flat().tobytes() == adapter.flat().tobytes()


def test_a_saved_adapter_with_nan_is_refused():
    values = dict(trained().state().items())
    with pytest.raises(StoreError, match="NaN"):
        MicroLoRA.from_state(State({**values, "weights": np.full_like(values["weights"], np.nan)}))
    with pytest.raises(StoreError, match="weights"):
        MicroLoRA.from_state(State({**values, "weights": np.zeros(3, np.float32)}))


@pytest.mark.parametrize("rank", [0, 3, 4, 1.0, True])
def test_a_rank_beyond_two_is_refused(rank):
    with pytest.raises(ConfigError):
        MicroLoRA(D, rank)


@pytest.mark.parametrize(
    "settings", [{"seed": -1}, {"trust_region": 0.0}, {"trust_region": np.nan}, {"scale": 0.0}, {"scale": np.inf}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        MicroLoRA(D, **settings)
    with pytest.raises(ConfigError):
        MicroLoRA(0)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.ones(D + 1, np.float32), DimensionMismatch),
        (np.ones((3, D - 1)), DimensionMismatch),
        (np.full(D, np.nan, np.float32), InvalidValue),
        (np.full(D, np.inf, np.float32), InvalidValue),
        (np.full(D, 1e30, np.float32), InvalidValue),
        (np.full((2, D), -np.inf), InvalidValue),
        (np.ones((1, 1, D)), InvalidValue),
        (["a"] * D, InvalidValue),
    ],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_bad_input_is_refused_and_nothing_changed(x, error, fresh):
    adapter = MicroLoRA(D) if fresh else trained()
    before = digest(adapter.state())
    for call in (
        adapter.forward,
        adapter.delta,
        lambda v: adapter.gradient(v, np.ones(D)),
        lambda v: adapter.gradient(np.ones(D), v),
    ):
        with pytest.raises(InvalidValue):
            call(x)
    with pytest.raises(error):
        adapter.forward(x)
    assert digest(adapter.state()) == before


@pytest.mark.parametrize(
    "out",
    [
        np.zeros(D),
        np.zeros(D - 1, np.float32),
        np.zeros((1, D), np.float32),
        [0.0] * D,
        np.broadcast_to(np.float32(0), D),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out):
    for adapter in (MicroLoRA(D), trained()):
        for call in (adapter.forward, adapter.delta):
            with pytest.raises(InvalidValue, match="out"):
                call(np.ones(D, np.float32), out=out)


def test_signals_of_another_width_and_bad_rates_are_refused():
    adapter = trained()
    with pytest.raises(DimensionMismatch):
        adapter.accumulate_gradient(LearningSignal.with_gradient([1.0], [1.0], 1.0))
    for rate in (0.0, -0.1, np.nan, np.inf, "fast"):
        with pytest.raises(InvalidValue):
            adapter.apply_accumulated(rate)


def test_readers_never_see_half_an_update():
    # Every published state adds the same to all coordinates of x; a torn read would mix two states.
    adapter = MicroLoRA(D, 1)
    x, g = unit(np.random.default_rng(0)), np.ones(D, np.float32)

    def read(_: int) -> list[float]:
        seen = [adapter.delta(x) for _ in range(1500)]
        return [float(np.ptp(correction) - 1e-3 * np.abs(correction).max()) for correction in seen]

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, index) for index in range(3)]
        for turn in range(300):
            adapter.accumulate_gradient(LearningSignal.with_gradient(x, g if turn % 2 else -0.9 * g, 1.0))
            adapter.apply_accumulated(0.01)
        assert max(spread for reader in readers for spread in reader.result()) <= 0.0
    assert adapter.delta(x).any()


# The peer's faults, as far as they are the instant adapter's.


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def cluster(rng: np.random.Generator, centre: np.ndarray, count: int) -> list[np.ndarray]:
    return [c / np.linalg.norm(c) for c in centre + 0.3 * rng.normal(size=(count, centre.size)) / np.sqrt(centre.size)]


def feedback(x: np.ndarray, target: np.ndarray, reward: float) -> LearningSignal:
    return LearningSignal.from_trajectory(QueryTrajectory(1, x, (TrajectoryStep(target, reward=reward),)))


@pytest.mark.parametrize("rank", [1, 2])
def test_one_cluster_and_one_target_improve_for_every_seed(rank):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        centre, target = unit(rng, 64), unit(rng, 64)
        adapter = MicroLoRA(64, rank, seed=seed)
        for x in cluster(rng, centre, 50):
            adapter.accumulate_gradient(feedback(x, target, 1.0))
            adapter.apply_accumulated(0.05)
        fresh = cluster(rng, centre, 20)
        gain = np.mean([cosine(adapter.forward(x), target) - cosine(x, target) for x in fresh])
        assert gain > 0.05


def test_two_clusters_with_opposite_targets_both_improve():
    # 400 steps of rate 0.1, alternating; the peer moved by -.001.
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        target, centres = unit(rng, 64), (unit(rng, 64), unit(rng, 64))
        adapter = MicroLoRA(64, seed=seed)
        pairs = [(x, sign * target) for c, sign in zip(centres, (1.0, -1.0), strict=True) for x in cluster(rng, c, 200)]
        for index in rng.permutation(len(pairs)):
            adapter.accumulate_gradient(feedback(*pairs[index], 1.0))
            adapter.apply_accumulated(0.1)
        fresh = [(x, s * target) for c, s in zip(centres, (1.0, -1.0), strict=True) for x in cluster(rng, c, 20)]
        gains.append(np.mean([cosine(adapter.forward(x), t) - cosine(x, t) for x, t in fresh]))
    assert min(gains) > 0.1


def test_rank_two_is_not_rank_one():
    # Two clusters with unrelated targets need two directions.
    gains = {}
    for rank in (1, 2):
        rng = np.random.default_rng(0)
        pairs = [(unit(rng, 64), unit(rng, 64)) for _ in range(2)]
        adapter = MicroLoRA(64, rank, seed=1)
        for _ in range(300):
            for x, target in pairs:
                adapter.accumulate_gradient(feedback(x, target, 1.0))
            adapter.apply_accumulated(0.1)
        gains[rank] = min(cosine(adapter.forward(x), t) - cosine(x, t) for x, t in pairs)
    assert gains[2] > gains[1] + 0.01


def test_rewards_of_three_sizes_move_three_ways():
    rng = np.random.default_rng(0)
    x, target = unit(rng), unit(rng)
    moved = {}
    for reward in (0.1, 0.5, 0.9, 1.0):
        adapter = MicroLoRA(D)
        adapter.accumulate_gradient(feedback(x, target, reward))
        adapter.apply_accumulated(0.1)
        moved[reward] = float(adapter.delta(x) @ target)
    assert moved[0.1] < 0.0 == moved[0.5] < moved[0.9] < moved[1.0]
    assert moved[1.0] / moved[0.9] == pytest.approx(0.5 / 0.4, rel=1e-3)


def test_many_perfect_trajectories_move_the_output():
    rng = np.random.default_rng(0)
    x, target = unit(rng), unit(rng)
    adapter = MicroLoRA(D)
    for _ in range(1000):
        adapter.accumulate_gradient(feedback(x, target, 1.0))
        adapter.apply_accumulated(0.002)
    assert np.linalg.norm(adapter.delta(x)) > 0.25
