"""What the tuner found, in records to be read: per query pattern what was chosen, why, what it saved, and in sum."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sona.state import Plain
from sona.tuner.choosing.family import Family
from sona.tuner.choosing.plan_policy import PlanPolicy
from sona.tuner.ledger import Account, Ledger
from sona.tuner.searches.report import SearchPattern
from sona.tuner.statement_report import (
    Finding,
    StatementReport,
    Tried,
    duration,
    read_family_report,
    read_statement_report,
    times,
)

_NO_FAMILIES: Mapping[str, Family] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PatternReport:
    """One query pattern: statements that ask the same about other values.

    Args:
        fingerprint: Digest of the statement without its values.
        sql: The statement without its values, its first 2,000 characters.
        runs: Times it was run.
        total_s: Seconds that the application waited for it.
        saved_s: Seconds that it would have waited longer under the server's own choice, as far as that is known;
            negative where trying cost more than was saved.
        explored_s: Seconds that trying cost.
        rollbacks: Times that settings in force were given up, in all of its statements.
        refusal: Why it is left alone; None when it may be tuned.
        problem: Why no index can serve its search, and the cure; None when one can, or it is no search.
        verdict: What was found, in a sentence.
        statements: Its statements that are kept, those that cost most first.
        family: What is known of those whose values hardly ever come again, which are learned together; None when
            values come again.
        searches: What is known of its nearest-neighbour searches.
    """

    fingerprint: str
    sql: str
    runs: int
    total_s: float
    saved_s: float
    explored_s: float
    rollbacks: int
    refusal: str | None
    problem: str | None
    verdict: str
    statements: tuple[StatementReport, ...]
    family: StatementReport | None
    searches: tuple[SearchPattern, ...]

    @property
    def known(self) -> tuple[StatementReport, ...]:
        """What other settings can be judged by: its family, if there is one, and the statements that came again."""
        if self.family is None:
            return self.statements
        return (self.family, *(one for one in self.statements if one.runs > 1))

    @property
    def is_faster(self) -> bool:
        """True when other settings are in force for some of it."""
        return any(one.finding is Finding.FASTER for one in self.known)


@dataclass(frozen=True, slots=True)
class TunerReport:
    """What a tuner knows, and what it cost and saved.

    Args:
        queries: Statements run, tuned or left alone.
        total_s: Seconds that the application waited for them.
        saved_s: Seconds that it would have waited longer under the server's own choices, as far as that is known;
            what trying cost is taken off.
        explored_s: Seconds that trying settings cost, asking for plans included; not of searches.
        explored_share: The same, as a share of the time of the statements that it was tried on, or may be.
        exploration_limit: The most that this share may be.
        checked_s: Seconds that checks of searches took; the first ones of each kind are beyond the limit.
        trials: Trials so far, of statements whose values come again.
        wins: Those that put other settings in force.
        rollbacks: Times that settings in force were given up again.
        statements: Statements that are known with their values.
        faster: Those that run with other settings than the server's own.
        round_s: Seconds that all of them once take under the server's own choices.
        now_s: Seconds that they take with what is in force.
        barred: Settings that this server does not take, with the reason.
        patterns: Query patterns, those that cost most first.
    """

    queries: int
    total_s: float
    saved_s: float
    explored_s: float
    explored_share: float
    exploration_limit: float
    checked_s: float
    trials: int
    wins: int
    rollbacks: int
    statements: int
    faster: int
    round_s: float
    now_s: float
    barred: Mapping[str, str]
    patterns: tuple[PatternReport, ...]

    @property
    def verdict(self) -> str:
        """What was found in sum, in a sentence."""
        if not self.queries:
            return "No evidence yet: no query came to its end."
        if not self.is_tried:
            return f"No evidence yet: {self.queries:,} queries took {duration(self.total_s)}, and nothing was tried."
        would = self.total_s + self.saved_s
        against = f"of the {duration(would)} that the server's own choices would have taken"
        if self.saved_s >= 0.0:
            share = self.saved_s / would if would > 0.0 else 0.0
            return f"Saved {duration(self.saved_s)} ({share:.0%}) {against}; {self._in_force}"
        return f"So far trying cost {duration(-self.saved_s)} more than it saved, {against}; {self._in_force}"

    @property
    def is_tried(self) -> bool:
        """True when anything but the server's own choices was ever run."""
        families = (one.family for one in self.patterns if one.family is not None)
        return bool(self.trials) or self.checked_s > 0.0 or any(family.tried for family in families)

    @property
    def changed(self) -> list[tuple[int, StatementReport]]:
        """The statements that run or ran with other settings, each with the place of its pattern; most won first."""
        known = [
            (place, one)
            for place, pattern in enumerate(self.patterns, 1)
            for one in pattern.known
            if one.finding in (Finding.FASTER, Finding.GIVEN_UP)
        ]
        return sorted(known, key=lambda pair: -pair[1].runs * ((pair[1].server_s or 0.0) - (pair[1].now_s or 0.0)))

    @property
    def _in_force(self) -> str:
        return f"{self.faster:,} of {self.statements:,} statements run with other settings."

    def to_json(self) -> dict[str, Plain]:
        """Return everything as plain values; what is not known is None."""
        names = [name for name in self.__slots__ if name not in ("barred", "patterns")]
        figures: dict[str, Plain] = {name: getattr(self, name) for name in names}
        patterns: list[Plain] = [_pattern_json(pattern) for pattern in self.patterns]
        return {"verdict": self.verdict, **figures, "barred": dict(self.barred), "patterns": patterns}


