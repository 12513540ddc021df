"""The minimum bipartition against trying every one of them by another formula, and how near the searches come."""

import itertools
import time

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from sona.dreams.dynamics import dynamics, stochastic_interaction
from sona.dreams.partition import MOST_NODES, QUEYRANNE_NODES, minimum_bipartition, queyranne, sweeps
from sona.dreams.phi import couplings
from sona.errors import InvalidValue


def tried_one_by_one(a) -> float:
    """The least interaction over all bipartitions, from the joint covariance of past and present of each part."""
    n, covariance = len(a), solve_discrete_lyapunov(a, np.eye(len(a)))
    joint = np.block([[covariance, covariance @ a.T], [a @ covariance, covariance]])

    def entropy(part):
        both = [*part, *(node + n for node in part)]
        present = np.linalg.slogdet(covariance[np.ix_(part, part)])[1]
        return 0.5 * (np.linalg.slogdet(joint[np.ix_(both, both)])[1] - present)

    nodes = range(n)
    parts = [list(part) for size in range(1, n // 2 + 1) for part in itertools.combinations(nodes, size)]
    return min(entropy(part) + entropy([node for node in nodes if node not in part]) for part in parts)


def random_network(rng, n, density):
    # A random tree, so that all hangs together, and further links.
    weights = np.zeros((n, n))
    for node in range(1, n):
        weights[rng.integers(node), node] = rng.random()
    further = rng.random((n, n)) * (rng.random((n, n)) < density)
    weights = np.maximum(weights, np.triu(further, 1))
    return weights + weights.T


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_exhaustive_equals_trying_one_by_one(n):
    rng = np.random.default_rng(n)
    for _ in range(8):
        a = couplings(random_network(rng, n, 0.4), 0.9)
        found = minimum_bipartition(a)
        assert found.is_exact
        assert found.si == pytest.approx(tried_one_by_one(a), abs=1e-10)
        assert found.si == pytest.approx(stochastic_interaction(a, found.part), abs=1e-10)
        assert 1 <= len(found.part) <= n // 2


def test_exhaustive_equals_trying_one_by_one_where_links_have_a_direction():
    rng = np.random.default_rng(0)
    for _ in range(8):
        a = rng.normal(size=(6, 6))
        a *= 0.9 / np.abs(np.linalg.eigvals(a)).max()
        assert minimum_bipartition(a).si == pytest.approx(tried_one_by_one(a), abs=1e-9)


@pytest.mark.parametrize(
    ("search", "coupling", "missed", "worst"),
    [(queyranne, 0.9, 1, 0.08), (queyranne, 0.99, 15, 0.81), (sweeps, 0.9, 0, 0.0), (sweeps, 0.99, 0, 0.0)],
)
def test_a_search_alone_misses_the_minimum_no_more_often_than_documented(search, coupling, missed, worst):
    rng = np.random.default_rng(7)
    excess = []
    for _ in range(120):
        a = couplings(random_network(rng, int(rng.integers(5, 12)), rng.choice([0.0, 0.1, 0.4, 1.0])), coupling)
        mask, si = search(dynamics(a))
        assert si == pytest.approx(stochastic_interaction(a, np.flatnonzero(mask)), abs=1e-10)
        excess.append(si / minimum_bipartition(a).si - 1.0)
    assert np.sum(np.array(excess) > 1e-8) <= missed
    assert max(excess) <= worst + 1e-8


@pytest.mark.parametrize("density", [0.0, 0.1, 0.4, 1.0])
def test_searches_find_the_minimum_of_small_networks(density):
    # Stochastic interaction is not submodular: nothing guarantees this, and no failure is known.
    rng = np.random.default_rng(4)
    for n in (8, 10, 12):
        for _ in range(12):
            a = couplings(random_network(rng, n, density), 0.9)
            best, searched = minimum_bipartition(a, n), minimum_bipartition(a, 2)
            assert best.is_exact
            assert not searched.is_exact
            assert searched.si == pytest.approx(best.si, abs=1e-10)
            assert searched.si == pytest.approx(stochastic_interaction(a, searched.part), abs=1e-10)


def test_a_network_too_large_for_queyranne_is_cut_at_its_bridge():
    rng = np.random.default_rng(5)
    n = QUEYRANNE_NODES + 8
    weights = np.zeros((n, n))
    for members in np.split(rng.permutation(n), 2):
        weights[np.ix_(members, members)] = rng.uniform(0.5, 1.0, (n // 2, n // 2))
        island = members
    weights = np.triu(weights, 1)
    others = [node for node in range(n) if node not in island]
    weights[min(island[0], others[0]), max(island[0], others[0])] = 0.01
    found = minimum_bipartition(couplings(weights + weights.T, 0.9))
    assert set(found.part) in (set(island.tolist()), set(others))
    assert not found.is_exact


@pytest.mark.parametrize("seed", range(8))
def test_a_node_of_a_large_network_that_is_best_cut_off_alone_is_found(seed):
    rng = np.random.default_rng(seed)
    system = dynamics(couplings(random_network(rng, 100, (0.02, 0.05, 0.1, 0.3)[seed % 4]), 0.9))
    alone = system.of_parts(np.eye(100, dtype=bool))
    assert sweeps(system)[1] <= alone.min() + 1e-10


def test_of_two_parts_the_smaller_is_named():
    weights = np.zeros((5, 5))
    weights[:3, :3] = weights[3:, 3:] = 1.0
    weights[2, 3] = weights[3, 2] = 0.01
    assert minimum_bipartition(couplings(weights, 0.9)).part == (3, 4)
    assert minimum_bipartition(couplings(weights[::-1, ::-1], 0.9)).part == (0, 1)


@pytest.mark.parametrize("n", [0, 1, MOST_NODES + 1])
def test_too_few_and_too_many_nodes_are_refused(n):
    with pytest.raises(InvalidValue):
        minimum_bipartition(np.zeros((n, n)))


@pytest.mark.parametrize("exhaustive_nodes", [1, 21, 2.0, True])
def test_a_limit_outside_its_range_is_refused(exhaustive_nodes):
    with pytest.raises(InvalidValue, match="exhaustive_nodes"):
        minimum_bipartition(np.zeros((3, 3)), exhaustive_nodes)


@pytest.mark.parametrize("exhaustive_nodes", [12, 16])
def test_fifteen_nodes_take_less_than_a_fifth_of_a_second(exhaustive_nodes):
    a = couplings(random_network(np.random.default_rng(6), 15, 0.3), 0.9)
    took = []
    for _ in range(5):
        began = time.process_time()
        minimum_bipartition(a, exhaustive_nodes)
        took.append(time.process_time() - began)
    assert min(took) < 0.2
