"""`sona tune demo` without a terminal: a server of its own, a workload it makes itself, and what tuning brings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sona.demo.postgres_shop import shop_queries, shop_sql
from sona.errors import InvalidValue, MissingExtra, StoreError
from sona.state import Plain

if TYPE_CHECKING:
    from sona.demo.postgres_search import Lines, SearchPass
    from sona.tuner.report import TunerReport
    from sona.tuner.run import PassResult, WorkloadResult

_SEARCHES = 24  # of a pass
_LEAST_S = 20.0
_SPARE_S = 2.0  # for what comes after the last pass
_LAST = 5  # passes that say what was reached


@dataclass(frozen=True, slots=True)
class TunerDemonstration:
    """What a run found, and where it is kept.

    Args:
        version: Of the server.
        result: How the queries of the shop went, tuned and as the server chooses.
        searches: How the searches went, a pass each.
        ended: When each pass ended, seconds since the epoch.
        report: What the tuner says of it.
        state: The file that holds what was learned.
        elapsed_s: Seconds from start to end.
    """

    version: str
    result: WorkloadResult
    searches: tuple[SearchPass, ...]
    ended: tuple[float, ...]
    report: TunerReport
    state: Path
    elapsed_s: float

    @property
    def last(self) -> tuple[PassResult, ...]:
        """The passes that say what was reached: the last five, or the later half of fewer than ten."""
        return self.result.passes[-_reached(len(self.result.passes)) :]

    @property
    def last_searches(self) -> tuple[SearchPass, ...]:
        """The searches of those passes."""
        return self.searches[-_reached(len(self.searches)) :]

    @property
    def last_ratio(self) -> float | None:
        """Tuned time over the server's own in those passes; None when nothing was compared."""
        server_s = sum(one.server_s or 0.0 for one in self.last)
        return sum(one.tuned_s for one in self.last) / server_s if server_s > 0.0 else None

    def to_json(self) -> dict[str, Plain]:
        """Return the figures as plain values."""
        searches: list[Plain] = [asdict(one) for one in self.searches]
        return {
            "server": self.version,
            **self.result.to_json(),
            "last_ratio": self.last_ratio,
            "searches": searches,
            "report": self.report.to_json(),
            "state": str(self.state),
            "elapsed_s": round(self.elapsed_s, 2),
        }


def _reached(passes: int) -> int:
    return max(1, min(_LAST, passes // 2))


def demonstrate(
    seconds: float, output: Path, *, on_stage: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> TunerDemonstration:
    """Run a workload with a new tuner on a new server, beside it as the server chooses, until the time is up.

    At least two passes are run, however long they take. The server ends with this call, however that ends.

    Args:
        seconds: How long it may take, about, at least 20.
        output: Folder of what was learned; made when there is none, an earlier demonstration in it is replaced.
        on_stage: Called with what begins, in words.
        on_progress: Called with (queries done, queries of this pass).

    Raises:
        InvalidValue: too little time.
        MissingExtra: a package is missing; said before the work begins.
        StoreError: the folder cannot be written; said before the work begins.
        TunerError: the server does not start, or is lost.
    """
    began = time.monotonic()
    if seconds < _LEAST_S:
        raise InvalidValue(f"seconds: expected at least {_LEAST_S:g}, got {seconds:g}")
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("threadpoolctl", "demo", "the demo") from error
    from sona.demo.postgres_search import read_lines
    from sona.tuner.embedded import EmbeddedServer

    state = _state(output)
    on_stage("Starting a server")
    with EmbeddedServer() as server, threadpool_limits(1):
        on_stage("Reading the documentation of the standard library")
        lines = read_lines()
        on_stage(f"Filling a shop and an index of {len(lines.texts):,} vectors")
        _fill(server.dsn, lines)
        show = _Show(server.dsn, lines, on_stage, on_progress)
        with closing(show):
            while show.is_due(began + seconds - _SPARE_S):
                show.run_pass()
            show.tuner.save(state)
            return show.found(server.version, state, time.monotonic() - began)


def _state(output: Path) -> Path:
    from sona.tuner.tuner import Tuner

    state = output.absolute() / "tuner.sona"
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write to the folder {output}: {error.strerror or error}") from error
    Tuner().save(state)
    return state


def _fill(dsn: str, lines: Lines) -> None:
    from sona.demo.postgres_search import load_lines
    from sona.tuner.run import open_connection

    with open_connection(dsn) as connection:
        connection.execute(shop_sql().encode())
        load_lines(connection, lines)
        connection.execute("VACUUM ANALYZE")


class _Show:
    """Passes over the shop and the searches, by one tuner."""

    def __init__(
        self, dsn: str, lines: Lines, on_stage: Callable[[str], None], on_progress: Callable[[int, int], None]
    ) -> None:
        from sona.demo.postgres_search import SearchRun
        from sona.tuner.run import WorkloadRun, open_connection
        from sona.tuner.tuner import Tuner

        self.tuner = Tuner()
        self._on_stage, self._on_progress = on_stage, on_progress
        self._shop = WorkloadRun(self.tuner, dsn, shop_queries(), is_compared=True)
        self._connections = (open_connection(dsn, self.tuner), open_connection(dsn))
        self._searches = SearchRun(lines, *self._connections)
        self._ended: list[float] = []
        self._pass_s = 0.0

    def is_due(self, deadline: float) -> bool:
        """Return True when another pass is expected to end before `deadline`, a moment of the monotonic clock."""
        return len(self._ended) < 2 or time.monotonic() + self._pass_s < deadline

    def run_pass(self) -> None:
        """Run every query of the shop and some searches, both ways."""
        began = time.monotonic()
        self._on_stage(f"Pass {len(self._ended) + 1}: tuned, and as the server chooses")
        self._shop.run_pass(lambda _, done, total: self._on_progress(done, total))
        self._searches.run_pass(_SEARCHES)
        self._ended.append(time.time())
        self._pass_s = time.monotonic() - began

    def found(self, version: str, state: Path, elapsed_s: float) -> TunerDemonstration:
        """Return how it went."""
        result, searches = self._shop.result(), tuple(self._searches.found)
        ended = tuple(self._ended)
        return TunerDemonstration(version, result, searches, ended, self.tuner.report(), state, elapsed_s)

    def close(self) -> None:
        """Close the connections."""
        self._shop.close()
        for connection in self._connections:
            connection.close()


__all__: Sequence[str] = ["TunerDemonstration", "demonstrate"]
