"""The guard as an engine uses it: who sees what, what is said of it, and what it may cost."""

from dataclasses import replace

import numpy as np
import pytest

from sona.config import GuardConfig
from sona.errors import InvalidValue, StoreError
from sona.guard.exposure import PROBE, UNPROVEN
from sona.guard.guard import Guard, Heard, Observation
from sona.guard.holdout import Arm
from sona.guard.report import Verdict
from sona.state import State, digest

KEY = b"secret"
SMALL = GuardConfig(warm_up=20)


def observation(unit: str = "u", **more: object) -> Observation:
    values: dict[str, object] = {
        "arm": Arm.LEARNED,
        "exposure": 0.5,
        "is_compared": True,
        "is_identical": False,
        "quality": 1.0,
        "common": 0.0,
        "at": 0.0,
    }
    return Observation(unit, **(values | more))  # type: ignore[arg-type]


def serve(guard: Guard, unit: str, chances: tuple[float, float], rng: np.random.Generator) -> tuple[Heard, float]:
    """Serve one request as an engine does; return what was heard and what the answer cost on average."""
    assignment = guard.assign(unit)
    guard.served(assignment.arm, is_compared=assignment.is_compared)
    arm = int(assignment.arm is Arm.LEARNED)
    told = observation(
        unit,
        arm=assignment.arm,
        exposure=assignment.exposure,
        is_compared=assignment.is_compared,
        quality=float(rng.random() < chances[arm]),
        version=guard.evidence.watch.version,
    )
    return guard.observe(told), arm * (chances[0] - chances[1])


