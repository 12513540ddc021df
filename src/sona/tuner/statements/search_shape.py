"""The nearest-neighbour searches of a statement, as an index on a distance sees them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from sona.tuner.statements.sameness import DISTANCES
from sona.tuner.statements.search_problem import find_problem, find_problem_around
from sona.tuner.statements.sql_tree import (
    Node,
    Tree,
    bare,
    child,
    children,
    operator_of,
    ordered_by,
    place_number,
    table_name,
    within,
    without_alias,
)
from sona.tuner.statements.vector_search import ONE_ROW, FilterShape, SearchShape


def search_shapes(tree: Tree) -> tuple[SearchShape, ...]:
    """Return the searches of a statement, outermost first; a distance that decides no row or order is no search."""
    found = (Search(select, tree).shape() for select in tree.all(exp.Select))
    return tuple(shape for shape in found if shape is not None)


def distances_in(node: Node) -> Iterator[exp.Operator]:
    """Yield the distances of a query itself, not those of a query inside it."""
    for part in within(node):
        if isinstance(part, exp.Operator) and operator_of(part) in DISTANCES:
            yield part


class Search:
    """One SELECT, looked at for a distance it searches by."""

    def __init__(self, select: exp.Select, tree: Tree) -> None:
        """Note what the query reads from and is ordered by."""
        self.select, self.tree = select, tree
        self.sources = {source.alias_or_name: source for source in sources_of(select)}
        self.named = {known.alias: known for known in tree.all(exp.CTE)}
        self.terms = ordered_by(select)
        self.distance = self.find_distance()
        self.side = None if self.distance is None else self.column_side(self.distance)

    def find_distance(self) -> exp.Operator | None:
        """Return the distance that orders the rows; without one, the distance that chooses them."""
        for place in [*self.terms, child(self.select, "where")]:
            for distance in distances_in(place) if place is not None else ():
                if self.column_side(distance) is not None:
                    return distance
        return None

    def shape(self) -> SearchShape | None:
        """Return the search; None when the query searches by no distance."""
        if self.distance is None or self.side is None:
            return self.shape_of_source()
        column = self.own_columns(self.side)[0]
        return self.shape_at(column, self, find_problem(self))

    def shape_of_source(self) -> SearchShape | None:
        """Return the search of a query that is ordered by a distance which the query it reads from computes."""
        first = self.terms[0] if self.terms else None
        source = self.source_of(first) if isinstance(first, exp.Column) else None
        if source is None or first is None or not isinstance(source, exp.Select):
            return None
        inner = Search(source, self.tree)
        inner.distance = next((item for item in inner.items_named(first.name)), None)
        inner.side = None if inner.distance is None else inner.column_side(inner.distance)
        if inner.side is None:
            return None
        return self.shape_at(first, inner, find_problem_around(self, inner))

    def shape_at(self, place: Node, inner: Search, problem: str | None) -> SearchShape | None:
        """Return the search that `inner` computes the distance of, and this query orders by it at `place`."""
        piece = self.tree.piece_of(place)
        if piece is None or inner.distance is None or inner.side is None:
            return None
        column = inner.own_columns(inner.side)[0]
        filters = tuple(inner.filters(column.table))
        others = inner.has_others(len(filters)) or (inner is not self and self.has_others(0))
        return SearchShape(
            inner.table_of(column),
            column.name,
            operator_of(inner.distance),
            piece,
            place_number(_without_casts(inner.query)),
            self.place_in("limit"),
            self.place_in("offset"),
            filters,
            others,
            not any(self.is_foreign(found) for found in self.select.find_all(exp.Column)),
            problem,
        )

    @property
    def query(self) -> Node:
        """The side of the distance that is searched for."""
        distance = self.distance or exp.Null()
        side: Node = distance.expression if self.side is bare(distance.this) else distance.this
        return side

    def items_named(self, name: str) -> Iterator[exp.Operator]:
        """Yield the distances that the select list gives a name to."""
        for item in children(self.select, "expressions"):
            made = without_alias(item)
            if isinstance(item, exp.Alias) and item.alias == name and isinstance(made, exp.Operator):
                yield from (found for found in distances_in(made) if found is made)

    def source_of(self, column: exp.Column) -> Node | None:
        """Return the query in FROM that a column comes from, where the server reads it as a part of this one."""
        if not column.table and len(self.sources) != 1:
            return None
        source = self.sources.get(column.table) if column.table else next(iter(self.sources.values()))
        if isinstance(source, exp.Table) and not source.db and source.name in self.named:
            known = self.named[source.name]
            uses = [table for table in self.tree.all(exp.Table) if table.name == source.name and not table.db]
            return None if known.args.get("materialized") or len(uses) > 1 else bare(known.this)
        return bare(source.this) if isinstance(source, exp.Subquery) else None

    # -- columns -----------------------------------------------------------------------------------------------

    def own_columns(self, node: Node) -> list[exp.Column]:
        """Return the columns in a node that this query reads itself, not those of a query around it."""
        columns = (part for part in within(node) if isinstance(part, exp.Column))
        return [column for column in columns if not self.is_foreign(column)]

    def is_foreign(self, column: exp.Column) -> bool:
        """Return whether a column names a source that stands in no FROM of this query or of a query inside it."""
        if not column.table or column.table in self.sources:
            return False
        holder = column.find_ancestor(exp.Select)
        while holder is not None and holder is not self.select:
            if column.table in {source.alias_or_name for source in sources_of(holder)}:
                return False
            holder = holder.find_ancestor(exp.Select)
        return True

    def column_side(self, distance: exp.Operator) -> Node | None:
        """Return the side of a distance that is a column of this query; that of a table when both are."""
        sides = [bare(side) for side in (distance.this, distance.expression) if self.own_columns(side)]
        return next((side for side in sides if self.table_of(self.own_columns(side)[0])), next(iter(sides), None))

    def table_of(self, column: exp.Column) -> str | None:
        """Return the table of a column; None when the text does not tell, or it is no table."""
        if not column.table and len(self.sources) != 1:
            return None
        source = self.sources.get(column.table) if column.table else next(iter(self.sources.values()), None)
        if not isinstance(source, exp.Table) or not source.name or (not source.db and source.name in self.named):
            return None
        return table_name(source)

    # -- values ------------------------------------------------------------------------------------------------

    def place_in(self, name: str) -> int | None:
        """Return which place of the normal form a clause holds; None without it, or when it is computed."""
        clause = child(self.select, name)
        if isinstance(clause, exp.Fetch) and clause.args.get("count") is None:
            return ONE_ROW
        value = None if clause is None else clause.args.get("expression") or clause.args.get("count")
        return place_number(value) if isinstance(value, Node) else None

    def conditions(self) -> list[Node]:
        """Return the conditions of WHERE that all have to hold."""
        where = child(self.select, "where")
        parts = [] if where is None else list(where.this.flatten() if isinstance(where.this, exp.And) else [where.this])
        return [bare(part) for part in parts]

    def filters(self, searched: str) -> Iterator[FilterShape]:
        """Yield the columns that have to equal a value, of the source that has this name in FROM."""
        for part in self.conditions():
            if not isinstance(part, exp.EQ):
                continue
            for column, value in ((part.this, part.expression), (part.expression, part.this)):
                place = place_number(_without_casts(value))
                is_searched = isinstance(column, exp.Column) and (
                    len(self.sources) == 1 or bool(column.table and column.table == searched)
                )
                if place is not None and is_searched:
                    yield FilterShape(column.name, place)

    def has_others(self, known: int) -> bool:
        """Return whether more than `known` conditions decides which rows count."""
        joins = children(self.select, "joins")
        return len(self.conditions()) > known or any(join.args.get("side") != "LEFT" for join in joins)


def sources_of(select: Node) -> list[Node]:
    """Return what stands in FROM, the first one first."""
    origin = child(select, "from")
    first = [] if origin is None else [origin.this]
    found = [*first, *(join.this for join in children(select, "joins")), *children(select, "laterals")]
    return [source for source in found if isinstance(source, Node)]


def _without_casts(node: Node) -> Node:
    node = bare(node)
    while isinstance(node, exp.Cast):
        node = bare(node.this)
    return node
