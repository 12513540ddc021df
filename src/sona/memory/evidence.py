"""What vote memory finds when a request is looked up in it, as records that are never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sona import kernel
from sona.checks import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Pooled experience of a neighbourhood, by item and similarity bin.

    Args:
        items: Item ids, m of them.
        taken: Rewards earned, shape (m, 1 + bins); column 0 is the same request.
        passed: Expected looks without reward, shape (m, 1 + bins).
        is_known: True when the same request was asked before.
    """

    items: tuple[str, ...]
    taken: Floats
    passed: Floats
    is_known: bool

    def rows(self, items: Sequence[str]) -> tuple[Floats, Floats]:
        """Return `taken` and `passed` for `items`, zero where nothing is known, each of shape (n, 1 + bins)."""
        row_of = {item: row for row, item in enumerate(self.items)}
        taken = np.zeros((len(items), self.taken.shape[1]), np.float32)
        passed = np.zeros_like(taken)
        for row, item in enumerate(items):
            found = row_of.get(item)
            if found is not None:
                taken[row] = self.taken[found]
                passed[row] = self.passed[found]
        return taken, passed


make_evidence = kernel.maker(Evidence)
"""Evidence of all its fields in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class LookedUp:
    """The request most similar to one that was looked up.

    Args:
        turn: Of the memory, when it was.
        count: Among how many.
        request: What was looked up, of length 1, shape (d,).
        slot: Of the most similar one.
        similarity: Its cosine.
    """

    turn: int
    count: int
    request: Floats
    slot: int
    similarity: float

    def is_of(self, turn: int, count: int, request: Floats) -> bool:
        """Return True when looking `request` up in this turn, among so many, would find the same."""
        is_present = self.turn == turn and self.count == count
        return is_present and self.request.tobytes() == request.tobytes()


make_looked_up = kernel.maker(LookedUp)
"""What was looked up, of all its fields in their order."""
