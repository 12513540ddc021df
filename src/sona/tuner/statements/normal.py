"""A statement without its values: what stays the same from one call to the next, and the values in order.

Two statements with one normal form ask the same question about other values. The form is made from tokens, so that it
does not change with the version of a parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sona.tuner.statements.tokens import Token, TokenKind
from sona.tuner.statements.values import Literal, Parameter, Value
from sona.tuner.statements.vocabulary import (
    LIST_ENDS,
    NEVER_BARE,
    NOT_CALLED,
    NOT_OPERANDS,
    PLAIN_NAME,
    RESERVED,
    TYPE_TAILS,
    TYPES,
    UNITS,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of the normal form: a word, or a place that `values` fill."""

    text: str
    origin: int  # the token it starts with
    values: tuple[Value, ...] = ()


@dataclass(slots=True)
class _Group:
    """An open bracket: what it belongs to, and where it is."""

    owner: str = ""  # the word before it, in lower case
    opened: int = 0  # its piece
    in_by: bool = False  # inside a list of GROUP BY or ORDER BY, where whole numbers are columns


@dataclass(frozen=True, slots=True)
class NormalForm:
    """The pieces of a statement, values and the brackets around them reduced to places.

    >>> from sona.tuner.statements.tokens import tokens
    >>> form = normal_form(tokens("select * from T where a in (1, -2) and b = 'x'::text order by 1"))
    >>> form.text
    'SELECT * FROM t WHERE a IN ($1) AND b = $2 ORDER BY 1'
    >>> [value.text for place in form.places for value in place.values]
    ['1', '-2', "'x'"]
    """

    pieces: tuple[Piece, ...] = ()

    @property
    def places(self) -> tuple[Piece, ...]:
        """The pieces that values fill, in order: place n is `$n` of the text, counted from 1."""
        return tuple(piece for piece in self.pieces if piece.values)

    @property
    def text(self) -> str:
        """The normal form as SQL; reading it again gives the same text."""
        return written([piece.text for piece in numbered(self.pieces)])


