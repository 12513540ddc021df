"""Candidates: what may be ranked, checked once where it cannot change."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.core import SonaEngine
from sona.errors import DimensionMismatch, InvalidValue

IDS = ("a", "b")


def fixed(rows) -> np.ndarray:
    array = np.array(rows, np.float32)
    array.flags.writeable = False
    return array


def test_cosines_do_not_depend_on_the_length_of_vectors():
    items = Candidates.checked(["a", "b", "c"], [[3.0, 0.0], [0.0, 0.5], [0.0, 0.0]], 2)
    assert items.cosines(np.array([1.0, 0.0], np.float32)).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("ids", "vectors", "error"),
    [
        (["a"], [[1.0, 0.0, 0.0]], DimensionMismatch),
        (["a", "b"], [[1.0, 0.0]], InvalidValue),
        ([], np.zeros((0, 2)), InvalidValue),
        (["a", "a"], [[1.0, 0.0], [0.0, 1.0]], InvalidValue),
        ([1, 2], [[1.0, 0.0], [0.0, 1.0]], InvalidValue),
        ([["a"]], [[1.0, 0.0]], InvalidValue),
        (["a"], [1.0, 0.0], InvalidValue),
        (["a"], [[np.nan, 0.0]], InvalidValue),
        (["a"], [[np.inf, 0.0]], InvalidValue),
        (["a"], [[1e30, 0.0]], InvalidValue),
        (["a"], [["x", "y"]], InvalidValue),
        (["a"], None, InvalidValue),
    ],
)
def test_what_cannot_be_ranked_is_refused(ids, vectors, error):
    with pytest.raises(error):
        Candidates.checked(ids, vectors, 2)


def test_the_same_fixed_items_are_checked_once():
    vectors = fixed([[1.0, 0.0], [0.0, 1.0]])
    first = Candidates.checked(IDS, vectors, 2)
    assert Candidates.renewed(first, IDS, vectors, 2) is first
    with pytest.raises(DimensionMismatch):
        Candidates.renewed(first, IDS, vectors, 3)


@pytest.mark.parametrize("change", ["writable", "a view of something writable", "other ids", "a list of ids", "a copy"])
def test_items_that_may_have_changed_are_checked_again(change):
    vectors, ids = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), IDS
    if change == "a view of something writable":
        vectors = vectors[:]
        vectors.flags.writeable = False
    elif change == "a list of ids":
        ids = list(IDS)
    if change not in ("writable", "a view of something writable"):
        vectors.flags.writeable = False
    first = Candidates.checked(ids, vectors, 2)
    if change == "other ids":
        ids = ("c", "d")
    if change == "a copy":
        vectors = fixed(vectors)
    again = Candidates.renewed(first, ids, vectors, 2)
    assert again is not first
    assert again.row_of == {name: row for row, name in enumerate(ids)}


def test_an_engine_sees_vectors_that_changed_before_they_were_fixed():
    engine = SonaEngine(SonaConfig(hidden_dim=2))
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert engine.rank([1.0, 0.1], IDS, vectors).ids == ("a", "b")
    vectors[:] = [[0.0, 5.0], [5.0, 0.0]]
    vectors.flags.writeable = False
    for _ in range(2):
        ranking = engine.rank([1.0, 0.1], IDS, vectors)
        assert ranking.ids == ("b", "a")
        assert ranking.scores[0] == pytest.approx(1.0 / np.sqrt(1.01), rel=1e-6)
    broken = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    engine.rank([1.0, 0.1], IDS, broken)
    broken[0, 0] = np.nan
    broken.flags.writeable = False
    with pytest.raises(InvalidValue):
        engine.rank([1.0, 0.1], IDS, broken)
