"""Results on the terminal: words for people, or one JSON document for programs."""

from __future__ import annotations

import json
import shlex
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sona.cli.database import option
from sona.cli.inspection import Log, PatternView
from sona.engine import SonaMetrics
from sona.loops.background import BackgroundResult
from sona.state import Plain
from sona.types import FeedbackOutcome, FeedbackResult, Response, Source

_EXCERPT = 72  # letters
_PIPE_WIDTH = 120  # columns where there is no terminal


def document(values: Mapping[str, Plain]) -> None:
    """Write one JSON document to stdout."""
    text = json.dumps(values, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(values, indent=2)
    sys.stdout.write(text + "\n")


def say(*lines: str) -> None:
    """Write lines to stdout as they are, but for letters that would steer the terminal."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))


def note(line: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(" ".join(printable(line).split("\n")) + "\n")


def printable(text: str) -> str:
    r"""Return `text` with every control letter but tab and line end replaced, so that none steers a terminal.

    >>> printable("red: \x1b[31m")
    'red: \ufffd[31m'
    """
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in {"Cc", "Cs"} else "\ufffd" for letter in text
    )


def excerpt(text: str) -> str:
    r"""Return the beginning of `text` on one line.

    >>> excerpt("Reset your\n  password."), len(excerpt("word " * 99))
    ('Reset your password.', 72)
    """
    line = " ".join(printable(text).split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1].rstrip()}…"


def answer(response: Response, sources: Sequence[Source], memory_count: int, db: Path) -> None:
    """Show an answer with its sources, and what to type next."""
    say(response.text)
    if not sources:
        say("", f"None of {memory_count:,} memories is like the question; add some: sona remember FILE{option(db)}")
        return
    rows = table("", "source", "score", "begins")
    for place, source in enumerate(sources, 1):
        rows.add_row(str(place), printable(source.id), f"{source.score:.2f}", excerpt(source.text))
    say("")
    print_table(rows)
    number = response.trajectory_id
    first = shlex.quote(f"{sources[0].id}=1")
    say(
        "",
        f"confidence {response.confidence:.2f}, trajectory {number}",
        f"Was it right?   sona feedback {number} --good{option(db)}",
        f"If not:         sona feedback {number} --bad{option(db)}",
        f"Or by source:   sona feedback {number} --reward {first}{option(db)}",
    )


def feedback(result: FeedbackResult) -> None:
    """Show what became of feedback."""
    number, credited = result.trajectory_id, ", ".join(result.credited)
    to_whom = f", credited to {credited}" if credited else ", nothing credited"
    say(
        {
            FeedbackOutcome.LEARNED: f"Learned from trajectory {number}{to_whom}.",
            FeedbackOutcome.AMENDED: f"Changed what trajectory {number} taught{to_whom}.",
            FeedbackOutcome.REPEATED: f"Nothing new: this was known of trajectory {number}, and counts once.",
            FeedbackOutcome.RECORDED: f"Recorded for trajectory {number}, and not learned from: {result.reason}.",
        }[result.outcome]
    )


def learned(result: BackgroundResult, waiting: int, db: Path) -> None:
    """Show what a cycle of Loop B did, and what it left out and why."""
    if result.skipped_reason is not None:
        say(f"Nothing was learned: {result.skipped_reason}.")
        if waiting:
            say(f"To learn from {waiting:,} now: sona learn --force{option(db)}")
        return
    say(f"Learned from {result.trajectories:,} trajectories; version {result.version} is in force.", "")
    print_pairs(_cycle(result))


def _cycle(result: BackgroundResult) -> dict[str, str]:
    rows: dict[str, str] = {}
    if found := result.extraction:
        rows["patterns"] = (
            f"{found.new} new, {found.merged} merged into a similar one; {found.joined + found.clustered} requests "
            f"placed, {found.waiting} kept for later; {found.patterns} in all"
        )
        if found.skipped_reason is not None:
            rows["patterns"] += f"; no clustering: {found.skipped_reason}"
    if fit := result.fit:
        rows["base adapter"] = (
            f"refitted, rank {fit.rank}, keeps {fit.energy_kept:.0%} of the solution"
            if fit.rank
            else "skipped: no request has shown yet where it should have pointed"
        )
    if fisher := result.fisher:
        rows["EWC++"] = f"took in {fisher.examples} examples" if fisher.updated else f"skipped: {fisher.skipped_reason}"
    if boundary := result.boundary:
        rows["change of topic"] = f"{'yes' if boundary.is_boundary else 'none found'}: {boundary.reason}"
    if task := result.task:
        closed = f"protected what was learned before it; {task.task_count} tasks in all"
        rows["protection"] = closed if task.closed else f"skipped: {task.skipped_reason}"
    rows["instant adapter"] = "folded into the base adapter" if result.folded else "left as it was"
    return rows


def size(size_bytes: int) -> str:
    """Return a size in words: `size(45_056)` is 45.1 kB."""
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:,.1f} kB"


def status(
    metrics: SonaMetrics, facts: Mapping[str, str], *, graph: Mapping[str, str], versions: int, log: Log | None
) -> None:
    """Show the counters in plain words, after `facts` about the file, with those of the memory graph among them."""
    rows = dict(facts)
    rows["log"] = _log(log)
    rows["memories"] = f"{metrics.memories:,}"
    rows["requests"] = (
        f"{metrics.requests:,} answered; {metrics.awaiting_feedback:,} await feedback, "
        f"{metrics.unanswered:,} went without"
    )
    rows["feedback"] = (
        f"{metrics.feedbacks:,} learned from; {metrics.amended:,} changed later, {metrics.repeated:,} repeated, "
        f"{metrics.unknown:,} for an unknown trajectory"
    )
    rows["votes"] = (
        f"{metrics.past_requests:,} past requests remembered; similar requests have earned {metrics.reach_trust:.0%} "
        "of their reach (the same request always counts)"
    )
    rows |= graph
    rows["background"] = f"learned from {metrics.learned:,} trajectories, {metrics.waiting:,} wait for `sona learn`"
    rows["version"] = f"{metrics.version} in force, {versions:,} committed in all"
    rows["guard"] = (
        f"mode {metrics.mode}; {metrics.exposure:.0%} of requests are shown what was learned; "
        f"{metrics.rollbacks:,} versions taken back, {metrics.rejected_candidates:,} rejected, "
        f"{metrics.limited:,} lessons refused"
    )
    rows["patterns"] = f"{metrics.patterns:,}"
    rows["protected tasks"] = f"{metrics.ewc_tasks:,}"
    if metrics.instant is not None and metrics.instant.dropped:
        rows["dropped"] = f"{metrics.instant.dropped:,} requests came while too many waited"
    print_pairs(rows)


def _log(log: Log | None) -> str:
    if log is None:
        return "none: `save` wrote this file"
    hole = f"some before event {log.whole_after:,} are missing" if log.whole_after else "whole"
    return f"up to event {log.last_event:,}, {hole}; {size(log.size_bytes)}"


def patterns(views: Sequence[PatternView], total: int, *, is_query: bool, db: Path) -> None:
    """Show patterns as a table, with a sentence for every verdict."""
    if not views:
        say(f"No patterns yet: ask, give feedback, then sona learn{option(db)}")
        return
    extra = ("similarity",) if is_query else ()
    rows = table("pattern", *extra, "requests", "quality", "confidence", "what worked")
    for view in views:
        similarity = (f"{view.similarity:.2f}",) if view.similarity is not None else ()
        rows.add_row(
            str(view.pattern.id),
            *similarity,
            f"{view.pattern.cluster_size:,}",
            f"{view.pattern.avg_quality:.2f}",
            f"{view.confidence:.2f}",
            printable(view.worked or "-"),
        )
    print_table(rows)
    say(*(f"Pattern {view.pattern.id}: {view.verdict.reason}" for view in views if view.verdict is not None))
    if len(views) < total:
        say(f"{len(views):,} of {total:,}; more with -k {total}")


def table(*names: str) -> Table:
    """Return an empty table with these columns; a long cell goes on in the next line, nothing is cut."""
    empty = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        empty.add_column(name, overflow="fold")
    return empty


def print_table(rows: Table) -> None:
    """Write a table to stdout."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(rows)
        return
    console.width = _PIPE_WIDTH
    with console.capture() as captured:
        console.print(rows)
    say(*(line.rstrip() for line in captured.get().splitlines()))


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Write names and what there is to say about each to stdout."""
    rows = Table.grid("", "", padding=(0, 2))
    for name, value in pairs.items():
        rows.add_row(name, printable(value))
    print_table(rows)
