"""A comparison per pattern: the same as one alone, at a level shared by all, for the most active."""

from dataclasses import replace

import numpy as np
import pytest

from sona.errors import StoreError
from sona.guard import by_pattern
from sona.guard.by_pattern import PatternComparisons
from sona.guard.comparison import Comparison
from sona.guard.trial import Trial
from sona.state import State, digest


def trials(count: int, seed: int = 0) -> list[Trial]:
    rng = np.random.default_rng(seed)
    return [Trial(n, 1, bool(rng.random() < 0.5), 0.5, float(rng.random())) for n in range(count)]


def test_each_pattern_is_compared_alone_and_the_level_is_shared():
    patterns, alone = PatternComparisons(), {1: Comparison(), 2: Comparison(), 3: Comparison()}
    for number, trial in enumerate(trials(300)):
        pattern = 1 + (number % 5 > 2) + (number % 5 > 3)
        patterns.observe(pattern, trial)
        alone[pattern].observe(trial)
    found = patterns.lifts(0.06, most=2)
    assert [row.pattern_id for row in found] == [1, 2]
    assert [row.lift for row in found] == [alone[1].lift(0.02), alone[2].lift(0.02)]


def test_a_new_pattern_takes_the_place_of_the_least_active(monkeypatch):
    monkeypatch.setattr(by_pattern, "CAPACITY", 2)
    patterns, (trial, *_) = PatternComparisons(), trials(1)
    noted = [patterns.observe(pattern, trial) for pattern in (1, 1, 2, 3)]
    assert len(patterns) == 2
    assert {row.pattern_id for row in patterns.lifts(0.05, 9)} == {1, 3}
    before = digest(patterns.state())
    patterns.amend(trial, replace(trial, quality=1.0), noted[2])
    assert digest(patterns.state()) == before
    patterns.amend(trial, replace(trial, quality=1.0), noted[3])
    assert digest(patterns.state()) != before


def test_what_was_saved_goes_on():
    patterns = PatternComparisons()
    for number, trial in enumerate(trials(50)):
        patterns.observe(number % 4, trial)
    again = PatternComparisons.from_state(patterns.state())
    for each in (patterns, again):
        each.observe(9, trials(1)[0])
    assert digest(patterns.state()) == digest(again.state())


@pytest.mark.parametrize("wrong", [{"serials": []}, {"patterns": ["x"]}, {"comparisons": State({})}])
def test_a_damaged_state_is_refused(wrong):
    patterns = PatternComparisons()
    patterns.observe(1, trials(1)[0])
    with pytest.raises(StoreError):
        PatternComparisons.from_state(State({**dict(patterns.state().items()), **wrong}))