def run(guard: Guard, count: int, chances: tuple[float, float], seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [serve(guard, f"unit-{seed}-{number}", chances, rng)[1] for number in range(count)]


# -- who sees what -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_switched_off_or_in_the_shadow_every_answer_is_frozen_and_nothing_is_held_out(mode):
    guard = Guard(replace(SMALL, mode=mode), KEY)
    run(guard, 100, (0.5, 0.5))
    found = [guard.assign(f"u{n}") for n in range(200)]
    assert {one.arm for one in found} == {Arm.FROZEN}
    assert not any(one.is_held_out or one.is_compared for one in found)
    assert guard.report().reasons == (f"mode {mode}: every request is answered frozen, nothing is compared",)


def test_while_warming_up_all_is_learned_and_nothing_compared():
    guard = Guard(SMALL, KEY)
    for number in range(20):
        found = guard.assign(f"u{number}")
        assert (found.arm, found.exposure, found.is_compared, found.is_held_out) == (Arm.LEARNED, 1.0, False, False)
        guard.served(found.arm, is_compared=False)
    assert guard.assign("u").is_compared
    assert 0.2 < guard.exposure <= UNPROVEN


def test_a_canary_never_shows_more_than_its_share_not_even_while_warming_up():
    guard = Guard(replace(SMALL, mode="canary", canary=0.1, budget=1.0), KEY)
    assert guard.exposure == 0.0
    run(guard, 100, (0.5, 0.5))
    assert guard.exposure == 0.1
    found = [guard.assign(f"u{n}") for n in range(3000)]
    assert np.mean([one.arm is Arm.LEARNED for one in found]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([one.is_held_out for one in found]) == pytest.approx(0.05, abs=0.02)


def test_without_a_budget_all_but_the_held_out_see_what_was_learned_at_once():
    guard = Guard(GuardConfig(warm_up=0, budget=1.0, holdout=0.2), KEY)
    assert guard.exposure == 0.8
    for unit in (f"u{n}" for n in range(300)):
        found = guard.assign(unit)
        assert (found.arm is Arm.FROZEN) == found.is_held_out


def test_with_nothing_held_out_all_is_learned_and_nothing_compared():
    guard = Guard(GuardConfig(warm_up=0, holdout=0.0), KEY)
    run(guard, 50, (0.5, 0.5))
    found = guard.assign("u")
    assert (found.arm, found.is_compared) == (Arm.LEARNED, False)
    assert guard.report().reasons == ("nothing is held out, so there is nothing to compare with",)


def test_a_growing_exposure_moves_units_one_way():
    units = [f"u{n}" for n in range(500)]
    guard = Guard(SMALL, KEY)
    run(guard, 60, (0.2, 0.9))
    early = {unit for unit in units if guard.assign(unit).arm is Arm.LEARNED}
    held = {unit for unit in units if guard.assign(unit).is_held_out}
    share = guard.exposure
    run(guard, 1500, (0.2, 0.9), seed=1)
    assert guard.exposure > share
    assert early < {unit for unit in units if guard.assign(unit).arm is Arm.LEARNED}
    assert held == {unit for unit in units if guard.assign(unit).is_held_out}


def test_answers_in_the_shadow_earn_no_budget_to_lose():
    guard = Guard(replace(SMALL, mode="shadow"), KEY)
    run(guard, 50, (0.5, 0.5))
    assert guard.known == 0
    guard.set_mode("on")
    run(guard, 30, (0.5, 0.5), seed=1)
    assert guard.known == 30


def test_the_mode_is_switched_at_once():
    guard = Guard(SMALL, KEY)
    run(guard, 100, (0.5, 0.5))
    guard.set_mode("shadow")
    assert (guard.mode, guard.assign("u").arm) == ("shadow", Arm.FROZEN)
    with pytest.raises(InvalidValue, match="mode"):
        guard.set_mode("maybe")
    assert guard.mode == "shadow"


# -- what is said ------------------------------------------------------------------------------------------------------


def test_what_helps_is_improved_and_shown_to_all_but_the_held_out():
    guard = Guard(SMALL, KEY)
    run(guard, 2000, (0.3, 0.7))
    report = guard.report()
    assert report.verdict is Verdict.IMPROVED
    assert 0.0 < report.lift.low < 0.4 < report.lift.high
    assert guard.exposure > 0.85
    assert report.required is None
    assert report.reasons == ()


def test_with_no_difference_there_is_no_evidence_and_a_reason():
    guard = Guard(SMALL, KEY)
    run(guard, 500, (0.5, 0.5))
    report = guard.report()
    assert report.verdict is Verdict.NO_EVIDENCE
    assert report.reasons == ("the interval includes 0: the difference may be chance",)


@pytest.mark.parametrize("chances", [(0.7, 0.0), (0.7, 0.35), (0.2, 0.1)])
def test_what_harms_costs_no_more_than_the_budget_and_is_hardly_shown_any_more(chances):
    guard = Guard(SMALL, KEY)
    rng = np.random.default_rng(1)
    lost, alarms = 0.0, []
    for number in range(3000):
        heard, cost = serve(guard, f"u{number}", chances, rng)
        lost += cost if number >= SMALL.warm_up else 0.0
        alarms.append(heard.is_worse)
        assert lost <= 0.05 * chances[0] * max(number + 1, SMALL.budget_requests) + 1.0
    assert sum(alarms) <= 1
    if chances[0] - chances[1] > 0.3:
        assert any(alarms)
        assert guard.exposure <= PROBE
        assert guard.report().warnings == ("version 0 was found worse than frozen answers",)


def test_a_version_found_worse_is_remembered_and_the_next_one_begins_anew():
    guard = Guard(GuardConfig(warm_up=0, budget=1.0, holdout=0.5), KEY)
    rng, heard, number = np.random.default_rng(0), None, 0
    guard.began_version(4)
    while heard is None or not heard.is_worse:
        heard, _ = serve(guard, f"u{number}", (0.9, 0.1), rng)
        number += 1
    assert "lift -" in heard.reason
    guard.condemn(4)
    guard.began_version(3)
    assert guard.is_bad(4)
    assert not guard.is_bad(3)
    assert guard.exposure == 0.5
    report = guard.report()
    assert (report.rollbacks, report.version, report.warnings) == (1, 3, ())


def test_rejected_candidates_are_counted():
    guard = Guard(SMALL, KEY)
    guard.rejected(7)
    report = guard.report()
    assert (report.rejected, report.last_rejected) == (1, 7)
    assert not guard.is_bad(7)


def test_a_unit_is_counted_by_its_visits():
    guard = Guard(SMALL, KEY)
    visits = [guard.observe(observation(unit)).testimony.trial.visit for unit in ("a", "a", "b", "a")]
    assert visits == [1, 2, 1, 3]


def test_a_pattern_has_a_lift_of_its_own():
    guard = Guard(GuardConfig(warm_up=0, budget=1.0, holdout=0.5), KEY)
    rng = np.random.default_rng(0)
    for number in range(400):
        found = guard.assign(f"u{number}")
        is_learned = found.arm is Arm.LEARNED
        quality = float(rng.random() < (0.9 if is_learned and number % 2 else 0.2))
        guard.observe(observation(f"u{number}", arm=found.arm, quality=quality, pattern_id=number % 2))
    report = guard.report()
    helped = {row.pattern_id: row.lift.low > 0.0 for row in report.patterns}
    assert (helped, report.patterns_compared) == ({0: False, 1: True}, 2)


# -- amendments --------------------------------------------------------------------------------------------------------


def test_what_is_told_twice_alike_changes_nothing():
    guard = Guard(SMALL, KEY)
    heard = guard.observe(observation("a", quality=0.5))
    before = digest(guard.state())
    assert guard.observe(observation("a", quality=0.5), heard.testimony) == heard
    assert digest(guard.state()) == before


def test_an_amended_outcome_counts_instead_of_the_first():
    guard = Guard(SMALL, KEY)
    heard = guard.observe(observation("a", quality=0.0))
    guard.observe(observation("a", quality=1.0), heard.testimony)
    at_once = Guard(SMALL, KEY)
    at_once.observe(observation("a", quality=1.0))
    assert guard.report().lift.value == pytest.approx(at_once.report().lift.value)
    assert guard.evidence.whole.trials == guard.known == 1


def test_an_amended_surplus_counts_at_most_what_the_lists_could_earn():
    guard = Guard(SMALL, KEY)
    heard = guard.observe(observation("a", quality=0.0, prefix=3))
    again = guard.observe(observation("a", quality=0.9), heard.testimony)
    assert again.testimony.trial.surplus == pytest.approx(0.25)
    assert again.testimony.trial.quality == 0.9


def test_an_amended_outcome_that_was_never_compared_changes_nothing():
    guard = Guard(SMALL, KEY)
    plain = observation("a", is_compared=False, exposure=1.0, quality=0.0)
    heard = guard.observe(plain)
    before = digest(guard.state())
    guard.observe(replace(plain, quality=1.0), heard.testimony)
    assert digest(guard.state()) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"quality": 1.1},
        {"quality": float("nan")},
        {"common": -0.1},
        {"quality": 0.2, "common": 0.3},
        {"quality": 0.6, "prefix": 1},
        {"exposure": 1.5},
        {"exposure": 1.0},
        {"exposure": 0.0},
        {"prefix": -1},
        {"at": float("inf")},
        {"latency_us": float("nan")},
    ],
)
def test_an_observation_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidValue):
        observation(**wrong)


