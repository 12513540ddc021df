import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_similarity

from sona.demo.evaluation import (
    Effect,
    ndcg,
    near_duplicates,
    paired_difference,
    student_quantile,
    top_cosine,
    unit,
)
from sona.errors import DimensionMismatch, InvalidValue


@pytest.mark.parametrize("seed", range(20))
def test_ndcg_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    relevance = rng.random(25) < rng.uniform(0.05, 0.8)
    relevance[int(rng.integers(25))] = True
    scores = rng.normal(size=25)
    shown = [str(row) for row in np.argsort(-scores)]
    relevant = {str(row) for row in np.flatnonzero(relevance)}
    for k in (1, 3, 10):
        oracle = ndcg_score(relevance[None, :].astype(float), scores[None, :], k=k)
        assert ndcg(shown, relevant, k) == pytest.approx(oracle)


def test_ndcg_needs_an_answer():
    with pytest.raises(InvalidValue, match="relevant"):
        ndcg(["a"], set())
    assert ndcg([], {"a"}) == 0.0


def test_top_cosine_agrees_with_scikit_learn_and_breaks_ties_by_row():
    rng = np.random.default_rng(0)
    requests, documents = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    oracle = np.argsort(-cosine_similarity(requests, documents), axis=1)[:, :10]
    np.testing.assert_array_equal(top_cosine(requests, documents), oracle)
    assert top_cosine(np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32)).tolist() == [[0, 1]]
    assert top_cosine(np.zeros((0, 2), np.float32), np.eye(2, dtype=np.float32)).shape == (0, 2)
    with pytest.raises(DimensionMismatch):
        top_cosine(requests, documents[:, :4])


def test_unit_keeps_zero_and_scales_the_last_axis():
    vectors = unit(np.array([[[3.0, 4.0], [0.0, 0.0]]], np.float32))
    np.testing.assert_allclose(vectors, [[[0.6, 0.8], [0.0, 0.0]]], rtol=1e-6)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("degrees", [8, 20, 74, 999])
def test_student_quantile_agrees_with_scipy(degrees):
    assert student_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-3)


def test_interval_is_the_paired_t_interval_when_each_request_is_asked_once():
    rng = np.random.default_rng(1)
    gains = rng.normal(0.1, 0.3, 200)
    result = paired_difference([[str(row) for row in range(200)]], [gains])
    oracle = stats.ttest_1samp(gains, 0.0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((oracle.low, oracle.high), abs=1e-5)
    assert result.effect is Effect.HELPED
    assert result.requests == 200


def test_asking_the_same_requests_again_adds_no_evidence():
    gains = np.random.default_rng(2).normal(0.05, 0.3, 100)
    keys = [str(row) for row in range(100)]
    once, thrice = paired_difference([keys], [gains]), paired_difference([keys] * 3, [gains] * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.per_seed == pytest.approx([gains.mean()] * 3)
    assert thrice.requests == 100


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    keys = [[str(row) for row in range(60)]] * 2
    covered = 0
    for _ in range(600):
        shared = rng.normal(0.0, 1.0, 60)  # what a request gains is much the same in every seed
        result = paired_difference(keys, [shared + rng.normal(0.0, 0.3, 60) for _ in keys])
        covered += result.low <= 0.0 <= result.high
    assert 0.92 <= covered / 600 <= 0.98


@pytest.mark.parametrize(("shift", "effect"), [(0.5, Effect.HELPED), (-0.5, Effect.HARMED), (0.0, Effect.NO_EVIDENCE)])
def test_effect_is_claimed_only_when_the_interval_excludes_zero(shift, effect):
    gains = np.tile([-0.2, 0.2], 50) + shift
    assert paired_difference([[str(row) for row in range(100)]], [gains]).effect is effect


@pytest.mark.parametrize(
    ("keys", "gains"),
    [([], []), ([["a", "b"]], [np.zeros(3)]), ([["a", "a"]], [np.zeros(2)]), ([[]], [np.zeros(0)])],
)
def test_interval_refuses_what_holds_no_evidence(keys, gains):
    with pytest.raises(InvalidValue):
        paired_difference(keys, gains)


def test_near_duplicates_are_found_across_a_split():
    seen = [["how", "do", "i", "reset", "it"], ["pay", "now"]]
    held_out = [["how", "do", "i", "reset", "that", "thing"], ["i", "do", "reset", "it", "how"], ["pay"], []]
    assert near_duplicates(held_out, seen) == (1,)
    assert near_duplicates(held_out, seen, threshold=0.5) == (0, 1, 2)
