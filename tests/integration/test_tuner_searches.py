"""Searches get their own answer or their own error, whatever is set for them, and leave nothing behind."""

from __future__ import annotations

import pytest
from tuner_trials import plainly, psycopg, settings_of

from sona.tuner import Tuner, attach
from sona.tuner.execution import ExecutionParams
from sona.tuner.searches.arms import SearchArm
from sona.tuner.searches.policy import SearchChoice

STATUS = psycopg.pq.TransactionStatus
TABLES = """
CREATE EXTENSION vector;
SELECT setseed(0.5);
CREATE TABLE item AS SELECT i AS id, i % 10 AS cat, ARRAY[random(), random(), random()]::vector(3) AS e
    FROM generate_series(1, 3000) i;
CREATE INDEX near ON item USING hnsw (e vector_l2_ops);
ANALYZE item
"""
SEARCH = "SELECT id, current_setting('hnsw.ef_search') FROM item ORDER BY e <-> '[0.1,0.2,0.3]' LIMIT 60"
EF = SearchArm("ef 200", ExecutionParams(ef_search=200))


@pytest.fixture(params=[True, False], ids=["autocommit", "transactions"])
def connection(request, database_dsn):
    with psycopg.connect(database_dsn, autocommit=True) as made:
        made.execute(TABLES)
        made.autocommit = request.param
        yield made


def attached(connection, arm: SearchArm, *, is_check: bool = False) -> Tuner:
    """A tuner that runs every search with `arm`."""
    tuner = attach(connection, Tuner())
    tuner.searches.choose = lambda key: SearchChoice(arm, is_check, "told to")
    return tuner


def test_a_search_runs_with_its_settings_and_leaves_none(connection):
    plainly(connection, SEARCH)  # loads the extension, which brings its settings
    before = settings_of(connection)
    connection.rollback()
    attached(connection, EF)
    found = connection.execute(SEARCH).fetchall()
    assert (len(found), {row[1] for row in found}) == (60, {"200"})
    assert settings_of(connection) == before


@pytest.mark.parametrize("is_check", [False, True])
def test_a_search_after_its_index_is_gone_is_exact(connection, is_check):
    attached(connection, EF, is_check=is_check)
    exact = plainly(connection, "SELECT id FROM item ORDER BY (e <-> '[0.1,0.2,0.3]') + 0 LIMIT 60")  # by no index
    connection.execute(SEARCH)
    connection.execute("DROP INDEX near")
    assert [row[0] for row in connection.execute(SEARCH).fetchall()] == [row[0] for row in exact]


def test_an_arm_the_server_does_not_take_is_withdrawn(connection):
    tuner = attached(connection, SearchArm("ef 0", ExecutionParams(ef_search=0)))
    plainly(connection, SEARCH)
    withdrawn = []
    tuner.searches.withdraw = lambda arm: withdrawn.append(arm.name)
    assert len(connection.execute(SEARCH).fetchall()) == 40
    assert withdrawn == ["ef 0"]
    assert connection.info.transaction_status == (STATUS.IDLE if connection.autocommit else STATUS.INTRANS)


def test_errors_of_a_search_are_its_own_and_fail_its_transaction(connection):
    tuner = attached(connection, EF)
    withdrawn = []
    tuner.searches.withdraw = lambda arm: withdrawn.append(arm.name)
    with pytest.raises(psycopg.errors.DataException, match="dimensions"):
        connection.execute(SEARCH.replace("0.3]", "0.3,0.4]"))
    assert connection.info.transaction_status == (STATUS.IDLE if connection.autocommit else STATUS.INERROR)
    connection.rollback()
    connection.execute("SET statement_timeout = '60ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(f"WITH w AS (SELECT count(*) FROM generate_series(1, 9000000)) {SEARCH} + (SELECT * FROM w)")
    assert connection.info.transaction_status == (STATUS.IDLE if connection.autocommit else STATUS.INERROR)
    assert withdrawn == []


def test_checks_leave_the_connection_as_it_was(connection):
    plainly(connection, SEARCH)
    before = settings_of(connection)
    connection.rollback()
    attached(connection, EF, is_check=True)
    was = connection.autocommit
    for _ in range(3):
        assert len(connection.execute(SEARCH).fetchall()) == 60
        assert connection.info.transaction_status == (STATUS.IDLE if was else STATUS.INTRANS)
        assert connection.autocommit == was
        connection.rollback()
    assert settings_of(connection) == before
