"""Stores: where the log and the states of an engine live."""

from sona.stores.memory import MemoryStore
from sona.stores.sqlite import SqliteStore, is_store
from sona.stores.store import Durability, Event, Snapshot, Store, StoreMetrics, VersionRecord, blob_digest

__all__ = [
    "Durability",
    "Event",
    "MemoryStore",
    "Snapshot",
    "SqliteStore",
    "Store",
    "StoreMetrics",
    "VersionRecord",
    "blob_digest",
    "is_store",
]
