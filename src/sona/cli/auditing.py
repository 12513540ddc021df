"""The commands by which an engine is held to account: is it better, why this answer, go back, forget, rebuild."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sona.cli import findings, show
from sona.cli.command import Db, Json, told
from sona.cli.database import DEFAULT, reading, require, writing
from sona.cli.progress import Work
from sona.cli.report_page import Audit, write_page
from sona.config import GUARD_MODES
from sona.state import Plain

Version = Annotated[int, typer.Argument(metavar="VERSION", min=0, help="Its number.", show_default=False)]
_GUARD = (
    "mode",
    "exposure",
    "holdout",
    "requests",
    "budget",
    "budget_used",
    "version",
    "rollbacks",
    "rejected",
    "limited",
    "warnings",
)


def register(app: typer.Typer) -> None:
    """Add these commands to a program, in the order in which its help lists them."""
    commands: dict[Callable[..., None], str] = {
        report: "sona report --html report.html",
        guard: "sona guard    or: sona guard shadow",
        versions: "sona versions",
        diff: "sona diff 1 2",
        rollback: 'sona rollback 1 --reason "worse answers since Monday"',
        explain: "sona explain 12",
        replay: "sona replay",
        forget: "sona forget anna --yes",
    }
    for command, example in commands.items():
        app.command(epilog=f"Example: {example}")(command)


def is_terminal() -> bool:
    """Return True when somebody is there to be asked."""
    return sys.stdin.isatty()


@told
def report(
    db: Db = DEFAULT,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as one page to FILE, too.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Say whether what was learned helps.

    Improved, no evidence or worse, with an interval that is valid at every look, and what it rests on.
    """
    with reading(db) as look:
        audit = Audit.of(look.engine, name=db.name, at=time.time())
    if html is not None:
        write_page(audit, html)
    if json:
        show.document({**audit.report.as_json(), "page": None if html is None else str(html)})
        return
    show.say(audit.report.as_text())
    if html is not None:
        show.say("", f"open the page   {html.resolve().as_uri()}")


@told
def guard(
    mode: Annotated[
        str | None,
        typer.Argument(metavar="MODE", help="off, shadow, canary or on; shown when left out.", show_default=False),
    ] = None,
    db: Db = DEFAULT,
    json: Json = False,
) -> None:
    """Show or set the guard.

    `off` answers frozen and learns nothing, `shadow` answers frozen and learns, `canary` shows a small share of
    requests what was learned, `on` as many as the budget allows.
    """
    if mode is None:
        with reading(db) as look:
            found, settings = look.engine.report(), look.engine.config.guard
    elif mode not in GUARD_MODES:
        raise typer.BadParameter(f"expected one of {', '.join(GUARD_MODES)}, got {mode!r}", param_hint="MODE")
    else:
        with writing(db) as engine:
            engine.set_mode(mode)
            found, settings = engine.report(), engine.config.guard
    if not json:
        findings.guard(found, settings)
        return
    values = found.as_json()
    show.document({**{name: values[name] for name in _GUARD}, "warm_up": settings.warm_up})


@told
def versions(db: Db = DEFAULT, json: Json = False) -> None:
    """List the committed versions of what was learned.

    With what each was made of, and what the guard decided about them. Version 0 is the untrained one.
    """
    with reading(db) as look:
        in_force, listed, decisions = look.engine.version, look.engine.versions(), look.engine.decisions()
    if not json:
        findings.versions(in_force, listed, decisions, db)
        return
    plain: list[Plain] = [asdict(record) for record in listed]
    decided: list[Plain] = [asdict(decision) for decision in decisions]
    show.document({"in_force": in_force, "versions": plain, "decisions": decided})


@told
def diff(
    a: Annotated[int, typer.Argument(metavar="A", min=0, help="The one version.", show_default=False)],
    b: Annotated[int, typer.Argument(metavar="B", min=0, help="The other.", show_default=False)],
    db: Db = DEFAULT,
    json: Json = False,
) -> None:
    """Show what version B holds otherwise than version A."""
    with reading(db) as look:
        found = look.engine.diff(a, b)
    if not json:
        findings.difference(found)
        return
    figures: dict[str, Plain] = {name: list(values) for name, values in found.figures.items()}
    known: dict[str, Plain] = {"is_equal": found.is_equal, "trajectories": found.trajectories}
    show.document({"a": a, "b": b, **known, "figures": figures})


@told
def rollback(
    version: Version,
    db: Db = DEFAULT,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")] = "by hand",
    json: Json = False,
) -> None:
    """Answer as an earlier version did.

    Everything learned since goes out of force. What was recorded stays recorded, and learning goes on from there.
    """
    with writing(db) as engine:
        before = engine.version
        engine.rollback(version, reason=reason)
    if json:
        show.document({"version": version, "before": before, "reason": reason})
    else:
        name = f"Version {version}" if version else "Version 0, the untrained one,"
        show.say(f"{name} is in force now; before it was version {before}.")


@told
def explain(
    trajectory_id: Annotated[
        int, typer.Argument(metavar="TRAJECTORY_ID", min=0, help="The number `sona ask` showed.", show_default=False)
    ],
    db: Db = DEFAULT,
    json: Json = False,
) -> None:
    """Say why a request was answered as it was.

    What similarity, adapters and votes gave each source, and which past requests voted: rebuilt from the log as it
    was at that moment, where the log is whole.
    """
    with Work() as work, reading(db) as look:
        if look.log is not None:
            work.stage("Rebuilding that moment from the log")
        found = look.engine.explain(trajectory_id)
    if json:
        values: dict[str, Plain] = asdict(found)
        show.document(values)
    else:
        findings.explanation(found)


@told
def replay(db: Db = DEFAULT, json: Json = False) -> None:
    """Rebuild the state from the log and compare.

    Both have to be equal bit for bit; the exit code is 1 when they are not. Changes nothing.
    """
    with Work() as work, reading(db) as look:
        work.stage("Rebuilding the state from the log")
        found = look.engine.replay()
    if json:
        equal: dict[str, Plain] = {"is_equal": found.is_equal, "events": found.events}
        show.document({**equal, "digest": found.digest, "rebuilt": found.rebuilt})
    else:
        findings.replayed(found)
    if not found.is_equal:
        raise typer.Exit(1)


@told
def forget(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who: the ID of --user.", show_default=False)],
    db: Db = DEFAULT,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed without a terminal.")] = False,
    json: Json = False,
) -> None:
    """Forget somebody, for good.

    Their memories, requests and feedback go, everything learned is rebuilt without them, and the file is written
    anew without a trace of them. Copies of the file that you made are yours to delete.
    """
    if not yes and not is_terminal():
        raise typer.BadParameter(f"forgetting cannot be undone: give --yes to forget {subject!r} without being asked")
    require(db)
    if not yes and not typer.confirm(f"Forget everything of {subject!r}? It cannot be undone.", err=True):
        show.note("nothing was forgotten")
        raise typer.Exit(1)
    with Work() as work, writing(db) as engine:
        work.stage("Rebuilding everything without them")
        gone, metrics = engine.forget(subject), engine.metrics()
    is_wiping = metrics.store is not None and metrics.store.is_wiping
    if json:
        counts: dict[str, Plain] = asdict(gone)
        show.document({"subject": subject, **counts, "is_wiping": is_wiping})
    else:
        findings.forgotten(subject, gone, is_wiping=is_wiping)
