"""What does keeping the log cost a request, and how long do waiting, opening and erasing take?

python bench/speed_stores.py [--json FILE] [--quick] [--folder FOLDER]

Each figure stands beside a control. The log is on the disk of FOLDER (the folder for temporary files by default).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from sona.stores import Event, MemoryStore, Snapshot, SqliteStore, blob_digest, database
from speed.timing import Figure, seconds

_RNG = np.random.default_rng(0)
_VECTORS = [_RNG.bytes(1024) for _ in range(200)]  # 256 wide, float32
_DIGESTS = [blob_digest(vector) for vector in _VECTORS]
_BODY = _RNG.bytes(1500)


def event(seq: int) -> Event:
    """Return what a ranking of ten items leaves in the log."""
    shown = range(seq % 190, seq % 190 + 10)
    return Event(seq, "answered", float(seq), f"u{seq % 50}", seq, _BODY, {_DIGESTS[i]: _VECTORS[i] for i in shown})


def request() -> None:
    """Stand in for a request: about 200 us of Python on one thread, and a pause as a server makes between two."""
    sum(number * number for number in range(3000))
    time.sleep(1e-3)


def per_request_us(store: SqliteStore | MemoryStore | None, calls: int, *, is_acknowledged: bool = False) -> float:
    """Return microseconds of computing, on all threads, of a request that hands one event over."""
    first = 0 if store is None else store.last_seq
    began = time.process_time()
    for seq in range(first + 1, first + calls + 1):
        request()
        if store is not None:
            store.append(seq, partial(event, seq), is_acknowledged=is_acknowledged)
    if store is not None:
        store.flush()
    return 1e6 * (time.process_time() - began) / calls


def appending(folder: Path, calls: int) -> Iterator[Figure]:
    """Yield what handing an event over costs, and what the writing thread computes for it."""
    rounds, times = [], []
    with closing(SqliteStore(folder / "append", queue_size=10 * calls)) as store, closing(MemoryStore()) as memory:
        for _ in range(5):
            bare = per_request_us(None, calls)
            costs = (
                per_request_us(store, calls),
                per_request_us(store, calls, is_acknowledged=True),
                per_request_us(memory, calls),
            )
            rounds.append([cost - bare for cost in costs])
        first = store.last_seq
        for seq in range(first + 1, first + calls + 1):
            append = partial(store.append, seq, partial(event, seq), is_acknowledged=False)
            times.append(1e6 * seconds(append))
    in_company, at_once, in_memory = map(float, np.median(rounds, axis=0))
    middle, slow = map(float, np.percentile(times, [50, 99]))
    yield Figure("append, median", middle, "us")
    yield Figure("append, p99", slow, "us")
    yield Figure("computing for an event", in_company, "us", control=in_memory, control_name="kept in memory")
    yield Figure("computing for one written at once", at_once, "us", control=in_company, control_name="in company")


def waiting(folder: Path, calls: int) -> Iterator[Figure]:
    """Yield what waiting for one event takes."""
    found = {}
    for level in ("strict", "batched"):
        with closing(SqliteStore(folder / level, durability=level)) as store:
            times = []
            for seq in range(1, calls + 1):
                store.append(seq, partial(event, seq), is_acknowledged=True)
                times.append(1e3 * seconds(partial(store.wait, seq)))
        found[level] = float(np.median(times))
    yield Figure("wait, strict, median", found["strict"], "ms", control=found["batched"], control_name="batched")


def whole_files(folder: Path, size: int) -> Iterator[Figure]:
    """Yield what writing, opening and erasing take for a log of `size` events."""
    path = folder / "large"
    with closing(SqliteStore(path, queue_size=size + 1)) as store:
        began = time.perf_counter()
        for seq in range(1, size + 1):
            store.append(seq, lambda seq=seq: Event(seq, "k", 0.0, None, seq, _BODY), is_acknowledged=False)
        store.flush()
        yield Figure("written, 1.5 KB each", 1e-3 * size / (time.perf_counter() - began), "k/s")
    megabytes = path.stat().st_size / 1e6

    def open_and_close() -> None:
        SqliteStore(path).close()

    checked = min(seconds(open_and_close) for _ in range(3))
    with patch.object(database, "_CHECKED_BYTES", -1):
        unchecked = min(seconds(open_and_close) for _ in range(3))
    scale = 1e3 * 100.0 / megabytes
    yield Figure(
        "opening, per 100 MB", scale * checked, "ms", control=scale * unchecked, control_name="not read through"
    )
    with closing(SqliteStore(path)) as store:
        gone = range(1, size + 1, 100)
        erased = seconds(partial(store.erase, gone, [], Snapshot(size, 0.0, "", b"")))
    yield Figure("erasing 1 % of the events, per 100 MB", scale * erased, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    parser.add_argument("--folder", type=Path, help="where the log is written")
    options = parser.parse_args()
    calls, size = (50, 500) if options.quick else (1000, 100_000)
    print(f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "")
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for group in (appending(folder, calls), waiting(folder, max(calls // 5, 5)), whole_files(folder, size)):
            for figure in group:
                control = "" if figure.control is None else f"{figure.control:10.2f}  {figure.control_name}"
                print(f"{figure.name:45}{figure.value:10.2f} {figure.unit:4}{control}", flush=True)
                found.append(figure)
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
