"""Patterns of plans as a state tree, bit for bit: flat arrays, and each combination of settings once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from sona.errors import InvalidValue, StoreError
from sona.state import Plain, State
from sona.tuner.dag.outcomes import Outcome
from sona.tuner.dag.pattern import DagPattern
from sona.tuner.execution import AttentionType, ExecutionParams
from sona.types import LearnedPattern

_NUMBERS = ("ef_search", "probes", "parallelism")


def patterns_state(patterns: Sequence[DagPattern], width: int) -> State:
    """Return patterns with centroids of `width` as a tree."""
    learned, outcomes = [one.learned for one in patterns], [one for pattern in patterns for one in pattern.outcomes]
    settings: dict[str, int] = {}
    ran_with = [settings.setdefault(_written(one.params), len(settings)) for one in outcomes]
    return State(
        {
            "id": np.array([one.id for one in learned], np.int64),
            "centroid": np.array([one.centroid for one in learned], np.float32).reshape(-1, width),
            "cluster_size": np.array([one.cluster_size for one in learned], np.int64),
            "total_weight": np.array([one.total_weight for one in learned], np.float64),
            "avg_quality": np.array([one.avg_quality for one in learned], np.float64),
            "created_at": np.array([one.created_at for one in learned], np.float64),
            "last_accessed": np.array([one.last_accessed for one in learned], np.float64),
            "access_count": np.array([one.access_count for one in learned], np.int64),
            "untested": np.array([one.untested for one in patterns], np.int64),
            "shift_count": np.array([one.shift_count for one in patterns], np.int64),
            "kept": np.array([len(one.outcomes) for one in patterns], np.int64),
            "settings": list(settings),
            "ran_with": np.array(ran_with, np.int64),
            "quality": np.array([one.quality for one in outcomes], np.float64),
            "has_gain": np.array([one.gain is not None for one in outcomes], np.bool_),
            "gain": np.array([one.gain or 0.0 for one in outcomes], np.float64),
            "timestamp": np.array([one.timestamp for one in outcomes], np.float64),
        }
    )


def patterns_from_state(state: State, width: int) -> tuple[DagPattern, ...]:
    """Return what `patterns_state` wrote, with centroids of `width`.

    Raises:
        StoreError: the state is damaged.
    """
    clusters, kept = _clusters(state, width), state.wholes("kept", None)
    if len(kept) != len(clusters) or (kept < 0).any():
        raise StoreError("saved state: patterns/kept should be a count per pattern")
    outcomes = _outcomes(state, int(kept.sum()))
    untested, shifts = state.wholes("untested", len(kept)).tolist(), state.wholes("shift_count", len(kept)).tolist()
    bounds = pairwise(accumulate(kept.tolist(), initial=0))
    try:
        return tuple(
            DagPattern(learned, outcomes[start:end], *rest)
            for learned, (start, end), *rest in zip(clusters, bounds, untested, shifts, strict=True)
        )
    except InvalidValue as error:
        raise StoreError(f"saved state: patterns: {error}") from error


def _clusters(state: State, width: int) -> tuple[LearnedPattern, ...]:
    ids = state.wholes("id", None).tolist()
    count = len(ids)
    if len(set(ids)) != count or any(one < 0 for one in ids):
        raise StoreError("saved state: the ids of patterns repeat or are below 0")
    columns = (
        state.wholes("cluster_size", count).tolist(),
        state.doubles("total_weight", count).tolist(),
        state.doubles("avg_quality", count).tolist(),
        state.doubles("created_at", count).tolist(),
        state.doubles("last_accessed", count).tolist(),
        state.wholes("access_count", count).tolist(),
    )
    centroids = state.floats("centroid", count, width)
    try:
        return tuple(LearnedPattern(*row) for row in zip(ids, centroids, *columns, strict=True))
    except InvalidValue as error:
        raise StoreError(f"saved state: patterns: {error}") from error


def _outcomes(state: State, count: int) -> tuple[Outcome, ...]:
    settings = [_read(text) for text in state.texts("settings")]
    ran_with = state.wholes("ran_with", count).tolist()
    if any(not 0 <= one < len(settings) for one in ran_with):
        raise StoreError("saved state: patterns/ran_with names settings that are not there")
    qualities, times = state.doubles("quality", count).tolist(), state.doubles("timestamp", count).tolist()
    gains, known = state.doubles("gain", count).tolist(), state.array("has_gain", np.bool_, (count,)).tolist()
    try:
        return tuple(
            Outcome(settings[row], quality, gain if is_known else None, time)
            for row, quality, gain, is_known, time in zip(ran_with, qualities, gains, known, times, strict=True)
        )
    except InvalidValue as error:
        raise StoreError(f"saved state: patterns: {error}") from error


def _written(params: ExecutionParams) -> str:
    numbers = {name: getattr(params, name) for name in _NUMBERS}
    return json.dumps({**numbers, "attention_type": params.attention_type, "custom": dict(params.custom)})


def _read(text: str) -> ExecutionParams:
    try:
        found: Plain = json.loads(text)
        if not isinstance(found, Mapping) or not isinstance(found["custom"], Mapping):
            raise StoreError("saved state: patterns/settings are not those of an execution")
        chosen = found["attention_type"]
        return ExecutionParams(
            _number(found["ef_search"]),
            _number(found["probes"]),
            _number(found["parallelism"]),
            None if chosen is None else AttentionType(str(chosen)),
            {str(name): str(value) for name, value in found["custom"].items()},
        )
    except (KeyError, ValueError) as error:
        raise StoreError(f"saved state: patterns/settings: {error}") from error


def _number(value: Plain) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise StoreError(f"saved state: patterns/settings: expected a whole number, got {value!r}")
    return value
