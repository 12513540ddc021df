import pytest

from sona.errors import InvalidValue
from sona.text.respond import NOTHING_KNOWN, CallableResponder, MemoryResponder, Responder, as_responder
from sona.types import Context, Source


def test_memory_answers_with_the_best_source():
    sources = [Source("a", "first", 0.9), Source("b", "second", 0.4)]
    assert MemoryResponder().respond("q", sources, Context()) == "first"


def test_memory_says_that_it_knows_nothing():
    assert MemoryResponder().respond("q", [], Context()) == NOTHING_KNOWN


def test_a_callable_gets_the_request_the_sources_and_who_asks():
    seen = []

    def answer(query, sources, context):
        seen.append((query, sources, context))
        return "fine"

    sources, context = (Source("a", "t", 1.0),), Context(user_id="u")
    assert CallableResponder(answer).respond("q", sources, context) == "fine"
    assert seen == [("q", sources, context)]


@pytest.mark.parametrize("answer", ["", "  \n", None, 3, b"bytes"])
def test_an_answer_must_be_text(answer):
    with pytest.raises(InvalidValue, match="answer"):
        CallableResponder(lambda *_: answer).respond("q", [], Context())


def test_an_error_of_the_callable_is_not_disguised():
    def broken(query, sources, context):
        raise TimeoutError("no model")

    with pytest.raises(TimeoutError, match="no model"):
        CallableResponder(broken).respond("q", [], Context())


def test_as_responder_wraps_callables_only():
    memory = MemoryResponder()
    assert as_responder(memory) is memory
    assert isinstance(as_responder(lambda query, sources, context: "x"), Responder)
    with pytest.raises(InvalidValue, match="str"):
        as_responder("answer")
