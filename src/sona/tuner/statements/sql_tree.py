"""The grammar of a statement as a tree, read from its normal form; sqlglot is needed here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from sona.errors import PlanError
from sona.tuner.statements.normal import Piece
from sona.tuner.statements.tokens import words

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

    Node: TypeAlias = Expr
else:
    Node = getattr(exp, "Expr", exp.Expression)  # its name before version 28

_N = TypeVar("_N", bound="Node")

_PLAIN_OPERATORS = words("+ - * / % ^ = < > <= >= <> || => -> ->>")
_SPECIAL_FORMS = ("CAST", "EXTRACT", "POSITION", "SUBSTRING", "TRIM", "OVERLAY")
# A parser that meets text it was not made for raises what its code happens to raise.
_PARSER_ERRORS = (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, LookupError, AssertionError)


class TunerPostgres(Postgres):
    """PostgreSQL as sqlglot reads it, but every function keeps the name it was called by."""

    class Parser(Postgres.Parser):  # type: ignore[valid-type,misc]
        """No function is taken for another one."""

        FUNCTIONS: ClassVar[dict[str, object]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, object]] = {
            name: parser for name, parser in Postgres.Parser.FUNCTION_PARSERS.items() if name in _SPECIAL_FORMS
        }


_POSTGRES = TunerPostgres()


class Tree:
    """The tree of one statement, and the way back from a node to the piece it was read from.

    Raises:
        PlanError: the pieces are not one statement that can be read.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Parse the pieces of a normal form."""
        self.root, self._starts = _parse(pieces)
        self.nodes: tuple[Node, ...] = tuple(self.root.walk())

    def all(self, *kinds: type[_N]) -> list[_N]:
        """Return the nodes of these kinds, outer ones before inner ones."""
        return [node for node in self.nodes if isinstance(node, kinds)]

    def piece_of(self, node: Node) -> int | None:
        """Return the index of the piece that the first name in `node` was read from."""
        for identifier in node.find_all(exp.Identifier):
            start = identifier.meta.get("start")
            if start is not None:
                return self._starts.get(int(start))
        return None


def _parse(pieces: Sequence[Piece]) -> tuple[Node, dict[int, int]]:
    for place in (":p{}", "{}"):  # a few clauses take numbers alone, most others a parameter
        text, starts = _written(pieces, place)
        try:
            trees = _POSTGRES.parse(text)
        except _PARSER_ERRORS:
            continue
        if len(trees) == 1 and isinstance(trees[0], Node):
            return trees[0], starts
    raise PlanError("the statement is in no form that is known here")


def _written(pieces: Sequence[Piece], place: str) -> tuple[str, dict[int, int]]:
    """Return the pieces as the parser reads them, and which piece starts at which character."""
    texts: list[str] = []
    starts: dict[int, int] = {}
    length = count = 0
    for index, piece in enumerate(pieces):
        text = piece.text
        if piece.values:
            count += 1
            text = place.format(count if place[0] == ":" else _FIRST_PLACE + count)
        elif text[0] in _OPERATOR_SIGNS:
            text = _operator(pieces, index)
        starts[length] = index
        texts.append(text)
        length += len(text) + 1
    return " ".join(texts), starts


_OPERATOR_SIGNS = frozenset("+-*/<>=~!@#%^&|`?")
_FIRST_PLACE = 900_000_000  # far above any number that names a column


def _operator(pieces: Sequence[Piece], index: int) -> str:
    """Return an operator in a form that every parser of PostgreSQL knows, and that binds as the server binds it."""
    text = pieces[index].text
    before = pieces[index - 1] if index else None
    if text in _PLAIN_OPERATORS or (index > 1 and pieces[index - 2].text == "operator") or _in_name(pieces, index):
        return text
    is_infix = before is not None and (
        bool(before.values) or before.text in (")", "]") or before.text[0].isalnum() or before.text[0] in '_"'
    )
    return f"OPERATOR({text})" if is_infix and before is not None and before.text not in _BEFORE_PREFIX else "-"


_BEFORE_PREFIX = words("SELECT WHERE AND OR NOT ON BY WHEN THEN ELSE CASE IN HAVING BETWEEN LIKE LIMIT")


def _in_name(pieces: Sequence[Piece], index: int) -> bool:
    """Return whether the operator at `index` is the name in `OPERATOR(schema.name)`."""
    return index > 3 and pieces[index - 1].text == "." and pieces[index - 4].text == "operator"


def place_number(node: Node | None) -> int | None:
    """Return which place of the normal form, from 0, a node is; None when it is none."""
    if isinstance(node, exp.Placeholder) and node.name[:1] == "p" and node.name[1:].isdigit():
        return int(node.name[1:]) - 1
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit() and int(node.name) > _FIRST_PLACE:
        return int(node.name) - _FIRST_PLACE - 1
    return None


def child(node: Node, name: str) -> Node | None:
    """Return a part of a node by its name, which some versions of the parser end in an underscore."""
    found = node.args.get(name) or node.args.get(name + "_")
    return found if isinstance(found, Node) else None


def children(node: Node | None, name: str) -> list[Node]:
    """Return the parts of a node that are a list; empty when there are none."""
    found = None if node is None else node.args.get(name)
    return [part for part in found if isinstance(part, Node)] if isinstance(found, list) else []


def bare(node: Node) -> Node:
    """Return a node without the brackets around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def without_alias(node: Node) -> Node:
    """Return what an item of a select list computes."""
    return bare(node.this if isinstance(node, exp.Alias) else node)


