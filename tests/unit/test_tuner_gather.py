"""Plans that are alike are gathered, whoever comes first."""

import numpy as np

from sona.tuner.dag.gather import clusters, nearest_known

RNG = np.random.default_rng(0)
CENTRES = np.linalg.qr(RNG.normal(size=(8, 8)))[0].astype(np.float32)[:3]


def near(centre, count):
    noise = RNG.normal(scale=0.02, size=(count, 8)).astype(np.float32)
    return 3.0 * (CENTRES[centre] + noise)  # lengths do not matter


def test_every_row_is_in_one_cluster_and_clusters_are_those_of_the_directions():
    points = np.concatenate([near(0, 5), near(1, 4), near(2, 6)])
    found = clusters(points, 0.9, np.random.default_rng(0))
    assert sorted(found) == [tuple(range(5)), tuple(range(5, 9)), tuple(range(9, 15))]


def test_one_plan_executed_many_times_is_one_point_and_outweighs_nobody():
    points = np.concatenate([np.repeat(near(0, 1), 500, axis=0), near(1, 1), near(2, 1)])
    found = clusters(points, 0.9, np.random.default_rng(0))
    assert sorted(map(len, found)) == [1, 1, 500]


def test_beyond_what_k_means_can_do_they_are_gathered_all_the_same(monkeypatch):
    points = np.concatenate([near(0, 5), near(1, 4), near(2, 6)])
    monkeypatch.setattr("sona.tuner.dag.gather._MOST", 2)
    monkeypatch.setattr("sona.tuner.dag.gather.kmeans", None)
    found = clusters(points, 0.9, np.random.default_rng(0))
    assert sorted(found) == [tuple(range(5)), tuple(range(5, 9)), tuple(range(9, 15))]
    assert clusters(points[:0], 0.9, np.random.default_rng(0)) == ()


def test_a_plan_belongs_to_the_nearest_pattern_when_that_is_near_enough():
    asked = np.concatenate([near(1, 1), near(0, 1), [[0.0] * 7 + [1e-9]]]).astype(np.float32)
    assert nearest_known(asked[:2], CENTRES, 0.9) == [1, 0]
    assert nearest_known(asked[2:], CENTRES, 0.999) == [-1]
    assert nearest_known(asked, CENTRES[:0], 0.9) == [-1, -1, -1]
