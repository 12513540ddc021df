"""The ReasoningBank: every trajectory counted once, outcomes exact, accesses that move, state that comes back."""

import time
from dataclasses import replace

import numpy as np
import pytest

from sona.config import PatternConfig
from sona.errors import DimensionMismatch, InvalidValue, PatternExtractionError, StoreError
from sona.patterns.bank import ReasoningBank
from sona.patterns.kmeans import KMeansResult
from sona.patterns.ring import AddOutcome
from sona.state import State, digest, read_state, write_state
from sona.types import QueryTrajectory, TrajectoryStep


def topics(n: int = 200, k: int = 5, d: int = 32, noise: float = 0.3, seed: int = 0, start: int = 0):
    """Trajectories around k directions; the topic of number i is i % k."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(k, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    made = []
    for i in range(n):
        query = centres[i % k] + noise / np.sqrt(d) * rng.normal(size=d)
        quality = float(rng.random()) if i % 3 else None
        made.append(QueryTrajectory(start + i, query, final_quality=quality, model_route="ab"[i % 2]))
    return made


def filled(trajectories, **settings) -> ReasoningBank:
    bank = ReasoningBank(PatternConfig(**settings))
    for trajectory in trajectories:
        bank.add_trajectory(trajectory)
    return bank


def extract(bank: ReasoningBank, seed: int = 0, now: float = 0.0):
    return bank.extract_patterns(now=now, rng=np.random.default_rng(seed))


def learned(trajectories=None, **settings) -> ReasoningBank:
    bank = filled(topics() if trajectories is None else trajectories, **settings)
    extract(bank)
    return bank


def sizes(bank: ReasoningBank) -> list[int]:
    return [pattern.cluster_size for pattern in bank.patterns]


class TestRing:
    def test_the_oldest_leaves_a_full_ring(self):
        bank = filled(topics(10), capacity=4)
        assert bank.trajectory_count == 4
        assert bank.waiting_count == 4

    def test_an_id_is_counted_once(self):
        bank = filled(topics(10))
        assert [bank.add_trajectory(again) for again in topics(10)] == [AddOutcome.REPEATED] * 10
        assert bank.trajectory_count == 10

    def test_an_amendment_replaces_and_corrects_exactly(self):
        trajectories = topics()
        bank = learned(trajectories)
        first = trajectories[1]
        better = replace(first, final_quality=1.0, supersedes=first)
        assert bank.add_trajectory(better) is AddOutcome.AMENDED
        assert bank.add_trajectory(better) is AddOutcome.REPEATED
        for pattern in bank.patterns:
            members = bank.trajectories_of(pattern.id)
            known = [t.final_quality for t in members if t.final_quality is not None]
            assert pattern.avg_quality == pytest.approx(np.mean(known), abs=1e-15)
        assert bank.add_trajectory(replace(first, supersedes=better)) is AddOutcome.AMENDED
        undone = [pattern.avg_quality for pattern in bank.patterns]
        assert undone == [pattern.avg_quality for pattern in learned(trajectories).patterns]
        assert digest(bank.state().child("patterns")) == digest(learned(trajectories).state().child("patterns"))

    def test_a_first_outcome_may_come_as_an_amendment(self):
        asked = replace(topics(1)[0], final_quality=None)
        bank = filled([asked] + [replace(asked, id=i) for i in range(1, 6)])
        extract(bank)
        assert bank.patterns[0].avg_quality == 0.5
        assert bank.confidence(0) == 0.0
        bank.add_trajectory(replace(asked, final_quality=0.9, supersedes=asked))
        assert bank.patterns[0].avg_quality == pytest.approx(0.9)
        assert bank.confidence(0) == pytest.approx(0.5)

    def test_an_amendment_that_comes_too_late_changes_nothing(self):
        trajectories = topics(10)
        bank = filled(trajectories, capacity=4)
        before = digest(bank.state())
        late = replace(trajectories[0], final_quality=0.0, supersedes=trajectories[0])
        assert bank.add_trajectory(late) is AddOutcome.EXPIRED
        assert digest(bank.state()) == before

    def test_the_query_is_never_mixed_with_what_was_tried(self):
        rng = np.random.default_rng(0)
        plain = topics(100)
        stepped = [
            replace(t, steps=tuple(TrajectoryStep(50 * rng.normal(size=32), reward=1.0) for _ in range(3)))
            for t in plain
        ]
        bank = learned(stepped)
        for trajectory in stepped:
            assert bank.search(trajectory.query_embedding, 1)[0].similarity > 0.9

    def test_adding_takes_microseconds(self):
        trajectories = topics(2000)
        bank = ReasoningBank()
        spent = []
        for trajectory in trajectories:
            begin = time.perf_counter()
            bank.add_trajectory(trajectory)
            spent.append(time.perf_counter() - begin)
        assert np.median(spent) < 10e-6


class TestExtraction:
    def test_one_pattern_per_topic(self):
        bank = filled(topics())
        result = extract(bank, now=7.0)
        assert (result.new, result.patterns, result.waiting, result.skipped_reason) == (5, 5, 0, None)
        assert sizes(bank) == [40] * 5
        assert {pattern.created_at for pattern in bank.patterns} == {7.0}
        for pattern in bank.patterns:
            members = bank.trajectories_of(pattern.id)
            assert len({t.id % 5 for t in members}) == 1
            unit = [t.query_embedding / np.linalg.norm(t.query_embedding) for t in members]
            assert pattern.centroid == pytest.approx(np.mean(unit, axis=0), abs=1e-5)

    def test_five_cycles_on_the_same_data_give_the_same_patterns_once(self):
        bank = learned()
        before = bank.patterns
        for cycle in range(5):
            for again in topics():
                bank.add_trajectory(again)
            result = extract(bank, seed=cycle)
            assert (result.new, result.joined, result.clustered) == (0, 0, 0)
            assert "no trajectory is new" in result.skipped_reason
        assert bank.patterns == before

    @pytest.mark.parametrize(("noise", "k"), [(0.3, 100), (0.7, 5)])
    def test_the_same_queries_under_new_ids_make_larger_patterns_not_more(self, noise, k):
        bank = learned(topics(noise=noise), k_clusters=k)
        count, counted = bank.pattern_count, sum(sizes(bank))
        for cycle in range(1, 5):
            for trajectory in topics(noise=noise, start=1000 * cycle):
                bank.add_trajectory(trajectory)
            extract(bank, seed=cycle)
        assert bank.pattern_count == count
        assert sum(sizes(bank)) >= 5 * counted

    def test_outliers_make_no_patterns_however_often_they_are_seen(self):
        rng = np.random.default_rng(0)
        data = topics(1000, 20, 128)
        strays = [QueryTrajectory(5000 + i, rng.normal(size=128)) for i in range(20)]
        bank = learned(data + strays, k_clusters=20)
        assert bank.pattern_count == 20
        assert bank.waiting_count >= 18
        for trajectory in data + strays:
            bank.add_trajectory(replace(trajectory, id=trajectory.id + 10_000))
        extract(bank, seed=1)
        assert bank.pattern_count == 20

    def test_a_topic_too_small_waits_and_is_not_lost(self):
        small = [t for t in topics(16, 8) if t.id % 8 == 0]  # two of one topic
        bank = filled(topics(40, 2, seed=1, start=100) + small)
        extract(bank)
        counted = bank.pattern_count
        rest = [replace(t, id=t.id + 5000) for t in topics(64, 8, seed=3) if t.id % 8 == 7]
        for trajectory in rest:
            bank.add_trajectory(trajectory)
        result = extract(bank)
        assert bank.pattern_count == counted + 1
        assert sum(sizes(bank)) + result.waiting == bank.trajectory_count

    def test_too_few_trajectories_are_no_error(self):
        assert "no trajectory is new" in extract(ReasoningBank()).skipped_reason
        bank = filled(topics(3))
        result = extract(bank)
        assert "3 trajectories wait, 5 make a cluster" in result.skipped_reason
        assert (result.waiting, bank.waiting_count, bank.pattern_count) == (3, 3, 0)

    def test_k_is_bounded_by_the_data(self):
        assert learned(topics(40, 8, noise=3.0), min_cohesion=0.0).pattern_count <= 8
        assert learned(topics(200, 8, noise=3.0), min_cohesion=0.0, k_clusters=3).pattern_count <= 3

    def test_zero_queries_wait(self):
        bank = filled([QueryTrajectory(i, np.zeros(4)) for i in range(20)])
        assert extract(bank).waiting == 20

    def test_eviction_does_not_shrink_a_pattern(self):
        bank = learned(topics(100), capacity=100)
        before = sizes(bank)
        for trajectory in topics(80, start=500):
            bank.add_trajectory(trajectory)
        assert sizes(bank) == before
        assert sum(len(bank.trajectories_of(p.id)) for p in bank.patterns) <= 20
        result = extract(bank)
        assert sum(sizes(bank)) == sum(before) + result.joined + result.clustered
        assert result.joined + result.clustered > 60

    def test_no_more_patterns_than_allowed(self):
        bank = filled(topics(400, 20), max_patterns=7)
        result = extract(bank)
        assert bank.pattern_count == result.patterns == 7

    def test_a_result_that_is_not_finite_changes_nothing(self, monkeypatch):
        def broken(points, k, **settings):
            labels = np.zeros(len(points), np.int64)
            return KMeansResult(np.full((1, points.shape[1]), np.nan, np.float32), labels, np.nan, (np.nan,), 0)

        bank = learned()
        for trajectory in topics(50, 3, seed=5, start=900, noise=2.0):
            bank.add_trajectory(trajectory)
        before = digest(bank.state())
        monkeypatch.setattr("sona.patterns.extract.kmeans", broken)
        with pytest.raises(PatternExtractionError, match="not finite"):
            extract(bank)
        assert digest(bank.state()) == before

    def test_the_same_seed_gives_the_same_state(self):
        assert digest(learned().state()) == digest(learned().state())


class TestSearch:
    def test_accesses_move_by_find_similar_only(self):
        bank = learned()
        query = topics()[0].query_embedding
        assert [match.pattern.access_count for match in bank.search(query, 5)] == [0] * 5
        found = bank.find_similar(query, 2, now=50.0)
        assert [(m.pattern.access_count, m.pattern.last_accessed) for m in found] == [(1, 50.0)] * 2
        bank.find_similar(query, 1, now=20.0)
        best = bank.get_pattern(found[0].pattern.id)
        assert (best.access_count, best.last_accessed) == (2, 50.0)
        assert sum(pattern.access_count for pattern in bank.patterns) == 3

    def test_accesses_survive_extraction_and_decay(self):
        bank = learned()
        bank.find_similar(topics()[0].query_embedding, 1, now=1.0)
        for trajectory in topics(50, start=700):
            bank.add_trajectory(trajectory)
        extract(bank)
        bank.decay(0.5)
        assert sum(pattern.access_count for pattern in bank.patterns) == 1

    def test_best_first_with_true_cosines(self):
        bank = learned()
        query = topics()[3].query_embedding
        found = bank.search(query, 3)
        for match in found:
            c = match.pattern.centroid.astype(np.float64)
            assert match.similarity == pytest.approx(c @ query / np.linalg.norm(c) / np.linalg.norm(query), abs=1e-6)
            assert match.confidence == bank.confidence(match.pattern.id)
        assert [m.similarity for m in found] == sorted((m.similarity for m in found), reverse=True)

    def test_least_confidence(self):
        trajectories = [replace(t, final_quality=1.0 if t.id % 5 == 2 else None) for t in topics()]
        bank = learned(trajectories)
        found = bank.find_similar(trajectories[0].query_embedding, 5, min_confidence=0.5)
        assert len(found) == 1
        assert found[0].confidence == pytest.approx(40 / 41)

    def test_an_empty_bank_finds_nothing(self):
        assert ReasoningBank().find_similar([1.0, 2.0]) == []
        assert ReasoningBank().patterns == ()

    def test_a_reader_keeps_a_whole_set_while_the_bank_changes(self):
        bank = learned()
        published = bank._catalog
        bank.clear()
        assert len(published.nearest(topics()[0].query_embedding, 5, 0.0)) == 5
        assert bank.search(np.ones(32)) == []


class TestConfidence:
    def test_formula(self):
        qualities = [0.2, 0.9, 0.4, None, 0.7]
        query = topics(1)[0].query_embedding
        bank = learned([QueryTrajectory(i, query, final_quality=q) for i, q in enumerate(qualities)])
        known = [q for q in qualities if q is not None]
        assert bank.confidence(0) == pytest.approx((1 - np.std(known)) * (1 - 1 / 5), abs=1e-12)
        assert bank.patterns[0].avg_quality == pytest.approx(np.mean(known), abs=1e-15)
        assert bank.patterns[0].cluster_size == 5

    def test_unknown_pattern(self):
        for ask in ("confidence", "trajectories_of", "verdict"):
            with pytest.raises(InvalidValue, match="no pattern 3"):
                getattr(ReasoningBank(), ask)(3)

    def test_verdict_is_over_the_pattern(self):
        trajectories = [replace(t, final_quality=0.2 + 0.5 * (t.id % 2) + 0.001 * t.id) for t in topics()]
        bank = learned(trajectories)
        verdicts = bank.verdicts(default="a")
        assert len(verdicts) == 5
        assert all((v.kind, v.choice, v.is_significant) == ("route", "b", True) for v in verdicts)
        assert verdicts[2] == bank.verdict(bank.patterns[2].id, default="a")
        assert sum(v.support + v.default_support for v in verdicts) == 200


class TestTending:
    def two_halves(self) -> ReasoningBank:
        # A strict limit keeps apart what a looser one later merges.
        return learned(topics(400, 4, noise=0.6), consolidation_similarity=0.9999, k_clusters=16)

    def test_consolidate_merges_near_duplicates_and_old_ids_resolve(self):
        bank = self.two_halves()
        before = {pattern.id: pattern for pattern in bank.patterns}
        counted = sum(sizes(bank))
        merged = bank.consolidate(0.8)
        assert merged == len(before) - 4
        assert bank.pattern_count == 4
        assert sum(sizes(bank)) == counted
        unit = np.stack([p.centroid / np.linalg.norm(p.centroid) for p in bank.patterns])
        assert (unit @ unit.T - 2 * np.eye(4)).max() < 0.8
        alive = {pattern.id for pattern in bank.patterns}
        for old, pattern in before.items():
            survivor = bank.get_pattern(old)
            assert survivor.id in alive
            assert survivor.centroid @ pattern.centroid > 0.5
            assert bank.confidence(old) == bank.confidence(survivor.id)
        assert sum(len(bank.trajectories_of(i)) for i in alive) == counted
        assert bank.consolidate(0.8) == 0

    def test_old_ids_resolve_through_several_merges(self):
        bank = self.two_halves()
        ids = [pattern.id for pattern in bank.patterns]
        for limit in (0.99, 0.95, 0.8, -1.0):
            bank.consolidate(limit)
        assert bank.pattern_count == 1
        assert {bank.get_pattern(i).id for i in ids} == {bank.patterns[0].id}

    def test_amending_after_a_merge_corrects_the_survivor(self):
        bank = self.two_halves()
        bank.consolidate(-1.0)
        first = topics(400, 4, noise=0.6)[1]
        bank.add_trajectory(replace(first, final_quality=None, supersedes=first))
        known = [t.quality for t in bank.trajectories_of(bank.patterns[0].id) if t.quality is not None]
        assert bank.patterns[0].avg_quality == pytest.approx(np.mean(known), abs=1e-15)

    def test_prune_drops_the_poor_and_unused(self):
        poor = [replace(t, final_quality=0.1 if t.id % 5 < 2 else 0.9) for t in topics()]
        bank = learned(poor)
        used = bank.find_similar(poor[0].query_embedding, 1, now=0.0)[0].pattern.id
        assert bank.prune(min_accesses=1) == 1
        assert bank.get_pattern(used) is not None
        assert bank.prune(min_accesses=2) == 1
        assert bank.get_pattern(used) is None
        assert bank._ring.members(used) == ()
        assert bank.prune() == 0

    def test_what_was_pruned_does_not_come_back_from_the_same_data(self):
        bank = learned()
        assert bank.prune(max_patterns=2) == 3
        bank.add_trajectory(topics(1, start=5000)[0])
        extract(bank)
        assert bank.pattern_count == 2
        assert bank.waiting_count <= 1

    def test_the_least_valuable_go_first(self):
        bank = learned()
        kept = bank.find_similar(topics()[0].query_embedding, 1)[0].pattern.id
        bank.prune(max_patterns=1)
        assert [pattern.id for pattern in bank.patterns] == [kept]

    def test_decay(self):
        bank = learned()
        bank.decay(0.5)
        assert [pattern.total_weight for pattern in bank.patterns] == [20.0] * 5
        assert sizes(bank) == [40] * 5

    def test_clear_keeps_ids_unique(self):
        bank = learned()
        bank.clear()
        assert (bank.trajectory_count, bank.pattern_count, bank.hidden_dim) == (0, 0, None)
        for trajectory in topics(d=8):
            bank.add_trajectory(trajectory)
        extract(bank)
        assert min(pattern.id for pattern in bank.patterns) >= 5

    def test_bad_arguments_change_nothing(self):
        bank = learned()
        before = digest(bank.state())
        calls = (
            lambda: bank.consolidate(1.5),
            lambda: bank.consolidate(float("nan")),
            lambda: bank.prune(min_quality=2.0),
            lambda: bank.prune(max_patterns=-1),
            lambda: bank.decay(-0.1),
            lambda: bank.decay(float("nan")),
            lambda: bank.find_similar(np.full(32, np.nan)),
            lambda: bank.find_similar(np.ones(32), 0),
            lambda: bank.find_similar(np.ones(31)),
            lambda: bank.find_similar(np.ones(32), now=float("inf")),
            lambda: bank.find_similar(np.ones(32), min_confidence=-1.0),
            lambda: bank.extract_patterns(now=float("nan"), rng=np.random.default_rng(0)),
            lambda: bank.add_trajectory("no trajectory"),
            lambda: bank.add_trajectory(QueryTrajectory(9999, np.ones(31))),
        )
        for call in calls:
            with pytest.raises(InvalidValue):
                call()
        assert digest(bank.state()) == before
        with pytest.raises(DimensionMismatch):
            ReasoningBank(hidden_dim=3).add_trajectory(QueryTrajectory(0, np.ones(4)))


class TestState:
    def round_trip(self, bank: ReasoningBank, tmp_path) -> ReasoningBank:
        write_state(tmp_path / "bank", "bank", bank.state())
        return ReasoningBank.from_state(read_state(tmp_path / "bank", "bank"))

    def test_a_bank_comes_back_bit_for_bit(self, tmp_path):
        bank = learned(topics(noise=0.6), consolidation_similarity=0.999, capacity=150, min_cohesion=0.1)
        bank.find_similar(topics()[0].query_embedding, 3, now=4.5)
        bank.consolidate(0.9)
        bank.prune(max_patterns=4)
        bank.decay(0.7)
        for trajectory in topics(60, noise=0.6, seed=4, start=800):
            bank.add_trajectory(trajectory)
        again = self.round_trip(bank, tmp_path)
        assert digest(again.state()) == digest(bank.state())
        assert again.config == bank.config
        for both in (bank, again):
            both.add_trajectory(topics(1, start=7000)[0])
            extract(both, seed=3)
            both.find_similar(np.ones(32), 2, now=9.0)
        assert digest(again.state()) == digest(bank.state())
        assert [p.id for p in again.patterns] == [p.id for p in bank.patterns]

    def test_an_empty_bank_comes_back(self, tmp_path):
        for bank in (ReasoningBank(), ReasoningBank(hidden_dim=7), filled(topics(3))):
            again = self.round_trip(bank, tmp_path)
            assert digest(again.state()) == digest(bank.state())
            assert again.hidden_dim == bank.hidden_dim

    def test_an_amendment_is_still_exact_after_a_restart(self, tmp_path):
        trajectories = topics()
        again = self.round_trip(learned(trajectories), tmp_path)
        again.add_trajectory(replace(trajectories[1], final_quality=None, supersedes=trajectories[1]))
        changed = [replace(t, final_quality=None) if t.id == 1 else t for t in trajectories]
        assert [p.avg_quality for p in again.patterns] == [p.avg_quality for p in learned(changed).patterns]

    @pytest.mark.parametrize("part", ["patterns/outcome_totals", "patterns/centroid", "config/capacity", "ring/owners"])
    def test_a_damaged_state_is_refused(self, part):
        def damage(tree: State, path: list[str]) -> State:
            values = dict(tree.items())
            values[path[0]] = damage(tree.child(path[0]), path[1:]) if len(path) > 1 else ["nonsense"]
            return State(values)

        with pytest.raises(StoreError):
            ReasoningBank.from_state(damage(learned().state(), part.split("/")))


class TestCopy:
    def test_a_copy_shares_what_never_changes(self):
        bank = learned()
        twin = bank.copy()
        assert digest(twin.state()) == digest(bank.state())
        assert twin._catalog.index is bank._catalog.index
        assert all(twin.held(one.id) is one for one in bank._ring.trajectories)

    def test_what_a_copy_learns_of_a_pattern_stays_with_the_copy(self):
        bank, given = learned(), topics()
        twin = bank.copy()
        for earlier in given[:100:5]:
            twin.add_trajectory(replace(earlier, final_quality=0.0, supersedes=earlier))
        for late in topics(20, start=900, seed=7):
            twin.add_trajectory(late)
        extract(twin)
        before = learned()
        assert [bank.trajectories_of(p.id) == twin.trajectories_of(p.id) for p in bank.patterns] == [False] * 5
        for pattern in bank.patterns:
            assert [t.id for t in bank.trajectories_of(pattern.id)] == [
                t.id for t in before.trajectories_of(pattern.id)
            ]
        for least in (0.6, 0.65, 0.7):
            found = [len(one.search(given[0].query_embedding, 5, min_confidence=least)) for one in (bank, before)]
            assert found[0] == found[1]

    def test_accesses_counted_elsewhere_are_taken_over_once(self):
        bank = learned()
        bank.find_similar(topics()[0].query_embedding, 2, now=1.0)
        since, later = bank.copy(), bank.copy()
        later.add_trajectory(topics(1, start=500)[0])
        extract(later)
        bank.find_similar(topics()[0].query_embedding, 2, now=7.0)
        bank.find_similar(topics()[1].query_embedding, 1, now=6.0)
        later.take_accesses(since, bank)
        assert [(p.access_count, p.last_accessed) for p in later.patterns] == [
            (p.access_count, p.last_accessed) for p in bank.patterns
        ]
        later.take_accesses(bank, bank)
        assert sum(p.access_count for p in later.patterns) == 5

    def test_accesses_go_with_a_pattern_that_was_merged_and_are_gone_with_one_that_was_pruned(self):
        bank = learned()
        since, merged, pruned = bank.copy(), bank.copy(), bank.copy()
        merged.consolidate(-1.0)
        pruned.prune(max_patterns=1)
        bank.find_similar(topics()[0].query_embedding, 5, now=2.0)
        bank.find_similar(topics()[0].query_embedding, 5, now=3.0)
        for twin in (merged, pruned):
            twin.take_accesses(since, bank)
        assert [(p.access_count, p.last_accessed) for p in merged.patterns] == [(10, 3.0)]
        assert [(p.access_count, p.last_accessed) for p in pruned.patterns] == [(2, 3.0)]
