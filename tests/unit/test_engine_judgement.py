"""Judgement: harm is found and gone back from, a bad candidate never comes into force, and neither is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.config import GuardConfig, PatternConfig, SonaConfig
from sona.engine.events import Serving
from sona.engine.judgement import Judgement, unit_of
from sona.engine.learner import Learner
from sona.engine.served import Served
from sona.errors import InvalidValue
from sona.guard.guard import Guard
from sona.guard.holdout import Arm
from sona.guard.rehearsal import Rehearsal
from sona.state import digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 4
CONFIG = SonaConfig(
    hidden_dim=D, min_trajectories=1, patterns=PatternConfig(min_cluster_size=2), guard=GuardConfig(warm_up=0)
)
RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(6, D)).astype(np.float32)
FINE = Rehearsal(100, 0.1, 0.9, False, "better")
WORSE = Rehearsal(100, -0.5, 1e-6, True, "it does much worse")


def shown(number: int, *rewards: float) -> QueryTrajectory:
    rng = np.random.default_rng(number)
    steps = tuple(
        TrajectoryStep(ITEMS[row], reward=reward, ref=f"d{row}")
        for row, reward in zip(rng.permutation(6), rewards or (1.0, 0.0), strict=False)
    )
    return QueryTrajectory(number, rng.normal(size=D), steps, alternatives=True)


def judged() -> tuple[Judgement, Learner]:
    return Judgement(Guard(CONFIG.guard, b"key"), CONFIG.guard.alpha), Learner(D, CONFIG)


def cycle(judgement: Judgement, learner: Learner, number: int, rehearsal: Rehearsal = FINE):
    for one in range(6):
        learner.learn(shown(10 * number + one), at=0.0, text=None, replaces=None)
    change = learner.loops.compute(learner.loops.begin(now=float(number), force=True))
    return judgement.commit(learner, change, rehearsal, at=float(number), seq=number)


def hear(judgement: Judgement, learner: Learner, number: int, quality: float, arm: Arm, earlier=None):
    serving = Serving(arm, 0.5, False, True, False, 0, judgement.versions.in_force)
    outcome = shown(number, quality)
    served = Served(shown(number), None, 0.0, serving, testimony=earlier)
    return judgement.hear(served, outcome, f"unit {number}", learner, float(number))


def harm(judgement: Judgement, learner: Learner, most: int = 3000) -> int:
    """Let frozen answers earn everything and learned ones nothing until something is done about it."""
    decided, version = len(judgement.versions.decisions), judgement.versions.in_force
    for number in range(most):
        arm = (Arm.LEARNED, Arm.FROZEN)[number % 2]
        hear(judgement, learner, number, float(arm is Arm.FROZEN), arm)
        if len(judgement.versions.decisions) > decided:
            return number
        assert judgement.versions.in_force == version
    raise AssertionError("nobody noticed")


def test_a_candidate_comes_into_force_as_the_next_version():
    judgement, learner = judged()
    result = cycle(judgement, learner, 1)
    assert (result.version, result.skipped_reason, judgement.versions.in_force) == (1, None, 1)
    assert judgement.guard.report().version == 1
    assert judgement.versions.decisions == ()


def test_a_candidate_that_does_worse_on_what_was_held_out_is_rejected_and_changes_no_answer():
    judgement, learner = judged()
    cycle(judgement, learner, 1)
    before = learner.base.forward_layer(0, ITEMS).tobytes(), learner.bank.pattern_count
    result = cycle(judgement, learner, 2, WORSE)
    assert (result.version, judgement.versions.in_force) == (1, 1)
    assert "it does much worse" in result.skipped_reason
    assert (learner.base.forward_layer(0, ITEMS).tobytes(), learner.bank.pattern_count) == before
    assert [one.id for one in judgement.versions.listed] == [1]
    (decided,) = judgement.versions.decisions
    assert (decided.decision, decided.version, decided.reason) == ("rejected", 2, WORSE.reason)
    report = judgement.guard.report()
    assert (report.rejected, report.last_rejected) == (1, 2)


def test_only_lists_that_were_held_out_are_rehearsed():
    judgement, learner = judged()
    for one in range(6):
        learner.learn(shown(one), at=0.0, text=None, replaces=None)
    change = learner.loops.compute(learner.loops.begin(now=1.0, force=True))
    before = digest(learner.state())
    assert judgement.rehearse(learner, change).lists == 0
    for number in range(40):
        judgement.hold_out(shown(100 + number, 0.0, 1.0))
    judgement.hold_out(replace(shown(1), steps=()))  # nothing was found to show
    judgement.hold_out(QueryTrajectory(2, np.ones(D + 1)))  # of another embedder
    assert judgement.rehearse(learner, change).lists == 40
    assert digest(learner.state()) == before


def test_what_is_found_harmful_is_gone_back_from_to_the_version_before_it():
    judgement, learner = judged()
    cycle(judgement, learner, 1)
    first = learner.adapt(ITEMS).tobytes()
    cycle(judgement, learner, 2)
    assert learner.adapt(ITEMS).tobytes() != first
    assert harm(judgement, learner) > 10
    assert judgement.versions.in_force == judgement.guard.report().version == 1
    assert learner.adapt(ITEMS).tobytes() == first
    (decided,) = judgement.versions.decisions
    assert (decided.decision, decided.version) == ("rolled back", 1)
    assert "version 2 was found worse" in decided.reason
    assert judgement.guard.is_bad(2)
    assert not judgement.guard.is_bad(1)
    harm(judgement, learner)
    assert judgement.versions.in_force == 0
    assert learner.adapt(ITEMS).tobytes() == ITEMS.tobytes()
    assert judgement.guard.report().rollbacks == 2


def test_a_version_made_from_a_harmful_one_goes_back_past_it():
    judgement, learner = judged()
    for number in (1, 2, 3):
        cycle(judgement, learner, number)
    judgement.guard.condemn(2)
    harm(judgement, learner)
    assert judgement.versions.in_force == 1


def test_answers_that_earn_alike_change_nothing():
    judgement, learner = judged()
    cycle(judgement, learner, 1)
    for number in range(600):
        hear(judgement, learner, number, 0.5, (Arm.LEARNED, Arm.FROZEN)[number % 2])
    assert (judgement.versions.in_force, judgement.versions.decisions) == (1, ())


def test_an_amended_outcome_testifies_as_if_it_had_come_so_at_first():
    lifts = []
    for first in (1.0, 0.0):
        judgement, learner = judged()
        for number in range(40):
            arm = (Arm.LEARNED, Arm.FROZEN)[number % 2]
            told = hear(judgement, learner, number, first, arm)
            if first:
                hear(judgement, learner, number, 0.0, arm, told)
        lifts.append(judgement.guard.report().lift)
    assert lifts[0].trials == lifts[1].trials == 40
    assert lifts[0].value == pytest.approx(lifts[1].value)


def test_somebody_may_go_back_to_what_is_kept_and_to_nothing_else():
    judgement, learner = judged()
    cycle(judgement, learner, 1)
    before = digest(judgement.state()), digest(learner.state())
    with pytest.raises(InvalidValue, match="no version 7"):
        judgement.roll_back(learner, 7, at=5.0, reason="by hand")
    assert (digest(judgement.state()), digest(learner.state())) == before
    judgement.roll_back(learner, 0, at=5.0, reason="by hand")
    assert (judgement.versions.in_force, judgement.guard.report().version) == (0, 0)
    assert judgement.versions.decisions[-1].reason == "by hand"
    judgement.roll_back(learner, 1, at=6.0, reason="and forth")
    assert judgement.versions.in_force == 1


def test_who_asks_is_assigned_else_what_is_asked():
    x = np.ones(2, np.float32)
    assert unit_of("me", "text", x) == unit_of("me", None, x + 1)
    assert unit_of(None, "text", x) == unit_of(None, "text", x + 1)
    assert unit_of(None, None, x) == unit_of(None, None, x.copy())
    assert len({unit_of("a", None, x), unit_of(None, "a", x), unit_of(None, None, x), unit_of(None, None, x + 1)}) == 4
