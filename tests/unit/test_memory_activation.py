"""Spreading activation."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from sona.errors import ConfigError
from sona.memory.activation import Activation, spread
from sona.memory.edges import EdgeArrays, keys_of
from sona.memory.links import Links


def reader(pairs: dict[tuple[int, int], float]):
    ends = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    weights = np.zeros((len(ends), 4), np.float32)
    weights[:, 0] = [pairs[one, other] for one, other in ends.tolist()]
    edges = EdgeArrays(keys_of(ends[:, 0], ends[:, 1]), weights, np.zeros(len(ends), np.uint8))
    links = Links.of(edges)
    return lambda rows: links.around(rows, edges.weights)


def test_many_hops_are_personalised_pagerank():
    graph = networkx.les_miserables_graph()
    rows = {name: row for row, name in enumerate(graph)}
    pairs = {
        (min(rows[a], rows[b]), max(rows[a], rows[b])): weight / 32.0 for a, b, weight in graph.edges(data="weight")
    }
    seeds = {"Valjean": 1.0, "Cosette": 3.0}
    start = Activation.of(np.array([rows[name] for name in seeds]), np.array(list(seeds.values())))
    found = spread(reader(pairs), start, hops=200, restart=0.3)
    expected = networkx.pagerank(graph, alpha=0.7, personalization=seeds, tol=1e-14, max_iter=500)
    reached = np.zeros(len(rows))
    reached[found.rows] = found.values
    assert reached == pytest.approx(np.array([expected[name] for name in rows]), abs=1e-9)


def test_no_memory_is_reached_that_is_farther_than_the_hops():
    chain = reader({(row, row + 1): 1.0 for row in range(9)})
    for hops in range(4):
        found = spread(chain, Activation.of(np.array([0]), np.ones(1)), hops=hops, restart=0.5)
        assert found.rows.tolist() == list(range(hops + 1))


def test_only_the_reached_are_asked_for_their_links():
    asked: list[int] = []
    chain = reader({(row, row + 1): 1.0 for row in range(50)})

    def noting(rows):
        asked.extend(rows.tolist())
        return chain(rows)

    spread(noting, Activation.of(np.array([10]), np.ones(1)), hops=3, restart=0.5)
    assert set(asked) == set(range(8, 13))


def test_a_seed_without_links_keeps_what_it_has():
    lonely = reader({(0, 1): 1.0})
    found = spread(lonely, Activation.of(np.array([2, 0]), np.array([3.0, 1.0])), hops=1, restart=0.0)
    assert dict(zip(found.rows.tolist(), found.values.tolist(), strict=True)) == {0: 0.1875, 1: 0.25, 2: 0.5625}


def test_where_everything_restarts_nothing_spreads():
    found = spread(reader({(0, 1): 1.0}), Activation.of(np.array([0]), np.ones(1)), hops=3, restart=1.0)
    assert found.rows.tolist() == [0]


def test_seeds_are_scaled_to_1_and_repeated_ones_add_up():
    start = Activation.of(np.array([4, 1, 4, 2]), np.array([1.0, 1.0, 2.0, 0.0]))
    assert (start.rows.tolist(), start.values.tolist()) == ([1, 4], [0.25, 0.75])
    nothing = Activation.of(np.zeros(0, np.int64), np.zeros(0))
    assert not len(spread(reader({(0, 1): 1.0}), nothing, hops=2, restart=0.5).rows)


@pytest.mark.parametrize(("hops", "restart"), [(-1, 0.5), (1, 1.5), (1, float("nan"))])
def test_settings_outside_their_range_are_refused(hops, restart):
    with pytest.raises(ConfigError):
        spread(reader({}), Activation.of(np.array([0]), np.ones(1)), hops=hops, restart=restart)
