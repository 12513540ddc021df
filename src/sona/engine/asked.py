"""A request while it is answered: what was asked, and both answers that were found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.checks import Floats
from sona.engine.candidates import Candidates
from sona.engine.choice import Choice, Scored
from sona.engine.machine import Machine
from sona.engine.memories import Memories
from sona.text.embed import Embedder
from sona.types import Context

_NONE = Scored(np.zeros(0, np.int64), np.zeros(0, np.float32))
NOTHING = Choice(_NONE, _NONE, 0.0)
"""Both answers where there is nothing to answer from."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What was asked.

    Args:
        request: Its vector, shape (d,).
        text: In words, if it had any.
        who: Who asks.
        began: When, seconds of `time.perf_counter`.
        is_embedded: Whether the built-in embedder made the vector of the words.
    """

    request: Floats
    text: str | None
    who: Context
    began: float
    is_embedded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Both answers, and what they were found in.

    Args:
        machine: What was known.
        choice: The answers.
        candidates: Out of what.
        touched: Patterns that were used.
        memories: The engine's own memories, where the answers are of them.
        vectors: Their vectors.
        embedder: What made the request's vector, likewise.
    """

    machine: Machine
    choice: Choice
    candidates: Candidates
    touched: tuple[int, ...] = ()
    memories: Memories | None = None
    vectors: Floats | None = None
    embedder: Embedder | None = None

    def is_current(self, machine: Machine) -> bool:
        """Return True when nothing was put in the place of what the answers were found in."""
        if machine is not self.machine:
            return False
        if self.memories is None:
            return True
        is_present = machine.memories is self.memories and self.memories.vectors is self.vectors
        return is_present and machine.words.embedder is self.embedder
