"""Low-rank corrections of a vector, and the signals that train them."""

from sona.adapters.base_lora import BaseLoRA, FitResult, LoraLayer
from sona.adapters.factors import Constraint, LoraGradient, LoraWeights
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal, RunningBaseline, SignalMetadata, difference
from sona.adapters.statistics import RidgeStatistics

__all__ = [
    "BaseLoRA",
    "Constraint",
    "FitResult",
    "LearningSignal",
    "LoraGradient",
    "LoraLayer",
    "LoraWeights",
    "MicroLoRA",
    "RidgeStatistics",
    "RunningBaseline",
    "SignalMetadata",
    "difference",
]