def numbered(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with `$1`, `$2`, ... where values stand."""
    count, made = 0, []
    for piece in pieces:
        count += bool(piece.values)
        made.append(Piece(f"${count}", piece.origin, piece.values) if piece.values else piece)
    return made


_NO_SPACE_BEFORE = frozenset(",)].;:") | {"::", "["}
_NO_SPACE_AFTER = frozenset("([.:") | {"::"}


def written(texts: Sequence[str]) -> str:
    """Return the texts with the usual spaces between them."""
    out: list[str] = []
    before = "("
    for text in texts:
        called = text == "(" and before[-1:] not in _SIGNS and before.lower() not in NOT_CALLED
        if not (called or text in _NO_SPACE_BEFORE or before in _NO_SPACE_AFTER):
            out.append(" ")
        out.append(text)
        before = text
    return "".join(out)


_SIGNS = frozenset("+-*/<>=~!@#%^&|`?,")


def normal_form(given: Sequence[Token]) -> NormalForm:
    """Return the normal form of a statement's tokens; what is not SQL stays as it is.

    Literals and parameters become places, with the casts, signs and type names that belong to them; a list of values
    after IN, an array of values and the rows of VALUES become one place per column, however long they are. Whole
    numbers that name columns in GROUP BY and ORDER BY stay, as do the sizes of types.
    """
    return _Reader(given).read()


def called_functions(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Return the names before an opening bracket that call a function, with their schemas, each once, sorted.

    A name that stands behind another one is an alias: `FROM unnest(a) u(x)` calls `unnest` alone.
    """
    found = set()
    for index, piece in enumerate(pieces[:-1]):
        if pieces[index + 1].text != "(" or not _is_callable(piece):
            continue
        start = index
        while start > 1 and pieces[start - 1].text == ".":
            start -= 2
        before = pieces[start - 1] if start else None
        if before is None or not (before.text in (")", "AS", "WITH", "RECURSIVE", "::") or _is_callable(before)):
            found.add("".join(part.text.strip('"') for part in pieces[start : index + 1]))
    return tuple(sorted(found))


def _is_callable(piece: Piece) -> bool:
    first = piece.text[0]
    return not piece.values and (first.isalpha() or first in '_"') and piece.text.lower() not in RESERVED


class _Reader:
    """Goes over the tokens once; a bracket that closes may reduce what it holds."""

    def __init__(self, given: Sequence[Token]) -> None:
        self.given = given
        self.at = 0
        self.pieces: list[Piece] = []
        self.groups = [_Group()]
        self.positional = 0  # parameters of the kind `%s` so far

    def read(self) -> NormalForm:
        while self.at < len(self.given):
            token = self.given[self.at]
            _READ[token.kind](self, token)
        return NormalForm(tuple(self.pieces))

    # -- what stands around the current place ------------------------------------------------------------------

    def put(self, text: str) -> None:
        """Keep `text` for the current token, and go on to the next one."""
        self.pieces.append(Piece(text, self.at))
        self.at += 1

    def before(self, back: int = 1) -> str:
        """Return a piece before the current one in lower case; empty at the start and for a place."""
        if len(self.pieces) < back or self.pieces[-back].values:
            return ""
        return self.pieces[-back].text.lower()

    def next_is(self, text: str, ahead: int = 0) -> bool:
        place = self.at + ahead
        return place < len(self.given) and self.given[place].text.lower() == text

    def follows_operand(self, back: int = 1) -> bool:
        """Return whether the piece before is a value or a name, so that a sign after it is an operation."""
        if len(self.pieces) < back:
            return False
        piece = self.pieces[-back]
        text = piece.text
        return (
            bool(piece.values)
            or text in (")", "]")
            or ((text[0].isalnum() or text[0] in '_"') and text.lower() not in NOT_OPERANDS)
        )

    # -- values ------------------------------------------------------------------------------------------------

    def place(self, value: Value) -> None:
        """Put a value for the current token; its sign before it and its casts behind it belong to it."""
        origin = self.at
        self.at += 1
        if self.before() in ("-", "+") and not self.follows_operand(2) and isinstance(value, Literal):
            sign = self.pieces.pop()
            value, origin = Literal(sign.text.replace("+", "") + value.text), sign.origin
        self.pieces.append(Piece("?", origin, (value,)))
        self.skip_casts()

    def skip_casts(self) -> None:
        while self.next_is("::"):
            self.at = self.type_end(self.at + 1)

    def read_string(self, token: Token) -> None:
        text = token.text
        while self.at + 1 < len(self.given) and self.given[self.at + 1].kind is TokenKind.STRING:
            self.at += 1  # a string goes on in the next line
            text += " " + self.given[self.at].text
        typed = self.take_type_name()
        self.place(Literal(text))
        if typed is not None:
            self.pieces[-1] = replace(self.pieces[-1], origin=typed.origin)
            while typed.text == "interval" and self.at < len(self.given) and self.word_here() in UNITS:
                self.at += 1

    def word_here(self) -> str:
        token = self.given[self.at]
        return token.text.lower() if token.kind is TokenKind.WORD else ""

    def take_type_name(self) -> Piece | None:
        """Take away the name of a type that stands before a string, as in `date '2024-01-01'`; return its start."""
        name = self.before()
        if name not in TYPES or self.before(2) in (".", "as"):
            return None
        length = {"zone": 4, "precision": 2}.get(name, 1)
        first = self.before(length)
        if length > 1 and not (first == "double" or (first in ("time", "timestamp") and self.before(3) in _ZONED)):
            return None
        taken = self.pieces[-length:]
        del self.pieces[-length:]
        return taken[0]

    def read_number(self, token: Token) -> None:
        if self.groups[-1].in_by and self.before() in ("by", ",", "(") and self.is_whole_item():
            self.put(token.text)
        else:
            self.place(Literal(token.text))

    def is_whole_item(self) -> bool:
        ahead = self.at + 1
        return ahead >= len(self.given) or (
            self.given[ahead].kind is TokenKind.WORD or self.given[ahead].text in (",", ")", ";")
        )

    def read_parameter(self, token: Token) -> None:
        text = token.text
        if text[0] == "$":
            self.place(Parameter(int(text[1:]) - 1))
        elif text[1] == "(":
            self.place(Parameter(text[2 : text.rindex(")")]))
        else:
            self.positional += 1
            self.place(Parameter(self.positional - 1))

    # -- words -------------------------------------------------------------------------------------------------

    def read_word(self, token: Token) -> None:
        word = token.text.lower()
        if word in ("true", "false") and self.before() not in ("is", "not", "."):
            self.place(Literal(word))
            return
        group = self.groups[-1]
        self.put(word.upper() if word in RESERVED and self.before() != "." else word)
        if word == "by" and self.before(2) in ("order", "group"):
            group.in_by = True
        elif word in LIST_ENDS:
            group.in_by = False
        elif word == "as" and group.owner == "cast":
            self.keep_type()

    def read_quoted(self, token: Token) -> None:
        plain = PLAIN_NAME.fullmatch(token.text) and token.text[1:-1] not in NEVER_BARE
        self.put(token.text[1:-1] if plain else token.text)

    def keep_type(self) -> None:
        """Keep the words of a type as they are, its sizes among them."""
        end = self.type_end(self.at)
        while self.at < end:
            token = self.given[self.at]
            self.put(token.text.lower() if token.kind is TokenKind.WORD else token.text)

    def type_end(self, start: int) -> int:
        """Return where the type that starts at a token ends: `double precision`, `a.b(3)[]`, `timestamp with ...`."""
        at = min(start + 1, len(self.given))
        while at < len(self.given):
            token = self.given[at]
            if token.text == ".":
                at += 2
            elif token.kind is TokenKind.WORD and token.text.lower() in TYPE_TAILS and self.goes_on(start, at):
                at += 1
            elif (close := {"(": ")", "[": "]"}.get(token.text)) is not None and (end := self.closing(at, close)):
                at = end + 1
            else:
                break
        return min(at, len(self.given))

    def goes_on(self, start: int, at: int) -> bool:
        """Return whether a word that may end the name of a type does so here, and is no alias or clause."""
        words = {
            "precision": "double",
            "varying": "character char bit national",
            "with": "timestamp time )",
            "without": "timestamp time )",
            "time": "with without",
            "zone": "time",
        }
        wanted = words.get(self.given[at].text.lower(), "interval year month day hour minute second to")
        before = self.given[at - 1].text.lower()
        follows_time = before != ")" or self.given[start].text.lower() in ("timestamp", "time")
        return before in wanted.split() and follows_time

    def closing(self, at: int, close: str) -> int:
        """Return the token that closes a bracket of sizes: numbers and commas alone; 0 when it is another bracket."""
        for place in range(at + 1, len(self.given)):
            if self.given[place].text == close:
                return place
            if self.given[place].kind is not TokenKind.NUMBER and self.given[place].text != ",":
                return 0
        return 0

    # -- brackets ----------------------------------------------------------------------------------------------

    def read_mark(self, token: Token) -> None:
        text = token.text
        if text in ("(", "["):
            self.open(text)
        elif text in (")", "]"):
            self.put(text)
            self.close()
        elif text == "::":
            self.put(text)
            self.keep_type()
        else:
            self.put(text)

    def open(self, text: str) -> None:
        owner, outer = self.before(), self.groups[-1]
        if owner == "," and self.before(2) == ")":
            owner = "values" if self.is_row_of_values() else owner
        listed = outer.in_by and owner in ("by", ",", "(", "rollup", "cube", "sets")
        self.groups.append(_Group(owner, len(self.pieces), listed))
        self.put(text)

    def is_row_of_values(self) -> bool:
        return self.values_row is not None and self.values_row[1] == len(self.pieces) - 2

    values_row: tuple[int, int] | None = None  # the first row of VALUES as it now stands: its brackets

    def close(self) -> None:
        if len(self.groups) == 1:
            return
        group = self.groups.pop()
        inside = self.pieces[group.opened + 1 : -1]
        values = tuple(value for piece in inside for value in piece.values)
        only_values = bool(values) and all(piece.values or piece.text in ",()" for piece in inside)
        if group.owner == "array" and self.pieces[-1].text == "]" and (only_values or not inside):
            self.reduce(group.opened - 1, values or (Literal("{}"),))
        elif group.owner == "in" and only_values:
            self.reduce(group.opened + 1, values, keep=")")
        elif group.owner == "values":
            self.close_row(group, only_values, inside)
        elif group.owner == "cast" and len(inside) > 2 and inside[0].values and inside[1].text == "AS":
            self.reduce(group.opened - 1, values)

    def reduce(self, start: int, values: tuple[Value, ...], keep: str = "") -> None:
        """Put one place where the pieces from `start` are; a bracket that closes them may stay."""
        origin, last = self.pieces[start].origin, self.pieces[-1]
        del self.pieces[start:]
        self.pieces.append(Piece("?", origin, values))
        if keep:
            self.pieces.append(last)
        else:
            self.skip_casts()

    def close_row(self, group: _Group, only_values: bool, inside: list[Piece]) -> None:
        """Fold a row of VALUES into the one before it when both hold values alone."""
        row = (group.opened, len(self.pieces) - 1)
        first = self.values_row
        folds = first is not None and first[1] == group.opened - 2 and self.before(len(self.pieces) - group.opened + 1)
        if first is None or not folds or not only_values:
            self.values_row = row if only_values else None
            return
        places = [at for at in range(*first) if self.pieces[at].values]
        fresh = [piece for piece in inside if piece.values]
        if len(places) == len(fresh):
            for at, more in zip(places, fresh, strict=True):
                self.pieces[at] = replace(self.pieces[at], values=self.pieces[at].values + more.values)
            del self.pieces[group.opened - 1 :]

    def read_operator(self, token: Token) -> None:
        self.put({"!=": "<>"}.get(token.text, token.text.replace("%%", "%")))

    def read_junk(self, token: Token) -> None:
        self.put(token.text)


_ZONED = ("with", "without")
_READ = {
    TokenKind.WORD: _Reader.read_word,
    TokenKind.QUOTED: _Reader.read_quoted,
    TokenKind.STRING: _Reader.read_string,
    TokenKind.NUMBER: _Reader.read_number,
    TokenKind.PARAMETER: _Reader.read_parameter,
    TokenKind.OPERATOR: _Reader.read_operator,
    TokenKind.MARK: _Reader.read_mark,
    TokenKind.JUNK: _Reader.read_junk,
}
