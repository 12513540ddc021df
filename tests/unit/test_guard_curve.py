"""The curve: a bounded number of points at even distances."""

from itertools import pairwise

from sona.guard.curve import MOST_POINTS, Curve, Point
from sona.state import digest


def drawn(trials: int) -> Curve:
    curve = Curve()
    for number in range(1, trials + 1):
        if curve.is_due(number):
            curve.add(Point(number, float(number), 0.1, -0.1, 0.3))
    return curve


def test_points_are_as_even_as_they_are_few():
    for trials in (0, 19, 8000, 8020, 100_000):
        points = [point.trials for point in drawn(trials).points]
        assert len(points) <= MOST_POINTS
        assert len({b - a for a, b in pairwise(points)}) <= 1
        assert len(points) >= min(trials // 20, MOST_POINTS // 2)
        if points:
            assert points[0] == points[-1] / len(points)


def test_what_was_saved_goes_on():
    curve = drawn(9000)
    again = Curve.from_state(curve.state())
    assert again.points == curve.points
    for each in (curve, again):
        each.add(Point(9040, 0.0, 0.0, 0.0, 0.0))
    assert digest(curve.state()) == digest(again.state())
