"""Trajectories as a state tree: flat arrays with offsets, each vector and each word once, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import isnan

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.errors import InvalidValue, StoreError
from sona.state import Plain, State
from sona.types import QueryTrajectory, TrajectoryStep

_NONE = -1  # index of what is not there


class _Words:
    """Each distinct text once; None is no text."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def add(self, text: str | None) -> int:
        return _NONE if text is None else self.index.setdefault(text, len(self.index))


class _Vectors:
    """Each distinct vector once, whichever objects hold it: a reloaded engine writes the same; an empty one is none."""

    def __init__(self) -> None:
        self.arrays: list[Floats] = []
        self._of_object: dict[int, int] = {}
        self._of_bytes: dict[bytes, int] = {}

    def add(self, array: Floats) -> int:
        if array.shape[0] == 0:
            return _NONE
        index = self._of_object.get(id(array))
        if index is None:
            index = self._of_object[id(array)] = self._of_bytes.setdefault(array.tobytes(), len(self.arrays))
            if index == len(self.arrays):
                self.arrays.append(array)
        return index


def _wholes(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def _maybe(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    # Rewards and qualities are never NaN, so NaN stands for None.
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _offsets(lengths: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.cumsum(_wholes([0, *lengths]), dtype=np.int64)


class _Versions:
    """The given trajectories and all they supersede, each once, after what it supersedes.

    Equal versions of one request are one, whichever objects hold them: a reloaded engine, where some that were one
    object are two, writes the same.
    """

    def __init__(self, trajectories: Iterable[QueryTrajectory]) -> None:
        self.listed: list[QueryTrajectory] = []
        self._row_of: dict[int, int] = {}  # by identity
        self._row_of_id: dict[int, int] = {}  # of the first version with an id
        self._row_of_content: dict[Hashable, int] = {}  # of those whose id came more than once
        for newest in trajectories:
            chain: list[QueryTrajectory] = []
            version: QueryTrajectory | None = newest
            while version is not None and id(version) not in self._row_of:
                chain.append(version)
                version = version.supersedes
            for older in reversed(chain):
                self._add(older)

    def row(self, version: QueryTrajectory | None) -> int:
        return _NONE if version is None else self._row_of[id(version)]

    def _add(self, version: QueryTrajectory) -> None:
        row = len(self.listed)
        first = self._row_of_id.setdefault(version.id, row)
        if first != row:
            self._row_of_content.setdefault(self._content(self.listed[first]), first)
            row = self._row_of_content.setdefault(self._content(version), row)
        self._row_of[id(version)] = row
        if row == len(self.listed):
            self.listed.append(version)

    def _content(self, version: QueryTrajectory) -> Hashable:
        return (
            self.row(version.supersedes),
            version.id,
            version.query_embedding.tobytes(),
            tuple([_content_of_step(step) for step in version.steps]),
            version.final_quality,
            version.latency_us,
            version.alternatives,
            version.model_route,
            version.context_ids,
            version.subject,
            tuple(version.parameters.items()),
        )


def _content_of_step(step: TrajectoryStep) -> Hashable:
    return step.activations.tobytes(), step.attention_weights.tobytes(), step.reward, step.timestamp, step.ref


def _settings(versions: Iterable[QueryTrajectory]) -> tuple[list[int], list[Plain]]:
    # Served settings repeat from request to request: each distinct mapping is written once.
    index: dict[str, int] = {}
    chosen: list[int] = []
    for version in versions:
        if not version.parameters:
            chosen.append(_NONE)
            continue
        try:
            key = json.dumps(dict(version.parameters))
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"parameters of trajectory {version.id} cannot be saved: {error}") from error
        chosen.append(index.setdefault(key, len(index)))
    return chosen, [json.loads(key) for key in index]


def trajectories_state(trajectories: Sequence[QueryTrajectory]) -> State:
    """Return `trajectories` as a state tree, with everything they supersede.

    A vector that several steps or requests have is written once, and shared after loading.

    Raises:
        InvalidValue: parameters that are neither numbers nor text.
    """
    every = _Versions(trajectories)
    versions = every.listed
    steps = [step for version in versions for step in version.steps]
    words, vectors = _Words(), _Vectors()
    chosen, settings = _settings(versions)
    values = {
        "listed": _wholes([every.row(trajectory) for trajectory in trajectories]),
        "supersedes": _wholes([every.row(v.supersedes) for v in versions]),
        "id": _wholes([v.id for v in versions]),
        "query": _wholes([vectors.add(v.query_embedding) for v in versions]),
        "quality": _maybe(v.final_quality for v in versions),
        "latency_us": np.array([v.latency_us for v in versions], np.float64),
        "alternatives": np.array([v.alternatives for v in versions], np.bool_),
        "model_route": _wholes([words.add(v.model_route) for v in versions]),
        "subject": _wholes([words.add(v.subject) for v in versions]),
        "context": _wholes([words.add(name) for v in versions for name in v.context_ids]),
        "context_offsets": _offsets(len(v.context_ids) for v in versions),
        "settings": _wholes(chosen),
        "step_offsets": _offsets(len(v.steps) for v in versions),
        "step_activations": _wholes([vectors.add(s.activations) for s in steps]),
        "step_weights": _wholes([vectors.add(s.attention_weights) for s in steps]),
        "step_reward": _maybe(s.reward for s in steps),
        "step_timestamp": np.array([s.timestamp for s in steps], np.float64),
        "step_ref": _wholes([words.add(s.ref) for s in steps]),
        "vectors": np.concatenate([np.zeros(0, np.float32), *vectors.arrays]),
        "vector_offsets": _offsets(array.shape[0] for array in vectors.arrays),
    }
    return State({**values, "words": list(words.index), "distinct_settings": settings})


def _indices(state: State, name: str, length: int | None, bound: int, low: int = 0) -> list[int]:
    indices = state.wholes(name, length)
    if ((indices < low) | (indices >= bound)).any():
        raise StoreError(f"saved state: {name} points outside what was saved")
    return [int(index) for index in indices.tolist()]


def _spans(state: State, name: str, count: int | None, total: int) -> list[slice]:
    offsets = state.wholes(name, None if count is None else count + 1)
    if not offsets.size or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise StoreError(f"saved state: {name} does not fit what was saved")
    edges = offsets.tolist()
    return [slice(low, high) for low, high in pairwise(edges)]


def _numbers(state: State, name: str, length: int) -> list[float | None]:
    # Rewards and qualities: in [0, 1], or NaN for None.
    values = state.doubles(name, length)
    if ((values < 0.0) | (values > 1.0)).any():
        raise StoreError(f"saved state: {name} holds numbers outside [0, 1]")
    return [None if isnan(value) else value for value in values.tolist()]


def _read_vectors(state: State) -> list[Floats]:
    flat = state.floats("vectors", None)
    if not np.isfinite(flat).all():
        raise StoreError("saved state: vectors hold NaN or infinity")
    arrays = [flat[span].copy() for span in _spans(state, "vector_offsets", None, flat.shape[0])]
    for array in arrays:  # read-only arrays are shared by builders, not copied
        array.flags.writeable = False
    return arrays


def _read_steps(state: State, vectors: list[Floats], words: list[str | None]) -> list[TrajectoryStep]:
    activations = _indices(state, "step_activations", None, len(vectors))
    count = len(activations)
    weights = _indices(state, "step_weights", count, len(vectors), _NONE)
    rewards = _numbers(state, "step_reward", count)
    times = state.doubles("step_timestamp", count).tolist()
    refs = _indices(state, "step_ref", count, len(words) - 1, _NONE)
    return [
        TrajectoryStep._checked(vectors[tried], None if weight == _NONE else vectors[weight], reward, at, words[ref])
        for tried, weight, reward, at, ref in zip(activations, weights, rewards, times, refs, strict=True)
    ]


def _read_settings(state: State) -> list[dict[str, float | str]]:
    settings: list[dict[str, float | str]] = [{}]
    for entry in state.listing("distinct_settings"):
        if not isinstance(entry, Mapping):
            raise StoreError("saved state: distinct_settings should be a list of mappings")
        settings.append({name: value for name, value in entry.items() if isinstance(value, (bool, int, float, str))})
    return [*settings[1:], settings[0]]  # the index of none, -1, finds no settings


def _read_versions(state: State) -> list[QueryTrajectory]:
    vectors = _read_vectors(state)
    words: list[str | None] = [*state.texts("words"), None]  # the index of none, -1, finds None
    settings = _read_settings(state)
    steps = _read_steps(state, vectors, words)
    context = [str(words[index]) for index in _indices(state, "context", None, len(words) - 1)]
    ids = state.wholes("id", None).tolist()
    count = len(ids)
    queries = _indices(state, "query", count, len(vectors))
    qualities = _numbers(state, "quality", count)
    latencies = state.doubles("latency_us", count).tolist()
    alternatives = state.array("alternatives", np.bool_, (count,)).tolist()
    routes = _indices(state, "model_route", count, len(words) - 1, _NONE)
    subjects = _indices(state, "subject", count, len(words) - 1, _NONE)
    chosen = _indices(state, "settings", count, len(settings) - 1, _NONE)
    older = _indices(state, "supersedes", count, count, _NONE)
    step_spans = _spans(state, "step_offsets", count, len(steps))
    context_spans = _spans(state, "context_offsets", count, len(context))
    versions: list[QueryTrajectory] = []
    for i in range(count):
        if older[i] >= i:
            raise StoreError("saved state: supersedes points forward")
        versions.append(
            QueryTrajectory(
                ids[i],
                vectors[queries[i]],
                tuple(steps[step_spans[i]]),
                qualities[i],
                latencies[i],
                alternatives[i],
                words[routes[i]],
                tuple(context[context_spans[i]]),
                words[subjects[i]],
                settings[chosen[i]],
                None if older[i] == _NONE else versions[older[i]],
            )
        )
    return versions


def trajectories_from_state(state: State) -> list[QueryTrajectory]:
    """Return the trajectories that `state` was made of, equal bit for bit, their shared vectors shared again.

    Raises:
        StoreError: the state is incomplete, of another kind, or its parts do not fit together.
    """
    versions = _read_versions(state)
    return [versions[index] for index in _indices(state, "listed", None, len(versions))]
