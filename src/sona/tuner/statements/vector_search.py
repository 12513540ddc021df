"""A nearest-neighbour search with its values, and the statement that measures how near its rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sona.errors import PlanError
from sona.tuner.statements.rewrite import Rewrite, distances
from sona.tuner.statements.values import Literal, Parameter, Value


@dataclass(frozen=True, slots=True)
class Filter:
    """A column of the searched table that has to equal a value."""

    column: str
    value: Value


@dataclass(frozen=True, slots=True)
class VectorSearch:
    """`SELECT ... FROM table WHERE filters ORDER BY column <operator> query LIMIT limit`, alone or inside a statement.

    Args:
        table: The table searched, with its schema where one is given; None when the text does not tell.
        column: The column of vectors.
        operator: The distance: `<->`, `<=>`, `<#>`, `<+>`, `<~>` or `<%>`.
        query: What is searched for; None when it is computed, by a subquery or from another column.
        limit: Rows asked for; None without a limit, or when it is computed.
        offset: Rows left out before them; None without an offset, or when it is computed.
        filters: Columns that have to equal a value.
        has_other_conditions: True when more than the filters decides which rows count.
        is_alone: False when a part of the search comes from a query around it.
        problem: Why no index on the distance can serve it, and the cure, in words; None when one can.
        sql: The whole statement.
        column_at: Where the column stands in it.
    """

    table: str | None
    column: str
    operator: str
    query: Value | None
    limit: int | Parameter | None
    offset: int | Parameter | None
    filters: tuple[Filter, ...]
    has_other_conditions: bool
    is_alone: bool
    problem: str | None
    sql: str
    column_at: int

    def distances_sql(self) -> Rewrite:
        """Return the statement that gives the distances of the rows found, and nothing else, in the same order.

        FROM, WHERE, LIMIT and OFFSET stay to the letter. It may take fewer parameters, in another order:
        `Rewrite.bind` takes them out of those of the whole statement.

        Raises:
            PlanError: a part of the search comes from a query around it, or its order is not by the distance.
        """
        if not self.is_alone:
            raise PlanError("the search takes values from a query around it, and cannot run alone")
        return distances(self.sql, self.column_at)


@dataclass(frozen=True, slots=True)
class FilterShape:
    """A column that has to equal what fills a place of the normal form."""

    column: str
    place: int


@dataclass(frozen=True, slots=True)
class SearchShape:
    """A search without its values: what they are is in the places of the normal form, counted from 0."""

    table: str | None
    column: str
    operator: str
    piece: int  # of the normal form, where the column stands
    query: int | None
    limit: int | None
    offset: int | None
    filters: tuple[FilterShape, ...]
    has_other_conditions: bool
    is_alone: bool
    problem: str | None

    def filled(self, places: Sequence[tuple[Value, ...]], sql: str, column_at: int) -> VectorSearch:
        """Return the search with its values."""
        return VectorSearch(
            self.table,
            self.column,
            self.operator,
            query=None if self.query is None else places[self.query][0],
            limit=_number(places, self.limit),
            offset=_number(places, self.offset),
            filters=tuple(Filter(known.column, places[known.place][0]) for known in self.filters),
            has_other_conditions=self.has_other_conditions,
            is_alone=self.is_alone,
            problem=self.problem,
            sql=sql,
            column_at=column_at,
        )


ONE_ROW = -1  # in the place of a limit: FETCH FIRST ROW ONLY says no number


def _number(places: Sequence[tuple[Value, ...]], place: int | None) -> int | Parameter | None:
    if place == ONE_ROW:
        return 1
    value = None if place is None else places[place][0]
    if not isinstance(value, Literal):
        return value
    return int(value.content) if value.content.isdecimal() else None
