"""Both answers to one request: by plain cosine, and with everything learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, contiguous
from sona.errors import InvalidValue
from sona.memory.calibrate import Weights
from sona.memory.recall import Recalled, Seeds
from sona.memory.votes import Evidence

_ROUNDING = 1e-6  # a float32 cosine below it is rounding noise


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The best candidates, best first: their rows and scores."""

    rows: npt.NDArray[np.int64]
    scores: Floats

    def positive(self) -> Scored:
        """Return the candidates that score above 0; without similarity and without a vote, nothing is an answer."""
        if not len(self.scores) or self.scores.item(-1) > _ROUNDING:
            return self
        best = slice(int(np.count_nonzero(self.scores > _ROUNDING)))
        return Scored(self.rows[best], self.scores[best])

    @classmethod
    def best(cls, scores: Floats, k: int) -> Scored:
        """Return the best `k` of the candidates; equal scores in the order they came, so that none is chance."""
        found = kernel.top(scores, k)
        if found is None:
            found = kernel.top(contiguous(scores), k)
        if found is None:
            raise InvalidValue(f"k: expected at least 1 of some scores, got {k} of shape {scores.shape}")
        return cls(*found)

    def first(self, k: int) -> Scored:
        """Return the best `k` of these."""
        return Scored(self.rows[:k], self.scores[:k])

    def seeds(self, ids: Sequence[str], k: int) -> Seeds:
        """Return the best `k` of these that are similar at all, as what they activate; scores are cosines."""
        near = self.first(k).positive()
        return Seeds(tuple(ids[row] for row in near.rows.tolist()), near.scores)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Both answers to one request.

    Args:
        frozen: By plain cosine.
        learned: With everything learned.
        learning_us: What the learned one took beyond the frozen one, microseconds.
        seeds: What the request activates in the memory graph.
    """

    frozen: Scored
    learned: Scored
    learning_us: float
    seeds: Seeds | None = None

    def positive(self) -> Choice:
        """Return both without the candidates that score 0."""
        return Choice(self.frozen.positive(), self.learned.positive(), self.learning_us, self.seeds)

    @property
    def is_identical(self) -> bool:
        """True when both show the same candidates in the same order."""
        return len(self.frozen.rows) == len(self.learned.rows) == self.common

    @property
    def common(self) -> int:
        """How many candidates both begin with."""
        size = min(len(self.frozen.rows), len(self.learned.rows))
        pairs = zip(self.frozen.rows.tolist(), self.learned.rows.tolist(), strict=False)
        return next((place for place, (one, other) in enumerate(pairs) if one != other), size)


def add_votes(scores: Floats, evidence: Evidence, row_of: Mapping[str, int], weights: Weights) -> bool:
    """Add to `scores` what the votes say; False, and nothing added, when they say nothing about the candidates."""
    if not evidence.items:
        return False
    rows = np.fromiter(map(row_of.get, evidence.items, repeat(-1)), np.int64, len(evidence.items))
    return _lift(scores, rows, weights.votes(evidence.taken, evidence.passed))


def add_recalled(scores: Floats, activation: Recalled | None, weights: Weights) -> bool:
    """Add to `scores` what activation is worth; False, and nothing added, when it is worth nothing."""
    if activation is None or not len(activation.rows) or not (weights.similar or weights.linked):
        return False
    similar, linked = activation.values
    worth = np.float32(weights.similar) * similar + np.float32(weights.linked) * linked
    return _lift(scores, activation.rows, worth)


def _lift(scores: Floats, rows: npt.NDArray[np.int64], amounts: Floats) -> bool:
    lifted = kernel.lift(scores, rows, amounts)
    if lifted is None:
        raise InvalidValue(f"scores: expected a float32 vector to add to, got {scores.dtype} of {scores.shape}")
    return lifted > 0
