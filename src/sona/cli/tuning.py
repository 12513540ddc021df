"""The commands of the tuner: run a workload, say what was learned, take it elsewhere, show what it is worth."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sona.cli import show
from sona.cli.command import Json, told
from sona.cli.progress import Work
from sona.errors import StoreError, TunerError

if TYPE_CHECKING:
    from sona.cli.tuning_passes import PassTime
    from sona.tuner.report import TunerReport
    from sona.tuner.run import PassResult, WorkloadResult, WorkloadRun
    from sona.tuner.statements.workload import WorkloadQuery
    from sona.tuner.tuner import Tuner

_STATE = Path("tuner.sona")

Saved: TypeAlias = Annotated[Path, typer.Option("--state", metavar="FILE", help="Where what was learned is kept.")]
Html: TypeAlias = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the report as one page to FILE, too.", show_default=False),
]


class Form(StrEnum):
    """What `sona tune export` writes."""

    SQL = "sql"
    HINTS = "hints"
    JSON = "json"


tune = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Learn which settings each query of a PostgreSQL server is best run with.",
    short_help="Tune the queries of a PostgreSQL server.",
)


def register(app: typer.Typer) -> None:
    """Add these commands to a program."""
    tune.command(epilog='Example: sona tune run --dsn "host=localhost dbname=shop" --workload queries.sql')(run)
    tune.command(epilog="Example: sona tune report --html tuned.html")(report)
    tune.command(epilog="Example: sona tune export --as sql --role shop")(export)
    tune.command(epilog="Example: sona tune demo --seconds 60")(demo)
    app.add_typer(tune, name="tune")


@told
def run(
    dsn: Annotated[
        str, typer.Option("--dsn", metavar="DSN", help="What to connect with, as psql takes it.", show_default=False)
    ],
    workload: Annotated[
        Path,
        typer.Option("--workload", metavar="FILE", help="Lines of name||sql, or plain SQL.", show_default=False),
    ],
    *,
    state: Saved = _STATE,
    passes: Annotated[int, typer.Option("--passes", metavar="N", min=1, help="How often each query is run.")] = 10,
    observe: Annotated[bool, typer.Option("--observe", help="Time queries and look at plans; set nothing.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Run each query as the server chooses as well; a write runs twice.")
    ] = False,
    limit_s: Annotated[
        float | None,
        typer.Option(
            "--limit-s", metavar="S", min=0.001, help="When a query is given up.", show_default="the server's own"
        ),
    ] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Run a workload, and learn which settings its queries are best run with.

    Learns from every pass and keeps it in the --state file, where the next run goes on; Ctrl-C keeps what was learned
    until then. A query that fails is counted, and the others go on.
    """
    from sona.tuner.run import WorkloadRun
    from sona.tuner.statements.workload import read_workload
    from sona.tuner.tuner import Tuner

    queries, before = read_workload(workload), _passes_before(state)
    tuner = Tuner.open(state, mode="observe" if observe else "tune")
    going = WorkloadRun(tuner, dsn, queries, is_compared=compare, limit_s=limit_s)
    tuner.save(state)  # a run of minutes must not end with a file that cannot be written
    error = _run_passes(going, passes, lambda found: _keep(tuner, state, before, queries, found))
    tuner.save(state)
    found, learned = going.result(), tuner.report()
    page = None if html is None else str(_write_page(learned, state, html))
    if json:
        show.document({"state": str(state), "page": page, **found.to_json(), "report": learned.to_json()})
    else:
        _show_run(found, learned, state, page)
    if error is not None:
        raise error
    if found.is_failure:
        raise TunerError("every query failed")


def _passes_before(state: Path) -> list[PassTime]:
    from sona.cli.tuning_passes import read_passes

    if state.is_dir():
        raise StoreError(f"{state} is a folder; name a file in it")
    return list(read_passes(state))


def _run_passes(going: WorkloadRun, passes: int, keep: Callable[[PassResult], None]) -> BaseException | None:
    # Whatever ends it early is told after what was learned is safe, and shown.
    try:
        with Work() as work:
            for number in range(1, passes + 1):
                work.stage(f"Pass {number:,} of {passes:,}")
                keep(going.run_pass(lambda _, done, total: work.step(done, total)))
    except (KeyboardInterrupt, TunerError) as error:
        return error
    finally:
        going.close()
    return None


def _keep(
    tuner: Tuner, state: Path, passes: list[PassTime], queries: Sequence[WorkloadQuery], found: PassResult
) -> None:
    from sona.cli.tuning_passes import pass_time, workload_digest, write_passes

    tuner.save(state)
    passes.append(pass_time(workload_digest(queries), found, time.time()))
    write_passes(state, passes)


