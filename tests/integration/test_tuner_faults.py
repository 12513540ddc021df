"""Whatever fails, the application gets its own answer or its own error, and learning goes on."""

from __future__ import annotations

import _thread
import threading
import time

import pytest
from tuner_trials import NO_HASH, events, has_read_all_plans, plainly, psycopg, setting, settings_of, urgent

from sona.config.tuner import TunerConfig
from sona.tuner import EmbeddedServer, Tuner, attach
from sona.tuner.borrow import Borrowed
from sona.tuner.choosing.arms import Arm
from sona.tuner.choosing.plan_policy import Purpose
from sona.tuner.execution import ExecutionParams

LONG = "SELECT count(*) FROM generate_series(1, 100000000)"
TICKS = "SELECT count(*) FROM generate_series(1, 60000) a WHERE a % 7 = 0"
FINISHED = (NO_HASH.name, "finished")
STATUS = psycopg.pq.TransactionStatus
BOTH = pytest.mark.parametrize("purpose", [Purpose.TRIAL, Purpose.KNOWN])


@pytest.fixture
def connection(database_dsn):
    with psycopg.connect(database_dsn, autocommit=True) as made:
        yield made


def careless() -> Tuner:
    return Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0))


# -- the connection goes away --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_backend_that_is_ended_within_a_statement(database_dsn, connection, purpose, autocommit):
    tuner = urgent(timeout_s=60.0, purpose=purpose)
    with psycopg.connect(database_dsn, autocommit=autocommit) as lost:
        attach(lost, tuner)
        ending = threading.Timer(0.2, connection.execute, ["SELECT pg_terminate_backend(%s)", [lost.info.backend_pid]])
        ending.start()
        with pytest.raises(psycopg.errors.AdminShutdown):
            lost.execute(LONG)
        ending.join()
        assert lost.closed
        with pytest.raises(psycopg.OperationalError, match="closed"):
            lost.execute("SELECT 1")
    assert events(tuner) == []
    attach(connection, tuner)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert events(tuner) == [FINISHED]


@pytest.mark.parametrize("moment", ["BEGIN", "set_config", "COMMIT", "SAVEPOINT", "RELEASE", "EXPLAIN"])
def test_a_backend_that_is_ended_at_any_moment(database_dsn, connection, monkeypatch, moment):
    from sona.tuner import borrow, session

    ask, is_within = borrow.ask, moment in ("SAVEPOINT", "RELEASE")
    with psycopg.connect(database_dsn, autocommit=not is_within) as lost:
        pid = lost.info.backend_pid

        def cut_off(asked, sql, *args, **kwargs):
            if moment in sql and asked is lost:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                while plainly(connection, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]) != [(0,)]:
                    time.sleep(0.01)
            return ask(asked, sql, *args, **kwargs)

        monkeypatch.setattr(borrow, "ask", cut_off)
        monkeypatch.setattr(session, "ask", cut_off)
        tuner = attach(lost, careless() if moment == "EXPLAIN" else urgent())
        if moment in ("COMMIT", "RELEASE"):  # the answer was there by then
            assert lost.execute("SELECT 5").fetchone() == (5,)
        elif moment == "EXPLAIN":
            for _ in range(30):
                assert lost.closed or lost.execute(TICKS).fetchone() == (8571,)
            assert not any(account.refusal for account in tuner._ledger.accounts().values())
        else:
            with pytest.raises(psycopg.OperationalError):
                lost.execute("SELECT 5")
        assert lost.closed
    assert tuner._plans.barred == {}
    assert tuner._turn.acquire(blocking=False)


@pytest.mark.slow
def test_a_server_that_starts_again(tmp_path):
    with EmbeddedServer(settings={"fsync": "off"}) as server:
        with psycopg.connect(server.dsn, autocommit=True) as first:
            tuner = attach(first, careless(), path=None)
            for _ in range(20):
                assert first.execute(TICKS).fetchone() == (8571,)
            server.restart(crash=True)
            with pytest.raises(psycopg.OperationalError):
                first.execute(TICKS)
            known = tuner._plans.units
            assert len(known) == 1
        with psycopg.connect(server.dsn, autocommit=True) as again:
            attach(again, tuner)
            for _ in range(20):
                assert again.execute(TICKS).fetchone() == (8571,)
            assert next(iter(known.values())).count >= 40
            assert next(iter(tuner._ledger.accounts().values())).refusal is None


