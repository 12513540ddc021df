"""The databases of the benches hold what they say, and the truth that answers are held to is the truth."""

from __future__ import annotations

import csv
import lzma
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sklearn.neighbors import NearestNeighbors

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SONA_DATA", ROOT.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "debian").is_dir(), reason="no data folder: set SONA_DATA")


BARE = r"""
SELECT table_name, column_name FROM information_schema.columns c
WHERE table_schema = 'public' AND (column_name LIKE '%\_id' OR column_name IN ('id', 'name'))
AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = table_name::regclass AND indkey[0] = c.ordinal_position)
ORDER BY 1, 2
"""
UNVISITED = "SELECT relname FROM pg_stat_user_tables WHERE last_vacuum IS NULL OR last_analyze IS NULL"


@pytest.fixture(scope="module")
def servers():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")
        import servers

        yield servers
    del sys.modules["servers"]


@pytest.fixture
def connection(database_dsn):
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        yield connection


def rows_of(table: str) -> list[list[str]]:
    with lzma.open(DATA / "debian" / f"{table}.csv.xz", "rt", encoding="utf-8", newline="") as text:
        return list(csv.reader(text))


# -- the package graph ---------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.slow
def test_the_package_graph_answers_as_its_files_do(servers, connection, monkeypatch):
    few = servers.descriptions(DATA).of(np.arange(0, 63_666, 100))
    monkeypatch.setattr(servers, "descriptions", lambda _: few)
    servers.debian_database(connection, DATA, with_vectors=True)
    assert connection.execute("SELECT count(*) FROM doc").fetchone() == (len(few.ids),)
    for table in ("depends", "package", "provides", "pkg_tag", "vname"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(rows_of(table)),)
    asked = servers.queries(DATA)
    assert len({name for name, _ in asked}) == len(asked) == 112
    for _, statement in asked:
        connection.execute(f"EXPLAIN {statement}")
    assert connection.execute(BARE).fetchall() == [("package", "name"), ("source", "name")]  # keys and usual ones have
    assert connection.execute(UNVISITED).fetchall() == []
    # The first template, joined by hand: packages of section y that name x.
    (section,) = [key for key, name in rows_of("section") if name == "net"]
    (called,) = [key for key, name, _ in rows_of("vname") if name == "libc6"]
    inside = {row[0] for row in rows_of("package") if row[2] == section}
    expected = sum(row[2] == called and row[1] in inside for row in rows_of("depends"))
    statement = asked[0][1].partition(" WHERE ")[0] + " WHERE v.name='libc6' AND s.name='net'"
    assert connection.execute(statement).fetchone() == (expected,)
    assert expected > 100


@needs_data
@pytest.mark.slow
def test_held_out_descriptions_ask_in_their_own_section_or_in_another(servers):
    found = servers.descriptions(DATA)
    assert len(found.ids) == 63_666
    few = found.of(np.arange(0, 63_666, 40))
    table, queries = servers.embed_descriptions(few, held_out=200)
    assert len(table.groups) == len(few.ids) - 200
    assert Counter(table.groups) <= Counter(few.sections)
    np.testing.assert_allclose(np.linalg.norm(queries.vectors, axis=1), 1.0, rtol=1e-5)
    assert 0.45 < queries.fits.mean() < 0.7
    assert set(queries.groups) <= set(table.groups) | set(few.sections)


# -- vectors of tenants --------------------------------------------------------------------------------------------


def test_sizes_of_tenants_run_from_the_least_to_the_most(servers):
    sizes = servers.Tenants().sizes
    assert (len(sizes), sizes[0], sizes[-1], sizes.sum()) == (372, 100_000, 30, 300_151)
    assert (np.diff(sizes) <= 0).all()


@pytest.fixture(scope="module")
def tenants(servers):
    return servers.QUICK_TENANTS


@pytest.fixture(scope="module")
def table(tenants):
    return tenants.table()


