"""Evidence: one trial reaches every comparison it belongs to, and an amendment the same ones."""

from dataclasses import replace

import numpy as np
import pytest

from sona.guard.comparison import Comparison, Weights
from sona.guard.evidence import Evidence
from sona.guard.trial import Trial
from sona.state import digest


def trials(count: int) -> list[Trial]:
    rng = np.random.default_rng(0)
    return [Trial(n, 1, bool(rng.random() < 0.5), 0.5, float(rng.random())) for n in range(count)]


def tell(evidence: Evidence, trial: Trial, pattern_id: int | None = 3, version: int = 0):
    return evidence.observe(trial, pattern_id=pattern_id, version=version, at=float(trial.unit))


def test_every_comparison_is_the_one_it_would_be_alone():
    evidence, contested, exposed = Evidence(19.0, 0.05), Comparison(), Comparison(Weights.EXPOSED, 19.0)
    for trial in trials(100):
        tell(evidence, trial)
        contested.observe(trial)
        exposed.observe(trial)
    assert digest(evidence.whole.state()) == digest(contested.state())
    assert digest(evidence.exposed.state()) == digest(exposed.state())
    assert evidence.patterns.lifts(0.05, 9)[0].lift == contested.lift(0.05)
    assert [point.trials for point in evidence.curve.points] == [20, 40, 60, 80, 100]
    assert evidence.curve.points[-1].low == contested.lift(0.05).low


def test_a_trial_of_another_version_is_not_watched():
    evidence = Evidence(19.0, 0.05)
    evidence.watch.begin(2)
    one, two = trials(2)
    assert tell(evidence, one, pattern_id=None).watch is None
    assert tell(evidence, two, version=2).watch is not None


def test_an_amendment_reaches_all_that_the_trial_reached():
    evidence, at_once = Evidence(19.0, 0.05), Evidence(19.0, 0.05)
    *many, last = trials(60)
    other = replace(last, quality=1.0 - last.quality)
    for each in (evidence, at_once):
        for trial in many:
            tell(each, trial)
    earlier = tell(evidence, last)
    evidence.amend(other, earlier)
    tell(at_once, other)
    for name in ("whole", "exposed"):
        found, oracle = (getattr(each, name).lift(0.05) for each in (evidence, at_once))
        assert (found.value, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))
    found, oracle = (each.patterns.lifts(0.05, 1)[0].lift.low for each in (evidence, at_once))
    assert found == pytest.approx(oracle)
    found, oracle = (each.policies.value(last.arm).snips.value for each in (evidence, at_once))
    assert found == pytest.approx(oracle)


def test_what_was_saved_goes_on():
    evidence = Evidence(19.0, 0.05)
    for trial in trials(45):
        tell(evidence, trial)
    again = Evidence.from_state(evidence.state(), 0.05)
    for each in (evidence, again):
        for trial in trials(30):
            tell(each, replace(trial, visit=2))
    assert digest(evidence.state()) == digest(again.state())
