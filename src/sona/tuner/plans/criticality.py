"""Which operators a plan waits for: drag and slack on its longest path.

The drag of an operator is the share of the plan's time that would be saved if it took no time: what speeding it up is
worth. Its slack is what it may take longer before the plan does.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.errors import InvalidValue

Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Criticality:
    """What a plan waits for.

    Args:
        length: Length L of the longest path, in the unit of the durations.
        drag: (L - L with the operator at no time) / L per operator, shape (n,), in [0, 1]; 0 where L is 0.
        slack: L - longest path through the operator, shape (n,), at least 0.
        start: Earliest time at which each operator can begin, shape (n,).
        path: Operators of a longest path, first to last; of several, by the least ids from its end.
        bottleneck_score: Greatest drag, in [0, 1].
    """

    length: float
    drag: Doubles
    slack: Doubles
    start: Doubles
    path: tuple[int, ...]
    bottleneck_score: float


def criticality(durations: npt.ArrayLike, before: Sequence[Sequence[int]]) -> Criticality:
    """Return drag and slack of every operator; without parallel branches drag is the share of the time.

    Args:
        durations: What each operator takes by itself, shape (n,), n at least 1.
        before: Per operator those that have to end before it can begin; in any order, without a cycle.

    Raises:
        InvalidValue: no operator, a duration that is negative or not finite, an unknown operator or a cycle.

    >>> diamond = criticality([1, 4, 3, 2], [[], [0], [0], [1, 2]])
    >>> diamond.length, diamond.slack.tolist(), (7 * diamond.drag).round(9).tolist(), diamond.path
    (7.0, [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 2.0], (0, 1, 3))

    Source:
        Kelley and Walker 1959 (critical path, slack); Devaux 1999, Total Project Control (drag).
    """
    times = _durations(durations, len(before))
    order = topological_order(before)
    start = _starts(times, before, order)
    length = _length(times, start)
    slack = [length - one for one in _through(times, before, order)]
    slack = [0.0 if one <= 1e-12 * length else one for one in slack]  # sums in another order round otherwise
    drag = [_drag(times, before, order, row) if slack[row] == 0.0 else 0.0 for row in range(len(times))]
    path = _path(times, before, start)
    return Criticality(length, np.array(drag), np.array(slack), np.array(start), path, max(drag))


def topological_order(before: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the operators so that each comes after those before it: of all such orders the first by ids.

    Raises:
        InvalidValue: an unknown operator or a cycle.

    >>> topological_order([[2], [0], []])
    (2, 0, 1)
    """
    n = len(before)
    after: list[list[int]] = [[] for _ in before]
    for row, earlier in enumerate(before):
        for one in earlier:
            if not 0 <= one < n:
                raise InvalidValue(f"before: expected operators from 0 to {n - 1}, got {one}")
            after[one].append(row)
    waiting = [len(earlier) for earlier in before]
    ready = [row for row in range(n) if waiting[row] == 0]  # ascending, so already a heap
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for later in after[order[-1]]:
            waiting[later] -= 1
            if waiting[later] == 0:
                heapq.heappush(ready, later)
    if len(order) < n:
        raise InvalidValue("before: the operators wait for each other in a cycle")
    return tuple(order)


def _durations(values: npt.ArrayLike, n: int) -> list[float]:
    times = np.asarray(values, np.float64)
    if times.shape != (n,) or n == 0:
        raise InvalidValue(f"durations: expected shape ({n},) with at least one operator, got {times.shape}")
    if not np.isfinite(times).all() or times.min() < 0.0:
        raise InvalidValue("durations: expected finite numbers of at least 0")
    return list(map(float, times))


def _starts(times: Sequence[float], before: Sequence[Sequence[int]], order: Sequence[int]) -> list[float]:
    starts = [0.0] * len(order)
    for row in order:
        for one in before[row]:
            starts[row] = max(starts[row], starts[one] + times[one])
    return starts


def _length(times: Sequence[float], starts: Sequence[float]) -> float:
    return max(start + time for start, time in zip(starts, times, strict=True))


def _through(times: Sequence[float], before: Sequence[Sequence[int]], order: Sequence[int]) -> list[float]:
    # Length of the longest path through each: what comes before, itself, and what comes after.
    tails = [0.0] * len(order)
    for row in reversed(order):
        for one in before[row]:
            tails[one] = max(tails[one], tails[row] + times[row])
    starts = _starts(times, before, order)
    return [start + time + tail for start, time, tail in zip(starts, times, tails, strict=True)]


def _drag(times: Sequence[float], before: Sequence[Sequence[int]], order: Sequence[int], row: int) -> float:
    length = _length(times, _starts(times, before, order))
    without = [0.0 if one == row else time for one, time in enumerate(times)]
    rest = _length(without, _starts(without, before, order))
    return max(length - rest, 0.0) / length if length > 0.0 else 0.0


def _path(times: Sequence[float], before: Sequence[Sequence[int]], starts: Sequence[float]) -> tuple[int, ...]:
    path = [max(range(len(times)), key=lambda row: (starts[row] + times[row], -row))]
    while before[path[-1]]:
        path.append(max(before[path[-1]], key=lambda row: (starts[row] + times[row], -row)))
    return tuple(reversed(path))
