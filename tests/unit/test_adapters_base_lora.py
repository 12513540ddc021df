"""BaseLoRA: identity when new, the ridge solution after a fit, merged equal to applied."""

from __future__ import annotations

import numpy as np
import pytest

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.statistics import RidgeStatistics
from sona.errors import ConfigError, DimensionMismatch, InvalidValue, LearningError, StoreError
from sona.state import State, digest, write_state

D = 10


def statistics(count: int = 50, seed: int = 0) -> RidgeStatistics:
    rng = np.random.default_rng(seed)
    sums = RidgeStatistics(D)
    sums.add(rng.normal(size=(count, D)), rng.normal(size=(count, D)))
    return sums


def fitted(rank: int = 3, alpha: float | None = None) -> BaseLoRA:
    adapter = BaseLoRA(D, rank, 4, alpha=alpha)
    adapter.fit_layer(1, statistics())
    return adapter


def rows(count: int = 5) -> np.ndarray:
    return np.random.default_rng(9).normal(size=(count, D)).astype(np.float32)


def test_a_new_layer_is_the_identity_bit_for_bit():
    adapter = BaseLoRA(D)
    for x in (rows(), rows()[0]):
        assert adapter.forward_layer(3, x).tobytes() == x.tobytes()
        assert not np.shares_memory(adapter.forward_layer(3, x), x)
        assert not adapter.delta(3, x).any()
    weights = rows(D)
    assert adapter.merge_weights(weights, 3).tobytes() == weights.tobytes()
    assert (adapter.rank, adapter.num_layers, adapter.alpha, adapter.hidden_dim) == (8, 12, 8.0, D)
    assert adapter.param_count == 12 * 2 * D * 8


@pytest.mark.parametrize("alpha", [None, 1.0, 12.0])
def test_a_fit_of_full_rank_is_the_ridge_solution_times_its_strength(alpha):
    adapter = BaseLoRA(D, D, 2, alpha=alpha)
    result = adapter.fit_layer(0, statistics(), regularisation=2.0, strength=0.5)
    wanted = 0.5 * statistics().solve(2.0)
    assert adapter.delta(0, rows()) == pytest.approx(rows() @ wanted, abs=1e-5)
    assert (result.rank, result.energy_kept) == (D, pytest.approx(1.0))
    assert result.norm == pytest.approx(np.linalg.norm(wanted), rel=1e-5)
    assert (adapter.forward_layer(1, rows()) == rows()).all()


def test_a_fit_is_the_closest_matrix_of_its_rank():
    # Eckart and Young: what is left out are the smallest singular values.
    wanted = statistics().solve(3.0).astype(float) * 0.5
    values = np.linalg.svd(wanted, compute_uv=False)
    adapter = BaseLoRA(D, 3, 1)
    result = adapter.fit_layer(0, statistics())
    added = adapter.merge_weights(np.zeros((D, D)), 0)
    assert np.linalg.norm(wanted - added) == pytest.approx(np.sqrt(np.sum(values[3:] ** 2)), rel=1e-4)
    assert np.linalg.matrix_rank(added, tol=1e-5) == result.rank == 3
    assert result.energy_kept == pytest.approx(np.sum(values[:3] ** 2) / np.sum(values**2), rel=1e-5)
    assert result.norm == pytest.approx(np.linalg.norm(added), rel=1e-5)


def test_a_fit_learns_a_map_the_peer_left_at_zero():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    x = rng.normal(size=(400, D))
    sums = RidgeStatistics(D)
    sums.add(x, x @ turn)
    adapter = BaseLoRA(D, D, 1)
    adapter.fit_layer(0, sums, regularisation=0.1, strength=1.0)
    assert adapter.forward_layer(0, rows()) == pytest.approx(rows() @ turn, abs=0.01)


def test_a_refit_is_reproducible_in_sign():
    adapter = fitted()
    layer = adapter.layer(1)
    assert layer is not None
    assert (layer.down[np.abs(layer.down).argmax(axis=0), np.arange(3)] > 0.0).all()
    assert digest(fitted().state()) == digest(adapter.state())


def test_data_of_lower_rank_fill_fewer_directions():
    sums = RidgeStatistics(D)
    sums.add(np.eye(D)[0], np.ones(D))
    result = BaseLoRA(D, 4, 1).fit_layer(0, sums)
    assert (result.rank, result.energy_kept) == (1, pytest.approx(1.0))


def test_no_data_or_no_strength_is_the_identity():
    for sums, strength in ((RidgeStatistics(D), 0.5), (statistics(), 0.0)):
        adapter = fitted()
        result = adapter.fit_layer(1, sums, strength=strength)
        assert (result.rank, result.norm, adapter.layer(1)) == (0, 0.0, None)
        assert (adapter.forward_layer(1, rows()) == rows()).all()


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_merged_weights_equal_applying_the_adapter_beside_the_layer(alpha):
    adapter, weights, x = fitted(alpha=alpha), rows(D), rows()
    merged = adapter.merge_weights(weights, 1)
    assert x @ merged == pytest.approx(x @ weights + adapter.delta(1, x), abs=1e-5)
    assert x @ adapter.merge_weights(np.eye(D), 1) == pytest.approx(adapter.forward_layer(1, x), abs=1e-5)
    assert adapter.forward_layer(1, x[0]) == pytest.approx(adapter.forward_layer(1, x)[0], abs=1e-6)


