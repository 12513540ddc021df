"""What the tuner learned as one page that needs nothing but a browser: no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sona.cli.findings import when
from sona.cli.report_parts import document, table, tile
from sona.cli.tuned import measured, settings
from sona.cli.tuning_chart import pass_chart
from sona.cli.tuning_passes import PassTime
from sona.tuner.report import Finding, PatternReport, StatementReport, TunerReport, duration, times
from sona.tuner.searches.report import SearchPattern

_ROWS = 100  # of a table
_STYLE = """
.line { fill: none; stroke-width: 2.5; } .line.tuned { stroke: var(--accent); } circle.tuned { fill: var(--accent); }
.line.own { stroke: var(--quiet); stroke-dasharray: 6 4; } circle.own { fill: var(--quiet); }
td code, th code { background: none; padding: 0; } main { max-width: 76rem; }
.sql { white-space: normal; min-width: 16rem; max-width: 24rem; }
.sql code { display: block; max-height: 9.3em; overflow-y: auto; font-weight: 400; }
.why { min-width: 14rem; max-width: 22rem; } tbody th, td { vertical-align: top; } code.why { display: block; }
.bars { display: block; width: 8rem; margin-top: .3rem; } .bars i { display: block; height: .35rem; margin: .15rem 0;
  border-radius: .2rem; background: var(--quiet); } .bars .now { background: var(--accent); }
