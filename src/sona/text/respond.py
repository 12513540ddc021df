"""Memories to answer: the Responder protocol, a default that answers from memory, and any callable in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from sona.checks import nonempty_text
from sona.errors import InvalidValue
from sona.types import Context, Source

NOTHING_KNOWN = "I have no memory that answers this."


@runtime_checkable
class Responder(Protocol):
    """Whatever turns a request and the memories found for it into an answer."""

    def respond(self, query: str, sources: Sequence[Source], context: Context) -> str:
        """Return the answer, not empty; `sources` come best first and may be none."""
        ...


RespondFunction: TypeAlias = Callable[[str, Sequence[Source], Context], str]


class MemoryResponder:
    """Answers with the best memory's own words, and says so when there is none.

    >>> MemoryResponder().respond("hours?", [Source("faq-1", "Open 9 to 5.", 0.8)], Context())
    'Open 9 to 5.'
    >>> MemoryResponder().respond("hours?", [], Context())
    'I have no memory that answers this.'
    """

    def respond(self, query: str, sources: Sequence[Source], context: Context) -> str:
        """Return the text of the first source that has words."""
        return next((source.text for source in sources if source.text.strip()), NOTHING_KNOWN)


class CallableResponder:
    """Answers with any callable from (query, sources, context) to text, such as a call to a language model.

    An error of the callable reaches the caller unchanged.

    >>> shout = CallableResponder(lambda query, sources, context: query.upper())
    >>> shout.respond("hello", [], Context())
    'HELLO'
    """

    def __init__(self, function: RespondFunction) -> None:
        """Wrap `function`.

        Raises:
            InvalidValue: it cannot be called.
        """
        if not callable(function):
            raise InvalidValue(f"responder: expected a callable, got {type(function).__name__}")
        self._function = function

    def respond(self, query: str, sources: Sequence[Source], context: Context) -> str:
        """Return what the callable answers.

        Raises:
            InvalidValue: it answered with something else than text, or with nothing.
        """
        return nonempty_text(self._function(query, sources, context), "responder's answer")


def as_responder(source: Responder | RespondFunction) -> Responder:
    """Return `source` itself when it is a Responder, else a CallableResponder around it.

    Raises:
        InvalidValue: neither a responder nor a callable.
    """
    return source if isinstance(source, Responder) else CallableResponder(source)
