"""Laws of clustering and of the bank, over whatever data hypothesis thinks of."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sona.config import PatternConfig
from sona.errors import InvalidValue
from sona.patterns.bank import ReasoningBank
from sona.patterns.catalog import Tally
from sona.patterns.kmeans import kmeans
from sona.patterns.search import VectorIndex
from sona.patterns.welch import holm, student_two_sided, welch_test
from sona.state import digest
from sona.types import QueryTrajectory

numbers = st.floats(-100.0, 100.0, width=32)
points = st.tuples(st.integers(1, 40), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=numbers)
)
seeds = st.integers(0, 2**32 - 1)
qualities = st.none() | st.floats(0.0, 1.0)


def distances(data: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((data[:, None].astype(np.float64) - centroids.astype(np.float64)) ** 2).sum(axis=2)


@given(points, st.integers(1, 12), seeds)
def test_inertia_never_rises_and_labels_are_nearest(data, k, seed):
    found = kmeans(data, k, rng=np.random.default_rng(seed), tolerance=0.0)
    history = found.inertia_history
    assert all(later < earlier for earlier, later in pairwise(history))
    assert found.inertia == history[-1]
    apart = distances(data, found.centroids)
    own = apart[np.arange(len(data)), found.labels]
    scale = max(1.0, float(np.abs(data).max())) ** 2
    assert (own <= apart.min(axis=1) + 1e-4 * scale).all()
    assert found.inertia == pytest.approx(own.sum(), abs=1e-4 * scale * len(data))


@given(points, st.integers(1, 60), seeds)
def test_k_is_bounded_by_the_distinct_points_and_no_cluster_is_empty(data, k, seed):
    found = kmeans(data, k, rng=np.random.default_rng(seed))
    assert 1 <= len(found.centroids) <= min(k, len(np.unique(data + np.float32(0.0), axis=0)))
    assert set(found.labels.tolist()) == set(range(len(found.centroids)))


@given(points, st.integers(1, 8), seeds)
def test_the_same_seed_gives_the_same_clustering(data, k, seed):
    first, second = (kmeans(data, k, rng=np.random.default_rng(seed)) for _ in range(2))
    assert first.centroids.tobytes() == second.centroids.tobytes()
    assert first.labels.tolist() == second.labels.tolist()
    assert first.inertia_history == second.inertia_history


@given(points, st.integers(1, 6), seeds, st.integers(2, 4))
def test_duplicates_share_a_cluster_in_any_order(data, k, seed, times):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data) * times)
    found = kmeans(np.repeat(data, times, axis=0)[order], k, rng=rng)
    labels = np.empty(len(order), np.int64)
    labels[order] = found.labels
    assert (labels.reshape(len(data), times) == labels.reshape(len(data), times)[:, :1]).all()


@given(points, seeds)
def test_more_starts_are_never_worse(data, seed):
    one = kmeans(data, 3, rng=np.random.default_rng(seed))
    assert kmeans(data, 3, rng=np.random.default_rng(seed), restarts=3).inertia <= one.inertia


@given(points, st.integers(1, 50), seeds)
def test_search_equals_sorting_every_cosine(data, k, seed):
    query = np.random.default_rng(seed).normal(size=data.shape[1])
    found = VectorIndex(data).search(query, k)
    norms = np.linalg.norm(data.astype(np.float64), axis=1)
    cosines = data @ query / np.where(norms == 0.0, 1.0, norms) / np.linalg.norm(query)
    assert found.similarities == pytest.approx(np.sort(cosines)[::-1][:k], abs=1e-5)
    assert len(set(found.rows.tolist())) == min(k, len(data))


@given(st.lists(qualities, max_size=30), st.data())
def test_a_tally_forgets_exactly(values, data):
    gone = data.draw(st.lists(st.sampled_from(range(len(values))), unique=True)) if values else []
    tally = kept = Tally()
    for place, value in enumerate(values):
        tally = tally.add(value)
        kept = kept if place in gone else kept.add(value)
    for place in gone:
        tally = tally.remove(values[place])
    assert tally == kept
    assert 0.0 <= tally.mean <= 1.0
    assert 0.0 <= tally.confidence < 1.0


samples = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20)


@given(samples, samples)
def test_welch_is_symmetric_and_bounded(first, second):
    one, other = welch_test(first, second), welch_test(second, first)
    assert 0.0 <= one.p_value <= 1.0
    assert one.p_value == pytest.approx(other.p_value, abs=1e-12)
    assert one.statistic == -other.statistic


@given(st.floats(0.0, 50.0), st.floats(0.0, 50.0), st.floats(1.0, 1000.0))
def test_a_larger_t_is_never_more_likely(one, other, degrees):
    low, high = sorted((one, other))
    assert student_two_sided(high, degrees) <= student_two_sided(low, degrees) + 1e-12


@given(st.lists(st.floats(0.0, 1.0), max_size=10))
def test_holm_never_lowers_and_keeps_the_order(values):
    corrected = holm(values)
    assert all(raw <= new <= 1.0 for raw, new in zip(values, corrected, strict=True))
    assert sorted(range(len(values)), key=values.__getitem__) == sorted(
        range(len(values)), key=lambda i: (corrected[i], values[i])
    )


@st.composite
def clustered(draw) -> list[QueryTrajectory]:
    rng = np.random.default_rng(draw(seeds))
    topics, each, d = draw(st.integers(1, 6)), draw(st.integers(6, 15)), 32
    centres = np.linalg.qr(rng.normal(size=(d, d)))[0][:topics]
    made = []
    for i in range(topics * each):
        query = centres[i % topics] + 0.2 / np.sqrt(d) * rng.normal(size=d)
        made.append(QueryTrajectory(i, query * rng.uniform(0.1, 10), final_quality=draw(qualities)))
    return made


def learned(trajectories, seed=0, **options) -> ReasoningBank:
    bank = ReasoningBank(PatternConfig(**options))
    for trajectory in trajectories:
        bank.add_trajectory(trajectory)
    bank.extract_patterns(now=0.0, rng=np.random.default_rng(seed))
    return bank


def facts(bank: ReasoningBank) -> list[tuple[int, int, float]]:
    return [(p.id, p.cluster_size, p.avg_quality) for p in bank.patterns]


@settings(max_examples=25, deadline=None)
@given(clustered(), seeds)
def test_the_same_data_five_times_give_the_same_patterns_once(trajectories, seed):
    bank = learned(trajectories, seed)
    once = facts(bank)
    for cycle in range(5):
        for trajectory in trajectories:
            bank.add_trajectory(trajectory)
        bank.extract_patterns(now=1.0, rng=np.random.default_rng(cycle))
    assert facts(bank) == once


@settings(max_examples=25, deadline=None)
@given(clustered(), seeds)
def test_every_trajectory_is_counted_once(trajectories, seed):
    bank = learned(trajectories, seed)
    members = [t.id for p in bank.patterns for t in bank.trajectories_of(p.id)]
    assert len(members) == len(set(members)) == len(trajectories) - bank.waiting_count
    assert sum(p.cluster_size for p in bank.patterns) == len(members)
    for pattern in bank.patterns:
        known = [t.quality for t in bank.trajectories_of(pattern.id) if t.quality is not None]
        assert pattern.avg_quality == pytest.approx(np.mean(known) if known else 0.5, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(clustered(), seeds)
def test_a_query_stays_close_to_its_own_pattern(trajectories, seed):
    bank = learned(trajectories, seed)
    for pattern in bank.patterns:
        for member in bank.trajectories_of(pattern.id):
            best = bank.search(member.query_embedding, 1)[0]
            assert best.pattern.id == pattern.id
            assert best.similarity > 0.9


@settings(max_examples=25, deadline=None)
@given(clustered(), seeds)
def test_new_ids_make_larger_patterns_not_more(trajectories, seed):
    bank = learned(trajectories, seed)
    before = bank.pattern_count
    for trajectory in trajectories:
        bank.add_trajectory(replace(trajectory, id=trajectory.id + 1000))
    bank.extract_patterns(now=1.0, rng=np.random.default_rng(seed))
    assert bank.pattern_count == before


@settings(max_examples=25, deadline=None)
@given(clustered(), seeds, st.data())
def test_amending_equals_having_known_from_the_start(trajectories, seed, data):
    bank = learned(trajectories, seed)
    known = [replace(t, final_quality=data.draw(qualities)) for t in trajectories]
    for first, final in zip(trajectories, known, strict=True):
        bank.add_trajectory(replace(final, supersedes=first))
    assert facts(bank) == facts(learned(known, seed))


@settings(max_examples=25, deadline=None)
@given(clustered(), seeds)
def test_state_round_trip(trajectories, seed):
    bank = learned(trajectories, seed)
    bank.find_similar(trajectories[0].query_embedding, 2, now=3.0)
    bank.consolidate(0.5)
    again = ReasoningBank.from_state(bank.state())
    assert digest(again.state()) == digest(bank.state())
    query = trajectories[-1].query_embedding
    assert [(m.pattern.id, m.similarity, m.confidence) for m in again.search(query)] == [
        (m.pattern.id, m.similarity, m.confidence) for m in bank.search(query)
    ]


CHANGES = {
    "add": lambda bank, some: [bank.add_trajectory(replace(one, id=one.id + 5_000)) for one in some[:9]],
    "amend": lambda bank, some: [
        bank.add_trajectory(replace(one, final_quality=0.25, supersedes=one)) for one in some[:9]
    ],
    "extract": lambda bank, _: bank.extract_patterns(now=2.0, rng=np.random.default_rng(0)),
    "access": lambda bank, some: bank.find_similar(some[0].query_embedding, 3, now=4.0),
    "consolidate": lambda bank, _: bank.consolidate(0.1),
    "prune": lambda bank, _: bank.prune(max_patterns=1),
    "decay": lambda bank, _: bank.decay(0.5),
    "clear": lambda bank, _: bank.clear(),
}


@settings(max_examples=40, deadline=None)
@given(clustered(), st.integers(20, 200), st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=6))
def test_a_copy_and_its_bank_go_their_own_ways(trajectories, capacity, names):
    def looks(one: ReasoningBank) -> list[object]:
        members = [[t.id for t in one.trajectories_of(p.id)] for p in one.patterns]
        found = [one.search(trajectories[0].query_embedding, 9, min_confidence=c / 10) for c in range(10)]
        return [digest(one.state()), members, [[(m.pattern.id, m.confidence) for m in matches] for matches in found]]

    bank = learned(trajectories, capacity=capacity)
    bank.find_similar(trajectories[0].query_embedding, 2, now=3.0)
    before = looks(bank)
    kept, twin = bank.copy(), bank.copy()
    for name in names:
        CHANGES[name](twin, trajectories)
    assert looks(bank) == before
    for name in names:
        CHANGES[name](bank, trajectories)
    assert looks(bank) == looks(twin)
    assert looks(kept) == before


@settings(max_examples=25, deadline=None)
@given(clustered(), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 31))
def test_bad_input_changes_nothing(trajectories, bad, place):
    bank = learned(trajectories)
    before = digest(bank.state())
    query = trajectories[0].query_embedding.copy()
    query[place] = bad
    for call in (lambda: bank.find_similar(query), lambda: bank.find_similar(query[:-1]), lambda: bank.decay(bad)):
        with pytest.raises(InvalidValue):
            call()
    assert digest(bank.state()) == before
