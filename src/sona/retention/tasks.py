"""The memory of finished tasks, and their sum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sona.checks import Floats
from sona.errors import StoreError
from sona.retention.fisher import Doubles, to_float32
from sona.retention.penalty import QuadraticPenalty
from sona.state import State


@dataclass(frozen=True, slots=True, eq=False)
class ProtectedTask:
    """One finished task; its arrays are read-only.

    Args:
        fisher: Diagonal Fisher, shape (p,).
        anchor: Weights at its end, shape (p,).
        closed_at: Seconds, the caller's clock.
        examples: Per-example gradients behind the Fisher.
    """

    fisher: Floats
    anchor: Floats
    closed_at: float
    examples: int

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        self.fisher.setflags(write=False)
        self.anchor.setflags(write=False)


class TaskMemory:
    """The latest tasks one by one, and all tasks as one penalty: eviction leaves the memory, never the sum.

    Args:
        width: Number of parameters p.
        capacity: Tasks kept one by one.
    """

    __slots__ = ("_capacity", "_closed", "_examples", "_penalty", "_summed", "_tasks", "_weighted", "_width")

    def __init__(self, width: int, capacity: int) -> None:
        """Start without tasks."""
        self._width = width
        self._capacity = capacity
        self._tasks: tuple[ProtectedTask, ...] = ()
        self._penalty: QuadraticPenalty | None = None
        self._weighted: Doubles = np.zeros(width)  # sum_k F_k w_k
        self._summed = 0  # Gaussians in the sum that are not yet merged into one
        self._examples = 0  # per-example gradients behind the sum
        self._closed = 0

    @property
    def tasks(self) -> tuple[ProtectedTask, ...]:
        """The tasks kept one by one, oldest first."""
        return self._tasks

    @property
    def penalty(self) -> QuadraticPenalty | None:
        """All tasks as one quadratic; None before the first."""
        return self._penalty

    @property
    def summed(self) -> int:
        """Tasks in the sum since the last merge, which counts as one."""
        return self._summed

    @property
    def closed(self) -> int:
        """Tasks ever added."""
        return self._closed

    def add(self, task: ProtectedTask) -> bool:
        """Add a task and anchor the sum at it; return True when the oldest left the memory for it."""
        is_full = len(self._tasks) == self._capacity
        self._tasks = (*self._tasks[int(is_full) :], task)
        precision = task.fisher.astype(np.float64)
        self._weighted = self._weighted + precision * task.anchor
        if self._penalty is not None:
            precision += self._penalty.precision
        self._penalty = QuadraticPenalty(precision, task.anchor)
        self._summed += 1
        self._examples += task.examples
        self._closed += 1
        return is_full

    def merge(self, penalty: QuadraticPenalty) -> None:
        """Replace all tasks by one, at the mean of the product of their Gaussians.

        Args:
            penalty: The present one; its anchor stays where no task has information.
        """
        precision, mean = penalty.precision, penalty.anchor.astype(np.float64)
        np.divide(self._weighted, precision, out=mean, where=precision > 0.0)
        merged = ProtectedTask(to_float32(precision), to_float32(mean), self._tasks[-1].closed_at, self._examples)
        self._tasks = (merged,)
        self._weighted = precision * merged.anchor
        self._penalty = QuadraticPenalty(precision, merged.anchor)
        self._summed = 1

    def shift(self, offset: Floats) -> None:
        """Move every anchor by -offset (p,)."""
        if self._penalty is None:
            return
        self._tasks = tuple(replace(task, anchor=_shifted(task.anchor, offset)) for task in self._tasks)
        self._weighted = self._weighted - self._penalty.precision * offset
        # The sum is anchored at the latest task, before and after.
        self._penalty = QuadraticPenalty(self._penalty.precision, self._tasks[-1].anchor)

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        shape = (len(self._tasks), self._width)
        precision = np.zeros(self._width) if self._penalty is None else self._penalty.precision
        return State(
            {
                "fishers": np.array([task.fisher for task in self._tasks], np.float32).reshape(shape),
                "anchors": np.array([task.anchor for task in self._tasks], np.float32).reshape(shape),
                "closed_at": np.array([task.closed_at for task in self._tasks], np.float64),
                "task_examples": np.array([task.examples for task in self._tasks], np.int64),
                "precision": precision.copy(),
                "weighted": self._weighted.copy(),
                "summed": self._summed,
                "examples": self._examples,
                "closed": self._closed,
            }
        )

    @classmethod
    def from_state(cls, state: State, width: int, capacity: int) -> TaskMemory:
        """Return the memory that `state` describes."""
        memory = cls(width, capacity)
        fishers = state.floats("fishers", None, width)
        count = fishers.shape[0]
        if count > capacity:
            raise StoreError(f"saved state: {count} tasks, at most {capacity} are kept")
        anchors, closed_at = state.floats("anchors", count, width), state.doubles("closed_at", count)
        examples = state.wholes("task_examples", count)
        memory._tasks = tuple(
            ProtectedTask(fishers[k].copy(), anchors[k].copy(), float(closed_at[k]), int(examples[k]))
            for k in range(count)
        )
        memory._weighted = state.doubles("weighted", width)
        memory._summed = state.whole("summed")
        memory._examples = state.whole("examples")
        memory._closed = state.whole("closed")
        if count:
            memory._penalty = QuadraticPenalty(state.doubles("precision", width), memory._tasks[-1].anchor)
        return memory


def _shifted(anchor: Floats, offset: Floats) -> Floats:
    return to_float32(anchor.astype(np.float64) - offset)
