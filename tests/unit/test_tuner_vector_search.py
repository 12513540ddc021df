"""Vector searches: what is read of them, why no index serves some, and the statement that gives their distances."""

import pytest

from sona.errors import InvalidValue, PlanError
from sona.tuner.statements import search_problem as problems
from sona.tuner.statements.statement import read_statement
from sona.tuner.statements.values import Literal, Parameter
from sona.tuner.statements.vector_search import Filter


def search(sql: str):
    found = read_statement(sql).search
    assert found is not None
    return found


class TestWhatIsRead:
    def test_the_whole_of_it(self):
        found = search(
            "SELECT id, 1 - (d.e <=> %s) AS s FROM doc d WHERE d.section = 5 AND %s = d.lang "
            "ORDER BY d.e <=> %s LIMIT 10 OFFSET %s"
        )
        assert (found.table, found.column, found.operator) == ("doc", "e", "<=>")
        assert (found.query, found.limit, found.offset) == (Parameter(2), 10, Parameter(3))
        assert found.filters == (Filter("section", Literal("5")), Filter("lang", Parameter(1)))
        assert (found.has_other_conditions, found.is_alone, found.problem) == (False, True, None)

    @pytest.mark.parametrize("operator", ["<->", "<=>", "<#>", "<+>", "<~>", "<%>"])
    def test_every_distance(self, operator):
        found = search(f"SELECT id FROM t ORDER BY e {operator} '[1,2]'::vector LIMIT 5")
        assert (found.operator, found.query, found.problem) == (operator, Literal("'[1,2]'"), None)

    def test_a_percent_doubled_for_psycopg(self):
        assert search("SELECT id FROM t ORDER BY e <%%> %s LIMIT 5").operator == "<%>"

    @pytest.mark.parametrize(
        "order",
        [
            "e <-> $1",
            "$1 <-> e",
            "(e <-> $1) ASC",
            "t.e <-> $1::vector",
            "e <-> CAST($1 AS vector(3)) NULLS LAST",
            "e OPERATOR(public.<->) $1",
            "e::halfvec(3) <-> $1::halfvec(3)",
            "e <-> $1, id",
        ],
    )
    def test_ways_to_write_it(self, order):
        found = search(f"SELECT id FROM t ORDER BY {order} LIMIT $2")
        assert (found.table, found.column, found.operator) == ("t", "e", "<->")
        assert (found.query, found.limit, found.problem) == (Parameter(0), Parameter(1), None)

    @pytest.mark.parametrize("order", ["d", "2", "d ASC"])
    def test_an_order_by_the_output(self, order):
        found = search(f"SELECT id, e <-> %s AS d FROM t ORDER BY {order} LIMIT 5")
        assert (found.column, found.query, found.problem) == ("e", Parameter(0), None)

    @pytest.mark.parametrize(
        ("limit", "expected"),
        [
            ("LIMIT 7", 7),
            ("LIMIT '7'", 7),
            ("LIMIT %s", Parameter(1)),
            ("LIMIT %(k)s", Parameter("k")),
            ("FETCH FIRST 7 ROWS ONLY", 7),
            ("FETCH FIRST ROW ONLY", 1),
            ("LIMIT 3 + 4", None),
        ],
    )
    def test_the_limit(self, limit, expected):
        query = "%(q)s" if "%(" in limit else "%s"
        found = search(f"SELECT id FROM t ORDER BY e <-> {query} {limit}")
        assert (found.limit, found.problem) == (expected, None)

    @pytest.mark.parametrize(
        ("rest", "filters", "others"),
        [
            ("t", (), False),
            ("t WHERE a = 1", ("a",), False),
            ("t WHERE a = true AND b = 'x'::text", ("a", "b"), False),
            ("t WHERE a = 1 AND b > 2", ("a",), True),
            ("t WHERE a = 1 OR b = 2", (), True),
            ("t WHERE a IN (1, 2)", (), True),
            ("t WHERE a = lower('x')", (), True),
            ("t WHERE flag", (), True),
            ("t JOIN u ON t.a = u.a WHERE t.b = 1 AND u.c = 2 AND d = 3", ("b",), True),
            ("t LEFT JOIN u ON t.a = u.a WHERE t.b = 1", ("b",), False),
            ("t, u WHERE t.b = 1", ("b",), True),
        ],
    )
    def test_filters(self, rest, filters, others):
        found = search(f"SELECT 1 FROM {rest} ORDER BY t.e <-> %s LIMIT 5")
        assert tuple(known.column for known in found.filters) == filters
        assert (found.has_other_conditions, found.table) == (others, "t")

    def test_a_query_that_is_computed(self):
        found = search(
            "WITH q AS (SELECT e FROM t WHERE id = 7) SELECT id FROM t ORDER BY e <-> (SELECT e FROM q) LIMIT 5"
        )
        assert (found.table, found.query, found.problem, found.is_alone) == ("t", None, None, True)

    @pytest.mark.parametrize(
        ("sql", "table"),
        [
            ("SELECT id FROM a.t x ORDER BY x.e <-> %s LIMIT 5", "a.t"),
            ("SELECT t.id FROM t, u ORDER BY e <-> %s LIMIT 5", None),
            ("SELECT id FROM (SELECT * FROM t) x ORDER BY e <-> %s LIMIT 5", None),
            ("WITH x AS (SELECT * FROM t) SELECT id FROM x ORDER BY e <-> %s LIMIT 5", None),
            ("SELECT * FROM (SELECT id, e <-> %s AS d FROM t) x ORDER BY d LIMIT 5", "t"),
            ("WITH x AS (SELECT id, t.e <-> %s AS d FROM t) SELECT * FROM x WHERE d < 1 ORDER BY x.d LIMIT 5", "t"),
        ],
    )
    def test_the_table(self, sql, table):
        assert search(sql).table == table

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT id FROM t ORDER BY id LIMIT 5",
            "SELECT e <-> %s FROM t WHERE id = 5",
            "SELECT id FROM t ORDER BY '[1]' <-> %s LIMIT 5",
            "SELECT id FROM t WHERE a = 'x <-> y' ORDER BY \"e <-> f\" LIMIT 5",
            "DELETE FROM t WHERE e <-> %s < 1",
        ],
    )
    def test_no_search(self, sql):
        assert read_statement(sql).searches == ()

    def test_two_searches(self):
        one = "(SELECT id FROM t ORDER BY e <-> %s LIMIT 5)"
        statement = read_statement(f"{one} UNION ALL {one}")
        assert [found.query for found in statement.searches] == [Parameter(0), Parameter(1)]
        assert statement.search is None

    def test_other_values_of_one_form(self):
        one, two = (search(f"SELECT id FROM t WHERE a = {n} ORDER BY e <-> '[{n}]' LIMIT {n}") for n in (1, 23))
        assert (one.limit, two.limit) == (1, 23)
        assert two.filters == (Filter("a", Literal("23")),)
        assert two.sql[two.column_at :].startswith("e <-> '[23]'")


