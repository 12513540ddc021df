"""The steps of an extraction: nearest rows, who belongs, who is a stranger."""

import numpy as np
import pytest

from sona.config import PatternConfig
from sona.patterns.catalog import PatternRecord, Tally
from sona.patterns.extract import FREE, SPENT, Draft, Requests, affinity, extract, nearest_rows, united
from sona.types import LearnedPattern


def unit(rows) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def requests(rows, owner) -> Requests:
    return Requests.of([np.array(rows, np.float32)], [0.5] * len(rows), owner)


def pattern(pattern_id: int, centroid, size: int = 5) -> PatternRecord:
    return PatternRecord(LearnedPattern(pattern_id, np.asarray(centroid), size, float(size), 0.5), Tally())


def draft(records, rows, owner, **settings) -> Draft:
    return Draft(records, requests(rows, owner), PatternConfig(**settings), next_id=10, now=1.0)


def test_nearest_rows_equal_brute_force():
    rng = np.random.default_rng(0)
    queries, references = unit(rng.normal(size=(1100, 8))), unit(rng.normal(size=(70, 8)))
    rows, cosines = nearest_rows(queries, references)
    every = queries @ references.T
    assert rows.tolist() == every.argmax(axis=1).tolist()
    assert cosines == pytest.approx(every.max(axis=1), abs=1e-6)
    assert nearest_rows(queries[:2], references[:0])[0].tolist() == [-1, -1]


def test_a_request_joins_a_near_centroid_only():
    work = draft([pattern(0, [1.0, 0.0])], [[1.0, 0.1], [1.0, 1.0]], [FREE, FREE])
    assert work.join() == 1
    assert work.requests.owner.tolist() == [0, FREE]
    grown = work.records[0].pattern
    assert grown.cluster_size == 6
    assert grown.total_weight == 6.0
    assert grown.centroid == pytest.approx((np.array([5.0, 0.0]) + unit([[1.0, 0.1]])[0]) / 6, abs=1e-6)


def test_a_request_follows_its_twin_wherever_that_was_counted():
    work = draft([pattern(0, [1.0, 0.0])], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.01]], [0, FREE, FREE])
    assert work.join() == 2
    assert work.requests.owner.tolist() == [0, 0, 0]


def test_what_a_lost_pattern_counted_is_neither_free_nor_a_twin():
    work = draft([pattern(0, [1.0, 0.0])], [[0.0, 1.0], [0.0, 1.0]], [SPENT, FREE])
    assert work.join() == 0
    assert work.requests.owner.tolist() == [SPENT, FREE]


def test_the_published_records_are_not_touched():
    before = pattern(0, [1.0, 0.0])
    work = draft([before], [[1.0, 0.0]] * 3, [FREE] * 3)
    work.join()
    assert before.pattern.cluster_size == 5
    assert before.pattern.centroid.tolist() == [1.0, 0.0]


def test_a_cluster_like_a_pattern_is_merged_into_it():
    rng = np.random.default_rng(0)
    rows = [1.0, 0, 0, 0, 0, 0, 0, 0] + 0.3 * rng.normal(size=(40, 8))
    work = draft([pattern(4, np.eye(8)[0])], rows, [FREE] * 40, consolidation_similarity=0.9, k_clusters=1)
    result = extract(work, np.random.default_rng(0))
    assert (result.new, result.merged, result.patterns) == (0, 1, 1)
    assert work.records[0].pattern.id == 4
    assert work.records[0].pattern.cluster_size == 5 + result.joined + result.clustered


def test_strangers_in_a_cluster_wait():
    rng = np.random.default_rng(0)
    rows = np.concatenate((np.eye(64)[0] + 0.02 * rng.normal(size=(30, 64)), np.eye(64)[[5, 9]]))
    work = draft([], rows, [FREE] * 32, k_clusters=1)
    assert extract(work, rng).waiting == 2
    assert work.requests.owner[-2:].tolist() == [FREE, FREE]
    everyone = draft([], rows, [FREE] * 32, k_clusters=1, min_cohesion=0.0)
    assert extract(everyone, rng).waiting == 0


def test_the_left_over_are_adopted_by_a_pattern_as_near_as_to_its_own():
    rng = np.random.default_rng(0)
    rows = np.eye(32)[0] + 0.15 * rng.normal(size=(60, 32))  # cosine to the centroid about .77
    work = draft([pattern(0, np.eye(32)[0], 59)], np.concatenate((rows, np.eye(32)[:2][::-1])), [0] * 59 + [FREE] * 3)
    assert work.adopt() == 2
    assert work.requests.owner[-3:].tolist() == [0, FREE, 0]


def test_what_k_means_split_is_put_together_before_its_size_is_judged():
    rng = np.random.default_rng(0)
    points = unit(np.eye(16)[np.arange(24) % 2] + 0.03 * rng.normal(size=(24, 16)))
    labels = np.arange(24) % 8  # four pieces of each topic, three members each
    assert sorted(members.tolist() for members in united(labels, points, 0.95)) == [
        list(range(0, 24, 2)),
        list(range(1, 24, 2)),
    ]
    assert len(united(labels, points, 1.0)) == 8


class TestAffinity:
    def test_a_pair_does_not_vouch_for_strangers(self):
        pairs = np.repeat(np.eye(4, dtype=np.float32)[:3], 2, axis=0)
        assert affinity(pairs).tolist() == [0.0] * 6
        assert affinity(np.eye(1, dtype=np.float32)).tolist() == [1.0]

    def test_many_rows_are_judged_by_witnesses(self):
        rng = np.random.default_rng(0)
        rows = unit(np.eye(16)[0] + 0.1 * rng.normal(size=(700, 16)))
        every = rows @ rows.T
        np.fill_diagonal(every, np.nan)
        assert affinity(rows) == pytest.approx(np.nanmedian(every, axis=1), abs=0.02)
