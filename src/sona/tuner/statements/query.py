"""A query read by its tree: what it does, and what it must not be tuned for."""

from __future__ import annotations

from sona.tuner.statements.normal import NormalForm, called_functions
from sona.tuner.statements.reading import Reading, StatementKind
from sona.tuner.statements.sameness import open_answer
from sona.tuner.statements.search_shape import search_shapes
from sona.tuner.statements.sql_tree import Tree, is_locking, is_query, is_storing, samples_at_random, tables_of, writes
from sona.tuner.statements.volatile import is_volatile


def read_query(form: NormalForm) -> Reading:
    """Return what the normal form of a query tells.

    Raises:
        PlanError: it cannot be parsed.
    """
    tree = Tree(form.pieces)
    functions = called_functions(form.pieces)
    return Reading(
        StatementKind.WRITE if writes(tree) else StatementKind.SELECT,
        _refusal(tree, functions),
        open_answer(tree),
        tables_of(tree),
        functions,
        search_shapes(tree),
    )


def _refusal(tree: Tree, functions: tuple[str, ...]) -> str | None:
    if writes(tree):
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
