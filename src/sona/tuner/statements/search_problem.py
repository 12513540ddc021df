"""Why no index on a distance can serve a search, and the cure, in words; each claim was seen in the plans of a server.

An index gives the nearest rows one by one. It serves an order by the distance alone, smallest first, of rows that are
read one by one from the table itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from sona.tuner.statements.sql_tree import (
    Node,
    child,
    children,
    is_everything,
    operator_of,
    place_number,
    resolved,
    within,
)

if TYPE_CHECKING:
    from sona.tuner.statements.search_shape import Search

UNORDERED = "the distance does not order the rows, so no index on it is used: add ORDER BY the distance and a LIMIT"
COMPUTED = (
    "the order is by something computed from the distance, which no index gives: "
    "order by the distance itself, smallest first, and compute in the select list"
)
LATER = "the distance is not what the rows are ordered by first, and no index gives that order: order by it first"
FARTHEST = "the farthest rows are asked for, and an index gives the nearest: order by the distance without DESC"
NULLS = "NULLS FIRST is an order that no index on a distance gives: leave it out"
BOTH = (
    "both sides of the distance are columns of this query: "
    "look for the neighbours of one row at a time, in a LATERAL subquery with ORDER BY and LIMIT"
)
GROUPED = "GROUP BY comes before the order, and no index gives it: search first, in a subquery with LIMIT"
WINDOWED = "a window function needs every row before the order: search first, in a subquery with LIMIT"
EVERYTHING = "every row is asked for, and an index gives only the nearest ones: add a LIMIT"
OUTER = (
    "an outer join may add rows without a vector, so no index gives the order: "
    "search first, in a subquery with LIMIT, and join its rows"
)
DERIVED = "the search is among the rows of a subquery that is computed first: order by the distance inside it"


def find_problem(search: Search) -> str | None:
    """Return why no index can serve a query that holds a distance in its order or its conditions."""
    if not any(_has_distance(term) for term in search.terms):
        return UNORDERED
    if search.terms[0] is not search.distance:
        return COMPUTED if _has_distance(search.terms[0]) else LATER
    return _direction(search.select) or _inner(search) or _clauses(search.select, search.distance)


def find_problem_around(outer: Search, inner: Search) -> str | None:
    """Return why no index can serve a query ordered by a distance that the query it reads from computes."""
    if any(child(inner.select, clause) is not None for clause in ("limit", "offset", "distinct", "group")):
        return DERIVED
    return _direction(outer.select) or _inner(inner) or _clauses(outer.select, inner.distance)


def _has_distance(node: Node) -> bool:
    from sona.tuner.statements.search_shape import distances_in

    return next(distances_in(node), None) is not None


def _direction(select: Node) -> str | None:
    term = children(child(select, "order"), "expressions")[0]
    if term.args.get("desc"):
        return FARTHEST
    return NULLS if term.args.get("nulls_first") else None


def _inner(search: Search) -> str | None:
    """Return what is wrong with the distance itself, and with where its rows come from."""
    if any(not _is_constant_source(search, column) for column in search.own_columns(search.query)):
        return BOTH
    column = search.own_columns(search.side)[0] if search.side is not None else None
    if column is not None and _is_optional(search, column):
        return OUTER
    return DERIVED if column is not None and _is_derived(search, column) else None


def _is_constant_source(search: Search, column: exp.Column) -> bool:
    """Return whether a column is one of a query without FROM, which the server takes for the value itself."""
    source = search.source_of(column)
    return isinstance(source, exp.Select) and child(source, "from") is None


def _is_optional(search: Search, column: exp.Column) -> bool:
    """Return whether the table searched may be missing in a row of its joins, and no condition asks for it."""
    name = column.table or next(iter(search.sources))
    wanted = any(part.table == name for condition in search.conditions() for part in condition.find_all(exp.Column))
    seen = False
    for join in [None, *children(search.select, "joins")]:
        side = "" if join is None else str(join.args.get("side") or "").upper()
        is_it = (search.sources.get(name) if join is None else join.this) is search.sources.get(name)
        if not wanted and (
            (seen and side in ("RIGHT", "FULL")) or (join is not None and is_it and side in ("LEFT", "FULL"))
        ):
            return True
        seen = seen or is_it
    return False


def _is_derived(search: Search, column: exp.Column) -> bool:
    source = search.source_of(column)
    if source is None:
        return False
    clauses = ("limit", "offset", "distinct", "group")
    if isinstance(source, exp.SetOperation) and not (isinstance(source, exp.Union) and not source.args.get("distinct")):
        return True
    return any(child(source, clause) is not None for clause in clauses)


def _clauses(select: Node, distance: Node | None) -> str | None:
    if child(select, "group") is not None:
        return GROUPED
    windows = (node for node in within(select) if isinstance(node, exp.Window) and not node.args.get("alias"))
    if any(not _follows(window, select, distance) for window in windows):
        return WINDOWED
    limit = child(select, "limit")
    return EVERYTHING if limit is None or is_everything(limit) else None


def _follows(window: exp.Window, select: Node, distance: Node | None) -> bool:
    """Return whether a window has the order of the distance, so that it is filled while an index is read."""
    if window.args.get("partition_by"):
        return False
    order = children(child(window, "order"), "expressions")
    first = resolved(order[0].this, select) if order else None
    return first is not None and distance is not None and _is_same(first, distance) and not order[0].args.get("desc")


def _is_same(one: Node, other: Node) -> bool:
    """Return whether two distances are one, whatever the values are: a value written twice has two places."""
    return operator_of(one) == operator_of(other) != "" and all(
        a == b or (place_number(a) is not None and place_number(b) is not None)
        for a, b in ((one.this, other.this), (one.expression, other.expression))
    )
