"""The engine: one request from question to lesson."""

from sona.engine.core import SonaEngine
from sona.engine.metrics import SonaMetrics

__all__ = ["SonaEngine", "SonaMetrics"]
