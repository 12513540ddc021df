"""No arm changes the answer of an exact query."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuner_trials import events, plainly, psycopg, urgent

from sona.tuner import attach
from sona.tuner.choosing.arms import plan_arms
from sona.tuner.statements.statement import read_statement

TABLES = """
SELECT setseed(0.25);
CREATE TABLE r AS SELECT i AS id, nullif(i % 11, 3) AS k, (random() * 100)::numeric(6, 2) AS n, random() AS f,
    nullif(chr(97 + i % 5), 'c') AS s FROM generate_series(1, 260) i;
CREATE TABLE q AS SELECT i AS id, nullif((i * i) % 17, 4) AS k, (random() * 100)::numeric(6, 2) AS n, random() AS f,
    repeat(chr(97 + i % 3), i % 2 + 1) AS s FROM generate_series(1, 180) i;
CREATE TABLE empty (LIKE r);
CREATE INDEX r_k ON r (k);
CREATE INDEX r_s ON r (s, n);
CREATE UNIQUE INDEX q_id ON q (id);
CREATE INDEX q_k ON q (k) WHERE n > 20;
ANALYZE r, q, empty
"""
LISTED = [
    "SELECT r.id, q.id FROM r JOIN q ON r.k = q.k WHERE r.n < q.n",
    "SELECT r.k, count(*), sum(q.n), avg(q.f), min(r.s), max(q.s) FROM r LEFT JOIN q ON r.k = q.k GROUP BY r.k",
    "SELECT r.id, q.id FROM r FULL JOIN q ON r.id = q.id AND r.k > 5",
    "SELECT DISTINCT s, k FROM r",
    "SELECT k FROM r UNION SELECT k FROM q",
    "SELECT k FROM r INTERSECT ALL SELECT k FROM q",
    "SELECT k, s FROM r EXCEPT SELECT k, s FROM q",
    "SELECT id FROM r WHERE k IN (SELECT k FROM q WHERE n > 50)",
    "SELECT id FROM r WHERE k NOT IN (SELECT k FROM q WHERE k IS NOT NULL AND n > 90)",
    "SELECT id FROM r WHERE k NOT IN (SELECT k FROM q)",
    "SELECT id FROM r WHERE EXISTS (SELECT FROM q WHERE q.k = r.k AND q.s = r.s)",
    "SELECT id, (SELECT max(n) FROM q WHERE q.k = r.k) FROM r WHERE n > ALL (SELECT n FROM q WHERE q.id < 3)",
    "WITH c AS (SELECT k, sum(n) AS t FROM r GROUP BY k) SELECT a.k, b.k FROM c a JOIN c b ON a.t < b.t",
    "WITH c AS MATERIALIZED (SELECT * FROM r WHERE k = 2) SELECT count(*) FROM c JOIN q USING (k)",
    "WITH RECURSIVE w(i) AS (VALUES (1) UNION SELECT q.k FROM q, w WHERE q.id = w.i + 1) SELECT i FROM w",
    "SELECT k, s, count(*), grouping(k) FROM r GROUP BY ROLLUP (k, s)",
    "SELECT k, s, stddev(f), sum(n) FROM r GROUP BY GROUPING SETS ((k), (s), ())",
    "SELECT id, sum(n) OVER (PARTITION BY k) FROM r",
    "SELECT id, rank() OVER (PARTITION BY k ORDER BY n), avg(f) OVER (ORDER BY id) FROM r",
    "SELECT s, k FROM r ORDER BY s NULLS FIRST, k DESC",
    "SELECT DISTINCT n FROM r ORDER BY n DESC LIMIT 7",
    "SELECT count(DISTINCT k), sum(DISTINCT n), bool_and(n > 1), every(k IS NULL) FROM r",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n), mode() WITHIN GROUP (ORDER BY s) FROM r",
    "SELECT string_agg(s, ',' ORDER BY s), array_agg(DISTINCT k) FROM r",
    "SELECT a.id FROM r a, r b, q c WHERE a.k = b.k AND b.k = c.k AND a.id < b.id AND c.id < 40",
    "SELECT r.id, l.m FROM r CROSS JOIN LATERAL (SELECT max(n) AS m FROM q WHERE q.k = r.k) l",
    "SELECT count(*), sum(r.n), max(k) FROM empty JOIN r USING (k)",
    "SELECT r.id FROM r LEFT JOIN empty USING (k) WHERE empty.id IS NULL",
    "SELECT id FROM r WHERE (k = 2 OR s = 'a') AND (n < 20 OR n > 80) AND NOT (f > 0.5 AND s IS NULL)",
    "SELECT id FROM q WHERE k = 5 AND n > 30",
    "SELECT id FROM r WHERE k = ANY (ARRAY[1, 2, NULL]) AND s BETWEEN 'a' AND 'd' AND s LIKE '_'",
    "SELECT coalesce(k, -1), CASE WHEN n > 50 THEN 'high' ELSE s END FROM r WHERE id % 3 = 0",
]


@pytest.fixture(scope="module")
def connection(server_dsn):
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS sona_test_answers")
        admin.execute("CREATE DATABASE sona_test_answers")
        dsn = psycopg.conninfo.make_conninfo(server_dsn, dbname="sona_test_answers")
        try:
            with psycopg.connect(dsn, autocommit=True) as made:
                made.execute(TABLES)
                yield made
        finally:
            admin.execute("DROP DATABASE sona_test_answers WITH (FORCE)")


def rounded(value: object) -> object:
    """A sum of floating-point numbers depends on the order in which they come; nothing else does."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.9g}")
    return value.normalize() if isinstance(value, Decimal) else tuple(value) if isinstance(value, list) else value


