"""The report as one page that needs nothing but a browser: no network, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sona.cli.findings import MODES, about, when
from sona.cli.inspection import what_worked
from sona.cli.report_chart import curve, number, whisker
from sona.cli.report_parts import document, table, tile, write_document
from sona.engine import SonaEngine
from sona.engine.events import Decided
from sona.engine.versions import VersionRecord
from sona.guard.by_pattern import PatternLift
from sona.guard.offpolicy import Estimate
from sona.guard.report import ArmReport, Report, Verdict

_ROWS = 20  # versions and decisions shown, the latest


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything the page tells.

    Args:
        report: The verdict and what it rests on.
        in_force: The version in force.
        versions: Committed versions, oldest first.
        decisions: What the guard decided, oldest first.
        worked: For patterns of the report, the memory that earned most.
        name: Of the database.
        at: When it was looked at, seconds since the epoch.
    """

    report: Report
    in_force: int
    versions: Sequence[VersionRecord]
    decisions: Sequence[Decided]
    worked: Mapping[int, str]
    name: str
    at: float

    @classmethod
    def of(cls, engine: SonaEngine, *, name: str, at: float) -> Audit:
        """Return what there is to tell about an engine."""
        report = engine.report()
        worked = what_worked(engine, [row.pattern_id for row in report.patterns])
        return cls(report, engine.version, engine.versions(), engine.decisions(), worked, name, at)


def write_page(audit: Audit, path: Path) -> None:
    """Write the page to the file `path`.

    Raises:
        StoreError: it cannot be written, or a database is there.
    """
    write_document(page(audit), path)


def page(audit: Audit) -> str:
    """Return the page as one HTML document that loads nothing from elsewhere."""
    report = audit.report
    parts = [
        f"<h1>SONA report · {escape(audit.name)} · {when(audit.at)}</h1>",
        _verdict(report),
        *(f'<p class="warning"><b>Warning:</b> {escape(warning)}.</p>' for warning in report.warnings),
        _tiles(report),
        f"<h2>The lift over time</h2>{_curve(audit)}",
        f"<h2>The two answers</h2>{_arms(report)}",
        f"<h2>By pattern</h2>{_patterns(audit)}",
        f"<h2>Versions</h2>{_versions(audit)}",
        f"<h2>Decisions of the guard</h2>{_decisions(audit.decisions)}",
        _footer(report),
    ]
    return document(f"SONA report: {report.verdict.value}", parts)


def sentence(report: Report) -> str:
    """Return the verdict in a sentence, with the interval it follows from."""
    lift = report.lift
    if lift.value is None:
        return "Nothing was compared yet, so nothing is known of what learning changes."
    level = f"{100.0 * (1.0 - report.alpha):.4g} %"
    between = f"between {number(lift.low)} and {number(lift.high)} ({level}, valid at every look)"
    if report.verdict is Verdict.NO_EVIDENCE:
        return (
            "There is no evidence that learned answers earn more or less than frozen ones: the estimate is "
            f"{number(lift.value)} a request, and the truth may be anywhere {between}."
        )
    kind = "better" if report.verdict is Verdict.IMPROVED else "worse"
    more = "more" if report.verdict is Verdict.IMPROVED else "less"
    return f"Learned answers are {kind} than frozen ones: they earn {abs(lift.value):.3f} {more} a request, {between}."


def _verdict(report: Report) -> str:
    kind = report.verdict.value.replace(" ", "-")
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.reasons)
    return (
        f'<section class="verdict {kind}"><strong>{escape(report.verdict.value.capitalize())}</strong>'
        f"<p>{escape(sentence(report))}</p></section>\n" + (f"<ul>{reasons}</ul>" if reasons else "")
    )


