"""An engine's settings on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields

from sona.config import (
    BoundaryConfig,
    ConsolidationConfig,
    DeepConfig,
    DreamConfig,
    EwcConfig,
    GraphConfig,
    GuardConfig,
    PatternConfig,
    PhiConfig,
    ScheduleConfig,
    SonaConfig,
    VoteConfig,
)
from sona.errors import ConfigError, StoreError
from sona.state import Plain, State

_GROUPS: Mapping[str, Callable[..., object]] = {
    "patterns": PatternConfig,
    "votes": VoteConfig,
    "guard": GuardConfig,
    "graph": GraphConfig,
    "dreams": DreamConfig,
    "phi": PhiConfig,
    "consolidation": ConsolidationConfig,
    "deep": DeepConfig,
    "schedule": ScheduleConfig,
}


def config_state(config: SonaConfig) -> State:
    """Return every setting as plain values."""
    return State({name: list(value) if isinstance(value, tuple) else value for name, value in _plain(config).items()})


def _plain(config: SonaConfig) -> dict[str, Plain]:
    plain: dict[str, Plain] = asdict(config)
    return plain


def config_from_state(state: State) -> SonaConfig:
    """Return the settings that `config_state` wrote.

    Raises:
        StoreError: a setting is missing, unknown or outside its range.
    """
    values = dict(state.items())
    known = {field.name for field in fields(SonaConfig)}
    if set(values) != known:
        raise StoreError(f"saved state: its settings are not those of this SONA: {sorted(set(values) ^ known)}")
    try:
        ewc = values.pop("ewc")
        groups = {name: make(**_group(values.pop(name))) for name, make in _GROUPS.items()}
        made: Callable[..., SonaConfig] = SonaConfig
        return made(**values, **groups, ewc=None if ewc is None else _ewc(_mapping(ewc)))
    except (ConfigError, TypeError, KeyError) as error:
        raise StoreError(f"saved state: its settings cannot be read: {error}") from error


def _group(value: object) -> dict[str, object]:
    # JSON has no tuples.
    return {name: tuple(entry) if isinstance(entry, list) else entry for name, entry in _mapping(value).items()}


def _mapping(value: object) -> Mapping[str, Plain]:
    if not isinstance(value, Mapping):
        raise StoreError("saved state: a group of settings is damaged")
    return value


def _ewc(values: Mapping[str, Plain]) -> EwcConfig:
    rest = dict(values)
    boundary = BoundaryConfig(**_mapping(rest.pop("boundary")))  # type: ignore[arg-type]
    return EwcConfig(**rest, boundary=boundary)  # type: ignore[arg-type]


def config_text(config: SonaConfig) -> str:
    """Return every setting as one JSON document."""
    return json.dumps(dict(config_state(config).items()))


def config_from_text(text: str) -> SonaConfig:
    """Return the settings that `config_text` wrote, or raise StoreError."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise StoreError(f"saved settings are damaged: {error}") from error
    return config_from_state(State(_mapping(values)))
