"""What the server's catalogue says against tuning a statement: functions that do more than compute, and views.

A function that reads tables by itself does so with the settings of the statement, and none of it is seen in the plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from sona.tuner.statements.statement import Statement

_CALLS = re.compile(r'("[^"]+"|[A-Za-z_][\w$]*)\s*\(')
_HIDDEN = frozenset({"Limit", "WindowAgg", "Unique", "LockRows", "Sample Scan", "ModifyTable"})
_COLLECTS = re.compile(r"any_value|xmlagg|(string|array|jsonb?(_object|_array)?)_?agg(_strict|_unique|_unique_strict)?")
_FUNCTIONS = """
SELECT p.proname, CASE WHEN p.provolatile = 'v' THEN 'which is volatile'
  WHEN p.prokind = 'a' THEN 'an aggregate that may depend on the order of its rows'
  ELSE 'which may look at tables in any order' END
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.proname = ANY(%s) AND (p.provolatile = 'v' OR p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace AND (
  p.provolatile = 's' AND l.lanname NOT IN ('internal', 'c')
  OR p.prokind = 'a' AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc o
    WHERE o.proname = p.proname AND o.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)))
ORDER BY p.provolatile = 'v' DESC, p.proname LIMIT 1"""
_VIEWS = "SELECT relname FROM pg_catalog.pg_class WHERE relname = ANY(%s) AND relkind = 'v' ORDER BY 1 LIMIT 1"

Ask = Callable[[str, Sequence[object]], list[tuple[object, ...]]]


def refusal_of(ask: Ask, statement: Statement, document: object) -> str | None:
    """Return why a statement must be left alone, in one sentence; None when the catalogue knows nothing against it.

    Args:
        ask: Runs a query with parameters and returns its rows.
        statement: The statement.
        document: Its plan by EXPLAIN (FORMAT JSON, VERBOSE), as the driver returns it.
    """
    texts, kinds = set(statement.functions), set()
    for name, value in _fields(document):
        if name == "Node Type":
            kinds.add(value)
        texts.update(call.strip('"') for call in _CALLS.findall(value))
    calls = {name.rpartition(".")[2].strip('"').lower() for name in texts}
    if found := ask(_FUNCTIONS, [sorted(calls | texts)]):
        return f"it calls {found[0][0]}, {found[0][1]}"
    hidden = sorted(kinds & _HIDDEN) or sorted(filter(_COLLECTS.fullmatch, calls))
    if hidden and statement.plan_dependence is None:
        tables = [name.rpartition(".")[2].strip('"') for name in statement.tables]
        if views := ask(_VIEWS, [tables]):
            return f"the view {views[0][0]} may give another answer by another plan ({hidden[0]})"
    return None


def _fields(document: object) -> Iterator[tuple[str, str]]:
    if isinstance(document, Mapping):
        for name, value in document.items():
            if isinstance(value, str):
                yield str(name), value
            elif isinstance(value, Sequence) and all(isinstance(one, str) for one in value):
                yield from ((str(name), one) for one in value)
            else:
                yield from _fields(value)
    elif isinstance(document, Sequence) and not isinstance(document, str):
        for one in document:
            yield from _fields(one)
