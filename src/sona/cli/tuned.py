"""What the tuner found, on the terminal: passes of a workload, query patterns, statements, searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sona.cli.findings import counted
from sona.cli.show import excerpt, print_pairs, print_table, printable, say, table
from sona.tuner.report import PatternReport, TunerReport, duration, times
from sona.tuner.run import PassResult, WorkloadResult
from sona.tuner.searches.report import SearchPattern

_FIRST, _LAST = 4, 8  # passes shown


def workload(found: WorkloadResult) -> None:
    """Show how the passes went, and which queries failed."""
    if not found.passes:
        say("Nothing was run.")
        return
    rows = table("pass", "tuned", "server's own", "ratio", "timed out", "failed")
    shown = found.passes if len(found.passes) <= _FIRST + _LAST + 1 else (*found.passes[:_FIRST], None, *_last(found))
    for one in shown:
        rows.add_row(*(("...", "", "", "", "", "") if one is None else _pass(one)))
    print_table(rows)
    if found.compared_s is not None:
        say(measured(*found.compared_s, count=len(found.passes)))
    say(*(f"{printable(name)} failed: {excerpt(error)}" for name, error in found.failures().items()))


def measured(tuned_s: float, server_s: float, *, count: int) -> str:
    """Return in words what passes took both ways.

    >>> measured(3.0, 4.0, count=2)
    'Measured in 2 passes: 3.00 s tuned, trying included, and 4.00 s as the server chooses; 0.75 of it.'
    """
    both = f"{duration(tuned_s)} tuned, trying included, and {duration(server_s)} as the server chooses"
    return f"Measured in {counted(count, 'pass', 'passes')}: {both}; {tuned_s / server_s:.2f} of it."


def _last(found: WorkloadResult) -> tuple[PassResult, ...]:
    return found.passes[-_LAST:]


def _pass(one: PassResult) -> tuple[str, ...]:
    own = "-" if one.server_s is None else duration(one.server_s)
    ratio = "-" if one.ratio is None else f"{one.ratio:.2f}"
    name = str(one.number) if one.is_whole else f"{one.number}, interrupted after {len(one.runs):,}"
    tuned_s = duration(one.tuned_s) if one.errors < len(one.runs) else "-"
    return name, tuned_s, own, ratio, str(one.timeouts or "-"), str(one.errors or "-")


def report(found: TunerReport, most: int) -> None:
    """Show what was found, in sum and by pattern.

    Args:
        found: What was found.
        most: Rows of each table, at most.
    """
    say(found.verdict, "")
    print_pairs(_sums(found))
    if not found.patterns:
        return
    say("")
    _patterns(found.patterns[:most])
    if len(found.patterns) > most:
        say(f"{most:,} of {len(found.patterns):,}; more with -k {len(found.patterns)}")
    _statements(found, most)
    searches = [(place, one) for place, pattern in enumerate(found.patterns, 1) for one in pattern.searches]
    _searches(sorted(searches, key=lambda pair: -pair[1].searches)[:most])


def _sums(found: TunerReport) -> Mapping[str, str]:
    rows = {
        "queries": f"{counted(found.queries, 'query', 'queries')}, {duration(found.total_s)} waited for",
        "settings": f"{found.faster:,} of {counted(found.statements, 'statement', 'statements')} run with others than "
        f"the server's own; each once takes {duration(found.now_s)} instead of {duration(found.round_s)}",
        "trying": f"{duration(found.explored_s)}, {found.explored_share:.1%} of the time (at most "
        f"{found.exploration_limit:.1%}); {counted(found.trials, 'trial', 'trials')}, {found.wins:,} won, "
        f"{found.rollbacks:,} given up again",
    }
    if any(pattern.searches for pattern in found.patterns):
        rows["checks"] = f"{duration(found.checked_s)} for running searches again, to know their recall"
    if found.barred:
        rows["not allowed"] = "; ".join(f"{arm}: {why}" for arm, why in found.barred.items())
    return rows


def _patterns(patterns: Sequence[PatternReport]) -> None:
    rows = table("", "query", "runs", "time", "saved", "what was found")
    for place, one in enumerate(patterns, 1):
        saved = duration(one.saved_s) if one.saved_s else "-"
        cells = (f"{one.runs:,}", duration(one.total_s), saved, printable(one.verdict))
        rows.add_row(str(place), excerpt(one.sql), *cells)
    print_table(rows)


def _statements(found: TunerReport, most: int) -> None:
    known = found.changed
    if not known:
        return
    say("", "Statements that ran with other settings:")
    rows = table("query", "runs", "server's own", "now", "settings in force", "given up")
    for place, one in known[:most]:
        own, now = (("-" if time_s is None else duration(time_s)) for time_s in (one.server_s, one.now_s))
        rows.add_row(str(place), f"{one.runs:,}", own, now, settings(one.settings), times(one.rollbacks))
    print_table(rows)


def settings(values: Mapping[str, str]) -> str:
    """Return settings in words: `settings({"work_mem": "64MB"})` is work_mem = 64MB."""
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "the server's own"


def _searches(found: Sequence[tuple[int, SearchPattern]]) -> None:
    if not found:
        return
    say("", "Searches, by rows that pass the filter and how well the query fits them:")
    rows = table(
        "query", "rows", "searches", "checks", "recall", "at least", "server's own", "time", "settings in force"
    )
    for place, one in found:
        rows.add_row(str(place), *_search(one))
    print_table(rows)


def _search(one: SearchPattern) -> Iterator[str]:
    yield "unknown" if one.least_rows is None else f"{one.least_rows:,} and more"
    yield f"{one.searches:,}"
    yield f"{one.checks:,}"
    yield from (f"{value:.3f}" for value in (one.recall, one.recall_low, one.own_recall))
    yield duration(1e-3 * one.mean_ms) if one.searches else "-"
    yield settings(one.arm.params.settings)
