"""Words: texts to vectors, fitted anew as memories grow without losing what was learned."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import SonaConfig
from sona.engine.memories import Memories
from sona.engine.words import Wording, Words
from sona.errors import StoreError
from sona.memory.votes import Showing, VoteMemory
from sona.state import digest
from sona.types import Context, Source

TEXTS = [
    "how to reset a password",
    "pay an invoice by bank transfer",
    "refund to the card",
    "opening hours of the shop",
    "delivery takes three days",
    "the weather report for tomorrow",
]


def constant(texts):
    return [[1.0, 0.0]] * len(texts)


def index(words: Words, memories: Memories) -> int:
    prepared = words.prepare(memories)
    words.embedder = prepared.embedder
    memories.publish(prepared.vectors, prepared.rows)
    return prepared.count


def test_the_default_embedder_is_fitted_on_the_first_memories_and_again_when_they_have_doubled():
    words, memories = Words(SonaConfig(hidden_dim=4)), Memories()
    assert index(words, memories) == 0
    assert not words.embed("password").any()
    for text in TEXTS[:2]:
        memories.add(text)
    assert index(words, memories) == 2
    assert words.embed("password").any()
    assert not words.embed("weather").any()
    memories.add(TEXTS[2])
    assert index(words, memories) == 1
    assert not words.embed("refund").any()
    for text in TEXTS[3:]:
        memories.add(text)
    assert index(words, memories) == 6
    assert words.embed("weather").any()
    assert memories.vectors.shape == (6, 4)


def test_past_requests_are_embedded_anew_with_the_memories():
    words, memories, votes = Words(SonaConfig(hidden_dim=8)), Memories(), VoteMemory(8)
    for text in TEXTS[:2]:
        memories.add(text)
    index(words, memories)
    question = "my password and the weather"
    votes.record(words.embed(question), [Showing("m1", 1.0)], question)
    assert votes.look_up(words.embed(question)).is_known
    for text in TEXTS[2:]:
        memories.add(text)
    old, prepared = words.embed(question), words.prepare(memories)
    assert prepared.is_refit
    assert (prepared.embedder.embed([question])[0] != old).any()
    words.embedder = prepared.embedder
    votes.re_embed(prepared.embedder.embed)
    assert votes.look_up(words.embed(question)).is_known
    assert votes.look_up(words.embed(question)).items == ("m1",)


def test_nothing_changes_before_what_was_prepared_is_put_in_force():
    words, memories = Words(SonaConfig(hidden_dim=4)), Memories()
    for text in TEXTS[:2]:
        memories.add(text)
    before = digest(words.state()), digest(memories.state())
    first = words.prepare(memories)
    assert (digest(words.state()), digest(memories.state())) == before
    assert (first.count, first.is_refit) == (2, False)
    index(words, memories)
    for text in TEXTS[2:]:
        memories.add(text)
    before = digest(words.state()), digest(memories.state())
    assert words.prepare(memories).is_refit
    assert (digest(words.state()), digest(memories.state())) == before


def test_vectors_made_earlier_take_the_embedders_place():
    def fail(texts):
        raise AssertionError(texts)

    words, memories = Words(SonaConfig(), fail), Memories()
    memories.add("a text")
    prepared = words.prepare(memories, {"m1": np.array([0.0, 3.0], np.float32)})
    assert prepared.vectors.tolist() == [[0.0, 1.0]]
    assert prepared.made.tolist() == [[0.0, 3.0]]
    assert prepared.ids == ("m1",)
    assert not words.is_built_in
    assert Words(SonaConfig()).is_built_in


def test_the_callers_embedder_and_responder_take_the_defaults_place():
    words, memories = Words(SonaConfig(), constant, lambda query, sources, context: query.upper()), Memories()
    memories.add("a text")
    assert index(words, memories) == 1
    assert words.embed("x").tolist() == [1.0, 0.0]
    assert words.respond("hello", [], Context()) == "HELLO"
    assert Words(SonaConfig()).respond("hello", [Source("a", "the text", 1.0)], Context()) == "the text"


def test_a_state_asks_for_the_embedder_it_was_made_with():
    config = SonaConfig(hidden_dim=4)
    own, default = Words(config, constant), Words(config)
    with pytest.raises(StoreError, match="embedder of your own"):
        Words.from_state(own.state(), config, None, None)
    with pytest.raises(StoreError, match="default embedder"):
        Words.from_state(default.state(), config, constant, None)
    assert Words.from_state(own.state(), config, constant, None).embed("x").tolist() == [1.0, 0.0]
    memories = Memories()
    for text in TEXTS:
        memories.add(text)
    index(default, memories)
    again = Words.from_state(default.state(), config, None, None)
    for text in TEXTS:
        np.testing.assert_array_equal(again.embed(text), default.embed(text))


def test_texts_are_one_when_nearly_all_of_their_words_are():
    texts = {
        "a": "To reset a password, open Settings and follow the link.",
        "b": "to reset a password open settings and follow the link!",
        "strip": "Return a copy of the string with leading and trailing whitespace removed.",
        "rstrip": "Return a copy of the string with trailing whitespace removed.",
        "twice": "no no",
        "once": "no",
        "?": "?",
        "!": "!",
    }
    wording = Wording(texts, 0.9)
    assert wording.are_one("a", "b")
    assert not wording.are_one("strip", "rstrip")
    assert Wording(texts, 0.8).are_one("strip", "rstrip")
    assert not wording.are_one("twice", "once")
    assert not wording.are_one("?", "!")  # without words, only the same text is the same
    assert wording.are_one("?", "?")
    assert not wording.are_one("a", "somebody else's")
    assert Wording(texts, 0.0).are_one("a", "once")
