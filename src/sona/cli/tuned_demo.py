"""What the demonstration of the tuner found, on the terminal and as a page."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from sona.cli import tuned
from sona.cli.report_parts import write_document
from sona.cli.show import print_table, say, table
from sona.cli.tuning_page import page
from sona.cli.tuning_passes import PassTime, pass_time, workload_digest, write_passes
from sona.demo.postgres import TunerDemonstration
from sona.demo.postgres_search import LIMIT, SearchPass
from sona.tuner.report import duration


def write_demonstration(found: TunerDemonstration) -> Path:
    """Write the page beside what was learned, keep the passes there, and return where the page is.

    Raises:
        StoreError: it cannot be written.
    """
    passes = _passes(found)
    write_passes(found.state, passes)
    path = found.state.with_name("tuner.html")
    write_document(page(found.report, passes, name=f"PostgreSQL {found.version}", at=time.time()), path)
    return path


def _passes(found: TunerDemonstration) -> list[PassTime]:
    digest = workload_digest(found.result.queries)
    return [pass_time(digest, one, at) for one, at in zip(found.result.passes, found.ended, strict=True)]


def show_demonstration(found: TunerDemonstration, path: Path) -> None:
    """Show what tuning was worth, with and without the cost of finding out, and where the page is."""
    count = len(found.result.passes)
    say(
        f"A shop of {len(found.result.queries)} queries and searches among vectors, on PostgreSQL {found.version}: "
        f"{count} passes, {found.elapsed_s:.0f} s",
        "",
    )
    tuned.workload(found.result)
    say("", _conclusion(found), found.report.verdict, "")
    _searches(found)
    option = f" --state {shlex.quote(str(found.state))}"
    say("", f"what was learned  sona tune report{option}", f"open the page     {path.as_uri()}")


def _conclusion(found: TunerDemonstration) -> str:
    tuned_s, server_s = sum(one.tuned_s for one in found.last), sum(one.server_s or 0.0 for one in found.last)
    ratio, worst = found.last_ratio, found.result.worst_ratio
    if ratio is None or worst is None:
        return "Nothing was compared: every query failed."
    over = f"in the last {len(found.last)} passes" if len(found.last) > 1 else "in the last pass"
    return (
        f"The queries of the shop took {duration(tuned_s)} instead of {duration(server_s)} {over}, "
        f"{ratio:.2f} of the server's own time; at worst a pass took {worst:.2f} of it."
    )


def _searches(found: TunerDemonstration) -> None:
    rows = table("searches", f"recall@{LIMIT} tuned", "server's own", "a search tuned", "server's own")
    rows.add_row("all passes", *_search_cells(found.searches))
    rows.add_row(f"the last {len(found.last_searches)}", *_search_cells(found.last_searches))
    print_table(rows)
    say("Recall is measured here against an exact search; the time of a tuned search includes its checks.")


def _search_cells(passes: tuple[SearchPass, ...]) -> tuple[str, str, str, str]:
    count = sum(one.count for one in passes)
    tuned_recall = sum(one.count * one.tuned_recall for one in passes) / count
    own_recall = sum(one.count * one.server_recall for one in passes) / count
    tuned_s, own_s = sum(one.tuned_s for one in passes) / count, sum(one.server_s for one in passes) / count
    return f"{tuned_recall:.3f}", f"{own_recall:.3f}", duration(tuned_s), duration(own_s)
