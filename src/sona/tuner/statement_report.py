"""What is known of a statement, or of a family of them: what it is run with, why, and what else was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sona.tuner.choosing.arms import SERVER, Arm
from sona.tuner.choosing.family import ENOUGH, Family
from sona.tuner.choosing.odds import RATIOS
from sona.tuner.choosing.unit import Unit

_ENOUGH = 2  # runs from which a typical time is one
_SAME_PLAN = "the same plan as "
_NO_OTHER_PLAN = "cannot change the plan"


class Finding(StrEnum):
    """What trying settings on a statement has shown."""

    FASTER = "faster"
    GIVEN_UP = "given up"
    KEPT = "the server's own"
    TOO_QUICK = "left alone"
    UNKNOWN = "no evidence yet"


@dataclass(frozen=True, slots=True)
class Tried:
    """How one set of settings fared on a statement.

    Args:
        arm: Its name.
        settings: Value of each setting by name.
        time_s: What the statement typically takes with it, in seconds; None where it never came to its end.
        runs: Times that it came to its end.
        given_up_s: Seconds after which it was given up, at the latest trial; None where it was not.
        outcome: What became of it, in words; empty where it is in force, or still open.
    """

    arm: str
    settings: Mapping[str, str]
    time_s: float | None
    runs: int
    given_up_s: float | None
    outcome: str


@dataclass(frozen=True, slots=True)
class StatementReport:
    """One statement with its values, or all those of its pattern whose values hardly ever come again.

    Args:
        key: Digest of its values; empty for a family.
        runs: Times it came to its end.
        server_s: What it typically takes as the server chooses, in seconds; None where that was never seen.
        now_s: What it typically takes with what is in force; None where that was never seen.
        arm: Name of what is in force; "server" for the server's own choice.
        settings: What is in force: value of each setting by name; empty for the server's own choice.
        finding: What trying has shown.
        why: The same in a sentence.
        rollbacks: Times that settings in force were given up.
        tried: How each set of settings fared that ran, was given up, or was found to be no other plan.
    """

    key: str
    runs: int
    server_s: float | None
    now_s: float | None
    arm: str
    settings: Mapping[str, str]
    finding: Finding
    why: str
    rollbacks: int
    tried: tuple[Tried, ...]

    def time_with(self, arm: str) -> float | None:
        """Return what the statement typically takes with an arm, in seconds; None where nobody knows.

        An arm whose plan is that of another takes as long as the other.
        """
        if arm == SERVER.name:
            return self.server_s
        found = {one.arm: one for one in self.tried}
        for _ in range(len(found) + 1):
            if arm == SERVER.name:
                return self.server_s
            one = found.get(arm)
            if one is None or one.time_s is not None:
                return None if one is None else one.time_s
            if one.outcome == _NO_OTHER_PLAN:
                return self.server_s
            if not one.outcome.startswith(_SAME_PLAN):
                return None
            arm = one.outcome.removeprefix(_SAME_PLAN)
        return None

    def given_up_s(self, arm: str) -> float | None:
        """Return after how many seconds an arm was given up, the least that it takes; None where it was not."""
        return next((one.given_up_s for one in self.tried if one.arm == arm), None)


def read_statement_report(
    key: str, unit: Unit, arms: Sequence[Arm], *, min_mean_s: float, limit_s: float = math.inf
) -> StatementReport:
    """Return what is known of a statement.

    Args:
        key: Its digest.
        unit: What is kept of it.
        arms: What may be tried.
        min_mean_s: Time from which a statement is worth trying on, in seconds.
        limit_s: The most that one trial may cost, in seconds.
    """
    settings = {arm.name: arm.params.settings for arm in (SERVER, *arms)}
    tried = tuple(_tried(unit, arm) for arm in arms if _is_known(unit, arm.name))
    finding, why = _found(unit, tried, len(arms), min_mean_s, limit_s)
    return StatementReport(
        key=key,
        runs=unit.count,
        server_s=_time(unit, SERVER.name),
        now_s=_time(unit, unit.incumbent),
        arm=unit.incumbent,
        settings=settings.get(unit.incumbent, {}),
        finding=finding,
        why=why,
        rollbacks=unit.rollbacks,
        tried=tried,
    )


def read_family_report(family: Family, arms: Sequence[Arm], min_mean_s: float) -> StatementReport:
    """Return what is known of statements that are learned together.

    Args:
        family: What is kept of them.
        arms: What may be tried.
        min_mean_s: Time from which they are worth trying on, in seconds.
    """
    settings = {arm.name: arm.params.settings for arm in (SERVER, *arms)}
    tried = tuple(_tried_together(family, arm) for arm in arms if arm.name in family.logs or arm.name in family.closed)
    finding, why = _found_together(family, tried, len(arms), min_mean_s)
    return StatementReport(
        key="",
        runs=family.count,
        server_s=family.server_s or None,
        now_s=family.typical_s(family.incumbent) or None,
        arm=family.incumbent,
        settings=settings.get(family.incumbent, {}),
        finding=finding,
        why=why,
        rollbacks=family.rollbacks,
        tried=tried,
    )


def _tried_together(family: Family, arm: Arm) -> Tried:
    name = arm.name
    given_up_s = family.longest_s if family.cancelled.get(name) else None
    runs = len(family.logs.get(name, ()))
    return Tried(
        name, arm.params.settings, family.typical_s(name) or None, runs, given_up_s, family.closed.get(name, "")
    )


def _found_together(family: Family, tried: Sequence[Tried], arm_count: int, min_mean_s: float) -> tuple[Finding, str]:
    count = len(family.logs.get(SERVER.name, ()))
    if family.incumbent != SERVER.name:
        now, own = family.typical_s(family.incumbent), family.server_s
        seen = f"the last {len(family.logs[family.incumbent])} runs against {count} of the server's own choice"
        return Finding.FASTER, f"“{family.incumbent}” takes {duration(now)} instead of {duration(own)} ({seen})"
    if count < ENOUGH:
        return Finding.UNKNOWN, f"it ran {times(count)}"
    if family.server_s < min_mean_s:
        return Finding.TOO_QUICK, f"{duration(family.server_s)} is too quick to try on (from {duration(min_mean_s)})"
    if family.rollbacks:
        return Finding.GIVEN_UP, f"the server's own choice is in force again{_in_all(family.rollbacks)}"
    return _kept(sum(bool(one.outcome) for one in tried), 0, arm_count) if tried else _NOTHING


_NOTHING = (Finding.UNKNOWN, "nothing was tried yet")


def _time(unit: Unit, arm: str) -> float | None:
    return unit.times[arm].typical_s if arm in unit.times else None


def _is_known(unit: Unit, arm: str) -> bool:
    return arm in unit.times or arm in unit.censored or arm in unit.closed


def _tried(unit: Unit, arm: Arm) -> Tried:
    name = arm.name
    runs = unit.times[name].count if name in unit.times else 0
    outcome = unit.closed.get(name, "")
    return Tried(name, arm.params.settings, _time(unit, name), runs, unit.censored.get(name), outcome)


def _found(
    unit: Unit, tried: Sequence[Tried], arm_count: int, min_mean_s: float, limit_s: float
) -> tuple[Finding, str]:
    if unit.incumbent != SERVER.name:
        return Finding.FASTER, _faster(unit)
    server = unit.times.get(SERVER.name)
    if server is None or server.count < _ENOUGH:
        return Finding.UNKNOWN, f"it ran {times(0 if server is None else server.count)}"
    if server.typical_s < min_mean_s:
        return Finding.TOO_QUICK, f"{duration(server.typical_s)} is too quick to try on (from {duration(min_mean_s)})"
    if unit.rollbacks:
        return Finding.GIVEN_UP, _given_up(unit)
    return _open(tried, server.typical_s, arm_count, limit_s)


def _open(tried: Sequence[Tried], server_s: float, arm_count: int, limit_s: float) -> tuple[Finding, str]:
    ran = [one for one in tried if one.runs or one.given_up_s is not None]
    same = sum(one.outcome == _NO_OTHER_PLAN or one.outcome.startswith(_SAME_PLAN) for one in tried)
    if not ran and RATIOS[0] * server_s > limit_s:
        return Finding.UNKNOWN, f"even a short trial costs more than the {duration(limit_s)} that one may cost here"
    if not ran and not same:
        return _NOTHING
    return _kept(len(ran), same, arm_count)


def _faster(unit: Unit) -> str:
    now, own = unit.times.get(unit.incumbent), unit.times.get(SERVER.name)
    if now is None or own is None:
        return f"“{unit.incumbent}” is in force"
    seen = f"seen {times(now.count)}, the server's own choice {times(own.count)}"
    return f"“{unit.incumbent}” takes {duration(now.typical_s)} instead of {duration(own.typical_s)}; {seen}"


def _given_up(unit: Unit) -> str:
    reasons = ("slower than the server's own choice", "took much longer than the server's own choice")
    last = [f"“{arm}” {_is(why)}" for arm, why in unit.closed.items() if why in reasons]
    what = "; ".join(last) or "what was in force was given up"
    return f"{what}; the server's own is in force again{_in_all(unit.rollbacks)}"


def _in_all(rollbacks: int) -> str:
    return "" if rollbacks == 1 else f" ({times(rollbacks)} in all)"


def _is(why: str) -> str:
    return why if why.startswith("took") else f"was {why}"


def _kept(ran: int, same: int, arm_count: int) -> tuple[Finding, str]:
    left = arm_count - ran - same
    parts = [f"{ran} of {arm_count} settings tried, none was faster"] if ran else []
    parts += [f"{same} {'leads' if same == 1 else 'lead'} to no other plan"] if same else []
    parts += [f"{left} not tried yet"] if left > 0 else []
    return (Finding.KEPT if ran or left <= 0 else Finding.UNKNOWN), "; ".join(parts)


def times(count: int) -> str:
    """Return how often: `times(1)` is once, `times(3)` is 3 times."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")


def duration(time_s: float) -> str:
    r"""Return a time with its sign where it is negative, to about three digits.

    >>> duration(0.0004), duration(0.0123), duration(3.21), duration(-75.0)
    ('0.40 ms', '12.3 ms', '3.21 s', '\u221275.0 s')
    """
    sign, size = "\u2212" if time_s < 0.0 else "", abs(time_s)
    if size < 0.9995:
        return f"{sign}{_digits(1e3 * size)} ms"
    return f"{sign}{_digits(size)} s"


def _digits(value: float) -> str:
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
