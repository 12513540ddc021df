"""Near-duplicates: every pair once, whatever the blocks, and which of them is kept."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from sona.errors import InvalidValue
from sona.memory import duplicates as module
from sona.memory.duplicates import Pairs, absorbed, duplicates


def crowd(seed: int, count: int = 150, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, width))
    vectors = centres[rng.integers(0, 12, count)] + 0.15 * rng.normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def listed(pairs: Pairs) -> list[tuple[int, int]]:
    return list(zip(pairs.a_rows.tolist(), pairs.b_rows.tolist(), strict=True))


def pairs_of(*pairs: tuple[int, int]) -> Pairs:
    a_rows, b_rows = np.array(pairs, np.int64).reshape(-1, 2).T
    return Pairs(a_rows, b_rows, np.linspace(0.99, 1.0, len(pairs)))


@pytest.mark.parametrize("columns", [7, 4096])
@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_are_those_of_all_cosines(monkeypatch, seed, columns):
    monkeypatch.setattr(module, "_COLUMNS", columns)
    vectors = crowd(seed)
    cosines = cosine_similarity(vectors.astype(np.float64))
    expected = np.argwhere(np.triu(cosines >= 0.97, 1)).tolist()
    found = duplicates(vectors, np.arange(150), 0.97, most=150)
    assert listed(found) == [tuple(pair) for pair in expected]
    assert len(expected) > 100
    np.testing.assert_allclose(found.similarities, [cosines[a, b] for a, b in expected], atol=1e-12)


def test_blocks_of_any_size_find_the_same_to_the_bit():
    vectors = crowd(3)
    whole = duplicates(vectors, np.arange(150), 0.95)
    for size in (1, 32, 149):
        parts = [duplicates(vectors, np.arange(a, min(a + size, 150)), 0.95) for a in range(0, 150, size)]
        joined = Pairs.joined(parts)
        assert listed(joined) == listed(whole)
        assert joined.similarities.tobytes() == whole.similarities.tobytes()


def test_a_row_has_its_first_partners_alone_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(module, "_COLUMNS", 5)
    same = np.tile(np.array([[0.6, 0.8]], np.float32), (20, 1))
    found = duplicates(same, np.arange(20), 1.0, most=3)
    assert listed(found) == [(a, b) for a in range(20) for b in range(a + 1, min(a + 4, 20))]
    assert set(found.similarities.tolist()) == {1.0}


def test_a_memory_without_direction_is_like_none():
    vectors = np.zeros((4, 3), np.float32)
    assert listed(duplicates(vectors, np.arange(4), 0.01)) == []


def test_no_rows_no_vectors_or_the_last_row_have_no_pairs():
    assert listed(duplicates(np.zeros((0, 3), np.float32), [], 0.9)) == []
    vectors = np.ones((2, 1), np.float32)
    assert listed(duplicates(vectors, [], 0.9)) == []
    assert listed(duplicates(vectors, [1], 0.9)) == []
    assert listed(Pairs.joined([])) == []


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(InvalidValue):
        duplicates(np.ones((2, 1), np.float32), [0], threshold)


@pytest.mark.parametrize(("rows", "most"), [([2], 1), ([-1], 1), ([0], 0)])
def test_rows_that_are_none_are_refused(rows, most):
    with pytest.raises(InvalidValue):
        duplicates(np.ones((2, 1), np.float32), rows, 0.9, most=most)


def nobody(count: int) -> np.ndarray:
    return np.zeros(count, np.bool_)


def test_the_most_valuable_takes_in_its_partners_and_no_chain_is_followed():
    values = np.array([0.1, 0.9, 0.5, 0.4])
    found = absorbed(pairs_of((0, 1), (0, 2), (2, 3)), values, nobody(4))
    # 1 takes in 0. 2 is not paired with 1, so it stays and takes in 3.
    assert found.gone.tolist() == [0, 3]
    assert found.kept.tolist() == [1, 2]
    assert found.similarities.tolist() == [0.99, 1.0]


def test_of_equal_ones_the_first_row_is_kept():
    found = absorbed(pairs_of((0, 1), (0, 2), (1, 2)), np.full(3, 0.5), nobody(3))
    assert (found.kept.tolist(), found.gone.tolist()) == ([0, 0], [1, 2])


def test_what_is_protected_stays_but_may_take_in():
    values = np.array([0.9, 0.5, 0.1])
    protected = np.array([False, True, False])
    found = absorbed(pairs_of((0, 1), (1, 2)), values, protected)
    assert (found.kept.tolist(), found.gone.tolist()) == ([1], [2])
    assert len(absorbed(pairs_of((0, 1), (1, 2)), values, np.ones(3, np.bool_)).gone) == 0


def test_no_pairs_change_nothing_and_pairs_of_another_memory_are_refused():
    assert len(absorbed(pairs_of(), np.ones(2), nobody(2)).gone) == 0
    with pytest.raises(InvalidValue):
        absorbed(pairs_of((0, 5)), np.ones(2), nobody(2))
    with pytest.raises(InvalidValue):
        absorbed(pairs_of((0, 1)), np.ones(2), nobody(3))
