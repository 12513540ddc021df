"""Watches: harm is found once, an A/A version is not, and every watch has its share of the level."""

from dataclasses import replace

import numpy as np
import pytest

from sona.guard.trial import Trial
from sona.guard.watch import LENGTH, Watch
from sona.state import digest


def run(watch: Watch, count: int, lift: float, seed: int = 0) -> int | None:
    rng = np.random.default_rng(seed)
    for number in range(count):
        is_learned = bool(rng.random() < 0.5)
        watch.observe(Trial(number, 1, is_learned, 0.5, float(rng.random() < 0.5 + lift * is_learned)))
        if watch.alarm() is not None:
            return number
    return None


def test_a_harmful_version_is_found_and_said_once():
    watch = Watch(0.05)
    assert run(watch, 1000, lift=-0.3) < 600
    assert watch.is_alarmed
    assert watch.alarm() is None
    assert run(watch, 2 * LENGTH, lift=-0.3) is None


def test_the_reason_says_the_numbers():
    watch, reason = Watch(0.05), None
    while reason is None:
        for arm in (True, False):
            watch.observe(Trial(0, 1, arm, 0.5, float(not arm)))
        reason = watch.alarm()
    assert reason.startswith("lift -")
    assert "compared requests" in reason


def test_a_version_that_does_no_harm_is_left_alone():
    assert [run(Watch(0.05), 600, lift=0.0, seed=seed) for seed in range(30)].count(None) >= 29
    assert run(Watch(0.05), 3000, lift=0.2) is None


def test_all_watches_together_have_the_level():
    watch, levels = Watch(0.05), []
    for version in range(1, 2001):
        levels.append(watch.level)
        watch.begin(version)
    assert sum(levels) < 0.05
    assert sum(levels) == pytest.approx(0.05, rel=1e-3)


def test_a_new_version_has_no_past():
    watch = Watch(0.05)
    run(watch, 1000, lift=-0.3)
    watch.begin(1)
    assert (watch.version, watch.is_alarmed, watch.number) == (1, False, 2)
    assert run(watch, 200, lift=0.3) is None


def test_a_watch_ends_after_a_thousand_so_that_good_days_do_not_hide_bad_ones():
    watch = Watch(0.05)
    assert run(watch, 10 * LENGTH, lift=0.3) is None
    assert watch.number == 10
    assert run(watch, 2 * LENGTH, lift=-0.3, seed=1) is not None


def test_an_amendment_counts_in_its_own_watch_alone():
    watch, trial = Watch(0.05), Trial(1, 1, True, 0.5, 0.0)
    noted = watch.observe(trial)
    before = digest(watch.state())
    watch.amend(trial, replace(trial, quality=1.0), noted)
    assert digest(watch.state()) != before
    watch.begin(1)
    before = digest(watch.state())
    watch.amend(trial, replace(trial, quality=1.0), noted)
    assert digest(watch.state()) == before


def test_what_was_saved_goes_on():
    watch = Watch(0.05)
    run(watch, 1500, lift=0.1)
    again = Watch.from_state(watch.state(), 0.05)
    for each in (watch, again):
        run(each, 30, lift=-0.1)
    assert digest(watch.state()) == digest(again.state())


def test_once_the_budget_is_spent_a_normal_bound_is_enough():
    rng = np.random.default_rng(0)
    watch = Watch(0.05)
    for number in range(60):
        is_learned = bool(rng.random() < 0.5)
        watch.observe(Trial(number, 1, is_learned, 0.5, float(rng.random() < (0.1 if is_learned else 0.7))))
    assert watch.alarm() is None
    assert "the budget being spent" in (watch.alarm(is_spent=True) or "")
    assert watch.is_alarmed
    assert watch.alarm(is_spent=True) is None
