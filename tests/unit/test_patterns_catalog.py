"""Tallies to the last digit, records that merge, near-duplicates found in any order."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sona.patterns.agglomerate import agglomerate
from sona.patterns.catalog import Catalog, PatternRecord, Tally
from sona.types import LearnedPattern


def record(pattern_id: int, centroid, size: int = 5, *qualities: float) -> PatternRecord:
    tally = Tally()
    for quality in qualities:
        tally = tally.add(quality)
    return PatternRecord(LearnedPattern(pattern_id, np.array(centroid), size, float(size), tally.mean), tally)


class TestTally:
    def test_mean_and_deviation_equal_exact_arithmetic(self):
        qualities = np.random.default_rng(0).random(1000)
        tally = Tally()
        for quality in qualities:
            tally = tally.add(float(quality))
        assert tally.mean == pytest.approx(float(sum(map(Fraction, qualities)) / 1000), rel=1e-15)
        assert tally.deviation == pytest.approx(np.std(qualities), rel=1e-12)

    def test_taking_away_leaves_no_trace(self):
        base = Tally().add(0.1).add(0.2)
        assert base.add(0.3).add(1e-9).remove(0.3).remove(1e-9) == base

    def test_nothing_known(self):
        assert (Tally().mean, Tally().deviation, Tally().confidence) == (0.5, 0.0, 0.0)
        assert Tally().add(None) == Tally().remove(None) == Tally()

    def test_confidence(self):
        assert Tally().add(0.8).confidence == 0.5
        assert Tally().add(0.0).add(1.0).confidence == pytest.approx(0.5 * 2 / 3)

    def test_equal_outcomes_have_no_deviation(self):
        tally = Tally()
        for _ in range(1000):
            tally = tally.add(0.1)
        assert tally.deviation == 0.0


class TestAgglomerate:
    def random_records(self, n: int = 60) -> list[PatternRecord]:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(6, 16))
        made = [centres[i % 6] + 0.2 * rng.normal(size=16) for i in range(n)]
        return [record(i, made[i], 5 + i % 4, rng.random()) for i in range(n)]

    def test_no_pair_is_left_and_nothing_is_lost(self):
        records = self.random_records()
        done = agglomerate(records, 0.9)
        assert len(done.records) == 6
        unit = np.stack([r.pattern.centroid / np.linalg.norm(r.pattern.centroid) for r in done.records])
        assert (unit @ unit.T - 2 * np.eye(6)).max() < 0.9
        assert sum(r.pattern.cluster_size for r in done.records) == sum(r.pattern.cluster_size for r in records)
        assert sum(r.tally.count for r in done.records) == 60
        kept = {r.pattern.id for r in done.records}
        assert kept | set(done.survivors) == set(range(60))
        assert set(done.survivors.values()) <= kept

    def test_order_does_not_matter(self):
        records = self.random_records()
        shuffled = [records[i] for i in np.random.default_rng(1).permutation(60)]
        first, second = agglomerate(records, 0.9), agglomerate(shuffled, 0.9)
        assert first.survivors == second.survivors
        for one, other in zip(first.records, second.records, strict=True):
            assert one.pattern.centroid.tobytes() == other.pattern.centroid.tobytes()

    def test_an_id_resolves_through_two_rounds(self):
        def direction(tilt: float, turn: float) -> list[float]:
            a, b = np.radians([tilt, turn])
            return [np.cos(a), np.sin(a) * np.cos(b), np.sin(a) * np.sin(b)]

        # 1 and 2 are too far from 0 at 25 degrees, near each other, and their mean is near 0 at 22 degrees.
        records = [record(0, direction(0, 0), 50), record(1, direction(25, 0), 6), record(2, direction(25, 55), 6)]
        done = agglomerate(records, float(np.cos(np.radians(24))))
        assert done.survivors == {1: 0, 2: 0}
        assert done.records[0].pattern.cluster_size == 62

    def test_distant_patterns_stay(self):
        records = [record(i, row) for i, row in enumerate(np.eye(4))]
        assert agglomerate(records, 0.5).survivors == {}
        assert agglomerate([], 0.5).records == ()

    def test_the_average_is_over_outcomes_known(self):
        merged = record(0, [1.0, 0.0], 50, 0.2).merge(record(1, [1.0, 0.0], 5, 0.8, 0.8))
        assert merged.pattern.avg_quality == pytest.approx(0.6)
        assert merged.pattern.cluster_size == 55


class TestCatalog:
    def test_renewed_statistics_are_seen_at_once(self):
        catalog = Catalog([record(3, [1.0, 0.0]), record(9, [0.0, 1.0])], exact_limit=100)
        newer = catalog.get(9).with_tally(Tally().add(1.0).add(1.0))
        catalog.renew(newer)
        assert catalog.get(9) is newer
        found = catalog.nearest(np.array([1.0, 0.1], np.float32), 2, 0.6)
        assert [match.pattern.id for match in found] == [9]
        assert catalog.get(4) is None

    def test_value_rises_with_weight_quality_and_use(self):
        base = record(0, [1.0], 5, 0.5)
        assert record(0, [1.0], 10, 0.5).value > base.value
        assert record(0, [1.0], 5, 0.9).value > base.value
        assert replace(base, pattern=base.pattern.touch(1.0)).value > base.value

    def test_above_the_limit_the_index_is_approximate(self):
        pytest.importorskip("usearch")
        rng = np.random.default_rng(0)
        records = [record(i, rng.normal(size=8)) for i in range(300)]
        catalog = Catalog(records, exact_limit=50)
        assert not catalog.index.is_exact
        hits = sum(catalog.nearest(r.pattern.centroid, 1, 0.0)[0].pattern.id == r.pattern.id for r in records)
        assert hits >= 295
