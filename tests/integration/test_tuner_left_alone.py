"""Statements whose answer another plan may rightly change are left alone, and the ledger says why."""

from __future__ import annotations

import pytest
from tuner_trials import has_read_all_plans, psycopg

from sona.config.tuner import TunerConfig
from sona.tuner import Tuner, attach

TABLES = """
CREATE TABLE t AS SELECT i AS a, i % 7 AS b FROM generate_series(1, 60000) i;
CREATE TABLE log (a int);
CREATE FUNCTION dice(x int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT x + (random() * 0)::int $$;
CREATE FUNCTION "Dice"(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (x); RETURN x; END $$;
CREATE FUNCTION any_a() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT a FROM t LIMIT 1); END $$;
CREATE FUNCTION some_a() RETURNS SETOF int LANGUAGE sql STABLE AS $$ SELECT a FROM t LIMIT 3 $$;
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 2 * x $$;
CREATE FUNCTION first_of(x int, y int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT x $$;
CREATE AGGREGATE first (int) (SFUNC = first_of, STYPE = int);
CREATE VIEW plain AS SELECT a, b FROM t WHERE a > 10;
CREATE VIEW cut AS SELECT a, b FROM t LIMIT 1000;
CREATE VIEW over_cut AS SELECT a FROM cut WHERE b >= 0;
CREATE VIEW numbered AS SELECT a, row_number() OVER (ORDER BY b) AS n FROM t;
CREATE VIEW one_each AS SELECT DISTINCT ON (b) b, a FROM t ORDER BY b;
CREATE VIEW collected AS SELECT b, array_agg(a) AS all_a FROM t GROUP BY b;
CREATE VIEW thrown AS SELECT a, dice(b) AS d FROM t;
CREATE VIEW "Thrown too" AS SELECT a, "Dice"(b) AS d FROM t WHERE a < 10;
"""
LEFT_ALONE = [
    ("SELECT sum(dice(a)) FROM t", "it calls dice, which is volatile"),
    ('SELECT sum("Dice"(a)) FROM t WHERE a < 5', "it calls Dice, which is volatile"),
    ("SELECT sum(public.dice(a)) FROM t", "it calls dice, which is volatile"),
    ("SELECT sum(d) FROM thrown", "it calls random, which is volatile"),
    ('SELECT sum(d), (SELECT count(*) FROM t) FROM "Thrown too"', "it calls Dice, which is volatile"),
    ("SELECT count(*) FROM t WHERE a > (SELECT min(x) FROM generate_series(1, 2) x, dice(x))", "dice"),
    ("SELECT count(*) + any_a() FROM t", "it calls any_a, which may look at tables"),
    (
        "SELECT sum(s), (SELECT count(*) FROM t) FROM some_a() s",
        "it calls some_a, which may look",
    ),
    ("SELECT first(a) FROM t", "it calls first, an aggregate that may depend on the order of its rows"),
    ("SELECT sum(a) FROM cut, generate_series(1, 50)", "the view cut may give another answer by another plan (Limit)"),
    (
        "SELECT sum(a) FROM over_cut, generate_series(1, 50)",
        "the view over_cut may give another answer",
    ),
    (
        "SELECT sum(n) FROM numbered WHERE a < 9",
        "by another plan (WindowAgg)",
    ),
    ("SELECT sum(a) FROM one_each", "the view one_each may give another answer by another plan (Unique)"),
    (
        "SELECT all_a FROM collected WHERE b = 1",
        "by another plan (array_agg)",
    ),
    ("SELECT a FROM t LIMIT 50000", "LIMIT keeps some of the rows"),
    ("SELECT count(*) FROM t WHERE random() < 2", "random"),
    ("SELECT a FROM t FOR UPDATE", "lock"),
    ("SELECT a FROM t FOR KEY SHARE", "lock"),
    ("UPDATE t SET a = a WHERE b = 9", "it writes"),
    ("WITH w AS (INSERT INTO log SELECT a FROM t WHERE a < 0 RETURNING a) SELECT count(*) FROM w", "writes"),
]
TUNED = [
    "SELECT sum(twice(a)) FROM t",
    "SELECT sum(a) FROM plain",
    "SELECT count(*), max(now()) FROM t",
    "SELECT b, count(*) FROM t GROUP BY b ORDER BY b LIMIT 3",
    "SELECT sum(a), avg(age(timestamp '2000-01-01')) FROM t",
    "SELECT count(DISTINCT lower(a::text)) FROM plain",
]


@pytest.fixture(scope="module")
def connection(server_dsn):
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS sona_test_left_alone")
        admin.execute("CREATE DATABASE sona_test_left_alone")
        dsn = psycopg.conninfo.make_conninfo(server_dsn, dbname="sona_test_left_alone")
        try:
            with psycopg.connect(dsn, autocommit=True) as made:
                made.execute(TABLES)
                yield made
        finally:
            admin.execute("DROP DATABASE sona_test_left_alone WITH (FORCE)")


def run(connection, sql):
    """Run a statement until it is known, and return its account and what was learned of it."""
    tuner = attach(connection, Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0)))
    for _ in range(40):
        connection.execute(sql)
        (account,) = tuner._ledger.accounts().values()
        if account.refusal or has_read_all_plans(tuner):
            break
    for _ in range(3):
        connection.execute(sql)
    return tuner, account


@pytest.mark.parametrize(("sql", "reason"), LEFT_ALONE)
def test_what_another_plan_may_change_is_left_alone(connection, sql, reason):
    tuner, account = run(connection, sql)
    assert reason in account.refusal
    assert tuner._plans.trials == 0
    assert len(tuner._plans.units) == 0
    assert account.count >= 4


@pytest.mark.parametrize("sql", TUNED)
def test_what_every_plan_answers_alike_is_tuned(connection, sql):
    tuner, account = run(connection, sql)
    assert account.refusal is None
    assert has_read_all_plans(tuner)


def test_a_function_that_becomes_volatile_is_not_tuned_by_who_asks_anew(connection):
    sql = "SELECT sum(twice(a)), 1 FROM t"
    assert run(connection, sql)[1].refusal is None
    connection.execute("ALTER FUNCTION twice VOLATILE")
    try:
        assert run(connection, sql)[1].refusal == "it calls twice, which is volatile"
    finally:
        connection.execute("ALTER FUNCTION twice IMMUTABLE")
