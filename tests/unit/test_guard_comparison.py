"""Comparisons: against sums written out, in layers, amended, and never fooled by what a unit taught itself."""

from dataclasses import replace

import numpy as np
import pytest

from sona.errors import StoreError
from sona.guard import comparison as comparing  # pytest takes a name like Testimony for a class of tests
from sona.guard.comparison import Comparison, Noted, Weights
from sona.guard.sequence import Sequence
from sona.guard.trial import Expected, Trial, weighed
from sona.state import State, digest


def trials(count: int, seed: int = 0, exposure: float = 0.4, lift: float = 0.0, **more: int) -> list[Trial]:
    rng = np.random.default_rng(seed)
    made = []
    for unit in range(count):
        is_learned = bool(rng.random() < exposure)
        quality = float(rng.random() < 0.4 + lift * is_learned)
        made.append(Trial(unit, 1, is_learned, exposure, quality, **more))
    return made


def compared(taken: list[Trial], comparison: Comparison | None = None) -> Comparison:
    comparison = Comparison() if comparison is None else comparison
    for trial in taken:
        comparison.observe(trial)
    return comparison


@pytest.mark.parametrize(("weights", "reach"), [(Weights.CONTESTED, 1.0), (Weights.EXPOSED, 1.0)])
def test_on_first_visits_it_is_one_sequence_at_half_the_level(weights, reach):
    comparison, sequence = Comparison(weights, reach), Sequence(1.0)
    total = weight = 0.0
    for trial in trials(300):
        expected = comparison.observe(trial)
        counts = trial.exposure * (0.6 if weights is Weights.CONTESTED else 1.0)
        one = weighed(trial, expected, counts)
        sequence.add(one.step)
        total, weight = total + one.step.value, weight + counts
    found, oracle = comparison.gain(0.02, 0.04), sequence.bounds(0.01, 0.02)
    assert (found.total, found.low, found.high) == pytest.approx((total, oracle.low, oracle.high))
    lift = comparison.lift(0.1)
    assert lift.value == pytest.approx(total / weight)
    assert lift.low == pytest.approx(sequence.bounds(0.025, 0.025).low / weight)
    assert lift.trials == 300


def test_expectations_are_those_of_earlier_trials_alone():
    comparison = Comparison()
    first, again = trials(2)
    assert comparison.observe(first) == Expected(0.5, 0.5)
    changed = compared([replace(first, quality=1.0 - first.quality)])
    assert comparison.observe(again) != changed.observe(again)


def test_a_lift_is_found_and_none_is_not():
    assert compared(trials(3000, lift=0.2)).lift(0.05).low > 0.0
    assert compared(trials(3000, lift=-0.2)).lift(0.05).high < 0.0
    nothing = compared(trials(3000)).lift(0.05)
    assert nothing.low < 0.0 < nothing.high


def test_without_trials_the_lift_may_be_anything():
    lift = Comparison().lift(0.05)
    assert (lift.value, lift.low, lift.high) == (None, -1.0, 1.0)


def test_identical_lists_narrow_the_interval_and_never_move_it():
    comparison = compared(trials(200, lift=0.3))
    before = comparison.gain(0.01, 0.01)
    compared(trials(200, seed=1, lift=0.9, is_identical=True), comparison)
    assert comparison.gain(0.01, 0.01) == before
    assert comparison.lift(0.02).low == pytest.approx(before.low / (400 * 0.24))


def test_what_the_common_beginning_earned_does_not_count():
    plain = compared([replace(t, quality=t.quality / 2, prefix=1) for t in trials(300)])
    raised = compared([replace(t, quality=t.quality / 2 + 0.25, common=0.25, prefix=1) for t in trials(300)])
    assert raised.lift(0.05) == plain.lift(0.05)


def test_later_lists_narrow_the_interval():
    wide = compared([replace(t, quality=t.quality / 5) for t in trials(500)]).lift(0.05)
    narrow = compared([replace(t, quality=t.quality / 5, prefix=4) for t in trials(500)]).lift(0.05)
    assert narrow.high - narrow.low < wide.high - wide.low


