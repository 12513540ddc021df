"""Verdicts: the quickest arm that is known to find enough, never one that is not, and why in words."""

from dataclasses import replace

import numpy as np
import pytest

from sona.config import VectorConfig
from sona.tuner.searches.belief import Belief
from sona.tuner.searches.verdict import judge

CONFIG = VectorConfig()
NONE_WEAKER = np.zeros((4, 4), bool)
ALL = np.ones(4, bool)


def belief(recall, sd=0.001, time_ms=(1.0, 2.0, 4.0, 20.0), checks=100.0) -> Belief:
    """Four arms: the server's own, two efforts, exact."""
    means = np.array([*recall, 1.0])
    sds = np.append(np.broadcast_to(sd, 3), 0.0)
    return Belief(means, sds, means, sds, np.array(time_ms) / 1e3, np.full(4, checks))


def verdict(found: Belief, weaker=NONE_WEAKER, usable=ALL, config=CONFIG):
    return judge(found, weaker, usable, config)


@pytest.mark.parametrize(
    ("recall", "place"), [((0.98, 0.99, 1.0), 0), ((0.5, 0.97, 0.99), 1), ((0.5, 0.7, 0.99), 2), ((0.5, 0.7, 0.9), 3)]
)
def test_the_quickest_that_finds_enough(recall, place):
    found = verdict(belief(recall))
    assert found.place == place
    assert not found.is_open


def test_a_mean_at_the_target_is_not_enough_the_bound_has_to_be():
    assert verdict(belief((0.5, 0.96, 0.9), sd=0.02)).place == 3
    assert verdict(belief((0.5, 0.96, 0.9), sd=0.005)).place == 1
    bold = replace(CONFIG, confidence=0.5)
    assert verdict(belief((0.5, 0.96, 0.9), sd=0.02), config=bold).place == 1


def test_a_new_kind_is_left_to_the_server():
    found = verdict(belief((0.9, 0.9, 0.9), sd=0.1, checks=3.0))
    assert (found.place, found.is_open, found.reason) == (0, True, "too little is known of such searches")


def test_a_server_that_finds_too_little_is_left_without_waiting():
    found = verdict(belief((0.4, 0.9, 0.9), sd=0.1, checks=1.0))
    assert (found.place, found.is_open) == (3, False)
    assert "the server's own choice finds 0.40" in found.reason


def test_after_the_first_checks_doubt_is_no_reason_to_stay():
    found = verdict(belief((0.94, 0.9, 0.9), sd=0.02, checks=CONFIG.first_checks))
    assert (found.place, found.is_open) == (3, False)


def test_a_small_saving_is_no_reason_to_leave():
    times = (1.0, 0.97, 4.0, 20.0)
    assert verdict(belief((0.98, 0.99, 0.99), time_ms=times)).place == 0
    assert verdict(belief((0.98, 0.99, 0.99), time_ms=(1.0, 0.9, 4.0, 20.0))).place == 1


def test_an_arm_that_was_never_timed_is_not_chosen():
    found = verdict(belief((0.5, 0.99, 0.99), time_ms=(1.0, np.inf, np.inf, 20.0)))
    assert found.place == 3
    assert set(found.rivals) == {1, 2}


def test_what_the_server_refuses_is_not_chosen():
    usable = np.array([True, False, True, True])
    found = verdict(belief((0.5, 0.99, 0.99)), usable=usable)
    assert found.place == 2
    assert 1 not in found.rivals + found.refused
    assert verdict(belief((0.5, 0.5, 0.5)), usable=np.array([True, True, True, False])).place == 0


def test_an_arm_whose_last_answers_were_bad_is_left():
    good = belief((0.5, 0.99, 0.99))
    fallen = replace(good, recent=np.array([0.5, 0.6, 0.99, 1.0]), recent_sd=np.array([0.01, 0.05, 0.01, 0.0]))
    assert verdict(good).place == 1
    assert verdict(fallen).place == 2
    unsure = replace(fallen, recent_sd=np.array([0.01, 0.2, 0.01, 0.0]))
    assert verdict(unsure).place == 1


def test_rivals_are_quicker_and_may_find_enough_and_the_others_are_refused():
    found = verdict(belief((0.5, 0.94, 0.93), sd=0.05))
    assert found.place == 3
    assert (found.rivals, found.refused) == ((1, 2), (0,))
    assert verdict(belief((0.5, 0.97, 0.93), sd=0.001)).rivals == ()  # what is slower than the chosen one is no rival


def test_the_most_promising_rival_is_the_likely_and_the_quick_one():
    likely = belief((0.5, 0.90, 0.95), sd=np.array([0.001, 0.04, 0.04]))
    assert verdict(likely).rivals[0] == 2
    quick = belief((0.5, 0.95, 0.95), sd=np.array([0.001, 0.04, 0.04]))
    assert verdict(quick).rivals[0] == 1


def test_where_a_greater_effort_finds_too_little_a_smaller_one_is_not_tried():
    weaker = NONE_WEAKER.copy()
    weaker[1, 2] = True
    found = belief((0.5, 0.9, 0.6), sd=np.array([0.001, 0.1, 0.001]))
    assert verdict(found).rivals == (1,)
    assert verdict(found, weaker).rivals == ()
    assert verdict(found, weaker).refused == (0, 1, 2)


def test_much_to_gain_is_looked_at_at_once_until_it_was_looked_at_often():
    rival = belief((0.5, 0.94, 0.5), sd=0.05, checks=3.0)
    assert verdict(rival).is_promising
    assert not verdict(replace(rival, checks=np.full(4, 1000.0))).is_promising
    assert not verdict(belief((0.5, 0.94, 0.5), sd=0.05, checks=3.0, time_ms=(1.0, 15.0, 19.0, 20.0))).is_promising


def test_a_new_choice_is_watched_and_the_exact_one_needs_no_watching():
    assert verdict(belief((0.5, 0.99, 0.99), checks=CONFIG.new_checks - 1)).is_new
    assert not verdict(belief((0.5, 0.99, 0.99), checks=CONFIG.new_checks)).is_new
    assert not verdict(belief((0.5, 0.5, 0.5), checks=1.0)).is_new


def test_without_any_times_the_server_decides():
    found = verdict(belief((0.5, 0.5, 0.5), sd=1.0, time_ms=(np.inf,) * 4, checks=0.0))
    assert (found.place, found.is_open) == (0, True)
