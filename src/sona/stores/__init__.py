"""Stores: where the log and the states of an engine live.

SQLite is imported when it is asked for, so that `import sona` stays quick.
"""

from typing import TYPE_CHECKING

from sona.stores.memory import MemoryStore
from sona.stores.store import Durability, Event, Snapshot, Store, StoreMetrics, blob_digest

if TYPE_CHECKING:
    from sona.stores.sqlite import SqliteStore, is_store

__all__ = [
    "Durability",
    "Event",
    "MemoryStore",
    "Snapshot",
    "SqliteStore",
    "Store",
    "StoreMetrics",
    "blob_digest",
    "is_store",
]


def __getattr__(name: str) -> object:
    """Return a name of the SQLite store, importing it now."""
    if name not in ("SqliteStore", "is_store"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sona.stores import sqlite

    return getattr(sqlite, name)
