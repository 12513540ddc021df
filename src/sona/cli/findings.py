"""What an audit found, in words: the guard, versions, explanations, replays, and what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sona.cli.database import option
from sona.cli.show import excerpt, note, print_pairs, print_table, printable, say, table
from sona.config import GuardConfig
from sona.engine.accountable import Replay
from sona.engine.events import Decided, Serving
from sona.engine.explain import Explanation
from sona.engine.forgetting import Forgotten
from sona.engine.versions import Difference, VersionRecord
from sona.guard.holdout import Arm
from sona.guard.report import Report

MODES = {
    "off": "answers are frozen, and nothing is learned",
    "shadow": "answers are frozen, and learning goes on",
    "canary": "a small share of requests is shown what was learned",
    "on": "as many requests as the budget allows are shown what was learned",
}
"""What each mode of the guard means."""


def when(at: float) -> str:
    """Return a moment, seconds since the epoch, as local date and time with its zone."""
    try:
        return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    except (OverflowError, ValueError, OSError):  # a clock of the caller's own
        return f"{at:g} s"


def about(decision: Decided) -> str:
    """Return what was decided about; a rejected candidate never was a version, and leaves its number to the next."""
    return f"{'candidate for ' if decision.decision == 'rejected' else ''}version {decision.version}"


def guard(found: Report, settings: GuardConfig) -> None:
    """Show what the guard does now, and what it goes by."""
    rows = {"mode": f"{found.mode}: {MODES[found.mode]}"}
    if found.mode in ("canary", "on"):
        rows["shown what was learned"] = f"{found.exposure:.1%} of requests, now"
        is_limited = found.holdout > 0.0 and found.budget < 1.0
        limit = f"{found.budget:.1%} of what frozen answers earn; at worst {found.budget_used:.0%} of it used"
        rows["held out"] = f"{found.holdout:.1%}, by subject, or by request where nobody is named"
        rows["budget"] = limit if is_limited else "no limit"
        if found.requests < settings.warm_up:
            rows["warming up"] = f"{found.requests:,} of {settings.warm_up:,} requests; nothing is held out before"
    rows["versions"] = f"{found.rollbacks:,} taken back, {found.rejected:,} rejected; {found.version} in force"
    rows["lessons refused"] = f"{found.limited:,}, their subject had given more than its share"
    for number, warning in enumerate(found.warnings, 1):
        rows[f"warning {number}"] = warning
    print_pairs(rows)


def versions(in_force: int, listed: Sequence[VersionRecord], decisions: Sequence[Decided], db: Path) -> None:
    """Show the committed versions, newest first, and what was decided about them."""
    if not listed:
        say("No version yet: everything is as untrained, or learned request by request.")
        say(f"Make one with: sona learn{option(db)}")
    else:
        rows = table("version", "made", "from", "trajectories", "patterns", "past requests", "")
        for record in reversed(listed):
            rows.add_row(
                str(record.id),
                when(record.at),
                str(record.parent),
                f"{record.trajectories:,}",
                str(record.summary.get("patterns", "-")),
                str(record.summary.get("past_requests", "-")),
                "in force" if record.id == in_force else "",
            )
        print_table(rows)
        if not in_force:
            say("Version 0, the untrained one, is in force.")
    if decisions:
        say("", "Decided:")
        say(*(f"{when(one.at)}  {one.decision}: {about(one)}; {one.reason}" for one in reversed(decisions)))


def difference(found: Difference) -> None:
    """Show what one version holds otherwise than another."""
    if found.is_equal:
        say(f"Versions {found.a} and {found.b} answer alike, bit for bit.")
        return
    rows = table("figure", f"version {found.a}", f"version {found.b}")
    for name, (one, other) in found.figures.items():
        rows.add_row(name.replace("_", " "), f"{one:,.6g}", f"{other:,.6g}")
    print_table(rows)
    if found.trajectories is None:
        say(f"Version {found.b} does not come from version {found.a}.")
    else:
        learned = counted(found.trajectories, "trajectory", "trajectories")
        say(f"From {found.a} to {found.b}, Loop B learned from {learned}.")


def explanation(found: Explanation) -> None:
    """Show what each source owed its score to, and which past requests voted."""
    asked = "a request without words" if found.text is None else f"“{excerpt(found.text)}”"
    say(f"{asked}{'' if found.subject is None else f', asked by {found.subject}'}", served(found.serving), "")
    rows = table("source", "similarity", "micro", "base", "votes", "links", "score", "earned")
    for item in found.items:
        parts = (f"{part:+.3f}" for part in (item.micro, item.base, item.votes, item.links))
        earned = "-" if item.reward is None else f"{item.reward:g}"
        rows.add_row(printable(item.item), f"{item.similarity:.3f}", *parts, f"{item.score:.3f}", earned)
    print_table(rows)
    if not found.is_exact:
        say("The parts are those of now: the log cannot rebuild the moment of the answer.")
    if found.neighbours:
        say("", "Past requests that voted:")
        votes = table("similarity", "request", "took")
        for neighbour in found.neighbours:
            text = f"request {neighbour.number}" if neighbour.text is None else excerpt(neighbour.text)
            votes.add_row(f"{neighbour.similarity:.3f}", text, printable(_taken(neighbour.taken)))
        print_table(votes)
    if found.patterns:
        say(f"Nearest patterns: {', '.join(map(str, found.patterns))}")


def _taken(taken: Mapping[str, float]) -> str:
    return ", ".join(f"{item} {reward:.2g}" for item, reward in taken.items()) or "nothing"


def served(serving: Serving) -> str:
    """Return in words how a request was answered.

    >>> served(Serving())
    'shown what was learned, as every request was then; version 0'
    """
    if serving.is_held_out:
        why = "answered frozen, as it is held out to compare with"
    elif serving.arm is Arm.FROZEN:
        why = f"answered frozen; {serving.exposure:.1%} of requests were shown what was learned"
    elif serving.exposure == 1.0:
        why = "shown what was learned, as every request was then"
    else:
        why = f"shown what was learned, as {serving.exposure:.1%} of requests were"
    same = "; both answers were the same" if serving.is_identical and serving.is_compared else ""
    return f"{why}{same}; version {serving.version}"


def counted(count: int, one: str, many: str) -> str:
    """Return how many there are: `counted(1, "memory", "memories")` is 1 memory."""
    return f"{count:,} {one if count == 1 else many}"


def replayed(found: Replay) -> None:
    """Show whether the rebuilt state is the one in use."""
    happened = f"{counted(found.events, 'event', 'events')} happened again"
    if found.is_equal:
        say(f"{happened}: the state is the same, bit for bit.", f"SHA-256 {found.digest}")
        return
    say(f"SHA-256 in use   {found.digest}", f"SHA-256 rebuilt  {found.rebuilt}")
    note(f"error: {happened}, and gave another state than the one in use")


def forgotten(subject: str, gone: Forgotten, *, is_wiping: bool) -> None:
    """Show what went, and whether traces may still be in the file."""
    if not any((gone.memories, gone.requests, gone.feedbacks, gone.amended)):
        say(f"Nothing of {subject!r} was there.")
    else:
        parts = (
            counted(gone.memories, "memory", "memories"),
            counted(gone.requests, "request", "requests"),
            f"feedback given {counted(gone.feedbacks, 'time', 'times')}",
        )
        say(f"Forgot {subject!r}: {', '.join(parts)}. Everything learned was rebuilt without them.")
    if gone.amended:
        say(f"{counted(gone.amended, 'entry', 'entries')} of others named one of their memories, and no longer.")
    if is_wiping:
        note("bytes of theirs may still be in the file, as another program reads it; the next command that writes")
        note("to the file takes them out, once that program has let go")
