"""What may be tried on a query: sets of server settings that change its plan, and what each is a remedy for.

All of them are settings that any role may change for its own transaction, and none changes the answer of an exact
query: they steer how it is found.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sona.tuner.execution import ExecutionParams

_JOINS = frozenset({"Nested Loop", "Hash Join", "Merge Join"})
_MEMORY = frozenset({"Sort", "Hash", "Aggregate", "Memoize", "Bitmap Heap Scan", "Incremental Sort", "WindowAgg"})
_INDEXES = frozenset({"Index Scan", "Index Only Scan"})


@dataclass(frozen=True, slots=True)
class Arm:
    """One choice of settings.

    Args:
        name: What people read.
        params: The settings.
        touches: Kinds of operators it may change; a plan without them stays as it is. Empty for any plan.
        is_remedy: Whether it helps where more rows come than the planner expected.
        acts_at_run_time: Whether it may matter although the plan stays the same.
        prior: How likely it is to help where nothing is known of it, over the average arm.
    """

    name: str
    params: ExecutionParams
    touches: frozenset[str] = field(default_factory=frozenset)
    is_remedy: bool = False
    acts_at_run_time: bool = False
    prior: float = 1.0

    def can_change(self, kinds: Collection[str]) -> bool:
        """Return False when a plan of these kinds of operators cannot become another."""
        return not self.touches or not self.touches.isdisjoint(kinds)


SERVER = Arm("server", ExecutionParams())
"""Arm 0: whatever the server chooses."""


def _arm(
    name: str,
    touches: frozenset[str] = frozenset(),
    /,
    *,
    is_remedy: bool = False,
    at_run_time: bool = False,
    prior: float = 1.0,
    parallelism: int | None = None,
    off: tuple[str, ...] = (),
    values: tuple[tuple[str, str], ...] = (),
) -> Arm:
    custom = {**{f"enable_{what}": "off" for what in off}, **dict(values)}
    params = ExecutionParams(parallelism=parallelism, custom=custom)
    return Arm(name, params, touches, is_remedy, at_run_time, prior)


def plan_arms() -> tuple[Arm, ...]:
    """Return what may be tried on any query, without the server's own choice.

    Underestimated rows make nested loops look cheap, so to forbid them comes first where a query takes much longer
    than its cost says. Random reads are priced for disks that turn, and cost less nearly everywhere.

    Source:
        Leis et al. 2015, How good are query optimizers, really?, sections 4 and 5; Marcus et al. 2021, Bao, section 6.

    >>> [arm.name for arm in plan_arms() if arm.is_remedy]
    ['no nested loops', 'hash joins only', 'serial, no nested loops']
    """
    nested = frozenset({"Nested Loop"})
    return (
        _arm("no nested loops", nested, is_remedy=True, off=("nestloop",)),
        _arm("hash joins only", nested | {"Merge Join"}, is_remedy=True, off=("nestloop", "mergejoin")),
        _arm("serial, no nested loops", nested, is_remedy=True, parallelism=0, off=("nestloop",)),
        _arm("no index scans", _INDEXES, off=("indexscan", "indexonlyscan")),
        _arm("cheap random reads", prior=1.5, values=(("random_page_cost", "1.1"),)),
        _arm("more memory", _MEMORY, at_run_time=True, values=(("work_mem", "64MB"),)),
        _arm("no hash joins", frozenset({"Hash Join"}), prior=0.5, off=("hashjoin",)),
        _arm("no bitmap scans", frozenset({"Bitmap Heap Scan"}), off=("bitmapscan",)),
        _arm("no sequential scans", frozenset({"Seq Scan"}), prior=0.5, off=("seqscan",)),
        _arm("nested loops only", _JOINS - nested, prior=0.5, off=("hashjoin", "mergejoin")),
        _arm("serial", frozenset({"Gather", "Gather Merge"}), prior=0.5, parallelism=0),
        _arm(
            "eager parallel",
            prior=0.5,
            values=(
                ("min_parallel_index_scan_size", "0"),
                ("min_parallel_table_scan_size", "0"),
                ("parallel_setup_cost", "0"),
                ("parallel_tuple_cost", "0"),
            ),
        ),
    )
