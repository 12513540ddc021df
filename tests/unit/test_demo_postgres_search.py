"""What the demonstration counts as found: against a search of every row, ties on either side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from sona.demo.postgres_search import FILTERED, LIMIT, UNFILTERED, Exact, Lines, Search, SearchRun
from sona.tuner.statements.statement import read_statement


class Server:
    """Answers searches from memory, with a share of what is right."""

    def __init__(self, lines, share=1.0):
        self.lines, self.share, self.asked = lines, share, []

    def execute(self, sql, params):
        self.asked.append((sql.decode(), params))
        query = np.array([float(value) for value in params[-1].strip("[]").split(",")])
        rows = [n for n, module in enumerate(self.lines.modules) if len(params) == 1 or module == params[0]]
        near = sorted(rows, key=lambda row: -float(self.lines.vectors[row] @ query))[:LIMIT]
        self.rows = [(row,) for row in near[: round(self.share * len(near))]]
        return self

    def fetchall(self):
        return self.rows


@pytest.fixture
def lines():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    modules = tuple("abcd"[n % 4] for n in range(400))
    return Lines(tuple(map(str, range(400))), modules, vectors, vectors[:50], modules[:50])


@given(seed=st.integers(0, 1000), n=st.integers(1, 60))
def test_what_is_right_is_what_a_search_of_every_row_finds(seed, n):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    count = min(LIMIT, n)
    near = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(vectors)
    expected = near.kneighbors(vectors[:1], return_distance=False)[0] + 100
    exact = Exact.of(np.arange(n) + 100, vectors @ vectors[0])
    assert set(expected.tolist()) <= exact.near
    assert exact.recall(expected.tolist()) == 1.0
    assert exact.recall(expected.tolist()[: count // 2]) == pytest.approx((count // 2) / count)


def test_rows_that_are_equally_near_count_alike():
    similarities = np.array([1.0] * 3 + [0.5] * 20, np.float32)
    exact = Exact.of(np.arange(23), similarities)
    assert exact.recall([0, 1, 2, *range(10, 17)]) == 1.0
    assert exact.recall([*range(10, 20)]) == 1.0  # ten of those that are near enough
    assert exact.recall([0, 1]) == 0.2


def test_nothing_to_find_is_found():
    assert Exact.of(np.arange(0), np.zeros(0, np.float32)).recall([]) == 1.0


def test_searches_are_what_the_tuner_takes_for_searches():
    for sql, filters in ((FILTERED, 1), (UNFILTERED, 0)):
        search = read_statement(sql).search
        assert (search.limit, len(search.filters), search.problem) == (LIMIT, filters, None)


def test_parameters_are_those_of_the_statement():
    query = np.array([0.5, -1.0], np.float32)
    assert Search(query, None).params == ["[0.5,-1]"]
    assert Search(query, "json").params == ["json", "[0.5,-1]"]


def test_recall_and_time_are_counted_on_the_right_side(lines):
    tuned, server = Server(lines), Server(lines, share=0.5)
    run = SearchRun(lines, tuned, server)
    one = run.run_pass(20)
    assert (one.count, one.tuned_recall, one.server_recall) == (20, 1.0, 0.5)
    assert one.tuned_s > 0.0
    assert tuned.asked == server.asked
    assert sum(len(params) == 1 for _, params in tuned.asked) == 5
    assert run.run_pass(20) != one
    assert len(run.found) == 2
    assert tuned.asked[:20] != tuned.asked[20:]
