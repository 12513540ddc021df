"""Laws of the schedule, over whatever ticks, outcomes and clocks hypothesis thinks of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sona.config import ScheduleConfig
from sona.loops.schedule import LOOPS, Schedule
from sona.state import decode_state, digest, encode_state

HOUR = 3600

intervals = st.sampled_from([0, 1, 60, 1000, HOUR, 90_000])
hours = st.none() | st.tuples(st.integers(0, 24), st.integers(0, 24)).filter(lambda pair: pair[0] != pair[1])
configs = st.builds(
    lambda mode, quiet_hours, retry_s, times: ScheduleConfig(
        background=mode, deep=mode, quiet_hours=quiet_hours, retry_s=retry_s, max_retry_s=retry_s * times
    ),
    st.sampled_from(["on", "on", "forced", "off"]),
    hours,
    st.sampled_from([1, 60, 5000]),
    st.sampled_from([1, 3, 60]),
)
starts = st.integers(-(10**6), 2 * 10**9)
loops = st.sampled_from(["background", "deep"])


@dataclass(frozen=True)
class Step:
    """What a tick meets: how long after the one before, whether there is enough, and how a run would end."""

    after_s: int
    has_enough: bool
    ending: str
    takes_s: int


endings = st.sampled_from(["done", "done", "failed", "skipped", "killed"])
pauses = st.sampled_from([0, 1, 59, 60, 61, 900, HOUR, 40_000, 100_000]) | st.integers(0, 5000)
steps = st.builds(Step, pauses, st.booleans(), endings, st.sampled_from([0, 1, 500]))
jumps = st.builds(
    Step, pauses | st.integers(-(10**6), 10**6), st.just(True), st.sampled_from(["done", "failed"]), st.just(0)
)


@dataclass(frozen=True)
class Run:
    """A run as it was: when it began and was over, and how."""

    began: int
    over: int
    ending: str


def run(schedule: Schedule, loop: str, now: int, step: Step) -> Run:
    over = now if step.ending == "killed" else now + step.takes_s  # nobody knows when it was killed
    schedule.began(loop, now)
    if step.ending == "done":
        schedule.ended(loop, over)
    elif step.ending == "failed":
        schedule.failed(loop, over, "broken")
    elif step.ending == "skipped":
        schedule.skipped(loop, over, "nothing new")
    return Run(now, over, step.ending)


def in_a_row(runs: list[Run]) -> int:
    """Return how many runs failed since the last one that was done."""
    since = [one.ending for one in runs]
    since = since[len(since) - since[::-1].index("done") :] if "done" in since else since
    return since.count("failed") + since.count("killed")


def is_open(config: ScheduleConfig, loop: str, now: int) -> bool:
    if loop != "deep" or config.quiet_hours is None:
        return True
    first, last = config.quiet_hours
    hour = datetime.fromtimestamp(now, UTC).hour
    return hour in {(first + step) % 24 for step in range((last - first) % 24 or 24)}


def expected(config: ScheduleConfig, loop: str, interval_s: int, start: int, runs: list[Run], now: int) -> bool:
    """Return whether the loop may begin, told in another way: from all runs there ever were."""
    anchor = max([start, *(one.began for one in runs if one.ending == "done")])
    may_be = now >= anchor + interval_s and is_open(config, loop, now)
    if runs:
        last, limit = runs[-1], config.max_retry_s
        pause_s = {
            "done": 0,
            "failed": min(config.retry_s * 2 ** max(in_a_row(runs) - 1, 0), limit),
            "skipped": min(interval_s, limit),
            "killed": limit,
        }[last.ending]
        may_be = may_be and now >= last.over + pause_s
    return may_be


@given(configs, loops, intervals, starts, st.lists(steps, max_size=40))
def test_a_loop_is_due_exactly_when_its_runs_so_far_say_so(config, loop, interval_s, start, ticks):
    schedule, now, runs = Schedule(config, interval_s, interval_s), start, []
    schedule.start(start)
    for tick in ticks:
        now += tick.after_s
        may_be = expected(config, loop, interval_s, start, runs, now)
        mode = getattr(config, loop)
        is_due = schedule.is_due(loop, now, has_enough=tick.has_enough)
        assert is_due is (may_be and mode != "off" and (tick.has_enough or mode == "forced"))
        next_run = schedule.status(loop, now).next_run
        assert (next_run is None) is (mode == "off")
        if next_run is not None:
            assert (next_run <= now) is may_be
            assert expected(config, loop, interval_s, start, runs, next_run)
            assert not expected(config, loop, interval_s, start, runs, math.ceil(next_run) - 1) or next_run == now
        if is_due:
            runs.append(run(schedule, loop, now, tick))
            now = runs[-1].over
    status = schedule.status(loop, now)
    is_running = bool(runs) and runs[-1].ending == "killed"
    assert status.is_running is is_running
    assert len(runs) == status.runs + status.skips + status.failures + is_running
    assert status.runs == sum(one.ending == "done" for one in runs)
    assert status.skips == sum(one.ending == "skipped" for one in runs)
    assert status.failures_in_a_row == in_a_row(runs) - is_running
    assert status.last_run == (runs[-1].began if runs else None)


@given(configs, loops, intervals, starts, st.lists(steps, max_size=40))
def test_intervals_pauses_and_quiet_hours_are_kept(config, loop, interval_s, start, ticks):
    schedule, now, runs = Schedule(config, interval_s, interval_s), start, []
    schedule.start(start)
    for tick in ticks:
        now += tick.after_s
        if schedule.is_due(loop, now, has_enough=tick.has_enough):
            runs.append(run(schedule, loop, now, tick))
            now = runs[-1].over
    assert all(is_open(config, loop, one.began) for one in runs)
    done = [one.began for one in runs if one.ending == "done"]
    assert all(later - earlier >= interval_s for earlier, later in pairwise([start, *done]))
    for earlier, later in pairwise(runs):
        assert later.began - earlier.over >= {"failed": config.retry_s, "killed": config.max_retry_s}.get(
            earlier.ending, 0
        )


@given(st.integers(0, 5000), st.integers(1, 2000), st.integers(0, 300_000), starts)
def test_ticks_at_even_pace_run_as_often_as_they_allow_and_never_more(interval_s, pace_s, length_s, start):
    schedule, count = Schedule(ScheduleConfig(), interval_s, interval_s), 0
    for now in range(start, start + min(length_s, 400 * pace_s) + 1, pace_s):
        schedule.start(now)
        if schedule.is_due("background", now, has_enough=True):
            run(schedule, "background", now, Step(0, True, "done", 0))
            count += 1
    ticks = min(length_s, 400 * pace_s) // pace_s  # after the first
    apart = -(-interval_s // pace_s)  # ticks from one run to the next
    assert count == (ticks // apart if apart else ticks + 1)


@given(st.sampled_from([1, 60, 5000]), st.sampled_from([1, 3, 60]), intervals, starts, st.lists(jumps, max_size=40))
def test_a_clock_that_goes_back_makes_no_storm_and_stops_nothing(retry_s, times, interval_s, start, ticks):
    config = ScheduleConfig(retry_s=retry_s, max_retry_s=retry_s * times)
    schedule, now, forward_s, leaps, runs = Schedule(config, interval_s, interval_s), start, 0, 0, []
    schedule.start(start)
    for tick in ticks:
        now += tick.after_s
        forward_s += max(tick.after_s, 0)
        if schedule.is_due("background", now, has_enough=True):
            leaps += now < (runs[-1].began if runs else start)
            runs.append(run(schedule, "background", now, tick))
    if interval_s:
        assert sum(one.ending == "done" for one in runs) <= forward_s // interval_s + leaps
        assert len(runs) <= forward_s // min(interval_s, retry_s) + leaps
    assert leaps <= sum(tick.after_s < 0 for tick in ticks)
    # By then it is due again, wherever the clock stands.
    assert schedule.is_due("background", now + interval_s + 2 * config.max_retry_s, has_enough=True)


@given(configs, intervals, intervals, starts, st.lists(st.tuples(loops, steps), max_size=20), steps)
def test_a_schedule_comes_back_bit_for_bit_and_goes_on_alike(config, background_s, deep_s, start, ticks, further):
    schedule, now = Schedule(config, background_s, deep_s), start + 0.1
    for loop, tick in ticks:
        now += tick.after_s
        schedule.start(now)
        run(schedule, loop, now, tick)
        schedule.ran("instant", now)
    content = encode_state("schedule", schedule.state())
    again = Schedule.from_state(decode_state(content, "schedule", "bytes"), config, background_s, deep_s)
    assert digest(again.state()) == digest(schedule.state())
    for made in (schedule, again):
        made.start(now)
        run(made, "deep", now + further.after_s, further)
    assert digest(again.state()) == digest(schedule.state())
    for loop in LOOPS:
        assert again.status(loop, now) == schedule.status(loop, now)
