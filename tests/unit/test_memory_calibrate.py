"""Calibrator: what similarity, votes and adapters are worth, learned from what people take."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from sona.config import VoteConfig
from sona.errors import DimensionMismatch, LearningError, StoreError
from sona.memory.calibrate import CalibrationCheckpoint, Calibrator, ShownList
from sona.state import State, digest

BINS = 1 + len(VoteConfig().similarity_edges)


def shown(
    similarity, *, taken=None, passed=None, micro=None, base=None, is_known=False, similar=None, linked=None
) -> ShownList:
    count = len(similarity)

    def column(values):
        return np.zeros(count, np.float32) if values is None else np.asarray(values, np.float32)

    def table(values):
        return np.zeros((count, BINS), np.float32) if values is None else np.asarray(values, np.float32)

    columns = column(similarity), table(taken), table(passed), column(micro), column(base)
    return ShownList(*columns, is_known, *(None if one is None else column(one) for one in (similar, linked)))


def evidence(column: int, values) -> np.ndarray:
    table = np.zeros((len(values), BINS), np.float32)
    table[:, column] = values
    return table


def taken_at(place: int, count: int) -> np.ndarray:
    rewards = np.zeros(count, np.float32)
    rewards[place] = 1.0
    return rewards


def choice(rng, odds) -> int:
    chances = np.exp(odds - odds.max())
    return int(rng.choice(len(odds), p=chances / chances.sum()))


def bias(count: int) -> np.ndarray:
    return -0.5 * np.log(np.arange(1, count + 1))


def test_an_untrained_one_trusts_the_same_request_alone():
    weights = Calibrator().weights
    assert weights.reach[0] > 0.9
    assert not weights.reach[1:].any()
    assert weights.micro == weights.base == weights.similar == weights.linked == 0.0
    assert weights.taken > 0.0
    assert weights.passed > 0.0
    np.testing.assert_allclose(weights.examined, np.arange(1, 11) ** -0.5, rtol=1e-6)
    assert weights.votes(evidence(0, [1.0]), evidence(0, [0.0]))[0] > 0.0
    assert weights.votes(evidence(0, [0.0]), evidence(0, [1.0]))[0] < 0.0
    assert weights.votes(evidence(3, [5.0]), evidence(3, [0.0]))[0] == 0.0


def test_votes_rise_with_what_was_taken_fall_with_what_was_passed_and_saturate():
    weights = Calibrator().weights
    nothing = np.zeros((5, BINS), np.float32)
    more = evidence(0, [0.0, 1.0, 2.0, 3.0, 4.0])
    for_it, against_it = weights.votes(more, nothing), weights.votes(nothing, more)
    assert for_it[0] == against_it[0] == 0.0
    assert (np.diff(for_it) > 0.0).all()
    assert (np.diff(against_it) < 0.0).all()
    assert (np.diff(for_it, 2) < 0.0).all()
    assert (np.diff(against_it, 2) > 0.0).all()


def test_trust_is_half_at_the_gate_and_rises_with_evidence():
    calibrator = Calibrator(VoteConfig(gate_nats=3.0))
    assert calibrator.trust(3.0) == 0.5
    grid = [calibrator.trust(gain) for gain in (-1e9, -10.0, 0.0, 3.0, 10.0, 1e9)]
    assert grid == sorted(grid)
    assert grid[0] < 1e-9
    assert grid[-1] > 1.0 - 1e-9


@pytest.mark.parametrize(
    ("items", "rewards"), [([0.5, 0.4], [0.0, 0.0]), ([0.5], [1.0]), ([], []), ([0.5, 0.1, 0.2], [0.0] * 3)]
)
def test_a_list_without_a_choice_teaches_nothing(items, rewards):
    calibrator = Calibrator()
    before = digest(calibrator.state())
    assert not calibrator.learn(shown(items), np.array(rewards, np.float32))
    assert digest(calibrator.state()) == before


def test_an_update_that_is_not_finite_is_refused_and_changes_nothing():
    calibrator = Calibrator()
    calibrator.learn(shown([0.5, 0.4]), taken_at(1, 2))
    before, weights = digest(calibrator.state()), calibrator.weights
    with pytest.raises(LearningError):
        calibrator.learn(shown([0.5, math.nan]), taken_at(1, 2))
    assert digest(calibrator.state()) == before
    assert calibrator.weights is weights


def test_the_worth_of_an_adapter_is_what_a_batch_fit_finds():
    rng = np.random.default_rng(0)
    calibrator, lists = Calibrator(), []
    for _ in range(500):
        similarity, micro = rng.uniform(0.0, 1.0, 8), rng.normal(0.0, 0.3, 8)
        place = choice(rng, 6.0 * similarity + 4.0 * micro + bias(8))
        lists.append((similarity, micro, place))
        calibrator.learn(shown(similarity, micro=micro), taken_at(place, 8))

    def loss(parameters: np.ndarray) -> float:
        total = 0.0
        for similarity, micro, place in lists:
            odds = parameters[0] * similarity + parameters[1] * micro + bias(8)
            total -= odds[place] - odds.max() - math.log(np.exp(odds - odds.max()).sum())
        return total

    best = minimize(loss, [4.0, 0.0]).x
    assert calibrator.weights.micro == pytest.approx(best[1] / best[0], rel=0.15)
    assert calibrator.gains.lists == 500


def simulate(part: str, *, helps: bool, lists: int = 250, seed: int = 0) -> Calibrator:
    """Lists in which one part tells what is taken, or has nothing to do with it."""
    rng = np.random.default_rng(seed)
    calibrator = Calibrator()
    for _ in range(lists):
        similarity, signal = rng.uniform(0.3, 0.7, 6), rng.integers(0, 2, 6).astype(np.float64)
        told = signal if helps else rng.permutation(signal)
        place = choice(rng, 5.0 * similarity + 2.5 * told + bias(6))
        column = {"own": 0, "reach": 4}.get(part)
        if column is None:
            scale = {"similar": signal, "linked": signal}.get(
                part, 0.3 * (signal - 0.5)
            )  # activation is never negative
            one = shown(similarity, **{part: scale})
        else:
            one = shown(similarity, taken=evidence(column, signal), is_known=column == 0)
        calibrator.learn(one, taken_at(place, 6))
    return calibrator


@pytest.mark.parametrize("part", ["micro", "base"])
def test_an_adapter_earns_its_weight_and_only_by_helping(part):
    helping, useless = simulate(part, helps=True), simulate(part, helps=False)
    assert getattr(helping.weights, part) > 0.3
    assert getattr(helping.gains, part) > 10.0
    assert getattr(useless.weights, part) < 0.1
    others = {"micro", "base"} - {part}
    assert all(getattr(helping.weights, other) == 0.0 for other in others)


@pytest.mark.parametrize("part", ["similar", "linked"])
def test_activation_earns_its_weight_by_kind_of_link_and_only_by_helping(part):
    helping, useless = simulate(part, helps=True), simulate(part, helps=False)
    other = {"similar": "linked", "linked": "similar"}[part]
    assert getattr(helping.weights, part) == pytest.approx(0.5, rel=0.35)  # 2.5 of log odds to 5 of similarity
    assert getattr(helping.gains, part) > 10.0
    assert getattr(useless.gains, part) < useless.config.gate_nats
    assert getattr(useless.weights, part) < 0.05
    for calibrator in (helping, useless):
        assert (getattr(calibrator.weights, other), getattr(calibrator.gains, other)) == (0.0, 0.0)


def test_activation_has_to_pass_the_gate():
    strict, lax = Calibrator(VoteConfig(gate_nats=1e6)), Calibrator(VoteConfig(gate_nats=0.0))
    for calibrator in (strict, lax):
        for _ in range(30):
            calibrator.learn(shown([0.5, 0.5], linked=[0.0, 1.0]), taken_at(1, 2))
    assert strict.gains.linked > 1.0
    assert strict.weights.linked == pytest.approx(0.0, abs=1e-12)
    assert lax.weights.linked > 0.1


def test_activation_is_scored_before_it_is_learned_from_and_not_on_requests_asked_again():
    calibrator = Calibrator()
    one = shown([0.5, 0.5, 0.5], similar=[0.0, 1.0, 0.0], linked=[0.0, 0.5, 0.0])
    calibrator.learn(one, taken_at(1, 3))
    assert calibrator.gains.similar == calibrator.gains.linked == 0.0
    calibrator.learn(one, taken_at(1, 3))
    held = calibrator.gains
    assert held.similar > 0.0
    assert held.linked > 0.0
    calibrator.learn(shown([0.5, 0.5], linked=[0.0, 1.0], is_known=True), taken_at(1, 2))
    assert (calibrator.gains.similar, calibrator.gains.linked) == (held.similar, held.linked)
    calibrator.learn(one, taken_at(0, 3))
    assert calibrator.gains.similar < held.similar
    assert calibrator.gains.linked < held.linked


def test_a_list_that_knows_nothing_of_links_is_one_that_none_reached():
    one, other = Calibrator(), Calibrator()
    one.learn(shown([0.5, 0.4]), taken_at(1, 2))
    other.learn(shown([0.5, 0.4], similar=[0.0, 0.0], linked=[0.0, 0.0]), taken_at(1, 2))
    assert digest(one.state()) == digest(other.state())


def test_what_is_believed_of_activation_comes_back():
    calibrator = simulate("linked", helps=True, lists=60)
    calibrator.learn(shown([0.5, 0.4], similar=[0.3, 0.0], linked=[0.0, 0.9]), taken_at(1, 2), key=7)
    again = Calibrator.from_state(calibrator.state())
    assert again.gains == calibrator.gains
    assert (again.weights.similar, again.weights.linked) == (calibrator.weights.similar, calibrator.weights.linked)
    assert again.amend(taken_at(0, 2), key=7)
    assert calibrator.amend(taken_at(0, 2), key=7)
    assert digest(again.state()) == digest(calibrator.state())


def test_neighbours_earn_their_reach_and_only_by_helping():
    helping, useless = simulate("reach", helps=True), simulate("reach", helps=False)
    assert helping.weights.reach[4] > 0.5
    assert useless.weights.reach[4] < 0.15
    bins_without_data = [1, 2, 3, 5]
    assert not helping.weights.reach[bins_without_data].any()


def test_the_same_requests_evidence_keeps_its_worth_only_while_it_predicts():
    helping, useless = simulate("own", helps=True), simulate("own", helps=False, lists=600)
    one, none = evidence(0, [1.0]), evidence(0, [0.0])
    assert helping.weights.votes(one, none)[0] > 0.2
    assert useless.weights.votes(one, none)[0] < 0.5 * helping.weights.votes(one, none)[0]


def test_position_bias_is_learned_from_what_is_taken():
    rng = np.random.default_rng(1)
    calibrator = Calibrator()
    true = np.log([1.0, 0.2, 0.2, 0.2, 0.2])
    for _ in range(600):
        similarity = rng.uniform(0.0, 1.0, 5)
        place = choice(rng, 4.0 * similarity + true)
        calibrator.learn(shown(similarity), taken_at(place, 5))
    np.testing.assert_allclose(calibrator.weights.examined[1:5], 0.2, atol=0.1)  # from .71 to .45; 2 standard errors
    assert (calibrator.weights.examined <= 1.0).all()


def test_parts_are_scored_before_they_are_learned_from():
    calibrator = Calibrator()
    one = shown([0.5, 0.5, 0.5], micro=[0.0, 0.3, 0.0], taken=evidence(4, [0.0, 1.0, 0.0]))
    calibrator.learn(one, taken_at(1, 3))
    assert calibrator.gains.reach == calibrator.gains.micro == 0.0  # nothing was claimed yet, so nothing was won
    calibrator.learn(one, taken_at(1, 3))
    assert calibrator.gains.reach > 0.0
    assert calibrator.gains.micro > 0.0
    held = calibrator.gains
    calibrator.learn(one, taken_at(0, 3))
    assert calibrator.gains.reach < held.reach
    assert calibrator.gains.micro < held.micro


def test_repeats_are_no_evidence_for_what_reaches_beyond_them():
    calibrator = Calibrator()
    parts = {name: [0.0, 0.3] for name in ("micro", "base", "similar", "linked")}
    one = shown([0.5, 0.5], **parts, taken=evidence(4, [0.0, 1.0]), is_known=True)
    for _ in range(50):
        calibrator.learn(one, taken_at(1, 2))
    gains = calibrator.gains
    assert gains.reach == gains.micro == gains.base == gains.similar == gains.linked == 0.0


def test_no_part_ever_counts_against_its_meaning():
    rng = np.random.default_rng(2)
    calibrator = Calibrator()
    for _ in range(200):  # what was taken before is now what is avoided
        signal = rng.integers(0, 2, 6).astype(np.float32)
        place = choice(rng, -3.0 * signal)
        parts = {"micro": signal, "similar": signal, "linked": signal}
        one = shown(rng.uniform(0.3, 0.7, 6), taken=evidence(0, signal), passed=evidence(0, 1.0 - signal), **parts)
        calibrator.learn(one, taken_at(place, 6))
    weights = calibrator.weights
    assert weights.taken >= 0.0
    assert weights.passed >= 0.0
    assert weights.micro >= 0.0
    assert weights.similar >= 0.0
    assert weights.linked >= 0.0
    assert (weights.reach >= 0.0).all()
    assert (weights.reach <= 1.0).all()


def test_published_weights_never_change():
    calibrator = Calibrator()
    held = calibrator.weights
    values = held.reach.copy(), held.examined.copy(), held.taken
    for _ in range(5):
        calibrator.learn(shown([0.5, 0.4], micro=[0.0, 1.0], taken=evidence(2, [0.0, 1.0])), taken_at(1, 2))
    assert calibrator.weights is not held
    assert (held.reach == values[0]).all()
    assert (held.examined == values[1]).all()
    assert held.taken == values[2]


def test_lists_longer_than_the_positions_share_the_last_bias():
    calibrator = Calibrator(VoteConfig(positions=3))
    calibrator.learn(shown(np.linspace(0.9, 0.1, 8)), taken_at(7, 8))
    assert calibrator.weights.examined.shape == (3,)
    assert np.isfinite(calibrator.weights.examined).all()


def test_a_state_of_other_bins_is_refused():
    state = Calibrator(VoteConfig(similarity_edges=(0.5,))).state()
    with pytest.raises(StoreError):
        Calibrator.from_state(state)


def test_the_last_list_amended_is_as_if_the_first_word_had_not_been():
    one, other = shown([0.9, 0.5, 0.3]), shown([0.8, 0.7, 0.1])
    twice, once = Calibrator(), Calibrator()
    for calibrator in (twice, once):
        calibrator.learn(other, taken_at(0, 3), key=1)
    twice.learn(one, taken_at(2, 3), key=2)
    assert twice.amend(taken_at(1, 3), key=2)
    once.learn(one, taken_at(1, 3), key=2)
    assert digest(twice.state()) == digest(once.state())


def test_a_list_amended_after_another_came_is_left_as_it_was():
    calibrator = Calibrator()
    calibrator.learn(shown([0.9, 0.5]), taken_at(1, 2), key=1)
    calibrator.learn(shown([0.8, 0.7]), taken_at(0, 2), key=2)
    before = digest(calibrator.state())
    assert not calibrator.amend(taken_at(0, 2), key=1)
    assert digest(calibrator.state()) == before


def test_the_last_list_can_be_amended_after_a_restart():
    one = shown([0.9, 0.5, 0.3], taken=evidence(2, [0.0, 1.0, 2.0]), micro=[0.1, 0.0, 0.2], is_known=True)
    went_on, stopped = Calibrator(), Calibrator()
    for calibrator in (went_on, stopped):
        calibrator.learn(shown([0.8, 0.7]), taken_at(1, 2), key=1)
        calibrator.learn(one, taken_at(2, 3), key=0)
    stopped = Calibrator.from_state(stopped.state())
    assert went_on.amend(taken_at(1, 3), key=0)
    assert stopped.amend(taken_at(1, 3), key=0)
    assert digest(stopped.state()) == digest(went_on.state())


@pytest.mark.parametrize("key", [-1, 0, 7])
def test_a_list_without_a_name_cannot_be_amended_and_is_not_kept(key):
    calibrator, untouched = Calibrator(), Calibrator()
    assert not untouched.amend(taken_at(0, 2), key=key)
    assert digest(untouched.state()) == digest(Calibrator().state())
    calibrator.learn(shown([0.9, 0.5]), taken_at(1, 2))
    before = digest(calibrator.state())
    assert not calibrator.amend(taken_at(0, 2), key=key)
    assert digest(calibrator.state()) == before
    assert calibrator.state().child("last").floats("scalars", 5, None).size == 0


@pytest.mark.parametrize("rewards", [[1.0], [0.0, 1.0, 0.0], [[0.0, 1.0]], 1.0])
def test_rewards_that_are_not_one_for_each_position_are_refused_and_change_nothing(rewards):
    calibrator = Calibrator()
    calibrator.learn(shown([0.9, 0.5]), taken_at(1, 2), key=1)
    before = digest(calibrator.state())
    for use in (
        lambda: calibrator.learn(shown([0.9, 0.5]), np.array(rewards, np.float32), key=2),
        lambda: calibrator.amend(np.array(rewards, np.float32), key=1),
    ):
        with pytest.raises(DimensionMismatch):
            use()
    assert digest(calibrator.state()) == before


def test_an_amendment_that_is_not_finite_is_refused_and_changes_nothing(monkeypatch):
    calibrator = Calibrator()
    calibrator.learn(shown([0.5, 0.4]), taken_at(0, 2), key=1)
    before, updated = digest(calibrator.state()), Calibrator._updated

    def diverged(*given):
        mean, precision = updated(*given)
        return mean * math.nan, precision

    monkeypatch.setattr(Calibrator, "_updated", diverged)
    with pytest.raises(LearningError):
        calibrator.amend(taken_at(1, 2), key=1)
    assert digest(calibrator.state()) == before


def lessons(calibrator: Calibrator, count: int, seed: int) -> Calibrator:
    rng = np.random.default_rng(seed)
    for key in range(count):
        one = shown(rng.uniform(0.0, 1.0, 5), micro=rng.normal(size=5), taken=rng.uniform(size=(5, BINS)))
        calibrator.learn(one, taken_at(int(rng.integers(5)), 5), key=key)
    return calibrator


def without_lists(calibrator: Calibrator) -> str:
    values = dict(calibrator.state().items())
    for name in ("belief", "before"):
        values[name] = State({key: value for key, value in values[name].items() if key != "lists"})
    return digest(State(values))


@pytest.mark.parametrize("count", [0, 5])
def test_restoring_what_was_just_kept_changes_nothing(count):
    calibrator = lessons(Calibrator(), count, seed=1)
    before = digest(calibrator.state())
    calibrator.restore(calibrator.checkpoint())
    assert digest(calibrator.state()) == before


@pytest.mark.parametrize("is_saved", [False, True])
@pytest.mark.parametrize("count", [0, 30])
def test_a_restored_calibration_is_that_of_the_checkpoint_but_for_the_lists_counted(count, is_saved):
    calibrator, same = lessons(Calibrator(), count, seed=1), lessons(Calibrator(), count, seed=1)
    kept, before = calibrator.checkpoint(), without_lists(calibrator)
    if is_saved:
        kept = CalibrationCheckpoint.from_state(kept.state())
    as_kept = digest(kept.state())
    lessons(calibrator, 1_000, seed=2)
    calibrator.restore(kept)
    assert without_lists(calibrator) == before
    assert calibrator.gains.lists == count + 1_000
    assert (calibrator.weights.reach == same.weights.reach).all()
    for each in (calibrator, same):
        each.amend(taken_at(3, 5), key=29)
        lessons(each, 3, seed=3)
    assert without_lists(calibrator) == without_lists(same)
    assert calibrator.gains.lists == same.gains.lists + 1_000
    assert digest(kept.state()) == as_kept


@pytest.mark.parametrize("config", [VoteConfig(positions=3), VoteConfig(similarity_edges=(0.5,), positions=14)])
def test_a_checkpoint_of_other_settings_is_refused_and_changes_nothing(config):
    calibrator = lessons(Calibrator(), 5, seed=1)
    other = Calibrator(config)
    bins = np.zeros((2, 1 + len(config.similarity_edges)), np.float32)
    other.learn(ShownList(np.ones(2, np.float32), bins, bins, bins[:, 0], bins[:, 0]), taken_at(0, 2), key=1)
    before = digest(calibrator.state())
    with pytest.raises(DimensionMismatch):
        calibrator.restore(other.checkpoint())
    assert digest(calibrator.state()) == before
