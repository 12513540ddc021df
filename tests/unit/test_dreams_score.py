"""What a dream is worth, by hand and against scikit-learn, and the score of the specification."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from sona.config import DreamConfig
from sona.dreams.score import Company, company_of, linked_among, merits_of, nearness
from sona.dreams.walk import Terrain
from sona.memory.nodes import Adjacency

COSINES = np.array([[1.0, 0.8, 0.2], [0.8, 1.0, 0.5], [0.2, 0.5, 1.0]])


def links(n: int, *pairs: tuple[int, int]) -> Adjacency:
    both = np.array(sorted([*pairs, *[(b, a) for a, b in pairs]]), np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(np.bincount(both[:, 0], minlength=n))])
    return Adjacency(starts.astype(np.int64), both[:, 1].astype(np.int32), np.ones(len(both), np.float32))


def company(near, linked=((0, 1),), cosines=COSINES) -> Company:
    is_linked = np.zeros((3, 3), np.bool_)
    for a, b in linked:
        is_linked[a, b] = is_linked[b, a] = True
    return Company(np.arange(3), np.asarray(near, np.float64), np.asarray(cosines), is_linked)


class TestNearness:
    def test_each_meeting_counts_by_the_steps_between(self):
        # 0 1 2 0: 0 and 1 meet at 1 step and at 2, 1 and 2 at 1, 0 and 2 at 2 and 1; 0 meets itself, which is nothing.
        near = nearness(np.array([0, 1, 2, 0]), 3)
        assert near.tolist() == [[0.0, 1.5, 1.5], [1.5, 0.0, 1.0], [1.5, 1.0, 0.0]]

    def test_beyond_the_window_nobody_meets(self):
        assert nearness(np.array([0, 1, 2]), 1).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]

    def test_a_loop_over_pairs_says_the_same(self):
        places = np.random.default_rng(0).integers(0, 7, 40)
        expected = np.zeros((7, 7))
        for i, a in enumerate(places):
            for j in range(i + 1, min(i + 4, 40)):
                if a != places[j]:
                    expected[a, places[j]] += 1 / (j - i)
                    expected[places[j], a] += 1 / (j - i)
        np.testing.assert_allclose(nearness(places, 4 - 1), expected)

    @pytest.mark.parametrize("places", [[], [0], [0, 0]])
    def test_without_two_memories_nothing_meets(self, places):
        assert not nearness(np.array(places, np.int64), 3).any()


class TestCompany:
    def test_it_has_the_cosines_and_links_of_the_distinct_memories(self):
        rng = np.random.default_rng(0)
        raw = rng.normal(size=(5, 8))
        unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
        terrain = Terrain(list("abcde"), unit, links(5, (0, 3), (1, 2)), np.full(5, 0.5))
        found = company_of(terrain, np.array([3, 0, 4, 3]), 1)
        assert found.rows.tolist() == [0, 3, 4]
        np.testing.assert_allclose(found.cosines, cosine_similarity(raw[[0, 3, 4]]), atol=1e-6)
        assert found.linked.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
        assert found.nearness.tolist() == [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]

    def test_links_to_rows_beyond_the_last_neighbour_are_not_made_up(self):
        assert not linked_among(links(6, (0, 1)), np.array([0, 4, 5])).any()
        assert linked_among(links(6, (0, 5)), np.array([0, 4, 5])).sum() == 2


class TestMerits:
    def test_by_hand(self):
        # 0 and 1 met, 1 and 2 met, 0 and 2 did not; 0 and 1 are linked.
        found = merits_of(company([[0, 1, 0], [1, 0, 0.5], [0, 0.5, 0]]), np.array([0.2, 0.4, 0.9]), DreamConfig())
        assert found.novelty == 0.5
        assert found.coherence == pytest.approx((0.8 + 0.5) / 2)
        assert found.utility == pytest.approx(0.5)
        assert found.diversity == pytest.approx(1.0 - (0.8 + 0.5 + 0.2) / 3)
        assert found.score == pytest.approx(0.7 * 0.65 + 0.3 * 0.5)

    def test_the_specified_weights(self):
        config = DreamConfig(novelty_weight=0.3, coherence_weight=0.4, utility_weight=0.3)
        found = merits_of(company([[0, 1, 0], [1, 0, 1], [0, 1, 0]]), np.full(3, 0.5), config)
        assert found.score == pytest.approx(0.3 * 0.5 + 0.4 * 0.65 + 0.3 * 0.5)

    def test_weights_count_as_shares(self):
        near, worth = company([[0, 1, 0], [1, 0, 1], [0, 1, 0]]), np.full(3, 0.5)
        halves = replace(DreamConfig(), coherence_weight=0.35, utility_weight=0.15)
        assert merits_of(near, worth, halves).score == pytest.approx(merits_of(near, worth, DreamConfig()).score)

    def test_opposite_memories_are_not_coherent_and_as_diverse_as_can_be(self):
        opposite = np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
        found = merits_of(company([[0, 1, 0], [1, 0, 1], [0, 1, 0]], cosines=opposite), np.zeros(3), DreamConfig())
        assert (found.coherence, found.diversity, found.score) == (0.0, 1.0, 0.0)

    @pytest.mark.parametrize("memories", [0, 1])
    def test_without_a_pair_a_dream_is_worth_nothing(self, memories):
        terrain = Terrain(["a"] * memories, np.ones((memories, 1), np.float32), links(memories), np.ones(memories))
        found = merits_of(company_of(terrain, np.zeros(memories, np.int64), 3), np.ones(memories), DreamConfig())
        assert (found.novelty, found.coherence, found.diversity, found.score) == (0.0, 0.0, 0.0, 0.0)
        assert found.utility == memories