def _tiles(report: Report) -> str:
    tiles = [
        tile(f"{report.lift.trials:,}", f"compared outcomes, of {report.requests:,} requests"),
        _more(report),
        tile(f"{report.exposure:.1%}", "of requests are shown what was learned", report.exposure),
        tile(f"{report.holdout:.1%}" if report.holdout else "none", "held out for good, to compare with"),
        _budget(report),
        _gain(report),
        _cost(report),
        tile(report.mode, MODES[report.mode]),
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _more(report: Report) -> str:
    if report.required is not None:
        return tile(f"about {report.required:,}", "more outcomes would show this lift, if it stays")
    if report.verdict is Verdict.NO_EVIDENCE:
        return tile("-", "more outcomes: it cannot be said yet how many it takes")
    return tile("enough", "outcomes are there for this verdict")


def _budget(report: Report) -> str:
    if report.holdout == 0.0 or report.budget >= 1.0:
        return tile("no limit", "on what learned answers may cost")
    meaning = f"at worst, of the budget is used: {report.budget:.1%} of what frozen answers earn"
    return tile(f"{report.budget_used:.0%}", meaning, report.budget_used, is_limit=True)


def _gain(report: Report) -> str:
    if not report.lift.trials:
        return tile("-", "quality gained in all")
    gain = report.gain
    meaning = f"quality gained in all, between {number(gain.low, 1)} and {number(gain.high, 1)}"
    return tile(number(gain.total, 1), meaning)


def _cost(report: Report) -> str:
    if report.latency is None:
        return tile("-", "time that learning adds to a request")
    whole, without = report.latency.with_learning_us, report.latency.without_learning_us
    return tile(_duration(whole - without), f"of learning in a request of {_duration(whole)}, on average")


def _duration(time_us: float) -> str:
    return f"{time_us:,.0f} µs" if time_us < 1000.0 else f"{time_us / 1000.0:,.1f} ms"


def _curve(audit: Audit) -> str:
    points = audit.report.curve
    if not points:
        return '<p class="note">The curve begins with the twentieth compared outcome.</p>'
    decided = " Red lines are decisions listed below." if audit.decisions else ""
    return (
        f"<figure>{curve(points, audit.decisions)}<figcaption>What a learned answer earns more than the frozen one, "
        f"from {when(points[0].at)} to {when(points[-1].at)}. The band holds the true mean so far, at all "
        f"times at once, with {100.0 * (1.0 - audit.report.alpha):.4g} % confidence; what lies far outside its end is "
        f"cut.{decided}</figcaption></figure>"
    )


def _arms(report: Report) -> str:
    names = ("", "Served", "Answered", "Mean quality", "IPS", "SNIPS", "DR")
    rows = [_arm("Learned", report.learned), _arm("Frozen", report.frozen)]
    caption = "Compared requests only. IPS, SNIPS, DR: what each would earn if it answered alone, ± a standard error."
    return table(caption, names, rows)


def _arm(name: str, arm: ArmReport) -> list[str]:
    share = "" if arm.answered_share is None else f' <span class="error">({arm.answered_share:.0%})</span>'
    quality = "-" if arm.mean_quality is None else f"{arm.mean_quality:.3f}"
    estimates = [_estimate(one) for one in (arm.value.ips, arm.value.snips, arm.value.dr)]
    return [name, f"{arm.served:,}", f"{arm.answered:,}{share}", quality, *estimates]


def _estimate(one: Estimate | None) -> str:
    return "-" if one is None else f'{one.value:.3f} <span class="error">± {one.standard_error:.3f}</span>'


def _patterns(audit: Audit) -> str:
    report = audit.report
    if not report.patterns:
        return '<p class="note">No pattern has compared outcomes yet.</p>'
    shown = [row.lift for row in report.patterns if row.lift.value is not None]
    reach = max([0.01, *(max(abs(lift.low), abs(lift.high)) for lift in shown)])
    rows = [_pattern(row, audit.worked.get(row.pattern_id), reach) for row in report.patterns]
    caption = (
        f"The {len(rows)} most active of {report.patterns_compared:,} patterns compared. Each interval is at level "
        f"{report.alpha:g} / {report.patterns_compared:,}, so that all of them hold together (Bonferroni)."
    )
    return table(caption, ("Pattern", "What worked", "Outcomes", "Lift", "Interval", ""), rows)


def _pattern(row: PatternLift, worked: str | None, reach: float) -> list[str]:
    lift = row.lift
    name = "-" if worked is None else f"<code>{escape(worked)}</code>"
    if lift.value is None:
        return [str(row.pattern_id), name, f"{lift.trials:,}", "-", "-", ""]
    kind = "good" if lift.low > 0.0 else "bad" if lift.high < 0.0 else "even"
    value = f'<span class="{kind}">{number(lift.value)}</span>'
    interval = f"{number(lift.low)} to {number(lift.high)}"
    return [str(row.pattern_id), name, f"{lift.trials:,}", value, interval, whisker(lift, reach)]


def _versions(audit: Audit) -> str:
    if not audit.versions:
        return '<p class="note">None was committed yet; version 0, the untrained one, is in force.</p>'
    rows = [_version(record, record.id == audit.in_force) for record in reversed(audit.versions[-_ROWS:])]
    names = ("Version", "Made", "From", "Trajectories", "Patterns", "Past requests", "")
    untrained = " Version 0, the untrained one, is in force." if not audit.in_force else ""
    return table(f"{_latest(len(rows), len(audit.versions))}{untrained}", names, rows)


def _version(record: VersionRecord, is_in_force: bool) -> list[str]:
    summary = [escape(str(record.summary.get(name, "-"))) for name in ("patterns", "past_requests")]
    cells = [str(record.id), when(record.at), str(record.parent), f"{record.trajectories:,}", *summary]
    return [*cells, "<b>in force</b>" if is_in_force else ""]


def _latest(shown: int, count: int) -> str:
    return "The latest first." if shown == count else f"The latest {shown:,} of {count:,}."


def _decisions(decisions: Sequence[Decided]) -> str:
    if not decisions:
        return '<p class="note">None: no version was rejected or taken back.</p>'
    rows = [
        [escape(one.decision.capitalize()), about(one), when(one.at), f'<p class="why">{escape(one.reason)}</p>']
        for one in reversed(decisions[-_ROWS:])
    ]
    return table(_latest(len(rows), len(decisions)), ("Decision", "About", "When", "Why"), rows)


def _footer(report: Report) -> str:
    return (
        '<footer class="note"><p>Quality is what feedback said, from 0 to 1; of a list whose items were judged, the '
        "best reward over its position. The lift is the mean difference between the two answers, from requests for "
        "which chance decided; it is fair as long as both are given feedback alike, and as long as what people do at "
        f"the beginning both lists share does not depend on what follows. Version in force: {report.version}. "
        f"Rolled back: {report.rollbacks:,}; rejected: {report.rejected:,}; lessons refused because their subject gave "
        f"more than its share: {report.limited:,}.</p></footer>"
    )
