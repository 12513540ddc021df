"""Words in and out of an engine: the embedder, fitted as memories grow, and the responder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sona.checks import Floats
from sona.config import SonaConfig
from sona.engine.memories import Memories
from sona.errors import StoreError
from sona.memory.votes import VoteMemory
from sona.state import State
from sona.text.embed import Embedder, EmbedFunction, Encoder, LsaEmbedder, as_embedder
from sona.text.respond import MemoryResponder, Responder, RespondFunction, as_responder
from sona.types import Context, Source

_DEFAULT_DIM = 256


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

    def index(self, memories: Memories, votes: VoteMemory | None) -> int:
        """Embed waiting memories; when the default embedder is due, fit it and embed everything anew.

        A new fit is rotated onto the old one, and past requests are embedded anew from their words, so what was
        learned stays valid.
        """
        embedder = self.embedder
        if not memories.waiting_count:
            return 0
        if not isinstance(embedder, LsaEmbedder) or not memories.needs_words or not embedder.is_due(len(memories)):
            return memories.index(embedder.embed)
        if not embedder.is_fitted:
            embedder.fit(memories.texts)
            return memories.index(embedder.embed, anew=True)
        embedder.refit(memories.texts)
        if votes is not None:
            votes.re_embed(embedder.embed)
        return memories.index(embedder.embed, anew=True)

    def embed(self, text: str) -> Floats:
        """Return the vector of one text, shape (d,); zero while the default embedder knows no words."""
        if isinstance(self.embedder, LsaEmbedder) and not self.embedder.is_fitted:
            return np.zeros(self.embedder.dim, np.float32)
        row: Floats = self.embedder.embed([text])[0]
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
