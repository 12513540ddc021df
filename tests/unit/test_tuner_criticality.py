import networkx as nx
import numpy as np
import pytest
from scipy.stats import spearmanr

from sona.errors import InvalidValue
from sona.tuner.plans.criticality import criticality, topological_order


def random_graph(rng, n):
    # Edges go from lower to higher numbers, then the numbers are shuffled.
    names = rng.permutation(n)
    before = [[] for _ in range(n)]
    for later in range(1, n):
        for earlier in rng.choice(later, size=min(later, int(rng.integers(1, 4))), replace=False):
            if rng.random() < 0.8:
                before[names[later]].append(int(names[earlier]))
    return rng.exponential(size=n) ** 2, before


def longest(durations, before):
    # By networkx: a task is an edge of its duration.
    graph = nx.DiGraph()
    for row, earlier in enumerate(before):
        graph.add_edge((row, "in"), (row, "out"), weight=float(durations[row]))
        graph.add_edges_from(((one, "out"), (row, "in")) for one in earlier)
    return nx.dag_longest_path_length(graph, default_weight=0)


def test_a_chain_waits_for_all_of_it():
    found = criticality([1, 5, 2], [[], [0], [1]])
    assert found.drag.tolist() == [0.125, 0.625, 0.25]
    assert found.slack.tolist() == [0, 0, 0]
    assert (found.length, found.path, found.bottleneck_score) == (8, (0, 1, 2), 0.625)


def test_a_diamond_does_not_wait_for_its_shorter_side():
    found = criticality([1, 4, 3, 2], [[], [0], [0], [1, 2]])
    np.testing.assert_allclose(found.drag, [1 / 7, 1 / 7, 0, 2 / 7], atol=1e-12)
    assert found.slack.tolist() == [0, 0, 1, 0]
    assert found.start.tolist() == [0, 1, 1, 5]
    assert (found.length, found.path) == (7, (0, 1, 3))


@pytest.mark.parametrize("seed", range(30))
def test_length_drag_and_slack_are_those_of_networkx(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    durations, before = random_graph(rng, n)
    found = criticality(durations, before)
    length = longest(durations, before)
    assert found.length == pytest.approx(length)
    assert sum(durations[row] for row in found.path) == pytest.approx(length)
    assert all(earlier in before[later] for earlier, later in zip(found.path[:-1], found.path[1:], strict=True))
    for row in range(n):
        without = np.where(np.arange(n) == row, 0.0, durations)
        assert found.drag[row] == pytest.approx((length - longest(without, before)) / length, abs=1e-9)
        later = durations.copy()
        later[row] += found.slack[row]  # may take that much longer, and no more
        assert longest(later, before) == pytest.approx(length)
        later[row] += 0.1
        assert longest(later, before) == pytest.approx(length + 0.1)


def subtree_times(durations, before):
    graph = nx.DiGraph((one, row) for row, earlier in enumerate(before) for one in earlier)
    graph.add_nodes_from(range(len(before)))
    return [durations[row] + sum(durations[one] for one in nx.ancestors(graph, row)) for row in range(len(before))]


def test_drag_ranks_operators_by_what_speeding_them_up_gains():
    # The true gain is measured: each operator is made twice as fast, and the plan's time is taken again.
    rng = np.random.default_rng(0)
    by_drag, by_subtree, by_share = [], [], []
    for _ in range(100):
        durations, before = random_graph(rng, 20)
        length = longest(durations, before)
        gains = []
        for row in range(20):
            faster = durations.copy()
            faster[row] /= 2
            gains.append(round(length - longest(faster, before), 9))
        by_drag.append(spearmanr(criticality(durations, before).drag.round(9), gains).statistic)
        by_subtree.append(spearmanr(subtree_times(durations, before), gains).statistic)
        by_share.append(spearmanr(durations, gains).statistic)
    assert np.mean(by_drag) >= 0.95
    assert np.mean(by_subtree) < 0.6
    assert np.mean(by_share) < 0.6


def test_nothing_waits_where_nothing_takes_time():
    found = criticality([0, 0], [[], [0]])
    assert (found.length, found.drag.tolist(), found.slack.tolist(), found.bottleneck_score) == (0, [0, 0], [0, 0], 0)


def test_the_order_is_the_first_by_ids():
    assert topological_order([[], [], [0, 1]]) == (0, 1, 2)
    assert topological_order([[3], [0], [], []]) == (2, 3, 0, 1)
    assert topological_order([]) == ()


@pytest.mark.parametrize(
    ("durations", "before", "words"),
    [
        ([], [], "at least one"),
        ([1], [[], []], "shape"),
        ([1, -1], [[], []], "at least 0"),
        ([1, np.nan], [[], []], "finite"),
        ([1, np.inf], [[], []], "finite"),
        ([1, 1], [[1], [0]], "cycle"),
        ([1], [[0]], "cycle"),
        ([1], [[1]], "from 0 to 0"),
        ([1], [[-1]], "from 0 to 0"),
    ],
)
def test_bad_input_is_refused(durations, before, words):
    with pytest.raises(InvalidValue, match=words):
        criticality(durations, before)
