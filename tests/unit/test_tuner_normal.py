"""Normal forms: what is left of a statement without its values, and the values in order."""

import pytest

from sona.tuner.statements.normal import called_functions, normal_form
from sona.tuner.statements.tokens import tokens
from sona.tuner.statements.values import Literal, Parameter


def form(sql: str):
    return normal_form(tokens(sql))


def values(sql: str) -> list[list[str | int]]:
    return [[v.text if isinstance(v, Literal) else v.key for v in piece.values] for piece in form(sql).places]


class TestNormalForm:
    @pytest.mark.parametrize(
        ("sql", "text"),
        [
            ("select A from T", "SELECT a FROM t"),
            ('select "a", "A", "select" from "t"', 'SELECT a, "A", "select" FROM t'),
            ("select count( * ),-1 , - a from t", "SELECT count(*), $1, - a FROM t"),
            ("select a -1, (a)-1, a- -1 from t", "SELECT a - $1, (a) - $2, a - $3 FROM t"),
            ("select 1 where a between -1 and +2", "SELECT $1 WHERE a BETWEEN $2 AND $3"),
            ("select * from t where a in (1,2,3) and b in (%s)", "SELECT * FROM t WHERE a IN ($1) AND b IN ($2)"),
            ("select * from t where (a,b) in ((1,2),(3,4))", "SELECT * FROM t WHERE (a, b) IN ($1)"),
            ("select * from t where a in (1, b)", "SELECT * FROM t WHERE a IN ($1, b)"),
            ("select * from t where a = any(array[1,2]::int[])", "SELECT * FROM t WHERE a = ANY($1)"),
            ("select array[]::int[], array[a]", "SELECT $1, ARRAY[a]"),
            ("values (1,'a'),(2,'b')", "VALUES ($1, $2)"),
            ("values (1,a),(2,b)", "VALUES ($1, a), ($2, b)"),
            (
                "select * from (values (1,2),(3,4),(5,6)) v, (values (7)) w",
                "SELECT * FROM (VALUES ($1, $2)) v, (VALUES ($3)) w",
            ),
            ("select 'a'::text, cast('a' as varchar(3)), date '2020-01-01'", "SELECT $1, $2, $3"),
            ("select timestamp with time zone '2020-01-01', interval '1' day", "SELECT $1, $2"),
            ("select double precision '1', '1'::double precision[]", "SELECT $1, $2"),
            ("select a::numeric( 10,2 ), cast(a as vector(3))", "SELECT a::numeric(10, 2), CAST(a AS vector(3))"),
            ("select a::timestamp with time zone from t", "SELECT a::timestamp with time zone FROM t"),
            ("select a::text b from t", "SELECT a::text b FROM t"),
            ("select 1 from t order by 2, a limit 3", "SELECT $1 FROM t ORDER BY 2, a LIMIT $2"),
            ("select 1 from t order by 2 desc, a+1, f(1)", "SELECT $1 FROM t ORDER BY 2 DESC, a + $2, f($3)"),
            ("select 1 group by rollup (1, 2), 3", "SELECT $1 GROUP BY ROLLUP(1, 2), 3"),
            ("select a from t where b is true and c = false", "SELECT a FROM t WHERE b IS true AND c = $1"),
            ("select a at time zone 'UTC', b at time zone %s", "SELECT a at time zone $1, b at time zone $2"),
            ('select a::"MyType", "precision" \'1\'', 'SELECT a::"MyType", "precision" $1'),
            ("select 'a'\n'b'", "SELECT $1"),
            ("select a != b, a <%%> c", "SELECT a <> b, a <%> c"),
            ("select e <=> '[1]'::vector(1)", "SELECT e <=> $1"),
            ("select x[1:2], x.y[3]", "SELECT x[$1:$2], x.y[$3]"),
            ("select case a when 1 then -1 else 2 end -3", "SELECT CASE a WHEN $1 THEN $2 ELSE $3 end - $4"),
            ('select a as date, b as "date"', 'SELECT a AS date, b AS "date"'),
            ("select t.limit, t.order from t", "SELECT t.limit, t.order FROM t"),
            ("", ""),
            (")((]", ")((]"),
        ],
    )
    def test_text(self, sql, text):
        assert form(sql).text == text
        assert form(text).text == text

    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("select 1, 'a', -2.5", [["1"], ["'a'"], ["-2.5"]]),
            ("where a in (1, %s, 'x')", [["1", 0, "'x'"]]),
            ("values (1,'a'),(2,'b')", [["1", "2"], ["'a'", "'b'"]]),
            ("select %s, %(name)s", [[0], ["name"]]),
            ("select $2, $1, $2", [[1], [0], [1]]),
            ("select %s, %b, %t", [[0], [1], [2]]),
            ("select 'a'::text, date '2020-01-01', true", [["'a'"], ["'2020-01-01'"], ["true"]]),
            ("select array[]::int[]", [["{}"]]),
            ("select - %s", [[0]]),
            ("order by 1", []),
        ],
    )
    def test_values(self, sql, expected):
        assert values(sql) == expected

    def test_a_place_starts_where_its_text_starts(self):
        sql = "SELECT e <-> CAST('[1]' AS vector), date '2020-01-01', -1"
        given = tokens(sql)
        starts = [given[piece.origin].text for piece in normal_form(given).places]
        assert starts == ["CAST", "date", "-"]

    def test_a_list_longer_than_any_stack(self):
        sql = f"SELECT a FROM t WHERE b IN ({', '.join(map(str, range(20_000)))})"
        assert form(sql).text == "SELECT a FROM t WHERE b IN ($1)"
        assert len(form(sql).places[0].values) == 20_000


class TestLiteral:
    @pytest.mark.parametrize(
        ("text", "content"),
        [("'it''s'", "it's"), ("$$a'b$$", "a'b"), ("$x$a$x$", "a"), ("12", "12"), ("-1", "-1"), ("''", "")],
    )
    def test_content(self, text, content):
        assert Literal(text).content == content


class TestCalledFunctions:
    @pytest.mark.parametrize(
        ("sql", "names"),
        [
            ('select now(), public.F(a), "G"(b) from t', ("G", "now", "public.f")),
            (
                "select count(*) from unnest(a) u(x), generate_series(1, 2) as g(y)",
                ("count", "generate_series", "unnest"),
            ),
            ("with a(x) as (select 1), b as (select 2) select x in (1), x and (y), array(select 1) from a", ()),
            ("select a::numeric(10, 2), exists(select 1), cast(a as varchar(3)) from t join u using (x)", ()),
            ("select rank() over (order by a), sum(a) filter (where b) from t", ("rank", "sum")),
        ],
    )
    def test_names(self, sql, names):
        assert called_functions(form(sql).pieces) == names


def test_parameters_compare_by_what_they_take():
    assert Parameter(0) != Parameter("0")
