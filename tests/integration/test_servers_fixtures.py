"""The servers that other tests stand on are what they say."""

from __future__ import annotations

import psycopg

SEEN: list[str] = []


def test_a_test_has_a_database_of_its_own(database_dsn):
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        SEEN.append(connection.info.dbname)


def test_it_is_dropped_after_the_test(server_dsn):
    with psycopg.connect(server_dsn) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", [SEEN]).fetchall()
    assert not left


def test_the_pooler_gives_a_connection_for_a_transaction_alone(pooler_dsn, database_dsn):
    backend = "SELECT pg_backend_pid()"
    with (
        psycopg.connect(pooler_dsn, prepare_threshold=None) as first,
        psycopg.connect(pooler_dsn, autocommit=True, prepare_threshold=None) as second,
        psycopg.connect(database_dsn, autocommit=True) as direct,
    ):
        held = first.execute(backend).fetchone()
        assert second.execute(backend).fetchone() != held  # the first is inside its transaction
        first.execute("SET LOCAL work_mem = '7MB'")
        assert first.execute("SHOW work_mem").fetchone() == ("7MB",)
        first.commit()
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert direct.execute(count).fetchone() == (2,)
        reached = {second.execute(backend).fetchone() for _ in range(8)}
        assert second.execute("SHOW work_mem").fetchone() == ("4MB",)
        assert held in reached  # which the second now gets
