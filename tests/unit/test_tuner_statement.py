"""What the text of a statement tells: fingerprints, refusals, what another plan may change, and a cache of it all."""

import hashlib
import sys
import threading

import pytest

from sona.errors import InvalidValue, MissingExtra
from sona.tuner.statements.statement import StatementKind, StatementReader, read_statement

BASE = "SELECT count(*) FROM vname v JOIN depends d ON d.dep_id = v.id WHERE v.name = 'a' AND d.kind IN (1, 2)"


class TestFingerprint:
    @pytest.mark.parametrize(
        "sql",
        [
            BASE.lower(),
            BASE.replace(" ", "\n\t "),
            BASE + ";",
            BASE.replace("'a'", "'another'"),
            BASE.replace("'a'", "'a'::text"),
            BASE.replace("'a'", "CAST('a' AS text)"),
            BASE.replace("'a'", "E'\\n'"),
            BASE.replace("'a'", "%s"),
            BASE.replace("'a'", "%(name)s"),
            BASE.replace("'a'", "$1"),
            BASE.replace("'a'", "$1::text"),
            BASE.replace("(1, 2)", "(1)"),
            BASE.replace("(1, 2)", "(-1, 2, 3, 4, 5)"),
            BASE.replace("(1, 2)", "(%s, %s)"),
            BASE.replace("FROM", "/* a comment */ FROM -- another\n"),
            BASE.replace("vname", '"vname"'),
        ],
    )
    def test_is_the_same(self, sql):
        assert read_statement(sql).fingerprint == read_statement(BASE).fingerprint

    @pytest.mark.parametrize(
        "sql",
        [
            BASE.replace("vname", "vnames"),
            BASE.replace("vname", '"Vname"'),
            BASE.replace("vname", "a.vname"),
            BASE.replace("v.name", "v.isreal"),
            BASE.replace("v.name =", "v.name >"),
            BASE.replace("= 'a'", "LIKE 'a'"),
            BASE.replace("count(*)", "count(d.id)"),
            BASE.replace("AND", "OR"),
            BASE.replace("JOIN", "LEFT JOIN"),
            BASE.replace("IN (1, 2)", "NOT IN (1, 2)"),
            BASE.replace("IN (1, 2)", "IN (1, v.id)"),
            BASE.replace("d.kind", "d.kind::text"),
            BASE + " ORDER BY 1",
            BASE + " LIMIT 1",
        ],
    )
    def test_is_another(self, sql):
        assert read_statement(sql).fingerprint != read_statement(BASE).fingerprint

    def test_columns_by_number_are_columns(self):
        one, two = (read_statement(f"SELECT a, b FROM t ORDER BY {n}") for n in (1, 2))
        assert one.fingerprint != two.fingerprint

    def test_is_the_same_on_every_machine(self):
        text = "SELECT count(*) FROM t WHERE a = $1"
        assert read_statement("select COUNT( * ) from T where a=5").normalised == text
        assert read_statement(text).fingerprint == hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def test_literals_decide_the_key(self):
        other = read_statement(BASE.replace("'a'", "'b'"))
        assert other.literal_key != read_statement(BASE).literal_key
        assert read_statement(BASE.lower()).literal_key == read_statement(BASE).literal_key
        assert (
            read_statement("SELECT 1 WHERE a IN (1, 2)").literal_key
            != read_statement("SELECT 1 WHERE a IN (12)").literal_key
        )

    def test_parameters_do_not(self):
        assert read_statement("SELECT %s").literal_key == read_statement("SELECT %(a)s").literal_key

    def test_literals_in_order(self):
        statement = read_statement("SELECT 'x' FROM t WHERE a IN (1, %s, 2) AND b = %s LIMIT 5")
        assert statement.literals == ("'x'", "1", "2", "5")
        assert statement.parameters == (0, 1)


class TestWhatItReads:
    def test_tables(self):
        sql = "WITH a AS (SELECT * FROM b) SELECT * FROM a JOIN s.c ON true, LATERAL (SELECT * FROM d) e, f(1) g"
        assert read_statement(sql).tables == ("b", "d", "s.c")

    def test_a_table_named_like_a_with_query_has_a_schema(self):
        assert read_statement("WITH a AS (SELECT * FROM public.a) SELECT * FROM a").tables == ("public.a",)

    def test_functions(self):
        assert read_statement("SELECT lower(a), s.f(b) FROM t").functions == ("lower", "s.f")

    def test_kind(self):
        kinds = [read_statement(sql).kind for sql in ("SELECT 1", "VALUES (1)", "(SELECT 1)", "DELETE FROM t", "BEGIN")]
        assert kinds == [StatementKind.SELECT] * 3 + [StatementKind.WRITE, StatementKind.OTHER]


