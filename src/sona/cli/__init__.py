"""The same verbs in a terminal: `sona remember`, `ask`, `feedback`, `learn`, `status`, `patterns`, `demo`."""

from __future__ import annotations

import sys

from sona.errors import ConfigError, MissingExtra

_PACKAGES = frozenset({"typer", "rich", "click"})


def main() -> None:
    """Run the command the process was started with, and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal that lacks a letter gets its number instead of an error
            reconfigure(errors="backslashreplace")
    try:
        _run()
    except (MissingExtra, ConfigError) as error:  # what a command meets, it tells itself
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _run() -> None:
    try:
        from sona.cli.app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingExtra("typer and rich", "cli", "the command line") from error
    app(prog_name="sona")
