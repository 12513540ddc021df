"""The statements that read and write the tables; texts go in as UTF-8 and are cast, see `rows.encoded`."""

from __future__ import annotations

INSERT_EVENT = """
    INSERT INTO events VALUES (?, CAST(? AS TEXT), ?, CAST(? AS TEXT), ?, ?, ?, ?) ON CONFLICT (seq) DO NOTHING
"""
INSERT_BLOB = "INSERT INTO blobs VALUES (?, ?) ON CONFLICT (digest) DO NOTHING"
INSERT_SNAPSHOT = "INSERT INTO snapshots VALUES (?, ?, CAST(? AS TEXT), ?)"
INSERT_PART = "INSERT INTO snapshot_parts VALUES (?, ?, ?)"
SELECT_SNAPSHOT = "SELECT * FROM snapshots WHERE seq = ?"
SELECT_PARTS = "SELECT data FROM snapshot_parts WHERE seq = ? ORDER BY part"
INSERT_SETTING = "INSERT OR REPLACE INTO settings VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"
SELECT_SETTING = "SELECT * FROM settings WHERE name = CAST(? AS TEXT)"
DELETE_SETTING = "DELETE FROM settings WHERE name = CAST(? AS TEXT)"
SELECT_SEQ = "SELECT seq FROM events WHERE seq = ?"
_SELECT_EVENTS = "SELECT * FROM events WHERE seq > :after AND seq <= :until"
_OF_SUBJECT, _OF_TRAJECTORY = "AND subject = CAST(:subject AS TEXT)", "AND trajectory_id = :trajectory_id"


def select_events(*, is_of_subject: bool, is_of_trajectory: bool) -> str:
    """Return the statement that reads a page of events, narrowed down by an index where there is one."""
    narrowed = [_OF_SUBJECT] * is_of_subject + [_OF_TRAJECTORY] * is_of_trajectory
    return " ".join([_SELECT_EVENTS, *narrowed, "ORDER BY seq LIMIT :page"])
