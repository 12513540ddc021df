"""What feeds what in a plan: children, and subplans whose rows go to another operator than the one they hang under."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sona.tuner.plans.operators import Operator

_GATHERS = ("Gather", "Gather Merge")
_PARAMETER = re.compile(r"\$\d+")


@dataclass(frozen=True, slots=True)
class Flow:
    """Edges of a plan, both ways, by operator id.

    Args:
        inputs: Per operator, those whose rows it reads: its children, a CTE at each of its scans, an init plan where
            its value is first asked for.
        consumers: Per operator, those that read its rows; none for the root alone.
    """

    inputs: tuple[tuple[int, ...], ...]
    consumers: tuple[tuple[int, ...], ...]


def data_flow(operators: Sequence[Operator]) -> Flow:
    """Return what feeds what; a plan without CTEs and init plans is its own tree."""
    consumers: list[tuple[int, ...]] = [(() if one.parent is None else (one.parent,)) for one in operators]
    for one in operators:
        if one.relationship == "InitPlan" and one.subplan_name is not None and one.parent is not None:
            consumers[one.id] = readers(operators, one) or (one.parent,)
    inputs: list[list[int]] = [[] for _ in operators]
    for one in operators:
        for reader in consumers[one.id]:
            inputs[reader].append(one.id)
    return Flow(tuple(map(tuple, inputs)), tuple(consumers))


def readers(operators: Sequence[Operator], started: Operator) -> tuple[int, ...]:
    """Return the operators that read the CTE or init plan that `started` is the root of; () where none says so."""
    name, owner = started.subplan_name or "", started.parent or 0
    after = operators[started.id + 1 : owner + 1]  # what the owner has below beyond it: init plans stand first
    if name.startswith("CTE "):
        scans = [one for one in after if one.cte_name == name[4:] and one.kind == "CTE Scan"]
        return tuple(one.id for one in scans if _owner(operators, one, name) == owner)
    wanted = _mentions(name)
    for one in after:
        if any(wanted.search(condition.text) for condition in one.conditions):
            return (_evaluating(operators, one, owner),)
    return ()


def first_below(operators: Sequence[Operator], top: int) -> int:
    """Return the least id at and below `top`; the ids from it to `top` are those of the subtree."""
    while operators[top].children:
        top = operators[top].children[0]
    return top


def _owner(operators: Sequence[Operator], scan: Operator, name: str) -> int | None:
    # A query within may have a CTE of the same name; a scan reads that of the nearest.
    row = scan.parent
    while row is not None and not any(operators[child].subplan_name == name for child in operators[row].children):
        row = operators[row].parent
    return row


def _mentions(name: str) -> re.Pattern[str]:
    # Since PostgreSQL 17 "(InitPlan 1).col1"; before, the subplan is named "InitPlan 1 (returns $0)" and read as "$0".
    parameters = _PARAMETER.findall(name)
    if parameters:
        return re.compile("|".join(rf"{re.escape(one)}(?!\d)" for one in parameters))
    return re.compile(re.escape(f"({name})"))


def _evaluating(operators: Sequence[Operator], reader: Operator, owner: int) -> int:
    # Processes under a gather node are handed the value: the gather node itself computes it before they start.
    found, row = reader.id, reader.id
    while row != owner:
        row = operators[row].parent or owner
        found = row if operators[row].kind in _GATHERS else found
    return found
