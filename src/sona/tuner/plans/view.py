"""What an attention sees of a plan: its edges and what its operators cost, and nothing of what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from sona.errors import InvalidValue
from sona.tuner.plans.criticality import topological_order

Doubles: TypeAlias = npt.NDArray[np.float64]
Edges: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class PlanView:
    """A graph of n operators with costs; `PlanView.of` checks what it is given.

    Args:
        inputs: Per operator those whose rows it reads; those that feed no other are roots.
        costs: What each costs by itself, shape (n,), at least 0.
        before: Per operator those that have to end before it can begin.
        rows: Rows each hands on, shape (n,), at least 0.
        order: The operators in topological order, inputs first.
    """

    inputs: Edges
    costs: Doubles
    before: Edges
    rows: Doubles
    order: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of operators."""
        return len(self.inputs)

    @classmethod
    def of(
        cls,
        inputs: Sequence[Sequence[int]],
        costs: npt.ArrayLike,
        *,
        before: Sequence[Sequence[int]] | None = None,
        rows: npt.ArrayLike | None = None,
    ) -> Self:
        """Return the view of a graph; without `before` inputs run side by side, without `rows` each hands on one.

        Raises:
            InvalidValue: no operators, arrays of another shape, a figure below 0 or not finite, an unknown operator
                or a cycle.
        """
        n = len(inputs)
        if n == 0:
            raise InvalidValue("inputs: expected at least one operator")
        feeding = _edges(inputs)
        waiting = feeding if before is None else _edges(before)
        if len(waiting) != n:
            raise InvalidValue(f"before: expected {n} operators, got {len(waiting)}")
        topological_order(waiting)
        handed = np.ones(n) if rows is None else _figures(rows, n, "rows")
        return cls(feeding, _figures(costs, n, "costs"), waiting, handed, topological_order(feeding))

    def consumers(self) -> Edges:
        """Return per operator those that read its rows, ascending."""
        found: list[list[int]] = [[] for _ in self.inputs]
        for row, feeding in enumerate(self.inputs):
            for one in feeding:
                found[one].append(row)
        return tuple(map(tuple, found))


def _edges(given: Sequence[Sequence[int]]) -> Edges:
    return tuple(tuple(one) for one in given)


def _figures(values: npt.ArrayLike, n: int, what: str) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.shape != (n,):
        raise InvalidValue(f"{what}: expected shape ({n},), got {array.shape}")
    if not np.isfinite(array).all() or array.min() < 0.0:
        raise InvalidValue(f"{what}: expected finite numbers of at least 0")
    return array
