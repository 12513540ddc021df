"""The lock that keeps two writers off one file; the system lets go of it when the process dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from sona.errors import StoreError
from sona.state import remove_leftovers


def lock_file(path: str | os.PathLike[str]) -> Callable[[], None]:
    """Keep other writers from opening `path`, and return what lets go; the system lets go when the process dies.

    Raises:
        StoreError: it is open elsewhere, or its folder cannot be written.
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
        raise StoreError(
            f"{path} is open in another process, or a second time in this one; close it there first"
        ) from error
    remove_leftovers(Path(path))
    return lambda: os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
