"""Visits that may be compared with each other: one evidence for first visits, one for second visits, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sona.errors import StoreError
from sona.guard.means import ArmMeans
from sona.guard.sequence import Bounds, Sequence, Step
from sona.guard.visits import size_of
from sona.state import State


@dataclass(frozen=True, slots=True)
class Group:
    """Visits of one unit in one layer so far, summed: what they gained, and what was expected."""

    layer: int
    count: int = 0
    value: float = 0.0
    residual: float = 0.0
    below: float = 0.0
    above: float = 0.0
    exposed: float = 0.0
    stake: float = 0.0

    def grown(self, step: Step, exposed: float, stake: float) -> Group:
        """Return the group with one more visit."""
        return Group(
            self.layer,
            self.count + 1,
            self.value + step.value,
            self.residual + step.residual,
            self.below + step.below,
            self.above + step.above,
            self.exposed + exposed,
            self.stake + stake,
        )

    def moved(self, by: float) -> Group:
        """Return the group with one visit having gained more by so much."""
        return replace(self, value=self.value + by, residual=self.residual + by)

    @property
    def is_complete(self) -> bool:
        """True when every visit of the layer is there, and the group counts."""
        return self.count == size_of(self.layer)

    def mean(self) -> Step:
        """Return the group as the one value it counts as."""
        size = self.count
        return Step(self.value / size, self.residual / size, self.below / size, self.above / size)


class Layer:
    """Visits that are compared with each other, and what they gained.

    Args:
        reach: Greatest odds of exposure there will ever be.
    """

    __slots__ = ("exposed", "means", "sequence", "stake")

    def __init__(self, reach: float) -> None:
        """Start without evidence."""
        self.sequence = Sequence(reach)
        self.means = ArmMeans()
        self.exposed = 0.0
        self.stake = 0.0

    def count(self, step: Step, exposed: float, stake: float) -> None:
        """Count a visit, or a group as one."""
        self.sequence.add(step)
        self.exposed += exposed
        self.stake += stake

    def bounds(self, level_low: float, level_high: float) -> Bounds:
        """Return the gain with bounds; no list earns more than 1, so none gains or loses more than it was exposed."""
        found = self.sequence.bounds(level_low, level_high)
        return Bounds(found.total, max(found.low, -self.exposed), min(found.high, self.exposed))

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        parts = {"sequence": self.sequence.state(), "means": self.means.state()}
        return State({**parts, "exposed": self.exposed, "stake": self.stake})

    @classmethod
    def from_state(cls, state: State) -> Layer:
        """Return the layer that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        layer = cls(1.0)
        layer.sequence = Sequence.from_state(state.child("sequence"))
        layer.means = ArmMeans.from_state(state.child("means"))
        layer.exposed, layer.stake = state.number("exposed"), state.number("stake")
        return layer


def groups_state(groups: Mapping[int, Group]) -> State:
    """Return unfinished and latest groups by unit, to come back bit for bit."""
    held = groups.values()
    sizes = np.array([[g.layer, g.count] for g in held], np.int64).reshape(-1, 2)
    sums = np.array([[g.value, g.residual, g.below, g.above, g.exposed, g.stake] for g in held], np.float64)
    return State({"units": np.fromiter(groups, np.int64, len(groups)), "sizes": sizes, "sums": sums.reshape(-1, 6)})


def groups_from_state(state: State) -> dict[int, Group]:
    """Return the groups that `state` was taken from.

    Raises:
        StoreError: the state is incomplete or damaged.
    """
    units = state.wholes("units", None).tolist()
    sizes = state.wholes("sizes", len(units), 2).tolist()
    sums = state.doubles("sums", len(units), 6).tolist()
    if any(layer < 0 or not 0 < count <= size_of(layer) for layer, count in sizes):
        raise StoreError("saved state: a group of visits is damaged")
    return {unit: Group(*size, *row) for unit, size, row in zip(units, sizes, sums, strict=True)}
