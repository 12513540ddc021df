"""The database file of a command: looked at as it is, beside whoever writes it, or changed by this command alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sona.engine import SonaEngine
from sona.errors import StoreError
from sona.stores import SqliteStore, Store, is_store

DEFAULT = Path("sona.db")
VARIABLE = "SONA_DB"


@dataclass(frozen=True, slots=True)
class Look:
    """A database to look at.

    Args:
        engine: What it holds; nothing may be done to it.
        log: Its log; None of a file that `save` wrote.
    """

    engine: SonaEngine
    log: Store | None


@contextmanager
def reading(path: Path) -> Iterator[Look]:
    """Give the database in `path` to look at; another process may have it open.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    require(path)
    if not is_store(path):
        yield Look(SonaEngine.load(path), None)
        return
    log = SqliteStore(path, is_read_only=True)
    try:
        yield Look(SonaEngine(store=log), log)
    finally:
        log.close()


def trying(path: Path) -> SonaEngine:
    """Return the database in `path` in memory, to try things on: nothing that is done to it is kept.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    require(path)
    return SonaEngine.load(path)


@contextmanager
def writing(path: Path, *, create: bool = False) -> Iterator[SonaEngine]:
    """Give the engine in `path`, and let go of the file at the end of the block; what happened is in its log.

    When the block fails, what had happened until then is kept, and nothing more is done.

    Args:
        path: The file.
        create: Make the file when there is none.

    Raises:
        StoreError: there is none, it cannot be read or written, or another process has it open.
    """
    if not create or path.is_dir():
        require(path)
    log = SqliteStore(path.resolve())  # a link stays a link
    try:
        engine = SonaEngine(store=log)
        yield engine
        engine.close()
    finally:
        log.close()


def option(path: Path) -> str:
    """Return what to add to a command so that it uses `path`: nothing when it does so anyway."""
    usual = Path(os.environ.get(VARIABLE) or DEFAULT)
    return "" if path == usual else f" --db {shlex.quote(str(path))}"


def require(path: Path) -> None:
    """Raise StoreError unless there is a file at `path`; the message says how to make one."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise StoreError(f"no database at {path}: make one with `sona remember FILE{option(path)}`")
