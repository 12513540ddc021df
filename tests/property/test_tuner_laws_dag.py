"""Laws of what is learned from plans, over whatever executions hypothesis thinks of."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.config.tuner import DagConfig
from sona.state import digest
from sona.tuner.dag.bank import DagReasoningBank
from sona.tuner.dag.outcomes import Outcome, choice_of, optimal_settings, tried_settings
from sona.tuner.dag.pattern import DagPattern
from sona.tuner.dag.quality import AgainstDefault, WeightedQuality
from sona.tuner.dag.trajectories import DagTrajectory, DagTrajectoryBuffer
from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams

D = 16
CONFIG = DagConfig(hidden_dim=D, capacity=4, shift_history=20)
shares = st.floats(0.0, 1.0)
times = st.floats(0.0, 1e9)
metrics = st.builds(
    ExecutionMetrics, times, times, times, st.integers(0, 10**9), st.integers(0, 10**12), shares, shares
)
numbers = st.none() | st.integers(1, 1000)
custom = st.dictionaries(
    st.sampled_from(["work_mem", "enable_sort", "random_page_cost"]), st.sampled_from(["off", "64MB", "4096", "1.1"])
)
params = st.builds(ExecutionParams, numbers, numbers, numbers, st.none() | st.sampled_from(list(AttentionType)), custom)
outcomes = st.builds(Outcome, params, shares, st.none() | st.floats(-1.0, 1.0), times)
vectors = st.integers(0, 11).map(
    lambda n: np.random.default_rng(n % 6).normal(size=D).astype(np.float32) + np.float32(0.05 * (n // 6))
)
trajectories = st.builds(
    DagTrajectory,
    st.integers(0, 2**63 - 1),
    vectors,
    metrics,
    params,
    st.text(),
    st.text(),
    baseline_us=st.none() | times,
)


def judge(one):
    return Outcome(one.params, one.compute_quality(), one.compute_gain(), one.timestamp)


def learned(runs, seed=0, config=CONFIG):
    bank = DagReasoningBank(config)
    bank.learn(runs, judge, rng=np.random.default_rng(seed))
    return bank


@given(metrics, st.none() | times)
def test_a_quality_is_a_share_whatever_was_measured(one, baseline_us):
    for objective in (WeightedQuality(), AgainstDefault()):
        assert 0.0 <= objective(one, baseline_us) <= 1.0


@given(metrics, times, times)
def test_more_time_is_never_better(one, more, baseline_us):
    slower = replace(one, latency_us=one.latency_us + more)
    for objective in (WeightedQuality(), AgainstDefault()):
        assert objective(slower, baseline_us) <= objective(one, baseline_us)


@given(metrics, st.integers(0, 10**12), shares)
def test_more_memory_and_fewer_hits_are_never_better(one, more, share):
    quality = WeightedQuality()
    assert quality(replace(one, memory_bytes=one.memory_bytes + more), None) <= quality(one, None)
    assert quality(replace(one, cache_hit_rate=one.cache_hit_rate * share), None) <= quality(one, None)


@given(trajectories)
def test_an_execution_comes_back_bit_for_bit(one):
    again = DagTrajectory.from_query_trajectory(one.to_query_trajectory())
    assert again.plan_embedding.tobytes() == one.plan_embedding.tobytes()
    names = [name for name in DagTrajectory.__slots__ if name != "plan_embedding"]
    assert all(getattr(again, name) == getattr(one, name) for name in names)


@given(st.lists(trajectories, max_size=8), st.integers(1, 5))
def test_a_buffer_counts_everything_once(runs, capacity):
    buffer = DagTrajectoryBuffer(capacity)
    taken = sum(buffer.record(one) for one in runs)
    assert (taken, buffer.dropped_count, buffer.total_seen) == (min(len(runs), capacity), len(runs) - taken, len(runs))
    assert [one.id for one in buffer.drain()] == [one.id for one in runs[:taken]]


@given(st.lists(outcomes, min_size=1, max_size=30))
def test_confidence_is_the_formula_for_every_choice(kept):
    found = tried_settings(kept)
    assert sum(one.count for one in found) == len(kept)
    for one in found:
        same = [outcome.quality for outcome in kept if choice_of(outcome.params) == choice_of(one.params)]
        assert one.confidence == pytest.approx((1 - statistics.pstdev(same)) * (1 - 1 / (len(same) + 1)), abs=1e-7)
        assert 0.0 <= one.confidence < 1.0


@given(st.lists(outcomes, min_size=1, max_size=30))
def test_what_is_recommended_has_run_and_gained_or_is_the_default(kept):
    best = optimal_settings(kept)
    if best.params.is_default:
        assert best.sure_gain == 0.0
    else:
        assert best.sure_gain > 0.0
        assert choice_of(best.params) in {choice_of(one.params) for one in kept}
    assert best.sure_gain == max([0.0, *(one.sure_gain for one in tried_settings(kept))])


@given(st.lists(st.builds(Outcome, params, shares, st.floats(-1.0, 0.0)), min_size=1))
def test_settings_that_never_gained_are_never_recommended(kept):
    assert optimal_settings(kept).params.is_default


@given(st.lists(outcomes, min_size=1, max_size=12), st.lists(outcomes, min_size=1, max_size=12))
def test_merging_keeps_every_count_whichever_takes_in_the_other(first, second):
    def pattern(number, kept):
        runs = [DagTrajectory(row, np.ones(D), ExecutionMetrics(1.0)) for row in range(len(kept))]
        return DagPattern.of(number, runs, kept)

    merged = [
        one.merge(other)
        for one, other in ((pattern(0, first), pattern(1, second)), (pattern(1, second), pattern(0, first)))
    ]
    for one in merged:
        assert one.learned.cluster_size == len(one.outcomes) == len(first) + len(second)
        assert [kept.timestamp for kept in one.outcomes] == sorted(kept.timestamp for kept in (*first, *second))
    assert merged[0].learned.avg_quality == pytest.approx(merged[1].learned.avg_quality)


@settings(max_examples=50)
@given(st.lists(trajectories, max_size=25), st.integers(0, 3))
def test_the_bank_keeps_its_capacity_and_the_most_certain(runs, seed):
    everything = learned(runs, seed, replace(CONFIG, capacity=1000))
    bank = learned(runs, seed)
    assert len(bank) == min(len(everything), CONFIG.capacity)
    kept = {one.id for one in bank.patterns}
    dropped = [one.confidence for one in everything.patterns if one.id not in kept]
    assert max(dropped, default=0.0) <= min((one.confidence for one in bank.patterns), default=1.0)
    assert sum(one.learned.cluster_size for one in everything.patterns) == len(runs)


@settings(max_examples=50)
@given(st.lists(trajectories, min_size=1, max_size=25), st.floats(-1.0, 1.0))
def test_consolidating_keeps_every_execution_and_twice_is_once(runs, similarity):
    bank = learned(runs, config=replace(CONFIG, capacity=1000))
    count = len(bank)
    merged = bank.consolidate(similarity)
    assert len(bank) == count - merged
    assert sum(one.learned.cluster_size for one in bank.patterns) == len(runs)
    before = digest(bank.state())
    assert bank.consolidate(similarity) == 0
    assert digest(bank.state()) == before


@settings(max_examples=50)
@given(st.lists(trajectories, max_size=25), st.integers(0, 3))
def test_the_same_seed_gives_the_same_bank_and_it_comes_back_bit_for_bit(runs, seed):
    bank = learned(runs, seed)
    assert digest(bank.state()) == digest(learned(runs, seed).state())
    again = DagReasoningBank.from_state(bank.state(), CONFIG)
    assert digest(again.state()) == digest(bank.state())
    assert [one.params for one in again.patterns] == [one.params for one in bank.patterns]
    for one, other in zip(again.patterns, bank.patterns, strict=True):
        assert (one.confidence, one.learned.centroid.tobytes()) == (other.confidence, other.learned.centroid.tobytes())
