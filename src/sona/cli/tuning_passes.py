"""Times of past passes over a workload, in a file beside what was learned: what a chart of them is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from sona.state import State, read_state, write_state
from sona.tuner.run import PassResult
from sona.tuner.statements.workload import WorkloadQuery

_KIND = "tuner passes"
_MOST = 1000  # passes kept, the latest


@dataclass(frozen=True, slots=True)
class PassTime:
    """One whole pass over a workload.

    Args:
        workload: Digest of its queries.
        at: When it ended, seconds since the epoch.
        tuned_s: Seconds with what the tuner chose.
        server_s: Seconds of the same queries as the server chooses; None when they were not run so.
        errors: Queries that failed.
    """

    workload: str
    at: float
    tuned_s: float
    server_s: float | None
    errors: int


def workload_digest(queries: Sequence[WorkloadQuery]) -> str:
    """Return what a workload is known by: the texts of its queries in their order."""
    return blake2b(
        "\0".join(query.sql for query in queries).encode("utf-8", "surrogatepass"), digest_size=8
    ).hexdigest()


def pass_time(workload: str, found: PassResult, at: float) -> PassTime:
    """Return what is kept of a pass."""
    return PassTime(workload, at, found.tuned_s, found.server_s, found.errors)


def passes_file(state: Path) -> Path:
    """Return where passes are kept, beside what the tuner learned in them."""
    return state.with_name(f"{state.name}.passes")


def read_passes(state: Path) -> tuple[PassTime, ...]:
    """Return the passes kept beside `state`, oldest first; none when there is no file.

    Raises:
        StoreError: the file is damaged, or of another kind.
    """
    path = passes_file(state)
    if not path.exists():
        return ()
    kept = read_state(path, _KIND)
    workloads = kept.texts("workloads")
    times, errors = kept.doubles("times", len(workloads), 3), kept.wholes("errors", len(workloads))
    return tuple(
        PassTime(name, float(at), float(tuned_s), None if server_s < 0.0 else float(server_s), int(failed))
        for name, (at, tuned_s, server_s), failed in zip(workloads, times, errors, strict=True)
    )


def write_passes(state: Path, passes: Sequence[PassTime]) -> None:
    """Keep passes beside `state`, the latest thousand.

    Raises:
        StoreError: the file cannot be written.
    """
    kept = passes[-_MOST:]
    times = [(one.at, one.tuned_s, -1.0 if one.server_s is None else one.server_s) for one in kept]
    values = State(
        {
            "workloads": [one.workload for one in kept],
            "times": np.array(times, np.float64).reshape(-1, 3),
            "errors": np.array([one.errors for one in kept], np.int64),
        }
    )
    write_state(passes_file(state), _KIND, values)


def latest_passes(passes: Sequence[PassTime]) -> tuple[PassTime, ...]:
    """Return the passes over the workload that was run last; others took other times."""
    return tuple(one for one in passes if one.workload == passes[-1].workload)
