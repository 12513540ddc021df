"""Choosing: the best candidates, ties as they came, and what votes and activation add."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.engine.choice import Choice, Scored, add_recalled, add_votes
from sona.errors import InvalidValue
from sona.memory.calibrate import Calibrator
from sona.memory.recall import Recalled
from sona.memory.votes import Evidence, Showing, VoteMemory

WEIGHTS = Calibrator().weights
some_scores = st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=12).map(
    lambda values: np.array(values, np.float32)
)


@given(some_scores, st.integers(1, 14), st.integers(1, 14))
def test_the_best_are_the_best_and_of_equals_those_that_came_first(scores, k, fewer):
    best = Scored.best(scores, k)
    wanted = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k]
    assert best.rows.tolist() == wanted
    assert best.scores.tolist() == scores[wanted].tolist()
    if fewer <= k:
        assert best.first(fewer).rows.tolist() == Scored.best(scores, fewer).rows.tolist()


@given(some_scores, st.integers(1, 14))
def test_what_is_not_similar_at_all_is_neither_an_answer_nor_a_seed(scores, k):
    best = Scored.best(scores, len(scores))
    names = [f"n{row}" for row in range(len(scores))]
    positive = [row for row in best.rows.tolist() if scores[row] > 0.0]
    assert best.positive().rows.tolist() == positive
    seeds = best.seeds(names, k)
    assert seeds.ids == tuple(f"n{row}" for row in positive[:k])
    assert seeds.cosines.tolist() == [scores[row] for row in positive[:k]]


def test_rounding_is_no_similarity():
    assert not len(Scored.best(np.array([1e-7, -1e-7], np.float32), 2).positive().rows)


def test_two_answers_are_identical_when_they_show_the_same_in_the_same_order():
    def answer(*rows):
        return Scored(np.array(rows, np.intp), np.linspace(1.0, 0.5, len(rows)).astype(np.float32))

    assert Choice(answer(1, 2), answer(1, 2), 0.0).is_identical
    assert not Choice(answer(1, 2), answer(2, 1), 0.0).is_identical
    assert not Choice(answer(1, 2), answer(1, 2, 3), 0.0).is_identical
    assert Choice(answer(1, 2, 3), answer(1, 2, 4), 0.0).common == 2
    assert Choice(answer(1, 2), answer(1, 2, 4), 0.0).common == 2
    assert Choice(answer(), answer(), 0.0).is_identical


def evidence_for(*items: str) -> Evidence:
    memory = VoteMemory(2)
    memory.record(np.array([1.0, 0.0], np.float32), [Showing(item, 1.0) for item in items])
    return memory.look_up(np.array([1.0, 0.0], np.float32))


def test_votes_of_a_memory_and_of_one_that_was_merged_into_it_add_up():
    both, one = np.array([0.5, 0.5], np.float32), np.array([0.5, 0.5], np.float32)
    assert add_votes(both, evidence_for("kept", "gone"), {"kept": 1, "gone": 1, "other": 0}, WEIGHTS)
    assert add_votes(one, evidence_for("kept", "nobody"), {"kept": 1, "other": 0}, WEIGHTS)
    assert both[0] == one[0] == 0.5
    assert both[1] - 0.5 == pytest.approx(2.0 * (one[1] - 0.5))
    assert one[1] > 0.5


def test_votes_for_what_has_no_vector_yet_or_is_no_candidate_leave_the_scores_as_they_are():
    scores = np.array([0.5], np.float32)
    assert not add_votes(scores, evidence_for("late", "stranger"), {"late": 1}, WEIGHTS)
    assert not add_votes(scores, evidence_for(), {"late": 0}, WEIGHTS)
    assert scores.tolist() == [0.5]


def test_what_was_recalled_is_added_as_far_as_it_is_worth_something():
    scores, recalled = np.array([0.5, 0.5], np.float32), Recalled(np.array([1]), np.array([[1.0], [0.5]], np.float32))
    assert not add_recalled(scores, recalled, WEIGHTS)
    assert scores.tolist() == [0.5, 0.5]
    assert add_recalled(scores, recalled, replace(WEIGHTS, similar=0.25, linked=0.5))
    assert scores.tolist() == [0.5, 1.0]


def test_nothing_that_was_recalled_leaves_the_scores_as_they_are():
    scores, weights = np.array([0.5], np.float32), replace(WEIGHTS, similar=1.0)
    assert not add_recalled(scores, Recalled(np.zeros(0, np.int64), np.zeros((2, 0), np.float32)), weights)
    assert not add_recalled(scores, None, weights)
    assert scores.tolist() == [0.5]


def test_scores_that_cannot_be_added_to_are_refused():
    with pytest.raises(InvalidValue):
        add_votes(np.zeros(2), evidence_for("kept"), {"kept": 1}, WEIGHTS)
    with pytest.raises(InvalidValue):
        Scored.best(np.zeros((2, 2), np.float32), 1)
