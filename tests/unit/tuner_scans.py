"""Plans made up for tests of what is learned from plans."""

from __future__ import annotations

from sona.config.tuner import DagConfig
from sona.tuner.execution import ExecutionMetrics, ExecutionParams
from sona.tuner.plans.plan import NeuralDagPlan

NO_LOOP = ExecutionParams(custom={"enable_nestloop": "off"})
NO_SORT = ExecutionParams(custom={"enable_sort": "off"})
WIDTH = 32
CONFIG = DagConfig(hidden_dim=WIDTH, epsilon=0.0, min_trajectories=4)


def plan(table: str = "orders", rows: int = 10, width: int = WIDTH) -> NeuralDagPlan:
    """Return the plan of a scan."""
    node = {"Node Type": "Seq Scan", "Relation Name": table, "Alias": table, "Plan Rows": rows, "Plan Width": 4}
    document = [{"Plan": {**node, "Startup Cost": 0.0, "Total Cost": 1.5 * rows}}]
    return NeuralDagPlan.from_explain(document, config=DagConfig(hidden_dim=width))


def took(ms: float) -> ExecutionMetrics:
    """Return the figures of an execution of so many milliseconds."""
    return ExecutionMetrics(latency_us=1e3 * ms)
