"""Why an answer: the parts of a score add up to it, and the requests behind it are the ones that voted."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import GuardConfig, PatternConfig, SonaConfig
from sona.engine.core import SonaEngine
from sona.engine.explain import explain
from sona.errors import UnknownTrajectory
from sona.state import digest
from sona.stores import MemoryStore
from sona.types import Context

D = 5
RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(8, D)).astype(np.float32)
IDS = tuple(f"d{row}" for row in range(8))
X = RNG.normal(size=D).astype(np.float32)


def clock() -> float:
    return 7.0


def trained(store: MemoryStore | None = None, **guard) -> SonaEngine:
    config = SonaConfig(
        hidden_dim=D,
        min_trajectories=4,
        patterns=PatternConfig(min_cluster_size=2),
        guard=GuardConfig(**guard),
    )
    made = SonaEngine(config, clock=clock, store=store)
    rng = np.random.default_rng(1)
    for _ in range(12):
        ranking = made.rank(X + 0.2 * rng.normal(size=D), IDS, ITEMS, k=5)
        made.feedback(ranking.trajectory_id, rewards={ranking.ids[2]: 1.0})
    made.background_learn(force=True)
    for _ in range(3):
        ranking = made.rank(X + 0.2 * rng.normal(size=D), IDS, ITEMS, k=5)
        made.feedback(ranking.trajectory_id, rewards={ranking.ids[2]: 1.0})
    return made


def cosines(ids: tuple[str, ...]) -> np.ndarray:
    rows = ITEMS[[IDS.index(item) for item in ids]]
    return rows @ X / (np.linalg.norm(rows, axis=1) * np.linalg.norm(X))


def test_the_parts_add_up_to_the_score_that_was_given():
    made = trained()
    ranking = made.rank(X, IDS, ITEMS, k=5, context=Context(user_id="me"))
    told = explain(made._machine, ranking.trajectory_id, is_exact=True)
    assert tuple(item.item for item in told.items) == ranking.ids
    for item in told.items:
        assert item.similarity + item.micro + item.base + item.votes + item.links == pytest.approx(
            item.score, abs=1e-12
        )
    np.testing.assert_allclose([item.score for item in told.items], ranking.scores, atol=1e-5)
    np.testing.assert_allclose([item.similarity for item in told.items], cosines(ranking.ids), atol=1e-6)
    assert any(item.votes for item in told.items)
    assert (told.subject, told.text, told.serving.version) == ("me", None, 1)
    assert 0 < len(told.neighbours) <= 5
    similarities = [one.similarity for one in told.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert told.patterns[0] == made.find_patterns(X, 1)[0].pattern.id


def test_a_frozen_answer_is_explained_by_what_the_learned_score_would_have_been():
    made = trained()
    made.set_mode("shadow")
    ranking = made.rank(X, IDS, ITEMS, k=5)
    told = explain(made._machine, ranking.trajectory_id, is_exact=True)
    np.testing.assert_allclose([item.similarity for item in told.items], ranking.scores, atol=1e-6)
    assert any(abs(item.score - item.similarity) > 1e-3 for item in told.items)
    assert told.serving.arm.value == "frozen"


def test_an_untrained_answer_owes_everything_to_similarity():
    made = SonaEngine(SonaConfig(hidden_dim=D), clock=clock)
    ranking = made.rank(X, IDS, ITEMS, k=3)
    told = explain(made._machine, ranking.trajectory_id, is_exact=True)
    assert all((item.micro, item.base, item.votes) == (0.0, 0.0, 0.0) for item in told.items)
    assert (told.neighbours, told.patterns) == ((), ())


def test_explaining_changes_nothing_and_says_what_was_earned():
    made = trained()
    ranking = made.rank(X, IDS, ITEMS, k=3)
    assert {item.reward for item in made.explain(ranking.trajectory_id).items} == {None}
    made.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 0.5})
    before = digest(made.state())
    told = made.explain(ranking.trajectory_id)
    assert [item.reward for item in told.items] == [0.0, 0.5, 0.0]
    assert not told.is_exact
    assert digest(made.state()) == before


def test_with_a_log_it_is_of_the_moment_of_the_answer_whatever_was_learned_since():
    made = trained(MemoryStore())
    ranking = made.rank(X, IDS, ITEMS, k=4)
    then = made.explain(ranking.trajectory_id)
    for _ in range(5):
        again = made.rank(X, IDS, ITEMS, k=4)
        made.feedback(again.trajectory_id, rewards={again.ids[3]: 1.0})
    made.feedback(ranking.trajectory_id, rewards={ranking.ids[0]: 1.0})
    now = made.explain(ranking.trajectory_id)
    assert then.is_exact
    assert now.is_exact
    assert [(item.item, item.score) for item in now.items] == [(item.item, item.score) for item in then.items]
    np.testing.assert_allclose([item.score for item in now.items], ranking.scores, atol=1e-5)
    assert [item.reward for item in now.items] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_what_nobody_asked_has_no_explanation(store):
    made = trained(store)
    with pytest.raises(UnknownTrajectory):
        made.explain(999)
    with pytest.raises(UnknownTrajectory):
        explain(SonaEngine()._machine, 1, is_exact=False)


def test_what_links_added_is_a_part_of_the_score_that_was_served():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = tuple(f"d{number}" for number in range(40))
    engine = SonaEngine(SonaConfig(guard=GuardConfig(holdout=0.0, budget=1.0)))
    for turn in range(300):  # each item helps together with another one
        wanted = int(rng.integers(40))
        helped = {ids[wanted], ids[(wanted + 7) % 40]}
        ranking = engine.rank(vectors[wanted] + 0.35 * rng.normal(size=8), ids, vectors)
        engine.feedback(ranking.trajectory_id, rewards={name: 1.0 for name in ranking.ids if name in helped})
        if turn % 100 == 99:
            engine.background_learn(force=True)
    assert engine.metrics().graph_weights[1] > 0.0
    ranking = engine.rank(vectors[3] + 0.1 * rng.normal(size=8), ids, vectors)
    told = engine.explain(ranking.trajectory_id)
    assert any(item.links > 0.01 for item in told.items)
    assert [item.score for item in told.items] == pytest.approx(ranking.scores, abs=1e-5)
