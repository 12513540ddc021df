"""What a quality says: its parts, its scale, and what is no quality."""

import math

import pytest

from sona.errors import ConfigError, InvalidValue
from sona.tuner.dag.quality import AgainstDefault, WeightedQuality, judged
from sona.tuner.execution import ExecutionMetrics


def test_the_specified_weights_are_those_of_latency_memory_and_cache():
    quality = WeightedQuality()
    assert quality(ExecutionMetrics(latency_us=0.0), None) == 1.0
    assert quality(ExecutionMetrics(latency_us=1e30), None) == pytest.approx(0.5, abs=1e-9)
    assert quality(ExecutionMetrics(latency_us=0.0, cache_hit_rate=0.0), None) == pytest.approx(0.8)
    assert quality(ExecutionMetrics(latency_us=0.0, memory_bytes=10**30), None) == pytest.approx(0.7, abs=1e-9)


def test_each_scale_is_worth_one_half_where_it_says():
    quality = WeightedQuality(half_latency_us=2e3, half_memory_bytes=1e6)
    assert quality(ExecutionMetrics(latency_us=2e3), None) == pytest.approx(0.75)
    assert quality(ExecutionMetrics(latency_us=0.0, memory_bytes=10**6), None) == pytest.approx(0.85)


@pytest.mark.parametrize(("quick_us", "slow_us"), [(1e2, 1e3), (1e3, 1e4), (1e4, 1e5), (1e5, 1e6)])
def test_it_tells_every_order_of_time_from_the_next(quick_us, slow_us):
    quick, slow = (WeightedQuality()(ExecutionMetrics(latency_us=t), None) for t in (quick_us, slow_us))
    assert quick - slow > 0.05


def test_against_the_default_says_which_is_quicker_and_nothing_without_one():
    against = AgainstDefault()
    assert against(ExecutionMetrics(latency_us=4e3), 1e3) == pytest.approx(0.2)
    assert against(ExecutionMetrics(latency_us=4e6), 1e6) == pytest.approx(0.2)
    assert against(ExecutionMetrics(latency_us=4e3), None) == 0.5
    assert against(ExecutionMetrics(latency_us=0.0), 0.0) == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_an_objective_that_gives_no_quality_is_refused(value):
    with pytest.raises(InvalidValue, match="quality from 0 to 1"):
        judged(lambda metrics, baseline_us: value, ExecutionMetrics(latency_us=1.0), None)


@pytest.mark.parametrize(
    "settings",
    [{"latency": 0.6}, {"latency": -0.1, "memory": 0.9}, {"half_latency_us": 0.0}, {"half_memory_bytes": math.nan}],
)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ConfigError):
        WeightedQuality(**settings)
