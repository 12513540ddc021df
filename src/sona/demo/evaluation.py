"""How good a ranking is, how sure we are of a difference, and whether held-out really is held out."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, matrix, whole
from sona.errors import InvalidValue

Doubles: TypeAlias = npt.NDArray[np.float64]


def ndcg(shown: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """Return nDCG@k with binary relevance: 1 when the relevant ids come first, 0 when none is shown.

    Args:
        shown: Distinct ids, best first.
        relevant: Ids that answer the request, at least one.
        k: Positions that count.

    Raises:
        InvalidValue: nothing is relevant, or k below 1.

    Source:
        Jarvelin, Kekalainen 2002, Cumulated gain-based evaluation of IR techniques.

    >>> round(ndcg(["x", "a"], {"a"}), 4)
    0.6309
    """
    if not relevant:
        raise InvalidValue("relevant: expected at least one id")
    discount = 1.0 / np.log2(np.arange(2, whole(k, "k", 1) + 2))
    gained = sum(discount[place] for place, item in enumerate(shown[:k]) if item in relevant)
    return float(gained / discount[: len(relevant)].sum())


def top_cosine(requests: Floats, documents: Floats, k: int = 10) -> npt.NDArray[np.int64]:
    """Return the rows of the k documents with the largest cosine to each request, best first; earlier rows win ties.

    Args:
        requests: Shape (n, d).
        documents: Shape (m, d).
        k: Documents per request, at most m.

    Returns:
        Row numbers, shape (n, min(k, m)).
    """
    wanted = unit(matrix(requests, what="requests"))
    offered = unit(matrix(documents, wanted.shape[1], what="documents"))
    best = [largest(offered @ row, k) for row in wanted]
    return np.array(best, np.int64).reshape(len(best), min(k, len(offered)))


def largest(scores: Floats, k: int) -> npt.NDArray[np.int64]:
    """Return the rows of the k largest scores, best first; earlier rows win ties.

    >>> largest(np.array([0.5, 0.9, 0.5], np.float32), 2).tolist()
    [1, 0]
    """
    # A partition finds the k-th score; only what reaches it is sorted.
    least = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
    rows = np.flatnonzero(scores >= least)
    return rows[np.argsort(-scores[rows], kind="stable")][:k]


def unit(vectors: Floats) -> Floats:
    """Return `vectors`, shape (..., d), at length 1; a zero vector stays zero."""
    lengths = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return (vectors / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float32, copy=False)


class Effect(enum.StrEnum):
    """What an interval around a difference says."""

    HELPED = "helped"
    NO_EVIDENCE = "no evidence"
    HARMED = "harmed"


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference with its interval.

    Args:
        mean: Learned minus frozen.
        low: Lower end of the interval.
        high: Upper end.
        per_seed: The mean of each seed.
        requests: Distinct requests behind it.
    """

    mean: float
    low: float
    high: float
    per_seed: tuple[float, ...]
    requests: int

    @property
    def effect(self) -> Effect:
        """`helped` or `harmed` only when the interval excludes 0."""
        if self.low > 0.0:
            return Effect.HELPED
        return Effect.HARMED if self.high < 0.0 else Effect.NO_EVIDENCE


def paired_difference(
    keys: Sequence[Sequence[str]], differences: Sequence[Doubles], *, level: float = 0.95
) -> Difference:
    """Return the mean of paired differences pooled over seeds, with a t-interval clustered by request.

    The same request asked in several seeds, or in several wordings, is one piece of evidence: with residuals e
    summed within each of G requests, SE^2 = G/(G-1) * sum_g (sum e)^2 / n^2, and the quantile is Student's with
    G - 1 degrees of freedom. The interval covers the choice of requests; how far seeds differ is in `per_seed`.

    Args:
        keys: For each seed the request behind each difference.
        differences: For each seed learned minus frozen, same lengths.
        level: Coverage in (0, 1).

    Raises:
        InvalidValue: fewer than two distinct requests, or lengths that do not match.

    Source:
        Cameron, Miller 2015, A Practitioner's Guide to Cluster-Robust Inference, eq. 11-12.
    """
    lengths = [len(part) for part in keys]
    if lengths != [len(part) for part in differences] or not lengths or min(lengths) == 0:
        raise InvalidValue("differences: expected for each seed one difference per key, and at least one")
    pooled = np.concatenate([np.asarray(part, np.float64) for part in differences])
    mean = float(pooled.mean())
    _, groups = np.unique(np.concatenate([np.asarray(part) for part in keys]), return_inverse=True)
    sums = np.bincount(groups, weights=pooled - mean)
    if len(sums) < 2:
        raise InvalidValue("keys: expected at least two distinct requests")
    error = np.sqrt(len(sums) / (len(sums) - 1) * float(sums @ sums)) / len(pooled)
    reach = float(student_quantile(0.5 + level / 2.0, len(sums) - 1) * error)
    per_seed = tuple(float(np.mean(part)) for part in differences)
    return Difference(mean, mean - reach, mean + reach, per_seed, len(sums))


def student_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t: off by less than 0.001 from 8 degrees of freedom on (95 %).

    Source:
        Abramowitz, Stegun 1964, 26.7.5 (expansion in 1/degrees around the normal quantile).
    """
    z = NormalDist().inv_cdf(probability)
    v = float(whole(degrees, "degrees", 1))
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


NEAR_DUPLICATE = 0.8
"""Share of common words (Jaccard index) from which two texts count as near-duplicates."""


class WordOverlap:
    """Finds texts that share most of their words, by the Jaccard index of their word sets."""

    def __init__(self) -> None:
        """Start with no texts."""
        self._sizes: list[int] = []
        self._holders: dict[str, list[int]] = defaultdict(list)

    def add(self, words: Iterable[str]) -> None:
        """Remember a text by its words."""
        distinct = set(words)
        for word in distinct:
            self._holders[word].append(len(self._sizes))
        self._sizes.append(len(distinct))

    def highest(self, words: Iterable[str]) -> float:
        """Return the largest Jaccard index with any remembered text, in [0, 1].

        >>> overlap = WordOverlap()
        >>> overlap.add(["reset", "my", "password"])
        >>> overlap.highest(["reset", "password", "now"])
        0.5
        """
        distinct = set(words)
        shared = Counter(text for word in distinct for text in self._holders.get(word, ()))
        return max((n / (len(distinct) + self._sizes[text] - n) for text, n in shared.items()), default=0.0)


def near_duplicates(
    held_out: Sequence[Sequence[str]], seen: Sequence[Sequence[str]], *, threshold: float = NEAR_DUPLICATE
) -> tuple[int, ...]:
    """Return the positions in `held_out` whose word lists share `threshold` of their words with one of `seen`."""
    overlap = WordOverlap()
    for words in seen:
        overlap.add(words)
    return tuple(place for place, words in enumerate(held_out) if overlap.highest(words) >= threshold)
