"""An engine on disk: its settings as plain values, and the lock that keeps two processes off one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path

from sona.config import BoundaryConfig, EwcConfig, GuardConfig, PatternConfig, SonaConfig, VoteConfig
from sona.errors import ConfigError, StoreError
from sona.state import Plain, State, remove_leftovers


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
        ewc, patterns = values.pop("ewc"), _mapping(values.pop("patterns"))
        guard = values.pop("guard")
        votes = dict(_mapping(values.pop("votes")))
        votes["similarity_edges"] = tuple(votes.pop("similarity_edges"))  # type: ignore[arg-type]
        return SonaConfig(
            **values,  # type: ignore[arg-type]
            patterns=PatternConfig(**patterns),  # type: ignore[arg-type]
            votes=VoteConfig(**votes),  # type: ignore[arg-type]
            guard=GuardConfig(**_mapping(guard)),  # type: ignore[arg-type]
            ewc=None if ewc is None else _ewc(_mapping(ewc)),
        )
    except (ConfigError, TypeError, KeyError) as error:
        raise StoreError(f"saved state: its settings cannot be read: {error}") from error


def _mapping(value: object) -> Mapping[str, Plain]:
    if not isinstance(value, Mapping):
        raise StoreError("saved state: a group of settings is damaged")
    return value


def _ewc(values: Mapping[str, Plain]) -> EwcConfig:
    rest = dict(values)
    boundary = BoundaryConfig(**_mapping(rest.pop("boundary")))  # type: ignore[arg-type]
    return EwcConfig(**rest, boundary=boundary)  # type: ignore[arg-type]


def lock_file(path: str | os.PathLike[str]) -> Callable[[], None]:
    """Keep other processes from opening `path`, and return what lets go; the system lets go when the process dies.

    Raises:
        StoreError: another process has it open, or its folder cannot be written.
    """
    lock_path = Path(f"{os.fspath(path)}.lock")
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror or error}") from error
    try:
        _lock(handle)
    except OSError as error:
        os.close(handle)
        raise StoreError(f"{path} is open in another process; close it there first") from error
    remove_leftovers(Path(path))
    return lambda: os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
