"""Stochastic interaction against its definition, scipy's Lyapunov solver, and values of PhiToolbox."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from sona.dreams.dynamics import dynamics, mutual_information, stationary_covariance, stochastic_interaction
from sona.errors import InvalidValue


def defined_interaction(a, part) -> float:
    """From conditional covariances, one by one."""
    covariance = solve_discrete_lyapunov(a, np.eye(len(a)))
    lagged = a @ covariance  # of the present with the past
    total = 0.0
    for nodes in (list(part), [node for node in range(len(a)) if node not in part]):
        own, past = covariance[np.ix_(nodes, nodes)], lagged[np.ix_(nodes, nodes)]
        total += np.linalg.slogdet(own - past @ np.linalg.inv(own) @ past.T)[1]
    return 0.5 * total


def random_coupling(rng, n, is_symmetric):
    a = rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.7)
    a = a + a.T if is_symmetric else a
    return a * rng.uniform(0.2, 0.95) / max(np.abs(np.linalg.eigvals(a)).max(), 0.1)


@pytest.mark.parametrize("is_symmetric", [True, False])
def test_interaction_of_any_part_equals_its_definition(is_symmetric):
    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(2, 8))
        a = random_coupling(rng, n, is_symmetric)
        part = rng.permutation(n)[: rng.integers(1, n)].tolist()
        assert stochastic_interaction(a, part) == pytest.approx(defined_interaction(a, part), abs=1e-9)


@pytest.mark.parametrize("is_symmetric", [True, False])
def test_all_three_ways_to_cut_agree(is_symmetric):
    rng = np.random.default_rng(1)
    system = dynamics(random_coupling(rng, 7, is_symmetric))
    everything = system.of_all_parts()
    masks = (np.arange(128)[:, None] >> np.arange(7) & 1).astype(bool)
    np.testing.assert_allclose(system.of_parts(masks), everything, atol=1e-12)
    assert everything[0] == pytest.approx(0.0, abs=1e-12)
    assert everything[-1] == pytest.approx(0.0, abs=1e-12)
    order = rng.permutation(7)
    places = np.cumsum(1 << order)[:-1]
    np.testing.assert_allclose(system.of_beginnings(order), everything[places], atol=1e-12)


@pytest.mark.parametrize("radius", [0.0, 0.5, 0.9, 0.999])
def test_covariance_equals_scipys(radius):
    rng = np.random.default_rng(2)
    for n in (1, 2, 5, 9):
        a = rng.normal(size=(n, n))
        a *= radius / np.abs(np.linalg.eigvals(a)).max()
        expected = solve_discrete_lyapunov(a, np.eye(n))
        np.testing.assert_allclose(stationary_covariance(a), expected, rtol=1e-8, atol=1e-8 * expected.max())


RING = 0.9 * np.roll(np.eye(5), 1, axis=0)


@pytest.mark.parametrize(
    ("a", "information", "part", "interaction"),
    [
        (0.4 * np.ones((2, 2)), 0.510826, [0], 0.211309),
        (np.kron(np.eye(2), [[0.2, 0.5], [0.5, 0.2]]), 0.767655, [0, 1], 0.0),
        (RING, 4.151828, [0, 1], 1.660731),
        (RING, 4.151828, [2], 1.660731),  # closed form: two cut links, each -1/2 ln(1 - .81)
    ],
)
def test_values_of_phitoolbox(a, information, part, interaction):
    assert mutual_information(a) == pytest.approx(information, abs=1e-6)
    assert stochastic_interaction(a, part) == pytest.approx(interaction, abs=1e-6)


def test_a_part_and_the_others_interact_as_the_others_and_the_part():
    a = random_coupling(np.random.default_rng(3), 6, is_symmetric=False)
    assert stochastic_interaction(a, [0, 3]) == pytest.approx(stochastic_interaction(a, [1, 2, 4, 5]), abs=1e-12)


@pytest.mark.parametrize(
    "a",
    [
        [[1.0, 0.0], [0.0, 0.1]],
        [[0.0, 2.0], [2.0, 0.0]],
        [[0.0, 1.0], [-1.0, 0.0]],
        [[0.5, 1e200], [0.0, 0.5]],
        [[0.0, 1e4], [0.0, 0.0]],  # stable, but beyond what the digits allow
        [[np.nan, 0.0], [0.0, 0.0]],
        [[np.inf, 0.0], [0.0, 0.0]],
        [[0.0, 0.5]],
        [0.5],
        np.zeros((0, 0)),
        [["a", "b"], ["c", "d"]],
        [[0.1], [0.1, 0.2]],
    ],
)
def test_what_is_no_stationary_coupling_is_refused(a):
    with pytest.raises(InvalidValue):
        stochastic_interaction(a, [0])


@pytest.mark.parametrize("part", [[], [0, 1, 2], [3], [-1], [0, 0], [0.0], ["0"]])
def test_a_part_of_nothing_everything_or_strangers_is_refused(part):
    with pytest.raises(InvalidValue, match="part"):
        stochastic_interaction(np.zeros((3, 3)), part)


def test_input_stays_as_it_was():
    a = 0.3 * np.ones((3, 3))
    before = a.copy()
    stochastic_interaction(a, [0])
    mutual_information(a)
    np.testing.assert_array_equal(a, before)
