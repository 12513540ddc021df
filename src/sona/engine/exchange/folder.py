"""The folder of an export: three tables and a manifest that says what they hold; all of it is there, or none."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sona.engine.exchange.records import MemoryRecord, RequestRecord, pattern_of, pattern_row
from sona.engine.exchange.row import Row
from sona.engine.exchange.tables import FORMATS, TABLES, TableFile, read_table, write_table
from sona.errors import InvalidValue, StoreError
from sona.state import Plain, replace_file
from sona.types import LearnedPattern

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "sona export", 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export says of itself.

    Args:
        format: `jsonl` or `parquet`.
        origin: Of which engine it is; see `origin_of`.
        width: d; None while the engine had seen no vector.
        has_log: Whether the requests are all in the log; else those that were held.
        tables: The tables by name.
    """

    format: str
    origin: str
    width: int | None
    has_log: bool
    tables: Mapping[str, TableFile]

    def text(self) -> str:
        """Return it as a JSON document."""
        document: dict[str, Plain] = {
            "format": _FORMAT,
            "version": _VERSION,
            "files": self.format,
            "origin": self.origin,
            "width": self.width,
            "has_log": self.has_log,
            "tables": {name: {"count": table.count, "sha256": table.sha256} for name, table in self.tables.items()},
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return the manifest of an export.

        Raises:
            StoreError: there is none, it is damaged, or of a newer SONA.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise StoreError(f"{folder} holds no export: {MANIFEST} is missing")
        try:
            return cls._of(Row(json.loads(path.read_bytes()), str(path)))
        except (OSError, ValueError) as error:  # InvalidValue is a ValueError
            raise StoreError(f"{path} cannot be read: {error}") from error

    @classmethod
    def _of(cls, row: Row) -> Manifest:
        version, files = row.whole("version"), row.text("files")
        if row.text("format") != _FORMAT or version != _VERSION or files not in FORMATS:
            raise InvalidValue(
                f"expected {_FORMAT!r} of version {_VERSION} in one of {FORMATS}, got {files!r} of version {version}"
            )
        width = None if row.value("width") is None else row.whole("width")
        tables = Row(row.value("tables"), row.where)
        known = {name: Row(tables.value(name), f"{row.where}, {name}") for name in TABLES}
        found = {name: TableFile(entry.whole("count"), entry.text_or_none("sha256")) for name, entry in known.items()}
        return cls(files, row.text("origin"), width, row.flag("has_log"), found)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Everything in an export.

    Args:
        manifest: What it says of itself.
        memories: In their order.
        requests: In their order.
        patterns: In their order.
    """

    manifest: Manifest
    memories: tuple[MemoryRecord, ...]
    requests: tuple[RequestRecord, ...]
    patterns: tuple[LearnedPattern, ...]


def read_folder(folder: Path) -> Contents:
    """Return an export, every line of it checked.

    Raises:
        StoreError: it is missing, damaged, cut short, or of a newer SONA.
        InvalidValue: a line cannot be used, or two have one id; the message names file and line.
    """
    manifest = Manifest.read(folder)

    def rows(table: str) -> Iterator[Row]:
        return _distinct(read_table(folder / f"{table}.{manifest.format}", manifest.tables[table]))

    return Contents(
        manifest,
        tuple(MemoryRecord.of(row) for row in rows("memories")),
        tuple(RequestRecord.of(row) for row in rows("trajectories")),
        tuple(pattern_of(row) for row in rows("patterns")),
    )


def _distinct(rows: Iterable[Row]) -> Iterator[Row]:
    first: dict[object, str] = {}
    for row in rows:
        own = row.value("id")
        if isinstance(own, str | int) and not isinstance(own, bool) and first.setdefault(own, row.where) != row.where:
            raise InvalidValue(f"{row.where}: the id {own!r} is that of {first[own]}, too")
        yield row


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into, and put it at `target` when the block ends well; else nothing is left of it.

    Raises:
        StoreError: `target` holds something already, or cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} exists already; choose another folder")
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir()
        yield partial
        if target.is_dir():
            target.rmdir()
        os.replace(partial, target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial)


def write_folder(contents: Contents, target: Path) -> Manifest:
    """Write an export to a new folder, down to the disk; half of one is never left there.

    Raises:
        StoreError: `target` holds something already, or cannot be written.
        InvalidValue: a text that the format cannot hold.
    """
    rows: dict[str, Iterable[Mapping[str, Plain]]] = {
        "memories": (record.row() for record in contents.memories),
        "trajectories": (record.row() for record in contents.requests),
        "patterns": (pattern_row(pattern) for pattern in contents.patterns),
    }
    about = contents.manifest
    with new_folder(target) as folder:
        tables = {name: write_table(folder / f"{name}.{about.format}", rows[name]) for name in TABLES}
        manifest = Manifest(about.format, about.origin, about.width, about.has_log, tables)
        replace_file(folder / MANIFEST, manifest.text().encode())
    return manifest
