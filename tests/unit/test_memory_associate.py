"""Associative memory: who joins the graph, what is learned of whom, and what requests see of it."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import GraphConfig
from sona.errors import StoreError
from sona.memory.associate import AssociativeMemory
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.recall import Seeds
from sona.memory.votes import Showing
from sona.state import State, digest

D = 4
VECTORS = np.random.default_rng(2).normal(size=(10, D)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
NAMES = tuple(f"m{row}" for row in range(10))
ONE = np.ones(1, np.float32)


def made(count: int = 4, **config) -> AssociativeMemory:
    memory = AssociativeMemory(D, GraphConfig(**config))
    memory.join(NAMES[:count], VECTORS[:count], now=1.0)
    return memory


def serve(memory: AssociativeMemory, rewards: dict[str, float], *, now: float = 2.0) -> None:
    vectors = {name: VECTORS[int(name[1:]) % 10] for name in rewards}
    memory.record(vectors, [Showing(name, reward) for name, reward in rewards.items()], now=now)


def weight(memory: AssociativeMemory, a: str, b: str, kind: EdgeKind = EdgeKind.TOGETHER) -> float:
    return {edge.kind: edge.weight for edge in memory.graph.edge(a, b)}.get(kind, 0.0)


# -- joining ---------------------------------------------------------------------------------------------------------


def test_memories_join_once_and_wait_to_be_compared():
    memory = made()
    before = digest(memory.graph.state())
    memory.join(NAMES[:4], VECTORS[:4], now=9.0)
    assert digest(memory.graph.state()) == before
    assert memory.unlinked == NAMES[:4]
    assert memory.graph.last_access.tolist() == [1.0] * 4


def test_another_vector_makes_everything_wait_again_and_ends_old_similarity():
    memory = made(min_similarity=0.0)
    memory.link(10**6)
    assert memory.unlinked == ()
    serve(memory, {"m0": 1.0, "m1": 1.0})
    rounded = VECTORS[1] * np.float32(1.0 + 1e-7)
    memory.join(["m1"], rounded[None], now=3.0)
    assert memory.unlinked == ()
    memory.join(["m1"], VECTORS[8:9], now=3.0)
    assert memory.unlinked == memory.graph.ids
    assert weight(memory, "m0", "m1", EdgeKind.SIMILAR) == 0.0
    assert weight(memory, "m0", "m1") > 0.0
    np.testing.assert_allclose(memory.graph.vectors[1], VECTORS[8], atol=1e-6)


def test_what_has_no_room_is_left_out():
    memory = made(6, capacity=4)
    assert memory.graph.ids == NAMES[:4]
    serve(memory, {"m7": 1.0, "m0": 1.0})
    assert memory.graph.ids == NAMES[:4]
    assert memory.graph.access_counts.tolist() == [1, 0, 0, 0]
    memory.graph.remove(["m3"])
    memory.join(NAMES[:6], VECTORS[:6], now=2.0)
    assert memory.graph.ids == NAMES[:4]  # as there is room for one, and m3 comes before the others


def test_what_was_ranked_first_and_remembered_then_is_a_memory():
    memory = made(2)
    serve(memory, {"m5": 1.0, "m0": 0.0})
    assert (memory.graph.kind("m5"), memory.graph.kind("m0")) == ("item", "memory")
    memory.join(["m5"], VECTORS[5:6], now=3.0)
    assert memory.graph.kind("m5") == "memory"
    assert int(memory.graph.access_counts[memory.graph.row_of["m5"]]) == 1


# -- learning --------------------------------------------------------------------------------------------------------


def test_what_serves_together_is_linked_and_what_does_not_is_not():
    memory = made(strengthen=0.1)
    serve(memory, {"m0": 1.0, "m1": 0.5, "m2": 0.0})
    assert weight(memory, "m0", "m1") == pytest.approx(0.05)
    assert weight(memory, "m0", "m2") == 0.0
    assert memory.graph.shown_counts.tolist() == [1, 1, 1, 0]


def merged(memory: AssociativeMemory) -> AssociativeMemory:
    memory.graph.merged([("m0", "m1")])
    memory.compared(["m1"])
    return memory


@pytest.mark.parametrize("is_read_back", [False, True])
def test_one_that_was_merged_serves_as_the_one_it_is_part_of(is_read_back):
    memory = merged(made(strengthen=0.1))
    if is_read_back:
        memory = AssociativeMemory.from_state(memory.state(), memory.config)
    serve(memory, {"m1": 1.0, "m2": 1.0})
    assert "m1" not in memory.graph
    assert "m1" not in memory.unlinked
    assert weight(memory, "m0", "m2") == pytest.approx(0.1)
    serve(memory, {"m1": 0.25, "m0": 0.5, "m3": 0.0})  # both were shown: it is one memory, and earned what it earned
    assert memory.graph.earned[memory.graph.row_of["m0"]] == pytest.approx(1.5)
    serve(memory, {"m1": 0.0, "m0": 1.0})
    assert int(memory.graph.access_counts[memory.graph.row_of["m0"]]) == 3


def test_one_that_was_merged_and_is_remembered_again_serves_for_itself():
    memory = merged(made())
    memory.join(["m1"], VECTORS[6:7], now=3.0)
    serve(memory, {"m1": 1.0})
    graph = memory.graph
    assert int(graph.access_counts[graph.row_of["m1"]]) == 1
    assert int(graph.access_counts[graph.row_of["m0"]]) == 0


def test_an_heir_that_goes_leaves_nobody_to_serve():
    memory = merged(made())
    memory.graph.merged([("m2", "m0")])
    assert (memory.graph.heir("m0"), memory.graph.heir("m1")) == ("m2", "m2")
    assert memory.graph.heir("m3") is None
    memory.graph.remove(["m2"])
    assert (memory.graph.heir("m0"), memory.graph.heir("m1")) == (None, None)


def test_of_two_heirs_it_is_the_first_live_and_read_back():
    memory = merged(made())
    memory.join(["m1"], VECTORS[1:2], now=3.0)
    memory.graph.merged([("m3", "m1")])
    again = AssociativeMemory.from_state(memory.state(), memory.config)
    assert memory.graph.heir("m1") == again.graph.heir("m1") == "m0"
    assert memory.graph.copy().heir("m1") == "m0"


# -- linking and publishing ------------------------------------------------------------------------------------------


def test_linking_stops_where_it_would_take_too_long_and_goes_on():
    memory = made(8, min_similarity=0.0, neighbours=2)
    assert memory.link(8 * 3 + 7) == 3
    assert memory.unlinked == NAMES[3:8]
    assert memory.link(10**6) == 5
    assert memory.link(10**6) == 0
    whole = made(8, min_similarity=0.0, neighbours=2)
    whole.link(10**6)
    assert digest(whole.state()) == digest(memory.state())


def test_requests_see_links_when_they_are_published_and_not_before():
    memory, seeds = made(), Seeds(("m0",), ONE)
    serve(memory, {"m0": 1.0, "m1": 1.0})
    assert memory.recall(seeds, NAMES, 10) is None
    assert memory.activation(seeds, NAMES) is None
    memory.publish()
    serve(memory, {"m0": 1.0, "m2": 1.0})
    assert memory.recall(seeds, NAMES, 10).rows.tolist() == [1]
    memory.publish()
    assert sorted(memory.recall(seeds, NAMES, 10).rows.tolist()) == [1, 2]


def test_publishing_is_worth_it_when_enough_is_new():
    memory = AssociativeMemory(D)
    memory.publish_if_worth_it()
    assert memory.links is None
    for count in range(1, 60):
        memory.join([f"n{count}"], VECTORS[:1], now=1.0)
        memory.publish_if_worth_it()
        assert len(memory.links.ids) >= 0.95 * count
    held = memory.links
    memory.publish_if_worth_it()
    assert memory.links is held


def test_a_list_of_ids_that_is_changed_in_place_is_looked_at_again():
    memory, seeds = made(), Seeds(("m0",), ONE)
    serve(memory, {"m0": 1.0, "m1": 1.0})
    memory.publish()
    names = ["m1", "m2", "m3"]
    assert memory.recall(seeds, names, 3).rows.tolist() == [0]
    names[:] = ["m2", "m3", "m1"]
    assert memory.recall(seeds, names, 3).rows.tolist() == [2]
    fixed = ("m1", "m2")
    for _ in range(2):
        assert memory.recall(seeds, fixed, 2).rows.tolist() == [0]


def test_it_comes_back_bit_for_bit_with_what_waits_and_what_is_published():
    memory = made(6)
    memory.link(12)
    serve(memory, {"m0": 1.0, "m1": 1.0, "m9": 0.0})
    memory.publish()
    serve(memory, {"m2": 1.0, "m3": 1.0})
    again = AssociativeMemory.from_state(memory.state(), memory.config)
    assert digest(again.state()) == digest(memory.state())
    assert again.unlinked == memory.unlinked
    for one in (memory, again):
        serve(one, {"m4": 1.0, "m9": 1.0})
        one.link(10**6)
        one.publish()
    assert digest(again.state()) == digest(memory.state())
    values = dict(memory.state().items())
    for name in values:
        with pytest.raises(StoreError):
            AssociativeMemory.from_state(State({key: value for key, value in values.items() if key != name}))


def test_a_node_with_sources_of_its_own_is_their_heir():
    memory = made(1)
    memory.graph.add(MemoryNode("new", VECTORS[3], provenance=("old",)))
    assert memory.graph.heir("old") == "new"
