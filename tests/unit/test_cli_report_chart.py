"""Drawings of the report's page: every point lies where its numbers say."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.cli.report_chart import curve, number, steps, whisker
from sona.engine.events import Decided
from sona.guard.comparison import Lift
from sona.guard.curve import Point

POINTS = tuple(Point(20 * n, 1000.0 * n, 0.1 + 0.001 * n, 0.1 - 1.0 / n, 0.1 + 1.0 / n) for n in range(1, 51))


def places(svg, kind):
    path = re.search(rf'class="{kind}" d="([^"]+)"', svg).group(1)
    return [tuple(map(float, pair.split())) for pair in path.strip("MZ").split("L")]


def test_the_curve_goes_through_every_point_in_proportion():
    line = places(curve(POINTS, ()), "curve")
    assert len(line) == len(POINTS)
    (x0, y0), (x1, y1), (x2, y2) = line[0], line[1], line[-1]
    assert (x2 - x0) / (x1 - x0) == pytest.approx(49.0, rel=0.02)
    assert y2 < y1 < y0  # higher lifts stand higher
    assert len(places(curve(POINTS, ()), "band")) == 2 * len(POINTS)


def test_the_picture_holds_zero_and_the_last_interval():
    svg = curve(POINTS, ())
    assert svg.count('class="zero"') == 1
    band = places(svg, "band")
    last_high, last_low = band[49][1], band[50][1]
    assert 16.0 <= last_high < last_low <= 262.0
    assert "1,000 compared outcomes" in svg


def test_decisions_within_the_time_of_the_curve_are_marked_and_others_are_not():
    inside = Decided(25_000.0, "rolled back", 3, "harm")
    svg = curve(POINTS, [inside, Decided(1.0, "rejected", 1, "too early"), Decided(9e9, "rejected", 2, "too late")])
    assert svg.count('class="event"') == 1
    assert "rolled back: version 3" in svg
    x = float(re.search(r'class="event" x1="([\d.]+)"', svg).group(1))
    assert x == pytest.approx(places(svg, "curve")[24][0])


def test_one_point_is_enough():
    assert 'class="dot"' in curve(POINTS[:1], ())


@given(st.floats(-1.0, 1.0), st.floats(1e-6, 2.0), st.integers(2, 9))
def test_steps_are_round_even_and_within(low, width, most):
    high = low + width
    found = steps(low, high, most)
    assert len(found) <= most
    assert all(low - 1e-9 * width <= place <= high + 1e-9 * width for place in found)
    gaps = {round((b - a) / width, 6) for a, b in pairwise(found)}
    assert len(gaps) <= 1


@given(st.floats(-1.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.01, 1.0))
def test_a_whisker_stays_in_its_picture(value, below, above, reach):
    svg = whisker(Lift(3, value, value - below, value + above), reach)
    for x in map(float, re.findall(r'(?:x1|x2|cx)="([\d.-]+)"', svg)):
        assert 0.0 <= x <= 120.0
    assert whisker(Lift(0, None, -1.0, 1.0), reach) == ""


def test_numbers_carry_their_sign():
    assert [number(value) for value in (0.5, -0.25, 0.0)] == ["+0.500", "\u22120.250", "+0.000"]
    assert number(-1234.56, 1) == "\u22121,234.6"
