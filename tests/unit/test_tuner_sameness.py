"""What another plan may change in an answer: each case that SQL leaves open, and the like of it that it decides."""

import pytest

from sona.tuner.statements.statement import read_statement

OPEN = [
    "SELECT a FROM t LIMIT 5",
    "SELECT a, b FROM t ORDER BY a LIMIT 5",
    "SELECT * FROM t ORDER BY id LIMIT 5",
    "SELECT a FROM t OFFSET 5",
    "SELECT a FROM t ORDER BY b OFFSET 5",
    "SELECT a FROM t FETCH FIRST ROW ONLY",
    "SELECT a FROM t ORDER BY b FETCH FIRST 5 ROWS ONLY",
    "SELECT a FROM t ORDER BY b OFFSET 1 FETCH FIRST 5 ROWS WITH TIES",
    "SELECT a FROM t ORDER BY b LIMIT %s",
    "SELECT a FROM t UNION ALL SELECT b FROM u LIMIT 5",
    "SELECT a FROM t WHERE b IN (SELECT c FROM u LIMIT 1)",
    "SELECT (SELECT b FROM u WHERE u.c = t.c ORDER BY d LIMIT 1) FROM t",
    "SELECT * FROM t CROSS JOIN LATERAL (SELECT b FROM u WHERE u.c = t.c ORDER BY d LIMIT 1) x",
    "WITH a AS (SELECT b FROM t LIMIT 5) SELECT count(*) FROM a",
    "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM (SELECT b FROM u LIMIT 1) v WHERE v.b = t.b)",
    "SELECT a, count(*) FROM t GROUP BY a ORDER BY count(*) DESC LIMIT 5",
    "SELECT a, b, count(*) FROM t GROUP BY a, b ORDER BY a LIMIT 5",
    "SELECT a, count(*) FROM t GROUP BY ROLLUP (a) ORDER BY a LIMIT 5",
    "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a",
    "SELECT DISTINCT ON (a) a, b FROM t",
    "SELECT array_agg(a) FROM t",
    "SELECT pg_catalog.array_agg(a) FROM t",
    "SELECT array_agg(a ORDER BY b) FROM t",
    "SELECT string_agg(a, ',') FROM t",
    "SELECT string_agg(a, b ORDER BY a) FROM t",
    "SELECT json_agg(a), max(b) FROM t",
    "SELECT jsonb_object_agg(a, b) FROM t",
    "SELECT jsonb_object_agg(a, b ORDER BY a) FROM t",
    "SELECT xmlagg(a) FROM t",
    "SELECT any_value(a) FROM t",
    "SELECT array_agg(a) FILTER (WHERE b) FROM t",
    "SELECT a FROM (SELECT array_agg(a) AS a FROM t) s",
    "SELECT array_agg(a) FROM (SELECT a FROM t ORDER BY a) s",
    "SELECT ARRAY(SELECT a FROM t)",
    "SELECT ARRAY(SELECT a FROM t ORDER BY b)",
    "SELECT row_number() OVER () FROM t",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t",
    "SELECT lag(a, 1) OVER (ORDER BY b) FROM t",
    "SELECT lead(a) OVER w FROM t WINDOW w AS (ORDER BY b)",
    "SELECT first_value(a) OVER (ORDER BY b), last_value(a) OVER (ORDER BY b) FROM t",
    "SELECT nth_value(a, 2) OVER (ORDER BY b), ntile(4) OVER (ORDER BY b) FROM t",
    "SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(a) OVER (ORDER BY b ROWS UNBOUNDED PRECEDING) FROM t",
    "SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY b ROWS UNBOUNDED PRECEDING)",
    "SELECT array_agg(a) OVER (PARTITION BY b) FROM t",
    "SELECT a FROM t ORDER BY e <-> %s",
    "SELECT min(e <=> '[1]') FROM t",
    "SELECT rank() OVER (ORDER BY e <-> %s) FROM t",
    "SELECT e <-> %s, count(*) FROM t GROUP BY 1",
    "SELECT DISTINCT e <-> %s FROM t",
    "SELECT e <-> %s FROM t ORDER BY 1 LIMIT 5",
    "SELECT e <-> %s FROM t UNION SELECT 1.0",
    "SELECT t.id FROM t JOIN u ON t.e <-> %s = u.d",
]
DECIDED = [
    "SELECT a FROM t",
    "SELECT a FROM t ORDER BY b",
    "SELECT DISTINCT a FROM t",
    "SELECT a FROM t LIMIT ALL",
    "SELECT a FROM t LIMIT NULL",
    "SELECT a FROM t ORDER BY a LIMIT 5",
    "SELECT a, b, 'x' FROM t ORDER BY b DESC, a LIMIT 5 OFFSET 10",
    "SELECT lower(a) AS l FROM t ORDER BY l LIMIT 5",
    "SELECT lower(a) FROM t ORDER BY 1 LIMIT 5",
    "SELECT DISTINCT a, b FROM t ORDER BY 1, 2 LIMIT 5",
    "SELECT a, count(*) FROM t GROUP BY a ORDER BY count(*) DESC, a LIMIT 5",
    "SELECT a AS k, count(*) AS n FROM t GROUP BY 1 ORDER BY n DESC, k LIMIT 5",
    "SELECT a FROM t ORDER BY b FETCH FIRST 5 ROWS WITH TIES",
    "SELECT count(*) FROM t LIMIT 1",
    "SELECT max(a) + 1, 'x' FROM t LIMIT 1",
    "SELECT 1 LIMIT 1",
    "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a LIMIT 1)",
    "SELECT a FROM t WHERE NOT EXISTS (SELECT u.b FROM u OFFSET 3)",
    "SELECT a FROM t WHERE b IN (SELECT c FROM u ORDER BY c LIMIT 3)",
    "SELECT (SELECT max(b) FROM u WHERE u.c = t.c LIMIT 1) FROM t",
    "SELECT sum(a), avg(b), min(c), count(DISTINCT d), bool_or(e) FROM t",
    "SELECT array_agg(a ORDER BY a), array_agg(DISTINCT b), string_agg(c, ',' ORDER BY c DESC) FROM t",
    "SELECT jsonb_object_agg(a, b ORDER BY a, b) FROM t",
    "SELECT ARRAY(SELECT a FROM t ORDER BY a), ARRAY[1, 2]",
    "SELECT rank() OVER (ORDER BY a), dense_rank() OVER (ORDER BY a), cume_dist() OVER (ORDER BY a) FROM t",
    "SELECT sum(a) OVER (), count(*) OVER (PARTITION BY b), sum(c) OVER (ORDER BY d) FROM t",
    "SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(a) OVER (ORDER BY b GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY a), mode() WITHIN GROUP (ORDER BY b) FROM t",
    "SELECT e <-> %s FROM t WHERE id = 5",
    "SELECT count(*) FROM t WHERE e <=> %s < 0.5",
]


@pytest.mark.parametrize("sql", OPEN)
def test_an_answer_that_sql_leaves_open(sql):
    statement = read_statement(sql)
    assert statement.refusal is None
    assert statement.is_plan_dependent
    assert statement.plan_dependence


@pytest.mark.parametrize("sql", DECIDED)
def test_an_answer_that_every_plan_gives(sql):
    statement = read_statement(sql)
    assert (statement.refusal, statement.plan_dependence) == (None, None)
    assert not statement.is_plan_dependent
