"""When each loop runs: intervals, modes, quiet hours, and a pause after failures.

A schedule runs nothing. It is told what began and how it ended, and says what is due. What it says follows from what it
was told, with the time as an argument, so whoever keeps a log of that has the schedule again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sona import kernel
from sona.checks import finite, nonempty_text, setting_number
from sona.config import ScheduleConfig
from sona.errors import InvalidValue, StateError, StoreError
from sona.state import State

LOOPS = ("instant", "background", "deep")
"""Loop A, Loop B and Loop C."""
DONE = "done"
_NEVER_ENDED = "it never ended"
_HOUR_S, _DAY_S = 3600.0, 86_400.0
_LONGEST_S = 2.0**53  # of any pause: a moment stays a finite number


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """How a loop is doing.

    Args:
        name: `instant`, `background` or `deep`.
        mode: `off`, `on` or `forced`.
        is_running: Whether it began and has not ended.
        runs: Times it did its work.
        skips: Times it began and found nothing to do.
        failures: Times it failed.
        failures_in_a_row: Failures since it last did its work.
        last_run: When it last began, seconds; None before it first did.
        last_duration_s: What its last run took; None before one ended, and where nobody knows.
        last_outcome: How its last run ended: `done` or what its caller said, `skipped: ...` or `failed: ...`; None
            before one ended.
        next_run: The first moment at which it may begin, given enough to learn from, seconds; None when there is no
            such moment: it is off, its interval has not begun or never ends, or it is Loop A, which runs with requests.
    """

    name: str
    mode: str
    is_running: bool
    runs: int
    skips: int
    failures: int
    failures_in_a_row: int
    last_run: float | None
    last_duration_s: float | None
    last_outcome: str | None
    next_run: float | None


@dataclass(frozen=True, slots=True)
class _Past:
    # What became of one loop. Counts as in LoopStatus; moments in seconds, None where there was none.
    since: float | None = None  # when its interval began
    not_before: float | None = None  # when the pause ends that a failure, a skip or a run under way makes
    seen: float | None = None  # when it last changed; nothing but a pause ends later
    began: float | None = None  # when the run began that is under way
    last_run: float | None = None
    last_duration_s: float | None = None
    last_outcome: str | None = None
    runs: int = 0
    skips: int = 0
    failures: int = 0
    failures_in_a_row: int = 0


_make_past = kernel.maker(_Past)
_MOMENTS = ("since", "not_before", "seen", "began", "last_run", "last_duration_s")
_COUNTS = ("runs", "skips", "failures", "failures_in_a_row")


class Schedule:
    """Says which loop is due, from what it was told.

    - A loop that is on is due when its interval has passed since it last began and it has enough to learn from; a
      forced one, whether it has or not; one that is off, never. Loop A runs with requests: unless off, it is due.
    - After a failure it is due after `retry_s`, doubled with every further failure up to `max_retry_s`; after a skip,
      after its interval or `max_retry_s`, whichever is shorter. A run under way keeps it from being due for
      `max_retry_s`: one that never ended, because its process died, is tried again then.
    - Loop C begins in quiet hours only, if there are any.
    - A clock that went back is waited for, by at most `max_retry_s` and, unless the last run failed, the interval.
      One that went back further makes the loop due at once, and it goes on by the new clock.

    Args:
        config: Modes, quiet hours and pauses.
        background_interval_s: Seconds from one run of Loop B to the next, from beginning to beginning.
        deep_interval_s: The same of Loop C.

    Raises:
        ConfigError: an interval that is negative or no number.

    >>> schedule = Schedule(ScheduleConfig(), background_interval_s=3600.0, deep_interval_s=604_800.0)
    >>> schedule.start(0.0)
    >>> schedule.is_due("background", 3599.0, has_enough=True), schedule.is_due("background", 3600.0, has_enough=True)
    (False, True)
    >>> schedule.began("background", 3600.0)
    >>> schedule.failed("background", 3605.0, "no room")
    >>> status = schedule.status("background", 3610.0)
    >>> status.last_outcome, status.last_duration_s, status.next_run
    ('failed: no room', 5.0, 3665.0)
    """

    def __init__(self, config: ScheduleConfig, background_interval_s: float, deep_interval_s: float) -> None:
        """Have no interval begun."""
        setting_number(background_interval_s, "background_interval_s", 0.0)
        setting_number(deep_interval_s, "deep_interval_s", 0.0)
        self.config = config
        self._modes = {"instant": config.instant, "background": config.background, "deep": config.deep}
        self._intervals_s = {"background": float(background_interval_s), "deep": float(deep_interval_s)}
        self._past = dict.fromkeys(LOOPS, _Past())

    # -- what happens ----------------------------------------------------------------------------------------------

    @property
    def is_started(self) -> bool:
        """True once the intervals of all loops that have one have begun."""
        return all(self._past[loop].since is not None for loop in self._intervals_s)

    def start(self, now: float) -> None:
        """Begin the intervals that have not begun yet; the first tick does, every further one changes nothing."""
        at = finite(now, "now")
        for loop in self._intervals_s:
            if self._past[loop].since is None:
                self._past[loop] = replace(self._past[loop], since=at, seen=at)

    def began(self, loop: str, now: float) -> None:
        """Take note that `loop` began; a run of it that never ended counts as a failure."""
        past, at = _without_run(self._of(loop)), finite(now, "now")
        self._past[loop] = self._seen(replace(past, began=at, last_run=at, not_before=at + self._longest_s), loop, at)

    def ended(self, loop: str, now: float, outcome: str = DONE) -> None:
        """Take note that `loop` did its work: its interval counts from when it began.

        Args:
            loop: Its name.
            now: Seconds.
            outcome: How, for people.

        Raises:
            StateError: it did not begin.
        """
        past, at = self._of(loop), finite(now, "now")
        nonempty_text(outcome, "outcome")
        if past.began is None:
            raise StateError(f"Loop {loop} ended without having begun; call `began` first")
        since = min(past.began, at)  # the clock may have gone back while it ran
        done = replace(past, runs=past.runs + 1, failures_in_a_row=0, since=since, not_before=None)
        self._past[loop] = self._seen(_over(done, at, outcome), loop, at)

    def ran(self, loop: str, now: float) -> None:
        """Take note that `loop` did its work in no time worth a figure, as Loop A does with a request."""
        past, at = self._of(loop), finite(now, "now")
        if past.began is not None:
            past = _without_run(past)
        self._past[loop] = _make_past(at, None, at, None, at, None, DONE, past.runs + 1, past.skips, past.failures, 0)

    def skipped(self, loop: str, now: float, reason: str) -> None:
        """Take note that `loop` found nothing to do, or was not let; it may not have begun before."""
        nonempty_text(reason, "reason")
        past, at = self._begun(loop, now)
        not_before = at + self._patience_s(loop)
        skipped = replace(past, skips=past.skips + 1, not_before=not_before)
        self._past[loop] = self._seen(_over(skipped, at, f"skipped: {reason}"), loop, at)

    def failed(self, loop: str, now: float, reason: str) -> None:
        """Take note that `loop` failed; it may not even have begun."""
        nonempty_text(reason, "reason")
        past, at = self._begun(loop, now)
        failed = _with_failure(past)
        pause_s = self.config.retry_s * 2.0 ** min(failed.failures_in_a_row - 1, 60)
        not_before = at + min(pause_s, self._longest_s)
        failed = _over(replace(failed, not_before=not_before), at, f"failed: {reason}")
        self._past[loop] = self._seen(failed, loop, at)

    def _of(self, loop: str) -> _Past:
        if loop not in self._past:
            raise InvalidValue(f"loop: expected one of {', '.join(LOOPS)}, got {loop!r}")
        return self._past[loop]

    def _begun(self, loop: str, now: float) -> tuple[_Past, float]:
        past, at = self._of(loop), finite(now, "now")
        return (past if past.began is not None else replace(past, last_run=at)), at

    def _seen(self, past: _Past, loop: str, now: float) -> _Past:
        if past.since is None or past.since <= now:
            return replace(past, seen=now)
        interval_s = min(self._intervals_s.get(loop, 0.0), _LONGEST_S)  # it was due by the clock that went back
        return replace(past, seen=now, since=now - interval_s)

    @property
    def _longest_s(self) -> float:
        return min(self.config.max_retry_s, _LONGEST_S)

    def _patience_s(self, loop: str) -> float:
        return min(self._intervals_s.get(loop, 0.0), self._longest_s)

    # -- what is due -----------------------------------------------------------------------------------------------

    def is_due(self, loop: str, now: float, *, has_enough: bool) -> bool:
        """Return True when `loop` may begin now; nothing changes.

        Args:
            loop: Its name.
            now: Seconds.
            has_enough: Whether there is enough to learn from; a forced loop does not ask.
        """
        past, at, mode = self._of(loop), finite(now, "now"), self._modes[loop]
        if mode == "off" or not (has_enough or mode == "forced"):
            return False
        return loop not in self._intervals_s or self._next(loop, past, at) <= at

    def _next(self, loop: str, past: _Past, now: float) -> float:
        # The first moment from now on at which the loop may begin; infinite when there is none.
        if past.since is None or past.seen is None:
            return math.inf
        opening = self._opening(loop, now)
        patience_s = self._patience_s(loop) if past.not_before is None else self._longest_s
        if past.seen - opening > patience_s:  # the clock went back
            return opening
        due = past.since + self._intervals_s[loop]
        ready = due if past.not_before is None else max(due, past.not_before)
        return self._opening(loop, max(opening, ready))

    def _opening(self, loop: str, moment: float) -> float:
        # The first moment from `moment` on at which the loop is allowed to begin by the hour of the day.
        hours = self.config.quiet_hours
        if loop != "deep" or hours is None or not math.isfinite(moment):
            return moment
        first_s, length_s = hours[0] * _HOUR_S, ((hours[1] - hours[0]) % 24 or 24) * _HOUR_S
        days, into_s = divmod(moment - first_s, _DAY_S)
        return moment if into_s < length_s else (days + 1.0) * _DAY_S + first_s

    def status(self, loop: str, now: float) -> LoopStatus:
        """Return how `loop` is doing; nothing changes."""
        past, at, mode = self._of(loop), finite(now, "now"), self._modes[loop]
        has_next = mode != "off" and loop in self._intervals_s
        next_run = self._next(loop, past, at) if has_next else math.inf
        return LoopStatus(
            name=loop,
            mode=mode,
            is_running=past.began is not None,
            runs=past.runs,
            skips=past.skips,
            failures=past.failures,
            failures_in_a_row=past.failures_in_a_row,
            last_run=past.last_run,
            last_duration_s=past.last_duration_s,
            last_outcome=past.last_outcome,
            next_run=next_run if math.isfinite(next_run) else None,
        )

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything needed to come back bit for bit; settings are no part of it."""
        return State({loop: _past_state(self._past[loop]) for loop in LOOPS})

    @classmethod
    def from_state(
        cls, state: State, config: ScheduleConfig, background_interval_s: float, deep_interval_s: float
    ) -> Schedule:
        """Return the schedule that `state` was taken from, with these settings from now on.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        schedule = cls(config, background_interval_s, deep_interval_s)
        schedule._past = {loop: _past_from_state(state.child(loop), loop) for loop in LOOPS}
        return schedule


def _with_failure(past: _Past) -> _Past:
    return replace(past, failures=past.failures + 1, failures_in_a_row=past.failures_in_a_row + 1)


def _without_run(past: _Past) -> _Past:
    if past.began is None:
        return past
    return replace(_with_failure(past), began=None, last_outcome=f"failed: {_NEVER_ENDED}", last_duration_s=None)


def _over(past: _Past, now: float, outcome: str) -> _Past:
    # What is left of a run that is over; a clock that went back meanwhile does not say how long it took.
    taken_s = None if past.began is None or now < past.began else now - past.began
    return replace(past, began=None, last_duration_s=taken_s, last_outcome=outcome)


def _past_state(past: _Past) -> State:
    moments = {name: [] if (at := getattr(past, name)) is None else [at] for name in _MOMENTS}
    counts = {name: getattr(past, name) for name in _COUNTS}
    return State({**moments, **counts, "last_outcome": [] if past.last_outcome is None else [past.last_outcome]})


def _past_from_state(state: State, loop: str) -> _Past:
    outcome = state.texts("last_outcome")
    past = _Past(
        since=_moment(state, "since"),
        not_before=_moment(state, "not_before"),
        seen=_moment(state, "seen"),
        began=_moment(state, "began"),
        last_run=_moment(state, "last_run"),
        last_duration_s=_moment(state, "last_duration_s"),
        last_outcome=outcome[0] if outcome else None,
        runs=state.whole("runs"),
        skips=state.whole("skips"),
        failures=state.whole("failures"),
        failures_in_a_row=state.whole("failures_in_a_row"),
    )
    if len(outcome) > 1 or not _is_possible(past):
        raise StoreError(f"saved state: the schedule of loop {loop} is damaged")
    return past


def _is_possible(past: _Past) -> bool:
    earlier = [at for at in (past.since, past.began) if at is not None]
    is_in_order = not earlier or (past.seen is not None and max(earlier) <= past.seen)
    return is_in_order and min(past.runs, past.skips) >= 0 and 0 <= past.failures_in_a_row <= past.failures


def _moment(state: State, name: str) -> float | None:
    known = state.listing(name)
    if not known:
        return None
    number = known[0]
    if len(known) > 1 or isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise StoreError(f"saved state: the moment {name} of a loop is damaged")
    return float(number)
