"""Versions: each committed state by number, the last few to go back to, and what one holds otherwise than another."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import PatternConfig, SonaConfig
from sona.engine.learner import Learner
from sona.engine.versions import VersionRecord, Versions, difference, summary_of
from sona.errors import InvalidValue, StoreError
from sona.loops.background import BackgroundResult
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 4
CONFIG = SonaConfig(hidden_dim=D, patterns=PatternConfig(min_cluster_size=2))
ITEMS = np.random.default_rng(0).normal(size=(6, D)).astype(np.float32)
GOOD = {"id": 0, "parent": None, "digest": "", "at": 0.0, "seq": 0, "trajectories": 0, "summary": {}, "reason": ""}


def committed(learner: Learner, versions: Versions, number: int) -> BackgroundResult:
    """Learn a little, run a cycle and put it in force."""
    rng = np.random.default_rng(number)
    for one in range(6):
        steps = tuple(TrajectoryStep(ITEMS[row], reward=float(row == 0), ref=f"d{row}") for row in rng.permutation(6))
        trajectory = QueryTrajectory(10 * number + one, rng.normal(size=D), steps, alternatives=True)
        learner.learn(trajectory, at=0.0, text=None, replaces=None)
    result = learner.loops.commit(learner.loops.compute(learner.loops.begin(now=1.0, force=True)), now=1.0)
    versions.add(learner, result, at=float(number), seq=100 + number)
    return result


def lived(count: int) -> tuple[Learner, Versions, list[bytes]]:
    learner, versions, answers = Learner(D, CONFIG), Versions(), []
    for number in range(1, count + 1):
        committed(learner, versions, number)
        answers.append(learner.adapt(ITEMS).tobytes())
    return learner, versions, answers


@pytest.mark.parametrize("change", [{"id": -1}, {"parent": -1}, {"at": None}, {"seq": -1}, {"trajectories": 0.5}])
def test_a_version_out_of_range_is_refused(change):
    VersionRecord(**GOOD)
    with pytest.raises(InvalidValue):
        VersionRecord(**{**GOOD, **change})


def test_a_version_knows_its_parent_its_place_and_what_it_was_made_of():
    learner, versions, answers = lived(2)
    assert versions.in_force == 2
    assert [(one.id, one.parent, one.at, one.seq, one.trajectories) for one in versions.listed] == [
        (1, 0, 1.0, 101, 6),
        (2, 1, 2.0, 102, 6),
    ]
    assert versions.find(2).digest == digest(learner.checkpoint().state()) != versions.find(1).digest
    assert versions.find(2).summary == summary_of(learner)
    assert versions.find(2).summary["past_requests"] == 12
    assert answers[0] != answers[1]


def test_going_back_answers_as_then_and_what_follows_has_the_right_parent():
    learner, versions, answers = lived(3)
    versions.go_back(learner, 1)
    assert (versions.in_force, learner.adapt(ITEMS).tobytes()) == (1, answers[0])
    result = committed(learner, versions, 4)
    assert (result.version, versions.parent_of(4)) == (4, 1)
    versions.go_back(learner, 3)
    assert learner.adapt(ITEMS).tobytes() == answers[2]
    versions.go_back(learner, 0)
    assert learner.adapt(ITEMS).tobytes() == ITEMS.tobytes()
    assert learner.votes.look_up(ITEMS[0]).items == ()


def test_only_the_last_few_are_kept_and_the_untrained_one():
    learner, versions, _ = lived(5)
    assert versions.kept == (0, 3, 4, 5)
    assert [one.id for one in versions.listed] == [1, 2, 3, 4, 5]
    before = digest(versions.state()), digest(learner.state())
    with pytest.raises(InvalidValue, match="not kept any more"):
        versions.go_back(learner, 2)
    for unknown in (6, -1):
        with pytest.raises(InvalidValue, match="known are 1, 2"):
            versions.go_back(learner, unknown)
    assert (digest(versions.state()), digest(learner.state())) == before


def test_what_was_gone_back_to_is_kept_as_long_as_what_comes_next():
    learner, versions, answers = lived(4)
    versions.go_back(learner, 2)
    committed(learner, versions, 5)
    assert versions.kept == (0, 2, 4, 5)
    versions.go_back(learner, 2)
    assert learner.adapt(ITEMS).tobytes() == answers[1]


def test_the_sound_version_before_one_is_its_nearest_ancestor_that_is_neither_bad_nor_gone():
    learner, versions, _ = lived(4)  # kept are 2, 3 and 4
    assert versions.sound_before(4, lambda version: False) == 3
    assert versions.sound_before(4, {3}.__contains__) == 2
    assert versions.sound_before(4, {2, 3}.__contains__) == 0  # the first is not kept any more
    versions.go_back(learner, 2)
    committed(learner, versions, 5)
    assert versions.sound_before(5, {3, 4}.__contains__) == 2


def test_another_embedder_leaves_records_and_nothing_to_go_back_to():
    learner, versions, _ = lived(2)
    versions.begin_anew()
    assert (versions.in_force, versions.kept, len(versions.listed)) == (0, (0,), 2)
    with pytest.raises(InvalidValue, match="not kept"):
        versions.go_back(learner, 1)


def test_decisions_are_told_once_and_remembered():
    versions = Versions()
    versions.decide(1.0, "rejected", 3, "worse")
    versions.decide(2.0, "rolled back", 1, "by hand")
    assert [one.version for one in versions.told()] == [3, 1]
    assert versions.told() == []
    for number in range(300):
        versions.decide(float(number), "rejected", number, "worse")
    assert len(versions.decisions) == 100
    assert versions.decisions[-1].version == 299


def test_a_difference_is_what_the_figures_say_and_its_opposite_the_other_way_round():
    learner, versions, _ = lived(2)
    untrained = summary_of(Learner(D, CONFIG))
    there, back = difference(versions, 1, 2, untrained), difference(versions, 2, 1, untrained)
    assert there.figures["past_requests"] == (6.0, 12.0)
    assert back.figures["past_requests"] == (12.0, 6.0)
    assert (there.trajectories, back.trajectories) == (6, None)
    assert not there.is_equal
    whole = difference(versions, 0, 2, untrained)
    assert (whole.trajectories, whole.figures["past_requests"], whole.is_equal) == (12, (0.0, 12.0), False)
    for version in (0, 1, 2):
        same = difference(versions, version, version, untrained)
        assert (same.is_equal, same.figures, same.trajectories) == (True, {}, 0)
    with pytest.raises(InvalidValue):
        difference(versions, 1, 3, untrained)
    assert learner.loops.background.learned_count == 12


def test_versions_come_back_bit_for_bit_and_answer_as_then():
    learner, versions, answers = lived(4)
    versions.decide(1.0, "rejected", 5, "worse")
    again = Versions.from_state(versions.state())
    assert digest(again.state()) == digest(versions.state())
    assert again.listed == versions.listed
    assert again.told() == []  # they are in the log
    for number in (2, 3, 4):
        again.go_back(learner, number)
        assert learner.adapt(ITEMS).tobytes() == answers[number - 1]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("listed", [{"id": 1}]),
        ("listed", [{**GOOD, "trajectories": -1}]),
        ("listed", [{"unknown": 1}]),
        ("listed", [5]),
        ("decisions", [{"at": 1.0}]),
        ("decisions", ["x"]),
        ("kept_ids", np.array([7], np.int64)),
    ],
)
def test_a_damaged_state_is_refused(name, wrong):
    _, versions, _ = lived(1)
    with pytest.raises(StoreError):
        Versions.from_state(State({**dict(versions.state().items()), name: wrong}))
