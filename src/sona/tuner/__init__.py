"""DAG-SONA: a stock PostgreSQL that learns, per query pattern, which settings to run a query with.

A name is imported when it is asked for: plans and what is learned from them need numpy alone, attaching needs psycopg.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sona.tuner.attachment import attach, connect, cursor_factory
    from sona.tuner.dag.bank import DagReasoningBank
    from sona.tuner.dag.engine import DagSonaEngine
    from sona.tuner.dag.micro import DagMicroLoRA
    from sona.tuner.dag.pattern import DagPattern
    from sona.tuner.dag.quality import Objective
    from sona.tuner.dag.results import DagSonaMetrics, DefaultWithAdaptation, PatternApplied
    from sona.tuner.dag.selector import AttentionSelector
    from sona.tuner.dag.trajectories import DagTrajectory, DagTrajectoryBuffer
    from sona.tuner.dag.worker import DagWorker
    from sona.tuner.embedded import EmbeddedServer
    from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams
    from sona.tuner.plans.operators import Operator
    from sona.tuner.plans.plan import NeuralDagPlan
    from sona.tuner.report import TunerReport
    from sona.tuner.run import run_workload
    from sona.tuner.searches.policy import SearchPolicy
    from sona.tuner.statements.statement import Statement, read_statement
    from sona.tuner.statements.workload import read_workload
    from sona.tuner.tuner import Tuner

__all__ = [
    "AttentionSelector",
    "AttentionType",
    "DagMicroLoRA",
    "DagPattern",
    "DagReasoningBank",
    "DagSonaEngine",
    "DagSonaMetrics",
    "DagTrajectory",
    "DagTrajectoryBuffer",
    "DagWorker",
    "DefaultWithAdaptation",
    "EmbeddedServer",
    "ExecutionMetrics",
    "ExecutionParams",
    "NeuralDagPlan",
    "Objective",
    "Operator",
    "PatternApplied",
    "SearchPolicy",
    "Statement",
    "Tuner",
    "TunerReport",
    "attach",
    "connect",
    "cursor_factory",
    "read_statement",
    "read_workload",
    "run_workload",
]

_HOMES = {
    "AttentionSelector": "dag.selector",
    "AttentionType": "execution",
    "DagMicroLoRA": "dag.micro",
    "DagPattern": "dag.pattern",
    "DagReasoningBank": "dag.bank",
    "DagSonaEngine": "dag.engine",
    "DagSonaMetrics": "dag.results",
    "DagTrajectory": "dag.trajectories",
    "DagTrajectoryBuffer": "dag.trajectories",
    "DagWorker": "dag.worker",
    "DefaultWithAdaptation": "dag.results",
    "EmbeddedServer": "embedded",
    "ExecutionMetrics": "execution",
    "ExecutionParams": "execution",
    "NeuralDagPlan": "plans.plan",
    "Objective": "dag.quality",
    "Operator": "plans.operators",
    "PatternApplied": "dag.results",
    "SearchPolicy": "searches.policy",
    "Statement": "statements.statement",
    "Tuner": "tuner",
    "TunerReport": "report",
    "attach": "attachment",
    "connect": "attachment",
    "cursor_factory": "attachment",
    "read_statement": "statements.statement",
    "read_workload": "statements.workload",
    "run_workload": "run",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