class TestProblem:
    @pytest.mark.parametrize(
        ("sql", "problem"),
        [
            ("SELECT id FROM t ORDER BY e <-> %s DESC LIMIT 5", problems.FARTHEST),
            ("SELECT id, e <-> %s d FROM t ORDER BY d DESC LIMIT 5", problems.FARTHEST),
            ("SELECT id FROM t ORDER BY e <-> %s NULLS FIRST LIMIT 5", problems.NULLS),
            ("SELECT id FROM t ORDER BY 1 - (e <=> %s) DESC LIMIT 5", problems.COMPUTED),
            ("SELECT id, 1 - (e <=> %s) AS s FROM t ORDER BY s DESC LIMIT 5", problems.COMPUTED),
            ("SELECT id FROM t ORDER BY -(e <#> %s) DESC LIMIT 5", problems.COMPUTED),
            ("SELECT id FROM t ORDER BY (e <#> %s) * -1 LIMIT 5", problems.COMPUTED),
            ("SELECT id FROM t ORDER BY round((e <-> %s)::numeric, 2) LIMIT 5", problems.COMPUTED),
            ("SELECT id FROM t ORDER BY (e <-> %s)::real LIMIT 5", problems.COMPUTED),
            ("SELECT a, min(e <-> %s) FROM t GROUP BY a ORDER BY 2 LIMIT 5", problems.COMPUTED),
            ("SELECT id FROM t ORDER BY a, e <-> %s LIMIT 5", problems.LATER),
            ("SELECT id FROM t ORDER BY e <-> %s", problems.EVERYTHING),
            ("SELECT id FROM t ORDER BY e <-> %s LIMIT ALL", problems.EVERYTHING),
            ("SELECT id FROM t ORDER BY e <-> %s OFFSET 10", problems.EVERYTHING),
            ("SELECT id FROM t WHERE e <-> %s < 0.5", problems.UNORDERED),
            ("SELECT id FROM t WHERE e <-> %s < 0.5 ORDER BY id LIMIT 5", problems.UNORDERED),
            ("SELECT a FROM t GROUP BY a, e ORDER BY e <-> %s LIMIT 5", problems.GROUPED),
            ("SELECT count(*) OVER () FROM t ORDER BY e <-> %s LIMIT 5", problems.WINDOWED),
            (
                "SELECT rank() OVER (PARTITION BY a ORDER BY e <-> %s) FROM t ORDER BY e <-> %s LIMIT 5",
                problems.WINDOWED,
            ),
            ("SELECT rank() OVER (ORDER BY e <-> %s DESC) FROM t ORDER BY e <-> %s LIMIT 5", problems.WINDOWED),
            ("SELECT a.id FROM t a, t b WHERE b.id = 7 ORDER BY a.e <-> b.e LIMIT 5", problems.BOTH),
            ("WITH q AS (SELECT e FROM t) SELECT t.id FROM t, q ORDER BY t.e <-> q.e LIMIT 5", problems.BOTH),
            ("SELECT 1 FROM t RIGHT JOIN u ON t.a = u.a ORDER BY t.e <-> %s LIMIT 5", problems.OUTER),
            ("SELECT 1 FROM u LEFT JOIN t ON t.a = u.a ORDER BY t.e <-> %s LIMIT 5", problems.OUTER),
            ("SELECT 1 FROM t FULL JOIN u ON t.a = u.a ORDER BY t.e <-> %s LIMIT 5", problems.OUTER),
            ("SELECT id FROM (SELECT * FROM t LIMIT 100) s ORDER BY e <-> %s LIMIT 5", problems.DERIVED),
            ("SELECT id FROM (SELECT DISTINCT * FROM t) s ORDER BY e <-> %s LIMIT 5", problems.DERIVED),
            ("SELECT * FROM (SELECT e <-> %s AS d FROM t LIMIT 100) s ORDER BY d LIMIT 5", problems.DERIVED),
            ("SELECT * FROM (SELECT e <-> %s AS d FROM t) s ORDER BY d DESC LIMIT 5", problems.FARTHEST),
        ],
    )
    def test_what_no_index_serves(self, sql, problem):
        assert search(sql).problem == problem

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT id FROM t WHERE e <-> %s < 0.3 ORDER BY e <-> %s LIMIT 5",
            "SELECT DISTINCT id, e <-> %s FROM t ORDER BY 2 LIMIT 5",
            "SELECT rank() OVER (ORDER BY e <-> %s) FROM t ORDER BY e <-> %s LIMIT 5",
            "SELECT rank() OVER w FROM t WINDOW w AS (ORDER BY e <-> %s) ORDER BY e <-> %s LIMIT 5",
            "WITH q AS (SELECT %s::vector AS e) SELECT t.id FROM t, q ORDER BY t.e <-> q.e LIMIT 5",
            "SELECT u.id, n.id FROM u CROSS JOIN LATERAL (SELECT t.id FROM t ORDER BY t.e <-> u.e LIMIT 5) n",
            "SELECT t.id FROM t JOIN u ON t.a = u.a ORDER BY t.e <-> %s LIMIT 5",
            "SELECT t.id FROM t LEFT JOIN u ON t.a = u.a ORDER BY t.e <-> %s LIMIT 5",
            "SELECT t.id FROM u LEFT JOIN t ON t.a = u.a WHERE t.b > 5 ORDER BY t.e <-> %s LIMIT 5",
            "SELECT id FROM (SELECT * FROM t WHERE a = 3) s ORDER BY e <-> %s LIMIT 5",
            "SELECT n.id FROM (SELECT id FROM t ORDER BY e <-> %s LIMIT 5) n JOIN u ON u.id = n.id",
            "SELECT * FROM (SELECT id, e <-> %s AS d FROM t) s ORDER BY d LIMIT 5",
        ],
    )
    def test_what_an_index_serves(self, sql):
        assert search(sql).problem is None


