"""DreamEngine: dreams say what they saw, integration adds weak links and doubles none, bad input changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from sona.config import DreamConfig, GraphConfig
from sona.dreams.dream import Dream, DreamEngine, Integration, proposals, refusal
from sona.dreams.proposals import Proposal
from sona.errors import DimensionMismatch, InvalidValue, MemoryGraphError
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.state import digest

OPEN = DreamConfig(threshold=0.0, min_novelty=0.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ring(n: int = 12) -> MemoryGraph:
    graph = MemoryGraph(2)
    for row in range(n):
        angle = 2 * np.pi * row / n
        graph.add(MemoryNode(f"m{row:02}", np.array([np.cos(angle), np.sin(angle)])))
    for row in range(n):
        graph.connect(f"m{row:02}", f"m{(row + 1) % n:02}", EdgeKind.TOGETHER, 0.5)
    return graph


def dream_of(*found: Proposal, novelty: float = 0.5, score: float = 0.5) -> Dream:
    names = tuple(sorted({name for one in found for name in (one.a, one.b)}))
    return Dream("d", names, np.arange(len(names)), 0, novelty, 0.5, 0.5, 0.5, score, found)


def dream_links(graph: MemoryGraph) -> dict[tuple[str, str], float]:
    ids = graph.ids
    return {
        (a, b): edge.weight
        for number, a in enumerate(ids)
        for b in ids[number + 1 :]
        for edge in graph.edge(a, b)
        if edge.kind is EdgeKind.DREAM
    }


class TestDreams:
    def test_a_dream_says_what_it_saw(self):
        graph = ring()
        found = DreamEngine(OPEN, graph=graph).generate_dream(rng())
        assert len(found.path) == 15
        assert found.path == tuple(graph.ids[row] for row in found.rows)
        linked = [bool(graph.edge(a, b)) for a, b in zip(found.path[:-1], found.path[1:], strict=True)]
        assert found.creative_jumps <= linked.count(False)  # the others are ways back to the start
        for figure in (found.novelty, found.coherence, found.utility, found.diversity, found.score):
            assert 0.0 <= figure <= 1.0
        assert found.utility == pytest.approx(0.5)
        assert found.score == pytest.approx(0.7 * found.coherence + 0.3 * found.utility)

    def test_it_proposes_what_met_and_is_not_linked(self):
        graph = ring()
        for found in DreamEngine(OPEN, graph=graph).generate_dreams(20, rng()):
            for one in found.proposals:
                assert not graph.edge(one.a, one.b)
                at = [[step for step, name in enumerate(found.path) if name == end] for end in (one.a, one.b)]
                assert min(abs(first - second) for first in at[0] for second in at[1]) <= 3
            assert [one.score for one in found.proposals] == sorted((p.score for p in found.proposals), reverse=True)

    def test_the_specified_rule_proposes_what_followed_each_other(self):
        config = replace(OPEN, rule="specification", jumps_to_similar=False, creative_jump=0.3)
        for found in DreamEngine(config, graph=ring()).generate_dreams(20, rng()):
            steps = {frozenset(step) for step in zip(found.path[:-1], found.path[1:], strict=True)}
            assert {frozenset((one.a, one.b)) for one in found.proposals} <= steps
            times = [one.score / found.score for one in found.proposals]
            assert times == pytest.approx(np.round(times).tolist())

    def test_dreaming_leaves_the_graph_as_it_is(self):
        graph = ring()
        before = digest(graph.state())
        DreamEngine(graph=graph).generate_dreams(5, rng())
        assert digest(graph.state()) == before

    def test_same_generator_same_dreams_another_one_others(self):
        engine = DreamEngine(OPEN, graph=ring())
        first, again, other = (engine.generate_dreams(4, rng(seed)) for seed in (1, 1, 2))
        assert [(d.id, d.path, d.proposals) for d in first] == [(d.id, d.path, d.proposals) for d in again]
        assert [d.path for d in first] != [d.path for d in other]
        assert len({d.id for d in first + other}) == 8

    def test_a_useful_part_of_the_graph_has_more_utility(self):
        graph = MemoryGraph(2)
        for name, worth in (("a", 1.0), ("b", 1.0), ("c", 0.0), ("d", 0.0)):
            graph.add(MemoryNode(name, np.ones(2), importance=0.5, quality=worth))
        graph.connect("a", "b", EdgeKind.SIMILAR, 1.0)
        graph.connect("c", "d", EdgeKind.SIMILAR, 1.0)
        config = replace(OPEN, creative_jump=0.0)
        found = {d.path[0] in "ab": d.utility for d in DreamEngine(config, graph=graph).generate_dreams(40, rng())}
        assert found[True] == pytest.approx(0.75)
        assert found[False] == pytest.approx(0.25)

    def test_what_matters_more_begins_more_dreams(self):
        engine = DreamEngine(OPEN)
        for name, importance in (("a", 0.9), ("b", 0.1)):
            engine.add_memory_node(MemoryNode(name, np.ones(2), importance=importance))
        starts = [found.path[0] for found in engine.generate_dreams(400, rng())]
        assert starts.count("a") == pytest.approx(360, abs=25)


class TestNothingToDreamOf:
    def test_without_memories_dreams_are_empty(self):
        engine = DreamEngine()
        assert engine.node_count == 0
        for found in engine.generate_dreams(2, rng()):
            assert (found.path, found.score, found.proposals) == ((), 0.0, ())
            assert engine.integrate_dream(found) == Integration(0, 0, 0, "it proposes no link")

    def test_an_empty_graph_too(self):
        assert DreamEngine(graph=MemoryGraph(3)).generate_dream(rng()).path == ()

    def test_one_memory_is_alone(self):
        engine = DreamEngine()
        engine.add_memory_node(MemoryNode("a", np.ones(3)))
        found = engine.generate_dream(rng())
        assert (found.path, found.score, found.proposals) == (("a",), 0.0, ())

    def test_memories_without_links_meet_by_jumps(self):
        engine = DreamEngine(OPEN)
        for name, x in (("a", 1.0), ("b", 0.9), ("c", -1.0)):
            engine.add_memory_node(MemoryNode(name, np.array([x, 1.0])))
        found = engine.generate_dream(rng())
        assert found.creative_jumps == 14
        assert engine.integrate_dream(found).added == 3

    def test_no_dreams_are_asked_for_and_none_come(self):
        engine = DreamEngine(graph=ring())
        assert engine.generate_dreams(0, rng()) == []
        assert engine.integrate_dreams([]) == Integration(0, 0, 0, "there is no dream")


class TestIntegration:
    def test_links_are_weak_and_the_better_the_heavier(self):
        graph = ring()
        done = DreamEngine(graph=graph).integrate_dream(
            dream_of(Proposal("m00", "m02", 2.5), Proposal("m00", "m03", 0.4))
        )
        assert done == Integration(1, 2, 0, None)
        assert dream_links(graph) == {("m00", "m02"): pytest.approx(0.1), ("m00", "m03"): pytest.approx(0.04)}

    def test_an_existing_link_is_not_doubled(self):
        graph = ring()
        done = DreamEngine(graph=graph).integrate_dream(dream_of(Proposal("m00", "m01", 0.9)))
        assert (done.added, done.strengthened) == (0, 0)
        assert dream_links(graph) == {}

    def test_dreamt_again_a_link_is_strengthened_and_never_weakened(self):
        graph = ring()
        engine = DreamEngine(graph=graph)
        weak, strong = dream_of(Proposal("m00", "m02", 0.3)), dream_of(Proposal("m00", "m02", 0.7))
        assert engine.integrate_dream(weak) == Integration(1, 1, 0, None)
        assert engine.integrate_dream(weak) == Integration(1, 0, 0, None)
        assert engine.integrate_dream(strong) == Integration(1, 0, 1, None)
        assert engine.integrate_dream(weak) == Integration(1, 0, 0, None)
        assert dream_links(graph) == {("m00", "m02"): pytest.approx(0.07)}

    def test_dreams_together_add_up_their_scores(self):
        graph = ring()
        both = [dream_of(Proposal("m00", "m02", 0.3)), dream_of(Proposal("m00", "m02", 0.2))]
        assert DreamEngine(graph=graph).integrate_dreams(both) == Integration(2, 1, 0, None)
        assert dream_links(graph) == {("m00", "m02"): pytest.approx(0.05)}

    def test_no_more_links_than_allowed_and_the_best_of_all(self):
        graph = ring()
        first = dream_of(Proposal("m00", "m02", 0.1), Proposal("m00", "m03", 0.2))
        second = dream_of(Proposal("m01", "m05", 0.9), Proposal("m01", "m06", 0.8))
        done = DreamEngine(DreamConfig(max_edges=1), graph=graph).integrate_dreams([first, second])
        assert done.added == 2
        assert set(dream_links(graph)) == {("m01", "m05"), ("m01", "m06")}

    def test_refused_dreams_say_nothing(self):
        graph = ring()
        engine = DreamEngine(graph=graph)
        dull = dream_of(Proposal("m00", "m02", 0.9), novelty=0.01)
        poor = dream_of(Proposal("m00", "m03", 0.9), score=0.2)
        assert engine.integrate_dream(dull).skipped == "its novelty is 0.01, below 0.05"
        assert engine.integrate_dream(poor).skipped == "its score is 0.20, below 0.3"
        good = dream_of(Proposal("m00", "m04", 0.9))
        assert engine.integrate_dreams([dull, good, poor]) == Integration(1, 1, 0, None)
        assert set(dream_links(graph)) == {("m00", "m04")}
        assert proposals([dull, poor], engine.config) == ()
        assert refusal(good, engine.config) is None

    def test_memories_that_are_gone_are_passed_over(self):
        graph = ring()
        found = dream_of(Proposal("m00", "m02", 0.9), Proposal("m03", "m05", 0.9))
        graph.remove(["m00"])
        assert DreamEngine(graph=graph).integrate_dream(found) == Integration(1, 1, 0, None)
        assert set(dream_links(graph)) == {("m03", "m05")}

    def test_a_dream_of_another_engine_finds_nothing_to_link(self):
        assert DreamEngine().integrate_dream(dream_of(Proposal("m00", "m02", 0.9))).added == 0

    def test_what_was_dreamt_is_known_to_the_next_dream(self):
        graph = ring(6)
        engine = DreamEngine(OPEN, graph=graph)
        engine.integrate_dreams(engine.generate_dreams(200, rng()))
        assert engine.generate_dream(rng()).proposals == ()


class TestBadInput:
    def test_an_id_taken_and_another_width_are_refused(self):
        engine = DreamEngine()
        engine.add_memory_node(MemoryNode("a", np.ones(3)))
        with pytest.raises(MemoryGraphError):
            engine.add_memory_node(MemoryNode("a", np.ones(3)))
        with pytest.raises(DimensionMismatch):
            engine.add_memory_node(MemoryNode("b", np.ones(4)))
        assert engine.node_count == 1

    def test_a_full_graph_is_refused(self):
        engine = DreamEngine(graph=MemoryGraph(2, GraphConfig(capacity=1)))
        engine.add_memory_node(MemoryNode("a", np.ones(2)))
        with pytest.raises(MemoryGraphError):
            engine.add_memory_node(MemoryNode("b", np.ones(2)))

    @pytest.mark.parametrize("count", [-1, 1.5, True, "2"])
    def test_a_count_that_is_none(self, count):
        with pytest.raises(InvalidValue, match="count"):
            DreamEngine().generate_dreams(count, rng())

    @pytest.mark.parametrize("chance", [None, 7, np.random.RandomState(0)])
    def test_a_generator_that_is_none(self, chance):
        with pytest.raises(InvalidValue, match="rng"):
            DreamEngine(graph=ring()).generate_dream(chance)
