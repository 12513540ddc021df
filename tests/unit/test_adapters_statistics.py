"""RidgeStatistics: sums that add up, solved as scikit-learn solves them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sona.adapters.statistics import RidgeStatistics
from sona.errors import ConfigError, DimensionMismatch, InvalidValue, LearningError, StateError
from sona.state import digest, read_state, write_state

D = 12


def pairs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, D)).astype(np.float32), rng.normal(size=(count, D)).astype(np.float32)


def of(x: np.ndarray, y: np.ndarray, weight: object = 1.0) -> RidgeStatistics:
    statistics = RidgeStatistics(D)
    statistics.add(x, y, weight)
    return statistics


def test_without_data_nothing_is_corrected():
    assert not RidgeStatistics(D).solve(1.0).any()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_solution_is_scikit_learns_ridge(weighted):
    x, y = pairs(40)
    weight = np.random.default_rng(1).uniform(0.0, 2.0, 40) if weighted else np.ones(40)
    oracle = Ridge(alpha=3.0, fit_intercept=False).fit(x.astype(float), y.astype(float) - x, sample_weight=weight)
    solution = of(x, y, weight).solve(3.0)
    assert solution.dtype == np.float32
    assert solution == pytest.approx(oracle.coef_.T, abs=1e-6)


def test_one_by_one_equals_all_at_once():
    x, y = pairs(10)
    weight = np.arange(10.0)
    single = RidgeStatistics(D)
    for row in range(10):
        single.add(x[row], y[row], weight[row])
    assert single.solve(1.0) == pytest.approx(of(x, y, weight).solve(1.0), abs=1e-6)
    assert (single.count, single.total_weight) == (10, 45.0)


def test_shards_merge_into_the_whole():
    x, y = pairs(60)
    whole = of(x, y)
    shards = [of(x[part::3], y[part::3]) for part in range(3)]
    total = shards[0] + shards[1] + shards[2]
    assert total.solve(0.5) == pytest.approx(whole.solve(0.5), abs=1e-6)
    assert (total.count, total.total_weight, shards[0].count) == (60, 60.0, 20)
    shards[0].merge(shards[1])
    assert shards[0].count == 40


def test_a_second_task_leaves_the_first_ones_rows_alone():
    # Task 1 lives in the first half of the space, task 2 in the second.
    x, y = pairs(30)
    first, second = x.copy(), x.copy()
    first[:, D // 2 :] = 0.0
    second[:, : D // 2] = 0.0
    statistics = of(first, y)
    before = statistics.solve(1.0)
    statistics.add(second, pairs(30, 7)[1])
    after = statistics.solve(1.0)
    assert after[: D // 2] == pytest.approx(before[: D // 2], abs=1e-6)
    assert np.abs(after[D // 2 :]).max() > 0.1


def test_what_is_taken_out_was_never_there():
    x, y = pairs(30)
    statistics = of(x, y, 0.5)
    statistics.subtract(x[:10], y[:10], 0.5)
    assert statistics.solve(1.0) == pytest.approx(of(x[10:], y[10:], 0.5).solve(1.0), abs=1e-6)
    assert (statistics.count, statistics.total_weight) == (20, 10.0)


def test_more_than_there_is_cannot_be_taken_out():
    x, y = pairs(3)
    statistics = of(x[:2], y[:2])
    before = digest(statistics.state())
    with pytest.raises(StateError):
        statistics.subtract(x, y)
    assert digest(statistics.state()) == before


def test_taking_out_what_was_never_added_is_noticed_by_the_solution():
    x, y = pairs(3)
    statistics = of(x, y)
    statistics.subtract(10.0 * x, y)
    with pytest.raises(LearningError):
        statistics.solve(1.0)


def test_saved_statistics_go_on_bit_for_bit(tmp_path):
    x, y = pairs(20)
    statistics = of(x, y, 0.1)
    write_state(tmp_path / "s", "ridge", statistics.state())
    again = RidgeStatistics.from_state(read_state(tmp_path / "s", "ridge"))
    for one in (statistics, again):
        one.add(x[0], y[0])
    assert digest(again.state()) == digest(statistics.state())
    assert again.solve(1.0).tobytes() == statistics.solve(1.0).tobytes()


@pytest.mark.parametrize(
    ("x", "y", "weight", "error"),
    [
        (np.ones(D + 1), np.ones(D + 1), 1.0, DimensionMismatch),
        (np.ones(D), np.ones(D - 1), 1.0, DimensionMismatch),
        (np.ones((2, D)), np.ones(D), 1.0, InvalidValue),
        (np.full(D, np.nan), np.ones(D), 1.0, InvalidValue),
        (np.ones(D), np.full(D, np.inf), 1.0, InvalidValue),
        (np.ones(D), np.ones(D), -1.0, InvalidValue),
        (np.ones(D), np.ones(D), np.nan, InvalidValue),
        (np.ones(D), np.ones(D), "much", InvalidValue),
        (np.ones((2, D)), np.ones((2, D)), [1.0, 1.0, 1.0], InvalidValue),
    ],
)
def test_bad_pairs_are_refused_and_nothing_changed(x, y, weight, error):
    statistics = of(*pairs(5))
    before = digest(statistics.state())
    for change in (statistics.add, statistics.subtract):
        with pytest.raises(error):
            change(x, y, weight)
    assert digest(statistics.state()) == before


def test_bad_settings_are_refused():
    for regularisation in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidValue):
            RidgeStatistics(D).solve(regularisation)
    with pytest.raises(ConfigError):
        RidgeStatistics(0)
    with pytest.raises(DimensionMismatch):
        RidgeStatistics(D).merge(RidgeStatistics(D + 1))
