"""What must not be forgotten: EWC++ and the task-boundary test."""

from sona.retention.boundary import BoundaryDetector, BoundaryResult
from sona.retention.ewc import EwcPlusPlus
from sona.retention.results import Consolidation, FisherUpdate, Rebase, TaskChange
from sona.retention.tasks import ProtectedTask

__all__ = [
    "BoundaryDetector",
    "BoundaryResult",
    "Consolidation",
    "EwcPlusPlus",
    "FisherUpdate",
    "ProtectedTask",
    "Rebase",
    "TaskChange",
]
