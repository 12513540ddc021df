import numpy as np
import pytest

from sona.errors import StoreError
from sona.state import State, digest
from sona.tuner.choosing.arms import Arm
from sona.tuner.choosing.odds import RATIOS, ArmOdds, Case
from sona.tuner.execution import ExecutionParams

REMEDY, OTHER = Arm("remedy", ExecutionParams(), is_remedy=True), Arm("other", ExecutionParams())
NEAR, FAR = np.eye(16, dtype=np.float32)[:2]


def outcomes(*ratios, arm="remedy", embedding=NEAR, is_censored=False, surprise=0.0):
    odds = ArmOdds(16)
    for ratio in ratios:
        odds.add(arm, Case(embedding, surprise), ratio, is_censored=is_censored)
    return odds


def test_a_hope_for_less_is_the_likelier_one():
    chances = ArmOdds(16).chances(OTHER, Case(NEAR, 0.0))
    assert 0.0 < chances[0] < chances[1] < chances[2] < 0.5


def test_what_takes_longer_than_its_cost_says_is_likelier_to_have_a_better_plan_by_a_remedy():
    surprised, expected = Case(NEAR, 3.0), Case(NEAR, 0.0)
    odds = ArmOdds(16)
    gains = [(odds.chances(arm, surprised) / odds.chances(arm, expected))[0] for arm in (REMEDY, OTHER)]
    assert gains[0] > 1.2 * gains[1] > 1.2
    assert odds.chances(REMEDY, Case(NEAR, 100.0)).max() <= 0.6
    assert (odds.chances(OTHER, Case(NEAR, 0.0, failures=3)) < odds.chances(OTHER, Case(NEAR, 0.0))).all()


def test_an_outcome_counts_for_plans_that_are_alike():
    won, base = outcomes(0.1, 0.1), ArmOdds(16)
    near, half, far = (won.chances(REMEDY, Case(one, 0.0)) for one in (NEAR, (NEAR + FAR) / 2.0, FAR))
    assert (near > half).all()
    assert (half > far).all()
    assert far == pytest.approx(base.chances(REMEDY, Case(FAR, 0.0)))
    assert won.chances(OTHER, Case(NEAR, 0.0)) == pytest.approx(base.chances(OTHER, Case(NEAR, 0.0)))


def test_what_was_given_up_says_nothing_of_what_it_never_reached():
    base = ArmOdds(16).chances(REMEDY, Case(NEAR, 0.0))
    given_up = outcomes(RATIOS[1], is_censored=True).chances(REMEDY, Case(NEAR, 0.0))
    assert (given_up[:2] < base[:2]).all()
    assert given_up[2] == pytest.approx(base[2])


def test_a_win_by_half_is_none_by_a_quarter():
    chances = outcomes(0.4).chances(REMEDY, Case(NEAR, 0.0))
    base = ArmOdds(16).chances(REMEDY, Case(NEAR, 0.0))
    assert chances[0] < base[0]
    assert (chances[1:] > base[1:]).all()


def test_old_outcomes_make_room_for_new_ones():
    odds = outcomes(*[0.1] * 64)
    for _ in range(64):
        odds.add("remedy", Case(NEAR, 0.0), 9.0, is_censored=True)
    assert (odds.chances(REMEDY, Case(NEAR, 0.0)) < 0.05).all()


def test_a_loss_that_came_to_its_end_counts_against():
    base = ArmOdds(16).chances(REMEDY, Case(NEAR, 0.0))
    assert (outcomes(2.0).chances(REMEDY, Case(NEAR, 0.0)) < base).all()


def test_it_comes_back_bit_for_bit():
    odds = outcomes(0.3, 0.7, 5.0)
    odds.add("other", Case(FAR, 1.5), 0.5, is_censored=True)
    state = odds.state()
    again = ArmOdds.from_state(state, 16)
    odds.add("remedy", Case(FAR, 0.0), 0.1)
    assert digest(again.state()) == digest(state)  # what was saved does not change with what goes on
    again.add("remedy", Case(FAR, 0.0), 0.1)
    assert digest(again.state()) == digest(odds.state())
    assert again.version == odds.version


@pytest.mark.parametrize("name", ["embeddings", "figures", "total"])
def test_damage_is_refused(name):
    one = dict(outcomes(0.3).state().child("remedy").items())
    damages = {"embeddings": np.zeros((64, 8), np.float32), "figures": np.full((3, 64), np.nan), "total": -1}
    with pytest.raises(StoreError):
        ArmOdds.from_state(State({"remedy": State({**one, name: damages[name]})}), 16)
