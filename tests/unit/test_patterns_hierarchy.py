"""The hierarchy of patterns: average linkage against scipy, cuts, names, and coming back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import pdist

from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.patterns.hierarchy import Group, Hierarchy, arrange, average_linkage
from sona.state import State, digest
from sona.types import LearnedPattern


def pattern(number: int, centroid: np.ndarray, size: int = 5, quality: float = 0.5) -> LearnedPattern:
    return LearnedPattern(number, centroid, size, float(size), quality)


def clustered(seed: int, groups: int = 4, each: int = 5, width: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(groups, width)), each, axis=0)
    return (centres + 0.2 * rng.normal(size=centres.shape)).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 17, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_joins_are_those_of_scipy(count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    ours = average_linkage(vectors)
    theirs = scipy_hierarchy.linkage(pdist(vectors.astype(np.float64), "cosine"), "average")
    np.testing.assert_allclose(ours.distances, theirs[:, 2], atol=1e-6)
    assert np.column_stack([ours.a, ours.b]).tolist() == theirs[:, :2].astype(int).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_ties_still_give_a_tree_of_rising_distances(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(60, 3)).astype(np.float32)  # equal and zero vectors among them
    joins = average_linkage(vectors)
    assert (np.diff(joins.distances) >= 0.0).all()
    parts = np.concatenate([joins.a, joins.b])
    assert sorted(parts.tolist()) == list(range(2 * 60 - 2))  # every group but the last is joined once
    assert (joins.a < joins.b).all()
    assert (joins.b < 60 + np.arange(59)).all()


def test_each_level_has_a_quarter_of_the_groups_and_lies_in_the_next():
    known = [pattern(10 + row, vector) for row, vector in enumerate(clustered(3, groups=16, each=4))]
    levels = arrange(known).levels
    assert [len(level.groups) for level in levels] == [16, 4, 1]
    for level in levels:
        assert sorted(one for group in level.groups for one in group.members) == list(range(10, 74))
    for fine, coarse in pairwise(levels):
        for group in fine.groups:
            assert set(group.members) <= set(coarse.group_of(group.members[0]).members)
    assert [group.members for group in levels[0].groups] == [tuple(range(a, a + 4)) for a in range(10, 74, 4)]


def test_a_group_is_named_by_its_medoid_and_weighs_quality_by_requests():
    vectors = np.array([[1.0, 0.0], [0.9, 0.3], [0.7, 0.6]], np.float32)
    known = [pattern(4, vectors[0], 1, 0.0), pattern(2, vectors[1], 2, 0.5), pattern(9, vectors[2], 7, 1.0)]
    group = arrange(known).levels[-1].groups[0]
    assert group == Group(medoid=2, members=(2, 4, 9), size=10, quality=0.8)
    assert arrange(known).levels[-1].group_of(5) is None


def test_the_order_of_patterns_does_not_matter():
    known = [pattern(row, vector) for row, vector in enumerate(clustered(5))]
    assert arrange(known[::-1]) == arrange(known)


def test_of_too_many_the_heaviest_are_arranged():
    known = [pattern(row, vector, size=1 + row % 4) for row, vector in enumerate(clustered(6))]
    held = [one for group in arrange(known, largest=5).levels[0].groups for one in group.members]
    assert sorted(held) == [3, 7, 11, 15, 19]


def test_fewer_than_two_patterns_have_no_levels():
    assert arrange([]) == arrange([pattern(0, np.ones(3))]) == Hierarchy()
    two = arrange([pattern(0, np.ones(3)), pattern(1, -np.ones(3))])
    assert [group.members for group in two.levels[0].groups] == [(0, 1)]


def test_bad_patterns_are_refused():
    with pytest.raises(InvalidValue):
        arrange([pattern(1, np.ones(3)), pattern(1, np.ones(3))])
    with pytest.raises(DimensionMismatch):
        arrange([pattern(1, np.ones(3)), pattern(2, np.ones(4))])
    with pytest.raises(InvalidValue):
        arrange([], largest=1)
    with pytest.raises(InvalidValue):
        average_linkage([[1.0, np.nan]])
    for members in ((2, 3), (3, 1), (1, 1)):
        with pytest.raises(InvalidValue):
            Group(medoid=1, members=members, size=1, quality=0.5)


def test_a_hierarchy_comes_back_bit_for_bit():
    for known in ([], [pattern(3 * row, vector, row + 1, row / 20) for row, vector in enumerate(clustered(7))]):
        made = arrange(known)
        again = Hierarchy.from_state(made.state())
        assert again == made
        assert digest(again.state()) == digest(made.state())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("level_sizes", np.array([2], np.int64)),
        ("level_sizes", np.array([3, 0], np.int64)),
        ("level_sizes", np.array([1, 2], np.int64)),
        ("group_sizes", np.array([2, 3, 4], np.int64)),
        ("group_sizes", np.array([2, -1, 4], np.int64)),
        ("members", np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 3], np.int64)),
        ("members", np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 5], np.int64)),
        ("members", np.array([0, 1, 1, 3, 4, 0, 1, 2, 3, 4], np.int64)),
        ("medoids", np.array([3, 3, 4], np.int64)),
        ("sizes", np.array([0, 1, 1], np.int64)),
        ("qualities", np.array([0.5, 2.0, 0.5])),
        ("qualities", np.array([0.5, np.nan, 0.5])),
    ],
)
def test_a_damaged_state_is_refused(part, value):
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.4, 0.6]], np.float32)
    state = arrange([pattern(row, vector) for row, vector in enumerate(vectors)]).state()
    assert state.wholes("group_sizes", None).tolist() == [2, 3, 5]
    with pytest.raises(StoreError):
        Hierarchy.from_state(State({**dict(state.items()), part: value}))
