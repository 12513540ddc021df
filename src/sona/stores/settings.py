"""Small values by name in the file, and leases among them: a lease is read and written in one transaction."""

from __future__ import annotations

import sqlite3

from sona.stores.database import Database
from sona.stores.lease import Lease, lease_of, may_have
from sona.stores.rows import encoded, opened, sealed
from sona.stores.tables import DELETE_SETTING, INSERT_SETTING, SELECT_SETTING

_LEASE = "lease of {}"


def read_setting(connection: sqlite3.Connection, name: str) -> str | None:
    """Return the value kept under `name`, None when there is none, or raise StoreError when it is damaged."""
    row = connection.execute(SELECT_SETTING, (encoded(name),)).fetchone()
    return None if row is None else str(opened(row, f"setting {name}")[1])


def write_setting(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Keep `value` under `name`."""
    connection.execute(INSERT_SETTING, sealed(name, value))


def take_lease(database: Database, task: str, wanted: Lease, *, now: float) -> bool:
    """Put `wanted` in force unless another holder's lease of `task` has not run out; return whether it is.

    Safe among processes: nobody reads or writes between the look and the change.

    Raises:
        StoreError: it cannot be written, or what is kept is damaged; nothing changed.
    """
    name = _LEASE.format(task)
    with database.writing() as connection:
        text = read_setting(connection, name)
        is_granted = may_have(wanted.holder, None if text is None else lease_of(text), now)
        if is_granted:
            write_setting(connection, name, wanted.as_text())
        return is_granted


def drop_lease(database: Database, task: str, holder: str) -> None:
    """Let go of the lease of `task` if `holder` has it, or raise StoreError."""
    name = _LEASE.format(task)
    with database.writing() as connection:
        text = read_setting(connection, name)
        if text is not None and lease_of(text).holder == holder:
            connection.execute(DELETE_SETTING, (encoded(name),))
