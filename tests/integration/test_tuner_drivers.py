"""However an application asks, it gets what it would get without a tuner: every way of psycopg and SQLAlchemy."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace

import pytest
from tuner_trials import NO_HASH, events, has_read_all_plans, plainly, psycopg, settings_of, urgent

from sona.config.tuner import TunerConfig
from sona.errors import InvalidValue
from sona.tuner import Tuner, attach, connect, cursor_factory
from sona.tuner.choosing.plan_policy import Purpose

sql = psycopg.sql
FINISHED = [(NO_HASH.name, "finished")]
ARM = "current_setting('enable_hashjoin')"
ASKED = [
    ("SELECT 1 AS a", None),
    ("SELECT %s::int + %s", (1, 2)),
    ("SELECT %(a)s::int + %(a)s + %(b)s", {"a": 1, "b": None}),
    ("SELECT 'a%b', 5 % 3", None),
    ("SELECT 'a%%b', 5 %% %s", [3]),
    ("SELECT %s", (None,)),
    ("SELECT %s::text, %s::bytea, %s::jsonb", ("é€", b"\x00\xff", psycopg.types.json.Jsonb({"a": [1, None]}))),
    (b"SELECT 'bytes'", None),
    (sql.SQL("SELECT {} AS {}").format(sql.Literal("o'clock"), sql.Identifier('a "b')), None),
    (sql.SQL("SELECT {}::int + %s").format(sql.Placeholder()), (4, 5)),
    ("SELECT relname FROM pg_class WHERE oid = ANY(%s) ORDER BY 1", ([1259, 1249],)),
    ("SELECT a.relname FROM pg_class a JOIN pg_class b USING (oid) WHERE b.relname LIKE 'pg\\_am%' ORDER BY 1", None),
    ("-- what is this?\nSELECT /* a ; b */ 1; -- the end", None),
    ("WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 50) SELECT sum(i) FROM r", None),
    ("SELECT " + " + ".join(["1"] * 1000), None),
    ("SELECT count(*) FROM pg_class WHERE oid IN (" + ", ".join(map(str, range(20_000))) + ")", None),
    ("SELECT", None),
    ("VALUES (1, 'a'), (2, NULL)", None),
    ("TABLE pg_am", None),
    ("SELECT ARRAY[1.5, 2], '{\"a\": 1}'::json, now() > '2000-01-01', interval '1 day', 'NaN'::float", None),
]


@pytest.fixture
def pair(database_dsn):
    """A connection that is tuned and one that is not."""
    with psycopg.connect(database_dsn, autocommit=True) as tuned, psycopg.connect(database_dsn, autocommit=True) as own:
        yield tuned, own


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
def test_answers_are_those_without_a_tuner(pair, autocommit, binary):
    tuned, own = pair
    tuned.autocommit = autocommit
    tuner = attach(tuned, urgent())
    for query, params in ASKED:
        expected = own.cursor(binary=binary).execute(query, params)
        found = tuned.cursor(binary=binary).execute(query, params)
        assert repr(found.fetchall()) == repr(expected.fetchall()), query
        assert (found.rowcount, found.statusmessage) == (expected.rowcount, expected.statusmessage)
        assert [(one.name, one.type_code) for one in found.description] == [
            (one.name, one.type_code) for one in expected.description
        ]
    assert events(tuner).count(FINISHED[0]) >= len(ASKED) - 3


def test_cursors_of_the_application_stay_what_they_are(pair):
    tuned, _ = pair

    class Counting(psycopg.ClientCursor):
        runs = 0

        def execute(self, *args, **kwargs):
            Counting.runs += 1
            return super().execute(*args, **kwargs)

    tuned.cursor_factory = Counting
    tuner = attach(tuned, urgent())
    tuned.row_factory = psycopg.rows.dict_row
    assert tuned.execute(f"SELECT interval %s AS i, {ARM} AS set", ["1 day"]).fetchone()["set"] == "off"
    assert (Counting.runs, events(tuner)) == (1, FINISHED)
    with tuned.cursor(row_factory=psycopg.rows.class_row(Decimal)) as cursor:
        assert cursor.execute("SELECT '1.5' AS value").fetchall() == [Decimal("1.5")]
    assert isinstance(tuned.cursor(), Counting)


def test_placeholders_of_the_server_itself(pair):
    tuned, _ = pair
    tuned.cursor_factory = psycopg.RawCursor
    tuner = attach(tuned, Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0)))
    question = "SELECT count(*) FROM generate_series(1, $1) a WHERE a::text LIKE '%7'"
    for _ in range(60):
        assert tuned.execute(question, [20_000]).fetchone() == (2000,)
    (unit,) = tuner._plans.units.values()
    assert has_read_all_plans(tuner)
    assert not tuner._ledger.refusal(unit.fingerprint)


@pytest.mark.parametrize("prepare", [None, True, False])
@pytest.mark.parametrize("threshold", [0, 2, None])
def test_prepared_statements_do_not_hide_the_settings(pair, prepare, threshold):
    tuned, _ = pair
    tuned.prepare_threshold = threshold
    for arm in (urgent(), urgent(), Tuner(mode="observe"), urgent()):
        tuner = attach(tuned, arm)
        for number in range(8):
            row = tuned.execute(f"SELECT {ARM}, %s::int", [number], prepare=prepare).fetchone()
            assert row == ("on" if tuner.mode == "observe" else "off", number)


def test_what_is_not_a_plain_statement_runs_as_it_is(pair):
    tuned, _ = pair
    before = settings_of(tuned)
    tuner = attach(tuned, urgent())
    tuned.execute("CREATE TABLE t (a int, b text)")
    tuned.cursor().executemany("INSERT INTO t VALUES (%s, %s)", [(1, "x"), (2, None)])
    with tuned.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write_row((3, "z"))
    with tuned.cursor().copy("COPY (SELECT a FROM t ORDER BY a) TO STDOUT") as copy:
        assert list(copy.rows()) == [("1",), ("2",), ("3",)]
    with tuned.pipeline():
        first, second = tuned.cursor().execute(f"SELECT {ARM}"), tuned.cursor().execute("SELECT count(*) FROM t")
        assert (first.fetchone(), second.fetchone()) == (("on",), (3,))
    assert [row[0] for row in tuned.cursor().stream("SELECT a FROM t ORDER BY a")] == [1, 2, 3]
    assert events(tuner) == []
    with tuned.transaction(), tuned.cursor(name="named") as named:
        named.execute(f"SELECT a, {ARM} FROM t ORDER BY a")
        assert named.fetchone() == (1, "on")
        assert tuned.execute(f"SELECT {ARM}").fetchone() == ("off",)
        assert named.fetchall() == [(2, "on"), (3, "on")]
    assert settings_of(tuned) == before


def test_several_statements_and_none(pair):
    tuned, _ = pair
    tuner = attach(tuned, urgent())
    cursor = tuned.execute("SELECT 1; SELECT 2")
    assert cursor.fetchall() == [(1,)]
    assert cursor.nextset()
    assert cursor.fetchall() == [(2,)]
    for nothing in ("", ";", "-- nothing"):
        with pytest.raises(psycopg.ProgrammingError):
            tuned.execute(nothing).fetchall()
    assert events(tuner) == []


def test_notifications_arrive(pair):
    tuned, own = pair
    heard = []
    tuned.add_notify_handler(lambda notify: heard.append(notify.payload))
    attach(tuned, urgent())
    tuned.execute("LISTEN news")
    own.execute("NOTIFY news, 'one'")
    assert tuned.execute(f"SELECT {ARM}").fetchone() == ("off",)
    tuned.execute("SELECT 1")
    assert heard == ["one"]


@pytest.mark.parametrize("encoding", ["LATIN1", "UTF8", "EUC_JP"])
def test_any_encoding_of_the_client(pair, encoding):
    tuned, _ = pair
    word = {"LATIN1": "déjà", "UTF8": "€ß漢", "EUC_JP": "日本"}[encoding]
    tuned.execute(f"SET client_encoding = '{encoding}'")
    tuner = attach(tuned, Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0)))
    query = f"SELECT '{word}', count(*) FROM generate_series(1, 100000)"
    for asked in (query, query.encode(encoding)):
        for _ in range(12):
            assert tuned.execute(asked).fetchone() == (word, 100_000)
    assert has_read_all_plans(tuner)
    assert not any(account.refusal for account in tuner._ledger.accounts().values())


def test_json_is_read_however_the_application_reads_its_own(pair):
    tuned, _ = pair
    psycopg.types.json.set_json_loads(lambda _: "unread", tuned)
    tuner = attach(tuned, Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0)))
    for _ in range(12):
        found = tuned.execute("""SELECT '{"a": 1}'::json, count(*) FROM generate_series(1, 100000)""").fetchone()
        assert found == ("unread", 100_000)
    assert has_read_all_plans(tuner)


def test_read_only_and_strictly_isolated_transactions(pair):
    tuned, _ = pair
    attach(tuned, urgent())
    for level in psycopg.IsolationLevel:
        tuned.autocommit = False
        tuned.isolation_level, tuned.read_only = level, True
        shown = f"SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), {ARM}"
        assert tuned.execute(shown).fetchone() == (level.name.lower().replace("_", " "), "on", "off")
        tuned.rollback()
        tuned.autocommit = True
        tuned.execute(f"SET default_transaction_isolation = '{level.name.lower().replace('_', ' ')}'")
        tuned.execute("SET default_transaction_read_only = on")
        assert tuned.execute(shown).fetchone() == (level.name.lower().replace("_", " "), "on", "off")
        tuned.execute("SET default_transaction_read_only = off")


def test_snapshots_of_a_transaction_stay_one(pair):
    tuned, own = pair
    own.execute("CREATE TABLE t (a int)")
    tuned.autocommit, tuned.isolation_level = False, psycopg.IsolationLevel.REPEATABLE_READ
    attach(tuned, urgent(timeout_s=0.02))
    assert tuned.execute("SELECT count(*) FROM t").fetchone() == (0,)
    own.execute("INSERT INTO t VALUES (1)")
    assert tuned.execute("SELECT count(*), (SELECT count(*) FROM generate_series(1, 900000)) FROM t").fetchone()[0] == 0
    tuned.commit()
    assert tuned.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_temporary_tables_paths_and_roles(pair):
    tuned, _ = pair
    attach(tuned, urgent())
    tuned.execute("CREATE TEMP TABLE t AS SELECT 1 AS a")
    assert tuned.execute(f"SELECT a, {ARM} FROM t").fetchall() == [(1, "off")]
    tuned.execute("CREATE SCHEMA s")
    tuned.execute("CREATE TABLE s.t AS SELECT 2 AS a")
    tuned.execute("SET search_path = s, pg_temp")
    assert tuned.execute(f"SELECT a, {ARM} FROM t").fetchall() == [(2, "off")]
    tuned.execute("DROP TABLE t")
    assert tuned.execute(f"SELECT a, {ARM} FROM t").fetchall() == [(1, "off")]


def test_nothing_is_tried_once_a_transaction_has_written(pair):
    tuned, _ = pair
    tuner = attach(tuned, urgent())
    tuned.execute("CREATE TABLE t (a int)")
    with tuned.transaction():
        assert tuned.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert events(tuner) == FINISHED
        tuned.execute("INSERT INTO t VALUES (1)")
        assert tuned.execute(f"SELECT a, {ARM} FROM t").fetchall() == [(1, "on")]
        assert events(tuner) == [("server", "finished")]
    assert tuned.execute(f"SELECT a, {ARM} FROM t").fetchall() == [(1, "off")]


# -- attaching -----------------------------------------------------------------------------------------------------


def test_attaching_twice_is_attaching_once(pair):
    tuned, _ = pair
    first, second = urgent(), urgent()
    attach(tuned, first)
    attach(tuned, first)
    tuned.execute("SELECT 1")
    assert events(first) == FINISHED
    attach(tuned, second)
    tuned.execute("SELECT 1")
    assert (events(first), events(second)) == ([], FINISHED)


def test_two_tuners_have_nothing_in_common(database_dsn):
    first, second = urgent(), urgent()
    with connect(database_dsn, first, autocommit=True) as one, connect(database_dsn, second, autocommit=True) as other:
        one.execute("SELECT 1")
        assert (events(first), events(second)) == (FINISHED, [])
        other.execute("SELECT 1")
        assert (events(first), events(second)) == ([], FINISHED)


def test_what_cannot_be_attached_is_refused(database_dsn):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    with pytest.raises(InvalidValue, match="got str"):
        attach("postgresql://")
    with pytest.raises(InvalidValue, match="got pysqlite"):
        attach(sqlalchemy.create_engine("sqlite://"))
    with pytest.raises(InvalidValue, match="asynchronous"):
        attach(SimpleNamespace(dialect=SimpleNamespace(driver="psycopg", is_async=True)))
    with psycopg.connect(database_dsn) as connection, pytest.raises(InvalidValue, match="both"):
        attach(connection, Tuner(), path="tuner.sona")


def test_an_asynchronous_connection_is_refused(database_dsn):
    import asyncio

    async def attached() -> None:
        async with await psycopg.AsyncConnection.connect(database_dsn) as connection:
            with pytest.raises(InvalidValue, match="AsyncConnection"):
                attach(connection)

    asyncio.run(attached())


def test_a_closed_connection_says_so(pair):
    tuned, _ = pair
    attach(tuned, urgent())
    cursor = tuned.cursor()
    tuned.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        cursor.execute("SELECT 1")


# -- SQLAlchemy ----------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(database_dsn):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    made = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database_dsn))
    yield made
    made.dispose()


def test_an_engine_and_its_sessions(engine):
    import sqlalchemy as sa
    from sqlalchemy import orm

    table = sa.Table("item", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))

    class Item:
        def __init__(self, name: str) -> None:
            self.name = name

    orm.registry().map_imperatively(Item, table)
    table.metadata.create_all(engine)
    tuner = attach(engine, urgent(purpose=Purpose.KNOWN))
    assert attach(engine, tuner) is tuner
    with orm.Session(engine) as session:
        session.add_all([Item(name="a%b"), Item(name="c")])
        session.commit()
        found = session.scalars(sa.select(Item).where(Item.name.like("a%")).order_by(Item.id)).all()
        assert [item.name for item in found] == ["a%b"]
        assert events(tuner) == FINISHED
        session.add(Item(name="d"))
        assert session.scalar(sa.select(sa.func.count(Item.id))) == 3
        session.rollback()
        assert session.scalar(sa.select(sa.func.count(Item.id))) == 2
    events(tuner)
    with engine.connect() as connection:
        shown = sa.text(f"SELECT {ARM} || '%' || :a")
        assert connection.scalar(shown, {"a": 1}) == "off%1"
        assert connection.exec_driver_sql("SHOW enable_hashjoin").scalar() == "on"
        with pytest.raises(sa.exc.DataError), connection.begin_nested():
            connection.execute(sa.text("SELECT 1 / (count(*) - count(*)) FROM pg_class"))
        assert connection.scalar(shown, {"a": 2}) == "off%2"
        streamed = connection.execution_options(stream_results=True).execute(sa.text(f"SELECT {ARM}"))
        assert streamed.scalars().all() == ["on"]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.scalar(shown, {"a": 3}) == "off%3"
        assert connection.exec_driver_sql("SHOW enable_hashjoin").scalar() == "on"


# -- threads -------------------------------------------------------------------------------------------------------

QUESTION = "SELECT k, count(*), sum(b.v) FROM a JOIN b USING (k) WHERE a.v %% {} = 0 AND b.v < %s GROUP BY k ORDER BY k"
TABLES = """
CREATE TABLE a AS SELECT i AS v, i % 40 AS k FROM generate_series(1, 400) i;
CREATE TABLE b AS SELECT i AS v, i % 40 AS k FROM generate_series(1, 400) i;
"""


@pytest.mark.slow
def test_eight_threads_share_a_tuner_and_each_gets_its_own_answers(database_dsn):
    with psycopg.connect(database_dsn, autocommit=True) as own:
        own.execute(TABLES)
        asked = [(QUESTION.format(one), [limit]) for one in (2, 3, 5) for limit in (50, 100, 200, 300)]
        expected = [own.execute(*question).fetchall() for question in asked]
        before = settings_of(own)
    tuner = Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0, capacity=6))
    failures: list[object] = []

    def work(number: int) -> None:
        factory = cursor_factory(tuner)
        with psycopg.connect(database_dsn, autocommit=number % 2 == 0, cursor_factory=factory) as connection:
            for turn in range(100):
                place = (turn * (number + 1)) % len(asked)
                if connection.execute(*asked[place]).fetchall() != expected[place]:
                    failures.append((number, turn))
                if turn % 10 == 0:
                    connection.commit()
                    tuner.state()
            connection.commit()
            if settings_of(connection) != before:
                failures.append(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert failures == []
    assert tuner._ledger.queries_processed == 800
    assert len(tuner._plans.units) <= 6
    assert tuner._turn.acquire(blocking=False)


@pytest.mark.slow
def test_threads_that_share_a_connection_never_run_within_the_transactions_of_others(database_dsn):
    tuner = urgent(timeout_s=0.005, purpose=Purpose.TRIAL)
    with connect(database_dsn, tuner, autocommit=True) as shared:
        shared.execute("CREATE TABLE t (a int)")
        start = threading.Barrier(4)

        def read(number: int) -> None:
            start.wait()
            for turn in range(60):
                shared.execute(f"SELECT count(*) FROM generate_series(1, 200000) a WHERE a <> {number + turn * 10}")

        def write(number: int) -> None:
            start.wait()
            for turn in range(60):
                shared.execute("INSERT INTO t VALUES (%s)", [number * 1000 + turn])
                shared.cursor().executemany("INSERT INTO t VALUES (%s)", [(0,), (0,)])

        threads = [threading.Thread(target=run, args=[n]) for n, run in enumerate((read, read, write, write))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # What was given up was rolled back: no row went with it.
        assert (NO_HASH.name, "abandoned") in events(tuner)
        assert plainly(shared, "SELECT count(*) FROM t") == [(360,)]
