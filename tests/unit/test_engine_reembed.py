"""Another embedder takes over: what was learned of words stays, what was learned of vectors starts anew."""

from __future__ import annotations

import numpy as np
import pytest

from sona import Context, GuardConfig, InvalidValue, PatternConfig, SonaConfig, SonaEngine
from sona.state import digest
from sona.stores import MemoryStore

FAQ = {
    "reset": "To reset a password, open the settings page and choose reset.",
    "invoice": "An invoice is paid by bank transfer within thirty days.",
    "refund": "A refund is sent to the card that was charged.",
    "hours": "The office is open from nine to five.",
}
ASKED = ("reset my password", "pay an invoice", "is a refund sent to my card")


def embedder(width, seed):
    """Return an embedder of words: like words, like vectors, in a space of its own."""

    def embed(texts):
        rows = [
            [np.random.default_rng([seed, *map(ord, word)]).normal(size=width) for word in t.split()] for t in texts
        ]
        return np.array([np.sum(row, 0) for row in rows], np.float32)

    return embed


def lived(first, store=None):
    config = SonaConfig(
        min_trajectories=3, patterns=PatternConfig(min_cluster_size=2), guard=GuardConfig(holdout=0.0, key="k")
    )
    engine = SonaEngine(config, embedder=first, clock=lambda: 50.0, store=store or MemoryStore())
    for name, text in FAQ.items():
        engine.remember(text, name)
    ask(engine)
    engine.background_learn(force=True)
    return engine


def ask(engine):
    for turn in range(6):
        response = engine.process(ASKED[turn % 3], Context(user_id=f"u{turn}"))
        engine.feedback(response.trajectory_id, quality=1.0 - turn / 10)


TAKEOVERS = pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(embedder(8, 1), embedder(8, 2), id="same width"),
        pytest.param(embedder(8, 1), embedder(12, 2), id="wider"),
        pytest.param(None, embedder(12, 2), id="built in before"),
        pytest.param(None, embedder(256, 2), id="built in before, same width"),
    ],
)


@TAKEOVERS
def test_votes_of_requests_with_words_stay_and_vectors_start_anew(first, second):
    engine = lived(first)
    vectors = np.eye(3, engine.hidden_dim)
    ranking = engine.rank(vectors[0], ("a", "b", "c"), vectors)
    engine.feedback(ranking.trajectory_id, rewards={"b": 1.0})
    votes, before = engine._learner.votes, engine.metrics()
    assert engine.reembed(second) == len(FAQ)
    after, width = engine.metrics(), second(["a"]).shape[1]
    assert engine.hidden_dim == after.hidden_dim == width
    assert engine._learner.votes.texts == votes.texts
    assert after.past_requests == len(ASKED) == before.past_requests - 1  # one had no words
    assert (after.patterns, engine.bank.trajectory_count) == (0, 0)
    x = np.ones(width, np.float32)
    assert engine.adapt(x).tobytes() == x.tobytes()
    assert taken(engine._learner.votes) == taken(votes)
    for text in ASKED:  # each past request is found by its words
        assert engine._learner.votes.look_up(second([text])[0]).is_known


def taken(votes):
    """What each past request with words took and passed over."""
    return [(r.text, r.items.tolist(), r.sums.tolist()) for r in votes._shelf.records if r.text is not None]


@TAKEOVERS
def test_counters_go_on_and_the_log_gives_the_state_again(first, second):
    engine = lived(first)
    before = engine.metrics()
    engine.reembed(second)
    after = engine.metrics()
    names = ("requests", "feedbacks", "amended", "repeated", "unknown", "expired", "unanswered", "memories")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert engine.replay().is_equal
    last = engine.process("open").trajectory_id
    assert last == before.requests + 1
    ask(engine)
    assert engine.background_learn(force=True).skipped_reason is None
    assert engine.replay().is_equal
    assert engine.metrics().feedbacks == before.feedbacks + 6


@TAKEOVERS
def test_answers_are_those_of_the_new_embedder(first, second):
    engine = lived(first)
    engine.reembed(second)
    engine.set_mode("shadow")  # frozen answers: similarity alone
    response = engine.process("the office is open")
    rows = second(list(FAQ.values()))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    request = second(["the office is open"])[0]
    similarity = dict(zip(FAQ, unit @ request / np.linalg.norm(request), strict=True))
    assert response.sources[0].id == max(similarity, key=lambda name: similarity[name])
    for source in response.sources:
        assert source.score == pytest.approx(similarity[source.id], abs=1e-5)
    engine.remember("Parcels are brought to the door.", "parcel")
    assert engine.process("Parcels are brought to the door.").sources[0].id == "parcel"


@TAKEOVERS
def test_a_file_opens_with_the_new_embedder_afterwards(tmp_path, first, second):
    config = SonaConfig(min_trajectories=3, guard=GuardConfig(key="k"))
    with SonaEngine.open(tmp_path / "file", config, embedder=first) as engine:
        for name, text in FAQ.items():
            engine.remember(text, name)
        ask(engine)
        engine.reembed(second)
        ask(engine)
        state = digest(engine.state())
    with SonaEngine.open(tmp_path / "file", embedder=second) as engine:
        assert digest(engine.state()) == state
        assert engine.replay().is_equal


@TAKEOVERS
def test_what_came_before_is_exported_with_its_words_and_embedded_anew_elsewhere(tmp_path, first, second):
    engine = lived(first)
    engine.reembed(second)
    ask(engine)
    engine.export(tmp_path / "a")
    config = SonaConfig(min_trajectories=3, guard=GuardConfig(key="elsewhere"))
    another = SonaEngine(config, embedder=second, clock=lambda: 50.0, store=MemoryStore())
    told = another.import_from(tmp_path / "a")
    assert (told.memories, told.trajectories, told.left_out) == (len(FAQ), 12, 0)
    assert another.hidden_dim == engine.hidden_dim
    for text in ASKED:
        assert another._learner.votes.look_up(second([text])[0]).is_known


@pytest.mark.parametrize("second", [3, lambda texts: [[1.0]], lambda texts: [[np.nan]] * len(texts)])
def test_what_is_no_embedder_changes_nothing(second):
    engine = lived(embedder(8, 1))
    before = digest(engine.state())
    with pytest.raises(InvalidValue):
        engine.reembed(second)
    assert digest(engine.state()) == before
    assert engine.replay().is_equal
