"""What learned answers change, from requests that a keyed draw gave one answer or the other.

Every compared request estimates its own effect without bias (see `trial.weighed`). A comparison keeps a weighted sum
of those effects, with bounds that hold at every moment at once. Two weights are in use, with e the exposure:

- `contested`, e (1 - e): requests count by how open it was which answer they got. Chance then has least to say, and
  no residual goes farther than 1, whatever share is held out. The mean with these weights is the lift: while the
  exposure stays as it is, the plain mean of what a learned answer earns more than the frozen one.
- `exposed`, e: the sum is what showing learned answers has gained, all in all; the budget goes by it.

Two reductions of chance are exact, and taken on the first visit of a unit. Identical lists have no effect. What a
common beginning earns is the same under either list as long as what people do there does not depend on what follows,
so only the surplus is compared, and it is at most 1 / (prefix + 1). On later visits they would mislead: a unit that
is not held out may have taught what it is shown, so its lists differ for another reason than those of a held-out
unit; then the whole quality is compared.

The visits of a unit are compared in layers (see `visits`), each with a share of the level, and the bounds add up. For
later visits this takes it that one unit alone hardly moves the exposure.

Sources: Li, Morgan, Zaslavsky 2018, Balancing Covariates via Propensity Score Weighting (weights e (1 - e)).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from sona.errors import StoreError
from sona.guard.layers import Group, Layer, groups_from_state, groups_state
from sona.guard.sequence import Bounds, Step
from sona.guard.trial import Expected, Trial, Weighed, weighed
from sona.guard.visits import CAPACITY, layer_of, share_of, size_of
from sona.state import Plain, State

_MOST_MORE = 2**40


class Weights(enum.StrEnum):
    """What a request counts for."""

    CONTESTED = "contested"
    EXPOSED = "exposed"


@dataclass(frozen=True, slots=True)
class Lift:
    """A weighted mean effect with its interval.

    Args:
        trials: Compared requests behind it.
        value: The estimate; None before anything was compared.
        low: Lower bound, at least -1.
        high: Upper bound, at most 1.
    """

    trials: int
    value: float | None
    low: float
    high: float


class Comparison:
    """Estimates what learned answers gain, with bounds that are valid whenever one looks.

    Args:
        weights: What a request counts for.
        reach: Greatest odds of exposure, exposure / (1 - exposure), there will ever be; for weights `exposed` only.
    """

    def __init__(self, weights: Weights = Weights.CONTESTED, reach: float = 1.0) -> None:
        """Start without evidence."""
        self.weights = weights
        self.reach = max(1.0, reach) if weights is Weights.EXPOSED else 1.0
        self._layers: dict[int, Layer] = {}
        self._groups: dict[int, Group] = {}
        self._trials = 0
        self._spread = [0.0, 0.0]  # squared residuals of the frozen and the learned arm
        self._seen = [0, 0]

    @property
    def trials(self) -> int:
        """Compared requests, those of unfinished groups among them."""
        return self._trials

    def observe(self, trial: Trial) -> Expected:
        """Count a trial; return what was expected of it, to be given back when it is amended."""
        layer = self._layer(layer_of(trial.visit))
        known = _said(trial)
        expected = Expected(*layer.means.predicted(known.prefix))
        one = self._weighed(known, expected)
        self._place(trial, one)
        if not known.is_identical:
            layer.means.add(known.arm, known.prefix, known.surplus)
            self._spread[known.arm] += _square(known, expected)
        self._seen[known.arm] += 1
        self._trials += 1
        return expected

    def _weighed(self, trial: Trial, expected: Expected) -> Weighed:
        is_contested = self.weights is Weights.CONTESTED
        return weighed(trial, expected, trial.exposure * (1.0 - trial.exposure if is_contested else 1.0))

    def amend(self, old: Trial, new: Trial, expected: Expected) -> None:
        """Move every sum by what an amended outcome changes; all but quality and common are those of `old`."""
        before, after = _said(old), _said(new)
        if before.is_identical:
            return
        layer = self._layer(layer_of(old.visit))
        layer.means.add(before.arm, before.prefix, after.surplus - before.surplus, count=0.0)
        self._spread[before.arm] += _square(after, expected) - _square(before, expected)
        self._put_right(old, self._weighed(before, expected).step, self._weighed(after, expected).step)

    def _layer(self, number: int) -> Layer:
        if number not in self._layers:
            self._layers[number] = Layer(self.reach)
        return self._layers[number]

    def _place(self, trial: Trial, one: Weighed) -> None:
        number = layer_of(trial.visit)
        layer = self._layers[number]
        if size_of(number) == 1:
            layer.band(one.step).count(one)
            return
        group = self._groups.pop(trial.unit, None)
        is_open = group is not None and group.layer == number and not group.is_complete
        group = group.grown(one) if group is not None and is_open else Group(number, 1, one)
        self._groups[trial.unit] = group
        if len(self._groups) > CAPACITY:
            del self._groups[next(iter(self._groups))]
        if group.is_complete:
            mean = group.mean()
            layer.band(mean.step).count(mean)

    def _put_right(self, trial: Trial, old: Step, new: Step) -> None:
        number = layer_of(trial.visit)
        layer = self._layers[number]
        if size_of(number) == 1:
            layer.band(old).sequence.replace(old, new)
            return
        group = self._groups.get(trial.unit)
        if group is None or group.layer != number:
            return  # a group of long ago: it stays as it was counted
        moved = group.moved(new.value - old.value)
        if group.is_complete:
            before = group.mean().step
            layer.band(before).sequence.replace(before, moved.mean().step)
        self._groups[trial.unit] = moved

    def gain(self, level_low: float, level_high: float) -> Bounds:
        """Return the sum with bounds; each is ever wrong with a chance of at most its level, in (0, 1)."""
        found = [
            layer.bounds(level_low * share_of(number), level_high * share_of(number))
            for number, layer in sorted(self._layers.items())
            if not layer.is_empty
        ]
        return Bounds(sum(b.total for b in found), sum(b.low for b in found), sum(b.high for b in found))

    def lift(self, alpha: float) -> Lift:
        """Return the mean with a two-sided interval that ever misses with a chance of at most `alpha`."""
        gain, weight = self.gain(alpha / 2.0, alpha / 2.0), self.weight
        if weight == 0.0:
            return Lift(self._trials, None, -1.0, 1.0)
        value = min(max(gain.total / weight, -1.0), 1.0)
        return Lift(self._trials, value, max(gain.low / weight, -1.0), min(gain.high / weight, 1.0))

    @property
    def weight(self) -> float:
        """Sum of the weights of what is counted."""
        return sum(band.weight for _, layer in sorted(self._layers.items()) for band in layer.bands)

    @property
    def error(self) -> float:
        """Standard error of the sum; visits of one unit are taken to err together."""
        layers = (layer for _, layer in sorted(self._layers.items()))
        return sum(math.sqrt(sum(band.sequence.variance for band in layer.bands)) for layer in layers)

    @property
    def total(self) -> float:
        """The sum itself."""
        return sum(band.sequence.total for _, layer in sorted(self._layers.items()) for band in layer.bands)

    @property
    def noise(self) -> float:
        """Mean squared residual of an outcome; that of a fair coin counts as 20 outcomes."""
        return (sum(self._spread) + 20 * 0.25) / (sum(self._seen) + 20)

    def required(self, alpha: float, exposure: float) -> int | None:
        """Return how many more requests, of units not seen before, would show the observed lift; None if none would.

        None too when it is shown already. Takes the lift and the variances to stay, and `exposure` from now on.
        """
        lift = self.lift(alpha)
        if not lift.value or not 0.0 < exposure < 1.0 or lift.low > 0.0 or lift.high < 0.0:
            return None
        one = self._typical(lift.value, exposure)

        def is_shown(times: int) -> bool:
            found = self._after(one, times, alpha / 2.0)
            return found.low > 0.0 or found.high < 0.0

        more = 1
        while not is_shown(more):
            more *= 2
            if more > _MOST_MORE:
                return None
        low = more // 2
        while more - low > max(1, more // 100):
            middle = (low + more) // 2
            low, more = (low, middle) if is_shown(middle) else (middle, more)
        return more

    def _typical(self, lift: float, exposure: float) -> Weighed:
        weight = exposure * (1.0 - exposure)
        frozen, learned = (spread / max(seen, 1) for spread, seen in zip(self._spread, self._seen, strict=True))
        square = weight * ((1.0 - exposure) * learned + exposure * frozen)
        return Weighed(Step(weight * lift, min(math.sqrt(square), 1.0), 1.0, 1.0), weight, weight)

    def _after(self, one: Weighed, times: int, level: float) -> Bounds:
        own, nothing = level * share_of(0), Bounds(0.0, 0.0, 0.0)
        first = self._layers.get(0) or Layer(self.reach)
        later = first.after(one, times).bounds(own, own)
        now = nothing if first.is_empty else first.bounds(own, own)
        whole = self.gain(level, level)
        return Bounds(later.total, whole.low - now.low + later.low, whole.high - now.high + later.high)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "weights": self.weights.value,
                "reach": self.reach,
                "layers": State({str(number): layer.state() for number, layer in self._layers.items()}),
                "groups": groups_state(self._groups),
                "trials": self._trials,
                "seen": np.array(self._seen, np.int64),
                "sums": np.array(self._spread),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Comparison:
        """Return the comparison that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        weights, reach = state.text("weights"), state.number("reach")
        if weights not in set(Weights) or not reach >= 1.0:
            raise StoreError(f"saved state: weights {weights} of reach {reach} are none of a comparison")
        comparison = cls(Weights(weights), reach)
        layers = state.child("layers")
        for name, value in layers.items():
            if not name.isdecimal() or not isinstance(value, State):
                raise StoreError(f"saved state: {name} is no layer")
            comparison._layers[int(name)] = Layer.from_state(layers.child(name), comparison.reach)
        comparison._groups = groups_from_state(state.child("groups"))
        comparison._trials = state.whole("trials")
        comparison._seen = state.wholes("seen", 2).tolist()
        comparison._spread = state.doubles("sums", 2).tolist()
        return comparison


