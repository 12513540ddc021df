import numpy as np
import pytest

from sona.errors import StoreError
from sona.tuner.choosing.unit import PlanNote, Times, Unit

NOTE = PlanNote("shape", ("Seq Scan",), 12.5, np.ones(4, np.float32))


def unit():
    made = Unit("fingerprint")
    for number, time_s in enumerate((1.0, 2.0, 3.0), 1):
        made.add("server", time_s, 10 * number)
    made.note, made.settled_s = NOTE, 2.0
    return made


def test_the_typical_time_is_the_median_of_the_last_eight():
    times = Times()
    for time_s in (9.0, 9.0, 9.0, *[1.0, 2.0] * 4):
        times.add(time_s)
    assert (times.typical_s, times.count, times.recent) == (1.5, 11, [1.0, 2.0] * 4)
    assert Times().typical_s == 0.0


def test_times_are_those_of_an_arm():
    made = unit()
    made.add("serial", 0.5, 40)
    assert (made.server_s, made.typical_s("serial"), made.typical_s("other"), made.count) == (2.0, 0.5, 0.0, 4)
    assert (made.incumbent_s, made.saved_s) == (2.0, 0.0)
    made.adopt("serial")
    assert (made.incumbent_s, made.saved_s, made.next_check) == (0.5, 1.5, 20)


def test_how_far_apart_its_runs_are():
    assert (Unit("f").gap, unit().gap, unit().first, unit().last) == (1.0, 10.0, 10, 30)


def test_what_is_given_up_is_closed_and_the_server_takes_over():
    made = unit()
    made.adopt("serial")
    made.strikes = 2
    made.give_up("slow")
    assert (made.incumbent, made.closed, made.rollbacks, made.strikes) == ("server", {"serial": "slow"}, 1, 0)


def test_what_has_changed_is_forgotten_but_for_the_servers_times():
    made = unit()
    made.add("serial", 0.5)
    made.adopt("serial")
    made.closed, made.censored, made.shapes = {"x": "why"}, {"y": 1.0}, {"server": "shape"}
    made.reopen()
    assert (made.closed, made.censored, made.shapes, made.note, made.incumbent) == ({}, {}, {}, None, "server")
    assert (set(made.times), made.settled_s) == ({"server"}, 2.0)


def test_it_comes_back_whole_and_what_was_written_stays_as_it_was():
    made = unit()
    made.closed, made.censored, made.shapes = {"x": "why"}, {"y": 1.0}, {"server": "shape"}
    plain = made.plain()
    again = Unit.from_plain(plain, NOTE.embedding)
    assert again.plain() == plain
    before = repr(plain)
    made.add("serial", 9.0)
    made.closed["z"] = "later"
    made.shapes.clear()
    assert repr(plain) == before


@pytest.mark.parametrize(
    "damage",
    [
        {"count": -1},
        {"count": "three"},
        {"count": 2.5},
        {"strikes": None},
        {"times": {"server": {"recent": [float("nan")], "count": 1}}},
        {"times": {"server": {"recent": [-1.0], "count": 1}}},
        {"times": {"server": {}}},
        {"times": []},
        {"closed": ["x"]},
        {"shapes": 3},
        {"censored": {"x": "long"}},
        {"censored": {"x": float("inf")}},
        {"settled_s": -1.0},
        {"settled_s": "x"},
        {"note": {"shape": "s"}},
        {"note": 7},
        {"fingerprint": None},
        {"unknown": 1},
    ],
    ids=str,
)
def test_damage_is_refused(damage):
    with pytest.raises(StoreError):
        Unit.from_plain({**unit().plain(), **damage}, NOTE.embedding)


def test_nothing_may_be_missing():
    for name in unit().plain():
        if name in ("note", "times", "fingerprint"):
            with pytest.raises(StoreError):
                Unit.from_plain({key: value for key, value in unit().plain().items() if key != name}, NOTE.embedding)
