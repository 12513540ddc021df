"""Walks gather what they should and end; intervals cover the truth as often as they say, where it can be known."""

import numpy as np
import pytest
from scipy import stats

from sona.dreams.neighbourhoods import MemoryPhi, links_among, mean_of_samples, neighbourhood, student_quantile
from sona.memory.nodes import Adjacency


def adjacency_of(weights) -> Adjacency:
    weights = np.asarray(weights, np.float32)
    rows, columns = np.nonzero(weights)
    starts = np.concatenate([[0], np.bincount(rows, minlength=len(weights)).cumsum()]).astype(np.int64)
    return Adjacency(starts, columns.astype(np.int32), weights[rows, columns])


def ring(n):
    weights = np.roll(np.eye(n), 1, axis=0)
    return weights + weights.T


def test_a_neighbourhood_of_a_ring_is_an_arc_around_its_start():
    links = adjacency_of(ring(50))
    for seed in range(20):
        found = neighbourhood(links, 10, 6, np.random.default_rng(seed))
        assert len(found) <= 6
        assert 10 in found
        assert found.tolist() == list(range(found[0], found[-1] + 1))


def test_a_neighbourhood_of_a_complete_network_is_full_and_each_memory_as_likely():
    links = adjacency_of(1.0 - np.eye(10))
    rng = np.random.default_rng(0)
    drawn = np.zeros(10)
    for _ in range(3000):
        found = neighbourhood(links, 0, 4, rng)
        assert len(found) == 4
        drawn[found] += 1.0
    assert drawn[0] == 3000
    np.testing.assert_allclose(drawn[1:] / 3000, 3 / 9, atol=0.035)


def test_a_walk_ends_where_there_is_nothing_more_to_find():
    links = adjacency_of(np.kron(np.eye(2), 1.0 - np.eye(3)))
    assert neighbourhood(links, 4, 12, np.random.default_rng(0)).tolist() == [3, 4, 5]
    alone = adjacency_of(np.zeros((3, 3)))
    assert neighbourhood(alone, 1, 12, np.random.default_rng(0)).tolist() == [1]
    itself = adjacency_of(np.eye(2))
    assert neighbourhood(itself, 1, 12, np.random.default_rng(0)).tolist() == [1]


def test_links_among_some_are_those_of_the_whole():
    rng = np.random.default_rng(1)
    weights = (rng.random((12, 12)) * (rng.random((12, 12)) < 0.5)).astype(np.float32)
    weights = np.maximum(weights, weights.T)
    for size in (0, 1, 5, 12):
        rows = np.sort(rng.permutation(12)[:size])
        np.testing.assert_array_equal(links_among(adjacency_of(weights), rows), weights[np.ix_(rows, rows)])


@pytest.mark.parametrize("degrees", [1.0, 2.0, 15.0, 400.0])
def test_the_quantile_of_student_equals_scipys(degrees):
    assert student_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_the_interval_of_a_mean_is_scipys():
    values = [0.2, 0.5, 0.4, 0.45, 0.3]
    found = mean_of_samples(values)
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert (found.mean, found.samples) == (pytest.approx(0.37), 5)


def test_values_that_are_all_alike_leave_room_for_what_was_not_drawn():
    found = mean_of_samples([0.0] * 16)
    assert (found.mean, found.low) == (0.0, 0.0)
    assert (1.0 - found.high) ** 16 == pytest.approx(0.05)  # so many others are missed with a chance of 5 %
    found = mean_of_samples([0.4])
    assert (found.low, found.high) == (pytest.approx(0.4 * 0.05), pytest.approx(0.4 + 0.6 * 0.95))


def test_the_interval_stays_within_what_phi_can_be():
    found = mean_of_samples([0.0, 1.0])
    assert found == MemoryPhi(0.5, 0.0, 1.0, 2)


@pytest.mark.parametrize("truth", ["even", "skewed", "mostly apart"])
def test_the_interval_covers_the_mean_about_as_often_as_it_says(truth):
    rng = np.random.default_rng(2)
    draws = {
        "even": rng.uniform(0.2, 0.8, (1000, 16)),
        "skewed": rng.beta(1.0, 4.0, (1000, 16)),
        "mostly apart": rng.beta(4.0, 4.0, (1000, 16)) * (rng.random((1000, 16)) < 0.3),
    }[truth]
    mean = {"even": 0.5, "skewed": 0.2, "mostly apart": 0.15}[truth]
    covered = np.mean([found.low <= mean <= found.high for found in map(mean_of_samples, draws.tolist())])
    assert 0.9 <= covered <= 0.98
