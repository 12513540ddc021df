"""The running Fisher information of the task in progress."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, contiguous
from sona.errors import LearningError
from sona.state import State

Doubles: TypeAlias = npt.NDArray[np.float64]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def to_float32(values: Doubles) -> Floats:
    """Return `values` as float32, clipped to its range instead of overflowing to infinity."""
    return np.clip(values, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)


class RunningFisher:
    """An exponential mean of squared gradients, corrected so that it is unbiased from the first update.

    Args:
        width: Number of parameters p.
        decay: Share kept per update, in [0, 1).

    Source:
        Chaudhry et al. 2018, Riemannian walk (EWC++); bias correction as in Kingma & Ba 2015, Adam, section 3.
    """

    __slots__ = ("_decay", "_examples", "_moment", "_steps")

    def __init__(self, width: int, decay: float) -> None:
        """Start without evidence: a Fisher of zero."""
        self._moment = np.zeros(width)
        self._decay = decay
        self._steps = 0
        self._examples = 0

    @property
    def steps(self) -> int:
        """Updates since the start of the task."""
        return self._steps

    @property
    def examples(self) -> int:
        """Per-example gradients seen since the start of the task."""
        return self._examples

    def update(self, gradients: Floats) -> None:
        """Blend the mean square of `gradients` (n, p), n at least 1, into the running mean."""
        blended = kernel.blend(self._moment, gradients, self._decay)
        if blended is None and kernel.blend(self._moment, contiguous(gradients), self._decay) is None:
            raise LearningError("the running Fisher cannot take these gradients; nothing was changed")
        self._steps += 1
        self._examples += int(gradients.shape[0])

    def value(self) -> Floats:
        """Return the bias-corrected Fisher, shape (p,); zero before the first update."""
        if self._steps == 0:
            return np.zeros(self._moment.shape[0], np.float32)
        return to_float32(self._moment / (1.0 - self._decay**self._steps))

    def reset(self) -> None:
        """Forget the evidence: a new task begins."""
        self._moment = np.zeros_like(self._moment)
        self._steps = 0
        self._examples = 0

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        return State({"moment": self._moment.copy(), "steps": self._steps, "examples": self._examples})

    @classmethod
    def from_state(cls, state: State, width: int, decay: float) -> RunningFisher:
        """Return the running Fisher that `state` describes."""
        fisher = cls(width, decay)
        fisher._moment = state.doubles("moment", width)
        fisher._steps = state.whole("steps")
        fisher._examples = state.whole("examples")
        return fisher
