"""What is known to be apart is not compared again, and the same comes out as if it were."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.config import PatternConfig
from sona.patterns import agglomerate as room
from sona.patterns.agglomerate import agglomerate, centroids_by_id, leaders, near
from sona.patterns.bank import ReasoningBank
from sona.patterns.catalog import PatternRecord, Tally
from sona.patterns.search import normalised
from sona.types import LearnedPattern, QueryTrajectory


def record(pattern_id: int, centroid: np.ndarray, size: int = 5) -> PatternRecord:
    return PatternRecord(LearnedPattern(pattern_id, centroid.astype(np.float32), size, float(size), 0.5), Tally())


def around(seed: int, count: int, *, first: int = 0, width: int = 8) -> list[PatternRecord]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(12, width))
    picked = centres[rng.integers(12, size=count)] + 0.3 * rng.normal(size=(count, width))
    return [record(first + at, picked[at], int(rng.integers(1, 9))) for at in range(count)]


def told(records: list[PatternRecord]) -> list[tuple]:
    return [(one.pattern.id, one.pattern.cluster_size, one.pattern.centroid.tobytes()) for one in records]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 12), st.sampled_from([0.5, 0.8, 0.95]))
def test_comparing_only_what_is_new_or_changed_gives_what_comparing_all_gives(seed, old, new, similarity):
    settled = list(agglomerate(around(seed, old), similarity).records)
    known = centroids_by_id(settled)
    rng = np.random.default_rng(seed)
    moved = {int(row) for row in rng.integers(len(settled), size=rng.integers(3))}
    later = [
        record(one.pattern.id, one.pattern.centroid + 0.3 * rng.normal(size=8), one.pattern.cluster_size)
        if row in moved
        else replace(one, pattern=replace(one.pattern, cluster_size=one.pattern.cluster_size + 20))
        for row, one in enumerate(settled)
    ]
    later += around(seed + 1, new, first=1000)
    partly, wholly = agglomerate(later, similarity, apart=known), agglomerate(later, similarity)
    assert told(partly.records) == told(wholly.records)
    assert partly.survivors == wholly.survivors


@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_leaders_are_those_of_the_plain_rule(seed, count, similarity):
    unit = normalised(np.random.default_rng(seed).integers(-1, 2, size=(count, 3)).astype(np.float32))
    expected = [-1] * count
    for row in range(count):
        if expected[row] < 0:
            expected[row] = row
            for later in range(row + 1, count):
                if expected[later] < 0 and unit[row].astype(np.float64) @ unit[later] >= similarity - 1e-6:
                    expected[later] = row
    # Cosines of these directions are far from the limit or equal to it, up to what rounding them to float32 did.
    assert leaders(unit, similarity - 1e-6) == expected
    assert leaders(unit, similarity - 1e-6, list(range(count))) == expected


def test_where_rounding_could_decide_a_pair_is_judged_by_itself():
    unit = normalised(np.random.default_rng(3).normal(size=(300, 64)).astype(np.float32))
    wide = unit.astype(np.float64)
    for of in range(1, 40):
        limit = float(np.einsum("i,i", wide[0], wide[of]))
        for start, rows in ((0, slice(0, 7)), (0, np.array([0])), (of, np.array([0, 5]))):
            assert near(unit, rows, start, limit)[0, of - start]
            assert not near(unit, rows, start, np.nextafter(limit, 2.0))[0, of - start]


class TestBank:
    def bank(self, count: int, width: int = 16) -> ReasoningBank:
        config = PatternConfig(k_clusters=count, min_cluster_size=1, min_cohesion=0.0, consolidation_similarity=0.99)
        bank, rng = ReasoningBank(config), np.random.default_rng(0)
        for number, query in enumerate(rng.normal(size=(count, width))):
            bank.add_trajectory(QueryTrajectory(number, query, final_quality=0.8))
        bank.extract_patterns(now=0.0, rng=rng)
        return bank

    def compared(self, bank: ReasoningBank, monkeypatch: pytest.MonkeyPatch, similarity: float | None = None) -> int:
        pairs = 0

        def counting(unit, rows, start, limit):
            nonlocal pairs
            found = near(unit, rows, start, limit)
            pairs += found.size
            return found

        with monkeypatch.context() as patch:
            patch.setattr(room, "near", counting)
            bank.consolidate(similarity)
        return pairs

    def test_twice_the_patterns_take_twice_the_comparisons_of_what_is_new(self, monkeypatch):
        pairs = []
        for count in (100, 200, 400):
            bank = self.bank(count)
            bank.consolidate(0.9)
            rng = np.random.default_rng(1)
            for number, query in enumerate(rng.normal(size=(5, 16))):
                bank.add_trajectory(QueryTrajectory(10**6 + number, query, final_quality=0.8))
            fresh = bank.extract_patterns(now=1.0, rng=rng)
            assert fresh.new + fresh.joined + fresh.merged >= 4
            pairs.append(self.compared(bank, monkeypatch, 0.9) / bank.pattern_count)
        assert max(pairs) <= 6  # each of the five with all others

    def test_nothing_new_is_compared_with_nothing(self, monkeypatch):
        bank = self.bank(50)
        assert self.compared(bank, monkeypatch) >= 50 * 50 / 2
        assert self.compared(bank, monkeypatch) == 0
        assert self.compared(bank.copy(), monkeypatch) == 0
        assert self.compared(bank, monkeypatch, 0.999) == 0
        assert self.compared(bank, monkeypatch, 0.5) > 0  # a lower limit was never looked at
        assert self.compared(ReasoningBank.from_state(bank.state()), monkeypatch) > 0
