"""What statements with one normal form have in common: what they do, what they read, and why they may not be tuned."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sona.errors import MissingExtra, PlanError
from sona.tuner.normal import NormalForm, called_functions
from sona.tuner.vector_search import SearchShape
from sona.tuner.volatile import is_volatile

if TYPE_CHECKING:
    from sona.tuner.sql_tree import Tree

LONGEST = 50_000  # characters of a normal form; a longer one takes longer to parse than tuning it can save


class StatementKind(StrEnum):
    """What a statement does."""

    SELECT = "select"
    WRITE = "write"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a normal form; see `sona.tuner.statement.Statement` for the fields."""

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
        from sona.tuner import sql_tree
    except ImportError as error:
        raise MissingExtra("sqlglot", "postgres", "reading a statement") from error
    try:
        return _read_tree(sql_tree.Tree(form.pieces), form)
    except PlanError as error:
        return Reading(StatementKind.SELECT, f"it cannot be parsed: {error}")
    except RecursionError:
        return Reading(StatementKind.SELECT, "it cannot be parsed: it is nested too deeply")


def _read_tree(tree: Tree, form: NormalForm) -> Reading:
    from sona.tuner.sameness import open_answer
    from sona.tuner.search_shape import search_shapes
    from sona.tuner.sql_tree import tables_of, writes

    functions = called_functions(form.pieces)
    kind = StatementKind.WRITE if writes(tree) else StatementKind.SELECT
    return Reading(
        kind,
        _refusal(tree, functions, kind),
        open_answer(tree),
        tables_of(tree),
        functions,
        search_shapes(tree),
    )


def _refusal(tree: Tree, functions: tuple[str, ...], kind: StatementKind) -> str | None:
    from sona.tuner.sql_tree import is_locking, is_query, is_storing, samples_at_random

    if kind is StatementKind.WRITE:
        return "it writes"
    if not is_query(tree):
        return "it is no query that is known here"
    if is_storing(tree):
        return "it writes: SELECT INTO makes a table"
    if is_locking(tree):
        return "it locks rows"
    if samples_at_random(tree):
        return "it looks at other rows each time: TABLESAMPLE without REPEATABLE"
    volatile = [name for name in functions if is_volatile(name)]
    return f"it calls {volatile[0]}, whose answer or effect differs from call to call" if volatile else None