def _show_run(found: WorkloadResult, learned: TunerReport, state: Path, page: str | None) -> None:
    from sona.cli import tuned

    tuned.workload(found)
    show.say("", learned.verdict, f"See what was learned: sona tune report{_option(state)}")
    _say_page(page)


def _say_page(page: str | None) -> None:
    if page is not None:
        show.say(f"open the page   {Path(page).resolve().as_uri()}")


def _option(state: Path) -> str:
    return "" if state == _STATE else f" --state {shlex.quote(str(state))}"


def _write_page(learned: TunerReport, state: Path, path: Path) -> Path:
    from sona.cli.report_parts import write_document
    from sona.cli.tuning_page import page
    from sona.cli.tuning_passes import latest_passes, passes_file, read_passes

    if path.resolve() in (state.resolve(), passes_file(state).resolve()):
        raise StoreError(f"{path} is where what was learned is kept; write the page to another file")
    write_document(page(learned, latest_passes(read_passes(state)), name=state.name, at=time.time()), path)
    return path


def _learned(state: Path) -> TunerReport:
    from sona.tuner.tuner import Tuner

    if state.is_dir():
        raise StoreError(f"{state} is a folder; name a file in it")
    if not state.exists():
        raise StoreError(f"nothing was learned at {state}: begin with `sona tune run`, or `sona tune demo`")
    return Tuner.load(state).report()


@told
def report(
    *,
    state: Saved = _STATE,
    html: Html = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Rows of each table, at most.")] = 20,
    json: Json = False,
) -> None:
    """Say what was learned, why, and what it saved.

    By query pattern: what is in force, what it takes as the server chooses and now, what trying cost, what was given
    up again, and the recall of searches. Changes nothing.
    """
    learned = _learned(state)
    page = None if html is None else str(_write_page(learned, state, html))
    if json:
        show.document({**learned.to_json(), "page": page})
        return
    from sona.cli import tuned

    tuned.report(learned, k)
    _say_page(page)


@told
def export(
    *,
    form: Annotated[Form, typer.Option("--as", help="Statements, rows of pg_hint_plan's table, or everything.")],
    state: Saved = _STATE,
    role: Annotated[
        str | None,
        typer.Option("--role", metavar="NAME", help="sql: for whom.", show_default="who runs the statements"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="NAME", help="sql: for all in this database.", show_default=False),
    ] = None,
    workload: Annotated[
        Path | None,
        typer.Option("--workload", metavar="FILE", help="hints: the queries as they are sent.", show_default=False),
    ] = None,
) -> None:
    """Write what was learned, to be used without the tuner.

    `sql` sets what helps in sum for a role or a database, or says why nothing does; `hints` are rows for the hint table
    of pg_hint_plan; `json` is everything. Nothing is sent to a server.
    """
    from sona.tuner.export import as_hints, as_json, as_sql

    _require_fit(form, "--role", role, Form.SQL)
    _require_fit(form, "--database", database, Form.SQL)
    _require_fit(form, "--workload", workload, Form.HINTS)
    if role is not None and database is not None:
        raise typer.BadParameter("give --role or --database, not both")
    learned = _learned(state)
    if form is Form.SQL:
        text = as_sql(learned, role=role, database=database)
    elif form is Form.HINTS:
        text = as_hints(learned, {} if workload is None else _texts(workload))
    else:
        text = as_json(learned)
    show.say(*text.rstrip("\n").split("\n"))


def _require_fit(form: Form, name: str, value: object, wanted: Form) -> None:
    if value is not None and form is not wanted:
        raise typer.BadParameter(f"{name} goes with --as {wanted}")


def _texts(workload: Path) -> dict[str, str]:
    from sona.tuner.statements.statement import read_statement
    from sona.tuner.statements.workload import read_workload

    return {read_statement(query.sql).fingerprint: query.sql for query in read_workload(workload)}


@told
def demo(
    *,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=20.0, help="How long it may take, about.")
    ] = 120.0,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for the page and what was learned.")
    ] = Path("demo-output"),
    json: Json = False,
) -> None:
    """Show what tuning is worth, on a server of its own.

    Starts a PostgreSQL that needs no installation, fills it with a shop whose columns depend on each other and with the
    documentation of the Python standard library as vectors, and runs a workload with the tuner and beside it as the
    server chooses. Takes two minutes, and leaves nothing running.
    """
    from sona.cli.tuned_demo import show_demonstration, write_demonstration
    from sona.demo.postgres import demonstrate

    with Work() as work:
        found = demonstrate(seconds, output, on_stage=work.stage, on_progress=work.step)
    page = write_demonstration(found)
    if json:
        show.document({**found.to_json(), "page": str(page)})
    else:
        show_demonstration(found, page)
