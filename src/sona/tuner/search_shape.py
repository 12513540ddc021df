"""The nearest-neighbour searches of a statement, as an index on a distance sees them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from sona.tuner.sameness import DISTANCES
from sona.tuner.sql_tree import (
    Node,
    Tree,
    bare,
    child,
    children,
    function_name,
    operator_of,
    ordered_by,
    place_number,
    table_name,
    within,
)
from sona.tuner.vector_search import FilterShape, SearchShape


def search_shapes(tree: Tree) -> tuple[SearchShape, ...]:
    """Return the searches of a statement, outermost first; a distance that decides no row or order is no search."""
    found = (_Search(select, tree).shape() for select in tree.all(exp.Select))
    return tuple(shape for shape in found if shape is not None)


def _distances(node: Node) -> Iterator[exp.Operator]:
    for part in within(node):
        if isinstance(part, exp.Operator) and operator_of(part) in DISTANCES:
            yield part


class _Search:
    """One SELECT, looked at for a distance it searches by."""

    def __init__(self, select: exp.Select, tree: Tree) -> None:
        self.select, self.tree = select, tree
        self.sources = {source.alias_or_name: source for source in _sources(select)}
        self.terms = ordered_by(select)

    def shape(self) -> SearchShape | None:
        distance = self.distance()
        side = None if distance is None else self.column_side(distance)
        if distance is None or side is None:
            return None
        columns = self.own_columns(side)
        query = distance.expression if side is distance.this else distance.this
        piece = self.tree.piece_of(columns[0])
        if piece is None:
            return None
        filters = tuple(self.filters())
        return SearchShape(
            self.table_of(columns[0]),
            columns[0].name,
            operator_of(distance),
            piece,
            place_number(_without_casts(query)),
            self.place_in("limit"),
            self.place_in("offset"),
            filters,
            self.has_others(len(filters)),
            not any(self.is_foreign(column) for column in self.select.find_all(exp.Column)),
            self.problem(distance, query),
        )

    def distance(self) -> exp.Operator | None:
        """Return the distance that orders the rows; without one, the distance that chooses them."""
        for place in [*self.terms, child(self.select, "where"), *self.extremes()]:
            for distance in _distances(place) if place is not None else ():
                if self.column_side(distance) is not None:
                    return distance
        return None

    def extremes(self) -> list[Node]:
        items = children(self.select, "expressions")
        return [node for item in items for node in within(item) if function_name(node) in ("min", "max")]

    # -- columns -----------------------------------------------------------------------------------------------

    def own_columns(self, node: Node) -> list[exp.Column]:
        columns = (part for part in within(node) if isinstance(part, exp.Column))
        return [column for column in columns if not self.is_foreign(column)]

    def is_foreign(self, column: exp.Column) -> bool:
        """Return whether a column names a source that stands in no FROM of this query or of a query inside it."""
        if not column.table or column.table in self.sources:
            return False
        holder = column.find_ancestor(exp.Select)
        while holder is not None and holder is not self.select:
            if column.table in {source.alias_or_name for source in _sources(holder)}:
                return False
            holder = holder.find_ancestor(exp.Select)
        return True

    def column_side(self, distance: exp.Operator) -> Node | None:
        """Return the side of a distance that is a column of this query; the left one when both are."""
        for side in (distance.this, distance.expression):
            if self.own_columns(side):
                return bare(side)
        return None

    def table_of(self, column: exp.Column) -> str | None:
        if not column.table and len(self.sources) != 1:
            return None
        source = self.sources.get(column.table) if column.table else next(iter(self.sources.values()))
        return table_name(source) if isinstance(source, exp.Table) and source.name else None

    # -- values ------------------------------------------------------------------------------------------------

    def place_in(self, name: str) -> int | None:
        clause = child(self.select, name)
        value = None if clause is None else clause.args.get("expression") or clause.args.get("count")
        return place_number(value) if isinstance(value, Node) else None

    def conditions(self) -> list[Node]:
        where = child(self.select, "where")
        parts = [] if where is None else list(where.this.flatten() if isinstance(where.this, exp.And) else [where.this])
        return [bare(part) for part in parts]

    def filters(self) -> Iterator[FilterShape]:
        for part in self.conditions():
            if not isinstance(part, exp.EQ):
                continue
            for column, value in ((part.this, part.expression), (part.expression, part.this)):
                place = place_number(_without_casts(value))
                if isinstance(column, exp.Column) and place is not None and self.is_searched(column):
                    yield FilterShape(column.name, place)

    def is_searched(self, column: exp.Column) -> bool:
        """Return whether a column is of the only table, or of the one that holds the vectors, by its name."""
        return len(self.sources) == 1 or bool(column.table and column.table == self.searched)

    @property
    def searched(self) -> str:
        """The name in FROM of the table that holds the vectors; empty when it is not said."""
        distance = self.distance()
        side = None if distance is None else self.column_side(distance)
        return "" if side is None else self.own_columns(side)[0].table

    def has_others(self, known: int) -> bool:
        joins = children(self.select, "joins")
        return len(self.conditions()) > known or any(join.args.get("side") != "LEFT" for join in joins)

    # -- what an index cannot serve ----------------------------------------------------------------------------

    def problem(self, distance: exp.Operator, query: Node) -> str | None:
        first = self.terms[0] if self.terms else None
        if first is None or not any(list(_distances(term)) for term in self.terms):
            return (
                "the distance does not order the rows, so no index on it can be used: "
                "add ORDER BY the distance and a LIMIT"
            )
        if bare(first) is not distance:
            return self.problem_of_order(first)
        return self.problem_of_direction() or self.problem_of_query(query) or self.problem_of_clauses()

    def problem_of_order(self, first: Node) -> str:
        if list(_distances(first)):
            return (
                "the order is by something computed from the distance, which no index gives: "
                "order by the distance itself, smallest first, and compute in the select list"
            )
        return "the distance is not what the rows are ordered by first, so no index gives the order: order by it first"

    def problem_of_direction(self) -> str | None:
        term = children(child(self.select, "order"), "expressions")[0]
        if term.args.get("desc"):
            return "the farthest rows are asked for, and an index gives the nearest: order by the distance without DESC"
        if term.args.get("nulls_first"):
            return "NULLS FIRST is an order that no index on a distance gives: leave it out"
        return None

    def problem_of_query(self, query: Node) -> str | None:
        if self.own_columns(query):
            return (
                "both sides of the distance are columns of this query: look for the neighbours of one row at a time "
                "in a LATERAL subquery with ORDER BY and LIMIT"
            )
        return None

    def problem_of_clauses(self) -> str | None:
        for clause, cure in (("distinct", "DISTINCT"), ("group", "GROUP BY")):
            if child(self.select, clause) is not None:
                return f"{cure} comes before the order, and no index gives it: search first in a subquery with LIMIT"
        if child(self.select, "limit") is None:
            return "every row is asked for, and an index gives only the nearest ones: add a LIMIT"
        return None


def _sources(select: Node) -> list[Node]:
    origin = child(select, "from")
    first = [] if origin is None else [origin.this]
    found = [*first, *(join.this for join in children(select, "joins")), *children(select, "laterals")]
    return [source for source in found if isinstance(source, Node)]


def _without_casts(node: Node) -> Node:
    node = bare(node)
    while isinstance(node, exp.Cast):
        node = bare(node.this)
    return node