TUNED = [
    BASE,
    "SELECT now(), current_date, current_timestamp FROM t",
    "VALUES (1, 2), (3, 4)",
    "SELECT a FROM t UNION SELECT b FROM u",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "SELECT * FROM t TABLESAMPLE BERNOULLI (10) REPEATABLE (1)",
    "SELECT a ->> 'b', c #>> '{d}', e ? 'f', g @> '{}', h ~* 'i', j @@ k, l <% m, ~ n, @ o FROM t",
    "SELECT extract(year FROM a), trim(both 'x' FROM b), substring(c from 1 for 2), d AT TIME ZONE 'UTC' FROM t",
    "SELECT a::numeric(10, 2), b::timestamp with time zone, c[1:2], (d).e, row(1, 2), array[a, b] FROM t",
    "SELECT sum(a) FILTER (WHERE b) FROM t GROUP BY GROUPING SETS ((c), (d, e), ())",
    "SELECT a FROM t WHERE b LIKE %s ESCAPE '!' AND c IS DISTINCT FROM $1 AND d SIMILAR TO 'x'",
    "SELECT a %% 5, b %% %s FROM t WHERE c LIKE '50%%'",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t",
    "SELECT * FROM a NATURAL JOIN b LEFT JOIN c USING (d) FULL JOIN e ON f = g CROSS JOIN h",
    "SELECT * FROM t WHERE (a, b) IN (SELECT c, d FROM u) AND NOT EXISTS (SELECT FROM v WHERE v.a = t.a)",
    "SELECT for_update, updated, \"insert\" FROM t WHERE note = 'FOR UPDATE; DELETE'",
]
REFUSED = [
    ("", "no statement"),
    (" -- nothing\n;", "no statement"),
    ("INSERT INTO t VALUES (1)", "writes"),
    ("UPDATE t SET a = 1", "writes"),
    ("DELETE FROM t", "writes"),
    ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "writes"),
    ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "writes"),
    ("WITH d AS (INSERT INTO t SELECT 1 RETURNING a) SELECT * FROM d", "writes"),
    ("WITH d AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM d", "writes"),
    ("WITH d AS (SELECT 1) INSERT INTO t SELECT * FROM d", "writes"),
    ("SELECT 1 INTO t", "INTO"),
    ("SELECT a FROM t FOR UPDATE", "locks"),
    ("SELECT a FROM t FOR NO KEY UPDATE OF t SKIP LOCKED", "locks"),
    ("SELECT a FROM t FOR SHARE NOWAIT", "locks"),
    ("SELECT a FROM t FOR KEY SHARE", "locks"),
    ("SELECT * FROM (SELECT a FROM t FOR UPDATE) s", "locks"),
    ("SELECT a FROM t LIMIT 1 FOR UPDATE", "locks"),
    ("SELECT 1; SELECT 2", "more than one"),
    ("SELECT 1; DROP TABLE t", "more than one"),
    ("SET a = 1", "no query"),
    ("BEGIN", "no query"),
    ("COMMIT", "no query"),
    ("EXPLAIN ANALYZE SELECT 1", "no query"),
    ("COPY t TO STDOUT", "no query"),
    ("COPY (SELECT 1) TO STDOUT", "no query"),
    ("EXECUTE s(1)", "no query"),
    ("PREPARE s AS SELECT 1", "no query"),
    ("DECLARE c CURSOR FOR SELECT 1", "no query"),
    ("FETCH 1 FROM c", "no query"),
    ("CALL p()", "no query"),
    ("DO $$ BEGIN END $$", "no query"),
    ("CREATE TABLE t AS SELECT 1", "no query"),
    ("CREATE MATERIALIZED VIEW v AS SELECT 1", "no query"),
    ("REFRESH MATERIALIZED VIEW v", "no query"),
    ("LISTEN a", "no query"),
    ("SHOW work_mem", "no query"),
    ("TRUNCATE t", "no query"),
    ("VACUUM t", "no query"),
    ("LOCK t", "no query"),
    ("SELECT * FROM t TABLESAMPLE SYSTEM (1)", "TABLESAMPLE"),
    ("SELECT random()", "random"),
    ("SELECT pg_catalog.random()", "random"),
    ("SELECT Random( )", "random"),
    ("SELECT a FROM t WHERE b > random()", "random"),
    ("SELECT nextval('s')", "nextval"),
    ("SELECT setval('s', 1)", "setval"),
    ("SELECT clock_timestamp()", "clock_timestamp"),
    ("SELECT timeofday()", "timeofday"),
    ("SELECT gen_random_uuid()", "gen_random_uuid"),
    ("SELECT uuidv7()", "uuidv7"),
    ("SELECT pg_sleep(1)", "pg_sleep"),
    ("SELECT pg_advisory_xact_lock(1)", "pg_advisory_xact_lock"),
    ("SELECT pg_try_advisory_lock(1)", "pg_try_advisory_lock"),
    ("SELECT txid_current()", "txid_current"),
    ("SELECT lo_import('a')", "lo_import"),
    ("SELECT * FROM dblink('a', 'b') AS t(c int)", "dblink"),
    ("SELECT dblink_exec('a', 'b')", "dblink_exec"),
    ("SELECT set_config('a.b', 'c', true)", "set_config"),
    ("WITH a AS (SELECT 1) SELECT * FROM a WHERE EXISTS (SELECT nextval('s'))", "nextval"),
    ("SELECT FROM WHERE", "parsed"),
    ("SELECT )", "parsed"),
    ("SELECT (((", "parsed"),
    ("SELECT 'a", "no end"),
    ("SELECT " + "(" * 3000 + "1" + ")" * 3000, ""),
    ("SELECT " + "a + " * 30_000 + "a", "longer"),
]


