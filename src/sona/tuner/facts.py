"""What the server's catalogue says against tuning a statement: volatile functions, and views that hide something."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from sona.tuner.statement import Statement

_CALLS = re.compile(r'("[^"]+"|[A-Za-z_][\w$]*)\s*\(')
_HIDDEN = frozenset({"Limit", "WindowAgg", "LockRows", "Sample Scan", "ModifyTable"})
_VOLATILE = "SELECT proname FROM pg_catalog.pg_proc WHERE proname = ANY(%s) AND provolatile = 'v' LIMIT 1"
_VIEWS = "SELECT relname FROM pg_catalog.pg_class WHERE relname = ANY(%s) AND relkind = 'v' LIMIT 1"

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
    functions = sorted({name.rpartition(".")[2].strip('"').lower() for name in texts} | texts)
    if volatile := ask(_VOLATILE, [functions]):
        return f"it calls {volatile[0][0]}, which is volatile"
    hidden = sorted(kinds & _HIDDEN)
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
