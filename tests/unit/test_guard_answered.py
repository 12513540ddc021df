"""Answer rates per arm: counted, and called uneven only beyond chance."""

import numpy as np

from sona.guard.answered import Answered
from sona.guard.trial import Trial
from sona.state import digest


def answered(count: int, exposure: float, shares: tuple[float, float], seed: int = 0, visit: int = 1) -> Answered:
    rng = np.random.default_rng(seed)
    made = Answered()
    for unit in range(count):
        arm = int(rng.random() < exposure)
        made.serve(arm)
        if rng.random() < shares[arm]:
            made.answer(Trial(unit, visit, bool(arm), exposure, 0.5))
    return made


def test_shares_are_answered_over_served():
    made = answered(4000, 0.5, (0.2, 0.8))
    assert sum(made.served) == 4000
    assert abs(made.share(0) - 0.2) < 0.05
    assert abs(made.share(1) - 0.8) < 0.05
    assert Answered().share(1) is None


def test_arms_answered_alike_are_not_uneven_however_rarely_one_is_shown():
    for exposure in (0.05, 0.9):
        assert not any(answered(500, exposure, (0.3, 0.3), seed).is_uneven for seed in range(20))


def test_arms_answered_unlike_are_uneven():
    assert answered(3000, 0.5, (0.2, 0.4)).is_uneven
    assert answered(3000, 0.5, (0.4, 0.2)).is_uneven


def test_later_visits_of_a_unit_are_no_draws_of_their_own():
    assert not answered(3000, 0.5, (0.2, 0.4), visit=2).is_uneven


def test_what_was_saved_comes_back():
    made = answered(100, 0.5, (0.5, 0.6))
    assert digest(Answered.from_state(made.state()).state()) == digest(made.state())
