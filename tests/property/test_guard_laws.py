"""Laws of the guard that hold for any stream of requests."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.config import GuardConfig
from sona.guard.comparison import Comparison, Weights
from sona.guard.guard import Guard, Observation
from sona.guard.holdout import Arm, assigned, draw
from sona.guard.influence import Influence
from sona.guard.quality import list_quality
from sona.guard.sequence import Sequence, Step
from sona.guard.trial import Expected, Trial, weighed
from sona.state import digest

fractions = st.floats(0.0, 1.0)
exposures = st.floats(0.001, 0.999)
rewards = st.lists(fractions, max_size=8)


@st.composite
def trials(draw_from) -> Trial:
    prefix = draw_from(st.integers(0, 12))
    common = draw_from(fractions)
    surplus = min(draw_from(fractions) / (prefix + 1), 1.0 - common)
    return Trial(
        unit=draw_from(st.integers(0, 3)),
        visit=draw_from(st.integers(1, 12)),
        is_learned=draw_from(st.booleans()),
        exposure=draw_from(st.floats(0.001, 0.95)),
        quality=min(common + surplus, 1.0),
        common=common,
        prefix=prefix,
        is_identical=draw_from(st.booleans()),
    )


streams = st.lists(trials(), min_size=1, max_size=25)


@given(st.text(), exposures, exposures, st.floats(0.0, 0.5))
def test_more_exposure_moves_a_unit_only_from_frozen_to_learned(unit, one, other, holdout):
    low, high = sorted((min(one, 1.0 - holdout), min(other, 1.0 - holdout)))
    number = draw(b"key", unit)
    before, after = assigned(number, low, holdout), assigned(number, high, holdout)
    assert before.arm is Arm.FROZEN or after.arm is Arm.LEARNED
    assert before.is_held_out == after.is_held_out
    assert not (after.is_held_out and after.arm is Arm.LEARNED and number < holdout - 1e-12)


@given(rewards, st.integers(0, 10))
def test_a_surplus_is_within_what_its_lists_can_earn(values, prefix):
    quality, common = list_quality(values, prefix)
    assert 0.0 <= common <= quality <= 1.0
    assert quality - common <= 1.0 / (prefix + 1)


@given(exposures, st.integers(0, 5), fractions, fractions, fractions, fractions)
def test_the_estimate_is_unbiased_and_bounded_whatever_was_expected(exposure, prefix, m1, m0, learned, frozen):
    most = 1.0 / (prefix + 1)
    expected, weight = Expected(m1 * most, m0 * most), exposure * (1.0 - exposure)
    mean = 0.0
    for is_learned, quality, chance in ((True, learned * most, exposure), (False, frozen * most, 1.0 - exposure)):
        step = weighed(Trial(0, 1, is_learned, exposure, quality, prefix=prefix), expected, weight).step
        assert -step.below - 1e-9 <= step.residual <= step.above + 1e-9
        assert max(step.below, step.above) <= 1.0 + 1e-9
        mean += chance * step.value
    assert mean == pytest.approx(weight * most * (learned - frozen), abs=1e-9)


@given(st.floats(0.001, 0.949), st.floats(0.0, 1.0), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_no_single_step_wins_on_average(rate, share, below, above):
    """E exp(l r - h (l r)^2) <= 1 for the hardest distribution of mean 0: two points."""
    above = max(above * share, 1e-6)
    low_chance = above / (below + above)
    psi = -math.log1p(-rate * below) - rate * below
    mean = sum(
        chance * math.exp(rate * r - psi / below**2 * r * r)
        for r, chance in ((-below, low_chance), (above, 1.0 - low_chance))
    )
    assert mean <= 1.0 + 1e-9


@given(st.lists(st.tuples(st.floats(-1.0, 1.0), st.floats(0.0, 1.0)), max_size=30), st.floats(0.001, 0.2))
def test_bounds_enclose_the_sum_and_widen_with_confidence(values, level):
    sequence = Sequence(1.0)
    for residual, value in values:
        sequence.add(Step(value, residual, 1.0, 1.0))
    loose, strict = sequence.bounds(level, level), sequence.bounds(level / 2, level / 2)
    assert strict.low < loose.low < loose.total < loose.high < strict.high


@settings(max_examples=50, deadline=None)
@given(streams, st.sampled_from(Weights))
def test_a_lift_is_within_its_bounds_and_asking_changes_nothing(stream, weights):
    comparison = Comparison(weights, 19.0)
    for trial in stream:
        comparison.observe(trial)
    before = digest(comparison.state())
    gain = comparison.gain(0.05, 0.05)
    assert gain.low <= gain.high
    lift = comparison.lift(0.1)
    assert -1.0 <= lift.low <= lift.high <= 1.0
    comparison.required(0.1, exposure=0.5)
    assert digest(comparison.state()) == before


@settings(max_examples=50, deadline=None)
@given(streams, streams)
def test_what_was_saved_is_what_continues(stream, more):
    comparison = Comparison(Weights.EXPOSED, 19.0)
    for trial in stream:
        comparison.observe(trial)
    again = Comparison.from_state(comparison.state())
    for trial in more:
        assert comparison.observe(trial) == again.observe(trial)
    assert digest(comparison.state()) == digest(again.state())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), fractions, st.booleans()), max_size=60), st.sampled_from(["on", "canary"]))
def test_the_same_calls_give_the_same_state(calls, mode):
    guards = [Guard(GuardConfig(mode=mode, warm_up=5), b"key") for _ in range(2)]
    for guard in guards:
        heard = None
        for unit, quality, is_amended in calls:
            if is_amended and heard is not None:
                guard.observe(told(f"u{unit}", guard, quality), heard.testimony)
                continue
            heard = guard.observe(told(f"u{unit}", guard, quality))
    assert digest(guards[0].state()) == digest(guards[1].state())
    again = Guard.from_state(guards[0].state(), guards[0].config)
    assert digest(again.state()) == digest(guards[0].state())


def told(unit: str, guard: Guard, quality: float) -> Observation:
    found = guard.assign(unit)
    guard.served(found.arm, is_compared=found.is_compared)
    return Observation(unit, found.arm, found.exposure, found.is_compared, False, quality, 0.0, 0.0)


@given(st.lists(st.integers(0, 5), max_size=200), st.integers(1, 40))
def test_no_subject_gives_more_than_its_share_of_any_window(subjects, window):
    influence = Influence(GuardConfig(influence=0.1, influence_window=window))
    taken: list[int] = []
    for subject in subjects:
        if influence.admit(f"s{subject}"):
            taken.append(subject)
            recent = taken[-window:]
            share = max(0.1, 2.0 / len(set(recent) | {subject}))
            assert recent.count(subject) <= max(5.0, share * len(recent)) + 1.0
    assert influence.admitted_count + influence.limited_count == len(subjects)


def test_nothing_is_said_to_have_improved_more_often_than_the_level():
    """A/A in miniature; the whole is in bench/proof_validity.py."""
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(100):
        comparison = Comparison()
        is_improved = False
        for number in range(200):
            exposure = 0.1 + 0.8 * (number / 200)
            trial = Trial(number, 1, bool(rng.random() < exposure), exposure, float(rng.random() < 0.5))
            comparison.observe(trial)
            is_improved |= number % 5 == 0 and comparison.lift(0.2).low > 0.0
        false += is_improved
    assert false <= 20
