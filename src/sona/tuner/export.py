"""What was learned, to be used without the tuner: SQL for a role, rows of pg_hint_plan's hint table, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sona.errors import InvalidValue
from sona.tuner.report import PatternReport, StatementReport, TunerReport, duration
from sona.tuner.statements.tokens import Token, TokenKind, tokens
from sona.tuner.statements.vocabulary import NOT_OPERANDS

NO_TEXTS: Mapping[str, str] = MappingProxyType({})
_PLANNED = ("enable_", "min_parallel_", "parallel_", "max_parallel_workers_per_gather", "random_page_cost")


@dataclass(frozen=True, slots=True)
class Balance:
    """What one set of settings would have changed if it had been in force for some statements throughout.

    Args:
        arm: Its name.
        settings: Value of each setting by name.
        saved_s: Seconds saved where it is faster than the server's own choice, over all runs.
        lost_s: Seconds lost where it is slower.
        open_s: Seconds of the statements with which it was given up early: what it costs there, nobody knows.
        unknown_s: Seconds of the statements that it was never tried on.
        open_count: How many statements it was given up on early.
        unknown_count: How many it was never tried on.
    """

    arm: str
    settings: Mapping[str, str]
    saved_s: float
    lost_s: float
    open_s: float
    unknown_s: float
    open_count: int
    unknown_count: int

    @property
    def net_s(self) -> float:
        """Seconds that are known to be saved in sum; the truth is lower where it was given up early."""
        return self.saved_s - self.lost_s

    @property
    def is_known_to_help(self) -> bool:
        """True when it saves in sum and was given up nowhere."""
        return self.net_s > 0.0 and not self.open_count


def balances(statements: Iterable[StatementReport]) -> tuple[Balance, ...]:
    """Return what each set of settings that was tried would have changed, the best first.

    A statement counts with its typical times, as often as it ran.

    Args:
        statements: What is known of each.
    """
    known = [one for one in statements if one.server_s is not None]
    arms = {trial.arm: trial.settings for one in known for trial in one.tried}
    found = [_balance(arm, settings, known) for arm, settings in arms.items()]
    return tuple(sorted(found, key=lambda one: (not one.is_known_to_help, -one.net_s, one.arm)))


def _balance(arm: str, settings: Mapping[str, str], statements: Sequence[StatementReport]) -> Balance:
    saved_s = lost_s = open_s = unknown_s = 0.0
    open_count = unknown_count = 0
    for one in statements:
        server_s = one.server_s or 0.0
        time_s, least_s = one.time_with(arm), one.given_up_s(arm)
        if time_s is not None:
            saved_s += one.runs * max(0.0, server_s - time_s)
            lost_s += one.runs * max(0.0, time_s - server_s)
        elif least_s is not None:
            lost_s += one.runs * max(0.0, least_s - server_s)
            open_s += one.runs * server_s
            open_count += 1
        else:
            unknown_s += one.runs * server_s
            unknown_count += 1
    return Balance(arm, settings, saved_s, lost_s, open_s, unknown_s, open_count, unknown_count)


# -- SQL -----------------------------------------------------------------------------------------------------------


def as_sql(report: TunerReport, *, role: str | None = None, database: str | None = None) -> str:
    """Return statements that put the best single set of settings in force for good, or comments that say why none is.

    A role has one set for all of its statements, so most of what is learned per statement cannot be kept this way.
    What is stated helps in sum over the statements known, and was given up on none of them.

    Args:
        report: What was found.
        role: For whom; None for the role that runs the statements, CURRENT_USER.
        database: For all roles in this database, instead of one role.

    Raises:
        InvalidValue: both a role and a database, or a name that is empty or holds a zero byte.
    """
    if role is not None and database is not None:
        raise InvalidValue("give a role or a database, not both")
    whom = f"DATABASE {identifier(database)}" if database is not None else f"ROLE {_role(role)}"
    found = balances(one for pattern in report.patterns for one in pattern.known)
    return _text([*_sets(found, whom), *_searches(report)])


def _sets(found: Sequence[Balance], whom: str) -> list[str]:
    if not found:
        return ["-- No evidence yet: no settings were tried."]
    best, others = found[0], [f"-- {_words(one)}" for one in found]
    if not best.is_known_to_help:
        return ["-- No single setting is known to help in sum; what was learned holds for single statements:", *others]
    sets = [f"ALTER {whom} SET {_name(name)} = {literal(value)};" for name, value in best.settings.items()]
    return [others[0], *sets, *(["", "-- Not used:"] if others[1:] else []), *others[1:]]


def _searches(report: TunerReport) -> list[str]:
    # Which settings a search needs depends on its filter and its query, so that no role has one for all of them.
    lines = []
    for pattern in report.patterns:
        names = dict.fromkeys(one.arm.name for one in pattern.searches if one.arm.params.settings)
        if names:
            lines.append(f"-- {_comment(pattern.sql)}: {', '.join(names)}")
    return ["", "-- Searches keep their recall with settings that depend on the filter and the query:", *lines] * bool(
        lines
    )


def _role(role: str | None) -> str:
    return "CURRENT_USER" if role is None else identifier(role)


def _words(one: Balance) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in one.settings.items())
    parts = [f"saves {duration(one.saved_s)} where it is faster" if one.saved_s else "was faster nowhere"]
    if one.lost_s:
        parts.append(f"costs {'at least ' if one.open_count else ''}{duration(one.lost_s)} where it is slower")
    if one.open_count:
        parts.append(f"was given up on {_statements(one.open_count, one.open_s)}: what it costs there, nobody knows")
    if one.unknown_count:
        parts.append(f"was never tried on {_statements(one.unknown_count, one.unknown_s)}")
    return _comment(f"{one.arm} ({settings}): {'; '.join(parts)}")


def _statements(count: int, time_s: float) -> str:
    return f"{count:,} statement{'' if count == 1 else 's'} of {duration(time_s)}"


# -- pg_hint_plan --------------------------------------------------------------------------------------------------


def as_hints(report: TunerReport, texts: Mapping[str, str] = NO_TEXTS, *, application_name: str = "") -> str:
    """Return rows for the hint table of pg_hint_plan: per query pattern the settings that help in sum over it.

    A hint holds while a statement is planned, so settings that act while it runs are left out. pg_hint_plan compares
    texts letter by letter; without the text as the application sends it, its normal form stands in the row.

    Args:
        report: What was found.
        texts: Statements as they are sent, by the fingerprint of their pattern.
        application_name: Sessions that the rows are for; empty for all.

    Raises:
        InvalidValue: a zero byte in the name.
    """
    rows = [_hint(one, texts.get(one.fingerprint), application_name) for one in report.patterns if one.known]
    made = [row for row in rows if row]
    if not made:
        return "-- No evidence yet of settings that help a whole query pattern.\n"
    return _text([_HINTS_HEAD, *made])


_HINTS_HEAD = """\
-- For the hint table of pg_hint_plan up to PostgreSQL 16 (SET pg_hint_plan.enable_hint_table = on).
-- From PostgreSQL 17 on, its column is query_id: the "Query Identifier" of EXPLAIN (VERBOSE)."""


def _hint(pattern: PatternReport, text: str | None, application_name: str) -> str:
    for one in balances(pattern.known):
        planned = {name: value for name, value in one.settings.items() if name.startswith(_PLANNED)}
        if one.is_known_to_help and len(planned) == len(one.settings):
            hints = " ".join(f"Set({name} {value})" for name, value in planned.items())
            shown = hint_text(pattern.sql, is_normal_form=True) if text is None else hint_text(text)
            values = ", ".join(literal(part) for part in (shown, application_name, hints))
            lines = [f"-- {_words(one)}"]
            if text is None:
                lines.append("-- The normal form: write it as the application does, white space included.")
            insert = "INSERT INTO hint_plan.hints (norm_query_string, application_name, hints)"
            return "\n".join([*lines, insert, f"VALUES ({values});"])
    return ""


def hint_text(sql: str, *, is_normal_form: bool = False) -> str:
    """Return a statement as pg_hint_plan knows it: `?` for each number and string, everything else to the letter.

    Args:
        sql: A statement as it is sent, or in normal form.
        is_normal_form: Whether `$1`, `$2`, ... stand for constants; otherwise they are parameters, and stay.

    Example:
        >>> hint_text("SELECT  a FROM t WHERE b = 'x' AND c > -1.5 AND d - 2 > $1;")
        'SELECT  a FROM t WHERE b = ? AND c > ? AND d - ? > $1;'
    """
    given, parts, place = tokens(sql), [], 0
    for number, token in enumerate(given):
        if token.kind not in _CONSTANTS and not (is_normal_form and token.kind is TokenKind.PARAMETER):
            continue
        before = given[max(0, number - 2) : number]
        start = before[-1].start if _is_sign(before) else token.start
        parts += [sql[place:start], "?"]
        place = token.end
    return "".join([*parts, sql[place:]])


_CONSTANTS = frozenset({TokenKind.STRING, TokenKind.NUMBER})


def _is_sign(before: Sequence[Token]) -> bool:
    # A minus before a number belongs to it, unless what comes before the minus is an operand.
    if not before or before[-1].text != "-":
        return False
    if len(before) == 1:
        return True
    operand = before[0]
    if operand.kind is TokenKind.WORD:
        return operand.text.lower() in NOT_OPERANDS
    return operand.kind is TokenKind.OPERATOR or operand.text in ("(", ",", "[")


# -- JSON ----------------------------------------------------------------------------------------------------------


def as_json(report: TunerReport) -> str:
    """Return everything that was found as one JSON document: patterns, settings, times in seconds."""
    return json.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n"


# -- quoting -------------------------------------------------------------------------------------------------------


def identifier(name: str) -> str:
    """Return a name as SQL takes it, in quotes.

    Raises:
        InvalidValue: it is empty, or holds control characters.

    >>> identifier('Anna "the" role')
    '"Anna ""the"" role"'
    """
    if not name or _CONTROL.search(name) is not None or "\n" in name or "\t" in name:
        raise InvalidValue(f"expected a name without control characters, got {name!r}")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    r"""Return a text as SQL takes it, whatever it holds and whatever `standard_conforming_strings` is.

    Raises:
        InvalidValue: it holds a zero byte.

    >>> literal("it's"), literal("\x1b\\")
    ("'it''s'", "E'\\u001b\\\\'")
    """
    if "\0" in text:
        raise InvalidValue("a text of SQL cannot hold a zero byte")
    quoted = text.replace("'", "''")
    escaped = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted.replace("\\", "\\\\"))
    return f"'{quoted}'" if escaped == quoted else f"E'{escaped}'"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _name(setting: str) -> str:
    return ".".join(identifier(part) for part in setting.split("."))


def _comment(text: str) -> str:
    return " ".join(text.split())


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