def test_a_small_exposure_is_evidence_whatever_may_be_exposed_later():
    low = compared(trials(2000, exposure=0.1), Comparison(Weights.EXPOSED, reach=99.0))
    same = compared(trials(2000, exposure=0.1), Comparison(Weights.EXPOSED, reach=1.0))
    assert low.gain(0.03, 0.03).low == pytest.approx(same.gain(0.01, 0.01).low)  # one of three bands


# -- repeated units ------------------------------------------------------------------------------------------------


def test_the_second_visits_are_compared_with_second_visits_at_a_sixth_of_the_level():
    firsts = trials(100, lift=0.3)
    seconds = [replace(trial, visit=2) for trial in trials(100, seed=1)]
    both, one, two = compared(firsts + seconds), compared(firsts), compared([replace(t, visit=1) for t in seconds])
    total = both.gain(0.06, 0.06)
    assert total.low == pytest.approx(one.gain(0.06, 0.06).low + two.gain(0.02, 0.02).low)


def test_on_later_visits_the_whole_quality_counts():
    later = Trial(1, 2, True, 0.5, 0.25, common=0.25, prefix=3, is_identical=True)
    plain = Trial(1, 2, True, 0.5, 0.25)
    assert digest(compared([later]).state()) == digest(compared([plain]).state())


def test_the_mean_of_a_group_of_visits_counts_as_one_when_it_is_complete():
    visits = [Trial(9, visit, True, 0.5, float(visit in (6, 7))) for visit in range(5, 9)]
    comparison = compared(visits[:3])
    assert comparison.weight == 0.0
    assert comparison.trials == 3
    comparison.observe(visits[3])
    assert comparison.weight == pytest.approx(0.25)
    means = Comparison()
    values = [weighed(visit, means.observe(visit), 0.25).step.value for visit in visits]
    assert comparison.gain(0.1, 0.1).total == pytest.approx(np.mean(values))


def test_a_unit_that_was_forgotten_begins_its_groups_anew():
    visits = [Trial(9, visit, True, 0.5, 1.0) for visit in range(5, 9)]
    comparison = compared(visits * 2)
    assert comparison.weight == pytest.approx(0.5)


def test_a_group_of_another_layer_that_was_never_finished_is_dropped():
    comparison = compared([Trial(9, 7, True, 0.5, 1.0), Trial(9, 8, True, 0.5, 1.0), Trial(9, 9, True, 0.5, 1.0)])
    assert comparison.weight == 0.0


def test_one_unit_with_half_the_requests_moves_little():
    rng = np.random.default_rng(3)
    comparison = Comparison()
    for number, trial in enumerate(trials(400)):
        comparison.observe(trial)
        comparison.observe(Trial(-1, number + 1, True, 0.4, float(rng.random() < 0.9)))  # always learned, mostly happy
    lift = comparison.lift(0.05)
    assert lift.low < 0.0 < lift.high
    assert abs(lift.value) < 0.1


# -- amendments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visit", [1, 3, 6])
def test_an_amended_outcome_ends_where_telling_it_at_once_does(visit):
    many = [replace(trial, visit=1) for trial in trials(50)]
    old = Trial(99, visit, True, 0.4, 0.2, common=0.1)
    new = replace(old, quality=0.9, common=0.0)
    amended = compared(many)
    expected = amended.observe(old)
    amended.amend(old, new, expected)
    at_once = compared([*many, new])
    for found, oracle in zip(flat(amended.state()), flat(at_once.state()), strict=True):
        assert found == pytest.approx(oracle)


def flat(state: State) -> list[float]:
    found: list[float] = []
    for value in dict(state.items()).values():
        if isinstance(value, State):
            found += flat(value)
        elif isinstance(value, np.ndarray):
            found += value.ravel().tolist()
    return found


