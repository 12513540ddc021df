"""Which links a dream proposes under either rule, and what several dreams propose together."""

import numpy as np
import pytest

from sona.config import DreamConfig
from sona.dreams.proposals import Proposal, added_up, proposed_by
from sona.dreams.score import Company, Merits

MERITS = Merits(novelty=0.5, coherence=0.6, utility=0.5, diversity=0.3, score=0.4)
COSINES = np.array([[1.0, 0.8, 0.2], [0.8, 1.0, -1.0], [0.2, -1.0, 1.0]])
IDS = ["z", "unused", "b", "c"]
SPECIFIED = DreamConfig(rule="specification")


def company(near, *linked) -> Company:
    is_linked = np.zeros((3, 3), np.bool_)
    for a, b in linked:
        is_linked[a, b] = is_linked[b, a] = True
    return Company(np.array([0, 2, 3]), np.asarray(near, np.float64), COSINES, is_linked)


ALL_MET = [[0.0, 1.5, 0.5], [1.5, 0.0, 1.0], [0.5, 1.0, 0.0]]


class TestCooccurrence:
    def test_a_pair_is_scored_by_nearness_and_cosine(self):
        found = proposed_by(company(ALL_MET), MERITS, DreamConfig(), IDS)
        assert [(one.a, one.b) for one in found] == [("b", "z"), ("c", "z")]
        assert [one.score for one in found] == pytest.approx([1.5 * 0.9, 0.5 * 0.6])

    def test_opposite_memories_are_never_proposed(self):
        assert ("b", "c") not in {(one.a, one.b) for one in proposed_by(company(ALL_MET), MERITS, DreamConfig(), IDS)}

    def test_what_is_linked_is_not_proposed_again(self):
        found = proposed_by(company(ALL_MET, (0, 1)), MERITS, DreamConfig(), IDS)
        assert [(one.a, one.b) for one in found] == [("c", "z")]

    def test_where_nothing_met_nothing_is_proposed(self):
        assert proposed_by(company(np.zeros((3, 3))), MERITS, DreamConfig(), IDS) == ()


class TestSpecification:
    def test_each_time_one_follows_the_other_counts_with_the_score_of_the_dream(self):
        found = proposed_by(company([[0, 2, 0], [2, 0, 1], [0, 1, 0]]), MERITS, SPECIFIED, IDS)
        assert found == (Proposal("b", "z", 0.8), Proposal("b", "c", 0.4))


class TestTogether:
    def test_scores_of_one_pair_add_up_and_equals_are_ordered_by_ids(self):
        found = added_up([Proposal("a", "c", 0.5), Proposal("a", "b", 0.25), Proposal("a", "b", 0.25)])
        assert found == (Proposal("a", "b", 0.5), Proposal("a", "c", 0.5))

    def test_nothing_adds_up_to_nothing(self):
        assert added_up([]) == ()
