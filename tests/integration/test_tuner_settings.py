"""Settings hold for one statement: a connection is afterwards what it was before, whatever happened."""

from __future__ import annotations

import threading

import pytest
from tuner_trials import (
    INVALID,
    NO_HASH,
    NOBODYS,
    SUPERUSERS,
    events,
    plainly,
    psycopg,
    setting,
    settings_of,
    urgent,
)

from sona.tuner import attach
from sona.tuner.choosing.plan_policy import Purpose

SLOW = "SELECT count(*) FROM generate_series(1, 3000000) a"
SEEN = "SELECT current_setting('enable_hashjoin'), current_setting('work_mem'), count(*) FROM pg_class"
WRONG = "SELECT 1 / (count(*) - count(*)) FROM pg_class"
FAILED, INTRANS, IDLE = (
    psycopg.pq.TransactionStatus.INERROR,
    psycopg.pq.TransactionStatus.INTRANS,
    psycopg.pq.TransactionStatus.IDLE,
)


@pytest.fixture(params=[True, False], ids=["autocommit", "transactions"])
def connection(request, database_dsn):
    with psycopg.connect(database_dsn, autocommit=request.param) as made:
        yield made


def status(connection):
    return connection.info.transaction_status


def test_what_is_set_holds_for_the_statement_and_for_no_other(connection):
    before = settings_of(connection)
    attach(connection, urgent())
    assert connection.execute(SEEN).fetchone()[:2] == ("off", "3MB")
    assert settings_of(connection) == before


@pytest.mark.parametrize("purpose", [Purpose.TRIAL, Purpose.KNOWN])
def test_nothing_is_left_after_an_error(connection, purpose):
    before = settings_of(connection)
    tuner = attach(connection, urgent(purpose=purpose))
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute(WRONG)
    assert events(tuner) == [(NO_HASH.name, "refused")]
    assert status(connection) == (IDLE if connection.autocommit else FAILED)
    connection.rollback()
    assert settings_of(connection) == before


@pytest.mark.parametrize("purpose", [Purpose.TRIAL, Purpose.KNOWN])
def test_what_takes_too_long_is_run_again_as_the_server_likes(connection, purpose):
    before = settings_of(connection)
    tuner = attach(connection, urgent(timeout_s=0.03, purpose=purpose))
    assert connection.execute(SLOW).fetchone() == (3_000_000,)
    assert events(tuner) == [(NO_HASH.name, "abandoned"), ("server", "finished")]
    assert status(connection) == (IDLE if connection.autocommit else INTRANS)
    assert settings_of(connection) == before


@pytest.mark.parametrize("arm", [NOBODYS, INVALID, setting("max_connections", "7")], ids=lambda arm: arm.name)
def test_a_setting_the_server_does_not_take_is_never_tried_again(connection, arm):
    before = settings_of(connection)
    tuner = attach(connection, urgent(arm))
    assert connection.execute("SELECT 40 + 2").fetchone() == (42,)
    assert connection.execute("SELECT 40 + 3").fetchone() == (43,)
    assert events(tuner) == [(arm.name, "barred"), ("server", "finished"), ("server", "finished")]
    assert status(connection) == (IDLE if connection.autocommit else INTRANS)
    assert settings_of(connection) == before


def test_a_role_without_the_right_to_a_setting_gets_its_answers(connection):
    role = f"plain_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {role}")
    connection.commit()  # nothing is tried in a transaction that has written
    try:
        connection.execute(f"SET ROLE {role}")
        tuner = attach(connection, urgent(SUPERUSERS))
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        assert events(tuner) == [(SUPERUSERS.name, "barred"), ("server", "finished")]
        attach(connection, urgent())
        assert connection.execute(SEEN).fetchone()[:2] == ("off", "3MB")
        assert connection.execute("SELECT current_user").fetchone() == (role,)
    finally:
        connection.execute("RESET ROLE")
        connection.execute(f"DROP ROLE {role}")


def test_what_the_application_set_itself_comes_back(database_dsn):
    with psycopg.connect(database_dsn) as connection:
        connection.execute("SET work_mem = '5MB'")
        connection.commit()
        attach(connection, urgent())
        connection.execute("SET LOCAL work_mem = '9MB'")
        connection.execute("SET enable_hashjoin = on")
        connection.execute("SET LOCAL random_page_cost = 1.23456789")
        before = settings_of(connection)
        assert connection.execute(SEEN).fetchone()[:2] == ("off", "3MB")
        assert settings_of(connection) == before
        connection.execute("SET work_mem = '11MB'")
        connection.execute("SET enable_hashjoin = off")
        assert connection.execute(SEEN).fetchone()[:2] == ("off", "3MB")
        connection.commit()
        assert plainly(connection, "SHOW work_mem") == [("11MB",)]
        assert plainly(connection, "SHOW enable_hashjoin") == [("off",)]
        connection.execute("SET work_mem = '13MB'")
        assert connection.execute(SEEN).fetchone()[:2] == ("off", "3MB")
        connection.rollback()
        assert plainly(connection, "SHOW work_mem") == [("11MB",)]


