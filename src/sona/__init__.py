"""SONA: a layer that makes a running system learn from every request."""

from sona.adapters.base_lora import BaseLoRA, FitResult
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal, RunningBaseline, SignalMetadata
from sona.adapters.statistics import RidgeStatistics
from sona.config import (
    BackgroundConfig,
    BoundaryConfig,
    EwcConfig,
    GuardConfig,
    InstantConfig,
    PatternConfig,
    SonaConfig,
    VoteConfig,
)
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
from sona.loops.instant import InstantLoop, InstantMetrics, InstantResult
from sona.memory.calibrate import Calibrator, Gains
from sona.memory.votes import Showing, VoteMemory
from sona.patterns.bank import ReasoningBank
from sona.patterns.catalog import PatternMatch
from sona.patterns.extract import ExtractionResult
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
    "Context",
    "DimensionMismatch",
    "Embedder",
    "EwcConfig",
    "EwcPlusPlus",
    "ExtractionResult",
    "FeedbackOutcome",
    "FeedbackResult",
    "FitResult",
    "Gains",
    "GuardConfig",
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
    "MemoryGraphError",
    "MemoryResponder",
    "MicroLoRA",
    "MissingExtra",
    "PatternConfig",
    "PatternExtractionError",
    "PatternMatch",
    "QueryTrajectory",
    "Ranking",
    "ReasoningBank",
    "Responder",
    "Response",
    "RidgeStatistics",
    "RunningBaseline",
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
