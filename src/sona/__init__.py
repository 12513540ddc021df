"""SONA: a layer that makes a running system learn from every request.

A name is imported when it is asked for: whoever wants one part waits for that part alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sona.adapters.base_lora import BaseLoRA, FitResult
    from sona.adapters.micro_lora import MicroLoRA
    from sona.adapters.signal import LearningSignal, RunningBaseline, SignalMetadata
    from sona.adapters.statistics import RidgeStatistics
    from sona.config import (
        BackgroundConfig,
        BoundaryConfig,
        ConsolidationConfig,
        DeepConfig,
        DeepSettings,
        DreamConfig,
        EwcConfig,
        GraphConfig,
        GuardConfig,
        InstantConfig,
        PatternConfig,
        PhiConfig,
        ScheduleConfig,
        SonaConfig,
        VoteConfig,
    )
    from sona.dreams.dream import Dream, DreamEngine
    from sona.dreams.phi import PhiEvaluator, PhiResult
    from sona.engine import SonaEngine, SonaMetrics
    from sona.errors import (
        ConfigError,
        DimensionMismatch,
        InvalidValue,
        LearningError,
        MemoryGraphError,
        MissingExtra,
        PatternExtractionError,
        SonaError,
        StateError,
        StoreError,
        UnknownTrajectory,
    )
    from sona.loops.background import BackgroundLoop, BackgroundResult
    from sona.loops.coordinator import LoopCoordinator, TickResult
    from sona.loops.deep import DeepLoop
    from sona.loops.deep_cycle import DeepResult
    from sona.loops.instant import InstantLoop, InstantMetrics, InstantResult
    from sona.memory.calibrate import Calibrator, Gains
    from sona.memory.consolidate import ConsolidationPlan
    from sona.memory.graph import MemoryGraph
    from sona.memory.nodes import Edge, EdgeKind, MemoryNode
    from sona.memory.votes import Showing, VoteMemory
    from sona.patterns.bank import ReasoningBank
    from sona.patterns.catalog import PatternMatch
    from sona.patterns.extract import ExtractionResult
    from sona.patterns.hierarchy import Hierarchy
    from sona.patterns.verdict import Verdict
    from sona.retention.boundary import BoundaryDetector, BoundaryResult
    from sona.retention.ewc import EwcPlusPlus
    from sona.text.embed import CallableEmbedder, Embedder, LsaEmbedder
    from sona.text.respond import MemoryResponder, Responder
    from sona.trajectory import TrajectoryBuffer, TrajectoryBuilder, TrajectoryIds
    from sona.types import (
        Context,
        FeedbackOutcome,
        FeedbackResult,
        LearnedPattern,
        QueryTrajectory,
        Ranking,
        Response,
        Source,
        TrajectoryStep,
    )

__version__ = "0.1.0"

__all__ = [
    "BackgroundConfig",
    "BackgroundLoop",
    "BackgroundResult",
    "BaseLoRA",
    "BoundaryConfig",
    "BoundaryDetector",
    "BoundaryResult",
    "Calibrator",
    "CallableEmbedder",
    "ConfigError",
    "ConsolidationConfig",
    "ConsolidationPlan",
    "Context",
    "DeepConfig",
    "DeepLoop",
    "DeepResult",
    "DeepSettings",
    "DimensionMismatch",
    "Dream",
    "DreamConfig",
    "DreamEngine",
    "Edge",
    "EdgeKind",
    "Embedder",
    "EwcConfig",
    "EwcPlusPlus",
    "ExtractionResult",
    "FeedbackOutcome",
    "FeedbackResult",
    "FitResult",
    "Gains",
    "GraphConfig",
    "GuardConfig",
    "Hierarchy",
    "InstantConfig",
    "InstantLoop",
    "InstantMetrics",
    "InstantResult",
    "InvalidValue",
    "LearnedPattern",
    "LearningError",
    "LearningSignal",
    "LoopCoordinator",
    "LsaEmbedder",
    "MemoryGraph",
    "MemoryGraphError",
    "MemoryNode",
    "MemoryResponder",
    "MicroLoRA",
    "MissingExtra",
    "PatternConfig",
    "PatternExtractionError",
    "PatternMatch",
    "PhiConfig",
    "PhiEvaluator",
    "PhiResult",
    "QueryTrajectory",
    "Ranking",
    "ReasoningBank",
    "Responder",
    "Response",
    "RidgeStatistics",
    "RunningBaseline",
    "ScheduleConfig",
    "Showing",
    "SignalMetadata",
    "SonaConfig",
    "SonaEngine",
    "SonaError",
    "SonaMetrics",
    "Source",
    "StateError",
    "StoreError",
    "TickResult",
    "TrajectoryBuffer",
    "TrajectoryBuilder",
    "TrajectoryIds",
    "TrajectoryStep",
    "UnknownTrajectory",
    "Verdict",
    "VoteConfig",
    "VoteMemory",
    "__version__",
]

_HOMES = {
    "sona.adapters.base_lora": "BaseLoRA FitResult",
    "sona.adapters.micro_lora": "MicroLoRA",
    "sona.adapters.signal": "LearningSignal RunningBaseline SignalMetadata",
    "sona.adapters.statistics": "RidgeStatistics",
    "sona.config": (
        "BackgroundConfig BoundaryConfig ConsolidationConfig DeepConfig DeepSettings DreamConfig EwcConfig "
        "GraphConfig GuardConfig InstantConfig PatternConfig PhiConfig ScheduleConfig SonaConfig VoteConfig"
    ),
    "sona.dreams.dream": "Dream DreamEngine",
    "sona.dreams.phi": "PhiEvaluator PhiResult",
    "sona.engine": "SonaEngine SonaMetrics",
    "sona.errors": (
        "ConfigError DimensionMismatch InvalidValue LearningError MemoryGraphError MissingExtra "
        "PatternExtractionError SonaError StateError StoreError UnknownTrajectory"
    ),
    "sona.loops.background": "BackgroundLoop BackgroundResult",
    "sona.loops.coordinator": "LoopCoordinator TickResult",
    "sona.loops.deep": "DeepLoop",
    "sona.loops.deep_cycle": "DeepResult",
    "sona.loops.instant": "InstantLoop InstantMetrics InstantResult",
    "sona.memory.calibrate": "Calibrator Gains",
    "sona.memory.consolidate": "ConsolidationPlan",
    "sona.memory.graph": "MemoryGraph",
    "sona.memory.nodes": "Edge EdgeKind MemoryNode",
    "sona.memory.votes": "Showing VoteMemory",
    "sona.patterns.bank": "ReasoningBank",
    "sona.patterns.catalog": "PatternMatch",
    "sona.patterns.extract": "ExtractionResult",
    "sona.patterns.hierarchy": "Hierarchy",
    "sona.patterns.verdict": "Verdict",
    "sona.retention.boundary": "BoundaryDetector BoundaryResult",
    "sona.retention.ewc": "EwcPlusPlus",
    "sona.text.embed": "CallableEmbedder Embedder LsaEmbedder",
    "sona.text.respond": "MemoryResponder Responder",
    "sona.trajectory": "TrajectoryBuffer TrajectoryBuilder TrajectoryIds",
    "sona.types": (
        "Context FeedbackOutcome FeedbackResult LearnedPattern QueryTrajectory Ranking Response Source TrajectoryStep"
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Return a public name, importing it now."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, those not imported yet among them."""
    return sorted({*globals(), *__all__})