def test_savepoints_of_the_application_stay_its_own(database_dsn):
    with psycopg.connect(database_dsn) as connection:
        connection.execute("CREATE TABLE t (a int)")
        attach(connection, urgent(purpose=Purpose.KNOWN))
        with connection.transaction():
            connection.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute(f"INSERT INTO t VALUES (2); {WRONG}")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute(WRONG)
            connection.execute("SAVEPOINT mine")
            assert connection.execute(SEEN).fetchone()[0] == "off"
            connection.execute("INSERT INTO t VALUES (3)")
            connection.execute("ROLLBACK TO mine")
            assert connection.execute("SELECT a, current_setting('work_mem') FROM t").fetchall() == [(1, "3MB")]
        assert plainly(connection, "SELECT a FROM t") == [(1,)]


def test_locks_of_a_statement_last_as_long_as_its_transaction(database_dsn):
    held = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessShareLock' AND granted"
    with psycopg.connect(database_dsn) as connection, psycopg.connect(database_dsn, autocommit=True) as other:
        other.execute("CREATE TABLE t (a int)")
        attach(connection, urgent())
        connection.execute("SELECT a FROM t")
        assert plainly(other, held) == [(1,)]
        connection.commit()
        assert plainly(other, held) == [(0,)]


@pytest.mark.parametrize(("limit", "is_ours"), [("100ms", False), ("1min", True), ("0", True)])
def test_the_shorter_of_two_limits_counts(connection, limit, is_ours):
    connection.execute(f"SET statement_timeout = '{limit}'")
    before = settings_of(connection)
    tuner = attach(connection, urgent(timeout_s=0.05 if is_ours else 60.0))
    if is_ours:
        assert connection.execute(SLOW.replace("3000000", "4000000")).fetchone() == (4_000_000,)
    else:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(SLOW.replace("3000000", "30000000"))
        assert status(connection) == (IDLE if connection.autocommit else FAILED)
        connection.rollback()
        if not connection.autocommit:  # SET was rolled back as well
            return
    assert (NO_HASH.name, "abandoned") in events(tuner)
    assert settings_of(connection) == before


def test_an_arm_that_fails_by_the_applications_limit_is_given_up_and_the_answer_still_comes(connection):
    # Sleeping under the arm alone stands for a plan that takes too long.
    connection.execute(
        "CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql STABLE AS "
        "$$ BEGIN IF current_setting('work_mem') = '3MB' THEN PERFORM pg_sleep(9); END IF; RETURN 7; END $$"
    )
    connection.commit()
    connection.execute("SET statement_timeout = '150ms'")
    tuner = attach(connection, urgent(timeout_s=60.0, purpose=Purpose.KNOWN))
    assert connection.execute("SELECT slow()").fetchone() == (7,)
    assert events(tuner) == [(NO_HASH.name, "abandoned"), ("server", "finished")]


@pytest.mark.parametrize("purpose", [Purpose.TRIAL, Purpose.KNOWN])
def test_a_statement_that_somebody_cancels_is_cancelled(connection, purpose):
    pid = connection.info.backend_pid
    before = settings_of(connection)
    tuner = attach(connection, urgent(timeout_s=60.0, purpose=purpose))
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        timer = threading.Timer(0.3, lambda: other.execute("SELECT pg_cancel_backend(%s)", [pid]))
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT count(*) FROM generate_series(1, 100000000)")
        timer.join()
    assert events(tuner) == []
    assert status(connection) == (IDLE if connection.autocommit else FAILED)
    connection.rollback()
    assert settings_of(connection) == before


@pytest.mark.slow
def test_nothing_leaks_through_a_pooler(pooler_dsn):
    options = {"prepare_threshold": None, "autocommit": True}
    with (
        psycopg.connect(pooler_dsn, **options) as tuned,
        psycopg.connect(pooler_dsn, **options) as other,
        psycopg.connect(pooler_dsn, **{**options, "autocommit": False}) as within,
    ):
        shown = "SELECT current_setting('enable_hashjoin'), current_setting('work_mem')"
        for timeout_s in (10.0, 0.03):
            tuner = attach(tuned, urgent(timeout_s=timeout_s))
            attach(within, tuner)
            for _ in range(6):
                assert tuned.execute(f"{shown}, count(*) FROM pg_class").fetchone()[:2] in {
                    ("off", "3MB"),
                    ("on", "4MB"),
                }
                assert within.execute(SLOW if timeout_s < 1.0 else SEEN).fetchone() is not None
                assert plainly(other, shown) == [("on", "4MB")]
                within.commit()
                assert plainly(within, shown) == [("on", "4MB")]
                with pytest.raises(psycopg.errors.DivisionByZero):
                    tuned.execute(WRONG)
                tuner._plans.given_up.clear()
                assert plainly(tuned, shown) == [("on", "4MB")]