def read_report(
    plans: PlanPolicy,
    ledger: Ledger,
    searches: Sequence[SearchPattern] = (),
    families: Mapping[str, Family] = _NO_FAMILIES,
) -> TunerReport:
    """Return what was found so far; nothing is changed.

    Args:
        plans: What is known of statements.
        ledger: What every pattern cost.
        searches: What is known of nearest-neighbour searches.
        families: What is known of statements that are learned together, by fingerprint.
    """
    together = {
        name: read_family_report(family, plans.arms, plans.config.min_mean_s)
        for name, family in families.items()
        if family.is_open
    }
    statements: defaultdict[str, list[StatementReport]] = defaultdict(list)
    for key, unit in plans.units.items():
        report = read_statement_report(
            key.rpartition(":")[2],
            unit,
            plans.arms,
            min_mean_s=plans.config.min_mean_s,
            limit_s=plans.budget.limit_s,
        )
        statements[unit.fingerprint].append(report)
    accounts, searched = ledger.accounts(), {one.fingerprint for one in searches}
    budget = plans.budget
    known = [one for group in (*statements.values(), together.values()) for one in group]
    return TunerReport(
        queries=ledger.queries_processed,
        total_s=ledger.total_s,
        saved_s=sum((account.saved_s for account in accounts.values()), 0.0),
        explored_s=budget.explored_s,
        explored_share=budget.explored_s / budget.spent_s if budget.spent_s > 0.0 else 0.0,
        exploration_limit=plans.config.exploration_share,
        checked_s=sum((accounts[name].explored_s for name in accounts if name in searched), 0.0),
        trials=plans.trials,
        wins=plans.wins,
        rollbacks=sum(one.rollbacks for one in known),
        statements=len(known),
        faster=sum(one.finding is Finding.FASTER for one in known),
        round_s=plans.round_s,
        now_s=plans.round_s - plans.saved_s,
        barred=dict(plans.barred),
        patterns=tuple(
            _pattern(
                fingerprint,
                account,
                sorted(statements[fingerprint], key=_cost, reverse=True),
                together.get(fingerprint),
                tuple(one for one in searches if one.fingerprint == fingerprint),
            )
            for fingerprint, account in accounts.items()
        ),
    )


def _cost(one: StatementReport) -> float:
    return one.runs * (one.server_s or 0.0)


def _pattern(
    fingerprint: str,
    account: Account,
    statements: Sequence[StatementReport],
    family: StatementReport | None,
    searches: tuple[SearchPattern, ...],
) -> PatternReport:
    return PatternReport(
        fingerprint=fingerprint,
        sql=account.sql,
        runs=account.count,
        total_s=account.total_s,
        saved_s=account.saved_s,
        explored_s=account.explored_s,
        rollbacks=sum(one.rollbacks for one in (*statements, *([family] if family else []))),
        refusal=account.refusal,
        problem=account.problem,
        verdict=_verdict(account, statements if family is None else [family], searches),
        statements=tuple(statements),
        family=family,
        searches=searches,
    )