"""


def page(found: TunerReport, passes: Sequence[PassTime], *, name: str, at: float) -> str:
    """Return the page as one HTML document that loads nothing from elsewhere.

    Args:
        found: What was found.
        passes: Passes over one workload, oldest first.
        name: Of the file that holds what was learned.
        at: When it was looked at, seconds since the epoch.
    """
    searches = [(place, one) for place, pattern in enumerate(found.patterns, 1) for one in pattern.searches]
    parts = [
        f"<h1>SONA tuner · {escape(name)} · {when(at)}</h1>",
        _verdict(found),
        _tiles(found, [one for _, one in searches]),
        *([f"<h2>Time of a pass</h2>{_chart(passes)}"] if passes else []),
        f"<h2>Query patterns</h2>{_patterns(found.patterns)}",
        f"<h2>Statements that ran with other settings</h2>{_statements(found)}",
        *([f"<h2>Searches</h2>{_searches(searches)}"] if searches else []),
        _barred(found),
        _footer(found),
    ]
    return document(f"SONA tuner: {found.verdict}", parts, style=_STYLE)


def _verdict(found: TunerReport) -> str:
    kind, head = "", "No evidence yet"
    if found.is_tried and found.saved_s > 0.0:
        kind, head = " improved", f"{duration(found.saved_s)} saved"
    elif found.is_tried and found.saved_s < 0.0:
        kind, head = " worse", f"{duration(-found.saved_s)} lost so far"
    elif found.is_tried:
        head = "Nothing saved so far"
    return f'<section class="verdict{kind}"><strong>{escape(head)}</strong><p>{escape(found.verdict)}</p></section>'


def _tiles(found: TunerReport, searches: Sequence[SearchPattern]) -> str:
    used = found.explored_share / found.exploration_limit if found.exploration_limit > 0.0 else 0.0
    parts = [
        tile(duration(found.total_s), f"waited for {found.queries:,} queries"),
        tile(
            f"{found.explored_share:.1%}",
            f"of the time was the cost of trying, {duration(found.explored_s)}; allowed: {found.exploration_limit:.0%}",
            used,
            is_limit=True,
        ),
        tile(f"{found.faster:,}", f"of {found.statements:,} statements run with other settings than the server's own"),
        tile(f"{duration(found.now_s)}", f"for each statement once, as the server chooses {duration(found.round_s)}"),
        tile(f"{found.wins:,} of {found.trials:,}", "trials were faster than what was in force"),
        tile(f"{found.rollbacks:,}", "settings in force were given up again, as they had become slower"),
    ]
    checked = [one for one in searches if one.checks]
    if checked:
        least = min(checked, key=lambda one: one.recall)
        parts.append(tile(f"{least.recall:.3f}", "lowest recall believed of a kind of search", least.recall))
        parts.append(tile(duration(found.checked_s), "for running searches again, to know their recall"))
    return f'<section class="tiles">{"".join(parts)}</section>'


def _chart(passes: Sequence[PassTime]) -> str:
    both = [(one.tuned_s, one.server_s) for one in passes if one.server_s]
    beside = " Run with --compare to see the server's own."
    if both:
        sums = measured(sum(pair[0] for pair in both), sum(pair[1] for pair in both), count=len(both))
        beside = f" Each query ran both ways in turn. <b>{sums}</b>"
    failed = sum(one.errors for one in passes)
    without = f" {failed:,} runs failed and are left out." if failed else ""
    return (
        f"<figure>{pass_chart(passes)}<figcaption>Seconds that an application waits for every query of the workload "
        f"once, trying included, from {when(passes[0].at)} to {when(passes[-1].at)}.{beside}{without}"
        "</figcaption></figure>"
    )


def _patterns(patterns: Sequence[PatternReport]) -> str:
    if not patterns:
        return '<p class="note">No query was run yet.</p>'
    rows = [_pattern(place, one) for place, one in enumerate(patterns[:_ROWS], 1)]
    shown = "" if len(patterns) <= _ROWS else f" The first {_ROWS} of {len(patterns):,}."
    caption = f"Those that cost most first; $1, $2, … stand for values.{shown}"
    return table(caption, ("", "Query", "Runs", "Time", "Saved", "Trying", "Given up", "What was found"), rows)


def _pattern(place: int, one: PatternReport) -> list[str]:
    kind = "good" if one.saved_s > 0.0 else "bad" if one.saved_s < 0.0 else "error"
    saved = f'<span class="{kind}">{duration(one.saved_s)}</span>' if one.saved_s else "-"
    return [
        str(place),
        f'<div class="sql"><code>{escape(one.sql)}</code></div>',
        f"{one.runs:,}",
        duration(one.total_s),
        saved,
        duration(one.explored_s) if one.explored_s else "-",
        times(one.rollbacks) if one.rollbacks else "-",
        f'<p class="why">{escape(one.verdict)}</p>',
    ]


def _statements(found: TunerReport) -> str:
    known = found.changed
    if not known:
        return '<p class="note">None: every statement runs as the server chooses.</p>'
    longest = max(one.server_s or 0.0 for _, one in known)
    rows = [_statement(place, one, longest) for place, one in known[:_ROWS]]
    names = ("Query", "Runs", "Server's own", "Now", "", "Settings in force", "Why")
    return table("Typical times of a statement with its values, the greatest gain first.", names, rows)


def _statement(place: int, one: StatementReport, longest: float) -> list[str]:
    own, now = (("-" if time_s is None else duration(time_s)) for time_s in (one.server_s, one.now_s))
    kind = "good" if one.finding is Finding.FASTER else "error"
    return [
        str(place),
        f"{one.runs:,}",
        own,
        f'<span class="{kind}">{now}</span>',
        _bars(one, longest),
        f'<code class="why">{escape(settings(one.settings))}</code>',
        f'<p class="why">{escape(one.why)}</p>',
    ]


def _bars(one: StatementReport, longest: float) -> str:
    # The figures stand beside it.
    own, now = ((100.0 * (time_s or 0.0) / longest if longest else 0.0) for time_s in (one.server_s, one.now_s))
    drawn = f'<i style="width:{own:.1f}%"></i><i class="now" style="width:{now:.1f}%"></i>'
    return f'<span class="bars" aria-hidden="true">{drawn}</span>'


def _searches(searches: Sequence[tuple[int, SearchPattern]]) -> str:
    most = sorted(searches, key=lambda pair: -pair[1].searches)[:_ROWS]
    rows = [_search(place, one) for place, one in most]
    names = ("Query", "Rows in the filter", "Searches", "Recall", "Server's own", "Time", "Settings in force", "Why")
    caption = "By rows that pass the filter and how well the query fits. Recall is what checks have shown."
    return table(caption, names, rows)


def _search(place: int, one: SearchPattern) -> list[str]:
    known = one.checks > 0
    return [
        str(place),
        "unknown" if one.least_rows is None else f"{one.least_rows:,} and more",
        f"{one.searches:,}",
        f'{one.recall:.3f} <span class="error">(at least {one.recall_low:.3f})</span>' if known else "-",
        f"{one.own_recall:.3f}",
        duration(1e-3 * one.mean_ms) if one.searches else "-",
        f'<code class="why">{escape(settings(one.arm.params.settings))}</code>',
        f'<p class="why">{escape(one.reason)}</p>',
    ]


def _barred(found: TunerReport) -> str:
    if not found.barred:
        return ""
    rows = "".join(f"<li>{escape(arm)}: {escape(why)}</li>" for arm, why in found.barred.items())
    return f"<h2>What this server does not allow</h2><ul>{rows}</ul>"


def _footer(found: TunerReport) -> str:
    return (
        '<footer class="note"><p>Saved is the typical time of a statement as the server chooses, less what it took '
        "with other settings; runs that were given up and repeated are taken off. Times are what the application "
        f"waits, the middle of the last eight. Trying may cost at most {found.exploration_limit:.0%} of the time spent "
        "on statements that are tuned. A statement that is left alone runs exactly as without a tuner.</p></footer>"
    )
