"""The databases that the tuner is tried on: the package graph of Debian, and vectors with a filter.

Whatever reads from a folder is given the data folder (SONA_DATA), and reads in place.
"""

from __future__ import annotations

import lzma
import time
from pathlib import Path

import psycopg

_READ = 1 << 20  # bytes of text a piece
_TABLES = {
    "section": "id integer PRIMARY KEY, name text NOT NULL",
    "maintainer": "id integer PRIMARY KEY, email text NOT NULL",
    "source": "id integer PRIMARY KEY, name text NOT NULL",
    "package": "id integer PRIMARY KEY, name text NOT NULL, section_id integer, maint_id integer, source_id integer,"
    " priority text, arch text, size bigint, isize bigint, multiarch text",
    "vname": "id integer PRIMARY KEY, name text NOT NULL, isreal integer",
    "depends": "id integer PRIMARY KEY, pkg_id integer, dep_id integer,"
    " kind integer, grp integer, alt integer, op text",
    "provides": "pkg_id integer, v_id integer",  # ten pairs are there twice: no key
    "tag": "id integer PRIMARY KEY, name text NOT NULL",
    "pkg_tag": "pkg_id integer, tag_id integer, PRIMARY KEY (pkg_id, tag_id)",
}
_INDEXED = (
    "section (name)",
    "package (section_id)",
    "package (maint_id)",
    "package (source_id)",
    "vname (name)",
    "depends (pkg_id)",
    "depends (dep_id)",
    "provides (pkg_id)",
    "provides (v_id)",
    "tag (name)",
    "pkg_tag (pkg_id)",
    "pkg_tag (tag_id)",
)


def debian_database(connection: psycopg.Connection, folder: Path) -> float:
    """Load the package graph with its keys and usual indexes, vacuumed and analysed; return the seconds it took.

    Args:
        connection: In autocommit mode; tables are made in its current schema.
        folder: The data folder.
    """
    began = time.perf_counter()
    for table, columns in _TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({columns})")
        with (
            lzma.open(folder / "debian" / f"{table}.csv.xz") as text,
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy,
        ):
            while piece := text.read(_READ):
                copy.write(piece)
    for columns in _INDEXED:
        connection.execute(f"CREATE INDEX ON {columns}")
    connection.execute(f"VACUUM (ANALYZE) {', '.join(_TABLES)}")
    return time.perf_counter() - began


def queries(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the 112 count queries on the package graph: name and statement, 8 templates of 14 literals each."""
    lines = (folder / "debian" / "queries.txt").read_text(encoding="utf-8").splitlines()
    return tuple((name, sql) for name, _, sql in (line.partition("||") for line in lines if line.strip()))
