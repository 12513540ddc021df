"""Ways to run a nearest-neighbour search: the server's own, other efforts of the index, and past the index."""

from __future__ import annotations

from dataclasses import dataclass

from sona.errors import InvalidValue
from sona.tuner.execution import ExecutionParams

_STRICT = {"hnsw.iterative_scan": "strict_order"}


@dataclass(frozen=True, slots=True)
class SearchArm:
    """One way to run a search.

    Args:
        name: What reports call it.
        params: Settings it runs with; empty ones for the server's own choice.
    """

    name: str
    params: ExecutionParams


OWN = SearchArm("default", ExecutionParams())
"""The server's own choice: nothing is sent."""
EXACT = SearchArm("exact", ExecutionParams(custom={"enable_indexscan": "off"}))
"""Every row that passes the filter: only index scans read an index on a distance, bitmap scans can read a b-tree."""


def search_arms(index_kind: str) -> tuple[SearchArm, ...]:
    """Return the arms of an index, the server's own choice first and `EXACT` last; no index, nothing to choose.

    None changes the order of the rows that are found: `relaxed_order` scans do, and are left out. Iterative scans need
    pgvector 0.8.

    Args:
        index_kind: Access method of the index on the distance, "hnsw" or "ivfflat"; "" without an index.

    Raises:
        InvalidValue: an access method of another name.

    >>> [arm.name for arm in search_arms("ivfflat")]
    ['default', 'probes 3', 'probes 10', 'probes 30', 'probes 100', 'exact']
    """
    if index_kind not in ("hnsw", "ivfflat", ""):
        raise InvalidValue(f"index_kind: expected hnsw, ivfflat or nothing, got {index_kind!r}")
    if not index_kind:
        return (OWN,)
    if index_kind == "ivfflat":
        probes = (3, 10, 30, 100)
        return (OWN, *(SearchArm(f"probes {count}", ExecutionParams(probes=count)) for count in probes), EXACT)
    return (OWN, *_efforts((80, 120, 200, 400, 800), "ef"), *_strict(), EXACT)


def _efforts(candidates: tuple[int, ...], name: str) -> tuple[SearchArm, ...]:
    return tuple(SearchArm(f"{name} {count}", ExecutionParams(ef_search=count)) for count in candidates)


def _strict() -> tuple[SearchArm, ...]:
    # 40 candidates are too few to begin with: among them the answer is complete, and still wrong.
    return tuple(SearchArm(f"strict {count}", ExecutionParams(ef_search=count, custom=_STRICT)) for count in (80, 200))


def finds_no_more(one: SearchArm, other: SearchArm) -> bool:
    """Return True when `other` differs from `one` by a greater effort of the index alone."""
    ours, theirs = one.params, other.params
    if dict(ours.custom) != dict(theirs.custom):
        return False
    pairs = ((ours.ef_search, theirs.ef_search), (ours.probes, theirs.probes))
    return any(a is not None and b is not None and a < b for a, b in pairs)
