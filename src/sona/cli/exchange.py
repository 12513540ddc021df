"""The commands that carry what an engine knows from one database to another, or to other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sona.cli import show
from sona.cli.command import Db, Json, told
from sona.cli.database import DEFAULT, option, reading, writing
from sona.cli.findings import counted
from sona.cli.progress import Work
from sona.engine.exchange import Imported
from sona.engine.exchange.folder import read_folder
from sona.state import Plain

_FORMATS = ("jsonl", "parquet")
_PASSED_OVER = {
    "known_memories": ("memory was known", "memories were known"),
    "renamed": (
        "memory has a mark added to its id, which stands for another text here",
        "memories have a mark added to their ids, which stand for other texts here",
    ),
    "known": ("request had been learned from before", "requests had been learned from before"),
    "unfinished": ("answer had no feedback yet", "answers had no feedback yet"),
    "left_out": (
        "request was left out: its vectors mean nothing here",
        "requests were left out: their vectors mean nothing here",
    ),
    "limited": (
        "request was not learned from: its subject gave more than its share",
        "requests were not learned from: their subject gave more than its share",
    ),
}


def register(app: typer.Typer) -> None:
    """Add these commands to a program."""
    app.command(epilog="Example: sona export backup    or: sona export tables --format parquet")(export)
    app.command(name="import", epilog="Example: sona import backup --db another.db")(import_from)


@told
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder to write to.", show_default=False)],
    db: Db = DEFAULT,
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="jsonl or parquet.")] = "jsonl",  # noqa: A002
    json: Json = False,
) -> None:
    """Write memories, requests and patterns to files.

    Everything in them is exact, and `sona import` takes it in again. Changes nothing; another process may have the
    database open.
    """
    if format not in _FORMATS:
        raise typer.BadParameter(f"expected {' or '.join(_FORMATS)}, got {format!r}", param_hint="--format")
    with Work() as work, reading(db) as look:
        work.stage("Reading everything")
        done = look.engine.export(folder, format=format)
    if json:
        values: dict[str, Plain] = asdict(done)
        show.document(values)
        return
    kinds = (
        counted(done.memories, "memory", "memories"),
        counted(done.trajectories, "request", "requests"),
        counted(done.patterns, "pattern", "patterns"),
    )
    show.say(f"Wrote {', '.join(kinds[:2])} and {kinds[2]} to {folder}.")
    if not done.has_log:
        show.say("There is no whole log, so these are the requests that were still held.")


@told
def import_from(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `sona export` wrote.", show_default=False)],
    db: Db = DEFAULT,
    reembed: Annotated[
        bool,
        typer.Option("--reembed", help="Make all vectors anew from the words: they are of another embedder."),
    ] = False,
    json: Json = False,
) -> None:
    """Take in what was exported, each thing once.

    Nothing that is known here is replaced. Requests are learned from as if they had been handed in; patterns are not
    copied but found again by `sona learn`. With one bad line, nothing is taken in.
    """
    if not db.exists():
        read_folder(folder)  # what cannot be used makes no database
    with Work() as work, writing(db, create=True) as engine:
        work.stage("Taking everything in")
        done = engine.import_from(folder, reembed=reembed)
    if json:
        values: dict[str, Plain] = asdict(done)
        show.document({"db": str(db), **values})
        return
    _show(done)
    if done.trajectories:
        show.say(f"Find patterns with: sona learn{option(db)}")


def _show(done: Imported) -> None:
    new = counted(done.memories, "new memory", "new memories")
    show.say(f"Took in {new} and {counted(done.trajectories, 'request', 'requests')}.")
    values: dict[str, int] = asdict(done)
    for name, (one, many) in _PASSED_OVER.items():
        if values[name]:
            show.say(f"{counted(values[name], one, many)}.")
