"""Trajectories at rest: what many of them have in common is one array each, and what is rare costs nothing when absent.

As objects, a request of three steps takes more than a kilobyte beside its vectors: four arrays, three steps and their
numbers. Side by side it takes less than a hundred bytes, and comes back as objects when somebody looks at it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise, repeat
from math import isnan, nan
from operator import attrgetter, is_
from sys import getrefcount
from typing import TypeVar
from weakref import getweakrefcount

import numpy as np

from sona.checks import Floats
from sona.types import NO_PARAMETERS, NO_WEIGHTS, QueryTrajectory, make_step, make_trajectory

Value = TypeVar("Value")


def _holders(items: Sequence[object]) -> list[int]:
    # How many hold each of them, this list included.
    return list(map(getrefcount, items))


_LISTED = _holders([object()])[0]  # the holders of what a list alone holds
_base = attrgetter("base")


@dataclass(frozen=True, slots=True, eq=False)
class TrajectoryColumns:
    """Up to a few hundred trajectories (n), oldest first; never changed. Where nobody set a value there is no column.

    Args:
        ids: Shape (n,).
        latencies_us: Shape (n,).
        step_ends: Where the steps of each end among all of them (s), shape (n,).
        timestamps: Shape (s,).
        final_qualities: Shape (n,); NaN for None.
        rewards: Shape (s,); NaN for None.
        vectors: What the trajectories alone held, shape (m, d), read-only.
        shared: Vectors that others hold too.
        places: Of every query, then of every step's activations: the row of `vectors`, or -1 less that of `shared`.
            All stand in `vectors`, in this order, when there is none.
        weights: Attention weights by step.
        refs: By step.
        alternatives: By trajectory.
        model_routes: By trajectory.
        context_ids: By trajectory.
        subjects: By trajectory.
        parameters: By trajectory.
        whole: By row, trajectories kept as they are: amendments, and those that others hold too.
    """

    ids: array[int]
    latencies_us: array[float]
    step_ends: array[int]
    timestamps: array[float]
    final_qualities: array[float] | None
    rewards: array[float] | None
    vectors: Floats
    shared: tuple[Floats, ...]
    places: array[int] | None
    weights: tuple[Floats, ...] | None
    refs: tuple[str | None, ...] | None
    alternatives: tuple[bool, ...] | None
    model_routes: tuple[str | None, ...] | None
    context_ids: tuple[tuple[str, ...], ...] | None
    subjects: tuple[str | None, ...] | None
    parameters: tuple[Mapping[str, float | str], ...] | None
    whole: Mapping[int, QueryTrajectory]

    @staticmethod
    def of(trajectories: list[QueryTrajectory]) -> TrajectoryColumns:
        """Return trajectories, at least one, as columns; what `trajectories` alone holds is moved, the rest shared.

        A vector is moved when its trajectory alone holds it: not a view, and known to nobody else, not even weakly.
        So vectors are never multiplied, and an array that two trajectories share stays one array. The count of
        holders decides where things lie, never what they are.
        """
        whole = _whole(trajectories)
        lists = [t.steps for t in trajectories]
        for row in whole:
            lists[row] = ()
        steps = list(chain.from_iterable(lists))
        vectors = [t.query_embedding for t in trajectories]
        vectors += [s.activations for s in steps]
        own = _own(vectors)
        if whole:
            own = own or [True] * len(vectors)
            for row in whole:
                own[row] = False
        weights = tuple([s.attention_weights for s in steps])
        moved = vectors if own is None else [vector for vector, is_own in zip(vectors, own, strict=True) if is_own]
        return TrajectoryColumns(
            array("q", [t.id for t in trajectories]),
            array("d", [t.latency_us for t in trajectories]),
            array("I", accumulate(map(len, lists))),
            array("d", [s.timestamp for s in steps]),
            _maybe([t.final_quality for t in trajectories]),
            _maybe([s.reward for s in steps]),
            _joined(moved, vectors[0].shape[0]),
            () if own is None else tuple(v for v, is_own in zip(vectors, own, strict=True) if not is_own),
            None if own is None else _places(own),
            weights if any(map(len, weights)) else None,
            _set([s.ref for s in steps], None),
            _set([t.alternatives for t in trajectories], False),
            _set([t.model_route for t in trajectories], None),
            _set([t.context_ids for t in trajectories], ()),
            _set([t.subject for t in trajectories], None),
            _set([t.parameters for t in trajectories], NO_PARAMETERS),
            whole,
        )

    def __len__(self) -> int:
        """Return the number of trajectories."""
        return len(self.ids)

    def rows(self, start: int, stop: int) -> list[QueryTrajectory]:
        """Return the trajectories of some rows, equal to those that came; their vectors are not copied.

        Args:
            start: First row, at least 0.
            stop: One more than the last row, at most n.
        """
        ends = self.step_ends[start:stop]
        first, last = self.step_ends[start - 1] if start else 0, self.step_ends[stop - 1] if stop else 0
        count = len(self.ids)
        steps = map(
            make_step,
            self._vectors(count + first, count + last),
            _part(self.weights, first, last, NO_WEIGHTS),
            _values(self.rewards, first, last),
            self.timestamps[first:last],
            _part(self.refs, first, last, None),
        )
        made = map(
            make_trajectory,
            self.ids[start:stop],
            self._vectors(start, stop),
            [tuple(islice(steps, end - begun)) for begun, end in pairwise((first, *ends))],
            _values(self.final_qualities, start, stop),
            self.latencies_us[start:stop],
            _part(self.alternatives, start, stop, False),
            _part(self.model_routes, start, stop, None),
            _part(self.context_ids, start, stop, ()),
            _part(self.subjects, start, stop, None),
            _part(self.parameters, start, stop, NO_PARAMETERS),
            repeat(None),
        )
        if not self.whole:
            return list(made)
        return [self.whole.get(row, trajectory) for row, trajectory in enumerate(made, start)]

    def _vectors(self, start: int, stop: int) -> Iterable[Floats]:
        if self.places is None:
            return self.vectors[start:stop]
        return [self._vector(number) for number in range(start, stop)]

    def _vector(self, number: int) -> Floats:
        place = number if self.places is None else self.places[number]
        vector: Floats = self.vectors[place] if place >= 0 else self.shared[-1 - place]
        return vector

    def queries(self, start: int, stop: int) -> Floats:
        """Return the queries of rows, which are of one width, as a matrix (stop - start, d)."""
        if self.places is None:
            return self.vectors[start:stop]
        return np.stack([self._vector(row) for row in range(start, stop)])

    def qualities(self, start: int, stop: int) -> list[float | None]:
        """Return `quality` of the trajectories of some rows."""
        if self.whole or self.final_qualities is None or any(map(isnan, self.final_qualities[start:stop])):
            return [trajectory.quality for trajectory in self.rows(start, stop)]
        return list(self.final_qualities[start:stop])


def _whole(trajectories: list[QueryTrajectory]) -> dict[int, QueryTrajectory]:
    # What others hold would be there twice; an amendment is known by identity; a matrix has one width.
    width = trajectories[0].query_embedding.shape[0]
    holders = _holders(trajectories)
    return {
        row: trajectory
        for row, trajectory in enumerate(trajectories)
        if holders[row] != _LISTED
        or trajectory.supersedes is not None
        or trajectory.query_embedding.shape[0] != width
        or type(trajectory) is not QueryTrajectory
    }


def _own(vectors: list[Floats]) -> list[bool] | None:
    # Whether each is held by its trajectory and the list alone; None when all are.
    holders, alone = _holders(vectors), _LISTED + 1
    if (
        holders.count(alone) == len(vectors)
        and not any(map(getweakrefcount, vectors))
        and all(map(is_, map(_base, vectors), repeat(None)))
    ):
        return None
    return [
        count == alone and vector.base is None and getweakrefcount(vector) == 0
        for count, vector in zip(holders, vectors, strict=True)
    ]


def _joined(vectors: list[Floats], width: int) -> Floats:
    joined = np.concatenate(vectors) if vectors else np.zeros(0, np.float32)
    joined.flags.writeable = False
    return joined.reshape(len(vectors), width)


def _places(own: Sequence[bool]) -> array[int]:
    moved = accumulate(own)  # how many so far
    return array(
        "i",
        [row - 1 if is_own else row - number - 1 for number, (row, is_own) in enumerate(zip(moved, own, strict=True))],
    )


def _maybe(values: list[float | None]) -> array[float] | None:
    # Rewards and qualities are never NaN, so NaN stands for None.
    try:
        return array("d", values) if values else None  # type: ignore[arg-type]
    except TypeError:  # a None, which is rare among values that are known
        known = [nan if value is None else value for value in values]
        return None if all(map(isnan, known)) else array("d", known)


def _set(values: list[Value], usual: Value) -> tuple[Value, ...] | None:
    return None if values.count(usual) == len(values) else tuple(values)


def _values(column: array[float] | None, start: int, stop: int) -> Iterable[float | None]:
    if column is None:
        return repeat(None)
    return [None if isnan(value) else value for value in column[start:stop]]


def _part(column: Sequence[Value] | None, start: int, stop: int, usual: Value) -> Iterable[Value]:
    return repeat(usual) if column is None else column[start:stop]
