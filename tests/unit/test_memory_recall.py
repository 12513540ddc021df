import numpy as np
import pytest

from sona.config import GraphConfig
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.recall import PublishedLinks, Seeds


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_request_whose_seeds_have_no_links_reaches_nothing(hops):
    graph = MemoryGraph(2)
    for name, x in (("a", [1.0, 0.0]), ("b", [0.0, 1.0]), ("alone", [1.0, 1.0])):
        graph.add(MemoryNode(name, np.array(x)))
    graph.connect("a", "b", EdgeKind.TOGETHER, 0.5)
    seeds = Seeds(("alone",), np.array([0.9], np.float32))
    found = PublishedLinks.of(graph).activation(seeds, ("a", "b", "alone"), GraphConfig(hops=hops))
    assert found.tolist() == [[0.0] * 3] * 2
