"""What statements with one normal form have in common: what they do, what they read, and why they may not be tuned."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sona.errors import MissingExtra, PlanError
from sona.tuner.statements.normal import NormalForm
from sona.tuner.statements.vector_search import SearchShape

LONGEST = 50_000  # characters of a normal form; a longer one takes longer to parse than tuning it can save


class StatementKind(StrEnum):
    """What a statement does."""

    SELECT = "select"
    WRITE = "write"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a normal form; see `sona.tuner.statements.statement.Statement` for the fields."""

    kind: StatementKind
    refusal: str | None = None
    plan_dependence: str | None = None
    tables: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    shapes: tuple[SearchShape, ...] = ()


def read_form(text: str, form: NormalForm) -> Reading:
    """Return what a normal form tells; it is parsed only when it is one query.

    Args:
        text: The text of `form`.
        form: A normal form.

    Raises:
        MissingExtra: sqlglot is not installed.
    """
    words = [piece.text for piece in form.pieces]
    if not words:
        return Reading(StatementKind.OTHER, "there is no statement")
    if ";" in words:
        return Reading(StatementKind.OTHER, "it is more than one statement")
    first = next((word.lower() for word in words if word != "("), "")
    if first in _WRITES:
        return Reading(StatementKind.WRITE, "it writes")
    if first not in ("select", "with", "values"):
        return Reading(StatementKind.OTHER, f"it is no query: only SELECT is tuned, not {first[:40].upper()}")
    if len(text) > LONGEST:
        return Reading(StatementKind.SELECT, f"it is longer than {LONGEST} characters without its values")
    return _read_query(form)


_WRITES = frozenset(["insert", "update", "delete", "merge"])


def _read_query(form: NormalForm) -> Reading:
    try:
        from sona.tuner.statements.query import read_query
    except ImportError as error:
        raise MissingExtra("sqlglot", "postgres", "reading a statement") from error
    try:
        return read_query(form)
    except PlanError as error:
        return Reading(StatementKind.SELECT, f"it cannot be parsed: {error}")
    except RecursionError:
        return Reading(StatementKind.SELECT, "it cannot be parsed: it is nested too deeply")