def test_an_amended_visit_moves_its_group_while_it_is_the_latest():
    visits = [Trial(9, visit, True, 0.5, 1.0) for visit in range(5, 9)]
    comparison = Comparison()
    expected = [comparison.observe(visit) for visit in visits]
    before = comparison.gain(0.1, 0.1).total
    comparison.amend(visits[0], replace(visits[0], quality=0.0), expected[0])
    assert comparison.gain(0.1, 0.1).total == pytest.approx(before - 0.25 / 0.5 / 4)
    comparison.observe(Trial(9, 9, True, 0.5, 1.0))
    state = digest(State({"kept": comparison.gain(0.1, 0.1).total}))
    comparison.amend(visits[1], replace(visits[1], quality=0.0), expected[1])
    assert digest(State({"kept": comparison.gain(0.1, 0.1).total})) == state


# -- what is still needed ----------------------------------------------------------------------------------------------


def test_about_as_many_more_outcomes_as_required_show_the_lift():
    few = compared(trials(300, seed=101, lift=0.2))
    lift = few.lift(0.05)
    assert lift.low < 0.0 < lift.value
    more = few.required(0.05, exposure=0.4)
    shown = []
    for count in (300 + more // 3, 300 + 3 * more // 2):
        found = [compared(trials(count, seed=seed, lift=lift.value)).lift(0.05).low > 0.0 for seed in range(12)]
        shown.append(sum(found))
    assert shown[0] <= 3
    assert shown[1] >= 8


def test_nothing_is_required_when_it_is_shown_or_cannot_be():
    assert compared(trials(3000, lift=0.3)).required(0.05, exposure=0.4) is None
    assert compared(trials(100, lift=0.2)).required(0.05, exposure=0.0) is None
    assert Comparison().required(0.05, exposure=0.4) is None


def test_asking_changes_nothing():
    comparison = compared(trials(100, lift=0.1))
    before = digest(comparison.state())
    comparison.lift(0.05), comparison.required(0.05, exposure=0.4)
    assert digest(comparison.state()) == before


# -- state -------------------------------------------------------------------------------------------------------------


def test_what_was_saved_goes_on():
    comparison = compared([replace(t, visit=1 + n % 9, unit=n % 3) for n, t in enumerate(trials(100))])
    again = Comparison.from_state(comparison.state())
    for each in (comparison, again):
        each.observe(Trial(1, 8, True, 0.4, 1.0))
    assert digest(comparison.state()) == digest(again.state())


@pytest.mark.parametrize("name", ["weights", "reach", "layers", "groups", "trials", "seen", "sums"])
def test_an_incomplete_state_is_refused(name):
    values = dict(compared(trials(10)).state().items())
    del values[name]
    with pytest.raises(StoreError, match=name):
        Comparison.from_state(State(values))


def test_a_damaged_state_is_refused():
    values = dict(compared(trials(10)).state().items())
    for name, value in (("weights", "heavy"), ("reach", 0.0), ("layers", State({"x": State({})}))):
        with pytest.raises(StoreError):
            Comparison.from_state(State({**values, name: value}))


TESTIMONY = comparing.Testimony(
    Trial(-(2**63), 3, True, 0.25, 0.5, 0.25, 1, is_identical=True),
    Expected(0.1, 0.2),
    Expected(0.3, 0.4),
    Noted(7, Expected(0.5, 0.6)),
)


def test_a_testimony_comes_back_from_plain_values():
    assert comparing.Testimony.from_plain(TESTIMONY.plain()) == TESTIMONY


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("wrong", ["text", [1.0], [None, None, None], [True, True, True]])
def test_a_damaged_testimony_is_refused(place, wrong):
    plain = TESTIMONY.plain()
    plain[place] = wrong
    with pytest.raises(StoreError, match="testimony"):
        comparing.Testimony.from_plain(plain)
    with pytest.raises(StoreError, match="testimony"):
        comparing.Testimony.from_plain(plain[:-1])