# -- state -------------------------------------------------------------------------------------------------------------


def lived() -> Guard:
    guard = Guard(SMALL, KEY)
    run(guard, 150, (0.4, 0.6))
    guard.condemn(2)
    guard.rejected(3)
    guard.influence.admit("ann")
    guard.set_mode("canary")
    guard.served(Arm.FROZEN, is_compared=True)
    return guard


def test_what_was_saved_goes_on_bit_for_bit():
    guard = lived()
    again = Guard.from_state(guard.state(), SMALL)
    assert again.report() == guard.report()
    for each in (guard, again):
        run(each, 90, (0.4, 0.6), seed=5)
    assert digest(guard.state()) == digest(again.state())
    assert again.is_bad(2)


def test_a_smaller_holdout_than_before_exposes_no_more_than_before():
    guard = Guard(GuardConfig(warm_up=0, budget=1.0, holdout=0.2), KEY)
    again = Guard.from_state(guard.state(), GuardConfig(warm_up=0, budget=1.0, holdout=0.01))
    assert again.exposure == pytest.approx(0.8)
    run(again, 50, (0.5, 0.5))


@pytest.mark.parametrize("name", [name for name, _ in lived().state().items()])
def test_an_incomplete_state_is_refused(name):
    values = dict(lived().state().items())
    del values[name]
    with pytest.raises(StoreError, match=name):
        Guard.from_state(State(values), SMALL)


@pytest.mark.parametrize(("name", "value"), [("key", "xyz"), ("mode", "maybe"), ("bad", ["x"])])
def test_a_damaged_state_is_refused(name, value):
    with pytest.raises(StoreError, match="guard's"):
        Guard.from_state(State({**dict(lived().state().items()), name: value}), SMALL)