class TestDistances:
    @pytest.mark.parametrize(
        ("sql", "rewritten", "parameters"),
        [
            (
                "SELECT id, 1 - (e <=> %s) FROM t x WHERE a = 5 AND b = %s ORDER BY e <=> %s LIMIT %s;",
                "SELECT e <=> %s AS distance FROM t x WHERE a = 5 AND b = %s ORDER BY 1 LIMIT %s",
                (2, 1, 3),
            ),
            (
                "SELECT id, e <-> %(q)s AS d FROM t WHERE a = %(a)s ORDER BY d, id LIMIT 5",
                "SELECT e <-> %(q)s AS distance FROM t WHERE a = %(a)s ORDER BY 1 LIMIT 5",
                ("q", "a"),
            ),
            (
                "select $1::int, e <-> $3::vector d from t where a = $2 order by 2 asc limit $4",
                "SELECT e <-> $2::vector AS distance from t where a = $1 order by 1 asc limit $3",
                (1, 2, 3),
            ),
            (
                "SELECT a IS DISTINCT FROM b, extract(year FROM c) FROM t ORDER BY e <-> '[1, 2]' /* near */ LIMIT 5",
                "SELECT e <-> '[1, 2]' AS distance FROM t ORDER BY 1 LIMIT 5",
                (),
            ),
            (
                "WITH q AS (SELECT %s AS x), n AS (SELECT id FROM t WHERE a = %s ORDER BY e <-> %s LIMIT 5), "
                "k AS (SELECT %s) SELECT * FROM n, k WHERE b = %s",
                "WITH q AS (SELECT %s AS x) SELECT e <-> %s AS distance FROM t WHERE a = %s ORDER BY 1 LIMIT 5",
                (0, 2, 1),
            ),
            (
                "WITH n AS (SELECT id FROM t ORDER BY e <-> %s LIMIT 5) SELECT * FROM n",
                "SELECT e <-> %s AS distance FROM t ORDER BY 1 LIMIT 5",
                (0,),
            ),
            (
                "WITH q AS (SELECT e FROM t WHERE id = %s) SELECT u.x, n.id FROM u JOIN "
                "(SELECT id FROM t ORDER BY e <-> (SELECT e FROM q) LIMIT %s) n ON u.id = n.id WHERE u.y = %s",
                "WITH q AS (SELECT e FROM t WHERE id = %s) "
                "SELECT e <-> (SELECT e FROM q) AS distance FROM t ORDER BY 1 LIMIT %s",
                (0, 1),
            ),
            (
                "SELECT * FROM (SELECT id, e <-> %s AS d FROM t WHERE a = %s) s WHERE d < %s ORDER BY d LIMIT 5",
                "SELECT d AS distance FROM (SELECT id, e <-> %s AS d FROM t WHERE a = %s) s WHERE d < %s "
                "ORDER BY 1 LIMIT 5",
                (0, 1, 2),
            ),
            (
                "SELECT id, e <-> %s::vector, b FROM t ORDER BY 2 FETCH FIRST 5 ROWS ONLY",
                "SELECT e <-> %s::vector AS distance FROM t ORDER BY 1 FETCH FIRST 5 ROWS ONLY",
                (0,),
            ),
            (
                "SELECT id, (e <-> %s) d FROM t ORDER BY d OFFSET 1 LIMIT 5",
                "SELECT (e <-> %s) AS distance FROM t ORDER BY 1 OFFSET 1 LIMIT 5",
                (0,),
            ),
        ],
    )
    def test_the_statement_and_what_it_takes(self, sql, rewritten, parameters):
        found = search(sql).distances_sql()
        assert (found.sql, found.parameters) == (rewritten, parameters)
        assert len(read_statement(found.sql).parameters) >= len(parameters)

    def test_it_is_a_search_of_the_same(self):
        sql = "SELECT id, e <=> %s FROM t WHERE a = %s ORDER BY e <=> %s LIMIT %s"
        again = search(search(sql).distances_sql().sql)
        assert (again.table, again.column, again.operator, again.problem) == ("t", "e", "<=>", None)
        assert [known.column for known in again.filters] == ["a"]

    def test_bind(self):
        by_place = search("SELECT e <-> %s FROM t WHERE a = %s ORDER BY e <-> %s LIMIT %s").distances_sql()
        assert by_place.bind(["q1", "a", "q2", 5]) == ["q2", "a", 5]
        assert by_place.bind(("q1", "a", "q2", 5)) == ["q2", "a", 5]
        by_name = search("SELECT %(x)s FROM t ORDER BY e <-> %(q)s LIMIT 5").distances_sql()
        assert by_name.bind({"x": 1, "q": 2}) == {"q": 2}
        assert search("SELECT 1 FROM t ORDER BY e <-> '[1]' LIMIT 5").distances_sql().bind(None) is None

    @pytest.mark.parametrize("values", [[], ["q"], {"a": 1}])
    def test_bind_too_few(self, values):
        sql = "%(q)s" if isinstance(values, dict) else "%s"
        rewritten = search(f"SELECT 1 FROM t WHERE a = 1 ORDER BY e <-> {sql} LIMIT {sql}").distances_sql()
        with pytest.raises(InvalidValue, match="the statement takes"):
            rewritten.bind(values)

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT DISTINCT id, e <-> %s FROM t ORDER BY 2 LIMIT 5",
            "SELECT unnest(a) FROM t ORDER BY e <-> %s LIMIT 5",
            "SELECT u.id, n.id FROM u CROSS JOIN LATERAL (SELECT t.id FROM t ORDER BY t.e <-> u.e LIMIT 5) n",
            "SELECT id FROM t WHERE e <-> %s < 0.5",
            "WITH RECURSIVE r AS (SELECT 1) SELECT id FROM t ORDER BY e <-> %s LIMIT 5",
        ],
    )
    def test_what_cannot_be_measured_alone(self, sql):
        with pytest.raises(PlanError):
            search(sql).distances_sql()
