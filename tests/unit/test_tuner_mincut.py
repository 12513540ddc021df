import itertools

import networkx as nx
import numpy as np
import pytest

from sona.errors import InvalidValue
from sona.tuner.plans.mincut import vertex_min_cut


def split(capacities, inputs):
    # By networkx: every operator is an edge of its capacity; edges without capacity are unlimited there.
    graph = nx.DiGraph()
    feeding = {one for earlier in inputs for one in earlier}
    for row, earlier in enumerate(inputs):
        graph.add_edge((row, "in"), (row, "out"), capacity=capacities[row])
        graph.add_edges_from(((one, "out"), (row, "in")) for one in earlier)
        if not earlier:
            graph.add_edge("source", (row, "in"))
        if row not in feeding:
            graph.add_edge((row, "out"), "sink")
    return graph


def is_cut(cut, inputs):
    # No way is left from an operator without inputs to one that feeds no other.
    left = nx.DiGraph((one, row) for row, earlier in enumerate(inputs) for one in earlier)
    left.add_nodes_from(range(len(inputs)))
    starts = [row for row in left if left.in_degree(row) == 0 and row not in cut]
    ends = {row for row in left if left.out_degree(row) == 0} - set(cut)
    left.remove_nodes_from(cut)
    return not any(ends & (nx.descendants(left, row) | {row}) for row in starts)


def test_the_middle_of_a_diamond_is_its_narrowest_place():
    found = vertex_min_cut([10, 4, 3, 20], [[], [0], [0], [1, 2]])
    assert (found.flow, found.cut) == (7, (1, 2))


@pytest.mark.parametrize("seed", range(40))
def test_the_flow_is_that_of_networkx_and_the_cut_carries_it(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    inputs = [[one for one in range(row) if rng.random() < 0.3] for row in range(n)]
    capacities = rng.integers(1, 10, size=n).astype(float)
    found = vertex_min_cut(capacities, inputs)
    assert found.flow == nx.maximum_flow_value(split(capacities, inputs), "source", "sink")
    assert sum(capacities[list(found.cut)]) == found.flow
    assert is_cut(found.cut, inputs)
    for part in itertools.combinations(found.cut, len(found.cut) - 1):  # none of it can be spared
        assert not is_cut(part, inputs)


def test_of_several_cuts_the_nearest_to_the_beginning_is_named():
    assert vertex_min_cut([5, 5, 5], [[], [0], [1]]).cut == (0,)


def test_an_operator_without_limit_is_never_cut():
    assert vertex_min_cut([np.inf, 3, np.inf], [[], [0], [1]]).cut == (1,)
    found = vertex_min_cut([np.inf, np.inf], [[], [0]])
    assert (found.flow, found.cut) == (np.inf, ())


def test_nothing_flows_through_a_closed_operator():
    found = vertex_min_cut([1, 0], [[], [0]])
    assert (found.flow, found.cut) == (0, (1,))


@pytest.mark.parametrize(
    ("capacities", "inputs", "words"),
    [
        ([], [], "at least one"),
        ([1.0, 2.0], [[]], "shape"),
        ([-1.0], [[]], "at least 0"),
        ([np.nan], [[]], "at least 0"),
        ([1.0, 1.0], [[1], [0]], "cycle"),
        ([1.0], [[4]], "from 0 to 0"),
    ],
)
def test_bad_input_is_refused(capacities, inputs, words):
    with pytest.raises(InvalidValue, match=words):
        vertex_min_cut(capacities, inputs)
