"""Phi of networks with known values, and what becomes of memories that are few, apart, alike or broken."""

from math import inf, nan

import numpy as np
import pytest

from sona.config import PhiConfig
from sona.dreams.dynamics import mutual_information, stochastic_interaction
from sona.dreams.partition import MOST_NODES
from sona.dreams.phi import PhiEvaluator, PhiResult, couplings, linfoot
from sona.errors import DimensionMismatch, InvalidValue
from sona.memory.nodes import Adjacency

NO_LINKS = np.zeros((3, 3))


def adjacency_of(weights) -> Adjacency:
    weights = np.asarray(weights, np.float32)
    rows, columns = np.nonzero(weights)
    starts = np.concatenate([[0], np.bincount(rows, minlength=len(weights)).cumsum()]).astype(np.int64)
    return Adjacency(starts, columns.astype(np.int32), weights[rows, columns])


def two_triangles(bridge):
    weights = np.kron(np.eye(2), np.ones((3, 3)) - np.eye(3))
    weights[2, 3] = weights[3, 2] = bridge
    return weights


def path(n):
    return np.eye(n, k=1) + np.eye(n, k=-1)


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bridge", "phi"), [(0, 0), (0.05, 0.049), (0.1, 0.093), (0.2, 0.170), (0.4, 0.293), (0.8, 0.458), (1.6, 0.638)]
)
def test_two_triangles_are_as_integrated_as_their_bridge_is_strong(bridge, phi):
    assert PhiEvaluator().phi_of(two_triangles(bridge)) == pytest.approx(phi, abs=5e-4)


def test_a_path_of_six_has_the_value_of_phitoolbox():
    found = PhiEvaluator().evaluate(np.zeros((6, 2)), path(6))
    assert found == PhiResult(linfoot(found.si), found.si, (0, 1, 2), 6, True)
    assert found.si == pytest.approx(0.366689, abs=1e-6)
    assert mutual_information(couplings(path(6), 0.9)) == pytest.approx(2.496580, abs=1e-6)


@pytest.mark.parametrize(
    ("si", "phi"), [(0.0, 0.0), (0.0472, 0.3), (-0.5 * np.log(1 - 0.36), 0.6), (1e-14, 2**0.5 * 1e-7)]
)
def test_linfoot_is_the_correlation_that_carries_as_much(si, phi):
    assert linfoot(si) == pytest.approx(phi, rel=1e-3)


def test_linfoot_stays_below_one_and_refuses_what_is_no_information():
    assert linfoot(1e6) < 1.0
    assert linfoot(inf) < 1.0
    for si in (-1e-9, nan):
        with pytest.raises(InvalidValue, match="si"):
            linfoot(si)


def test_two_memories_are_as_integrated_as_they_are_coupled():
    # Closed form: A = [[0, c], [c, 0]], SI = -ln(1 - c^2), Phi = sqrt(1 - (1 - c^2)^2).
    for coupling in (0.1, 0.5, 0.9, 0.999):
        phi = PhiEvaluator(PhiConfig(coupling=coupling)).phi_of([[0, 1], [1, 0]])
        assert phi == pytest.approx(np.sqrt(1 - (1 - coupling**2) ** 2), abs=1e-9)


def test_more_links_are_not_always_more_phi():
    complete = 1.0 - np.eye(6)
    assert PhiEvaluator().phi_of(complete) < PhiEvaluator().phi_of(path(3))


# -- couplings -----------------------------------------------------------------------------------------------------


def test_couplings_have_the_radius_that_is_asked_for():
    weights = np.random.default_rng(0).random((7, 7))
    weights += weights.T
    values = np.linalg.eigvalsh(couplings(weights, 0.8))
    assert np.abs(values).max() == pytest.approx(0.8, abs=1e-12)


def test_couplings_leave_out_the_diagonal_and_keep_the_loneliest_at_zero():
    weights = np.diag([5.0, 1.0, 2.0])
    np.testing.assert_array_equal(couplings(weights, 0.9), NO_LINKS)
    weights[0, 1] = weights[1, 0] = 3.0
    np.testing.assert_allclose(couplings(weights, 0.9), [[0, 0.9, 0], [0.9, 0, 0], [0, 0, 0]], atol=1e-15)
    assert weights[0, 0] == 5.0


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 7.0, 1e300])
def test_phi_is_the_same_at_any_scale_of_the_weights(scale):
    weights = np.random.default_rng(1).random((6, 6))
    weights = weights + weights.T
    assert PhiEvaluator().phi_of(scale * weights) == pytest.approx(PhiEvaluator().phi_of(weights), rel=1e-9)


