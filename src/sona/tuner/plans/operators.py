"""The operators of a plan as PostgreSQL 14 to 18 name them: what each does, and what EXPLAIN says about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, cast

from sona.errors import PlanError

Node: TypeAlias = Mapping[str, object]
"""One node of a parsed EXPLAIN document."""


class OperatorGroup(StrEnum):
    """What an operator is for."""

    SCAN = "scan"
    JOIN = "join"
    SORT = "sort"
    AGGREGATE = "aggregate"
    STORE = "store"
    APPEND = "append"
    PARALLEL = "parallel"
    RESULT = "result"
    WRITE = "write"
    OTHER = "other"


_MEMBERS: Mapping[OperatorGroup, tuple[str, ...]] = {
    OperatorGroup.SCAN: (
        "Seq Scan",
        "Sample Scan",
        "Index Scan",
        "Index Only Scan",
        "Bitmap Index Scan",
        "Bitmap Heap Scan",
        "BitmapAnd",
        "BitmapOr",
        "Tid Scan",
        "Tid Range Scan",
        "Subquery Scan",
        "Function Scan",
        "Table Function Scan",
        "Values Scan",
        "CTE Scan",
        "WorkTable Scan",
        "Named Tuplestore Scan",
        "Foreign Scan",
        "Custom Scan",
    ),
    OperatorGroup.JOIN: ("Nested Loop", "Merge Join", "Hash Join"),
    OperatorGroup.SORT: ("Sort", "Incremental Sort"),
    OperatorGroup.AGGREGATE: ("Aggregate", "Group", "WindowAgg", "Unique", "SetOp"),
    OperatorGroup.STORE: ("Hash", "Materialize", "Memoize"),
    OperatorGroup.APPEND: ("Append", "Merge Append", "Recursive Union"),
    OperatorGroup.PARALLEL: ("Gather", "Gather Merge"),
    OperatorGroup.RESULT: ("Result", "ProjectSet", "Limit", "LockRows"),
    OperatorGroup.WRITE: ("ModifyTable",),
}
GROUPS: Mapping[str, OperatorGroup] = {kind: group for group, kinds in _MEMBERS.items() for kind in kinds}
"""Group of every node type of PostgreSQL 14 to 18 by its name; another name is of the group OTHER."""

_BREAKERS = frozenset(
    {
        "Sort",
        "Hash",
        "Materialize",
        "WindowAgg",
        "Recursive Union",
        "Bitmap Index Scan",
        "BitmapAnd",
        "BitmapOr",
        "Function Scan",
        "Table Function Scan",
        "CTE Scan",
    }
)
_BREAKING_STRATEGIES = {("Aggregate", "Plain"), ("Aggregate", "Hashed"), ("Aggregate", "Mixed"), ("SetOp", "Hashed")}
CONDITIONS = (
    "Index Cond",
    "Order By",
    "Recheck Cond",
    "TID Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "One-Time Filter",
    "Filter",
)
"""Conditions an operator may have, by their names in EXPLAIN."""
_STRATEGIES = (
    "Strategy",
    "Partial Mode",
    "Command",
    "Operation",
    "Scan Direction",
    "Custom Plan Provider",
    "Function Name",
    "Table Function Name",
    "Tuplestore Name",
    "Sampling Method",
    "Cache Mode",
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of an operator: its name in EXPLAIN, such as "Index Cond", and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Actuals:
    """What EXPLAIN ANALYZE measured of an operator.

    Args:
        rows: Rows a loop returned, on average.
        loops: How often it ran, over all processes; 0 where it never did.
        total_ms: Time until the last row of a loop, on average, with everything below it; None without TIMING.
        workers_launched: Processes that helped a gather node; None for others.
        hit_blocks: Blocks found in the server's memory, this and everything below; None without BUFFERS.
        read_blocks: Blocks read from outside it; None without BUFFERS.
        memory_bytes: Memory its sort, hash, window or cache took in one process; 0 where it kept nothing.
        disk_bytes: What of that went to disk.
    """

    rows: float
    loops: float
    total_ms: float | None = None
    workers_launched: int | None = None
    hit_blocks: int | None = None
    read_blocks: int | None = None
    memory_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of a plan.

    Args:
        id: Its row in topological order: whatever it has below comes before it, the root last.
        kind: As PostgreSQL names it, such as "Hash Join"; names not known here are kept.
        parent: The operator it belongs to; None for the root.
        children: Operators that belong to it, in the order of the plan.
        depth: Steps from the root.
        relationship: How it belongs to its parent: "Outer", "Inner", "Member", "InitPlan", "SubPlan" or "Subquery".
        estimated_rows: Rows the planner expects of one run.
        width_bytes: Bytes the planner expects of a row.
        startup_cost: Planner units until the first row.
        total_cost: Planner units until the last row, with everything below it.
        relation: The table read or written.
        alias: Its name in the query.
        index: The index read.
        join_type: "Inner", "Left", "Semi", ...
        strategies: Further choices, each as "name=value": strategy of an aggregate, direction of a scan, ...
        conditions: Its conditions, in the order of `CONDITIONS`.
        subplan_name: Name of the subplan, init plan or CTE that starts here, such as "CTE recent" or "SubPlan 1".
        cte_name: The CTE that a scan reads.
        workers_planned: Processes a gather node asks for; None for others.
        is_parallel_aware: Whether processes share its work.
        actuals: What was measured; None without ANALYZE.
    """

    id: int
    kind: str
    parent: int | None
    children: tuple[int, ...]
    depth: int
    relationship: str | None
    estimated_rows: float
    width_bytes: int
    startup_cost: float
    total_cost: float
    relation: str | None = None
    alias: str | None = None
    index: str | None = None
    join_type: str | None = None
    strategies: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    subplan_name: str | None = None
    cte_name: str | None = None
    workers_planned: int | None = None
    is_parallel_aware: bool = False
    actuals: Actuals | None = None

    @property
    def group(self) -> OperatorGroup:
        """What the operator is for; OTHER for a kind not known here."""
        return GROUPS.get(self.kind, OperatorGroup.OTHER)

    @property
    def is_breaker(self) -> bool:
        """True when it may hold all of its input, or all of its output, before others go on."""
        strategy = next((text[9:] for text in self.strategies if text.startswith("Strategy=")), "")
        return self.kind in _BREAKERS or (self.kind, strategy) in _BREAKING_STRATEGIES


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands in its plan; see `Operator` for the fields."""

    id: int
    parent: int | None
    children: tuple[int, ...]
    depth: int


def read_operator(node: Node, place: Place) -> Operator:
    """Return what one node of an EXPLAIN document says.

    Raises:
        PlanError: no node type, no costs, or a field of another kind than EXPLAIN writes.
    """
    return Operator(
        id=place.id,
        kind=kind_of(node),
        parent=place.parent,
        children=place.children,
        depth=place.depth,
        relationship=_text(node, "Parent Relationship"),
        estimated_rows=_required(node, "Plan Rows"),
        width_bytes=int(_required(node, "Plan Width")),
        startup_cost=_required(node, "Startup Cost"),
        total_cost=_required(node, "Total Cost"),
        relation=_text(node, "Relation Name"),
        alias=_text(node, "Alias"),
        index=_text(node, "Index Name"),
        join_type=_text(node, "Join Type"),
        strategies=tuple(f"{name}={_text(node, name)}" for name in _STRATEGIES if name in node),
        conditions=tuple(Condition(name, _condition(node, name)) for name in CONDITIONS if name in node),
        subplan_name=_text(node, "Subplan Name"),
        cte_name=_text(node, "CTE Name"),
        workers_planned=_count(node, "Workers Planned"),
        is_parallel_aware=node.get("Parallel Aware") is True,
        actuals=_actuals(node) if "Actual Loops" in node else None,
    )


def kind_of(node: Node) -> str:
    """Return the type of a node, or raise PlanError."""
    kind = node.get("Node Type")
    if not isinstance(kind, str) or not kind:
        raise PlanError(f'plan: expected a node with "Node Type", got {kind!r}')
    return kind


def _actuals(node: Node) -> Actuals:
    is_timed = "Actual Total Time" in node
    on_disk = node.get("Sort Space Type") == "Disk" or node.get("Storage") == "Disk"
    sorted_bytes = 1024 * int(_number(node, "Sort Space Used") + _number(node, "Maximum Storage"))
    held_bytes = 1024 * int(_number(node, "Peak Memory Usage"))
    return Actuals(
        rows=_number(node, "Actual Rows"),
        loops=_number(node, "Actual Loops"),
        total_ms=_number(node, "Actual Total Time") if is_timed else None,
        workers_launched=_count(node, "Workers Launched"),
        hit_blocks=_count(node, "Shared Hit Blocks"),
        read_blocks=_count(node, "Shared Read Blocks"),
        memory_bytes=held_bytes + (0 if on_disk else sorted_bytes),
        disk_bytes=1024 * int(_number(node, "Disk Usage")) + (sorted_bytes if on_disk else 0),
    )


def _text(node: Node, name: str) -> str | None:
    value = node.get(name)
    if value is None or isinstance(value, str):
        return value
    raise PlanError(f"plan: {name}: expected text, got {value!r}")


def _condition(node: Node, name: str) -> str:
    value = node[name]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(cast("list[str]", value))
    raise PlanError(f"plan: {name}: expected text, got {value!r}")


def _number(node: Node, name: str) -> float:
    value = node.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise PlanError(f"plan: {name}: expected a finite number of at least 0, got {value!r}")
    return float(value)


def _required(node: Node, name: str) -> float:
    if name not in node:
        raise PlanError(f"plan: {name} is missing; ask for it with EXPLAIN (COSTS ON)")
    return _number(node, name)


def _count(node: Node, name: str) -> int | None:
    return int(_number(node, name)) if name in node else None
