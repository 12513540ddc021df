"""Parts that the pages of all reports are made of, and what every page is written by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sona.cli.report_style import STYLE
from sona.errors import StoreError
from sona.state import replace_file
from sona.stores import is_store


def document(title: str, parts: Sequence[str], *, style: str = "") -> str:
    """Return one HTML document that loads nothing from elsewhere.

    Args:
        title: Text.
        parts: HTML, one after the other.
        style: CSS besides that of every page.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def write_document(text: str, path: Path) -> None:
    """Write a page to the file `path`.

    Raises:
        StoreError: it cannot be written, or a database is there.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it")
    if is_store(path):
        raise StoreError(f"{path} is a database; write the page to another file")
    replace_file(path, text.encode())


def tile(value: str, meaning: str, share: float | None = None, *, is_limit: bool = False) -> str:
    """Return a figure with what it means, and a bar where it is a share; a share that reached its limit is marked."""
    meter = ""
    if share is not None:
        full = ' class="full"' if is_limit and share >= 1.0 else ""
        meter = f'<div class="meter"><i{full} style="width:{100.0 * min(share, 1.0):.1f}%"></i></div>'
    return f'<div class="tile"><b>{escape(value)}</b>{meter}<span>{escape(meaning)}</span></div>'


def table(caption: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML already, and the first one names its row."""
    # The caption stands outside, where it does not scroll away.
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "\n".join(_row(*row) for row in rows)
    return (
        f'<p class="note">{caption}</p>\n<div class="scroll" tabindex="0"><table aria-label="{caption}">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(name: str, *cells: str) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
