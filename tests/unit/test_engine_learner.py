"""Learner: the score of an item, and what one outcome changes."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import EwcConfig, SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.learner import Choice, Learner, Scored
from sona.errors import ConfigError
from sona.state import digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 5
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(20, D)).astype(np.float32)
IDS = [f"d{row}" for row in range(20)]
X = RNG.normal(size=D).astype(np.float32)


def candidates() -> Candidates:
    return Candidates.checked(IDS, VECTORS, D)


def cosines(x, vectors) -> np.ndarray:
    return vectors @ x / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(x))


def learned(learner: Learner, k: int = 20, among: Candidates | None = None, x: np.ndarray = X) -> Scored:
    return learner.score(x, candidates() if among is None else among, k).learned


def outcome(rewards: dict[str, float], number: int = 1, quality: float | None = None) -> QueryTrajectory:
    steps = tuple(TrajectoryStep(VECTORS[IDS.index(i)], reward=r, ref=i) for i, r in rewards.items())
    return QueryTrajectory(number, X, steps, quality, alternatives=True)


def test_an_untrained_learner_scores_by_the_cosine_alone():
    learner = Learner(D, SonaConfig())
    choice = learner.score(X, candidates(), 20)
    scored, wanted = choice.learned, cosines(X, VECTORS)
    assert choice.is_identical
    assert scored.rows.tolist() == np.argsort(-wanted, kind="stable").tolist()
    np.testing.assert_allclose(scored.scores, np.sort(wanted)[::-1], atol=1e-6)
    assert (learner.adapt(VECTORS) == VECTORS).all()


@pytest.mark.parametrize("k", [1, 3, 20, 100])
def test_the_best_k_are_those_of_the_whole_order(k):
    learner = Learner(D, SonaConfig())
    learner.learn(outcome({"d1": 1.0, "d2": 0.0}), at=0.0, text=None, replaces=None)
    every, best = learner.score(X, candidates(), 20), learner.score(X, candidates(), k)
    assert best.learned.rows.tolist() == every.learned.rows.tolist()[:k]
    assert best.frozen.rows.tolist() == every.frozen.rows.tolist()[:k]


def test_equal_scores_keep_the_order_the_items_came_in():
    learner = Learner(2, SonaConfig())
    same = Candidates.checked(["c", "a", "b", "d"], [[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 2)
    for k in (2, 3, 4):
        assert learned(learner, k, same, np.array([1.0, 0.0], np.float32)).rows.tolist() == [0, 1, 2, 3][:k]


def test_a_zero_vector_and_a_zero_request_score_nothing():
    learner = Learner(2, SonaConfig())
    items = Candidates.checked(["a", "zero"], [[1.0, 0.0], [0.0, 0.0]], 2)
    assert learned(learner, 2, items, np.array([1.0, 0.0], np.float32)).scores.tolist() == [1.0, 0.0]
    assert learned(learner, 2, items, np.zeros(2, np.float32)).scores.tolist() == [0.0, 0.0]


def test_only_what_scored_is_an_answer():
    learner = Learner(2, SonaConfig())
    items = Candidates.checked(["a", "b", "c"], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], 2)
    positive = learner.score(np.array([1.0, 0.0], np.float32), items, 3).positive()
    for scored in (positive.frozen, positive.learned):
        assert scored.rows.tolist() == [0]
        assert scored.scores.tolist() == [1.0]


def test_a_taken_item_rises_and_a_passed_one_falls_for_the_same_request():
    learner = Learner(D, SonaConfig())
    before = learned(learner)
    score_of = dict(zip(before.rows.tolist(), before.scores.tolist(), strict=True))
    learner.learn(outcome({"d1": 1.0, "d2": 0.0}), at=0.0, text=None, replaces=None)
    after = learned(learner)
    now = dict(zip(after.rows.tolist(), after.scores.tolist(), strict=True))
    assert now[1] > score_of[1]
    assert now[2] < score_of[2]
    assert now[3] == pytest.approx(score_of[3])


def test_the_frozen_answer_stays_the_cosine_whatever_was_learned():
    learner = Learner(D, SonaConfig())
    before = learner.score(X, candidates(), 20).frozen
    for number in range(5):
        learner.learn(outcome({"d1": 1.0, "d2": 0.0}, number), at=0.0, text=None, replaces=None)
    choice = learner.score(X, candidates(), 20)
    assert choice.frozen.rows.tobytes() == before.rows.tobytes()
    assert choice.frozen.scores.tobytes() == before.scores.tobytes()
    assert not choice.is_identical
    assert choice.learning_us > 0.0


@pytest.mark.parametrize(
    ("frozen", "learned_rows", "common", "is_identical"),
    [
        ([1, 2, 3], [1, 2, 3], 3, True),
        ([1, 2, 3], [1, 3, 2], 1, False),
        ([1, 2, 3], [1, 2], 2, False),
        ([2, 1], [1, 2], 0, False),
        ([], [], 0, True),
        ([], [1], 0, False),
    ],
)
def test_two_answers_have_in_common_what_both_begin_with(frozen, learned_rows, common, is_identical):
    one, other = (Scored(np.array(rows, np.intp), np.ones(len(rows), np.float32)) for rows in (frozen, learned_rows))
    choice = Choice(one, other, 0.0)
    assert (choice.common, choice.is_identical) == (common, is_identical)


def test_what_was_shown_says_what_the_parts_had_to_say():
    learner = Learner(D, SonaConfig())
    given = outcome({"d1": 1.0, "d2": 0.0, "d3": 0.0})
    untouched = learner.shown(given)
    assert not untouched.is_known
    assert not untouched.taken.any()
    assert not untouched.micro.any()
    learner.learn(outcome({"d1": 1.0, "d2": 0.0}), at=0.0, text=None, replaces=None)
    shown, items = learner.shown(given), VECTORS[[1, 2, 3]]
    np.testing.assert_allclose(shown.similarity, cosines(X, items), atol=1e-6)
    assert shown.taken[0, 0] == 1.0
    assert shown.passed[1, 0] > 0.0
    assert not shown.taken[2].any()
    assert not shown.passed[2].any()
    assert shown.is_known
    units = items / np.linalg.norm(items, axis=1)[:, None]
    asked = X / np.linalg.norm(X)
    assert learner.micro.delta(asked).any()
    np.testing.assert_allclose(shown.micro, units @ learner.micro.delta(asked), atol=1e-6)
    np.testing.assert_allclose(shown.base, units @ learner.base.delta(0, asked), atol=1e-6)


def test_an_item_that_is_no_candidate_now_has_no_say():
    learner = Learner(D, SonaConfig())
    learner.learn(outcome({"d1": 1.0}), at=0.0, text=None, replaces=None)
    others = Candidates.checked(IDS[2:], VECTORS[2:], D)
    np.testing.assert_allclose(learned(learner, 18, others).scores, np.sort(cosines(X, VECTORS[2:]))[::-1], atol=1e-6)


def test_without_votes_nothing_is_remembered_of_requests():
    learner = Learner(D, SonaConfig(use_votes=False))
    assert learner.learn(outcome({"d1": 1.0}), at=0.0, text=None, replaces=None) is None
    assert len(learner.votes) == 0
    assert learner.shown(outcome({"d1": 1.0, "d2": 0.0})).taken.shape == (2, learner.votes.bin_count)


def test_the_quality_of_a_whole_is_credited_to_the_answer():
    learner = Learner(D, SonaConfig())
    steps = tuple(TrajectoryStep(VECTORS[row], ref=IDS[row]) for row in (1, 2))
    receipt = learner.learn(QueryTrajectory(1, X, steps, 0.9, alternatives=True), at=0.0, text=None, replaces=None)
    assert [(one.item, one.reward) for one in receipt.showings] == [("d1", 0.9)]


@pytest.mark.parametrize("bad", [0.0, 0.1, 0.29])
def test_a_bad_outcome_earns_no_votes_however_often_it_was_passed_before(bad):
    learner = Learner(D, SonaConfig(use_micro=False))
    for number in range(10):
        learner.learn(outcome({"d1": 0.0, "d2": 1.0}, number), at=0.0, text=None, replaces=None)
    ranked = learned(learner)
    before = ranked.scores[ranked.rows.tolist().index(1)]
    receipt = learner.learn(outcome({"d1": bad}, 11), at=0.0, text=None, replaces=None)
    after = learned(learner)
    assert after.scores[after.rows.tolist().index(1)] < before
    assert receipt.showings[0].reward == 0.0


def test_a_base_rank_beyond_the_width_is_cut_and_a_wrong_ewc_size_refused():
    assert Learner(3, SonaConfig(base_lora_rank=8)).base.rank == 3
    with pytest.raises(ConfigError):
        Learner(3, SonaConfig(base_lora_rank=4))
    with pytest.raises(ConfigError, match="param_count"):
        Learner(3, SonaConfig(ewc=EwcConfig(param_count=7)))


def test_the_same_events_give_the_same_state():
    states = []
    for _ in range(2):
        learner = Learner(D, SonaConfig())
        for number in range(5):
            learner.learn(outcome({"d1": 1.0, "d2": 0.0}, number), at=0.0, text="q", replaces=None)
            assert len(learned(learner, 5).rows) == 5
        states.append(digest(learner.state()))
    assert states[0] == states[1]
