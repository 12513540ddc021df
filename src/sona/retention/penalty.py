"""One quadratic around one anchor: what all remembered tasks together ask of the parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, contiguous
from sona.errors import LearningError
from sona.retention.fisher import Doubles, to_float32

_LEAST_RATE, _GREATEST_RATE = 1e-30, 1e30  # step sizes that float32 can work with


@dataclass(frozen=True, slots=True, eq=False)
class StepFactors:
    """What an implicit step needs for one strength and one step size; never changed, only replaced.

    Args:
        precision: F they were made for, by identity.
        strength: lambda they were made for.
        learning_rate: eta they were made for.
        pull: lambda F / (1 + eta lambda F), shape (p,), in [0, 1 / eta].
    """

    precision: Doubles
    strength: float
    learning_rate: float
    pull: Floats

    @property
    def is_narrow(self) -> bool:
        """True when float32 can work with the step size."""
        return _LEAST_RATE < self.learning_rate < _GREATEST_RATE

    def fits(self, penalty: QuadraticPenalty, strength: float, learning_rate: float) -> bool:
        """Return True when they were made for this penalty, strength and step size."""
        same = self.precision is penalty.precision and self.strength == strength
        return same and self.learning_rate == learning_rate


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticPenalty:
    """The penalty lambda/2 sum_i F_i (w_i - w*_i)^2; never changed, only replaced.

    Args:
        precision: Summed Fishers F, shape (p,), float64.
        anchor: Protected point w*, shape (p,).
    """

    precision: Doubles
    anchor: Floats

    def loss(self, weights: Floats, strength: float) -> float:
        """Return the penalty at `weights` (p,); zero at the anchor."""
        offset = weights.astype(np.float64) - self.anchor
        return 0.5 * strength * float(np.dot(self.precision, offset * offset))

    def gradient(self, weights: Floats, strength: float) -> Floats:
        """Return lambda F (w - w*), shape (p,); zero at the anchor, and descent along it leads there."""
        offset = weights.astype(np.float64) - self.anchor
        return to_float32(strength * self.precision * offset)

    def factors(self, strength: float, learning_rate: float) -> StepFactors:
        """Return the factors of an implicit step; finite for every strength and step size."""
        with np.errstate(divide="ignore", over="ignore"):  # without a Fisher no pull, with an infinite one all of it
            pull = 1.0 / (1.0 / (self.precision * strength) + learning_rate)
        return StepFactors(self.precision, strength, learning_rate, to_float32(pull))

    def constrain(self, factors: StepFactors, gradients: Floats, weights: Floats | None, out: Floats) -> None:
        """Write (g + lambda F (w - w*)) / (1 + eta lambda F) to `out`, which may be `gradients` itself.

        With pull = lambda F / (1 + eta lambda F) it is g + pull (w - w* - eta g): one factor to read, and where it
        is weak or strong nothing cancels that matters.

        Args:
            factors: From `factors` of this penalty.
            gradients: Descent gradients g, shape (p,).
            weights: Where the parameters stand, shape (p,); at the anchor when None.
            out: Result, shape (p,).
        """
        rate = factors.learning_rate
        if not factors.is_narrow:
            self._constrain_widely(factors, gradients, weights, out)
        elif kernel.constrain(gradients, weights, self.anchor, factors.pull, rate, out) is None:
            found = np.empty(out.shape, np.float32)  # strided, or `out` shares memory with what is read
            at = None if weights is None else contiguous(weights)
            if kernel.constrain(contiguous(gradients), at, contiguous(self.anchor), factors.pull, rate, found) is None:
                raise LearningError("the constraint cannot take these vectors; nothing was changed")
            np.copyto(out, found)

    def constrained(
        self, factors: StepFactors, gradients: npt.ArrayLike, weights: npt.ArrayLike | None
    ) -> Floats | None:
        """Return what `constrain` writes, of arrays nobody checked; None when they have to be, or are not finite."""
        if not factors.is_narrow:
            return None
        return kernel.constrain(gradients, weights, self.anchor, factors.pull, factors.learning_rate, None)

    def _constrain_widely(self, factors: StepFactors, gradients: Floats, weights: Floats | None, out: Floats) -> None:
        with np.errstate(over="ignore"):
            divisor = 1.0 + factors.learning_rate * (factors.strength * self.precision)
            wanted = gradients.astype(np.float64)
            if weights is not None:
                wanted += factors.strength * self.precision * (weights.astype(np.float64) - self.anchor)
            np.copyto(out, to_float32(wanted / divisor))