def _verdict(account: Account, statements: Sequence[StatementReport], searches: Sequence[SearchPattern]) -> str:
    if account.refusal is not None:
        return f"left alone: {account.refusal}"
    if account.problem is not None:
        return f"no index can serve it: {account.problem}"
    if searches:
        return _searches_in_words(searches)
    if not statements:
        return "no evidence yet: it never came to its end"
    for finding in (Finding.FASTER, Finding.GIVEN_UP, Finding.KEPT, Finding.UNKNOWN, Finding.TOO_QUICK):
        found = [one for one in statements if one.finding is finding]
        if found:
            return _in_words(finding, found, len(statements))
    return "no evidence yet"


def _searches_in_words(searches: Sequence[SearchPattern]) -> str:
    count, arms = sum(one.searches for one in searches), Counter[str]()
    for one in searches:
        arms[one.arm.name] += one.searches
    if not count:
        return "no evidence yet: it was not searched for yet"
    recall = sum(one.searches * one.recall for one in searches) / count
    own = sum(one.searches * one.own_recall for one in searches) / count
    ways = ", ".join(f"“{arm}” for {share / count:.0%}" for arm, share in arms.most_common() if share)
    known = f"recall {recall:.3f} is believed, {own:.3f} of the server's own choice{_too_few(searches)}"
    return f"for values not seen yet, {known}; chosen: {ways}"


def _too_few(searches: Sequence[SearchPattern]) -> str:
    known = [one for one in searches if not math.isnan(one.own_short)]
    count = sum(one.searches for one in known)
    short = sum(one.searches * one.own_short for one in known) / count if count else 0.0
    return f", which returns too few rows for {short:.0%}" if short > 0.0 else ""


def _in_words(finding: Finding, found: Sequence[StatementReport], count: int) -> str:
    first = found[0]
    if count == 1:
        return f"{finding.value}: {first.why}"
    if finding is not Finding.FASTER:
        return f"{finding.value}: in {len(found):,} of {count:,} statements; of the one that costs most, {first.why}"
    names = dict.fromkeys(f"“{one.arm}”" for one in found)
    own, now = sum(one.server_s or 0.0 for one in found), sum(one.now_s or 0.0 for one in found)
    which = f"{len(found):,} of {count:,} statements run with {', '.join(names)}"
    return f"{finding.value}: {which}; each once takes {duration(now)} instead of {duration(own)}"


# -- plain values --------------------------------------------------------------------------------------------------


def _pattern_json(pattern: PatternReport) -> dict[str, Plain]:
    names = [name for name in pattern.__slots__ if name not in ("statements", "family", "searches")]
    figures: dict[str, Plain] = {name: getattr(pattern, name) for name in names}
    statements: list[Plain] = [_statement_json(one) for one in pattern.statements]
    family: Plain = None if pattern.family is None else _statement_json(pattern.family)
    searches: list[Plain] = [_search_json(one) for one in pattern.searches]
    return {**figures, "family": family, "statements": statements, "searches": searches}


def _statement_json(one: StatementReport) -> dict[str, Plain]:
    names = [name for name in one.__slots__ if name not in ("settings", "finding", "tried")]
    figures: dict[str, Plain] = {name: getattr(one, name) for name in names}
    tried: list[Plain] = [_tried_json(trial) for trial in one.tried]
    return {**figures, "settings": dict(one.settings), "finding": one.finding.value, "tried": tried}


def _tried_json(one: Tried) -> dict[str, Plain]:
    names = [name for name in one.__slots__ if name != "settings"]
    return {**{name: getattr(one, name) for name in names}, "settings": dict(one.settings)}


def _search_json(one: SearchPattern) -> dict[str, Plain]:
    names = [name for name in one.__slots__ if name != "arm"]
    figures: dict[str, Plain] = {name: _finite(getattr(one, name)) for name in names}
    return {**figures, "arm": one.arm.name, "settings": dict(one.arm.params.settings)}


def _finite(value: str | float | None) -> str | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["Finding", "PatternReport", "StatementReport", "Tried", "TunerReport", "duration", "read_report", "times"]