class TestRefusal:
    @pytest.mark.parametrize("sql", TUNED)
    def test_what_only_reads_is_not_refused(self, sql):
        statement = read_statement(sql)
        assert (statement.refusal, statement.plan_dependence) == (None, None)

    @pytest.mark.parametrize(("sql", "word"), REFUSED)
    def test_what_does_more_is_refused(self, sql, word):
        refusal = read_statement(sql).refusal
        assert refusal is not None
        assert word in refusal

    def test_what_is_not_text(self):
        with pytest.raises(InvalidValue, match="expected text, got bytes"):
            read_statement(b"SELECT 1")

    def test_without_the_parser(self, monkeypatch):
        for name in ("query", "sameness", "search_problem", "search_shape", "sql_tree"):
            monkeypatch.delitem(sys.modules, f"sona.tuner.statements.{name}", raising=False)
        monkeypatch.setitem(sys.modules, "sqlglot", None)
        with pytest.raises(MissingExtra, match=r"pip install 'sona\[postgres\]'"):
            read_statement("SELECT 1 + a FROM t")
        assert read_statement("DELETE FROM t").refusal == "it writes"


class TestStatementReader:
    def test_reads_what_read_statement_reads(self):
        reader = StatementReader()
        for sql in (BASE, BASE, BASE.replace("'a'", "'b'"), "SELECT e <-> %s FROM t ORDER BY 1 LIMIT 5", "junk '"):
            assert reader.read(sql) == read_statement(sql)

    def test_a_known_text_is_the_statement_itself(self):
        reader = StatementReader(2)
        first = reader.read("SELECT 1")
        reader.read("SELECT 2")
        assert reader.read("SELECT 1") is first
        reader.read("SELECT 3")  # takes the place of SELECT 2, which was asked longer ago
        assert reader.read("SELECT 1") is first

    def test_the_one_asked_longest_ago_goes(self):
        reader = StatementReader(1)
        first = reader.read("SELECT 1")
        reader.read("SELECT 2")
        again = reader.read("SELECT 1")
        assert again == first
        assert again is not first

    def test_other_values_are_not_parsed_again(self, monkeypatch):
        reader = StatementReader()
        reader.read(BASE)
        monkeypatch.setattr("sona.tuner.statements.query.Tree", None)
        other = reader.read(BASE.replace("'a'", "'b'"))
        assert (other.literals[0], other.tables) == ("'b'", ("depends", "vname"))

    def test_threads_get_what_they_asked(self):
        reader = StatementReader(4)
        wrong = []

        def ask(start: int) -> None:
            for i in range(100):
                sql = f"SELECT a{(start + i) % 8} FROM t WHERE b = {i}"
                statement = reader.read(sql)
                if statement.sql != sql or statement.literals != (str(i),):
                    wrong.append(sql)

        threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_a_capacity_below_one(self):
        with pytest.raises(InvalidValue):
            StatementReader(0)