def multiset(rows):
    return Counter(tuple(map(rounded, row)) for row in rows)


def check(connection, sql):
    """Compare the answers of every arm with that of the server's own choice; return how many plans there were."""
    expected = plainly(connection, sql)
    plans = {str(plainly(connection, f"EXPLAIN (COSTS OFF) {sql}"))}
    for arm in plan_arms():
        tuner = attach(connection, urgent(arm))
        found = connection.execute(sql).fetchall()
        assert multiset(found) == multiset(expected), (arm.name, sql)
        if "ORDER BY" in sql.rpartition(")")[2]:
            keys = [[rounded(value) for value in row] for row in found]
            assert keys == [[rounded(value) for value in row] for row in expected], (arm.name, sql)
        assert events(tuner) == [(arm.name, "finished")]
        with connection.transaction():
            for name, value in arm.params.settings.items():
                plainly(connection, "SELECT set_config(%s, %s, true)", [name, value])
            plans.add(str(plainly(connection, f"EXPLAIN (COSTS OFF) {sql}")))
    return len(plans)


@pytest.mark.slow
def test_every_arm_answers_alike_and_most_of_them_otherwise(connection):
    plans = [check(connection, sql) for sql in LISTED]
    assert sum(plans) > 3 * len(LISTED)  # the arms do change plans


COLUMNS = st.sampled_from(["k", "n", "s", "id"])
TESTS = st.sampled_from(["k = 3", "k > 6", "n < 40", "s = 'a'", "s IS NULL", "k IS NOT NULL", "n BETWEEN 10 AND 60"])
AGGREGATES = st.sampled_from(["count(*)", "sum({})", "min({})", "max({})", "count(DISTINCT {})", "avg({})"])


@st.composite
def queries(draw):
    tables = draw(st.lists(st.sampled_from(["r", "q", "empty"]), min_size=1, max_size=3))
    names = [f"t{number}" for number in range(len(tables))]
    source = f"{tables[0]} t0"
    for number, table in enumerate(tables[1:], 1):
        kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]))
        column = draw(st.sampled_from(["k", "id", "s"])) if number == 1 else "id"
        source += f" {kind} {table} t{number} ON t{number - 1}.{column} = t{number}.{column}"
    some = st.builds("{}.{}".format, st.sampled_from(names), COLUMNS)
    tests = draw(st.lists(st.builds("{}.{}".format, st.sampled_from(names), TESTS), max_size=3))
    if draw(st.booleans()):
        tests.append(f"{draw(some)} {draw(st.sampled_from(['IN', 'NOT IN']))} (SELECT {{}} FROM q WHERE {draw(TESTS)})")
        column = tests[-1].split(".")[1].split()[0]
        tests[-1] = tests[-1].format(column)
    where = f" WHERE {draw(st.sampled_from([' AND ', ' OR '])).join(tests)}" if tests else ""
    shape = draw(st.sampled_from(["rows", "distinct", "groups", "total", "union"]))
    columns = ", ".join(draw(st.lists(some, min_size=1, max_size=2, unique=True)))
    if shape == "groups":
        return f"SELECT {columns}, count(*), max(t0.n) FROM {source}{where} GROUP BY {columns}"
    if shape == "total":
        call = draw(AGGREGATES)
        return f"SELECT {call.format('t0.n' if 'avg' in call or 'sum' in call else draw(some))} FROM {source}{where}"
    if shape == "union":
        word = draw(st.sampled_from(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]))
        return f"SELECT t0.k FROM {source}{where} {word} SELECT k FROM q WHERE {draw(TESTS)}"
    return f"SELECT {'DISTINCT ' if shape == 'distinct' else ''}{columns} FROM {source}{where}"


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sql=queries())
def test_every_arm_answers_whatever_is_asked_alike(connection, sql):
    assert read_statement(sql).refusal is None
    assert not read_statement(sql).is_plan_dependent
    check(connection, sql)
