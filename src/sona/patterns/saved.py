"""The bank's patterns and settings as state trees, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np

from sona.config import PatternConfig
from sona.errors import ConfigError, InvalidValue, StoreError
from sona.patterns.catalog import PatternRecord, Tally, centroids_of
from sona.state import State
from sona.types import LearnedPattern


def config_state(config: PatternConfig) -> State:
    """Return the settings as a tree."""
    return State(asdict(config))


def config_from_state(state: State) -> PatternConfig:
    """Return the settings that `config_state` wrote.

    Raises:
        StoreError: a setting is missing or out of range.
    """
    values = {
        field.name: state.whole(field.name) if field.type in {"int", int} else state.number(field.name)
        for field in fields(PatternConfig)
    }
    try:
        return PatternConfig(**values)  # type: ignore[arg-type]  # each value has the type of its field
    except ConfigError as error:
        raise StoreError(f"saved state: {error}") from error


def records_state(records: Sequence[PatternRecord]) -> State:
    """Return patterns and tallies as a tree; tallies are whole numbers beyond 64 bits, so they are written as text."""
    patterns = [record.pattern for record in records]
    return State(
        {
            "id": np.array([pattern.id for pattern in patterns], np.int64),
            "centroid": centroids_of(records),
            "cluster_size": np.array([pattern.cluster_size for pattern in patterns], np.int64),
            "total_weight": np.array([pattern.total_weight for pattern in patterns], np.float64),
            "avg_quality": np.array([pattern.avg_quality for pattern in patterns], np.float64),
            "created_at": np.array([pattern.created_at for pattern in patterns], np.float64),
            "last_accessed": np.array([pattern.last_accessed for pattern in patterns], np.float64),
            "access_count": np.array([pattern.access_count for pattern in patterns], np.int64),
            "outcomes": np.array([record.tally.count for record in records], np.int64),
            "outcome_totals": [str(record.tally.total) for record in records],
            "outcome_squares": [str(record.tally.squares) for record in records],
        }
    )


def _digits(state: State, name: str, count: int) -> list[int]:
    texts = state.texts(name)
    if len(texts) != count or not all(text.isdecimal() for text in texts):
        raise StoreError(f"saved state: patterns/{name} should be {count} whole numbers")
    return [int(text) for text in texts]


def records_from_state(state: State, width: int | None) -> tuple[PatternRecord, ...]:
    """Return what `records_state` wrote, with centroids of `width`.

    Raises:
        StoreError: the state is damaged.
    """
    ids = state.wholes("id", None)
    count = len(ids)
    if len(set(ids.tolist())) != count:
        raise StoreError("saved state: two patterns have the same id")
    centroids = state.floats("centroid", count, (width or 0) if count else 0)
    sizes, accesses = state.wholes("cluster_size", count), state.wholes("access_count", count)
    weights, qualities = state.doubles("total_weight", count), state.doubles("avg_quality", count)
    created, accessed = state.doubles("created_at", count), state.doubles("last_accessed", count)
    outcomes = state.wholes("outcomes", count)
    totals, squares = _digits(state, "outcome_totals", count), _digits(state, "outcome_squares", count)
    try:
        return tuple(
            PatternRecord(
                LearnedPattern(
                    id=int(ids[row]),
                    centroid=centroids[row],
                    cluster_size=int(sizes[row]),
                    total_weight=float(weights[row]),
                    avg_quality=float(qualities[row]),
                    created_at=float(created[row]),
                    last_accessed=float(accessed[row]),
                    access_count=int(accesses[row]),
                ),
                Tally(int(outcomes[row]), totals[row], squares[row]),
            )
            for row in range(count)
        )
    except InvalidValue as error:
        raise StoreError(f"saved state: patterns: {error}") from error
