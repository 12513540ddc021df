"""A sum watched for ever: bounds on what it would be without chance, valid at every moment at once.

Let W be a value and P its prediction, made before W was drawn, with residual r = W - P >= -c. For every rate l in
[0, 1/c)

    exp( l (W - E[W | past])  -  h(l c) (l r)^2 ),      h(u) = (-log(1 - u) - u) / u^2,

has mean at most 1 given the past, so the product over time is a supermartingale. So is a mixture over a grid of
rates with fixed weights, and by Ville's inequality it ever exceeds 1/alpha with a chance of at most alpha. Solved for
sum E[W | past], this bounds the running sum of means, which may change over time in any way. As every rate keeps its
own sum of h(l c) (l r)^2, the bound c may change from value to value.

Sources: Fan, Grama, Liu 2015, Exponential inequalities for martingales with applications (the inequality);
Howard, Ramdas, McAuliffe, Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences, theorem 4
(predictions), section 3.2 (mixtures); Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro 2022 (off-policy use).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.errors import InvalidValue
from sona.state import State

Doubles = npt.NDArray[np.float64]

RATES = 28
_LARGEST, _RATIO = 0.95, 0.75  # the rates are .95, .71, .53 ... 4e-4 over the greatest c
_SMALL = 1e-4


@dataclass(frozen=True, slots=True)
class Step:
    """One value, its residual from a prediction made before it, and how far the residual could have gone.

    Args:
        value: W.
        residual: W minus its prediction; at least -`below`, at most `above`.
        below: Bound c of the residual downwards, known before the value.
        above: The same upwards.
    """

    value: float
    residual: float
    below: float
    above: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """A sum, and bounds on what it would be without chance."""

    total: float
    low: float
    high: float


def _weights() -> Doubles:
    raw = 1.0 / (np.arange(RATES) + 3.0)
    weights: Doubles = raw / raw.sum()
    return weights


_LOG_WEIGHTS = np.log(_weights())
_NO_COST: Doubles = np.zeros((2, RATES))


def sharpness(u: Doubles) -> Doubles:
    """Return h(u) = (-log(1 - u) - u) / u^2 for u in [0, 1), which grows from 1/2; below 1e-4, h(1e-4), 3e-5 above it.

    >>> sharpness(np.array([0.0, 0.5])).round(4).tolist()
    [0.5, 0.7726]
    """
    u = np.maximum(u, _SMALL)
    found: Doubles = (-np.log1p(-u) - u) / (u * u)
    return found


class Sequence:
    """The running sum of values of bounded residuals, with bounds that hold at every moment at once.

    Args:
        reach: Greatest `below` or `above` a step may ever have.
    """

    __slots__ = ("_costs", "_rates", "_reach", "_total", "_variance", "count")

    def __init__(self, reach: float) -> None:
        """Start empty."""
        self._reach = reach
        self._rates: Doubles = _LARGEST / reach * np.power(_RATIO, np.arange(RATES, dtype=np.float64))
        self._total = self._variance = 0.0
        self._costs: Doubles = np.zeros((2, RATES))  # what chance costs at each rate, downwards and upwards
        self.count = 0

    @property
    def total(self) -> float:
        """Sum of the values."""
        return self._total

    @property
    def variance(self) -> float:
        """Sum of the squared residuals: the variance of the total, estimated."""
        return self._variance

    def add(self, step: Step) -> None:
        """Add a value.

        Raises:
            InvalidValue: a residual or a bound farther out than promised.
        """
        self._check(step)
        self._total += step.value
        self._variance += step.residual**2
        if step.residual != 0.0:
            self._charge(self._costs, step)
        self.count += 1

    def replace(self, old: Step, new: Step) -> None:
        """Put `new` in the place of `old`, a step added before; the bounds of both are those of the prediction."""
        self._check(new)
        self._total += new.value - old.value
        self._variance = max(self._variance + new.residual**2 - old.residual**2, 0.0)
        self._costs = np.maximum(self._costs + (self._cost(new) - self._cost(old)), 0.0)

    def _check(self, step: Step) -> None:
        slack = 1e-9 * (1.0 + self._reach)
        is_inside = -step.below - slack <= step.residual <= step.above + slack
        if not is_inside or not max(step.below, step.above) <= self._reach + slack:
            raise InvalidValue(f"step: expected a residual within its bounds and those within {self._reach}: {step}")

    def _cost(self, step: Step) -> Doubles:
        if step.residual == 0.0:
            return _NO_COST
        cost: Doubles = np.zeros((2, RATES))
        self._charge(cost, step)
        return cost

    def _charge(self, costs: Doubles, step: Step) -> None:
        if kernel.charge(costs, self._rates, step.residual, step.below, step.above) is None:
            raise InvalidValue(f"costs: expected {costs.shape} float64 numbers that may be changed")

    def bounds(self, level_low: float, level_high: float) -> Bounds:
        """Return bounds on the sum of means; each is ever wrong with a chance of at most its level, in (0, 1)."""
        low = self._total - deviation(self._rates, self._costs[0], level_low)
        return Bounds(self._total, low, self._total + deviation(self._rates, self._costs[1], level_high))

    def after(self, step: Step, times: float) -> Sequence:
        """Return the sequence as it would be after `times` more steps like `step` on average."""
        later = Sequence(self._reach)
        later._total = self._total + times * step.value
        later._costs = self._costs + times * self._cost(step)
        later.count = self.count + 1
        return later

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        sums = np.array([self._total, self._variance])
        return State({"sums": sums, "count": self.count, "costs": self._costs.copy()})

    @classmethod
    def from_state(cls, state: State, reach: float) -> Sequence:
        """Return the sequence that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        sequence = cls(reach)
        sequence._total, sequence._variance = state.doubles("sums", 2).tolist()
        sequence.count = state.whole("count")
        sequence._costs = state.doubles("costs", 2, RATES).copy()
        return sequence


def deviation(rates: Doubles, costs: Doubles, level: float) -> float:
    """Return the s at which the mixture sum_k w_k exp(rate_k s - cost_k) reaches 1 / `level`.

    Newton's method from the right: the logarithm of the mixture is convex and rises, so every step stays right of s.
    """
    found = kernel.deviation(_LOG_WEIGHTS, rates, costs, -math.log(level))
    if found is None:
        raise InvalidValue(f"costs: expected one for each of {RATES} rates, got {costs.shape} for {rates.shape}")
    return found
