"""How long passes over a workload took, as SVG by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sona.cli.report_chart import steps
from sona.cli.tuning_passes import PassTime
from sona.tuner.report import duration

_WIDTH, _HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 744.0, 30.0, 262.0
_DOTS = 60  # passes up to which each is marked


def pass_chart(passes: Sequence[PassTime]) -> str:
    """Return the time of each pass, tuned and as the server chooses, from 0 up; at least one pass."""
    own = [one.server_s for one in passes]
    most = 1.08 * max(max(one.tuned_s, one.server_s or 0.0) for one in passes) or 1.0
    label = f"{len(passes)} passes. Tuned: {_ends([one.tuned_s for one in passes])}."
    known = [time_s for time_s in own if time_s is not None]
    if known:
        label += f" As the server chooses: {_ends(known)}."
    return (
        f'<svg class="wide" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{_axes(len(passes), most)}{_series(own, most, 'own')}"
        f"{_series([one.tuned_s for one in passes], most, 'tuned')}{_legend(has_own=bool(known))}</svg>"
    )


def _ends(times: Sequence[float]) -> str:
    return f"first {duration(times[0])}, last {duration(times[-1])}"


def _x(place: int, count: int) -> float:
    return (_LEFT + _RIGHT) / 2.0 if count == 1 else _LEFT + 14.0 + (_RIGHT - _LEFT - 28.0) * place / (count - 1)


def _y(time_s: float, most: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * time_s / most


def _axes(count: int, most: float) -> str:
    rows = "".join(
        f'<line class="grid" x1="{_LEFT:g}" x2="{_RIGHT:g}" y1="{_y(time_s, most):.1f}" y2="{_y(time_s, most):.1f}"/>'
        f'<text x="{_LEFT - 8:g}" y="{_y(time_s, most) + 5:.1f}" text-anchor="end">{_label(time_s)}</text>'
        for time_s in steps(0.0, most, 5)
    )
    numbers = range(1, count + 1) if count <= 8 else [round(one) for one in steps(1.0, count, 6) if one == round(one)]
    columns = "".join(
        f'<text x="{_x(number - 1, count):.1f}" y="{_BOTTOM + 24:g}" text-anchor="middle">{number}</text>'
        for number in numbers
    )
    return f'{rows}{columns}<text x="{_RIGHT:g}" y="{_HEIGHT - 8}" text-anchor="end">pass</text>'


def _label(time_s: float) -> str:
    return "0" if time_s == 0.0 else f"{time_s:g} s" if time_s >= 1.0 else f"{1e3 * time_s:g} ms"


def _series(times: Sequence[float | None], most: float, name: str) -> str:
    # A pass that was not timed leaves a gap.
    places = [(_x(place, len(times)), time_s) for place, time_s in enumerate(times)]
    path, is_drawn = "", False
    for x, time_s in places:
        if time_s is not None:
            path += f"{'L' if is_drawn else 'M'}{x:.1f} {_y(time_s, most):.1f}"
        is_drawn = time_s is not None
    dots = "".join(
        f'<circle class="{name}" cx="{x:.1f}" cy="{_y(time_s, most):.1f}" r="3"/>'
        for x, time_s in places
        if time_s is not None and len(times) <= _DOTS
    )
    return f'<path class="line {name}" d="{path}"/>{dots}' if path else ""


def _legend(*, has_own: bool) -> str:
    own = (
        '<line class="line own" x1="215" x2="247" y1="14" y2="14"/><text x="255" y="19">as the server chooses</text>'
        if has_own
        else ""
    )
    tuned = '<line class="line tuned" x1="78" x2="110" y1="14" y2="14"/><text x="118" y="19">tuned</text>'
    return f"{tuned}{own}"
