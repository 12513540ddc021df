"""How well a query fits the rows that pass its filter: what tells whether an index finds enough of them.

An index on a distance gives rows of the whole table, nearest first, and the filter is applied after it. So what
counts is how many of them have to be read until enough have passed. That is foretold from two averages of the
filtered rows and of the table, which the server gives in one short statement each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import finite
from sona.errors import DimensionMismatch, InvalidValue
from sona.state import State

Doubles: TypeAlias = npt.NDArray[np.float64]
SAMPLE = 256
"""Rows that a survey averages, at most."""
_TABLE_SAMPLE = 2000
_NORMAL = NormalDist()
_LEAST_SHARE = 2.0**-4  # of the limit: fewer rows than are asked for cannot be read
_DISTANCES = ("<=>", "<->", "<#>", "<+>")


@dataclass(frozen=True, slots=True)
class Survey:
    """What to ask the server about the rows that pass a filter, or about a whole table.

    Args:
        table: Name of the table, ready to stand in a statement (quoted where it has to be).
        column: Name of the column of vectors, alike.
        filters: Names of the columns that have to equal a value, alike; none for the whole table.
        table_rows: Rows of the table as the catalog estimates them (`pg_class.reltuples`), to sample a whole table.
    """

    table: str
    column: str
    filters: tuple[str, ...] = ()
    table_rows: float = 0.0

    @property
    def sql(self) -> str:
        """The statement, one `%s` per filter's value, twice over; its row is what `Surveyed.of` takes.

        At most `SAMPLE` rows of a filter are averaged, the first that are found; of a table, blocks at random.

        >>> Survey("doc", "embedding", ("section",)).sql.count("%s")
        2
        """
        vectors = f"avg({self.column})::text, avg({self.column} * {self.column})::text"
        if not self.filters:
            return f"SELECT {max(self.table_rows, 0.0):.0f}, {vectors} FROM {self.table} {self._blocks}"
        where = " AND ".join(f"{name} = %s" for name in self.filters)
        counted = f"SELECT count(*) FROM {self.table} WHERE {where}"
        rows = f"SELECT {self.column} FROM {self.table} WHERE {where} LIMIT {SAMPLE}"
        return f"SELECT ({counted}), {vectors} FROM ({rows}) AS surveyed"

    @property
    def _blocks(self) -> str:
        if self.table_rows <= _TABLE_SAMPLE:
            return ""
        return f"TABLESAMPLE SYSTEM ({100.0 * _TABLE_SAMPLE / self.table_rows:.6f})"


@dataclass(frozen=True, slots=True, eq=False)
class Surveyed:
    """What a survey found.

    Args:
        rows: Rows that pass the filter, or rows of the table.
        mean: Mean of their vectors, shape (d,).
        variance: Variance in each direction, shape (d,), at least 0.
    """

    rows: float
    mean: Doubles
    variance: Doubles

    @classmethod
    def of(cls, rows: float, mean: str | None, squares: str | None) -> Surveyed:
        """Return what a row of `Survey.sql` says; no rows at all give empty vectors.

        >>> found = Surveyed.of(2, "[1,0]", "[2,0.5]")
        >>> found.mean.tolist(), found.variance.tolist()
        ([1.0, 0.0], [1.0, 0.5])

        Raises:
            InvalidValue: averages that are no vectors of one width, or a count below 0.
        """
        count = finite(rows, "rows")
        if count < 0.0:
            raise InvalidValue(f"rows: expected at least 0, got {rows!r}")
        if mean is None or squares is None:
            return cls(count, np.zeros(0), np.zeros(0))
        averages, of_squares = _read(mean), _read(squares)
        if len(averages) != len(of_squares):
            raise DimensionMismatch(len(averages), len(of_squares), "averages of squares")
        return cls(count, averages, np.maximum(of_squares - averages**2, 0.0))

    def state(self) -> State:
        """Return everything it holds."""
        return State({"rows": self.rows, "mean": self.mean, "variance": self.variance})

    @classmethod
    def from_state(cls, state: State) -> Surveyed:
        """Return what `state` holds; raises StoreError when it is damaged."""
        mean = state.doubles("mean", None)
        return cls(state.number("rows"), mean, state.doubles("variance", len(mean)))


def fit(
    query: npt.ArrayLike, filtered: Surveyed, table: Surveyed, *, limit: int, operator: str = "<=>"
) -> float | None:
    """Return log2(limit / rows of the table to read until `limit` of them have passed the filter), as foretold.

    About 0: the nearest rows pass. -5: one in 32 of them does. None where it cannot be told. Closeness to the query
    is taken for normal, among the filtered rows and in the table; directions as independent.

    Args:
        query: What is searched for, shape (d,).
        filtered: The rows that pass the filter.
        table: The rows of the table.
        limit: Rows asked for, at least 1.
        operator: The distance; `<+>` is taken for `<->`.

    Raises:
        InvalidValue: a limit below 1, or a query that is not finite.

    >>> centre, spread = np.array([1.0, 0.0]), np.array([0.01, 0.01])
    >>> shelf, whole = Surveyed(1e3, centre, spread), Surveyed(1e5, np.zeros(2), np.array([0.5, 0.5]))
    >>> near, far = (fit(query, shelf, whole, limit=10) for query in ([1.0, 0.0], [-1.0, 0.0]))
    >>> near > far + 4
    True
    """
    if limit < 1:
        raise InvalidValue(f"limit: expected at least 1, got {limit}")
    vector = np.asarray(query, np.float64)
    if not np.isfinite(vector).all():
        raise InvalidValue("query: holds NaN or infinity")
    is_known = operator in _DISTANCES and vector.shape == filtered.mean.shape == table.mean.shape
    if not is_known or filtered.rows < 1.0 or table.rows < 1.0:
        return None
    wanted = min(float(limit), filtered.rows)
    centre, spread = _closeness(vector, filtered, operator)
    last = centre - spread * _NORMAL.inv_cdf(min(0.5, wanted / filtered.rows))
    centre, spread = _closeness(vector, table, operator)
    read = table.rows * 0.5 * math.erfc((last - centre) / (max(spread, 1e-12) * math.sqrt(2.0)))
    return math.log2(wanted / max(read, _LEAST_SHARE * wanted))


def _closeness(query: Doubles, rows: Surveyed, operator: str) -> tuple[float, float]:
    # Mean and standard deviation, over the rows, of what the distance falls with.
    if operator in ("<=>", "<#>"):
        length = math.sqrt(float((rows.mean**2 + rows.variance).sum())) if operator == "<=>" else 1.0
        spread = math.sqrt(float((query**2 * rows.variance).sum()))
        return float(query @ rows.mean) / max(length, 1e-12), spread / max(length, 1e-12)
    away = (query - rows.mean) ** 2
    spread = math.sqrt(float((4.0 * away * rows.variance + 2.0 * rows.variance**2).sum()))
    return -float((away + rows.variance).sum()), spread


def _read(text: str) -> Doubles:
    try:
        found = np.array([float(part) for part in text.strip("[] ").split(",")])
    except ValueError as error:
        raise InvalidValue(f"average: expected a vector such as [1,2], got {text[:40]!r}") from error
    if not np.isfinite(found).all():
        raise InvalidValue("average: holds NaN or infinity")
    return found
