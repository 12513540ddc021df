"""The main job's result on the terminal."""

from __future__ import annotations

from sona.cli.database import option
from sona.cli.show import print_table, say, table
from sona.demo.command import Demonstration
from sona.demo.outcome import PART_NAMES, signed


def show_demonstration(found: Demonstration) -> None:
    """Show frozen against learned, what it says in words, and where the picture and the page are."""
    runs = found.report.outcomes
    requests, clicks = sum(run.requests for run in runs), sum(run.clicked for run in runs)
    say(
        found.report.title,
        f"{requests:,} requests, {clicks:,} clicks, {len(runs)} random split{'s' if len(runs) > 1 else ''}, "
        f"{found.elapsed_s:.0f} s",
        "",
    )
    rows = table("nDCG@10", "frozen", "learned", "difference", "95 % interval", "what it says")
    for part in found.parts:
        change = part.difference
        rows.add_row(
            PART_NAMES[part.name],
            f"{part.frozen:.3f}",
            f"{part.learned:.3f}",
            signed(change.mean),
            f"{signed(change.low)} to {signed(change.high)}",
            change.effect.value,
        )
    print_table(rows)
    say("", found.conclusion, "", "What the engine found out by itself, from clicks on learned and on frozen answers:")
    for proof in found.proofs:
        lift, verdict = proof.report.lift, proof.report.verdict.value
        interval = f"{signed(lift.low)} to {signed(lift.high)}, {lift.trials:,} requests compared"
        say(f"{verdict}: lift {signed(lift.value or 0.0)} ({interval})", f"see: sona report{option(proof.database)}")
    say("", f"learning curve  {found.picture}", f"open the page   {found.page.as_uri()}")
