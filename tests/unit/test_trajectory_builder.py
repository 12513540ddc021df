"""TrajectoryBuilder and OpenTrajectories: one request while it happens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sona.errors import ConfigError, DimensionMismatch, InvalidValue, StateError
from sona.trajectory import OpenTrajectories, TrajectoryBuilder


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_request_becomes_its_trajectory():
    clock = Clock()
    builder = TrajectoryBuilder(
        3,
        [1.0, 0.0],
        clock=clock,
        alternatives=True,
        model_route="small",
        context_ids=["m1"],
        subject="u1",
        parameters={"ef": 40.0},
    )
    clock.now += 0.25
    builder.add_step(np.array([0, 1]), [0.5, 0.5], 0.75, ref="doc")
    clock.now += 0.25
    assert (builder.step_count, builder.elapsed, builder.is_finished) == (1, 0.5, False)
    made = builder.build(0.9)
    assert builder.is_finished
    assert (made.id, made.final_quality, made.latency_us, made.alternatives) == (3, 0.9, 500_000.0, True)
    assert (made.model_route, made.context_ids, made.subject, dict(made.parameters)) == (
        "small",
        ("m1",),
        "u1",
        {"ef": 40.0},
    )
    step = made.steps[0]
    assert (step.activations.tolist(), step.attention_weights.tolist()) == ([0.0, 1.0], [0.5, 0.5])
    assert (step.reward, step.timestamp, step.ref, step.activations.dtype) == (0.75, 0.25, "doc", np.float32)


def test_a_trajectory_does_not_change_with_the_callers_arrays():
    query, tried, weights = np.ones(2, np.float32), np.ones(2, np.float32), np.ones(1, np.float32)
    builder = TrajectoryBuilder(1, query)
    builder.add_step(tried, weights)
    for array in (query, tried, weights):
        array[:] = 7.0
    made = builder.build()
    assert made.query_embedding.tolist() == made.steps[0].activations.tolist() == [1.0, 1.0]
    assert made.steps[0].attention_weights.tolist() == [1.0]


def test_read_only_vectors_are_shared_not_copied():
    shared = np.ones(2, np.float32)
    shared.flags.writeable = False
    builder = TrajectoryBuilder(1, shared)
    builder.add_step(shared)
    made = builder.build()
    assert made.query_embedding is shared
    assert made.steps[0].activations is shared


@pytest.mark.parametrize("end", [lambda b: b.build(), lambda b: b.abandon()])
def test_a_finished_builder_takes_nothing_more(end):
    builder = TrajectoryBuilder(1, [1.0])
    end(builder)
    for use in (lambda: builder.add_step([1.0]), builder.build, lambda: builder.finish(1.0)):
        with pytest.raises(StateError):
            use()
    assert builder.step_count == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"activations": [1.0]}, DimensionMismatch),
        ({"activations": [np.nan, 0.0]}, InvalidValue),
        ({"activations": [[1.0, 2.0]]}, InvalidValue),
        ({"activations": ["a", "b"]}, InvalidValue),
        ({"activations": [1.0, 2.0], "reward": 1.5}, InvalidValue),
        ({"activations": [1.0, 2.0], "reward": np.nan}, InvalidValue),
        ({"activations": [1.0, 2.0], "attention_weights": [np.inf]}, InvalidValue),
        ({"activations": [1.0, 2.0], "ref": 5}, InvalidValue),
    ],
)
def test_a_bad_step_is_refused_and_nothing_added(arguments, error):
    builder = TrajectoryBuilder(1, [1.0, 0.0])
    with pytest.raises(error):
        builder.add_step(**arguments)
    assert builder.step_count == 0
    builder.add_step([1.0, 2.0])


@pytest.mark.parametrize("names", [{"model_route": 3}, {"subject": 3}, {"context_ids": ["a", None]}])
def test_names_that_are_no_text_are_refused_at_the_beginning(names):
    with pytest.raises(InvalidValue):
        TrajectoryBuilder(1, [1.0], **names)


@pytest.mark.parametrize("quality", [-0.1, 5, np.nan, "good"])
def test_a_bad_quality_is_refused_and_the_builder_stays_open(quality):
    builder = TrajectoryBuilder(1, [1.0])
    for use in (builder.build, builder.finish):
        with pytest.raises(InvalidValue):
            use(quality)
    assert builder.build(1.0).final_quality == 1.0


@pytest.mark.parametrize(("id_", "query"), [(-1, [1.0]), (True, [1.0]), (1, []), (1, [np.inf]), (2**63, [1.0])])
def test_a_bad_beginning_is_refused(id_, query):
    with pytest.raises(InvalidValue):
        TrajectoryBuilder(id_, query)


def test_a_with_block_reports_its_outcome():
    seen: list[tuple[float | None, bool, bool]] = []
    with TrajectoryBuilder(1, [1.0], on_exit=lambda b, failed: seen.append((b.quality, failed, b.is_finished))) as b:
        b.finish(0.2)
        b.finish(0.7)
    assert seen == [(0.7, False, False)]
    assert b.build().final_quality == 0.7


def test_a_failed_with_block_abandons_and_lets_the_exception_go_on():
    seen: list[tuple[bool, bool]] = []
    with (
        pytest.raises(KeyError),
        TrajectoryBuilder(1, [1.0], on_exit=lambda b, failed: seen.append((failed, b.is_finished))),
    ):
        raise KeyError("boom")
    assert seen == [(True, True)]


def test_the_registry_gives_a_builder_back_once():
    registry = OpenTrajectories(10.0, 5)
    builder = TrajectoryBuilder(4, [1.0])
    registry.add(builder, 0.0)
    with pytest.raises(StateError):
        registry.add(TrajectoryBuilder(4, [1.0]), 0.0)
    assert len(registry) == 1
    assert registry.pop(4) is builder
    assert registry.pop(4) is None
    assert (len(registry), registry.expired_count, builder.is_finished) == (0, 0, False)


def test_forgotten_builders_expire_and_are_counted():
    registry = OpenTrajectories(10.0, 5)
    builders = [TrajectoryBuilder(n, [1.0]) for n in range(3)]
    for builder, now in zip(builders, (0.0, 5.0, 9.0), strict=True):
        registry.add(builder, now)
    assert registry.expire(10.0) == 0
    assert registry.expire(15.5) == 2
    assert [b.is_finished for b in builders] == [True, True, False]
    assert (registry.expired_count, len(registry)) == (2, 1)


def test_a_built_builder_that_was_left_behind_is_not_counted_as_expired():
    registry = OpenTrajectories(1.0, 5)
    builder = TrajectoryBuilder(1, [1.0])
    registry.add(builder, 0.0)
    builder.build()
    assert (registry.expire(9.0), registry.expired_count, len(registry)) == (0, 0, 0)


def test_when_full_the_oldest_makes_room():
    registry = OpenTrajectories(10.0, 2)
    builders = [TrajectoryBuilder(n, [1.0]) for n in range(3)]
    for builder in builders:
        registry.add(builder, 0.0)
    assert [b.is_finished for b in builders] == [True, False, False]
    assert (registry.expired_count, len(registry)) == (1, 2)


def test_a_clock_that_steps_back_is_taken_as_standing_still():
    registry = OpenTrajectories(10.0, 5)
    for number, now in enumerate((100.0, 1.0, 50.0)):
        registry.add(TrajectoryBuilder(number, [1.0]), now)
    registry.pop(0)
    assert registry.expire(110.0) == 0
    assert registry.expire(110.5) == 2


@pytest.mark.parametrize(("ttl_s", "capacity"), [(0.0, 1), (np.nan, 1), (1.0, 0)])
def test_the_registry_refuses_bad_settings(ttl_s, capacity):
    with pytest.raises(ConfigError):
        OpenTrajectories(ttl_s, capacity)


def test_the_registry_is_right_under_eight_threads():
    registry = OpenTrajectories(1e9, 1000)

    def work(first: int) -> int:
        popped = 0
        for number in range(first, first + 2000):
            registry.add(TrajectoryBuilder(number, [1.0]), 0.0)
            if number % 2:
                popped += registry.pop(number) is not None
        return popped

    with ThreadPoolExecutor(8) as pool:
        popped = sum(pool.map(work, range(0, 80_000, 10_000)))
    assert popped + registry.expired_count + len(registry) == 16_000