def test_alpha_over_rank_scales_what_is_set():
    adapter = BaseLoRA(2, 2, 1, alpha=6.0)
    adapter.set_layer(0, np.eye(2), np.eye(2))
    assert adapter.forward_layer(0, [1.0, -2.0]).tolist() == [4.0, -8.0]
    adapter.reset_layer(0)
    assert adapter.forward_layer(0, [1.0, -2.0]).tolist() == [1.0, -2.0]


def test_what_was_set_does_not_change_with_the_callers_arrays():
    down, up = np.ones((D, 3), np.float32), np.ones((3, D), np.float32)
    adapter = BaseLoRA(D, 3, 1)
    adapter.set_layer(0, down, up)
    before = adapter.forward_layer(0, rows())
    down[:] = up[:] = 0.0
    assert (adapter.forward_layer(0, rows()) == before).all()
    layer = adapter.layer(0)
    assert layer is not None
    with pytest.raises(ValueError, match="read-only"):
        layer.down[:] = 0.0


def test_a_saved_adapter_answers_bit_for_bit(tmp_path):
    adapter = fitted(alpha=2.5)
    adapter.save(tmp_path / "base")
    again = BaseLoRA.load(tmp_path / "base")
    assert digest(again.state()) == digest(adapter.state())
    for layer in range(4):
        assert again.forward_layer(layer, rows()).tobytes() == adapter.forward_layer(layer, rows()).tobytes()
    assert (again.rank, again.alpha, again.num_layers) == (3, 2.5, 4)


def test_a_file_of_another_kind_or_shape_is_refused(tmp_path):
    write_state(tmp_path / "other", "engine", fitted().state())
    with pytest.raises(StoreError, match="engine"):
        BaseLoRA.load(tmp_path / "other")
    wrong = State({"1": State({"down": np.zeros((D, 2), np.float32), "up": np.zeros((2, D), np.float32)})})
    with pytest.raises(StoreError, match="layers/1/down"):
        BaseLoRA.from_state(State({**dict(fitted().state().items()), "layers": wrong}))
    with pytest.raises(StoreError):
        fitted().save(tmp_path / "missing" / "base")


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 0},
        {"rank": D + 1},
        {"num_layers": 0},
        {"hidden_dim": 0},
        {"alpha": 0.0},
        {"alpha": np.nan},
        {"rank": 2.0},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        BaseLoRA(**({"hidden_dim": D} | settings))


@pytest.mark.parametrize("layer", [-1, 4, 1.0, True, None])
def test_a_layer_that_does_not_exist_is_refused(layer):
    adapter = fitted()
    calls = [
        lambda: adapter.forward_layer(layer, rows()),
        lambda: adapter.delta(layer, rows()),
        lambda: adapter.merge_weights(np.eye(D), layer),
        lambda: adapter.set_layer(layer, np.zeros((D, 3)), np.zeros((3, D))),
        lambda: adapter.fit_layer(layer, statistics()),
        lambda: adapter.reset_layer(layer),
    ]
    for call in calls:
        with pytest.raises(InvalidValue, match="layer_idx"):
            call()


def test_bad_arrays_are_refused_and_nothing_changed():
    adapter = fitted()
    before = digest(adapter.state())
    calls = [
        (lambda: adapter.forward_layer(1, np.ones(D + 1)), DimensionMismatch),
        (lambda: adapter.forward_layer(1, np.full(D, np.nan)), InvalidValue),
        (lambda: adapter.set_layer(1, np.zeros((D, 2)), np.zeros((3, D))), DimensionMismatch),
        (lambda: adapter.set_layer(1, np.zeros((D + 1, 3)), np.zeros((3, D))), DimensionMismatch),
        (lambda: adapter.set_layer(1, np.zeros((D, 3)), np.zeros((2, D))), DimensionMismatch),
        (lambda: adapter.set_layer(1, np.full((D, 3), np.nan), np.zeros((3, D))), InvalidValue),
        (lambda: adapter.merge_weights(np.zeros((D, D + 1)), 1), DimensionMismatch),
        (lambda: adapter.merge_weights(np.zeros((D + 1, D)), 1), DimensionMismatch),
        (lambda: adapter.fit_layer(1, RidgeStatistics(D + 1)), DimensionMismatch),
        (lambda: adapter.fit_layer(1, statistics(), 0.0), InvalidValue),
        (lambda: adapter.fit_layer(1, statistics(), 1.0, 1.5), InvalidValue),
    ]
    for call, error in calls:
        with pytest.raises(error):
            call()
    broken = statistics(3)
    broken.subtract(100.0 * rows(3), rows(3))
    with pytest.raises(LearningError):
        adapter.fit_layer(1, broken)
    assert digest(adapter.state()) == before
