"""Laws of Phi, for whatever network hypothesis thinks of."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sona.config import PhiConfig
from sona.dreams.dynamics import stochastic_interaction
from sona.dreams.partition import minimum_bipartition
from sona.dreams.phi import PhiEvaluator, couplings
from sona.memory.nodes import Adjacency

weight = st.just(0.0) | st.floats(1e-6, 1.0)
EVALUATOR = PhiEvaluator()


@st.composite
def networks(draw, least=2, most=8):
    n = draw(st.integers(least, most))
    above = np.triu_indices(n, 1)
    weights = np.zeros((n, n))
    weights[above] = draw(st.lists(weight, min_size=len(above[0]), max_size=len(above[0])))
    return weights + weights.T


def is_connected(weights):
    return bool((np.linalg.matrix_power((weights > 0) + np.eye(len(weights)), len(weights)) > 0).all())


def adjacency_of(weights) -> Adjacency:
    rows, columns = np.nonzero(weights)
    starts = np.concatenate([[0], np.bincount(rows, minlength=len(weights)).cumsum()]).astype(np.int64)
    return Adjacency(starts, columns.astype(np.int32), weights[rows, columns].astype(np.float32))


@settings(max_examples=150, deadline=None)
@given(networks(), st.sampled_from([0.1, 0.9, 0.999]))
def test_phi_is_at_least_0_and_below_1_and_0_where_the_network_falls_apart(weights, coupling):
    phi = PhiEvaluator(PhiConfig(coupling=coupling)).phi_of(weights)
    assert 0.0 <= phi < 1.0
    assert phi == 0.0 or is_connected(weights)


@settings(max_examples=60, deadline=None)
@given(networks(1, 5), networks(1, 5))
def test_two_networks_without_a_link_have_none(first, second):
    n = len(first)
    weights = np.zeros((n + len(second),) * 2)
    weights[:n, :n], weights[n:, n:] = first, second
    assert EVALUATOR.phi_of(weights) == 0.0


@settings(max_examples=100, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_phi_does_not_depend_on_the_order_of_the_nodes(weights, random):
    order = list(range(len(weights)))
    random.shuffle(order)
    np.testing.assert_allclose(EVALUATOR.phi_of(weights[np.ix_(order, order)]), EVALUATOR.phi_of(weights), atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(networks(), st.floats(1e-9, 1e9), st.lists(st.floats(0.0, 1e3), min_size=8, max_size=8))
def test_phi_does_not_depend_on_the_scale_nor_on_links_of_a_node_to_itself(weights, scale, loops):
    changed = scale * weights + np.diag(loops[: len(weights)])
    np.testing.assert_allclose(EVALUATOR.phi_of(changed), EVALUATOR.phi_of(weights), atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(networks(), st.data())
def test_no_part_interacts_less_than_the_minimum(weights, data):
    a = couplings(weights, 0.9)
    nodes = st.sets(st.integers(0, len(a) - 1), min_size=1, max_size=len(a) - 1)
    found = minimum_bipartition(a)
    assert found.si <= stochastic_interaction(a, sorted(data.draw(nodes))) + 1e-10
    assert abs(found.si - stochastic_interaction(a, found.part)) <= 1e-10


@settings(max_examples=150, deadline=None)
@given(networks(3, 9))
def test_a_search_is_never_below_the_minimum_and_names_the_part_it_speaks_of(weights):
    assume(is_connected(weights))
    a = couplings(weights, 0.9)
    searched = minimum_bipartition(a, 2)
    assert searched.si >= minimum_bipartition(a).si - 1e-10
    assert abs(searched.si - stochastic_interaction(a, searched.part)) <= 1e-10


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1), st.data())
def test_a_dream_is_as_integrated_however_often_and_in_whatever_order_it_visits(weights, seed, data):
    vectors = np.random.default_rng(seed).normal(size=(len(weights), 3)).astype(np.float32)
    visited = data.draw(st.lists(st.integers(0, len(weights) - 1), max_size=12))
    links = adjacency_of(weights)
    found = EVALUATOR.evaluate_rows(vectors, links, visited)
    assert found == EVALUATOR.evaluate_rows(vectors, links, sorted(set(visited)))
    assert set(found.partition) <= set(visited)
    assert found.nodes == len(set(visited))


@settings(max_examples=60, deadline=None)
@given(networks(1, 12), st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 6))
def test_the_mean_of_a_memory_lies_in_its_interval_and_follows_from_the_seed(weights, seed, samples, nodes):
    evaluator = PhiEvaluator(PhiConfig(samples=samples, sample_nodes=nodes))
    vectors, links = np.eye(len(weights), dtype=np.float32), adjacency_of(weights)
    found = evaluator.evaluate_memory(vectors, links, np.random.default_rng(seed))
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found.samples == samples
    assert found == evaluator.evaluate_memory(vectors, links, np.random.default_rng(seed))
