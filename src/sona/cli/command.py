"""What every command shares: where its database is, how it answers programs, and its errors in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeAlias

import typer

from sona.cli import show
from sona.cli.database import VARIABLE
from sona.errors import SonaError

P = ParamSpec("P")

Db: TypeAlias = Annotated[Path, typer.Option("--db", metavar="PATH", envvar=VARIABLE, help="The database file.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write one JSON document to stdout; notes and progress go to stderr.")
]


def told(command: Callable[P, None]) -> Callable[P, None]:
    """Return `command` with what goes wrong on purpose as one line and an exit code, wherever it happens."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SonaError as error:
            show.note(f"error: {error}")
            raise typer.Exit(1) from error
        except (KeyboardInterrupt, typer.Abort) as error:
            show.note("interrupted")
            raise typer.Exit(130) from error

    return run