def _said(trial: Trial) -> Trial:
    return trial if trial.visit == 1 else trial.whole()


def _square(trial: Trial, expected: Expected) -> float:
    mean = expected.learned if trial.is_learned else expected.frozen
    return (trial.surplus - mean) ** 2


@dataclass(frozen=True, slots=True)
class Noted:
    """What one comparison expected of a trial; `serial` says which comparison."""

    serial: int
    expected: Expected


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the guard remembers of a request, so that its outcome may be amended.

    Args:
        trial: The request as it was last told.
        expected: What the whole comparison expected of it.
        quality_expected: The same of its whole quality.
        pattern: What the comparison of its pattern expected of it.
        watch: What the watch over its version expected of it.
    """

    trial: Trial
    expected: Expected
    quality_expected: Expected
    pattern: Noted | None = None
    watch: Noted | None = None

    def plain(self) -> list[Plain]:
        """Return it as a list of plain values."""
        one, two, three = self.trial, self.expected, self.quality_expected
        expected = [two.learned, two.frozen, three.learned, three.frozen]
        noted = [_plain(self.pattern), _plain(self.watch)]
        flags = [one.is_learned, one.is_identical]
        return [[one.unit, one.visit, one.prefix], [one.exposure, one.quality, one.common], expected, flags, *noted]

    @classmethod
    def from_plain(cls, plain: Plain) -> Testimony:
        """Return the testimony that `plain` returned.

        Raises:
            StoreError: it is damaged.
        """
        wholes, numbers, expected, flags, pattern, watch = _listed(plain, 6)
        unit, visit, prefix = (_whole(value) for value in _listed(wholes, 3))
        exposure, quality, common = (_number(value) for value in _listed(numbers, 3))
        m1, m0, q1, q0 = (_number(value) for value in _listed(expected, 4))
        is_learned, is_identical = (bool(value) for value in _listed(flags, 2))
        trial = Trial(
            unit, visit, is_learned, exposure, quality, common=common, prefix=prefix, is_identical=is_identical
        )
        return cls(trial, Expected(m1, m0), Expected(q1, q0), _noted(pattern), _noted(watch))


def _plain(noted: Noted | None) -> Plain:
    return None if noted is None else [noted.serial, noted.expected.learned, noted.expected.frozen]


def _noted(plain: Plain) -> Noted | None:
    if plain is None:
        return None
    serial, learned, frozen = _listed(plain, 3)
    return Noted(_whole(serial), Expected(_number(learned), _number(frozen)))


def _listed(plain: Plain, length: int) -> list[Plain]:
    if not isinstance(plain, list | tuple) or len(plain) != length:
        raise StoreError(f"saved state: a testimony should hold {length} values, holds {plain!r}")
    return list(plain)


def _whole(plain: Plain) -> int:
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise StoreError(f"saved state: a testimony should hold a whole number, holds {plain!r}")
    return plain


def _number(plain: Plain) -> float:
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise StoreError(f"saved state: a testimony should hold a number, holds {plain!r}")
    return float(plain)
