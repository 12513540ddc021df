"""Both answers to one request: by plain cosine, and with everything learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.memory.calibrate import Weights
from sona.memory.recall import Recalled, Seeds
from sona.memory.votes import Evidence

_ROUNDING = 1e-6  # a float32 cosine below it is rounding noise


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The best candidates, best first: their rows and scores."""

    rows: npt.NDArray[np.intp]
    scores: Floats

    def positive(self) -> Scored:
        """Return the candidates that score above 0; without similarity and without a vote, nothing is an answer."""
        best = slice(int(np.count_nonzero(self.scores > _ROUNDING)))
        return Scored(self.rows[best], self.scores[best])

    @classmethod
    def best(cls, scores: Floats, k: int) -> Scored:
        """Return the best `k` of the candidates; equal scores in the order they came, so that none is chance."""
        if k < len(scores):
            least = np.partition(scores, len(scores) - k)[len(scores) - k]
            rows = np.flatnonzero(scores >= least)
        else:
            rows = np.arange(len(scores))
        rows = rows[np.argsort(-scores[rows], kind="stable")][:k]
        return cls(rows, scores[rows])

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
        differs = np.flatnonzero(self.frozen.rows[:size] != self.learned.rows[:size])
        return int(differs[0]) if len(differs) else size


def voted(scores: Floats, evidence: Evidence, row_of: Mapping[str, int], weights: Weights) -> Floats:
    """Return scores with what the votes say added; `scores` themselves when they say nothing about the candidates."""
    rows = np.fromiter(map(row_of.get, evidence.items, repeat(-1)), np.intp, len(evidence.items))
    found = np.flatnonzero((rows >= 0) & (rows < len(scores)))
    if not len(found):
        return scores
    shifted = scores.copy()
    np.add.at(shifted, rows[found], weights.votes(evidence.taken[found], evidence.passed[found]))
    return shifted


def recalled(scores: Floats, activation: Recalled | None, weights: Weights) -> Floats:
    """Return scores with what activation is worth added; `scores` themselves when it is worth nothing."""
    if activation is None or not len(activation.rows) or not (weights.similar or weights.linked):
        return scores
    shifted = scores.copy()
    worth = np.array([weights.similar, weights.linked], np.float32)
    shifted[activation.rows] += worth @ activation.values
    return shifted
