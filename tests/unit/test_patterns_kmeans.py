"""k-means: as good as scikit-learn's best, empty clusters filled, fewer points than clusters, bad input."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin

from sona.errors import InvalidValue
from sona.patterns.kmeans import _assign, _descend, _fill_empty, _nearest, kmeans
from sona.patterns.seeding import prepare, seed_centroids

DIGITS_INERTIA = 1165188.89  # scikit-learn, best of 10


def blobs(n: int, k: int, d: int, seed: int, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d))
    labels = np.arange(n) % k
    return (centres[labels] + spread * rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_digits(return_X_y=True)


class TestAgainstScikitLearn:
    def test_digits_inertia_and_agreement(self, digits):
        data, digit = digits
        found = kmeans(data, 10, rng=np.random.default_rng(0), restarts=4)
        assert found.inertia <= 1.005 * DIGITS_INERTIA
        assert adjusted_rand_score(digit, found.labels) == pytest.approx(0.6657, abs=0.02)

    @pytest.mark.parametrize("seed", range(4))
    def test_one_start_is_near_the_best_of_ten(self, digits, seed):
        assert kmeans(digits[0], 10, rng=np.random.default_rng(seed)).inertia <= 1.05 * DIGITS_INERTIA

    @pytest.mark.parametrize("spread", [0.3, 3.0])
    def test_many_clusters_in_many_dimensions(self, spread):
        points, _ = blobs(2000, 50, 64, 1, spread)
        reference = KMeans(50, n_init=10, random_state=0).fit(points).inertia_
        for seed in range(3):
            assert kmeans(points, 50, rng=np.random.default_rng(seed)).inertia <= 1.02 * reference

    def test_inertia_is_the_sum_of_squares(self, digits):
        found = kmeans(digits[0], 10, rng=np.random.default_rng(0))
        direct = ((digits[0] - found.centroids.astype(np.float64)[found.labels]) ** 2).sum()
        assert found.inertia == pytest.approx(direct, rel=1e-6)

    def test_labels_are_the_nearest_centroids(self, digits):
        found = kmeans(digits[0], 10, rng=np.random.default_rng(0))
        nearest = pairwise_distances_argmin(digits[0], found.centroids)
        assert (nearest == found.labels).mean() > 0.999


class TestEdges:
    def test_never_more_clusters_than_distinct_points(self):
        points = np.repeat(np.array([[0.1, 0.2], [3.3, 1.1], [-2.0, 5.7]]), 7, axis=0)
        found = kmeans(points, 9, rng=np.random.default_rng(0))
        assert found.centroids.shape == (3, 2)
        assert found.inertia == pytest.approx(0.0, abs=1e-10)

    def test_one_point_and_identical_points(self):
        for points in ([[2.0, 3.0]], [[2.0, 3.0]] * 5):
            found = kmeans(points, 3, rng=np.random.default_rng(0))
            assert found.centroids.tolist() == [[2.0, 3.0]]
            assert found.inertia == 0.0

    def test_clusters_far_from_the_origin_are_told_apart(self):
        points, labels = blobs(300, 5, 8, 0)
        found = kmeans(points * 8.0 + 4096.0, 5, rng=np.random.default_rng(0))
        assert adjusted_rand_score(labels, found.labels) == 1.0

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_any_scale_gives_the_same_clusters(self, scale):
        points, labels = blobs(100, 4, 3, 0)
        found = kmeans(points.astype(np.float64) * scale, 4, rng=np.random.default_rng(0))
        assert adjusted_rand_score(labels, found.labels) == 1.0
        assert np.isfinite(found.inertia)

    def test_empty_clusters_are_moved_to_the_farthest_points(self):
        points = prepare([[0.0], [1.0], [10.0], [11.0]])
        seeds = points.values[[0, 0, 0]]  # two of three seeds own nothing
        done = _assign(points, seeds)
        assert sorted(done.counts.tolist()) == [1, 1, 2]
        assert len(np.unique(done.labels)) == 3

    def test_a_cluster_of_one_is_not_robbed(self):
        points = prepare([[0.0], [1.0], [2.0], [100.0]])
        centroids = points.values[[1, 3, 3]].copy()
        centroids[1] -= 0.5  # owns the farthest point alone, and lies off it
        centroids[2] += 9.0  # owns nothing
        labels, distances = _nearest(points, centroids)
        counts = np.bincount(labels, minlength=3)
        assert counts.tolist() == [3, 1, 0]
        moved = _fill_empty(points, centroids, labels, distances, counts)
        assert moved[2] in points.values[[0, 2]]

    def test_points_closer_than_float32_products_tell_are_told_apart(self):
        distinct = np.full((8, 4), 58.5)
        distinct[:4, 0] = [2.0, 0.0, 1.0, 1 / 64]
        distinct[[4, 5, 6], [1, 2, 3]] = 0.0
        points = np.concatenate((distinct, distinct[[7] * 26]))
        for seed in range(10):
            found = kmeans(points, 8, rng=np.random.default_rng(seed))
            assert sorted(np.bincount(found.labels).tolist()) == [1] * 7 + [27]
            assert found.inertia == pytest.approx(0.0, abs=1e-9)

    def test_labels_are_nearest_where_float32_products_are_blind(self):
        rng = np.random.default_rng(0)
        sides = np.sign(np.arange(64) % 2 - 0.5)[:, None] * np.ones((64, 8))
        points = prepare(sides + 3e-5 * rng.normal(size=(64, 8)))
        centroids = points.values[:12]
        labels, _ = _nearest(points, centroids)
        apart = ((points.values[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
        assert labels.tolist() == apart.argmin(axis=1).tolist()

    def test_descent_keeps_every_cluster_alive(self):
        points, _ = blobs(200, 10, 4, 3)
        prepared = prepare(points)
        done, history = _descend(prepared, np.repeat(prepared.values[:1], 10, axis=0), 50, 0.0)
        assert done.counts.min() >= 1
        assert done.centroids.shape[0] == 10
        assert history == sorted(history, reverse=True)

    def test_iterations_are_bounded_and_reported(self):
        points, _ = blobs(500, 20, 8, 0, 2.0)
        found = kmeans(points, 20, rng=np.random.default_rng(0), max_iterations=2, tolerance=0.0)
        assert found.iterations == len(found.inertia_history) - 1 <= 2

    def test_a_loose_tolerance_stops_early(self):
        points, _ = blobs(500, 20, 8, 0, 2.0)
        loose = kmeans(points, 20, rng=np.random.default_rng(0), tolerance=10.0)
        tight = kmeans(points, 20, rng=np.random.default_rng(0), tolerance=0.0)
        assert loose.iterations <= 1 < tight.iterations

    def test_two_per_cent_outliers_take_few_clusters(self):
        rng = np.random.default_rng(0)
        points, labels = blobs(1000, 20, 64, 0)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        strays = rng.normal(size=(20, 64))
        points[:20] = strays / np.linalg.norm(strays, axis=1, keepdims=True)
        for seed in range(5):
            found = kmeans(points, 20, rng=np.random.default_rng(seed))
            kept = {int(np.bincount(found.labels[20:][labels[20:] == label]).argmax()) for label in range(20)}
            assert len(kept) >= 19

    @pytest.mark.parametrize(
        "points",
        [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), [[np.nan]], [[np.inf]], [["a"]], [[3e38]] + [[-3e38]] * 3],
    )
    def test_points_that_cannot_be_clustered(self, points):
        with pytest.raises(InvalidValue):
            kmeans(points, 1, rng=np.random.default_rng(0))

    @pytest.mark.parametrize(
        "settings", [{"k": 0}, {"k": 1.5}, {"max_iterations": 0}, {"restarts": 0}, {"tolerance": -1.0}]
    )
    def test_settings_out_of_range(self, settings):
        with pytest.raises(InvalidValue):
            kmeans(**{"points": np.eye(3), "k": 2, "rng": np.random.default_rng(0), **settings})


class TestSeeding:
    def test_expected_inertia_keeps_the_bound(self):
        # 8 tight clusters, one of them rare: uniform seeds miss clusters and break the bound a hundredfold.
        points, _ = blobs(400, 8, 4, 5, 0.01)
        points = points[(np.arange(400) % 8 != 7) | (np.arange(400) < 40)]
        best = KMeans(8, n_init=10, random_state=0).fit(points).inertia_
        rng = np.random.default_rng(0)

        def inertia(seeds):
            return ((points[:, None] - seeds) ** 2).sum(axis=2).min(axis=1).sum()

        drawn = np.mean([inertia(seed_centroids(points, 8, rng=rng, candidates=1)) for _ in range(200)])
        uniform = np.mean([inertia(points[rng.choice(len(points), 8, replace=False)]) for _ in range(200)])
        bound = 8.0 * (np.log(8) + 2.0) * best
        assert drawn <= bound < uniform

    def test_seeds_are_distinct_points(self):
        points = np.repeat(np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32), 4, axis=0)
        seeds = seed_centroids(points, 40, rng=np.random.default_rng(0))
        assert seeds.shape == (30, 5)
        assert len(np.unique(seeds, axis=0)) == 30
        assert {row.tobytes() for row in seeds} <= {row.tobytes() for row in points}

    def test_several_candidates_are_better_than_one(self):
        points, _ = blobs(600, 30, 8, 2, 0.2)

        def inertia(candidates):
            rng = np.random.default_rng(0)
            seeds = [seed_centroids(points, 30, rng=rng, candidates=candidates) for _ in range(20)]
            return np.mean([((points[:, None] - s) ** 2).sum(axis=2).min(axis=1).sum() for s in seeds])

        assert inertia(None) < 0.9 * inertia(1)

    def test_bad_candidates(self):
        with pytest.raises(InvalidValue):
            seed_centroids(np.eye(2), 1, rng=np.random.default_rng(0), candidates=0)
