"""What is said of vector searches, held against the plans and the answers of a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sona.tuner.statements.statement import read_statement

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'sona[postgres]'")

TABLES = """
CREATE EXTENSION vector;
CREATE TABLE cat (id int PRIMARY KEY, name text);
CREATE TABLE item (id int PRIMARY KEY, cat int, e vector(3), h vector(3));
INSERT INTO cat SELECT i, 'c' || i FROM generate_series(0, 9) i;
SELECT setseed(0.5);
INSERT INTO item SELECT i, i % 10, ARRAY[random(), random(), random()]::vector,
    ARRAY[random(), random(), random()]::vector FROM generate_series(1, 5000) i;
CREATE INDEX near ON item USING hnsw (e vector_l2_ops);
CREATE INDEX half ON item USING hnsw ((h::halfvec(3)) halfvec_l2_ops);
CREATE INDEX bits ON item USING hnsw ((binary_quantize(h)::bit(3)) bit_hamming_ops);
VACUUM ANALYZE cat, item
"""
Q = "'[0.1,0.2,0.3]'"
SERVED = [
    f"SELECT id FROM item ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT id FROM item ORDER BY {Q} <-> e LIMIT 5",
    f"SELECT id, e <-> {Q} AS d FROM item ORDER BY d LIMIT 5",
    f"SELECT id, (e <-> {Q}) d FROM item ORDER BY 2 LIMIT 5",
    f"SELECT id FROM item ORDER BY (e <-> {Q}::vector(3)) ASC NULLS LAST FETCH FIRST 5 ROWS ONLY",
    f"SELECT id FROM item i WHERE i.cat = 3 ORDER BY i.e <-> {Q} LIMIT 5",
    f"SELECT id FROM item WHERE e <-> {Q} < 0.3 ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT id FROM item ORDER BY e <-> {Q}, id LIMIT 5",
    f"SELECT id FROM item ORDER BY e <-> {Q} LIMIT 5 OFFSET 10",
    f"SELECT DISTINCT id, e <-> {Q} FROM item ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT id, rank() OVER (ORDER BY e <-> {Q}) FROM item ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT id, rank() OVER w FROM item WINDOW w AS (ORDER BY e <-> {Q}) ORDER BY e <-> {Q} LIMIT 5",
    "SELECT id FROM item ORDER BY e <-> (SELECT e FROM item WHERE id = 7) LIMIT 5",
    "WITH q AS (SELECT e FROM item WHERE id = 7) SELECT id FROM item ORDER BY e <-> (SELECT e FROM q) LIMIT 5",
    f"WITH q AS (SELECT {Q}::vector AS e) SELECT item.id FROM item, q ORDER BY item.e <-> q.e LIMIT 5",
    "SELECT b.id, n.id FROM cat b CROSS JOIN LATERAL "
    "(SELECT a.id FROM item a ORDER BY a.e <-> ARRAY[b.id, 0, 0]::vector LIMIT 5) n",
    f"SELECT n.id, c.name FROM (SELECT id, cat FROM item ORDER BY e <-> {Q} LIMIT 5) n JOIN cat c ON c.id = n.cat",
    f"SELECT i.id, c.name FROM item i JOIN cat c ON c.id = i.cat ORDER BY i.e <-> {Q} LIMIT 5",
    f"SELECT i.id FROM cat c LEFT JOIN item i ON c.id = i.cat WHERE i.id > 5 ORDER BY i.e <-> {Q} LIMIT 5",
    f"(SELECT id FROM item ORDER BY e <-> {Q} LIMIT 5) UNION ALL (SELECT id FROM cat)",
    f"WITH n AS (SELECT id, e <-> {Q} AS d FROM item ORDER BY 2 LIMIT 9) SELECT * FROM n WHERE d < 5",
    f"SELECT * FROM (SELECT id, e <-> {Q} AS d FROM item) s ORDER BY d LIMIT 5",
    f"WITH s AS (SELECT id, e <-> {Q} AS d FROM item) SELECT * FROM s WHERE d < 0.3 ORDER BY d LIMIT 5",
    f"SELECT * FROM (SELECT * FROM item WHERE cat = 3) s ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT id FROM item ORDER BY h::halfvec(3) <-> {Q}::halfvec(3) LIMIT 5",
    f"SELECT id FROM item ORDER BY binary_quantize(h)::bit(3) <~> binary_quantize({Q}::vector) LIMIT 5",
    f"SELECT id FROM item ORDER BY e OPERATOR(public.<->) {Q} LIMIT 5",
]
NOT_SERVED = [
    f"SELECT id FROM item ORDER BY e <-> {Q} DESC LIMIT 5",
    f"SELECT id FROM item ORDER BY e <-> {Q} ASC NULLS FIRST LIMIT 5",
    f"SELECT id FROM item ORDER BY 1 - (e <-> {Q}) DESC LIMIT 5",
    f"SELECT id FROM item ORDER BY -(e <-> {Q}) DESC LIMIT 5",
    f"SELECT id FROM item ORDER BY round((e <-> {Q})::numeric, 2) LIMIT 5",
    f"SELECT id FROM item ORDER BY cat, e <-> {Q} LIMIT 5",
    f"SELECT id FROM item WHERE e <-> {Q} < 0.3",
    f"SELECT cat FROM item GROUP BY cat, e ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT cat, min(e <-> {Q}) FROM item GROUP BY cat ORDER BY 2 LIMIT 5",
    f"SELECT id, row_number() OVER (PARTITION BY cat ORDER BY e <-> {Q}) FROM item ORDER BY e <-> {Q} LIMIT 5",
    "SELECT a.id FROM item a, item b WHERE b.id = 7 ORDER BY a.e <-> b.e LIMIT 5",
    "WITH q AS (SELECT e FROM item WHERE id = 7) SELECT item.id FROM item, q ORDER BY item.e <-> q.e LIMIT 5",
    f"SELECT i.id FROM item i RIGHT JOIN cat c ON c.id = i.cat ORDER BY i.e <-> {Q} LIMIT 5",
    f"SELECT i.id FROM cat c LEFT JOIN item i ON c.id = i.cat ORDER BY i.e <-> {Q} LIMIT 5",
    f"SELECT i.id FROM item i FULL JOIN cat c ON c.id = i.cat ORDER BY i.e <-> {Q} LIMIT 5",
    f"SELECT id FROM (SELECT id, e FROM item LIMIT 100) s ORDER BY e <-> {Q} LIMIT 5",
    f"SELECT * FROM (SELECT id, e <-> {Q} AS d FROM item LIMIT 1000) s ORDER BY d LIMIT 5",
]
CUT_SHORT = [
    f"SELECT id FROM item ORDER BY e <-> {Q}",
    f"SELECT id, rank() OVER (ORDER BY e <-> {Q}) FROM item",
    f"SELECT DISTINCT ON (e <-> {Q}) id FROM item",
    f"SELECT e <-> {Q}, count(*) FROM item GROUP BY 1",
    f"SELECT unnest(array_agg(id ORDER BY e <-> {Q}, id)) FROM item",
]


@pytest.fixture(scope="module")
def connection(server_dsn):
    """A connection to tables whose indexes the planner has to use wherever it can."""
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS sona_test_statement")
        admin.execute("CREATE DATABASE sona_test_statement")
        try:
            dsn = psycopg.conninfo.make_conninfo(server_dsn, dbname="sona_test_statement")
            with psycopg.connect(dsn, autocommit=True) as made:
                for statement in TABLES.split(";"):
                    made.execute(statement)
                for method in ("seqscan", "bitmapscan", "sort", "hashagg", "hashjoin", "mergejoin"):
                    made.execute(f"SET enable_{method} = off")
                yield made
        finally:
            admin.execute("DROP DATABASE sona_test_statement WITH (FORCE)")


@contextmanager
def exactly(connection) -> Iterator[None]:
    """The planner may use no index on a distance."""
    with connection.transaction():
        for setting in ("enable_indexscan = off", "enable_seqscan = on", "enable_sort = on", "enable_hashagg = on"):
            connection.execute(f"SET LOCAL {setting}")
        yield


def is_served(connection, sql: str) -> bool:
    """Whether the server reads rows in the order of an index on a distance."""
    waiting = [connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()[0][0]["Plan"]]
    while waiting:
        node = waiting.pop()
        if node.get("Index Name") in ("near", "half", "bits") and "Order By" in node:
            return True
        waiting += node.get("Plans", [])
    return False


@pytest.mark.parametrize("sql", SERVED)
def test_an_index_serves_what_has_no_problem(connection, sql):
    assert is_served(connection, sql)
    assert read_statement(sql).search.problem is None


@pytest.mark.parametrize("sql", NOT_SERVED)
def test_no_index_serves_what_has_a_problem(connection, sql):
    assert not is_served(connection, sql)
    assert read_statement(sql).search.problem is not None


@pytest.mark.parametrize("sql", CUT_SHORT)
def test_an_index_on_a_distance_can_lose_rows_of_what_is_called_open(connection, sql):
    assert len(connection.execute(sql).fetchall()) < 5000
    with exactly(connection):
        assert len(connection.execute(sql).fetchall()) == 5000
    assert read_statement(sql).is_plan_dependent


@pytest.mark.parametrize("sql", [sql for sql in SERVED if "LATERAL" not in sql and "DISTINCT" not in sql])
def test_distances_are_those_of_the_rows_found(connection, sql):
    rewritten = read_statement(sql).search.distances_sql()
    assert is_served(connection, rewritten.sql)
    with exactly(connection):
        distances = [row[0] for row in connection.execute(rewritten.sql).fetchall()]
        rows = connection.execute(sql).fetchall()
        assert not is_served(connection, rewritten.sql)
    assert distances == sorted(distances)
    assert 0 < len(distances) <= 10
    if sql.startswith("SELECT id"):
        assert len(rows) == len(distances)
    if "AS d FROM item" in sql and "WITH n" not in sql:
        assert [row[-1] for row in rows] == distances


def test_parameters_of_the_rewritten_statement(connection):
    sql = "SELECT id, 1 - (e <-> %s::vector) FROM item WHERE cat = %s ORDER BY e <-> %s::vector LIMIT %s"
    values = ["[1,1,1]", 3, "[0.1,0.2,0.3]", 4]
    rewritten = read_statement(sql).search.distances_sql()
    with exactly(connection):
        found = connection.execute(rewritten.sql, rewritten.bind(values)).fetchall()
        direct = connection.execute(f"SELECT e <-> {Q} FROM item WHERE cat = 3 ORDER BY 1 LIMIT 4").fetchall()
    assert found == direct
    assert len(found) == 4
