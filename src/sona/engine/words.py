"""Words in and out of an engine: the embedder, fitted as memories grow, and the responder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from sona.checks import Floats
from sona.config import SonaConfig
from sona.engine.memories import Memories
from sona.errors import StoreError
from sona.state import State
from sona.text.embed import Embedder, EmbedFunction, Encoder, LsaEmbedder, as_embedder, words
from sona.text.respond import MemoryResponder, Responder, RespondFunction, as_responder
from sona.types import Context, Source

_DEFAULT_DIM = 256


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What indexing makes of the memories.

    Args:
        embedder: The embedder from then on.
        rows: Memories that get vectors, ascending, k of them.
        vectors: Theirs, shape (k, d).
        made: Those that were embedded, shape (m, d).
        ids: Of which memories.
        is_refit: Whether the embedder was fitted anew, so that past requests have to be embedded again.
    """

    embedder: Embedder
    rows: Sequence[int]
    vectors: Floats
    made: Floats
    ids: tuple[str, ...]
    is_refit: bool

    @property
    def count(self) -> int:
        """How many memories were embedded."""
        return len(self.made)


class Wording:
    """Says whether memories say the same: embeddings alone take texts for one that differ in a word that matters.

    Args:
        texts: What is remembered, by id, as it was when this was made.
        least: Least share of their words that two texts have in common.
    """

    def __init__(self, texts: Mapping[str, str], least: float) -> None:
        """Count no words yet."""
        self._texts, self._least = texts, least
        self._counts: dict[str, Counter[str]] = {}

    def are_one(self, a: str, b: str) -> bool:
        """Return True when the memories `a` and `b` have enough of their words in common, or all of their text."""
        if a not in self._texts or b not in self._texts:
            return False
        ours, theirs = self._counted(a), self._counted(b)
        every = (ours | theirs).total()
        return self._texts[a] == self._texts[b] if not every else (ours & theirs).total() >= self._least * every

    def _counted(self, name: str) -> Counter[str]:
        found = self._counts.get(name)
        if found is None:
            found = self._counts[name] = Counter(words(self._texts[name]))
        return found


class Words:
    """Turns texts into vectors and sources into answers; by default without any model weights."""

    def __init__(
        self,
        config: SonaConfig,
        embedder: Embedder | Encoder | EmbedFunction | None = None,
        responder: Responder | RespondFunction | None = None,
    ) -> None:
        """Take the caller's embedder and responder, or the defaults."""
        default = LsaEmbedder(config.hidden_dim or _DEFAULT_DIM, config.seed)
        self.embedder: Embedder = default if embedder is None else as_embedder(embedder)
        self.responder: Responder = MemoryResponder() if responder is None else as_responder(responder)

    def prepare(self, memories: Memories, known: Mapping[str, Floats] | None = None) -> Prepared:
        """Return the vectors of waiting memories; nothing changes before they are published.

        When the default embedder is due, it is fitted anew and everything embedded again. A new fit is rotated onto
        the old one, so what was learned stays valid.

        Args:
            memories: What to embed.
            known: Vectors of waiting ones by id, made earlier by a caller's embedder, each of shape (d,).
        """
        embedder = self.embedder
        is_due = isinstance(embedder, LsaEmbedder) and memories.needs_words and embedder.is_due(len(memories))
        if not is_due or not isinstance(embedder, LsaEmbedder):
            embedded = memories.embedded(embedder.embed, known=known)
            return Prepared(embedder, embedded.rows, embedded.vectors, embedded.made, embedded.ids, is_refit=False)
        fitted = copy(embedder)
        if embedder.is_fitted:
            fitted.refit(memories.texts)
        else:
            fitted.fit(memories.texts)
        embedded = memories.embedded(fitted.embed, anew=True)
        return Prepared(
            fitted, embedded.rows, embedded.vectors, embedded.made, embedded.ids, is_refit=embedder.is_fitted
        )

    @property
    def is_built_in(self) -> bool:
        """True for the default embedder, which gives the same vector for the same words again."""
        return isinstance(self.embedder, LsaEmbedder)

    def embed(self, text: str) -> Floats:
        """Return the vector of one text, shape (d,); zero while the default embedder knows no words."""
        embedder = self.embedder
        if isinstance(embedder, LsaEmbedder) and not embedder.is_fitted:
            return np.zeros(embedder.dim, np.float32)
        row: Floats = embedder.embed([text])[0]
        return row

    def respond(self, query: str, sources: Sequence[Source], context: Context) -> str:
        """Return the responder's answer."""
        return self.responder.respond(query, sources, context)

    def state(self) -> State:
        """Return the default embedder's fit; an embedder of the caller's has to be given again on load."""
        if isinstance(self.embedder, LsaEmbedder):
            return State({"kind": "lsa", "embedder": self.embedder.state()})
        return State({"kind": "given"})

    @classmethod
    def from_state(
        cls,
        state: State,
        config: SonaConfig,
        embedder: Embedder | Encoder | EmbedFunction | None,
        responder: Responder | RespondFunction | None,
    ) -> Words:
        """Return the words that `state` was taken from.

        Raises:
            StoreError: the state needs the embedder it was made with, or must not be given another.
        """
        kind = state.text("kind")
        if kind == "given" and embedder is None:
            raise StoreError("this state was made with an embedder of your own: give the same one to load or open")
        if kind == "lsa" and embedder is not None:
            raise StoreError("this state was made with the default embedder: load or open it without one")
        words = cls(config, embedder, responder)
        if kind == "lsa":
            words.embedder = LsaEmbedder.from_state(state.child("embedder"))
        return words
