"""Keys, kinds and checks: what cannot be is refused, alike searches stand together, the log keeps the latest."""

import math

import numpy as np
import pytest

from sona.errors import InvalidValue, StoreError
from sona.state import State, digest
from sona.tuner.searches.checks import UNKNOWN, ArmRun, CheckLog, Kind, SearchCheck, SearchKey

ARMS = ("default", "ef 80", "exact")


def check(recall: float = 0.5, time_s: float = 0.001, arm: str = "default", rows: int = 10) -> SearchCheck:
    return SearchCheck(10, 0.01, (ArmRun(arm, recall, rows, time_s),))


class TestKey:
    @pytest.mark.parametrize(
        "wrong", [{"limit": -1}, {"limit": 2.5}, {"size": -1.0}, {"size": math.nan}, {"fit": math.inf}, {"fit": "x"}]
    )
    def test_figures_that_cannot_be_are_refused(self, wrong):
        with pytest.raises(InvalidValue):
            SearchKey("nearest", **wrong)

    def test_sizes_stand_together_within_a_factor_of_two(self):
        sizes = [SearchKey("q", size=size).kind.size for size in (0, 1, 3, 4, 15, 16, 100_000)]
        assert sizes == [0, 0, 1, 2, 3, 4, 16]

    def test_fits_stand_together_within_a_factor_of_two_and_ends_are_open(self):
        fits = [SearchKey("q", fit=fit).kind.fit for fit in (-40.0, -2.6, -2.4, 0.2, 3.9, 99.0)]
        assert fits == [-12, -3, -2, 0, 4, 4]

    def test_what_nobody_knows_is_a_class_of_its_own(self):
        kind = SearchKey("q").kind
        assert (kind.size, kind.fit) == (UNKNOWN, UNKNOWN)

    def test_values_differ_and_stay_the_same(self):
        one, same, other = (SearchKey("q", key).kind.value for key in ("a", "a", "b"))
        assert one == same != other
        assert min(one, other) >= 0  # below is kept for a value not seen yet


class TestCheck:
    @pytest.mark.parametrize(
        "made",
        [
            lambda: check(recall=1.1),
            lambda: check(recall=-0.1),
            lambda: check(recall=math.nan),
            lambda: check(time_s=0.0),
            lambda: check(rows=-1),
            lambda: SearchCheck(10, 0.0, ()),
            lambda: SearchCheck(-1, 0.1, ()),
            lambda: SearchCheck(10, 0.1, (ArmRun("default", 1.0, 10, 0.1),) * 2),
        ],
    )
    def test_figures_that_cannot_be_are_refused(self, made):
        with pytest.raises(InvalidValue):
            made()

    def test_its_time_is_that_of_all_runs(self):
        runs = (ArmRun("default", 1.0, 10, 0.001), ArmRun("ef 80", 1.0, 10, 0.002))
        assert SearchCheck(10, 0.01, runs).time_s == pytest.approx(0.013)


class TestLog:
    def test_what_was_not_measured_is_nan_and_the_exact_search_found_all(self):
        log = CheckLog(ARMS, 8)
        log.add(Kind(0, 1, 2), check(0.4, rows=7))
        assert log.recalls[0, [0, 2]].tolist() == [0.4, 1.0]
        assert log.shorts[0, [0, 2]].tolist() == [1.0, 0.0]
        assert np.isnan([log.recalls[0, 1], log.times[0, 1], log.shorts[0, 1]]).all()
        assert np.exp(log.times[0, [0, 2]]) == pytest.approx([0.001, 0.01])
        assert list(log.kinds()) == [Kind(0, 1, 2)]

    def test_an_arm_it_does_not_have_is_refused_and_nothing_changes(self):
        log = CheckLog(ARMS, 8)
        with pytest.raises(InvalidValue, match="probes 3"):
            log.add(Kind(0, 0, 0), check(arm="probes 3"))
        assert len(log) == 0

    def test_the_exact_search_cannot_be_told_to_find_less(self):
        log = CheckLog(ARMS, 8)
        log.add(Kind(0, 0, 0), check(0.2, arm="exact"))
        assert log.recalls[0, 2] == 1.0

    def test_the_oldest_go_when_it_is_full(self):
        log = CheckLog(ARMS, 16)
        for number in range(100):
            log.add(Kind(number, 0, 0), check())
            assert len(log) <= 16
        assert log.fits.tolist() == list(range(100 - len(log), 100))
        assert len(log) >= 12

    def test_it_comes_back_bit_for_bit(self):
        log = CheckLog(ARMS, 16)
        for number in range(20):
            log.add(Kind(-number, number, number), check(number / 20))
        again = CheckLog.from_state(log.state(), ARMS, 16)
        assert digest(again.state()) == digest(log.state())
        assert list(again.kinds()) == list(log.kinds())

    def test_a_damaged_state_is_refused(self):
        log = CheckLog(ARMS, 16)
        log.add(Kind(0, 0, 0), check())
        good = dict(log.state().items())
        for name, value in (
            ("recalls", good["recalls"] + 1.0),
            ("times", good["times"] + np.inf),
            ("sizes", np.zeros(2, np.int64)),
            ("fits", np.zeros(1)),
            ("arms", ["default", "exact"]),
        ):
            with pytest.raises(StoreError):
                CheckLog.from_state(State({**good, name: value}), ARMS, 16)