@pytest.mark.parametrize("coupling", [0.0, 1.0, -0.5, nan])
def test_a_coupling_outside_its_range_is_refused(coupling):
    with pytest.raises(InvalidValue, match="coupling"):
        couplings(NO_LINKS, coupling)


@pytest.mark.parametrize(
    "weights",
    [
        [[0, nan], [nan, 0]],
        [[0, inf], [inf, 0]],
        [[0, -0.1], [-0.1, 0]],
        [[0, 1], [0.5, 0]],
        [[0, 1e-9], [0, 0]],
        [[0, 1]],
        [1.0],
        "word",
        [[None, 1], [1, None]],
    ],
)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InvalidValue):
        PhiEvaluator().phi_of(weights)


# -- memories ------------------------------------------------------------------------------------------------------


def test_the_greater_of_link_and_similarity_counts():
    # Cosines 0.6 and -0.6: half of the first is 0.3, the second counts as 0.
    vectors = np.array([[1.0, 0.0], [3.0, 4.0], [-6.0, 8.0]])
    links = np.zeros((3, 3))
    links[0, 1] = links[1, 0] = 0.2
    links[1, 2] = links[2, 1] = 0.9
    cosine = (-18 + 32) / 50
    expected = np.array([[0, 0.3, 0], [0.3, 0, max(0.9, cosine / 2)], [0, max(0.9, cosine / 2), 0]])
    found = PhiEvaluator().evaluate(vectors, links)
    assert found.phi == pytest.approx(PhiEvaluator().phi_of(expected), abs=1e-6)
    assert found.partition == (0,)
    assert found.si == pytest.approx(stochastic_interaction(couplings(expected, 0.9), [0]), abs=1e-6)
    without = PhiEvaluator(PhiConfig(similarity_weight=0.0)).evaluate(vectors, links)
    assert without.phi == pytest.approx(PhiEvaluator().phi_of(links), abs=1e-12)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_memories_have_none(n):
    assert PhiEvaluator().evaluate(np.ones((n, 3)), np.zeros((n, n))) == PhiResult(0.0, 0.0, (), n, True)


def test_memories_that_are_apart_have_none_and_say_where():
    found = PhiEvaluator().evaluate(np.eye(4), np.kron(np.eye(2), path(2)))
    assert found == PhiResult(0.0, 0.0, (0, 1), 4, True)


def test_memories_without_a_direction_are_linked_by_links_alone():
    vectors = np.zeros((3, 5), np.float32)
    assert PhiEvaluator().evaluate(vectors, NO_LINKS).phi == 0.0
    assert PhiEvaluator().evaluate(vectors, path(3)).phi == pytest.approx(PhiEvaluator().phi_of(path(3)), abs=1e-12)


def test_memories_of_any_length_and_all_alike_are_evaluated():
    found = PhiEvaluator().evaluate(np.full((5, 3), 3e38, np.float32), np.zeros((5, 5)))
    assert found.phi == pytest.approx(PhiEvaluator().phi_of(1.0 - np.eye(5)), abs=1e-9)


def test_input_stays_as_it_was():
    vectors, links = np.eye(3), path(3) + np.eye(3)
    PhiEvaluator().evaluate(vectors, links)
    np.testing.assert_array_equal(vectors, np.eye(3))
    np.testing.assert_array_equal(links, path(3) + np.eye(3))


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_broken_vectors_and_links_are_refused(bad):
    vectors, links = np.eye(3), path(3)
    links[0, 1] = bad
    with pytest.raises(InvalidValue, match="edge_weights"):
        PhiEvaluator().evaluate(vectors, links)
    vectors[1, 1] = bad
    with pytest.raises(InvalidValue, match="vectors"):
        PhiEvaluator().evaluate(vectors, path(3))


def test_a_link_below_zero_is_refused_though_the_similarity_is_greater():
    links = np.zeros((2, 2))
    links[0, 1] = links[1, 0] = -0.1
    with pytest.raises(InvalidValue, match="edge_weights"):
        PhiEvaluator().evaluate(np.ones((2, 2)), links)


def test_links_of_other_memories_are_refused():
    with pytest.raises(DimensionMismatch):
        PhiEvaluator().evaluate(np.eye(4), path(3))


def test_more_memories_than_can_be_evaluated_are_refused_with_a_way_out():
    n = MOST_NODES + 1
    with pytest.raises(InvalidValue, match="evaluate_memory"):
        PhiEvaluator().phi_of(np.ones((n, n)))


def test_the_limit_of_what_is_exact_is_the_setting():
    weights = 1.0 - np.eye(6)
    assert PhiEvaluator(PhiConfig(exhaustive_nodes=6)).evaluate(np.zeros((6, 1)), weights).is_exact
    assert not PhiEvaluator(PhiConfig(exhaustive_nodes=5)).evaluate(np.zeros((6, 1)), weights).is_exact


