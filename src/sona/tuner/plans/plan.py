"""A plan as the server explains it, read once and never changed: its operators, what feeds what, and what weighs.

Reading is quick. What costs more - flow, costs, criticality, attention, embeddings - is computed when it is first asked
for and kept; it follows from what was read, so a plan is a value all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

from sona.checks import Floats
from sona.config.tuner import DagConfig
from sona.errors import PlanError
from sona.tuner.execution import AttentionType, ExecutionParams
from sona.tuner.plans.attention import DEFAULT, attention_weights, known_type
from sona.tuner.plans.criticality import Criticality, criticality
from sona.tuner.plans.effort import Effort, effort
from sona.tuner.plans.embedding import embed_operators, embed_plan
from sona.tuner.plans.flow import Flow, data_flow
from sona.tuner.plans.operators import Node, Operator, Place, read_operator
from sona.tuner.plans.view import Doubles, PlanView

Document = str | bytes | Sequence[object] | Mapping[str, object]


class _Memo:
    # What was computed of a plan. Two threads may compute one thing twice, and get the same.
    __slots__ = ("criticality", "effort", "embeddings", "flow", "plan_embedding", "shape", "view", "weights")

    criticality: Criticality | None
    effort: Effort | None
    embeddings: Floats | None
    flow: Flow | None
    plan_embedding: Floats | None
    shape: str | None
    view: PlanView | None
    weights: Doubles | None

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, None)


@dataclass(frozen=True, slots=True)
class NeuralDagPlan:
    """A plan of PostgreSQL 14 to 18; `NeuralDagPlan.from_explain` reads one.

    Args:
        operators: In topological order: whatever an operator reads comes before it, the root is the last.
        hidden_dim: Width d of embeddings.
        attention_type: How operators are weighted against each other.
        params: Settings the plan was made with, or is to run with.
        pattern_id: The pattern the plan was matched with; None for none.
        planning_ms: What planning took; None where EXPLAIN did not say.
        execution_ms: What executing took; None without ANALYZE.

    Example:
        >>> node = {"Node Type": "Seq Scan", "Relation Name": "t", "Plan Rows": 10, "Plan Width": 4}
        >>> plan = NeuralDagPlan.from_explain([{"Plan": {**node, "Startup Cost": 0.0, "Total Cost": 1.5}}])
        >>> plan.root.kind, plan.estimated_rows, plan.total_cost, plan.critical_path, plan.bottleneck_score
        ('Seq Scan', 10.0, 1.5, (0,), 1.0)
    """

    operators: tuple[Operator, ...]
    hidden_dim: int = 256
    attention_type: AttentionType = DEFAULT
    params: ExecutionParams = field(default_factory=ExecutionParams)
    pattern_id: int | None = None
    planning_ms: float | None = None
    execution_ms: float | None = None
    _memo: _Memo = field(default_factory=_Memo, init=False, repr=False, compare=False)

    @classmethod
    def from_explain(
        cls,
        document: Document,
        *,
        config: DagConfig | None = None,
        attention_type: AttentionType = DEFAULT,
    ) -> Self:
        """Return the plan in a document of EXPLAIN (FORMAT JSON), with or without ANALYZE, BUFFERS and VERBOSE.

        Args:
            document: Its text, or as a driver returns it: parsed, and perhaps within its row.
            config: Settings; `hidden_dim` is the width of embeddings.
            attention_type: How operators are weighted against each other.

        Raises:
            PlanError: not JSON, not one plan, or a node without its type and costs.
            InvalidValue: an unknown attention type.
        """
        entry = _entry(document)
        operators = _operators(cast(Node, entry["Plan"]))
        width = (config or DagConfig()).hidden_dim
        times = {name: _milliseconds(entry, name) for name in ("Planning Time", "Execution Time")}
        return cls(
            operators,
            width,
            known_type(attention_type),
            planning_ms=times["Planning Time"],
            execution_ms=times["Execution Time"],
        )

    # -- what was read ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of operators, n."""
        return len(self.operators)

    @property
    def root(self) -> Operator:
        """The operator that returns the result."""
        return self.operators[-1]

    @property
    def estimated_rows(self) -> float:
        """Rows the planner expects as the result."""
        return self.root.estimated_rows

    @property
    def total_cost(self) -> float:
        """What the planner expects it to cost, in planner units."""
        return self.root.total_cost

    @property
    def is_analyzed(self) -> bool:
        """True when the plan was executed."""
        return self.root.actuals is not None

    @property
    def pipeline_breakers(self) -> tuple[int, ...]:
        """Operators that may hold all of their input or output before others go on, ascending."""
        return tuple(one.id for one in self.operators if one.is_breaker)

    @property
    def parallelism(self) -> int:
        """Greatest number of processes asked for under one gather node; 0 for a serial plan."""
        return max((one.workers_planned or 0 for one in self.operators), default=0)

    @property
    def shape(self) -> str:
        """A digest of what the planner chose and of nothing else, 16 hexadecimal digits; same shape, same plan.

        It takes in kinds, tables and their aliases, indexes, join types, strategies, which conditions are checked
        where, the order of children and processes; not costs, rows, literals, or settings that a plan does not show.
        """
        if self._memo.shape is None:
            self._memo.shape = _shape(self.operators)
        return self._memo.shape

    # -- what follows from it --------------------------------------------------------------------------------------

    @property
    def flow(self) -> Flow:
        """What feeds what, both ways; a CTE feeds its scans."""
        if self._memo.flow is None:
            self._memo.flow = data_flow(self.operators)
        return self._memo.flow

    @property
    def effort(self) -> Effort:
        """What each operator costs by itself, and what it waits for."""
        if self._memo.effort is None:
            self._memo.effort = effort(self.operators, self.flow)
            self._memo.effort.costs.flags.writeable = False
        return self._memo.effort

    @property
    def learned_costs(self) -> Doubles:
        """What each operator costs by itself, shape (n,): milliseconds where `effort.is_measured`, or planner units."""
        return self.effort.costs

    @property
    def criticality(self) -> Criticality:
        """Drag and slack of every operator."""
        if self._memo.criticality is None:
            self._memo.criticality = criticality(self.effort.costs, self.effort.before)
            for array in (self._memo.criticality.drag, self._memo.criticality.slack, self._memo.criticality.start):
                array.flags.writeable = False
        return self._memo.criticality

    @property
    def criticalities(self) -> Doubles:
        """Share of the plan's time that each operator is worth, shape (n,), in [0, 1]."""
        return self.criticality.drag

    @property
    def critical_path(self) -> tuple[int, ...]:
        """Operators of the longest path, in the order in which they run."""
        return self.criticality.path

    @property
    def bottleneck_score(self) -> float:
        """Greatest criticality of an operator, in [0, 1]."""
        return self.criticality.bottleneck_score

    @property
    def view(self) -> PlanView:
        """What an attention sees."""
        if self._memo.view is None:
            rows = [one.estimated_rows for one in self.operators]
            self._memo.view = PlanView.of(self.flow.inputs, self.effort.costs, before=self.effort.before, rows=rows)
        return self._memo.view

    @property
    def attention_weights(self) -> Doubles:
        """What each operator counts in the plan's embedding, shape (n,), at least 0 with sum 1."""
        if self._memo.weights is None:
            self._memo.weights = attention_weights(self.view, self.attention_type)
            self._memo.weights.flags.writeable = False
        return self._memo.weights

    @property
    def operator_embeddings(self) -> Floats:
        """A unit vector per operator, shape (n, d)."""
        if self._memo.embeddings is None:
            self._memo.embeddings = embed_operators(self.operators, self.hidden_dim)
            self._memo.embeddings.flags.writeable = False
        return self._memo.embeddings

    @property
    def plan_embedding(self) -> Floats:
        """The operators' vectors added up by their weights, a unit vector of shape (d,)."""
        if self._memo.plan_embedding is None:
            self._memo.plan_embedding = embed_plan(self.operator_embeddings, self.attention_weights)
            self._memo.plan_embedding.flags.writeable = False
        return self._memo.plan_embedding

    # -- the same plan with something else beside it ---------------------------------------------------------------

    def with_match(self, pattern_id: int | None, params: ExecutionParams) -> Self:
        """Return the same plan, matched with a pattern and its settings; what was computed is kept."""
        changed = replace(self, pattern_id=pattern_id, params=params)
        object.__setattr__(changed, "_memo", self._memo)
        return changed

    def with_attention(self, attention_type: AttentionType) -> Self:
        """Return the same plan, weighted another way; what does not depend on the weights is kept."""
        changed = replace(self, attention_type=known_type(attention_type))
        for name in ("criticality", "effort", "embeddings", "flow", "shape", "view"):
            setattr(changed._memo, name, getattr(self._memo, name))
        return changed


