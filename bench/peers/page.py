"""Tables in Markdown, put where a document has room for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from peers.contest import PeerFigure
from peers.machine import Machine

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def number(value: float | None) -> str:
    """Return a number in three digits that count, "-" for none.

    >>> number(0.1234), number(12.345), number(1234.5), number(None)
    ('.123', '12.3', '1,234', '-')
    """
    if value is None:
        return "-"
    if value >= 999.5:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return text[1:] if text.startswith("0.") else text


def peers_table(figures: Iterable[PeerFigure]) -> list[str]:
    """Return the table of `speed_peers.py`, a line each."""
    lines = ["| figure | unit | SONA | numpy | PyPI | npm | goal | met |", "|---|---|---|---|---|---|---|---|"]
    for figure in figures:
        values = " | ".join(number(value) for value in (figure.sona, figure.numpy, figure.pypi, figure.npm))
        met = "" if figure.met is None else "yes" if figure.met else "no"
        lines.append(f"| {figure.name} | {figure.unit} | {values} | {figure.bound} | {met} |")
    return lines


def write(path: Path, table: Sequence[str], machine: Machine) -> None:
    """Put a table and its machine between the marks of the document at `path`; a file without marks becomes them."""
    said = [f"{line}." for line in machine.lines()]
    section = "\n".join([BEGIN, *table, "", *said, END])
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    whole = before + section + after if mark and end else section + "\n"
    path.write_text(whole, encoding="utf-8")
