"""The most similar memories of each."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from sona.errors import InvalidValue
from sona.memory.linking import nearest
from sona.memory.votes import unit

DATA = unit(np.random.default_rng(0).normal(size=(700, 12)).astype(np.float32))


@pytest.mark.parametrize("columns", [5, 64, 699, 700, 4096])
def test_it_finds_what_scikit_learn_finds(columns, monkeypatch):
    monkeypatch.setattr("sona.memory.linking._COLUMNS", columns)
    rows = np.array([0, 699, 63, 64, 65, 350])
    found = nearest(DATA, rows, 7, -1.0)
    model = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(DATA)
    distances, expected = model.kneighbors(DATA[rows])
    assert found.a_rows.tolist() == np.repeat(rows, 7).tolist()
    assert found.b_rows.reshape(-1, 7).tolist() == expected[:, 1:].tolist()
    assert found.cosines.reshape(-1, 7) == pytest.approx(1.0 - distances[:, 1:], abs=1e-6)


def test_what_is_less_similar_is_left_out():
    found = nearest(DATA, np.arange(700), 700, 0.6)
    cosines = DATA @ DATA.T
    np.fill_diagonal(cosines, -2.0)
    assert len(found.a_rows) == int((cosines >= 0.6).sum())
    assert found.cosines.min() >= 0.6


def test_of_equals_the_lesser_row_comes_first_and_no_row_is_its_own_neighbour():
    same = np.tile(np.array([[1.0, 0.0]], np.float32), (9000, 1))
    found = nearest(same, np.array([0, 8999]), 3, 0.5)
    assert found.b_rows.tolist() == [1, 2, 3, 0, 1, 2]
    assert found.cosines.tolist() == [1.0] * 6


def test_nothing_is_near_an_empty_lonely_or_zero_one():
    nothing = np.zeros((0, 3), np.float32)
    assert not len(nearest(nothing, np.zeros(0, np.int64), 2, 0.0).a_rows)
    assert not len(nearest(np.ones((1, 1), np.float32), np.array([0]), 2, 0.0).a_rows)
    assert not len(nearest(np.zeros((4, 2), np.float32), np.arange(4), 2, 0.1).a_rows)


@pytest.mark.parametrize(
    ("rows", "k", "least"), [([700], 2, 0.0), ([-1], 2, 0.0), ([0], 0, 0.0), ([0], 2, float("nan"))]
)
def test_bad_arguments_are_refused(rows, k, least):
    with pytest.raises(InvalidValue):
        nearest(DATA, np.array(rows), k, least)
