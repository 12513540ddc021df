"""A file of queries to try a server with: named lines, or plain SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sona.errors import InvalidValue, PlanError
from sona.tuner.statements.tokens import Token, TokenKind, tokens


@dataclass(frozen=True, slots=True)
class WorkloadQuery:
    """One query of a workload, by its name."""

    name: str
    sql: str


_NAMED = re.compile(r"\s*([\w.:/-]+)\|\|(.*)")


def read_workload(source: Path | str) -> tuple[WorkloadQuery, ...]:
    r"""Return the queries of a workload in order, each name once.

    A workload whose first line is `name||sql` has one query in each line. Any other is SQL: statements that end in
    semicolons, however many lines they take, which are named `q1`, `q2`, ... in order. Empty lines and lines that
    start with `--` are left out.

    Args:
        source: A file, or the text itself.

    Raises:
        PlanError: there is no query, a name comes twice, or a line cannot be read; the message names the line.
        PlanError: the file cannot be read.
        InvalidValue: `source` is neither a path nor text.

    Example:
        >>> [query.name for query in read_workload("small||SELECT 1\n-- slower:\nlarge||SELECT 2")]
        ['small', 'large']
        >>> read_workload("SELECT ';'; SELECT 2")[0].sql
        "SELECT ';'"
    """
    text = _text(source)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if _counts(line)]
    if not lines:
        raise PlanError("workload: holds no query; expected lines of name||sql, or statements that end in semicolons")
    named = _NAMED.match(lines[0][1]) is not None
    queries = tuple(_named_lines(lines) if named else _statements(text))
    if not queries:
        raise PlanError("workload: holds no query, only comments")
    return queries


def _text(source: Path | str) -> str:
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    if not isinstance(source, Path):
        raise InvalidValue(f"workload: expected a path or text, got {type(source).__name__}")
    try:
        return source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"workload: {source} cannot be read: {error}") from error


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("--")


def _named_lines(lines: list[tuple[int, str]]) -> Iterator[WorkloadQuery]:
    seen: dict[str, int] = {}
    for number, line in lines:
        match = _NAMED.fullmatch(line)
        sql = "" if match is None else match[2].strip().rstrip(";").rstrip()
        if match is None or not sql:
            raise PlanError(f"workload, line {number}: expected name||sql, got {line.strip()[:60]!r}")
        if match[1] in seen:
            raise PlanError(f"workload, line {number}: the name {match[1]!r} is that of line {seen[match[1]]}")
        seen[match[1]] = number
        yield WorkloadQuery(match[1], sql)


def _statements(text: str) -> Iterator[WorkloadQuery]:
    for number, part in enumerate(_parts(text), 1):
        yield WorkloadQuery(f"q{number}", text[part[0].start : part[-1].end])


def _parts(text: str) -> Iterator[list[Token]]:
    """Yield the tokens of each statement, without the semicolon."""
    part: list[Token] = []
    for token in tokens(text):
        if token.kind is TokenKind.JUNK:
            line = text.count("\n", 0, token.start) + 1
            raise PlanError(f"workload, line {line}: cannot be read from {token.text[:30]!r} on; does a string end?")
        if token.text != ";":
            part.append(token)
        elif part:
            yield part
            part = []
    if part:
        yield part