def test_the_table_has_as_many_rows_of_each_tenant(tenants, table):
    assert np.bincount(table.groups).tolist() == tenants.sizes.tolist()
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1.0, rtol=1e-5)
    halves = np.array(table.groups).reshape(2, -1)
    assert abs((halves[0] == 0).mean() - (halves[1] == 0).mean()) < 0.05  # the order says nothing


def test_queries_are_new_and_fit_their_tenant_where_they_say_so(servers, tenants, table):
    queries = tenants.queries(200)
    best = servers.nearest(table, queries, 1)[:, 0]
    cosines = np.einsum("ij,ij->i", table.vectors[best], queries.vectors)
    assert cosines.max() < 0.999
    assert cosines[queries.fits].mean() > cosines[~queries.fits].mean() + 0.2
    asked = tenants.sizes[list(queries.groups)]
    assert (asked < 140).mean() == pytest.approx(0.5, abs=0.1)  # half below the middle of the orders of size


def test_the_same_seed_draws_the_same_and_another_does_not(tenants, table):
    np.testing.assert_array_equal(tenants.table().vectors, table.vectors)
    np.testing.assert_array_equal(tenants.queries(9).vectors, tenants.queries(9).vectors)
    assert not np.isin(tenants.queries(9, seed=1).vectors, tenants.queries(9).vectors).any()
    assert not np.array_equal(replace(tenants, seed=1).table().vectors, table.vectors)


def test_the_truth_is_what_another_exact_search_finds(servers, tenants, table):
    queries = tenants.queries(40)
    groups = np.array(table.groups)
    for truth, group, vector in zip(servers.nearest(table, queries), queries.groups, queries.vectors, strict=True):
        rows = np.flatnonzero(groups == group)
        search = NearestNeighbors(n_neighbors=min(10, len(rows)), metric="cosine", algorithm="brute")
        found = search.fit(table.vectors[rows]).kneighbors(vector[None], return_distance=False)[0]
        assert truth[truth >= 0].tolist() == rows[found].tolist()
    unfiltered = servers.nearest(table, queries, is_filtered=False)
    search = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(table.vectors)
    np.testing.assert_array_equal(unfiltered, search.kneighbors(queries.vectors, return_distance=False))


def test_recall_counts_what_is_as_near(servers):
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    data = servers.Filtered(vectors, (0, 0, 0, 1), np.ones(4, bool))
    queries = servers.Filtered(vectors[:1], (0,), np.ones(1, bool))
    truth = servers.nearest(data, queries, 1)
    for found, share in (([0], 1.0), ([1], 1.0), ([2], 0.0), ([-1], 0.0)):
        assert servers.recall(data, queries, np.array([found]), truth) == [share]
    assert servers.nearest(data, replace(queries, groups=(1,)), 2).tolist() == [[3, -1]]


@pytest.mark.slow
def test_the_server_searches_these_rows_by_its_index_and_exactly_without(servers, tenants, table, connection):
    loaded = servers.vector_database(connection, table, table="item", group="tenant")
    assert loaded.rows == len(table.groups)
    assert servers.has_table(connection, "item")
    assert not servers.has_table(connection, "other")
    queries = tenants.queries(30)
    statement = "SELECT id FROM item ORDER BY embedding <=> %s LIMIT 10"
    plan = connection.execute(f"EXPLAIN {statement}", [queries.vectors[0]]).fetchall()
    assert "item_embedding_idx" in str(plan)
    connection.execute("SET enable_indexscan = off")
    filtered = "SELECT id FROM item WHERE tenant = %s ORDER BY embedding <=> %s LIMIT 10"
    found = np.full((30, 10), -1)
    for place, asked in enumerate(zip(queries.groups, queries.vectors, strict=True)):
        ids = [key for (key,) in connection.execute(filtered, asked).fetchall()]
        found[place, : len(ids)] = ids
    truth = servers.nearest(table, queries)
    np.testing.assert_array_equal(found >= 0, truth >= 0)
    assert servers.recall(table, queries, found, truth).min() == 1.0
    assert connection.execute("SHOW maintenance_work_mem").fetchone() == ("64MB",)
