"""The learning curve: as a picture file, and as a picture that follows a page's light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sona.demo.outcome import PART_NAMES, Outcome, Report, conclusion, summarise
from sona.errors import MissingExtra
from sona.state import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Each ink of the picture becomes a variable of the page, so that one picture serves light and dark.
_INK, _GRID, _CONTROL = "#1a1a19", "#d8d7d2", "#7a7974"
_LINES = MappingProxyType({"repeat": "#1f5fbf", "paraphrase": "#0e7a5f", "held_out": "#b4521a"})
_MARKERS = MappingProxyType({"repeat": "o", "paraphrase": "s", "held_out": "^"})
_VARIABLES = MappingProxyType(
    {
        _INK: "var(--ink)",
        _GRID: "var(--line)",
        _CONTROL: "var(--quiet)",
        _LINES["repeat"]: "var(--repeat)",
        _LINES["paraphrase"]: "var(--paraphrase)",
        _LINES["held_out"]: "var(--held-out)",
    }
)


def plot(report: Report, path: Path) -> None:
    """Write the learning curve to the PNG file `path`.

    Raises:
        MissingExtra: matplotlib is not installed.
        StoreError: the file cannot be written.
    """
    picture = io.BytesIO()
    _figure(report).savefig(picture, format="png", dpi=160, facecolor="white")
    replace_file(path, picture.getvalue())


def svg(report: Report) -> str:
    """Return the learning curve as an SVG element whose inks are CSS variables.

    They are `--ink --line --quiet --repeat --paraphrase --held-out`, set by the page.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingExtra("matplotlib", "demo", "the learning curve") from error
    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sona"}):
        _figure(report).savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    text = drawn.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for ink, variable in _VARIABLES.items():
        text = text.replace(ink, variable)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1))
    label = escape(f"Learning curve. {conclusion(summarise(report.outcomes))}", quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _figure(report: Report) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "demo", "the learning curve") from error
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0.0, color=_INK, linewidth=1.0)
    for name, ink in _LINES.items():
        if name not in report.outcomes[0].parts:
            continue
        for run in report.outcomes:
            axes.plot(*_curve([run], name), color=ink, linewidth=0.8, alpha=0.45)
        label = PART_NAMES[name]
        axes.plot(*_curve(report.outcomes, name), color=ink, linewidth=2.2, marker=_MARKERS[name], label=label)
    for place, (control, runs) in enumerate(report.controls.items()):
        style = ("--", ":", "-.")[place % 3]
        axes.plot(*_curve(runs, "repeat"), color=_CONTROL, linestyle=style, label=f"{control}, asked again")
    axes.set_xlabel("requests answered", color=_INK)
    axes.set_ylabel("change in nDCG@10", color=_INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{value:+.3g}".replace("-", "\u2212") if abs(value) > 1e-9 else "0"
    )
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=_INK)
    return figure


def _change(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "\u2212")


def _curve(runs: Sequence[Outcome], part: str) -> tuple[list[int], list[float]]:
    # Seeds of one task differ by a few requests at most; the first one's counts label the axis.
    points = list(zip(*(run.curve for run in runs), strict=True))
    mean = [float(np.mean([point.change[part] for point in same])) for same in points]
    return [same[0].requests for same in points], mean
