"""The walk of a dream: along links by weight, back to its start, by jumps; and what it does where nothing leads on."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from scipy.stats import chisquare

from sona.config import DreamConfig
from sona.dreams.walk import Terrain, drawn, jumped, start_of, walk
from sona.errors import InvalidValue
from sona.memory.nodes import Adjacency

ALONG = DreamConfig(creative_jump=0.0, restart=0.0)


def adjacency_of(n: int, *links: tuple[int, int, float]) -> Adjacency:
    entries = sorted([(a, b, w) for a, b, w in links] + [(b, a, w) for a, b, w in links])
    starts = np.cumsum([0] + [sum(a == row for a, _, _ in entries) for row in range(n)])
    return Adjacency(
        starts.astype(np.int64),
        np.array([b for _, b, _ in entries], np.int32),
        np.array([w for _, _, w in entries], np.float32),
    )


def terrain_of(n: int, *links: tuple[int, int, float], vectors=None, importance=None) -> Terrain:
    around = np.arange(n) * (np.pi / max(n, 1))
    found = np.stack([np.cos(around), np.sin(around)], axis=1) if vectors is None else np.asarray(vectors)
    names = [f"m{row}" for row in range(n)]
    return Terrain(names, found.astype(np.float32), adjacency_of(n, *links), np.full(n, 0.5), importance)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


RING = terrain_of(6, *[(row, (row + 1) % 6, 1.0) for row in range(6)])


class TestSteps:
    def test_without_jumps_and_restarts_every_step_follows_a_link(self):
        graph = nx.cycle_graph(6)
        for seed in range(20):
            taken = walk(RING, ALONG, rng(seed))
            assert len(taken.rows) == 15
            assert taken.jumps == 0
            assert all(graph.has_edge(a, b) for a, b in zip(taken.rows[:-1], taken.rows[1:], strict=True))

    def test_links_are_followed_as_often_as_they_are_heavy(self):
        star = terrain_of(4, (0, 1, 0.6), (0, 2, 0.3), (0, 3, 0.1), importance=np.array([1.0, 0.0, 0.0, 0.0]))
        taken = walk(star, replace(ALONG, path_length=8001), rng())
        counts = np.bincount(taken.rows, minlength=4)[1:]
        assert counts.sum() == 4000  # every other step leads back to the middle
        assert chisquare(counts, 4000 * np.array([0.6, 0.3, 0.1])).pvalue > 0.01

    def test_a_long_walk_visits_memories_as_often_as_their_links_weigh(self):
        graph = nx.karate_club_graph()
        terrain = terrain_of(34, *[(a, b, 1.0) for a, b in graph.edges])
        rows = walk(terrain, replace(ALONG, path_length=60_001), rng(1)).rows
        share = np.bincount(rows, minlength=34) / len(rows)
        expected = np.array([graph.degree[row] for row in range(34)]) / (2 * graph.number_of_edges())
        assert np.abs(share - expected).max() < 0.01  # the stationary distribution of a walk on an undirected graph

    def test_with_restarts_it_visits_memories_as_personalised_pagerank_says(self):
        # Restarts at the start itself go on along a link, so the share of visits is that of PageRank on walks that
        # leave the start at once.
        graph = nx.karate_club_graph()
        only = np.zeros(34)
        only[0] = 1.0
        terrain = terrain_of(34, *[(a, b, 1.0) for a, b in graph.edges], importance=only)
        rows = walk(terrain, replace(ALONG, restart=0.2, path_length=60_001), rng(2)).rows
        step = nx.to_numpy_array(graph, weight=None)
        step /= step.sum(axis=1, keepdims=True)
        chain = 0.8 * step + 0.2 * np.eye(34)[0]
        chain[0] = step[0]
        expected = np.linalg.matrix_power(chain, 4096)[0]
        assert np.abs(np.bincount(rows, minlength=34) / len(rows) - expected).max() < 0.01

    def test_a_restart_goes_back_to_the_start(self):
        rows = walk(RING, replace(ALONG, restart=1.0), rng()).rows
        assert set(rows[::2].tolist()) == {rows[0]}
        assert rows[0] not in rows[1::2]

    def test_the_same_generator_takes_the_same_walk(self):
        config = DreamConfig(creative_jump=0.3, restart=0.3)
        assert (walk(RING, config, rng(5)).rows == walk(RING, config, rng(5)).rows).all()
        assert any((walk(RING, config, rng(5)).rows != walk(RING, config, rng(6)).rows).tolist())


class TestJumps:
    def test_a_jump_never_leads_to_a_linked_memory_or_to_itself(self):
        for seed in range(50):
            assert jumped(RING, 0, to_similar=seed % 2 == 0, rng=rng(seed)) in {2, 3, 4}

    def test_a_jump_to_similar_takes_the_most_similar_of_those_it_met(self):
        # Of 6 memories, 32 draws miss one with a chance of (5/6)^32 = 0.3 %.
        vectors = [[1, 0], [0, 1], [-1, 0], [0.6, 0.8], [0.96, 0.28], [-0.6, 0.8]]
        terrain = terrain_of(6, (0, 4, 1.0), vectors=vectors)
        found = [jumped(terrain, 0, to_similar=True, rng=rng(seed)) for seed in range(100)]
        assert found.count(3) >= 97

    def test_other_jumps_go_anywhere_alike(self):
        found = [jumped(RING, 0, to_similar=False, rng=rng(seed)) for seed in range(3000)]
        assert chisquare(np.bincount(found, minlength=6)[2:5]).pvalue > 0.01

    def test_no_jump_where_all_are_linked(self):
        assert jumped(terrain_of(2, (0, 1, 1.0)), 0, to_similar=True, rng=rng()) is None
        assert jumped(terrain_of(1), 0, to_similar=True, rng=rng()) is None

    def test_jumps_are_counted(self):
        always = walk(RING, DreamConfig(creative_jump=1.0), rng())
        assert always.jumps == 14
        share = np.mean([walk(RING, DreamConfig(creative_jump=0.25), rng(seed)).jumps for seed in range(400)]) / 14
        assert share == pytest.approx(0.25, abs=0.03)


class TestWhereNothingLeadsOn:
    def test_no_memory_no_walk(self):
        taken = walk(terrain_of(0), DreamConfig(), rng())
        assert (len(taken.rows), taken.jumps) == (0, 0)

    @pytest.mark.parametrize("config", [DreamConfig(), ALONG, DreamConfig(creative_jump=1.0)])
    def test_one_memory_is_visited_once(self, config):
        assert walk(terrain_of(1), config, rng()).rows.tolist() == [0]

    def test_without_links_it_goes_by_jumps_alone(self):
        taken = walk(terrain_of(5), DreamConfig(), rng())
        assert taken.jumps == len(taken.rows) - 1 == 14

    def test_without_links_and_jumps_it_stays_where_it_is(self):
        assert len(walk(terrain_of(5), ALONG, rng()).rows) == 1

    def test_without_jumps_it_stays_in_its_part_of_the_graph(self):
        parts = terrain_of(6, (0, 1, 1.0), (1, 2, 1.0), (3, 4, 1.0), (4, 5, 1.0))
        for seed in range(20):
            assert len({row // 3 for row in walk(parts, replace(ALONG, restart=0.3), rng(seed)).rows.tolist()}) == 1

    def test_a_memory_without_links_that_a_jump_led_to_is_left_again(self):
        lone = terrain_of(4, (0, 1, 1.0), (1, 2, 1.0))
        for seed in range(20):
            assert len(walk(lone, DreamConfig(), rng(seed)).rows) == 15


class TestStart:
    def test_it_begins_as_often_as_memories_matter(self):
        terrain = terrain_of(3, importance=np.array([0.0, 1.0, 3.0]))
        counts = np.bincount([start_of(terrain, rng(seed)) for seed in range(2000)], minlength=3)
        assert counts[0] == 0
        assert chisquare(counts[1:], [500, 1500]).pvalue > 0.01

    @pytest.mark.parametrize("importance", [None, np.zeros(4)])
    def test_anywhere_alike_when_nothing_matters_more(self, importance):
        terrain = terrain_of(4, importance=importance)
        counts = np.bincount([start_of(terrain, rng(seed)) for seed in range(2000)], minlength=4)
        assert chisquare(counts).pvalue > 0.01

    @pytest.mark.parametrize(("chance", "place"), [(0.0, 3), (0.49, 3), (0.51, 1), (1.0 - 2.0**-53, 1)])
    def test_a_weight_of_nothing_is_never_drawn(self, chance, place):
        assert drawn(np.array([0.0, 0.45, 0.0, 0.45, 0.0], np.float32), chance) == place


class TestBadInput:
    @pytest.mark.parametrize(
        "change",
        [
            {"ids": ["a"]},
            {"vectors": np.zeros((3, 2), np.float32)},
            {"vectors": np.zeros(2, np.float32)},
            {"adjacency": adjacency_of(3)},
            {"worth": np.array([0.5])},
            {"worth": np.array([0.5, np.nan])},
            {"worth": np.array([0.5, 1.5])},
            {"importance": np.array([0.5])},
            {"importance": np.array([0.5, -1.0])},
            {"importance": np.array([0.5, np.inf])},
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, change):
        with pytest.raises(InvalidValue):
            replace(terrain_of(2), **change)