# -- rows of a memory ----------------------------------------------------------------------------------------------


def test_rows_are_evaluated_once_each_and_named_by_their_place_in_the_memory():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    weights = np.triu(rng.random((9, 9)) * (rng.random((9, 9)) < 0.5), 1).astype(np.float32)
    weights += weights.T
    chosen = [1, 3, 4, 8]
    found = PhiEvaluator().evaluate_rows(vectors, adjacency_of(weights), [8, 3, 1, 3, 4, 8])
    expected = PhiEvaluator().evaluate(vectors[chosen], weights[np.ix_(chosen, chosen)])
    assert found == PhiResult(
        expected.phi, expected.si, tuple(chosen[place] for place in expected.partition), 4, expected.is_exact
    )


def test_rows_of_an_array_and_a_list_are_the_same():
    vectors, links = np.eye(4, dtype=np.float32), adjacency_of(path(4))
    listed = PhiEvaluator().evaluate_rows(vectors, links, [0, 1, 2])
    assert PhiEvaluator().evaluate_rows(vectors, links, np.array([0, 1, 2], np.int32)) == listed


def test_a_link_of_a_memory_to_itself_counts_for_nothing():
    vectors = np.eye(3, dtype=np.float32)
    loops = adjacency_of(path(3) + np.eye(3))
    assert PhiEvaluator().evaluate_rows(vectors, loops, [0, 1, 2]).phi == PhiEvaluator().phi_of(path(3))


@pytest.mark.parametrize("rows", [[], [2], [2, 2]])
def test_rows_of_fewer_than_two_memories_have_none(rows):
    vectors, links = np.eye(4, dtype=np.float32), adjacency_of(path(4))
    found = PhiEvaluator().evaluate_rows(vectors, links, rows)
    assert found == PhiResult(0.0, 0.0, (), len(set(rows)), True)


@pytest.mark.parametrize("rows", [[4], [-1, 0], [0.0, 1.0], [[0, 1]], ["0"], [True, False]])
def test_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(InvalidValue, match="rows"):
        PhiEvaluator().evaluate_rows(np.eye(4, dtype=np.float32), adjacency_of(path(4)), rows)


def test_vectors_of_another_memory_are_refused():
    with pytest.raises(InvalidValue, match="vectors"):
        PhiEvaluator().evaluate_rows(np.eye(3, dtype=np.float32), adjacency_of(path(4)), [0])
    with pytest.raises(InvalidValue, match="vectors"):
        PhiEvaluator().evaluate_memory(np.eye(3, dtype=np.float32), adjacency_of(path(4)), np.random.default_rng(0))


def test_a_link_of_nan_is_refused():
    links = Adjacency(np.array([0, 1, 2]), np.array([1, 0], np.int32), np.array([nan, nan], np.float32))
    with pytest.raises(InvalidValue):
        PhiEvaluator().evaluate_rows(np.eye(2, dtype=np.float32), links, [0, 1])


# -- a whole memory ------------------------------------------------------------------------------------------------


def test_a_memory_of_groups_has_the_mean_of_its_groups():
    # 30 memories in pairs of Phi .9826 and 30 alone, of Phi 0: a draw is of a pair with a chance of a half.
    weights = np.zeros((60, 60))
    weights[:30, :30] = np.kron(np.eye(15), path(2))
    config = PhiConfig(samples=400, similarity_weight=0.0)
    vectors, links = np.zeros((60, 2), np.float32), adjacency_of(weights)
    found = PhiEvaluator(config).evaluate_memory(vectors, links, np.random.default_rng(0))
    truth = 0.5 * PhiEvaluator().phi_of(path(2))
    assert found.samples == 400
    assert found.mean == pytest.approx(truth, abs=0.08)
    assert found.low < truth < found.high
    assert found.high - found.low == pytest.approx(4 * 0.5 * 0.98 / 20, rel=0.1)


def test_same_seed_same_phi_and_another_seed_another():
    rng = np.random.default_rng(3)
    weights = np.triu(rng.random((80, 80)) * (rng.random((80, 80)) < 0.05), 1)
    vectors, links = rng.normal(size=(80, 6)).astype(np.float32), adjacency_of(weights + weights.T)
    first, again, other = (
        PhiEvaluator().evaluate_memory(vectors, links, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert 0.0 <= first.low < first.mean < first.high <= 1.0


def test_an_empty_memory_has_no_samples():
    links = Adjacency(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    found = PhiEvaluator().evaluate_memory(np.zeros((0, 3), np.float32), links, np.random.default_rng(0))
    assert (found.mean, found.low, found.high, found.samples) == (0.0, 0.0, 0.0, 0)


def test_the_settings_can_be_read():
    assert PhiEvaluator().config == PhiConfig()
