"""Every setting: what it means, its unit, default, range and where the default comes from.

"spec" marks a default of the SONA specification; a bench is named where it decided otherwise.
"""

from sona.config.dreams import DREAM_RULES, DreamConfig, PhiConfig
from sona.config.engine import DeepSettings, SonaConfig
from sona.config.guard import GUARD_MODES, GuardConfig
from sona.config.loops import DEEP_STAGES, LOOP_MODES, BackgroundConfig, DeepConfig, InstantConfig, ScheduleConfig
from sona.config.memory import ConsolidationConfig, GraphConfig, PatternConfig, VoteConfig
from sona.config.retention import BoundaryConfig, EwcConfig
from sona.config.tuner import DagConfig, TunerConfig, VectorConfig

__all__ = [
    "DEEP_STAGES",
    "DREAM_RULES",
    "GUARD_MODES",
    "LOOP_MODES",
    "BackgroundConfig",
    "BoundaryConfig",
    "ConsolidationConfig",
    "DagConfig",
    "DeepConfig",
    "DeepSettings",
    "DreamConfig",
    "EwcConfig",
    "GraphConfig",
    "GuardConfig",
    "InstantConfig",
    "PatternConfig",
    "PhiConfig",
    "ScheduleConfig",
    "SonaConfig",
    "TunerConfig",
    "VectorConfig",
    "VoteConfig",
]
