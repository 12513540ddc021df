"""The result as one page that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from sona.demo.curve import svg
from sona.demo.evaluation import Effect
from sona.demo.outcome import PART_NAMES, Example, Outcome, PartSummary, Report, Shown, conclusion, signed, summarise
from sona.state import replace_file


def write_page(report: Report, path: Path) -> None:
    """Write the page to the file `path`.

    Raises:
        MissingExtra: matplotlib is not installed.
        StoreError: the file cannot be written.
    """
    replace_file(path, page(report).encode())


def page(report: Report) -> str:
    """Return the report as one HTML document that loads nothing from elsewhere.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    first = report.outcomes[0]
    summaries = summarise(report.outcomes)
    body = "\n".join(
        [
            f"<h1>{escape(report.title)}</h1>",
            f'<p class="lead">{escape(conclusion(summaries))}</p>',
            f"<h2>What was measured</h2>\n{_method(first, len(report.outcomes))}",
            f"<h2>Result</h2>\n{_table(summaries, 'Quality before and after learning')}",
            *(_table(summarise(runs), f"Control: {name}") for name, runs in report.controls.items()),
            f"<h2>Learning curve</h2>\n<figure>{svg(report)}<figcaption>{_caption(first)}</figcaption></figure>",
            f"<h2>Requests before and after</h2>\n{_examples(first.examples)}",
            f"<h2>Settings and times</h2>\n{_settings(report)}",
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _method(outcome: Outcome, seeds: int) -> str:
    left_out = "" if outcome.distinct is None else " (near-repeats of a streamed request are also judged apart)"
    return (
        f"<p>{escape(outcome.description)} {outcome.requests:,} requests were answered one after another. A simulated "
        "person looks at position k of the ten answers with probability k<sup>&minus;0.5</sup>, clicks what is right, "
        f"and errs one time in ten: {outcome.clicked:,} clicks. The ranker learned from these clicks alone.</p>\n"
        "<p>The score is nDCG@10: 1 when the right answers come first, 0 when none is among the ten. Each part is "
        f"judged apart: requests asked again, the same in other words, and requests never seen{left_out}. "
        f"<em>Frozen</em> is plain cosine similarity on the same requests. {_seeds(seeds)}; intervals are paired, "
        "95&nbsp;%, and count a request once however often it was asked.</p>"
    )


def _seeds(count: int) -> str:
    return "One random split" if count == 1 else f"{count} random splits"


def _table(summaries: Sequence[PartSummary], caption: str) -> str:
    reach = max(0.01, *(max(abs(part.difference.low), abs(part.difference.high)) for part in summaries))
    rows = "\n".join(_row(part, reach) for part in summaries)
    names = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Part", "Frozen", "Learned", "Change", "95&nbsp;% interval", "", "What it says")
    )
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{names}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(part: PartSummary, reach: float) -> str:
    change = part.difference
    kind = {Effect.HELPED: "good", Effect.HARMED: "bad", Effect.NO_EVIDENCE: "none"}[change.effect]
    name = PART_NAMES[part.name].capitalize()
    return (
        f'<tr><th scope="row">{name}</th><td>{part.frozen:.3f}</td><td>{part.learned:.3f}</td>'
        f"<td>{signed(change.mean)}</td><td>{signed(change.low)} to {signed(change.high)}</td>"
        f'<td>{_whisker(part, reach)}</td><td><span class="{kind}">{change.effect.value}</span></td></tr>'
    )


def _whisker(part: PartSummary, reach: float) -> str:
    # Purely visual: the numbers stand beside it.
    low, mean, high = (
        60.0 + 54.0 * value / reach for value in (part.difference.low, part.difference.mean, part.difference.high)
    )
    return (
        '<svg width="120" height="16" viewBox="0 0 120 16" aria-hidden="true">'
        '<line x1="60" y1="1" x2="60" y2="15" class="zero"/>'
        f'<line x1="{low:.1f}" y1="8" x2="{high:.1f}" y2="8" class="reach"/>'
        f'<circle cx="{mean:.1f}" cy="8" r="3.5" class="mean"/></svg>'
    )


def _caption(outcome: Outcome) -> str:
    return escape(
        f"Change in nDCG@10 against frozen as requests come in, on samples of {outcome.plan.sample} requests per part. "
        "Thin lines are single splits; 0 is the frozen ranking."
    )


def _examples(examples: Iterable[Example]) -> str:
    return "\n".join(_example(example) for example in examples)


def _example(example: Example) -> str:
    wanted = ", ".join(f"<code>{escape(item)}</code>" for item in example.wanted)
    return (
        f'<article><h3>&ldquo;{escape(example.text)}&rdquo;</h3>\n<p class="note">{PART_NAMES[example.part]}; '
        f"right: {wanted}; nDCG@10 {example.frozen:.2f} &rarr; {example.learned:.2f}</p>\n"
        f'<div class="pair">{_ranking("Before", example.before)}{_ranking("After", example.after)}</div></article>'
    )


def _ranking(name: str, shown: Sequence[Shown]) -> str:
    rows = "".join(
        f"<li{' class=right' if item.is_relevant else ''}><code>{escape(item.caption)}</code>"
        f"{' <span>&check; right</span>' if item.is_relevant else ''}</li>"
        for item in shown
    )
    return f"<div><h4>{name}</h4><ol>{rows}</ol></div>"


def _settings(report: Report) -> str:
    runs = report.outcomes
    plan = runs[0].plan
    rows = {
        "Data": runs[0].task,
        "Seeds": ", ".join(str(run.seed) for run in runs),
        "Background learning": f"every {plan.learn_every} requests, and once at the end",
        "Time per ranking, median": f"{np.median([run.rank_us for run in runs]):,.0f} µs",
        "Time per feedback, median": f"{np.median([run.feedback_us for run in runs]):,.0f} µs",
        "Background learning in all": f"{np.mean([run.learn_s for run in runs]):.1f} s per split",
        **report.settings,
    }
    cells = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows.items()
    )
    return f'<div class="scroll"><table class="plain"><tbody>\n{cells}\n</tbody></table></div>'


