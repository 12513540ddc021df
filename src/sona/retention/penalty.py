"""One quadratic around one anchor: what all remembered tasks together ask of the parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.checks import Floats
from sona.retention.fisher import Doubles, to_float32

_BLOCK = 16_384  # parameters worked on at a time, so that all operands stay in cache


@dataclass(frozen=True, slots=True, eq=False)
class StepFactors:
    """The two factors of an implicit step for one strength and one step size; never changed, only replaced.

    Args:
        precision: F they were made for, by identity.
        strength: lambda they were made for.
        learning_rate: eta they were made for.
        shrink: 1 / (1 + eta lambda F), shape (p,), in (0, 1].
        pull: lambda F / (1 + eta lambda F), shape (p,), in [0, 1 / eta).
    """

    precision: Doubles
    strength: float
    learning_rate: float
    shrink: Floats
    pull: Floats

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
        shrink, pull = np.empty_like(self.anchor), np.empty_like(self.anchor)
        for start in range(0, shrink.shape[0], _BLOCK):
            part = slice(start, start + _BLOCK)
            stiffness = self.precision[part] * strength
            with np.errstate(over="ignore"):  # an infinite divisor leaves no step, which is the limit
                divisor = stiffness * learning_rate
            divisor += 1.0
            shrink[part] = 1.0 / divisor
            pull[part] = to_float32(stiffness / divisor)
        return StepFactors(self.precision, strength, learning_rate, shrink, pull)

    def constrain(self, factors: StepFactors, gradients: Floats, weights: Floats | None, out: Floats) -> None:
        """Write (g + lambda F (w - w*)) / (1 + eta lambda F) to `out`, which may be `gradients` itself.

        Args:
            factors: From `factors` of this penalty.
            gradients: Descent gradients g, shape (p,).
            weights: Where the parameters stand, shape (p,); at the anchor when None.
            out: Result, shape (p,).
        """
        if weights is None:
            np.multiply(gradients, factors.shrink, out=out)
            return
        scratch = np.empty(min(_BLOCK, out.shape[0]), np.float32)
        for start in range(0, out.shape[0], _BLOCK):
            part = slice(start, start + _BLOCK)
            target = out[part]
            pull = scratch[: target.shape[0]]
            np.subtract(weights[part], self.anchor[part], out=pull)
            np.multiply(pull, factors.pull[part], out=pull)
            np.multiply(gradients[part], factors.shrink[part], out=target)
            np.add(target, pull, out=target)
