"""Rows in files: JSON lines, or Parquet with the extra of that name; read back they are equal bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sona.engine.exchange.row import Row
from sona.errors import InvalidValue, MissingExtra, StoreError
from sona.state import Plain

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("jsonl", "parquet")
TABLES = ("memories", "trajectories", "patterns")
_BATCH = 512  # rows of a Parquet file in memory at a time


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table on disk.

    Args:
        count: Its rows.
        sha256: Of the file; None when nobody said.
    """

    count: int
    sha256: str | None = None


def require_format(format: str) -> None:  # noqa: A002 - the caller's own word for it
    """Raise InvalidValue when there is no such format, MissingExtra when its package is not installed."""
    if format not in FORMATS:
        raise InvalidValue(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if format == "parquet":
        _require_pyarrow()


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "the format parquet") from error


def write_table(path: Path, rows: Iterable[Mapping[str, Plain]]) -> TableFile:
    """Write rows to a new file, JSON lines or Parquet as its name says, down to the disk.

    Raises:
        InvalidValue: a text that Parquet cannot hold.
        OSError: it cannot be written.
    """
    count = (_write_parquet if path.suffix == ".parquet" else _write_jsonl)(path, rows)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return TableFile(count, digest_of(path))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def read_table(path: Path, expected: TableFile) -> Iterator[Row]:
    """Yield the rows of a file, then make sure that they are all and as they were written.

    Raises:
        StoreError: it is missing, damaged, or not what was exported.
        InvalidValue: a line is not JSON.
    """
    if not path.is_file():
        raise StoreError(f"{path} is missing")
    count = 0
    try:
        for row in (_read_parquet if path.suffix == ".parquet" else _read_jsonl)(path):
            count += 1
            yield row
        is_same = expected.sha256 in (None, digest_of(path))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if count != expected.count:
        raise StoreError(f"{path}: expected {expected.count} rows, got {count}")
    if not is_same:
        raise StoreError(f"{path} was changed since it was exported: its SHA-256 is another")


# -- JSON lines ----------------------------------------------------------------------------------------------------


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Plain]]) -> int:
    count = 0
    with path.open("xb") as file:
        for row in rows:
            file.write(_line(row) + b"\n")
            count += 1
    return count


def _line(row: Mapping[str, Plain]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a pair of surrogates, which UTF-8 cannot hold
        return json.dumps(row, allow_nan=False).encode()


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path.name} line {number}"
                yield Row(_document(line, where), where)


def _document(line: bytes, where: str) -> object:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{where}: not JSON ({error})") from error
    return found


# -- Parquet -------------------------------------------------------------------------------------------------------


def _schema(table: str) -> pa.Schema:
    import pyarrow as pa

    text, number, whole, flag = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    floats = pa.list_(pa.float32())
    step = [("ref", text), ("reward", number), ("timestamp", number), ("activations", floats)]
    columns = {
        "memories": [("id", text), ("text", text), ("subject", text), ("vector", floats), ("reembed", flag)],
        "trajectories": [
            *[("id", whole), ("kind", text), ("at", number), ("text", text), ("subject", text)],
            *[("query_embedding", floats), ("steps", pa.list_(pa.struct([*step, ("attention_weights", floats)])))],
            *[("final_quality", number), ("latency_us", number), ("alternatives", flag), ("model_route", text)],
            *[("context_ids", pa.list_(text)), ("parameters", text), ("reembed", flag)],
        ],
        "patterns": [
            *[("id", whole), ("centroid", floats), ("cluster_size", whole), ("total_weight", number)],
            *[("avg_quality", number), ("created_at", number), ("last_accessed", number), ("access_count", whole)],
        ],
    }
    return pa.schema(columns[table])


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Plain]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, count, source = _schema(path.stem), 0, iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while batch := [_flat(row) for row in islice(source, _BATCH)]:
            try:
                writer.write_table(pa.Table.from_pylist(batch, schema))
            except (UnicodeEncodeError, pa.ArrowException) as error:
                raise InvalidValue(f"{path.stem} cannot be written as Parquet ({error}); use jsonl") from error
            count += len(batch)
    return count


def _flat(row: Mapping[str, Plain]) -> dict[str, Plain]:
    # Settings are of any name and kind, and so one text of JSON.
    return {name: json.dumps(value) if name == "parameters" else value for name, value in row.items()}


def _read_parquet(path: Path) -> Iterator[Row]:
    _require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(_unflat(values, f"{path.name} row {number}"), f"{path.name} row {number}")
    except pa.ArrowException as error:
        raise StoreError(f"{path} cannot be read as Parquet: {error}") from error


def _unflat(values: dict[str, object], where: str) -> dict[str, object]:
    settings = values.get("parameters")
    if not isinstance(settings, str):
        return values
    return {**values, "parameters": _document(settings.encode(), where)}
