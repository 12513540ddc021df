"""The energy statistic against scipy's distances and a plain permutation test."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sona.config import BoundaryConfig
from sona.retention.energy import EnergyChannel, distances, null_statistics, self_distances


def direct_statistic(x, y) -> float:
    n, m = len(x), len(y)
    excess = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    return n * m / (n + m) * excess


def test_distances_equal_scipy():
    x, y = np.random.default_rng(0).normal(size=(2, 20, 7))
    np.testing.assert_allclose(distances(x, y), cdist(x, y), rtol=1e-12)
    np.testing.assert_allclose(self_distances(x), cdist(x, x), atol=1e-12)


def test_null_statistics_are_those_of_random_splits():
    x = np.random.default_rng(1).normal(size=(30, 4))
    null = null_statistics(self_distances(x), 10, 3000, np.random.default_rng(2))
    rng = np.random.default_rng(3)
    orders = [rng.permutation(30) for _ in range(3000)]
    direct = [direct_statistic(x[order[:10]], x[order[10:]]) for order in orders]
    assert null.mean() == pytest.approx(np.mean(direct), rel=0.02)
    assert null.std() == pytest.approx(np.std(direct), rel=0.1)
    assert null.min() > 0.0


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_channel_reports_the_direct_statistic_wherever_the_origin_is(offset):
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(120, 6)).astype(np.float32)
    rows[:, 0] += np.float32(offset)
    channel = EnergyChannel(BoundaryConfig(reference_size=40, window_size=16), 6)
    tests = [channel.feed(rows[:40], rng)]
    tests += [channel.feed(rows[start : start + 8], rng) for start in range(40, 120, 8)]
    assert tests[0] is tests[1] is None
    for k, test in enumerate(tests[2:]):
        window = rows[40 + 8 * k : 56 + 8 * k].astype(np.float64)
        assert test.statistic == pytest.approx(direct_statistic(window, rows[:40].astype(np.float64)), rel=1e-9)


def test_identical_embeddings_raise_no_alarm_and_a_new_one_does():
    rng = np.random.default_rng(5)
    same = np.tile(rng.normal(size=384).astype(np.float32), (37, 1))
    channel = EnergyChannel(BoundaryConfig(reference_size=37, window_size=16), 384)
    assert channel.feed(same, rng) is None
    assert channel.feed(same[:8], rng) is None
    assert not channel.feed(same[:8], rng).is_alarm
    assert channel.feed(same[:8] + np.float32(0.1), rng).is_alarm
