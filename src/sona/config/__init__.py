"""Every setting: what it means, its unit, default, range and where the default comes from.

"spec" marks a default of the SONA specification; a bench is named where it decided otherwise.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sona.config.dreams import DREAM_RULES, DreamConfig, PhiConfig
from sona.config.engine import DeepSettings, SonaConfig
from sona.config.guard import GUARD_MODES, GuardConfig
from sona.config.loops import DEEP_STAGES, LOOP_MODES, BackgroundConfig, DeepConfig, InstantConfig, ScheduleConfig
from sona.config.memory import ConsolidationConfig, GraphConfig, PatternConfig, VoteConfig
from sona.config.retention import BoundaryConfig, EwcConfig

if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    # Settings of the tuner: an engine's user does not wait for them.
    if name in ("DagConfig", "TunerConfig", "VectorConfig"):
        return getattr(import_module("sona.config.tuner"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
