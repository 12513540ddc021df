"""Which links dreams propose: between memories that came near each other in a walk and are not linked yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sona.config import DreamConfig
from sona.dreams.score import Company, Merits


@dataclass(frozen=True, slots=True)
class Proposal:
    """A link that was dreamt of.

    Args:
        a: Id of one end, the lesser of the two.
        b: Id of the other.
        score: How much speaks for it, above 0; from several dreams it adds up.
    """

    a: str
    b: str
    score: float


def proposed_by(company: Company, merits: Merits, config: DreamConfig, ids: Sequence[str]) -> tuple[Proposal, ...]:
    """Return the links that one dream proposes, the best first; memories that are linked already get none.

    `cooccurrence` scores a pair by nearness x (1 + cos) / 2, `specification` by the dream's score for each time that
    one followed the other.

    Args:
        company: The memories visited; for `specification` with a window of 1 step.
        merits: What the dream is worth.
        config: The rule.
        ids: Ids of all memories, by row.
    """
    if config.rule == "specification":
        scores = company.nearness * merits.score
    else:
        scores = company.nearness * (1.0 + company.cosines) / 2.0
    first, second = np.nonzero(np.triu(scores, 1) * ~company.linked)
    found = scores[first, second]
    names = [ids[row] for row in company.rows.tolist()]
    ends = ((names[a], names[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True))
    return _ordered({(min(pair), max(pair)): score for pair, score in zip(ends, found.tolist(), strict=True)})


def _ordered(scores: Mapping[tuple[str, str], float]) -> tuple[Proposal, ...]:
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Proposal(a, b, score) for (a, b), score in ordered)


def added_up(proposals: Iterable[Proposal]) -> tuple[Proposal, ...]:
    """Return one proposal per pair, with the sum of its scores, the best first and equals by their ids.

    >>> added_up([Proposal("a", "b", 0.25), Proposal("a", "c", 0.3), Proposal("a", "b", 0.5)])
    (Proposal(a='a', b='b', score=0.75), Proposal(a='a', b='c', score=0.3))
    """
    sums: dict[tuple[str, str], float] = {}
    for one in proposals:
        pair = (one.a, one.b)
        sums[pair] = sums.get(pair, 0.0) + one.score
    return _ordered(sums)
