"""Visits that may be compared with each other: one evidence for first visits, one for second visits, and so on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sona.errors import StoreError
from sona.guard.means import ArmMeans
from sona.guard.sequence import Bounds, Sequence, Step
from sona.guard.trial import Weighed
from sona.guard.visits import size_of
from sona.state import State

_EDGES = (1.0, 4.0)  # reaches that end a band


@dataclass(frozen=True, slots=True)
class Group:
    """The visits of one unit in one layer so far, summed."""

    layer: int
    count: int
    total: Weighed

    def grown(self, one: Weighed) -> Group:
        """Return the group with one more visit."""
        return Group(self.layer, self.count + 1, _sum(self.total, one))

    def moved(self, by: float) -> Group:
        """Return the group with one visit having gained more by so much."""
        old = self.total
        step = Step(old.step.value + by, old.step.residual + by, old.step.below, old.step.above)
        return Group(self.layer, self.count, Weighed(step, old.weight, old.most))

    @property
    def is_complete(self) -> bool:
        """True when every visit of the layer is there, and the group counts."""
        return self.count == size_of(self.layer)

    def mean(self) -> Weighed:
        """Return the group as the one value it counts as."""
        size, old = self.count, self.total
        step = Step(old.step.value / size, old.step.residual / size, old.step.below / size, old.step.above / size)
        return Weighed(step, old.weight / size, old.most / size)


def _sum(one: Weighed, two: Weighed) -> Weighed:
    a, b = one.step, two.step
    step = Step(a.value + b.value, a.residual + b.residual, a.below + b.below, a.above + b.above)
    return Weighed(step, one.weight + two.weight, one.most + two.most)


class Band:
    """Trials whose residuals could go about equally far, and what they gained.

    Args:
        reach: Farthest that a residual of the band can go.
    """

    __slots__ = ("most", "sequence", "weight")

    def __init__(self, reach: float) -> None:
        """Start without evidence."""
        self.sequence = Sequence(reach)
        self.weight = self.most = 0.0

    def count(self, one: Weighed) -> None:
        """Count a trial, or a group as one."""
        self.sequence.add(one.step)
        self.weight += one.weight
        self.most += one.most

    def bounds(self, level_low: float, level_high: float) -> Bounds:
        """Return the gain with bounds, never wider than the lists allow."""
        found = self.sequence.bounds(level_low, level_high)
        return Bounds(found.total, max(found.low, -self.most), min(found.high, self.most))

    def after(self, one: Weighed, times: float) -> Band:
        """Return the band as it would be after `times` more trials like `one` on average."""
        later = Band(1.0)
        later.sequence = self.sequence.after(one.step, times)
        later.most = self.most + one.most * times
        return later

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        sums = np.array([self.weight, self.most])
        return State({"sequence": self.sequence.state(), "sums": sums})

    @classmethod
    def from_state(cls, state: State, reach: float) -> Band:
        """Return the band that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        band = cls(reach)
        band.sequence = Sequence.from_state(state.child("sequence"), reach)
        band.weight, band.most = state.doubles("sums", 2).tolist()
        return band


class Layer:
    """Visits that are compared with each other, in bands by how far their residuals could go.

    A sequence can only make use of evidence as fine as its reach allows. Trials of low reach are therefore kept apart
    from those of high reach, and each band has an equal share of the level.

    Args:
        reach: Farthest that a residual can ever go, at least 1.
    """

    __slots__ = ("_edges", "bands", "means")

    def __init__(self, reach: float) -> None:
        """Start without evidence."""
        self._edges = (*(edge for edge in _EDGES if edge < reach), reach)
        self.bands = [Band(edge) for edge in self._edges]
        self.means = ArmMeans()

    def band(self, step: Step) -> Band:
        """Return the band of a step: by how far it could have gone, known before it went."""
        return self.bands[bisect_left(self._edges, max(step.below, step.above), hi=len(self._edges) - 1)]

    @property
    def share(self) -> float:
        """Share of the layer's level that each band may use."""
        return 1.0 / len(self.bands)

    @property
    def is_empty(self) -> bool:
        """True while nothing was counted."""
        return not any(band.sequence.count for band in self.bands)

    def bounds(self, level_low: float, level_high: float) -> Bounds:
        """Return the gain with bounds: the sums of those of the bands."""
        found = [band.bounds(level_low * self.share, level_high * self.share) for band in self.bands]
        return Bounds(sum(one.total for one in found), sum(one.low for one in found), sum(one.high for one in found))

    def after(self, one: Weighed, times: float) -> Layer:
        """Return the layer as it would be after `times` more trials like `one` on average."""
        later = Layer(self._edges[-1])
        own = self.band(one.step)
        later.bands = [band.after(one, times) if band is own else band for band in self.bands]
        return later

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        bands = State({str(number): band.state() for number, band in enumerate(self.bands)})
        return State({"bands": bands, "means": self.means.state()})

    @classmethod
    def from_state(cls, state: State, reach: float) -> Layer:
        """Return the layer that `state` was taken from.

        Raises:
            StoreError: the state is incomplete, damaged, or of another reach.
        """
        layer, bands = cls(reach), state.child("bands")
        layer.bands = [Band.from_state(bands.child(str(n)), edge) for n, edge in enumerate(layer._edges)]
        layer.means = ArmMeans.from_state(state.child("means"))
        return layer


def groups_state(groups: Mapping[int, Group]) -> State:
    """Return unfinished and latest groups by unit, to come back bit for bit."""
    totals = [group.total for group in groups.values()]
    sums = [[w.step.value, w.step.residual, w.step.below, w.step.above, w.weight, w.most] for w in totals]
    sizes = np.array([[group.layer, group.count] for group in groups.values()], np.int64).reshape(-1, 2)
    units = np.fromiter(groups, np.int64, len(groups))
    return State({"units": units, "sizes": sizes, "sums": np.array(sums, np.float64).reshape(-1, 6)})


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
    totals = (Weighed(Step(*row[:4]), *row[4:]) for row in sums)
    return {unit: Group(layer, count, total) for unit, (layer, count), total in zip(units, sizes, totals, strict=True)}
