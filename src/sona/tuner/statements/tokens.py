"""The words of SQL with their places: a statement is compared, filled in and rewritten without losing a character.

A parser that writes SQL out again writes it in its own way, which changes with its version. Fingerprints that are
kept for months, and statements that a server is to run, are therefore made from the text itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class TokenKind(StrEnum):
    """What a token is to PostgreSQL; a parameter as psycopg or the server writes it counts as one."""

    WORD = "word"
    QUOTED = "quoted"  # an identifier in double quotes
    STRING = "string"
    NUMBER = "number"
    PARAMETER = "parameter"
    OPERATOR = "operator"
    MARK = "mark"  # ( ) [ ] , ; . : :: :=
    JUNK = "junk"  # what no statement holds, such as a string without its end


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a statement as it was written, and where it starts."""

    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Place of the first character behind it."""
        return self.start + len(self.text)


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_PLACEHOLDER = r"%\([^)]*\)[sbt]|%[sbt](?![\w$])"
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\r\n\f\v]+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<dollar>\$(?:[{_LETTER}][\d{_LETTER}]*)?\$)
    |(?P<string>[eE]'(?:[^'\\]|\\.|'')*+'|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*+')
    |(?P<quoted>(?:[uU]&)?"(?:[^"]|"")*+")
    |(?P<parameter>{_PLACEHOLDER}|\$\d+)
    |(?P<number>0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+
        |(?:\d[\d_]*(?:\.(?!\.)[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
    |(?P<word>(?![eEbBxXnN]'|[uU]&['"])[{_LETTER}][\d${_LETTER}]*)
    |(?P<mark>::|:=|[()\[\],;.:])
    |(?P<operator>[-+*/<>=~!@\#%^&|`?]+)
    |(?P<junk>.+)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLACEHOLDER_AT = re.compile(_PLACEHOLDER)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_KINDS = {kind.value: kind for kind in TokenKind}
_SIGN_KEEPERS = frozenset("~!@#%^&|`?")


def tokens(sql: str) -> list[Token]:
    r"""Return the tokens of a text in order, without spaces and comments; every character is looked at once.

    The rules are those of PostgreSQL (nested comments, dollar quotes, E'' strings, operators of several signs), with
    psycopg's `%s`, `%b`, `%t` and `%(name)s` as parameters where an operand may stand. What cannot be a token,
    such as a string without an end, is one JUNK token up to the end of the text.

    Example:
        >>> [token.text for token in tokens("SELECT a->>'b' FROM t -- why\nWHERE c<=>%s")]
        ['SELECT', 'a', '->>', "'b'", 'FROM', 't', 'WHERE', 'c', '<=>', '%s']

    Source:
        PostgreSQL 18 documentation, section 4.1, lexical structure.
    """
    found: list[Token] = []
    place = 0
    while (match := _TOKEN.match(sql, place)) is not None:
        group = match.lastgroup or "junk"
        place = match.end()
        if group == "space":
            continue
        start = match.start()
        if group in _SPECIAL:
            group, place = _special(group, sql, start, found[-1] if found else None)
        if group:
            found.append(Token(_KINDS[group], sql[start:place], start))
    return found


_SPECIAL = frozenset({"comment", "dollar", "parameter", "operator"})


def _special(group: str, sql: str, start: int, before: Token | None) -> tuple[str, int]:
    """Return what a token that no regular expression can end is (nothing for a comment), and where it ends."""
    if group == "comment":
        return _comment(sql, start)
    if group == "dollar":
        tag = sql[start : sql.index("$", start + 1) + 1]
        end = sql.find(tag, start + len(tag))
        return ("junk", len(sql)) if end < 0 else ("string", end + len(tag))
    if group == "parameter" and not (sql[start] == "%" and _is_operand_at(before, start)):
        match = _TOKEN.match(sql, start)
        return "parameter", start + 1 if match is None else match.end()
    return "operator", start + _operator_length(sql, start)


def _comment(sql: str, start: int) -> tuple[str, int]:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return "", edge.end()
    return "junk", len(sql)


def _is_operand_at(before: Token | None, start: int) -> bool:
    """Return whether a percent sign at `start` follows an operand, and so is a remainder and no parameter."""
    if before is None or before.kind is TokenKind.OPERATOR:
        return False
    if before.kind in (TokenKind.WORD, TokenKind.QUOTED):
        return before.end == start
    return before.kind is not TokenKind.MARK or before.text in (")", "]")


_OPERATOR = re.compile(r"(?:(?!--|/\*)[-+*/<>=~!@#%^&|`?])+")


def _operator_length(sql: str, start: int) -> int:
    """Return how long the operator at `start` is: it ends before a comment, a parameter, and a sign of a number."""
    match = _OPERATOR.match(sql, start)
    text = match.group() if match is not None else sql[start]
    trailing = len(text) - len(text.rstrip("%"))
    if trailing % 2 and len(text) > 1 and _PLACEHOLDER_AT.match(sql, start + len(text) - 1):
        text = text[:-1]
    while len(text) > 1 and text[-1] in "+-" and _SIGN_KEEPERS.isdisjoint(text):
        text = text[:-1]
    return len(text)
