import math

import numpy as np
import pytest

from sona.errors import ConfigError, InvalidValue, StoreError
from sona.state import State, digest
from sona.tuner.dag.bandit import UcbTuned

CHANCES = np.array([0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4])


class PlainUcb(UcbTuned):
    """UCB1: the control that the bound by variance is measured against."""

    def select(self):
        if not self.counts.all():
            return int(np.argmin(self.counts > 0))
        return int(np.argmax(self.means + np.sqrt(2.0 * math.log(self.counts.sum()) / self.counts)))


def regret(bandit, seed, rounds=5000):
    rng = np.random.default_rng(seed)
    lost = 0.0
    for _ in range(rounds):
        arm = bandit.select()
        lost += CHANCES.max() - CHANCES[arm]
        bandit.update(arm, float(rng.random() < CHANCES[arm]))
    return lost


def test_regret_is_that_of_ucb1_tuned():
    # Over 60 runs: 50.5 with a standard error of 1.8, and 251 for UCB1.
    tuned = np.mean([regret(UcbTuned(7), seed) for seed in range(8)])
    plain = np.mean([regret(PlainUcb(7), seed) for seed in range(2)])
    assert tuned < 80
    assert plain > 200


def test_every_arm_is_pulled_once_first_in_order():
    bandit, pulled = UcbTuned(4), []
    for _ in range(4):
        pulled.append(bandit.select())
        bandit.update(pulled[-1], 1.0)
    assert pulled == [0, 1, 2, 3]


def test_the_bound_is_that_of_the_formula():
    bandit = UcbTuned(2)
    for arm, reward in [(0, 0.2), (0, 0.4), (0, 0.3), (1, 0.1)]:
        bandit.update(arm, reward)

    def bound(rewards, t=4):
        share = math.log(t) / len(rewards)
        return np.mean(rewards) + math.sqrt(share * min(0.25, np.var(rewards) + math.sqrt(2.0 * share)))

    assert bound([0.1]) > bound([0.2, 0.4, 0.3])
    assert bandit.select() == 1
    assert UcbTuned.from_state(bandit.state(), 2, width=0.0).select() == 0  # the greatest mean


def test_of_two_arms_of_the_same_mean_the_unsteady_one_is_looked_at():
    bandit, plain = UcbTuned(2), PlainUcb(2)
    for number in range(400):
        for one in (bandit, plain):
            one.update(0, 0.5)
            one.update(1, float(number % 2))
    assert (bandit.select(), plain.select()) == (1, 0)


def test_counts_and_means_tell_what_was_pulled():
    bandit = UcbTuned(3)
    for arm, reward in [(1, 0.5), (1, 1.0), (2, 0.0)]:
        bandit.update(arm, reward)
    assert bandit.counts.tolist() == [0, 2, 1]
    assert bandit.means.tolist() == [0.0, 0.75, 0.0]
    bandit.counts[0] = bandit.means[0] = 7
    assert bandit.counts[0] == bandit.means[0] == 0


@pytest.mark.parametrize(("arm", "reward"), [(2, 0.5), (-1, 0.5), (True, 0.5), (0, 1.1), (0, -0.1), (0, math.nan)])
def test_a_bad_update_changes_nothing(arm, reward):
    bandit = UcbTuned(2)
    bandit.update(0, 0.5)
    before = digest(bandit.state())
    with pytest.raises(InvalidValue):
        bandit.update(arm, reward)
    assert digest(bandit.state()) == before


def test_bad_settings_are_refused():
    for width in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="width"):
            UcbTuned(2, width=width)
    with pytest.raises(InvalidValue, match="arms"):
        UcbTuned(0)


def test_it_comes_back_bit_for_bit_and_goes_on_alike():
    bandit = UcbTuned(7)
    regret(bandit, 0, rounds=200)
    again = UcbTuned.from_state(bandit.state(), 7)
    assert digest(again.state()) == digest(bandit.state())
    assert regret(again, 1, rounds=100) == regret(bandit, 1, rounds=100)


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": np.array([1, -1])},
        {"counts": np.array([1.0, 1.0])},
        {"counts": np.array([1, 1, 1])},
        {"sums": np.array([2.0, 0.0])},
        {"sums": np.array([np.nan, 0.0])},
        {"squares": np.array([0.9, 0.0])},
        {"squares": np.array([-0.1, 0.0])},
    ],
)
def test_a_damaged_state_is_refused(damage):
    whole = {"counts": np.array([1, 1]), "sums": np.array([0.5, 0.0]), "squares": np.array([0.25, 0.0])}
    assert UcbTuned.from_state(State(whole), 2).counts.tolist() == [1, 1]
    with pytest.raises(StoreError):
        UcbTuned.from_state(State({**whole, **damage}), 2)
