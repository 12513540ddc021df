"""A search rewritten to return its distances: pieces of the statement as it was written, put together anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sona.errors import InvalidValue, PlanError
from sona.tuner.statements.tokens import TokenKind, tokens, words
from sona.tuner.statements.vocabulary import RESERVED

Parameters = Sequence[object] | Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A statement made from another one.

    Args:
        sql: Its text.
        parameters: What it takes of the other one's parameters, in order: places from 0, or names.
    """

    sql: str
    parameters: tuple[int | str, ...]

    def bind(self, values: Parameters) -> Parameters:
        """Return its parameters, taken out of those the other statement was given.

        Raises:
            InvalidValue: there are fewer than the other statement takes.
        """
        try:
            if values is None or isinstance(values, Mapping):
                return None if values is None else {str(key): values[str(key)] for key in self.parameters}
            return [values[int(key)] for key in self.parameters]
        except LookupError as error:
            raise InvalidValue(f"parameters: the statement takes {self.parameters}, got {len(values or ())}") from error


def distances(sql: str, column_at: int) -> Rewrite:
    """Return the search that holds the column at a character, with the distance as its only output.

    Raises:
        PlanError: the search is not ordered by an expression that holds this column.
    """
    text = _Text(sql)
    return text.written(text.parts(text.index_at(column_at)))


@dataclass(frozen=True, slots=True)
class _Span:
    """The tokens from `start` up to, not including, `end`."""

    start: int
    end: int


