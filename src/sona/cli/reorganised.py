"""What reorganising the memory did or would do, in words: cycles of Loop C, dreams, plans of consolidation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from sona.cli.database import option
from sona.cli.findings import counted, when
from sona.cli.inspection import DreamView
from sona.cli.show import excerpt, print_pairs, print_table, printable, say, table
from sona.engine import SonaMetrics
from sona.loops.deep_cycle import DeepResult
from sona.memory.consolidate import ConsolidationPlan

_LINKS = 3  # proposals of a dream that are shown


def cycle(result: DeepResult, why_not: str | None, db: Path) -> None:
    """Show what a cycle of Loop C did.

    Args:
        result: What it did.
        why_not: Why there is nothing to reorganise, for people; None when there is something.
        db: The database file.
    """
    if result.skipped_reason is not None:
        say(f"Nothing was reorganised: {why_not or result.skipped_reason}.")
        return
    say(f"Cycle {result.cycle} of Loop C took {result.elapsed_s:.2f} s.", "")
    print_pairs(
        {
            "linked": f"{_memories(result.linked)} compared with all others",
            "dreams": (
                f"{result.dreams_generated:,} dreamt, {result.dreams_integrated:,} taken up: "
                f"{counted(result.links_dreamt, 'new link', 'new links')}, weak until feedback confirms them"
            ),
            "memories": _changed(result),
            "learned links": _faded(result),
            "patterns": _levels(result),
            "Phi": "not measured" if result.phi is None else f"{result.phi:.3f}, the mean of sampled neighbourhoods",
        }
    )
    if not result.is_finished:
        say(f"The time limit ended it; go on with: sona dream{option(db)}")


def dreams(views: Sequence[DreamView], texts: Mapping[str, str], why_not: str | None) -> None:
    """Show dreams: what each is worth, the memories it came by, and the links it proposes."""
    if not views:
        say(f"No dreams: {why_not or 'there are no memories'}.")
        return
    for view in views:
        dream = view.dream
        jumps = counted(dream.creative_jumps, "jump", "jumps")
        figures = f"novelty {dream.novelty:.2f}, coherence {dream.coherence:.2f}, utility {dream.utility:.2f}"
        say("", f"A dream of score {dream.score:.2f} ({figures}, {jumps}) came by")
        rows = table("memory", "begins")
        for name in dict.fromkeys(dream.path):
            rows.add_row(printable(name), _begin(name, texts))
        print_table(rows)
        proposed = [f"{one.a} with {one.b}" for one in dream.proposals[:_LINKS]]
        say(f"Not taken up: {view.refusal}." if view.refusal else f"It would link {', '.join(proposed)}.")


def status(metrics: SonaMetrics) -> dict[str, str]:
    """Return what there is to say of the memory graph and of Loop C, row by row."""
    seen = "requests see none of the links yet"
    if metrics.linked_memories:
        seen = f"requests see the links of {_memories(metrics.linked_memories)}"
    similar, learned = metrics.graph_weights
    rows = {
        "memory graph": f"{counted(metrics.edges, 'pair', 'pairs')} of memories linked; {seen}",
        "activation": f"worth {similar:.3f} over links to similar memories, {learned:.3f} over learned ones, at most",
    }
    known = [f"{counted(metrics.deep_cycles, 'cycle', 'cycles')} finished"]
    known += [] if metrics.phi is None else [f"Phi {metrics.phi:.3f}"]
    known += [f"patterns in {counted(len(metrics.levels), 'level', 'levels')}"] if metrics.levels else []
    for loop in metrics.loops:
        if loop.name == "deep":
            known += [] if loop.last_run is None else [f"last run {when(loop.last_run)}: {loop.last_outcome or '-'}"]
            known += [] if loop.next_run is None else [f"next from {when(loop.next_run)}"]
    rows["Loop C"] = "; ".join(known)
    return rows


def plan(made: ConsolidationPlan, texts: Mapping[str, str], why_not: str | None, *, most: int, db: Path) -> None:
    """Show what consolidation would merge and remove, and what that may cost.

    Args:
        made: The plan.
        texts: Of the memories, by id.
        why_not: Why there is nothing to consolidate, for people; None when there is something.
        most: Memories to list of either kind.
        db: The database file.
    """
    if not made.merges and not made.removals:
        say(f"Nothing to merge or remove: {why_not or f'{_memories(made.kept)} stay'}.")
        return
    going = f"Would merge {_memories(len(made.merges))} into others and remove {len(made.removals):,}"
    say(f"{going}; {made.kept:,} would be left.")
    if made.merges:
        rows = table("goes", "into", "similarity", "begins")
        for merge in made.merges[:most]:
            similarity = f"{merge.similarity:.3f}"
            rows.add_row(printable(merge.gone), printable(merge.kept), similarity, _begin(merge.gone, texts))
        _listed(rows, len(made.merges), most)
    if made.removals:
        rows = table("is removed", "worth", "begins")
        for removal in made.removals[:most]:
            rows.add_row(printable(removal.id), f"{removal.worth:.3f}", _begin(removal.id, texts))
        _listed(rows, len(made.removals), most)
        say(f"The next request takes one of those that are removed with a chance of at most {made.expected_loss:.1%}.")
    say("", f"Nothing was changed. To do it: sona consolidate{option(db)}")


def consolidation(result: DeepResult, texts: Mapping[str, str], why_not: str | None, *, most: int, db: Path) -> None:
    """Show what consolidation did; arguments as of `plan`, texts as they were before."""
    if result.skipped_reason is not None:
        say(f"Nothing was consolidated: {why_not or result.skipped_reason}.")
        return
    if not result.is_finished:
        say(f"The time limit ended it, and nothing has changed yet; go on with: sona consolidate{option(db)}")
        return
    say(f"{_changed(result)}; learned links: {_faded(result)}.")
    if result.gone:
        rows = table("gone", "into", "begins")
        for name, kept in list(result.gone.items())[:most]:
            rows.add_row(printable(name), printable(kept or "-"), _begin(name, texts))
        _listed(rows, len(result.gone), most)
    if result.pruned:
        say(f"The next request would have taken one of those with a chance of at most {result.expected_loss:.1%}.")


def _listed(rows: Table, total: int, most: int) -> None:
    say("")
    print_table(rows)
    if most < total:
        say(f"{most:,} of {total:,}; more with -k {total}")


def _memories(count: int) -> str:
    return counted(count, "memory", "memories")


def _begin(name: str, texts: Mapping[str, str]) -> str:
    return excerpt(texts[name]) if name in texts else "-"


def _changed(result: DeepResult) -> str:
    merged = counted(result.merged, "memory was merged into another", "memories were merged into others")
    return f"{merged}, {result.pruned:,} removed"


def _faded(result: DeepResult) -> str:
    return f"{result.strengthened:,} used or new, {result.decayed:,} faded, {result.dropped:,} dropped"


def _levels(result: DeepResult) -> str:
    groups = " under ".join(f"{size:,}" for size in result.levels)
    levels = f"groups by level: {groups}" if groups else "none to arrange in levels"
    return f"{levels}; {result.patterns_pruned:,} poor and unused ones removed"
