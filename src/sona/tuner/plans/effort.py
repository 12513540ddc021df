"""What each operator of a plan costs by itself, and what has to end before it can begin.

A server executes a plan one operator at a time, except under a Parallel Append, where a child that no process shares
runs beside the others. So the longest path of a serial plan is all of it, and only where processes work side by side
can an operator have slack.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.tuner.plans.flow import Flow, first_below
from sona.tuner.plans.operators import Operator

Doubles: TypeAlias = npt.NDArray[np.float64]
_RANKS: Mapping[str | None, int] = {"InitPlan": 0, "SubPlan": 2}


@dataclass(frozen=True, slots=True)
class Effort:
    """What operators cost by themselves.

    Args:
        costs: Per operator what it costs without what is below it, shape (n,): milliseconds of wall time, or planner
            units.
        is_measured: True for milliseconds; False where the plan was not executed or not timed.
        before: Per operator those that have to end before it can begin.
    """

    costs: Doubles
    is_measured: bool
    before: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Work:
    # What is below an operator: one after another, and beside that one run per lane.
    serial: tuple[int, ...]
    lanes: tuple[tuple[int, ...], ...] = ()

    @property
    def rows(self) -> list[int]:
        return [row for run in (self.serial, *self.lanes) for row in run]

    def span(self, spent: Doubles) -> float:
        runs = [sum(float(spent[row]) for row in lane) for lane in self.lanes]
        serial = sum(float(spent[row]) for row in self.serial)
        return max([serial, *runs])


def effort(operators: Sequence[Operator], flow: Flow) -> Effort:
    """Return what each operator costs by itself: as it was measured where all was timed, else by the planner.

    Measured, it is the operator's total time over its loops, shared by the processes that ran it, without that of its
    inputs. An init plan is paid by the operator that asks for its value, and a CTE by the scan that waited for it
    longest; what other scans waited for its rows counts as theirs. By the planner, what an operator spends on an input
    is the input's total cost, for the inner side of a nested loop once per outer row. Either way the costs of a serial
    plan add up to what is known of its root.
    """
    is_measured = all(one.actuals is not None and one.actuals.total_ms is not None for one in operators)
    processes = _processes(operators, is_measured)
    if is_measured:
        whole = asked = _walls(operators, processes)
        owners = _payers(flow, whole)
    else:
        whole = np.array([one.total_cost for one in operators])
        owners = [-1 if one.parent is None else one.parent for one in operators]
        asked = whole * np.array([_runs(operators, one) for one in operators])
    below = _work(operators, owners, processes, asked)
    order = _inner_first(below)
    if is_measured:
        whole = asked = _stretched(operators, below, order, whole)
    return Effort(_split(below, order, whole, asked), is_measured, _before(below, order))


def _payers(flow: Flow, walls: Doubles) -> list[int]:
    # Who of several readers waited longest, apart from its other inputs: the first to read a CTE waits for its rows.
    def waited(reader: int, row: int) -> float:
        others = (one for one in flow.inputs[reader] if one != row)
        return float(walls[reader]) - sum(float(walls[one]) for one in others)

    return [
        max(readers, key=lambda reader: waited(reader, row)) if readers else -1
        for row, readers in enumerate(flow.consumers)
    ]


def _processes(operators: Sequence[Operator], is_measured: bool) -> Doubles:
    # How many processes share an operator's loops; parents come after children, so from the last to the first.
    shared = np.ones(len(operators))
    for one in reversed(operators):
        if one.parent is None:
            continue
        parent = operators[one.parent]
        shared[one.id] = shared[parent.id]
        if parent.workers_planned is not None and one.relationship == "Outer":
            most = parent.workers_planned + 1.0
            shared[one.id] = min(_loops(one) / max(_loops(parent), 1.0), most) if is_measured else most
        elif _is_alone(operators, one):
            shared[one.id] = 1.0
    return np.maximum(shared, 1.0)


def _loops(one: Operator) -> float:
    return 1.0 if one.actuals is None else one.actuals.loops


def _is_alone(operators: Sequence[Operator], one: Operator) -> bool:
    # Under a Parallel Append a child that no process shares is run by one of them, beside the others.
    if one.parent is None or not operators[one.parent].is_parallel_aware or operators[one.parent].kind != "Append":
        return False
    return not any(operators[row].is_parallel_aware for row in range(first_below(operators, one.id), one.id + 1))


def _walls(operators: Sequence[Operator], processes: Doubles) -> Doubles:
    actuals = [one.actuals for one in operators]
    totals = [0.0 if one is None or one.total_ms is None else one.total_ms * one.loops for one in actuals]
    return np.asarray(np.array(totals) / processes, np.float64)


def _work(
    operators: Sequence[Operator], owners: Sequence[int], processes: Doubles, spent: Doubles
) -> tuple[_Work, ...]:
    inputs: list[list[int]] = [[] for _ in operators]
    for row, owner in enumerate(owners):
        if owner >= 0:
            inputs[owner].append(row)
    found = []
    for one in operators:
        ordered = sorted(inputs[one.id], key=functools.partial(_turn, operators, one))
        alone = [row for row in ordered if _is_alone(operators, operators[row])]
        lanes = _lanes(alone, int(processes[one.id]), spent)
        found.append(_Work(tuple(row for row in ordered if row not in alone), lanes))
    return tuple(found)


def _turn(operators: Sequence[Operator], parent: Operator, row: int) -> int:
    # Init plans and CTEs first, a hash table before what is looked up in it, subplans last.
    child = operators[row]
    if parent.kind == "Hash Join" and child.relationship in ("Inner", "Outer"):
        return 1 if child.relationship == "Inner" else 2
    return _RANKS.get(child.relationship, 1)


def _lanes(alone: Sequence[int], processes: int, spent: Doubles) -> tuple[tuple[int, ...], ...]:
    # Each process takes the most expensive child that is left, as the server orders them.
    lanes: list[list[int]] = [[] for _ in range(min(max(processes, 1), len(alone)))]
    for row in sorted(alone, key=lambda row: -float(spent[row])):
        min(lanes, key=lambda lane: sum(float(spent[one]) for one in lane)).append(row)
    return tuple(map(tuple, lanes))


def _stretched(operators: Sequence[Operator], below: Sequence[_Work], order: Sequence[int], walls: Doubles) -> Doubles:
    # Times of processes are means, and a gather node waits for the last: lanes of unequal length take as long as the
    # longest, up to the gather node above them.
    stretched, extra = walls.copy(), np.zeros(len(order))
    for row in order:
        if operators[row].workers_planned is None:
            work = below[row]
            extra[row] = sum(float(extra[child]) for child in work.rows)
            extra[row] += max(work.span(walls) - float(walls[row]), 0.0) if work.lanes else 0.0
            stretched[row] += extra[row]
    return stretched


def _split(below: Sequence[_Work], order: Sequence[int], whole: Doubles, asked: Doubles) -> Doubles:
    # From the root down: what an operator spends is split over its inputs and the rest is its own, so that nothing is
    # counted twice: a limit ends its input early, and times are rounded before they are multiplied by the loops.
    spent, costs = np.zeros(len(below)), np.zeros(len(below))
    spent[order[-1]] = whole[order[-1]]
    for row in reversed(order):
        work = below[row]
        greatest = max(work.span(asked), float(whole[row]))
        for child in work.rows:
            spent[child] = asked[child] * spent[row] / greatest if greatest > 0.0 else 0.0
        costs[row] = max(spent[row] - work.span(spent), 0.0)
    return costs


def _runs(operators: Sequence[Operator], child: Operator) -> float:
    # How often the planner expects an operator to run for one run of its parent.
    if child.parent is None:
        return 1.0
    parent = operators[child.parent]
    if parent.kind == "Nested Loop" and child.relationship == "Inner" and child.kind != "Materialize":
        outer = (operators[row] for row in parent.children if operators[row].relationship == "Outer")
        return max(next((one.estimated_rows for one in outer), 1.0), 1.0)
    if child.relationship == "SubPlan" and not _is_hashed(parent, child):
        return max(parent.estimated_rows, 1.0)
    return 1.0


def _is_hashed(parent: Operator, child: Operator) -> bool:
    return any(f"hashed {child.subplan_name}" in condition.text for condition in parent.conditions)


def _before(below: Sequence[_Work], order: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    before: list[list[int]] = [[] for _ in below]
    entries: dict[int, tuple[int, ...]] = {}  # where the work at and below an operator begins
    for row in order:
        first: list[int] = []
        for run in (below[row].serial, *below[row].lanes):
            for earlier, later in pairwise(run):
                for one in entries[later]:
                    before[one].append(earlier)
            first.extend(entries[run[0]] if run else ())
            before[row].extend(run[-1:])
        entries[row] = tuple(first) or (row,)
    return tuple(map(tuple, before))


def _inner_first(below: Sequence[_Work]) -> list[int]:
    # Ids are no help: a CTE that is read elsewhere has moved.
    order = [len(below) - 1]
    for row in order:  # grows while it is read
        order.extend(below[row].rows)
    return order[::-1]