class _Text:
    """The tokens of a statement and how deep in brackets each stands."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.given = tokens(sql)
        while self.given and self.given[-1].text == ";":
            self.given.pop()
        self.depths: list[int] = []
        depth = 0
        for token in self.given:
            depth -= token.text in (")", "]")
            self.depths.append(depth)
            depth += token.text in ("(", "[")

    def index_at(self, character: int) -> int:
        return next(index for index, token in enumerate(self.given) if token.start == character)

    def word(self, index: int) -> str:
        token = self.given[index]
        return token.text.lower() if token.kind is TokenKind.WORD else token.text

    def find(self, words: Sequence[str], span: _Span, depth: int) -> int:
        """Return the first token in `span` that is one of `words` at a depth; the end of the span without one."""
        for index in range(span.start, span.end):
            if self.depths[index] == depth and self.word(index) in words:
                return index
        return span.end

    # -- where the search is -----------------------------------------------------------------------------------

    def groups(self, inside: int) -> list[_Span]:
        """Return the queries around a token, outermost first: the whole text, then brackets that open with a query."""
        found = [_Span(0, len(self.given))]
        depth = 0
        for index in range(inside):
            if self.word(index) == "(" and self.depths[index] >= depth and self.closing(index) > inside:
                depth = self.depths[index] + 1
                if self.word(index + 1) in ("select", "with"):
                    found.append(_Span(index + 1, self.closing(index)))
        return found

    def closing(self, opened: int) -> int:
        for index in range(opened + 1, len(self.given)):
            if self.depths[index] == self.depths[opened]:
                return index
        return len(self.given)

    def select_in(self, group: _Span, before: int) -> int:
        """Return the last SELECT of a group itself that stands before a token."""
        depth = self.depths[group.start]
        found = -1
        while (at := self.find(("select",), _Span(max(found + 1, group.start), before), depth)) < before:
            found = at
        if found < 0:
            raise PlanError("the search stands in no SELECT that can be found")
        return found

    def parts(self, column: int) -> list[_Span | str]:
        groups = self.groups(column)
        group = groups[-1]
        depth = self.depths[group.start]
        select = self.select_in(group, column)
        body = _Span(select + 1, group.end)
        origin = self.from_of(body, depth)
        order = self.find(("order",), _Span(origin, group.end), depth)
        if origin >= group.end or order >= group.end:
            raise PlanError("the search has no FROM or no ORDER BY of its own")
        self.refuse_other_rows(_Span(select + 1, origin))
        term = _Span(order + 2, self.term_end(order + 2, group.end, depth))
        distance = term if term.start <= column < term.end else self.item(column, _Span(select + 1, origin), depth)
        direction = self.find((",", *_TAIL), _Span(term.end, group.end), depth)
        rest = self.find(_TAIL, _Span(direction, group.end), depth)
        with_parts = self.with_before(groups, select, column)
        return [
            *with_parts,
            "SELECT",
            distance,
            "AS distance",
            _Span(origin, order + 2),
            "1",
            _Span(term.end, direction),
            _Span(rest, group.end),
        ]

    def refuse_other_rows(self, items: _Span) -> None:
        """Refuse a select list that decides how many rows there are: without it there would be others."""
        found = [self.word(items.start)] if self.word(items.start) == "distinct" else []
        found += [self.word(at) for at in range(items.start, items.end) if self.word(at) in _MULTIPLY]
        if found:
            raise PlanError(f"{found[0].upper()} in the select list changes which rows are returned")

    def from_of(self, body: _Span, depth: int) -> int:
        at = body.start
        while (at := self.find(("from",), _Span(at, body.end), depth)) < body.end:
            compares = self.word(at - 1) == "distinct" and self.word(at - 2) in ("is", "not")
            if not compares:
                return at
            at += 1
        return body.end

    def term_end(self, start: int, end: int, depth: int) -> int:
        return self.find((",", "asc", "desc", "nulls", *_TAIL), _Span(start, end), depth)

    def item(self, column: int, items: _Span, depth: int) -> _Span:
        """Return the item of a select list that holds a token, without its name."""
        start = items.start
        while (end := self.find((",",), _Span(start, items.end), depth)) < column:
            start = end + 1
        if not start <= column < end:
            raise PlanError("the search is not ordered by the distance")
        last, named = self.given[end - 1], self.word(end - 2) if end - 2 > start else ""
        if named == "as":
            return _Span(start, end - 2)
        is_name = last.kind in (TokenKind.WORD, TokenKind.QUOTED) and self.ends_operand(end - 2)
        return _Span(start, end - 1 if is_name else end)

    def ends_operand(self, index: int) -> bool:
        token = self.given[index]
        return token.text in (")", "]") or (
            token.kind not in (TokenKind.MARK, TokenKind.OPERATOR) and self.word(index) not in RESERVED
        )

    # -- what it refers to -------------------------------------------------------------------------------------

    def with_before(self, groups: list[_Span], select: int, column: int) -> list[_Span | str]:
        """Return the WITH that the search may refer to: of each query around it, what stands before the search."""
        parts: list[_Span | str] = []
        for group, inner in zip(groups, [*groups[1:], None], strict=True):
            if self.word(group.start) != "with":
                continue
            start = group.start + 1
            if self.word(start) == "recursive":
                raise PlanError("the search stands beside a recursive query, and cannot run alone")
            depth = self.depths[group.start]
            main = self.find(("select",), _Span(start, group.end), depth)
            end = main if inner is None or inner.start > main else self.names_end(_Span(start, inner.start), depth)
            if end > start:
                parts += ["," if parts else "WITH", _Span(start, end)]
        return parts

    def names_end(self, span: _Span, depth: int) -> int:
        """Return where the WITH queries end that are complete before a token."""
        end = span.start
        while (at := self.find((",",), _Span(end + (end > span.start), span.end), depth)) < span.end:
            end = at
        return end

    # -- writing -----------------------------------------------------------------------------------------------

    def written(self, parts: Sequence[_Span | str]) -> Rewrite:
        used = [token for part in parts if isinstance(part, _Span) for token in self.given[part.start : part.end]]
        keys = _keys([token.text for token in self.given if token.kind is TokenKind.PARAMETER])
        every = [token for token in self.given if token.kind is TokenKind.PARAMETER]
        key_of = {token.start: key for token, key in zip(every, keys, strict=True)}
        order = [key_of[token.start] for token in used if token.kind is TokenKind.PARAMETER]
        numbered = any(token.text[0] == "$" for token in every)
        taken = list(order)
        if numbered:
            taken = sorted(set(order), key=int)
        elif any(isinstance(key, str) for key in order):
            taken = list(dict.fromkeys(order))
        names = {f"${int(key) + 1}": f"${place}" for place, key in enumerate(taken, 1)} if numbered else {}
        texts = [part if isinstance(part, str) else self.text_of(part, names) for part in parts]
        return Rewrite(" ".join(text for text in texts if text), tuple(taken))

    def text_of(self, span: _Span, names: Mapping[str, str]) -> str:
        """Return the text of a span to the letter, parameters under their new names."""
        if span.end <= span.start:
            return ""
        out, at = [], self.given[span.start].start
        for token in self.given[span.start : span.end]:
            if token.kind is TokenKind.PARAMETER and token.text in names:
                out += [self.sql[at : token.start], names[token.text]]
                at = token.end
        return "".join([*out, self.sql[at : self.given[span.end - 1].end]])


_MULTIPLY = words(
    "generate_series generate_subscripts json_array_elements json_array_elements_text json_each json_each_text "
    "json_object_keys jsonb_array_elements jsonb_array_elements_text jsonb_each jsonb_each_text jsonb_object_keys "
    "jsonb_path_query regexp_matches regexp_split_to_table string_to_table unnest"
)
_TAIL = ("limit", "offset", "fetch", "for")


def _keys(texts: Sequence[str]) -> list[int | str]:
    """Return what each parameter takes: its place from 0, or its name."""
    found: list[int | str] = []
    positional = 0
    for text in texts:
        if text[0] == "$":
            found.append(int(text[1:]) - 1)
        elif text[1] == "(":
            found.append(text[2 : text.rindex(")")])
        else:
            found.append(positional)
            positional += 1
    return found
