"""What is known of one kind of search, in figures to be read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sona.tuner.searches.arms import SearchArm
from sona.tuner.searches.checks import UNKNOWN, CheckLog, Kind
from sona.tuner.searches.ledger import Tally
from sona.tuner.searches.verdict import Verdict


@dataclass(frozen=True, slots=True)
class SearchPattern:
    """What is known of the searches of one statement with one size of the filter and one fit of the query.

    Args:
        fingerprint: The statement without its values.
        least_rows: Rows that pass the filter, at least; None where nobody knows.
        fit: `SearchKey.fit` to the nearest whole number; None where nobody knows.
        arm: What is chosen now for a filter value not seen yet.
        reason: Why, in words.
        recall: Mean recall that is believed of it.
        recall_low: The lower bound that was decided on.
        checks: Checks that measured it on searches of this fit.
        searches: Searches that ran.
        early: Those among them that ran before enough was known, by the server's own choice.
        mean_ms: What they took on average; NaN where none ran.
        own_recall: Mean recall that is believed of the server's own choice.
        own_ms: What the server's own choice takes in the middle; infinite where it was never measured.
        own_short: Share of checked searches of this fit for which it returned too few rows; NaN where none was.
    """

    fingerprint: str
    least_rows: int | None
    fit: int | None
    arm: SearchArm
    reason: str
    recall: float
    recall_low: float
    checks: int
    searches: int
    early: int
    mean_ms: float
    own_recall: float
    own_ms: float
    own_short: float


def pattern(
    fingerprint: str, arms: tuple[SearchArm, ...], verdict: Verdict, log: CheckLog, counted: tuple[Kind, Tally]
) -> SearchPattern:
    """Return the figures of one kind: what is decided, what was checked, and what was counted."""
    (kind, tally), belief, place = counted, verdict.belief, verdict.place
    searches, shorts = int(tally.counts.sum()), log.shorts[log.fits == kind.fit, 0]
    known = shorts[~np.isnan(shorts)]
    return SearchPattern(
        fingerprint,
        None if kind.size == UNKNOWN else 2**kind.size,
        None if kind.fit == UNKNOWN else kind.fit,
        arms[place],
        verdict.reason,
        float(belief.recall[place]),
        float(max(verdict.lower[place], 0.0)),
        int(belief.checks[place]),
        searches,
        tally.early,
        1e3 * float(tally.seconds.sum()) / searches if searches else math.nan,
        float(belief.recall[0]),
        1e3 * float(belief.time_s[0]),
        float(known.mean()) if len(known) else math.nan,
    )