_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a19; --paper: #fdfdfb; --line: #d8d7d2; --quiet: #6b6a65;
  --repeat: #1f5fbf; --paraphrase: #0e7a5f; --held-out: #b4521a; --good: #0b6b3a; --bad: #a3201d; --tint: #f2f1ec; }
@media (prefers-color-scheme: dark) { :root { --ink: #ecebe6; --paper: #171716; --line: #3a3935; --quiet: #a5a39c;
  --repeat: #7fb0ff; --paraphrase: #5fd0ae; --held-out: #f0a06c; --good: #6fd39b; --bad: #ff9a94; --tint: #22211f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; } h4 { font-size: .85rem; margin: .5rem 0 0; color: var(--quiet); }
p { margin: .5rem 0; max-width: 46rem; } .lead { font-size: 1.1rem; }
.note, figcaption { color: var(--quiet); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
caption { text-align: left; color: var(--quiet); font-size: .9rem; padding: .25rem 0; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tbody th { font-weight: 600; white-space: normal; min-width: 11rem; }
thead th { font-size: .85rem; color: var(--quiet); }
.plain td { white-space: normal; } .plain th { width: 18rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.none { color: var(--quiet); }
.zero { stroke: var(--quiet); } .reach { stroke: var(--ink); stroke-width: 2; } .mean { fill: var(--ink); }
figure { margin: .5rem 0; } figure svg { width: 100%; height: auto; max-width: 52rem; }
figure text { font-family: system-ui, sans-serif !important; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; margin: .75rem 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 0 1.5rem; }
ol { margin: .25rem 0 0; padding-left: 1.4rem; } li { margin: .1rem 0; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, monospace; background: var(--tint); padding: .05em .3em; border-radius: .25em; }
.right span { color: var(--good); font-weight: 600; font-size: .85rem; }
"""
