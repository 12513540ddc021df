"""The database file of a command: read as it is, or changed whole."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sona.engine import SonaEngine
from sona.errors import StoreError

DEFAULT = Path("sona.db")
VARIABLE = "SONA_DB"


def reading(path: Path) -> SonaEngine:
    """Return the engine in `path` to look at; nothing done to it is kept, and another process may have it open.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    _require(path)
    return SonaEngine.load(path)


@contextmanager
def writing(path: Path, *, create: bool = False) -> Iterator[SonaEngine]:
    """Give the engine in `path`, and let go of the file at the end of the block; what happened is in its log.

    Args:
        path: The file.
        create: Make the file when there is none.

    Raises:
        StoreError: there is none, it cannot be read or written, or another process has it open.
    """
    if not create or path.is_dir():
        _require(path)
    with SonaEngine.open(path.resolve()) as engine:  # a link stays a link
        yield engine


def option(path: Path) -> str:
    """Return what to add to a command so that it uses `path`: nothing when it does so anyway."""
    usual = Path(os.environ.get(VARIABLE) or DEFAULT)
    return "" if path == usual else f" --db {shlex.quote(str(path))}"


def _require(path: Path) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise StoreError(f"no database at {path}: make one with `sona remember FILE{option(path)}`")