# -- somebody stops it ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("autocommit", [True, False])
def test_ctrl_c_stops_the_statement_and_leaves_nothing(database_dsn, purpose, autocommit):
    with psycopg.connect(database_dsn, autocommit=autocommit) as connection:
        before = settings_of(connection)
        connection.rollback()
        tuner = attach(connection, urgent(timeout_s=60.0, purpose=purpose))
        threading.Timer(0.3, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            connection.execute(LONG)
        assert connection.info.transaction_status == (STATUS.IDLE if autocommit else STATUS.INERROR)
        connection.rollback()
        assert settings_of(connection) == before
        assert tuner._turn.acquire(blocking=False)


@pytest.mark.parametrize("moment", ["BEGIN", "set_config", "COMMIT", "EXPLAIN", "ROLLBACK"])
def test_ctrl_c_at_any_moment_leaves_no_transaction_behind(connection, monkeypatch, moment):
    from sona.tuner import borrow, session

    ask, struck = borrow.ask, []

    def interrupted(asked, sql, *args, **kwargs):
        found = ask(asked, sql, *args, **kwargs) if moment in ("BEGIN", "set_config") else None
        if moment in sql and not struck:
            struck.append(sql)
            raise KeyboardInterrupt
        return ask(asked, sql, *args, **kwargs) if found is None else found

    before = settings_of(connection)
    monkeypatch.setattr(borrow, "ask", interrupted)
    monkeypatch.setattr(session, "ask", interrupted)
    tuner = attach(connection, careless() if moment == "EXPLAIN" else urgent(timeout_s=0.03))
    sql = "SELECT count(*) FROM generate_series(1, 900000)" if moment == "ROLLBACK" else TICKS
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in range(30):
            connection.execute(sql)
    assert struck
    if moment != "ROLLBACK":
        assert connection.info.transaction_status == STATUS.IDLE
        assert settings_of(connection) == before
    assert tuner._turn.acquire(blocking=False)


@BOTH
@pytest.mark.parametrize("autocommit", [True, False])
def test_waiting_for_a_lock_ends_as_the_application_wants(database_dsn, purpose, autocommit):
    with psycopg.connect(database_dsn) as holder, psycopg.connect(database_dsn, autocommit=autocommit) as waiting:
        waiting.execute("CREATE TABLE t AS SELECT 1 AS a")
        waiting.execute("SET lock_timeout = '100ms'")
        waiting.commit()
        tuner = attach(waiting, urgent(timeout_s=30.0, purpose=purpose))
        holder.execute("LOCK TABLE t")
        started = time.perf_counter()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            waiting.execute("SELECT a FROM t")
        assert time.perf_counter() - started < 1.5  # once, not once per arm
        assert waiting.info.transaction_status == (STATUS.IDLE if autocommit else STATUS.INERROR)
        waiting.rollback()
        holder.rollback()
        assert waiting.execute("SELECT a FROM t").fetchone() == (1,)
        assert events(tuner) == [FINISHED]  # an arm is not to blame for the locks of others


def test_a_deadlock_ends_one_of_two(database_dsn):
    with psycopg.connect(database_dsn) as one, psycopg.connect(database_dsn) as other:
        one.execute("CREATE TABLE a AS SELECT 1 AS x")
        one.execute("CREATE TABLE b AS SELECT 2 AS x")
        one.execute("SET deadlock_timeout = '50ms'")
        one.commit()
        tuner = attach(one, urgent(timeout_s=30.0, purpose=Purpose.KNOWN))
        one.execute("LOCK TABLE a")
        other.execute("LOCK TABLE b")
        thread = threading.Thread(target=other.execute, args=["LOCK TABLE a"])
        thread.start()
        time.sleep(0.2)
        with pytest.raises(psycopg.errors.DeadlockDetected):
            one.execute("SELECT x FROM b")
        assert one.info.transaction_status == STATUS.INERROR
        one.rollback()
        thread.join()
        other.rollback()
        assert one.execute("SELECT x FROM b").fetchone() == (2,)
        assert events(tuner) == [FINISHED]


@pytest.mark.parametrize("autocommit", [True, False])
def test_transactions_that_do_not_fit_between_others_fail_as_they_do(database_dsn, autocommit):
    options = "-c default_transaction_isolation=serializable"
    with (
        psycopg.connect(database_dsn, options=options) as one,
        psycopg.connect(database_dsn, options=options) as other,
        psycopg.connect(database_dsn, options=options, autocommit=autocommit) as reader,
    ):
        reader.execute("CREATE TABLE t AS SELECT i AS k, 0 AS v FROM generate_series(1, 2) i")
        reader.commit()
        attach(one, urgent(purpose=Purpose.KNOWN))
        attach(reader, urgent(purpose=Purpose.KNOWN))
        assert one.execute("SELECT sum(v) FROM t").fetchone() == (0,)
        one.execute("UPDATE t SET v = 1 WHERE k = 1")
        assert other.execute("SELECT sum(v) FROM t").fetchone() == (0,)
        other.execute("UPDATE t SET v = 1 WHERE k = 2")
        one.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            other.commit()
        assert reader.execute("SELECT sum(v) FROM t").fetchone() == (1,)


# -- an arm fails --------------------------------------------------------------------------------------------------


def test_an_error_that_only_another_plan_meets_is_never_seen(connection):
    # Joined first, no row divides by zero; looked at alone, one does.
    connection.execute(
        "CREATE TABLE few AS SELECT i AS k FROM generate_series(1, 20) i; "
        "CREATE TABLE many AS SELECT i AS k, i - 30000 AS d FROM generate_series(1, 50000) i; "
        "CREATE INDEX many_k ON many (k); ANALYZE few, many"
    )
    sql = "SELECT count(*) FROM few JOIN many USING (k) WHERE 10 / d <> 11"
    assert plainly(connection, sql) == [(20,)]
    arm = Arm("hash joins only", ExecutionParams(custom={"enable_nestloop": "off", "enable_mergejoin": "off"}))
    tuner = attach(connection, urgent(arm))
    with pytest.raises(psycopg.errors.DivisionByZero), Borrowed(connection, arm.params.settings):
        plainly(connection, sql)
    assert connection.execute(sql).fetchone() == (20,)
    assert events(tuner) == [(arm.name, "refused"), ("server", "finished")]
    with connection.transaction():
        assert connection.execute(sql).fetchone() == (20,)
        assert connection.info.transaction_status == STATUS.INTRANS


def test_a_known_arm_outlives_changes_of_the_schema(connection):
    connection.execute("CREATE TABLE t AS SELECT i AS a, i % 10 AS b FROM generate_series(1, 5000) i")
    connection.execute("CREATE INDEX t_a ON t (a)")
    tuner = attach(connection, urgent(setting("enable_seqscan", "off"), purpose=Purpose.KNOWN))
    sql = "SELECT count(*), max(a) FROM t WHERE a > 4000"
    for change in (
        "DROP INDEX t_a",
        "ALTER TABLE t ADD COLUMN c text DEFAULT 'x'",
        "ANALYZE t",
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "CREATE INDEX t_again ON t (b, a)",
        "ALTER TABLE t RENAME COLUMN b TO d",
        "VACUUM t",
    ):
        assert connection.execute(sql).fetchone() == (1000, 5000), change
        connection.execute(change)
    assert connection.execute(sql).fetchone() == (1000, 5000)
    assert events(tuner) == [("enable_seqscan=off", "finished")] * 8
    connection.execute("DROP TABLE t")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute(sql)
    assert connection.info.transaction_status == STATUS.IDLE


def test_without_the_extension_its_settings_change_nothing(connection):
    tuner = attach(connection, urgent(setting("hnsw.ef_search", "100")))
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert events(tuner) == [("hnsw.ef_search=100", "finished")]
    connection.execute("CREATE TABLE v (a text)")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        connection.execute("SELECT a FROM v ORDER BY a <-> '[1,2]' LIMIT 1")
    assert connection.info.transaction_status == STATUS.IDLE
    assert connection.execute("SELECT 2").fetchone() == (2,)


def test_an_error_of_the_application_is_its_own_and_teaches_nothing(connection):
    tuner = attach(connection, careless())
    for sql, params, kind in (
        ("SELECT nothing FROM nowhere", None, psycopg.errors.UndefinedTable),
        ("SELECT %s, %s", [1], psycopg.ProgrammingError),
        ("SELECT %(a)s", {}, psycopg.ProgrammingError),
        ("SELECT %s", [object()], psycopg.ProgrammingError),
        ("SELECT 1 FROM", None, psycopg.errors.SyntaxError),
        ("SELECT 'x'::int", None, psycopg.errors.InvalidTextRepresentation),
        ("SELECT '", None, psycopg.errors.SyntaxError),
    ):
        for _ in range(3):
            with pytest.raises(kind):
                connection.execute(sql, params)
            assert connection.info.transaction_status == STATUS.IDLE
    assert len(tuner._plans.units) == 0
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_plan_that_cannot_be_had_now_is_asked_for_another_time(connection, monkeypatch):
    from sona.tuner import session

    ask, fails = session.ask, [True]

    def canceled(asked, sql, *args, **kwargs):
        if sql.startswith("EXPLAIN") and fails:
            fails.clear()
            raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        return ask(asked, sql, *args, **kwargs)

    monkeypatch.setattr(session, "ask", canceled)
    tuner = attach(connection, careless())
    for _ in range(40):
        connection.execute(TICKS)
    assert not fails
    assert next(iter(tuner._ledger.accounts().values())).refusal is None
    assert has_read_all_plans(tuner)


def test_what_was_set_is_unset_even_if_its_undoing_is_ended_too(connection):
    # The limit of the trial holds while the transaction is ended.
    before = settings_of(connection)
    for _ in range(20):
        with Borrowed(connection, {"work_mem": "1MB"}, 0.001):
            pass
    with pytest.raises(psycopg.errors.QueryCanceled), Borrowed(connection, {"work_mem": "1MB"}, 0.001) as borrowed:
        plainly(connection, LONG)
    assert borrowed.limit_s == 0.001
    assert connection.info.transaction_status == STATUS.IDLE
    assert settings_of(connection) == before
