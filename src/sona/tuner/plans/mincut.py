"""The narrowest place of a plan: the operators that together limit how much can flow through it.

It answers questions of throughput, such as how many rows a second can leave; what the plan waits for is its longest
path, see `sona.tuner.plans.criticality`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.errors import InvalidValue
from sona.tuner.plans.criticality import topological_order


@dataclass(frozen=True, slots=True)
class VertexCut:
    """The operators that limit the flow.

    Args:
        flow: Most that can flow from the operators without inputs to those that feed no other; infinite where nothing
            limits it.
        cut: Operators of least capacity in all without which nothing flows, ascending: of several such sets the one
            nearest to where the flow begins; () where the flow is infinite.
    """

    flow: float
    cut: tuple[int, ...]


class _Network:
    # Every operator is two nodes, 2i in and 2i + 1 out, joined by an edge of its capacity.

    def __init__(self, capacities: Sequence[float], inputs: Sequence[Sequence[int]]) -> None:
        n = len(capacities)
        self.source, self.sink = 2 * n, 2 * n + 1
        self.left: list[dict[int, float]] = [{} for _ in range(2 * n + 2)]
        feeding = {one for earlier in inputs for one in earlier}
        for row, earlier in enumerate(inputs):
            self._join(2 * row, 2 * row + 1, capacities[row])
            for one in earlier:
                self._join(2 * one + 1, 2 * row, np.inf)
            if not earlier:
                self._join(self.source, 2 * row, np.inf)
            if row not in feeding:
                self._join(2 * row + 1, self.sink, np.inf)

    def _join(self, start: int, end: int, capacity: float) -> None:
        self.left[start][end] = capacity
        self.left[end].setdefault(start, 0.0)

    def reached(self) -> dict[int, int]:
        """Return every node that can still be reached, with the one before it on a shortest way."""
        found = {self.source: self.source}
        waiting = deque([self.source])
        while waiting:
            here = waiting.popleft()
            for there, left in self.left[here].items():
                if left > 0.0 and there not in found:
                    found[there] = here
                    waiting.append(there)
        return found

    def push(self, found: dict[int, int]) -> float:
        """Send as much as fits along the way found and return it."""
        way = [self.sink]
        while way[-1] != self.source:
            way.append(found[way[-1]])
        steps = list(zip(way[1:], way[:-1], strict=True))
        amount = min(self.left[start][end] for start, end in steps)
        for start, end in steps:
            self.left[start][end] -= amount if np.isfinite(amount) else 0.0
            self.left[end][start] += amount
        return amount


def vertex_min_cut(capacities: npt.ArrayLike, inputs: Sequence[Sequence[int]]) -> VertexCut:
    """Return the most that can flow and the operators that limit it; their capacities add up to the flow.

    Args:
        capacities: What can flow through each operator, shape (n,), at least 0; infinite is allowed.
        inputs: Per operator those that feed it, without a cycle.

    Raises:
        InvalidValue: no operator, a capacity that is negative or NaN, an unknown operator or a cycle.

    >>> vertex_min_cut([10, 4, 3, 20], [[], [0], [0], [1, 2]])
    VertexCut(flow=7.0, cut=(1, 2))

    Source:
        Edmonds and Karp 1972 (shortest augmenting paths); Menger 1927 (vertices by splitting them).
    """
    limits = np.asarray(capacities, np.float64)
    if limits.shape != (len(inputs),) or not len(inputs):
        raise InvalidValue(f"capacities: expected shape ({len(inputs)},), at least one, got {limits.shape}")
    if not (limits >= 0.0).all():
        raise InvalidValue("capacities: expected numbers of at least 0")
    topological_order(inputs)
    network, total = _Network(limits.tolist(), inputs), 0.0
    while network.sink in (found := network.reached()):
        total += network.push(found)
        if not np.isfinite(total):
            return VertexCut(total, ())
    return VertexCut(total, tuple(row for row in range(len(limits)) if 2 * row in found and 2 * row + 1 not in found))
