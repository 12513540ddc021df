"""What another plan may change in the answer of a query, and what it never changes.

SQL leaves some answers open: which of several equal rows LIMIT keeps, in which order `array_agg` sees its rows. Under
other settings the server may answer such a query otherwise, and still be right. This file finds them.

Left open too, but not reported: the order of rows that no ORDER BY asks for, the last digits of a sum of floating-point
numbers, which of several equal but distinguishable values (1.0 and 1.00) a group shows, and whether an error in one
condition is met before another condition has removed the row.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from sona.tuner.statements.sql_tree import (
    Node,
    Tree,
    bare,
    child,
    children,
    function_name,
    is_everything,
    operator_of,
    ordered_by,
    place_number,
    resolved,
    within,
    without_alias,
)
from sona.tuner.statements.tokens import words

DISTANCES = words("<-> <=> <#> <+> <~> <%>")

_COLLECTS = words(
    "any_value array_agg json_agg json_agg_strict json_arrayagg json_object_agg json_object_agg_strict "
    "json_object_agg_unique json_object_agg_unique_strict json_objectagg jsonb_agg jsonb_agg_strict "
    "jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict string_agg "
    "xmlagg"
)
_COUNTS_ROWS = words("first_value lag last_value lead nth_value ntile row_number")
_AGGREGATES = words(
    "avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every max min range_agg "
    "range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy "
    "regr_syy stddev stddev_pop stddev_samp sum var_pop var_samp variance"
)


def open_answer(tree: Tree) -> str | None:
    """Return why another plan may give another answer that is just as right; None when every plan gives the same.

    Args:
        tree: A query; what stands in its subqueries counts too.

    Returns:
        One sentence for people, about the first reason found.
    """
    for node in tree.nodes:
        for kind, reason_of in _REASONS:
            if isinstance(node, kind):
                reason = reason_of(node)
                if reason is not None:
                    return reason
    return _nearest_only(tree)


def _cut(query: Node) -> str | None:
    """A query that is cut off is open unless what it is ordered by decides every row it returns."""
    limit, offset = child(query, "limit"), child(query, "offset")
    if limit is None and offset is None:
        return None
    if _is_only_tested(query) or _is_single_row(query) or _decides_rows(query):
        return None
    if offset is None and limit is not None and _has_ties(limit):
        return None
    word = "OFFSET" if limit is None else "FETCH" if isinstance(limit, exp.Fetch) else "LIMIT"
    if limit is not None and offset is None and is_everything(limit):
        return None
    return f"{word} keeps some of the rows, and which of those that are equal in the order asked for is open"


def _has_ties(limit: Node) -> bool:
    options = child(limit, "limit_options")
    ties = limit.args.get("with_ties") if options is None else options.args.get("with_ties")
    return bool(ties)


def _is_only_tested(query: Node) -> bool:
    """EXISTS asks how many rows there are, never which ones."""
    parent = query.parent
    while isinstance(parent, exp.Subquery | exp.Paren):
        parent = parent.parent
    return isinstance(parent, exp.Exists)


def _is_single_row(query: Node) -> bool:
    if not isinstance(query, exp.Select) or child(query, "group") is not None:
        return False
    if child(query, "from") is None:
        return not any(function_name(node) for node in within(query))
    return (
        any(
            function_name(node) in _AGGREGATES and not isinstance(node.parent, exp.Window)
            for item in children(query, "expressions")
            for node in within(item)
        )
        and child(query, "having") is None
    )


def _decides_rows(query: Node) -> bool:
    """A query ordered by all it returns, or by every key of its groups, returns the same rows by every plan."""
    terms = ordered_by(query)
    if not terms or not isinstance(query, exp.Select) or (child(query, "distinct") is not None and _is_on(query)):
        return False
    group = child(query, "group")
    keys = [resolved(key, query) for key in children(group, "expressions")]
    if keys and group is not None and set(filter(group.args.get, group.args)) <= {"expressions"}:
        return all(not isinstance(key, _SETS) and key in terms for key in keys)
    items = [without_alias(item) for item in children(query, "expressions")]
    return all(_is_constant(item) or item in terms for item in items)


_SETS = (exp.GroupingSets, exp.Cube, exp.Rollup, exp.Tuple)


def _is_constant(node: Node) -> bool:
    return place_number(node) is not None or isinstance(node, exp.Literal | exp.Null | exp.Boolean)


def _is_on(query: Node) -> bool:
    distinct = child(query, "distinct")
    return distinct is not None and distinct.args.get("on") is not None


def _first_of_each(query: Node) -> str | None:
    if _is_on(query):
        return "DISTINCT ON keeps one row of each group, and which of those that are equal in the order is open"
    return None


def _collected(call: Node) -> str | None:
    """An aggregate that keeps its rows is open unless it is ordered by what it keeps."""
    name = function_name(call)
    if name == "array" and isinstance(bare(call.expressions[0]) if call.expressions else None, exp.Query):
        query = bare(call.expressions[0])
        return None if _decides_rows(query) else "ARRAY(SELECT ...) keeps its rows in an order that is open"
    if name not in _COLLECTS or _is_sorted(call):
        return None
    return f"{name} sees its rows in an order that is open; give it an ORDER BY of what it collects"


def _is_sorted(call: Node) -> bool:
    arguments = call.expressions
    if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
        return True
    order = arguments[-1] if arguments and isinstance(arguments[-1], exp.Order) else None
    if order is None:
        return False
    terms = [bare(term.this) for term in children(order, "expressions")]
    kept = [*arguments[:-1], order.this] if order.this is not None else arguments[:-1]
    return all(_is_constant(bare(part)) or bare(part) in terms for part in kept)


def _windowed(window: Node) -> str | None:
    """A window function is open when rows that are equal in the window's order get different values."""
    name = function_name(_plain_call(window.this))
    if name in _COUNTS_ROWS:
        return f"{name} tells rows apart that are equal in the order of its window"
    frames = [spec for spec in _specs(window) if str(spec.args.get("kind") or "").lower() == "rows"]
    return "a frame of ROWS tells rows apart that are equal in the order of its window" if frames else None


def _plain_call(node: Node) -> Node:
    while isinstance(node, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        node = node.this
    return node


def _specs(window: Node) -> list[Node]:
    """Return the frame of a window and of the named window it refers to."""
    query = window.find_ancestor(exp.Select)
    named = [known for known in children(query, "windows") if known.name == window.args.get("alias", _NOTHING).name]
    return [spec for spec in (child(known, "spec") for known in [window, *named]) if spec is not None]


_NOTHING = exp.Identifier(this="")


def _nearest_only(tree: Tree) -> str | None:
    """An index on a distance returns the nearest rows it finds, so that any use of its order may lose rows."""
    if not any(operator_of(node) in DISTANCES for node in tree.all(exp.Operator)):
        return None
    sorts = tree.all(exp.Order, exp.Group, exp.Distinct, exp.SetOperation, exp.Join, exp.In)
    if sorts or any(function_name(node) in ("min", "max") for node in tree.all(exp.Anonymous)):
        return "an index on a distance is approximate, and returns no more rows than it is set to look at"
    return None


_REASONS: tuple[tuple[type[Node], Callable[[Node], str | None]], ...] = (
    (exp.Query, _cut),
    (exp.Select, _first_of_each),
    (exp.Anonymous, _collected),
    (exp.Window, _windowed),
)