def _entry(document: Document) -> Mapping[str, object]:
    # A row holds a list that holds a mapping with the plan; a driver may have unpacked any of them.
    entry: object = _parsed(document) if isinstance(document, (str, bytes)) else document
    while isinstance(entry, Sequence) and not isinstance(entry, (str, bytes)):
        if len(entry) != 1:
            raise PlanError(f"plan: expected one plan, got {len(entry)}")
        entry = _parsed(entry[0]) if isinstance(entry[0], (str, bytes)) else entry[0]
    if not isinstance(entry, Mapping) or not isinstance(entry.get("Plan"), Mapping):
        raise PlanError('plan: expected a document of EXPLAIN (FORMAT JSON) with "Plan"')
    return entry


def _parsed(text: str | bytes) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError) as error:
        raise PlanError(f"plan: not JSON: {error}") from error


def _milliseconds(entry: Mapping[str, object], name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < float("inf"):
        raise PlanError(f"plan: {name}: expected milliseconds, got {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True)
class _Visit:
    # A node with its place in a walk from the root.
    node: Node
    parent: int
    depth: int


def _operators(root: Node) -> tuple[Operator, ...]:
    # Walked from the root, last child first, and turned round: children come before parents, in the plan's order.
    visits: list[_Visit] = []
    waiting = [_Visit(root, -1, 0)]
    while waiting:
        visit = waiting.pop()
        waiting.extend(_Visit(node, len(visits), visit.depth + 1) for node in _below(visit.node))
        visits.append(visit)
    last = len(visits) - 1
    children: list[list[int]] = [[] for _ in visits]
    for row, visit in enumerate(visits[1:], 1):
        children[visit.parent].append(last - row)
    return tuple(
        read_operator(
            visit.node,
            Place(last - row, None if row == 0 else last - visit.parent, tuple(sorted(children[row])), visit.depth),
        )
        for row, visit in reversed(list(enumerate(visits)))
    )


def _below(node: Node) -> Sequence[Node]:
    nodes = node.get("Plans", ())
    if isinstance(nodes, (str, bytes)) or not isinstance(nodes, Sequence):
        raise PlanError(f'plan: "Plans": expected a list, got {nodes!r}')
    if not all(isinstance(one, Mapping) for one in nodes):
        raise PlanError('plan: "Plans": expected nodes')
    return cast("Sequence[Node]", nodes)


def _shape(operators: Sequence[Operator]) -> str:
    hasher = hashlib.blake2b(digest_size=8)
    for one in operators:
        chosen = (one.relation, one.alias, one.index, one.join_type, one.cte_name, one.relationship)
        conditions = tuple(condition.name for condition in one.conditions)
        parallel = (one.workers_planned, one.is_parallel_aware)
        hasher.update(repr((one.kind, one.depth, chosen, one.strategies, conditions, parallel)).encode())
    return hasher.hexdigest()
