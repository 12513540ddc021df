"""What learned answers change, from requests that a keyed draw gave one answer or the other.

Every compared request adds W = exposure times its doubly robust effect (see `trial.weighed`); the gain is the sum of
W, the lift is the gain over the sum of exposures: what a learned answer earns more than the frozen one would have,
on average over the learned answers shown. Both come with bounds that hold at every moment at once.

Two reductions of chance are exact, and taken on the first visit of a unit. Identical lists have no effect. What a
common beginning earns is the same under either list as long as what people do there does not depend on what follows,
so only the surplus is compared, and it is at most 1 / (prefix + 1). On later visits they would mislead: a unit that
is not held out may have taught what it is shown, so its lists differ for another reason than those of a held-out
unit; then the whole quality is compared.

The visits of a unit are compared in layers (see `visits`), each with a share of the level, and the bounds add up. For
later visits this takes it that one unit alone hardly moves the exposure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sona.errors import StoreError
from sona.guard.layers import Group, Layer, groups_from_state, groups_state
from sona.guard.sequence import Bounds, Step
from sona.guard.trial import Expected, Trial, weighed
from sona.guard.visits import CAPACITY, layer_of, share_of, size_of
from sona.state import Plain, State

_MOST_MORE = 2**30


@dataclass(frozen=True, slots=True)
class Lift:
    """What a learned answer earns more than the frozen one, on average over the learned answers shown.

    Args:
        trials: Compared requests behind it.
        value: The estimate; None before anything was exposed.
        low: Lower bound, in [-1, 1].
        high: Upper bound.
        exposed: Sum of the exposures.
    """

    trials: int
    value: float | None
    low: float
    high: float
    exposed: float


class Comparison:
    """Estimates what learned answers gain, with bounds that are valid whenever one looks.

    Args:
        reach: Greatest odds of exposure, exposure / (1 - exposure), there will ever be; at least 1.
    """

    def __init__(self, reach: float) -> None:
        """Start without evidence."""
        self.reach = max(1.0, reach)
        self._layers: dict[int, Layer] = {}
        self._groups: dict[int, Group] = {}
        self._trials = 0
        self._stake = 0.0
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
        learned, frozen = layer.means.predicted(known.prefix)
        expected = Expected(learned, frozen)
        step = weighed(known, expected)
        stake = 0.0 if known.is_identical else trial.exposure * frozen
        self._place(trial, step, stake)
        if not known.is_identical:
            layer.means.add(known.arm, known.prefix, known.surplus)
            self._spread[known.arm] += _square(known, expected)
        self._seen[known.arm] += 1
        self._trials += 1
        self._stake += stake
        return expected

    def amend(self, old: Trial, new: Trial, expected: Expected) -> None:
        """Move every sum by what an amended outcome changes; all but quality and common are those of `old`."""
        before, after = _said(old), _said(new)
        if before.is_identical:
            return
        layer = self._layer(layer_of(old.visit))
        first, second = weighed(before, expected), weighed(after, expected)
        layer.means.add(before.arm, before.prefix, after.surplus - before.surplus, count=0.0)
        self._spread[before.arm] += _square(after, expected) - _square(before, expected)
        self._put_right(old, first, second)

    def _layer(self, number: int) -> Layer:
        if number not in self._layers:
            self._layers[number] = Layer(self.reach)
        return self._layers[number]

    def _place(self, trial: Trial, step: Step, stake: float) -> None:
        number = layer_of(trial.visit)
        if size_of(number) == 1:
            self._layers[number].count(step, trial.exposure, stake)
            return
        group = self._groups.pop(trial.unit, None)
        if group is None or group.layer != number:
            group = Group(number)
        group = group.grown(step, trial.exposure, stake)
        self._groups[trial.unit] = group
        if len(self._groups) > CAPACITY:
            del self._groups[next(iter(self._groups))]
        if group.is_complete:
            self._layers[number].count(group.mean(), group.exposed / group.count, group.stake / group.count)

    def _put_right(self, trial: Trial, old: Step, new: Step) -> None:
        number = layer_of(trial.visit)
        if size_of(number) == 1:
            self._layers[number].sequence.replace(old, new)
            return
        group = self._groups.get(trial.unit)
        if group is None or group.layer != number:
            return  # a group of long ago: it stays as it was counted
        moved = group.moved(new.value - old.value)
        if group.is_complete:
            self._layers[number].sequence.replace(group.mean(), moved.mean())
        self._groups[trial.unit] = moved

    def gain(self, level_low: float, level_high: float) -> Bounds:
        """Return the gain with bounds; each is ever wrong with a chance of at most its level, in (0, 1)."""
        found = [
            layer.bounds(level_low * share_of(number), level_high * share_of(number))
            for number, layer in sorted(self._layers.items())
            if layer.sequence.count
        ]
        return Bounds(sum(b.total for b in found), sum(b.low for b in found), sum(b.high for b in found))

    def lift(self, alpha: float) -> Lift:
        """Return the lift with a two-sided interval that ever misses with a chance of at most `alpha`."""
        gain, exposed = self.gain(alpha / 2.0, alpha / 2.0), self.exposed
        if exposed == 0.0:
            return Lift(self._trials, None, -1.0, 1.0, 0.0)
        return Lift(self._trials, gain.total / exposed, gain.low / exposed, gain.high / exposed, exposed)

    @property
    def exposed(self) -> float:
        """Sum of the exposures of what is counted."""
        return sum(layer.exposed for _, layer in sorted(self._layers.items()))

    def loss(self, level: float) -> float:
        """Return an upper bound at `level` of what learned answers have cost so far; at least 0.

        It is never more than what frozen lists are expected to have earned in their place; what waits in unfinished
        groups is taken for lost.
        """
        counted = sum(layer.stake for _, layer in sorted(self._layers.items()))
        waiting = max(self._stake - counted, 0.0)
        return min(self._stake, max(-self.gain(level, level).low, 0.0) + waiting)

    def required(self, alpha: float, exposure: float) -> int | None:
        """Return how many more requests, of units not seen before, would show the observed lift; None if none would.

        None too when it is shown already. Takes the lift and the variances to stay, and `exposure` from now on.
        """
        lift = self.lift(alpha)
        if not lift.value or not 0.0 < exposure < 1.0 or lift.low > 0.0 or lift.high < 0.0:
            return None
        step = self._typical(lift.value, exposure)
        sign = math.copysign(1.0, lift.value)

        def is_shown(times: int) -> bool:
            found = self._after(step, times, alpha / 2.0)
            return found.low > 0.0 if sign > 0.0 else found.high < 0.0

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

    def _typical(self, lift: float, exposure: float) -> Step:
        odds = exposure / (1.0 - exposure)
        learned, frozen = (
            spread / max(seen, 1) for spread, seen in zip(self._spread[::-1], self._seen[::-1], strict=True)
        )
        square = exposure * learned + (1.0 - exposure) * odds * odds * frozen
        bound = min(max(1.0, odds), self.reach)
        return Step(exposure * lift, min(math.sqrt(square), bound), bound, bound)

    def _after(self, step: Step, times: int, level: float) -> Bounds:
        own, nothing = level * share_of(0), Bounds(0.0, 0.0, 0.0)
        first = self._layers.get(0) or Layer(self.reach)
        later = first.sequence.after(step, times).bounds(own, own)
        now = first.bounds(own, own) if first.sequence.count else nothing
        whole = self.gain(level, level)
        return Bounds(later.total, whole.low - now.low + later.low, whole.high - now.high + later.high)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "reach": self.reach,
                "layers": State({str(number): layer.state() for number, layer in self._layers.items()}),
                "groups": groups_state(self._groups),
                "trials": self._trials,
                "seen": np.array(self._seen, np.int64),
                "sums": np.array([self._stake, *self._spread]),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> Comparison:
        """Return the comparison that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        comparison = cls(state.number("reach"))
        layers = state.child("layers")
        for name, value in layers.items():
            if not name.isdecimal() or not isinstance(value, State):
                raise StoreError(f"saved state: {name} is no layer")
            comparison._layers[int(name)] = Layer.from_state(layers.child(name))
        comparison._groups = groups_from_state(state.child("groups"))
        comparison._trials = state.whole("trials")
        comparison._seen = state.wholes("seen", 2).tolist()
        comparison._stake, *comparison._spread = state.doubles("sums", 3).tolist()
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
