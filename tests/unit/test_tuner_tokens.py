"""Tokens of PostgreSQL with psycopg's parameters: the places are those of the text, and nothing is lost."""

import pytest

from sona.tuner.statements.tokens import TokenKind, tokens


def read(sql: str) -> list[tuple[str, str]]:
    return [(token.kind.value, token.text) for token in tokens(sql)]


class TestTokens:
    @pytest.mark.parametrize(
        ("sql", "kind"),
        [
            ("'it''s'", "string"),
            ("E'a\\'b'", "string"),
            ("e'\\\\'", "string"),
            ("'a\\'", "string"),  # a backslash is a character like any other
            ("$$a'b$$", "string"),
            ("$x$ $$ $y$ $x$", "string"),
            ("B'01'", "string"),
            ("x'1F'", "string"),
            ("U&'\\0041'", "string"),
            ('"a ""b"" c"', "quoted"),
            ('U&"d\\0061t"', "quoted"),
            ("1", "number"),
            ("1.5e-3", "number"),
            (".5", "number"),
            ("1_000", "number"),
            ("0xFF", "number"),
            ("$1", "parameter"),
            ("%s", "parameter"),
            ("%b", "parameter"),
            ("%(a name)s", "parameter"),
            ("<=>", "operator"),
            ("<#>", "operator"),
            ("<%>", "operator"),
            ("?|", "operator"),
            ("@-", "operator"),
            ("::", "mark"),
            ("größe$1", "word"),
        ],
    )
    def test_one_token(self, sql, kind):
        assert read(sql) == [(kind, sql)]

    @pytest.mark.parametrize(
        ("sql", "texts"),
        [
            ("a<=-5", ["a", "<=", "-", "5"]),
            ("a<->-b", ["a", "<->", "-", "b"]),
            ("a@-5", ["a", "@-", "5"]),
            ("a=%s", ["a", "=", "%s"]),
            ("a<=>%s", ["a", "<=>", "%s"]),
            ("a=%%s", ["a", "=%%", "s"]),
            ("a%s", ["a", "%", "s"]),
            ("(a) %s", ["(", "a", ")", "%", "s"]),
            ("5 %s", ["5", "%", "s"]),
            ("a %some", ["a", "%", "some"]),
            ("a/*b*/c--d\ne", ["a", "c", "e"]),
            ("a /* b /* c */ d */ e", ["a", "e"]),
            ("a+--b\nc", ["a", "+", "c"]),
            ("a*/*b*/c", ["a", "*", "c"]),
            ("x::int[]", ["x", "::", "int", "[", "]"]),
            ("t.*", ["t", ".", "*"]),
            ("'a%s'", ["'a%s'"]),
            ("-- %s", []),
            ("e'\\''e", ["e'\\''", "e"]),
        ],
    )
    def test_where_tokens_end(self, sql, texts):
        assert [token.text for token in tokens(sql)] == texts

    @pytest.mark.parametrize("sql", ["'a", '"a', "$$ a", "$x$ a $$", "/* a", "/* a /* b */", "E'\\'", "\\timing"])
    def test_what_has_no_end_is_junk_up_to_the_end(self, sql):
        found = tokens("SELECT 1, " + sql)
        assert found[-1].kind is TokenKind.JUNK
        assert found[-1].text == sql
        assert [token.kind for token in found[:-1]].count(TokenKind.JUNK) == 0

    def test_places_are_those_of_the_text(self):
        sql = "SELECT /* x */ a . b,'c' FROM t -- end"
        assert all(sql[token.start : token.end] == token.text for token in tokens(sql))

    @pytest.mark.parametrize("sql", ["$a$ " * 20_000, "'" * 40_001, "/*" * 20_000, "(" * 40_000, "<" * 40_000])
    def test_no_text_takes_long(self, sql):
        assert "".join(token.text for token in tokens(sql)).replace(" ", "") == sql.replace(" ", "")
