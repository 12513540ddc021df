"""Schedule: what is due, from what began and how it ended."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from sona.config import ScheduleConfig
from sona.errors import ConfigError, InvalidValue, StateError, StoreError
from sona.loops.schedule import LOOPS, Schedule
from sona.state import State, digest

HOUR, DAY, WEEK = 3600.0, 86_400.0, 604_800.0
MONDAY = datetime(2024, 1, 1, tzinfo=UTC).timestamp()


def schedule(background_interval_s: float = HOUR, deep_interval_s: float = WEEK, **settings) -> Schedule:
    return Schedule(ScheduleConfig(**settings), background_interval_s, deep_interval_s)


def started(background_interval_s: float = HOUR, deep_interval_s: float = WEEK, at=0.0, **settings) -> Schedule:
    made = schedule(background_interval_s, deep_interval_s, **settings)
    made.start(at)
    return made


def is_due(made: Schedule, now: float, loop: str = "background", has_enough: bool = True) -> bool:
    return made.is_due(loop, now, has_enough=has_enough)


def next_run(made: Schedule, now: float, loop: str = "background") -> float | None:
    return made.status(loop, now).next_run


def run(made: Schedule, began: float, ended: float | None = None, loop: str = "background") -> None:
    made.began(loop, began)
    made.ended(loop, began if ended is None else ended)


# -- intervals -----------------------------------------------------------------------------------------------------


def test_nothing_is_due_before_the_first_tick_and_the_interval_begins_with_it():
    made = schedule()
    assert not made.is_started
    assert not is_due(made, 1e9)
    assert next_run(made, 1e9) is None
    made.start(100.0)
    made.start(2000.0)
    assert made.is_started
    assert (is_due(made, 3699.0), is_due(made, 3700.0), next_run(made, 200.0)) == (False, True, 3700.0)


def test_the_interval_counts_from_beginning_to_beginning():
    made = started()
    run(made, 4000.0, 4500.0)
    assert (is_due(made, 7599.0), is_due(made, 7600.0), next_run(made, 5000.0)) == (False, True, 7600.0)
    run(made, 8000.0, 20_000.0)  # longer than the interval
    assert is_due(made, 20_000.0)


def test_each_loop_has_an_interval_of_its_own():
    made = started()
    run(made, HOUR)
    assert (next_run(made, HOUR, "background"), next_run(made, HOUR, "deep")) == (2 * HOUR, WEEK)
    assert (is_due(made, WEEK - 1, "deep"), is_due(made, WEEK, "deep")) == (False, True)


def test_with_an_interval_of_zero_every_tick_is_due_also_when_the_clock_goes_back():
    made = started(0.0)
    for now in (0.0, 0.0, 5.0, 4.0, -1e6, 1e6):
        assert is_due(made, now)
        run(made, now)


def test_an_interval_without_end_never_comes_around():
    made = started(math.inf, math.inf)
    run(made, 5.0)
    assert not is_due(made, 1e300)
    assert next_run(made, 10.0) is None
    assert Schedule.from_state(made.state(), made.config, HOUR, WEEK).is_due("background", 4000.0, has_enough=True)


def test_a_run_by_hand_before_the_first_tick_begins_the_interval_of_its_loop():
    made = schedule()
    run(made, 50.0)
    assert not made.is_started
    made.start(100.0)
    assert (next_run(made, 100.0), next_run(made, 100.0, "deep")) == (50.0 + HOUR, 100.0 + WEEK)


# -- modes ---------------------------------------------------------------------------------------------------------


def test_a_loop_that_is_off_is_never_due():
    made = started(instant="off", background="off", deep="off")
    assert not any(is_due(made, 1e9, loop) for loop in LOOPS)
    assert [made.status(loop, 1e9).next_run for loop in LOOPS] == [None] * 3


def test_a_loop_that_is_on_waits_for_enough_and_a_forced_one_does_not():
    made = started(background="on", deep="forced")
    assert (is_due(made, WEEK, has_enough=False), is_due(made, WEEK, "deep", has_enough=False)) == (False, True)
    assert not is_due(made, WEEK - 1, "deep", has_enough=False)
    assert is_due(made, WEEK)


def test_loop_a_runs_with_requests():
    made = schedule()
    assert is_due(made, 0.0, "instant")
    made.failed("instant", 1.0, "broken")
    assert is_due(made, 1.0, "instant")
    made.ran("instant", 3.0)
    made.ran("instant", 4.0)
    status = made.status("instant", 5.0)
    assert (status.runs, status.failures, status.failures_in_a_row) == (2, 1, 0)
    assert (status.last_run, status.last_duration_s, status.last_outcome, status.next_run) == (4.0, None, "done", None)


# -- what went before ----------------------------------------------------------------------------------------------


def test_a_status_tells_what_became_of_a_loop():
    made = started()
    empty = made.status("background", 0.0)
    assert (empty.runs, empty.last_run, empty.last_duration_s, empty.last_outcome) == (0, None, None, None)
    made.began("background", 3600.0)
    status = made.status("background", 3601.0)
    assert (status.is_running, status.runs, status.last_run, status.last_outcome) == (True, 0, 3600.0, None)
    made.ended("background", 3607.5, "rejected: it did worse")
    status = made.status("background", 3610.0)
    assert (status.name, status.mode, status.is_running, status.runs) == ("background", "on", False, 1)
    assert (status.last_run, status.last_duration_s) == (3600.0, 7.5)
    assert status.last_outcome == "rejected: it did worse"


def test_the_pause_after_failures_doubles_up_to_its_limit_and_a_success_ends_it():
    made, now, pauses = started(retry_s=60.0, max_retry_s=400.0), HOUR, []
    for _ in range(5):
        made.began("background", now)
        made.failed("background", now + 2.0, "no room")
        pauses.append(next_run(made, now + 2.0) - (now + 2.0))
        assert not is_due(made, now + 61.9)
        now = next_run(made, now)
        assert is_due(made, now)
    assert pauses == [60.0, 120.0, 240.0, 400.0, 400.0]
    status = made.status("background", now)
    assert (status.failures, status.failures_in_a_row, status.last_outcome) == (5, 5, "failed: no room")
    run(made, now)
    status = made.status("background", now)
    assert (status.runs, status.failures, status.failures_in_a_row, status.next_run) == (1, 5, 0, now + HOUR)
    made.began("background", now + HOUR)
    made.failed("background", now + HOUR, "no room")
    assert next_run(made, now + HOUR) == now + HOUR + 60.0


def test_a_pause_may_be_longer_than_the_interval():
    made = started(0.0, retry_s=60.0)
    made.failed("background", 10.0, "broken")
    assert (is_due(made, 69.0), is_due(made, 70.0)) == (False, True)


def test_a_thousand_failures_pause_no_longer_than_the_limit():
    made = started(0.0, retry_s=1e300, max_retry_s=math.inf)
    for _ in range(1200):
        made.failed("background", 0.0, "broken")
    assert math.isfinite(next_run(made, 0.0))
    assert Schedule.from_state(made.state(), made.config, 0.0, WEEK).status("background", 0.0).failures == 1200


def test_a_run_by_hand_that_failed_does_not_shorten_the_interval():
    made = started()
    run(made, HOUR)
    made.failed("background", HOUR + 10.0, "broken")
    assert next_run(made, HOUR + 10.0) == 2 * HOUR


def test_a_skip_begins_no_interval_and_no_storm():
    made = started(max_retry_s=HOUR, deep="forced")
    made.began("deep", WEEK)
    made.skipped("deep", WEEK + 1.0, "no memories")
    status = made.status("deep", WEEK + 2.0)
    assert (status.runs, status.skips, status.failures, status.last_outcome) == (0, 1, 0, "skipped: no memories")
    assert (status.last_run, status.last_duration_s, status.next_run) == (WEEK, 1.0, WEEK + 1.0 + HOUR)
    made.skipped("background", WEEK, "another process leads")  # without having begun
    assert (next_run(made, WEEK), made.status("background", WEEK).last_duration_s) == (WEEK + HOUR, None)


def test_a_skip_forgives_no_failure():
    made = started()
    made.failed("background", HOUR, "broken")
    made.skipped("background", HOUR + 60.0, "nothing new")
    assert made.status("background", 2 * HOUR).failures_in_a_row == 1


def test_a_loop_under_way_is_not_due_and_one_that_never_ended_is_tried_again_and_counted():
    made = started(max_retry_s=1000.0)
    made.began("background", HOUR)
    assert (is_due(made, HOUR + 999.0), is_due(made, HOUR + 1000.0)) == (False, True)
    made.began("background", HOUR + 1000.0)
    status = made.status("background", HOUR + 1000.0)
    assert (status.failures, status.failures_in_a_row, status.is_running) == (1, 1, True)
    assert (status.last_outcome, status.last_duration_s) == ("failed: it never ended", None)
    made.ended("background", HOUR + 1001.0)
    assert (made.status("background", HOUR).runs, made.status("background", HOUR).failures_in_a_row) == (1, 0)


# -- quiet hours ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "open_hours"),
    [
        ((2, 4), {2, 3}),
        ((22, 4), {22, 23, 0, 1, 2, 3}),
        ((0, 24), set(range(24))),
        ((24, 0), set(range(24))),
        ((20, 24), {20, 21, 22, 23}),
        ((24, 3), {0, 1, 2}),
        ((5, 4), set(range(24)) - {4}),
    ],
)
@pytest.mark.parametrize("since", [MONDAY, -MONDAY, 0.0])
def test_loop_c_begins_in_quiet_hours_alone_and_loop_b_at_any_time(hours, open_hours, since):
    made = started(0.0, 0.0, at=since - DAY, quiet_hours=hours)
    for minute in range(0, 2 * 24 * 60, 15):
        now = since + 60.0 * minute
        hour = datetime.fromtimestamp(now, UTC).hour
        assert is_due(made, now, "deep") is (hour in open_hours)
        assert is_due(made, now, "background")


def test_the_next_run_waits_for_quiet_hours():
    made = started(deep_interval_s=WEEK, at=MONDAY + 12 * HOUR, quiet_hours=(22, 4))
    assert next_run(made, MONDAY + 13 * HOUR, "deep") == MONDAY + WEEK + 22 * HOUR
    assert next_run(made, MONDAY + WEEK + 27 * HOUR, "deep") == MONDAY + WEEK + 27 * HOUR  # within them
    assert next_run(made, MONDAY + WEEK + 28 * HOUR, "deep") == MONDAY + WEEK + 46 * HOUR  # they are over
    made.began("deep", MONDAY + WEEK + 27.9 * HOUR)
    made.failed("deep", MONDAY + WEEK + 28 * HOUR - 30.0, "broken")
    assert next_run(made, MONDAY + WEEK + 28 * HOUR, "deep") == MONDAY + WEEK + 46 * HOUR
    assert next_run(made, MONDAY + 12.5 * HOUR, "background") == MONDAY + 13 * HOUR


def test_four_weeks_of_minutes_have_672_cycles_of_loop_b_and_four_of_loop_c():
    made, begun = started(at=MONDAY, quiet_hours=(2, 4)), {"background": 0, "deep": 0}
    for minute in range(4 * 7 * 24 * 60 + 3 * 60):
        now = MONDAY + 60.0 * minute
        for loop in begun:
            if is_due(made, now, loop):
                run(made, now, now + (600.0 if loop == "deep" else 20.0), loop)
                begun[loop] += 1
    assert begun == {"background": 4 * 7 * 24 + 2, "deep": 4}


# -- clocks that go back -------------------------------------------------------------------------------------------


def test_a_clock_that_went_back_a_little_is_waited_for_and_by_much_makes_the_loop_due_once():
    made = started(at=1e9, max_retry_s=HOUR)
    run(made, 1e9 + HOUR)
    assert not is_due(made, 1e9 + HOUR - 3599.0)
    assert next_run(made, 1e9) == 1e9 + 2 * HOUR
    assert is_due(made, 1e6)
    run(made, 1e6)
    assert (is_due(made, 1e6 + 3599.0), is_due(made, 1e6 + HOUR)) == (False, True)


def test_a_clock_that_goes_back_during_a_run_hinders_nothing():
    made = started(at=1e9)
    run(made, 1e9 + HOUR, 1e6)
    status = made.status("background", 1e6)
    assert (status.runs, status.last_duration_s, status.next_run) == (1, None, 1e6 + HOUR)


def test_a_failure_under_a_clock_that_went_back_is_tried_again_after_its_pause():
    made = started(at=1e9)
    made.began("background", 1e6)
    made.failed("background", 1e6 + 1.0, "broken")
    assert (next_run(made, 1e6 + 1.0), is_due(made, 1e6 + 60.0)) == (1e6 + 61.0, False)
    assert not is_due(made, 1e6 - 3000.0)


def test_a_clock_that_went_back_a_little_ends_no_pause_however_short_the_interval():
    made = started(0.0, at=1e9, retry_s=60.0, max_retry_s=HOUR)
    made.failed("background", 1e9, "broken")
    assert not is_due(made, 1e9 - 1.0)
    assert is_due(made, 1e9 - HOUR - 1.0)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval_s", [-1.0, math.nan, "1", None, True])
def test_an_interval_that_is_none_is_refused(interval_s):
    with pytest.raises(ConfigError, match="background_interval_s"):
        schedule(interval_s)
    with pytest.raises(ConfigError, match="deep_interval_s"):
        schedule(1.0, interval_s)


def calls(made: Schedule, loop: str, now: float, words: str) -> dict[str, object]:
    return {
        "began": lambda: made.began(loop, now),
        "ended": lambda: made.ended(loop, now, words),
        "ran": lambda: made.ran(loop, now),
        "skipped": lambda: made.skipped(loop, now, words),
        "failed": lambda: made.failed(loop, now, words),
        "is_due": lambda: made.is_due(loop, now, has_enough=True),
        "status": lambda: made.status(loop, now),
    }


@pytest.mark.parametrize("name", ["began", "ended", "ran", "skipped", "failed", "is_due", "status"])
@pytest.mark.parametrize(
    ("loop", "now", "match"),
    [("nightly", 1.0, "instant, background, deep"), ("deep", math.nan, "now"), ("deep", math.inf, "now")],
)
def test_an_unknown_loop_or_moment_is_refused_and_nothing_changes(name, loop, now, match):
    made = started()
    made.began("deep", 0.0)
    before = digest(made.state())
    with pytest.raises(InvalidValue, match=match):
        calls(made, loop, now, "words")[name]()
    assert digest(made.state()) == before


@pytest.mark.parametrize("name", ["ended", "skipped", "failed"])
def test_an_outcome_without_words_is_refused_and_nothing_changes(name):
    made = started()
    made.began("deep", 0.0)
    before = digest(made.state())
    with pytest.raises(InvalidValue, match="expected text"):
        calls(made, "deep", 1.0, " ")[name]()
    assert digest(made.state()) == before


def test_a_tick_at_no_moment_is_refused():
    made = schedule()
    with pytest.raises(InvalidValue, match="now"):
        made.start(math.nan)
    assert not made.is_started


def test_what_did_not_begin_cannot_end():
    made = started()
    before = digest(made.state())
    with pytest.raises(StateError, match="background ended without having begun"):
        made.ended("background", 5.0)
    assert digest(made.state()) == before


# -- state ---------------------------------------------------------------------------------------------------------


def eventful() -> Schedule:
    made = started(at=10.0)
    run(made, 4000.25, 4001.5)
    made.failed("background", 9000.0, "no room")
    made.began("deep", 9001.0)
    made.ran("instant", 9002.0)
    return made


def test_a_schedule_comes_back_with_other_settings():
    made = eventful()
    again = Schedule.from_state(made.state(), ScheduleConfig(deep="off"), 10.0, 20.0)
    assert digest(again.state()) == digest(made.state())
    assert again.status("background", 9000.0).next_run == 9060.0  # the pause stays
    assert again.status("deep", 9000.0).mode == "off"


def changed(state: State, loop: str, name: str, value: object) -> State:
    inner = State({**dict(state.child(loop).items()), name: value})
    return State({**dict(state.items()), loop: inner})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runs", -1),
        ("runs", 1.5),
        ("skips", -1),
        ("failures", 0),  # fewer than in a row
        ("failures_in_a_row", -1),
        ("since", [math.nan]),
        ("since", ["1"]),
        ("since", [1.0, 2.0]),
        ("since", [True]),
        ("since", [1e12]),  # after what was seen last
        ("seen", []),
        ("began", [1e12]),
        ("last_outcome", ["a", "b"]),
        ("last_outcome", [1]),
        ("last_duration_s", None),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    made = eventful()
    with pytest.raises(StoreError):
        Schedule.from_state(changed(made.state(), "background", name, value), made.config, HOUR, WEEK)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_state_that_lacks_a_loop_is_refused(loop):
    made = eventful()
    rest = State({name: value for name, value in made.state().items() if name != loop})
    with pytest.raises(StoreError, match=loop):
        Schedule.from_state(rest, made.config, HOUR, WEEK)