def ordered_by(query: Node) -> list[Node]:
    """Return what a query is ordered by: names and numbers of its output replaced by what they stand for."""
    return [resolved(term.this, query) for term in children(child(query, "order"), "expressions")]


def resolved(term: Node, query: Node) -> Node:
    """Return what a term of ORDER BY or GROUP BY stands for in a query."""
    items = children(query, "expressions")
    term = bare(term)
    if isinstance(term, exp.Literal) and not term.is_string and place_number(term) is None and term.name.isdigit():
        number = int(term.name)
        return without_alias(items[number - 1]) if 0 < number <= len(items) else term
    if isinstance(term, exp.Column) and not term.table:
        for item in items:
            if isinstance(item, exp.Alias) and item.alias == term.name:
                return without_alias(item)
    return term


def within(query: Node) -> Iterator[Node]:
    """Yield the nodes of a query that belong to itself, not to a query inside it."""
    yield query
    waiting = list(query.iter_expressions())
    while waiting:
        node = waiting.pop()
        if isinstance(node, exp.Query):
            continue
        yield node
        waiting.extend(node.iter_expressions())


def is_everything(limit: Node) -> bool:
    """Return whether a LIMIT leaves nothing out: ALL or NULL."""
    kept = limit.args.get("expression")
    return isinstance(kept, exp.Null) or (isinstance(kept, exp.Column | exp.Var) and kept.name.lower() == "all")


def function_name(node: Node) -> str:
    """Return the name of a function that is called, in lower case; empty for anything else."""
    return str(node.name).lower() if isinstance(node, exp.Anonymous) else ""


def operator_of(node: Node) -> str:
    """Return the operator of a node that the parser knows by its text alone, without its schema."""
    return str(node.args.get("operator")).rpartition(".")[2] if isinstance(node, exp.Operator) else ""


def is_query(tree: Tree) -> bool:
    """Return whether a statement returns rows and nothing else: SELECT, VALUES, or several of them together."""
    return isinstance(tree.root, exp.Query | exp.Values)


def writes(tree: Tree) -> bool:
    """Return whether a statement, or a WITH query of it, changes rows."""
    return any(isinstance(node, exp.Insert | exp.Update | exp.Delete | exp.Merge) for node in tree.nodes)


def is_storing(tree: Tree) -> bool:
    """Return whether a statement is SELECT INTO."""
    return any(child(query, "into") is not None for query in tree.all(exp.Query))


def is_locking(tree: Tree) -> bool:
    """Return whether a statement locks the rows it reads."""
    return any(children(query, "locks") for query in tree.all(exp.Query))


def samples_at_random(tree: Tree) -> bool:
    """Return whether a statement reads a sample of a table that is another one each time."""
    return any(sample.args.get("seed") is None for sample in tree.all(exp.TableSample))


def tables_of(tree: Tree) -> tuple[str, ...]:
    """Return the tables a statement reads, each once, sorted; WITH queries are none."""
    named = {known.alias for known in tree.all(exp.CTE)}
    tables = (table for table in tree.all(exp.Table) if isinstance(table.this, exp.Identifier))
    return tuple(sorted({table_name(table) for table in tables if table.db or table.name not in named}))


def table_name(table: exp.Table) -> str:
    """Return the name of a table, with its schema where one is given."""
    return f"{table.db}.{table.name}" if table.db else str(table.name)
