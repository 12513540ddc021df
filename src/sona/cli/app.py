"""The commands: each reads its arguments, calls the verb of the library, and shows the result."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from sona.cli import auditing, exchange, memory, reorganised, show, tuning
from sona.cli.command import Db, Json, told
from sona.cli.database import DEFAULT, option, reading, writing
from sona.cli.files import STDIN, read_memories
from sona.cli.inspection import Log, describe_embedder, largest_patterns, nearest_patterns
from sona.cli.progress import Work
from sona.engine import SonaMetrics
from sona.loops.background import BackgroundResult
from sona.state import Plain
from sona.types import Context

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `sona demo`, or `sona remember FILE` and then `sona ask QUESTION`.",
)


def _version(is_wanted: bool) -> None:
    if is_wanted:
        from sona import __version__

        show.say(f"sona {__version__}")
        raise typer.Exit


@app.callback()
def _sona(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Answer from memory, learn from every bit of feedback, and show what that is worth."""


@app.command(epilog="Example: sona demo --full-text --seeds 3")
@told
def demo(
    *,
    data: Annotated[
        str, typer.Option("--data", metavar="NAME", help="stdlib, banking77 or cranfield; the last two need SONA_DATA.")
    ] = "stdlib",
    full_text: Annotated[
        bool,
        typer.Option("--full-text", help="stdlib with the opening sentences left in: learning must do no harm."),
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Random splits to run.")] = 1,
    passes: Annotated[
        int | None,
        typer.Option("--passes", metavar="N", min=1, help="How often each request is asked.", show_default="by data"),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for the picture and the page.")
    ] = Path("demo-output"),
    json: Json = False,
) -> None:
    """Show what learning is worth, on real requests.

    Learns from simulated clicks and shows what that changed and what it did not. By default: find objects of the
    Python standard library from how a person would describe them, which takes about a minute. Each of the --seeds
    starts from nothing with another split.
    """
    from sona.cli.demonstration import show_demonstration
    from sona.demo.command import Choice, demonstrate

    if data not in ("stdlib", "banking77", "cranfield"):
        raise typer.BadParameter(f"--data: expected stdlib, banking77 or cranfield, got {data!r}")
    if full_text and data != "stdlib":
        raise typer.BadParameter("--full-text goes with --data stdlib")
    choice = Choice(f"{data}_full_text" if full_text else data, seeds, passes, output)
    with Work() as work:
        found = demonstrate(choice, on_stage=work.stage, on_progress=work.step)
    if json:
        show.document(found.as_json())
    else:
        show_demonstration(found)


@app.command(epilog="Example: sona remember faq.jsonl notes.md")
@told
def remember(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files to read; - is standard input.", show_default=False),
    ],
    *,
    db: Db = DEFAULT,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Every FILE holds JSON lines, whatever its name.")] = False,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="ID", help="Whose they are; `sona forget` takes them away.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Keep texts to answer from.

    A .jsonl file holds one {"text": "...", "id": "..."} a line; the id may be left out. Any other file holds one
    memory per paragraph. The same text again is the same memory; the same id again replaces its text. With one bad
    line, nothing is kept.
    """
    if STDIN in files and sys.stdin.isatty():
        show.note("reading what you type; end with Ctrl-D")
    memories = read_memories(files, sys.stdin.buffer, is_jsonl=jsonl)
    with Work() as work, writing(db, create=True) as engine:
        before = engine.memory_count
        work.stage("Remembering")
        for done, memory in enumerate(memories, 1):
            engine.remember(memory.text, memory.id, subject=user)
            work.step(done, len(memories))
        new, total = engine.memory_count - before, engine.memory_count
        work.stage("Indexing")
        engine.index()
    if json:
        show.document({"db": str(db), "read": len(memories), "new": new, "known": len(memories) - new, "total": total})
        return
    show.say(
        f"Read {len(memories):,} texts: {new:,} new, {len(memories) - new:,} known. {db} holds {total:,} memories."
    )
    show.say(f'Ask with: sona ask "your question"{option(db)}')


@app.command(epilog='Example: sona ask "how do I reset my password?" --user anna')
@told
def ask(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to ask.", show_default=False)],
    *,
    db: Db = DEFAULT,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Who asks.", show_default=False)] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Sources to show, at most.")] = 5,
    json: Json = False,
) -> None:
    """Answer a question from memory.

    Shows the sources with their scores, and what to type to say how good the answer was.
    """
    with writing(db) as engine:
        response, memory_count = engine.process(query, Context(user_id=user)), engine.memory_count
    sources = response.sources[:k]
    if not json:
        show.answer(response, sources, memory_count, db)
        return
    shown: list[Plain] = [{"id": source.id, "score": source.score, "text": source.text} for source in sources]
    show.document(
        {
            "trajectory_id": response.trajectory_id,
            "text": response.text,
            "confidence": response.confidence,
            "sources": shown,
            "patterns_used": response.patterns_used,
            "latency_us": response.latency_us,
        }
    )


@app.command(epilog="Example: sona feedback 12 --good    or: sona feedback 12 --reward faq-17=1 --reward faq-3=0.5")
@told
def feedback(
    trajectory_id: Annotated[
        int, typer.Argument(metavar="TRAJECTORY_ID", help="The number `sona ask` showed.", show_default=False)
    ],
    *,
    db: Db = DEFAULT,
    good: Annotated[
        bool | None,
        typer.Option("--good/--bad", help="The answer was right, or wrong: quality 1 or 0.", show_default=False),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option("--quality", metavar="Q", help="How good the answer was, from 0 to 1.", show_default=False),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward",
            metavar="ID=VALUE",
            help="What a source was worth, from 0 to 1; may be repeated, those not named were worth 0.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say how good an answer was.

    It may come late, more than once, and be changed later: what the earlier taught is taken back.
    """
    rewards = dict(_reward(pair) for pair in reward) if reward else None
    if good is not None and quality is not None:
        raise typer.BadParameter("give one of --good, --bad and --quality")
    if good is not None:
        quality = float(good)
    if quality is None and rewards is None:
        raise typer.BadParameter("give --good, --bad, --quality Q or --reward ID=VALUE")
    with writing(db) as engine:
        result = engine.feedback(trajectory_id, quality=quality, rewards=rewards)
    if not json:
        show.feedback(result)
        return
    outcome, credited = result.outcome.value, list(result.credited)
    known: dict[str, Plain] = {"outcome": outcome, "credited": credited, "reason": result.reason}
    show.document({"trajectory_id": result.trajectory_id, **known})


def _reward(pair: str) -> tuple[str, float]:
    name, _, value = pair.rpartition("=")
    try:
        if name:
            return name, float(value)
    except ValueError:
        pass
    raise typer.BadParameter(f"expected ID=VALUE such as faq-17=1, got {pair!r}")


@app.command(epilog="Example: sona learn --force")
@told
def learn(
    db: Db = DEFAULT,
    force: Annotated[bool, typer.Option("--force", help="Learn even from fewer requests than a cycle needs.")] = False,
    json: Json = False,
) -> None:
    """Consolidate what was learned, now.

    Finds patterns, refits the base adapter, and protects what is known. Says what was skipped, and why.
    """
    with Work() as work, writing(db) as engine:
        work.stage("Learning")
        result = engine.background_learn(force=force)
        waiting = engine.metrics().waiting
    if json:
        show.document({**_plain(result), "waiting": waiting})
    else:
        show.learned(result, waiting, db)


@app.command(epilog="Example: sona status --json")
@told
def status(db: Db = DEFAULT, json: Json = False) -> None:
    """Show what is known and was learned.

    Reads the file as it is; another process may have it open.
    """
    from sona import __version__, kernel

    with reading(db) as look:
        metrics, embedder = look.engine.metrics(), describe_embedder(look.engine)
        log = None if look.log is None else Log.of(look.log)
        versions, size_bytes = len(look.engine.versions()), db.stat().st_size
    if json:
        facts: dict[str, Plain] = {"db": str(db), "size_bytes": size_bytes, "sona": __version__, "embedder": embedder}
        facts["kernel"] = {"name": kernel.chosen.name, "reason": kernel.chosen.reason}
        known: dict[str, Plain] = {"versions": versions, "log": None if log is None else asdict(log)}
        show.document({**facts, **known, "metrics": _plain(replace(metrics, store=None))})
        return
    named = {
        "file": f"{db}, {show.size(size_bytes)}, SONA {__version__}",
        "embedder": embedder,
        "kernel": str(kernel.chosen),
    }
    show.status(metrics, named, graph=reorganised.status(metrics), versions=versions, log=log)


@app.command(epilog='Example: sona patterns    or: sona patterns "reset my password"')
@told
def patterns(
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="Show the patterns most like this request.", show_default=False),
    ] = None,
    db: Db = DEFAULT,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Patterns to show, at most.")] = 20,
    json: Json = False,
) -> None:
    """Show groups of similar requests.

    With how many there are, how well they went, and what worked for them.
    """
    with reading(db) as look:
        total = look.engine.metrics().patterns
        views = largest_patterns(look.engine, k) if query is None else nearest_patterns(look.engine, query, k)
    if json:
        show.document({"total": total, "patterns": [view.as_json() for view in views]})
    else:
        show.patterns(views, total, is_query=query is not None, db=db)


def _plain(record: BackgroundResult | SonaMetrics) -> dict[str, Plain]:
    values: dict[str, Plain] = asdict(record)
    return values


memory.register(app)
auditing.register(app)
exchange.register(app)
tuning.register(app)
