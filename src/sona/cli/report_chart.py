"""Drawings of the report's page, as SVG by hand: nothing has to be installed to draw or to look at them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sona.cli.findings import about
from sona.engine.events import Decided
from sona.guard.comparison import Lift
from sona.guard.curve import Point

_WIDTH, _HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 744.0, 16.0, 262.0


@dataclass(frozen=True, slots=True)
class _Frame:
    # Which lifts and counts lie where: x from 0 to `most` trials, y from `low` to `high`.
    most: float
    low: float
    high: float

    def x(self, trials: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * trials / self.most

    def y(self, lift: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (lift - self.low) / (self.high - self.low)


def number(value: float, places: int = 3) -> str:
    r"""Return a difference with its sign.

    >>> number(-0.0414), number(0.0)
    ('\u22120.041', '+0.000')
    """
    return f"{value:+,.{places}f}".replace("-", "\u2212")


def steps(low: float, high: float, most: int) -> list[float]:
    """Return round numbers within [low, high], at most `most` and at least one apart by 1, 2 or 5 times a power of 10.

    >>> steps(0.0, 1.0, 6)
    [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
    """
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1.0 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def curve(points: Sequence[Point], decisions: Sequence[Decided]) -> str:
    """Return the lift over compared outcomes with its band, and the moments at which something was decided."""
    frame = _frame(points)
    marks = "".join(_mark(one, points, frame) for one in decisions if points[0].at <= one.at <= points[-1].at)
    last = points[-1]
    words = (
        f"Lift over {last.trials:,} compared outcomes: at the end {number(last.lift)}, "
        f"between {number(last.low)} and {number(last.high)}."
    )
    return (
        f'<svg class="wide" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}">'
        f'<clipPath id="plot"><rect x="{_LEFT:g}" y="{_TOP:g}" width="{_RIGHT - _LEFT:g}" '
        f'height="{_BOTTOM - _TOP:g}"/></clipPath>{_axes(frame)}'
        f'<g clip-path="url(#plot)"><path class="band" d="{_band(points, frame)}"/>'
        f'<path class="curve" d="{_line([(p.trials, p.lift) for p in points], frame)}"/>{marks}</g>'
        f'<circle class="dot" cx="{frame.x(last.trials):.1f}" cy="{frame.y(last.lift):.1f}" r="4"/>'
        "</svg>"
    )


def _frame(points: Sequence[Point]) -> _Frame:
    # The band begins wider than anything one could read; what lies far outside its end is cut.
    last, later = points[-1], points[len(points) // 10 :]
    reach = 0.75 * (last.high - last.low)
    low = min(0.0, last.low - reach, *(point.lift for point in later))
    high = max(0.0, last.high + reach, *(point.lift for point in later))
    return _Frame(float(last.trials), max(low, -1.0), min(high, 1.0))


def _axes(frame: _Frame) -> str:
    lifts = steps(frame.low, frame.high, 6)
    places = max(0, -math.floor(math.log10(lifts[1] - lifts[0]) + 1e-9)) if len(lifts) > 1 else 3
    rows = "".join(
        f'<line class="{"zero" if abs(lift) < 1e-12 else "grid"}" x1="{_LEFT:g}" x2="{_RIGHT:g}" '
        f'y1="{frame.y(lift):.1f}" y2="{frame.y(lift):.1f}"/>'
        f'<text x="{_LEFT - 8:g}" y="{frame.y(lift) + 5:.1f}" text-anchor="end">'
        f"{'0' if abs(lift) < 1e-12 else number(lift, places)}</text>"
        for lift in lifts
    )
    columns = "".join(
        f'<text x="{frame.x(trials):.1f}" y="{_BOTTOM + 24:g}" text-anchor="middle">{trials:,.0f}</text>'
        for trials in steps(0.0, frame.most, 5)
    )
    return f'{rows}{columns}<text x="{_RIGHT:g}" y="{_HEIGHT - 8}" text-anchor="end">compared outcomes</text>'


def _line(places: Sequence[tuple[float, float]], frame: _Frame) -> str:
    return "M" + "L".join(f"{frame.x(trials):.1f} {frame.y(lift):.1f}" for trials, lift in places)


def _band(points: Sequence[Point], frame: _Frame) -> str:
    upper = [(float(point.trials), point.high) for point in points]
    lower = [(float(point.trials), point.low) for point in reversed(points)]
    return f"{_line([*upper, *lower], frame)}Z"


def _mark(one: Decided, points: Sequence[Point], frame: _Frame) -> str:
    place = bisect_left([point.at for point in points], one.at)
    x = frame.x(points[place].trials)
    return (
        f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP:g}" y2="{_BOTTOM:g}">'
        f"<title>{escape(f'{one.decision}: {about(one)}')}</title></line>"
    )


def whisker(lift: Lift, reach: float) -> str:
    """Return one lift with its interval as a small drawing of width 2 `reach` around 0; the figures stand beside it."""
    if lift.value is None:
        return ""
    low, value, high = (60.0 + 54.0 * max(-1.0, min(part / reach, 1.0)) for part in (lift.low, lift.value, lift.high))
    return (
        '<svg width="120" height="16" viewBox="0 0 120 16" aria-hidden="true">'
        '<line x1="60" y1="1" x2="60" y2="15" class="zero"/>'
        f'<line x1="{low:.1f}" y1="8" x2="{high:.1f}" y2="8" class="reach"/>'
        f'<circle cx="{value:.1f}" cy="8" r="3.5" class="dot"/></svg>'
    )
