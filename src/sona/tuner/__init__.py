"""DAG-SONA: a stock PostgreSQL that learns, per query pattern, which settings to run a query with.

A name is imported when it is asked for: plans and what is learned from them need numpy alone, attaching needs psycopg.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sona.tuner.attachment import attach, connect, cursor_factory
    from sona.tuner.embedded import EmbeddedServer
    from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams
    from sona.tuner.plan import NeuralDagPlan
    from sona.tuner.tuner import Tuner

__all__ = [
    "AttentionType",
    "EmbeddedServer",
    "ExecutionMetrics",
    "ExecutionParams",
    "NeuralDagPlan",
    "Tuner",
    "attach",
    "connect",
    "cursor_factory",
]

_HOMES = {
    "AttentionType": "execution",
    "EmbeddedServer": "embedded",
    "ExecutionMetrics": "execution",
    "ExecutionParams": "execution",
    "NeuralDagPlan": "plan",
    "Tuner": "tuner",
    "attach": "attachment",
    "connect": "attachment",
    "cursor_factory": "attachment",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
