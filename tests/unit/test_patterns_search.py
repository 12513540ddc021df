"""Search: exact by brute force, approximate with high recall, exact without the extra, safe on bad input."""

import sys

import numpy as np
import pytest

from sona.errors import DimensionMismatch, InvalidValue
from sona.patterns.search import VectorIndex, best_rows, normalised


def clustered(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(200, d))
    return (centres[rng.integers(200, size=n)] + 0.7 * rng.normal(size=(n, d))).astype(np.float32)


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    wide = vectors.astype(np.float64)
    cosines = wide @ query / np.linalg.norm(wide, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines)[:k]
    return order.tolist(), cosines[order]


class TestExact:
    def test_equals_brute_force(self):
        vectors = clustered(500, 16)
        index = VectorIndex(vectors)
        for query in clustered(20, 16, 1):
            found = index.search(query, 7)
            rows, cosines = brute_force(vectors, query, 7)
            assert found.rows.tolist() == rows
            assert found.similarities == pytest.approx(cosines, abs=1e-6)
        assert index.is_exact

    def test_length_does_not_matter(self):
        vectors = clustered(50, 8)
        scaled = vectors * np.linspace(1e-3, 1e3, 50, dtype=np.float32)[:, None]
        query = vectors[3]
        assert (
            VectorIndex(scaled).search(query * 1e20, 5).rows.tolist()
            == VectorIndex(vectors).search(query, 5).rows.tolist()
        )

    def test_fewer_vectors_than_asked(self):
        assert VectorIndex(np.eye(3)).search([1.0, 0.5, 0.0], 10).rows.tolist() == [0, 1, 2]
        assert VectorIndex(np.zeros((0, 3))).search([1.0, 0.0, 0.0], 4).rows.size == 0

    def test_equal_scores_come_in_order(self):
        assert best_rows(np.array([1.0, 2.0, 2.0, 2.0], np.float32), 4).tolist() == [1, 2, 3, 0]

    def test_mask(self):
        keep = np.array([False, True, True])
        assert VectorIndex(np.eye(3)).search([1.0, 0.5, 0.0], 3, keep=keep).rows.tolist() == [1, 2]

    def test_zero_vectors_are_similar_to_nothing(self):
        index = VectorIndex([[0.0, 0.0], [1.0, 0.0]])
        assert index.search([1.0, 0.0], 2).similarities.tolist() == [1.0, 0.0]
        assert index.search([0.0, 0.0], 2).similarities.tolist() == [0.0, 0.0]

    def test_huge_vectors_are_normalised(self):
        assert np.linalg.norm(normalised(np.full((2, 4), 3e38)), axis=1) == pytest.approx(1.0)

    def test_the_rows_cannot_be_changed(self):
        with pytest.raises(ValueError, match="read-only"):
            VectorIndex(np.eye(2)).unit[0, 0] = 5.0

    def test_bad_input(self):
        index = VectorIndex(np.eye(3))
        with pytest.raises(DimensionMismatch):
            index.search([1.0, 0.0], 1)
        with pytest.raises(DimensionMismatch):
            index.search([1.0, 0.0, 0.0], 1, keep=np.array([True]))
        for query, k in (([np.nan, 0.0, 0.0], 1), ([1.0, 0.0, 0.0], 0)):
            with pytest.raises(InvalidValue):
                index.search(query, k)
        with pytest.raises(InvalidValue):
            VectorIndex([[np.inf]])


class TestApproximate:
    def test_recall_at_10(self):
        pytest.importorskip("usearch")
        vectors = clustered(20_000, 64)
        index, exact = VectorIndex(vectors), VectorIndex(vectors, exact_limit=20_000)
        assert exact.is_exact
        assert not index.is_exact
        queries = vectors[:200] + 0.3 * np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)
        common = [
            len(set(index.search(query, 10).rows.tolist()) & set(exact.search(query, 10).rows.tolist()))
            for query in queries
        ]
        assert np.mean(common) / 10 > 0.95

    def test_similarities_are_exact_and_in_order(self):
        pytest.importorskip("usearch")
        vectors = clustered(2000, 32)
        found = VectorIndex(vectors, exact_limit=100).search(vectors[5], 10)
        assert found.rows[0] == 5
        assert found.similarities.tolist() == sorted(found.similarities.tolist(), reverse=True)
        assert found.similarities == pytest.approx(normalised(vectors)[found.rows] @ normalised(vectors)[5], abs=1e-6)

    def test_a_masked_search_is_exact(self):
        vectors = clustered(2000, 32)
        keep = np.zeros(2000, bool)
        keep[[7, 900, 1500]] = True
        assert set(VectorIndex(vectors, exact_limit=100).search(vectors[0], 3, keep=keep).rows.tolist()) == {
            7,
            900,
            1500,
        }

    def test_without_the_extra_the_search_stays_exact(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "usearch", None)
        monkeypatch.setitem(sys.modules, "usearch.index", None)
        vectors = clustered(300, 16)
        index = VectorIndex(vectors, exact_limit=10)
        assert index.is_exact
        assert index.search(vectors[4], 3).rows.tolist() == brute_force(vectors, vectors[4], 3)[0]

    def test_the_same_vectors_make_the_same_index(self):
        pytest.importorskip("usearch")
        vectors = clustered(3000, 16)
        first, second = VectorIndex(vectors, exact_limit=10), VectorIndex(vectors, exact_limit=10)
        for query in clustered(20, 16, 3):
            assert first.search(query, 5).rows.tolist() == second.search(query, 5).rows.tolist()
