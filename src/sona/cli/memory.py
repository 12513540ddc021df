"""The commands that reorganise the memory as a whole: dreams and consolidation, or what they would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from sona.cli import reorganised, show
from sona.cli.command import Db, Json, told
from sona.cli.database import DEFAULT, trying, writing
from sona.cli.inspection import DreamView, why_no_memory
from sona.cli.progress import Work
from sona.engine import SonaEngine
from sona.loops.deep_cycle import DeepResult
from sona.memory.consolidate import ConsolidationPlan
from sona.state import Plain

_CONSOLIDATION = ("compare", "consolidate")


def register(app: typer.Typer) -> None:
    """Add these commands to a program."""
    app.command(epilog="Example: sona dream    or: sona dream --dry-run --count 10")(dream)
    app.command(epilog="Example: sona consolidate --dry-run")(consolidate)


@told
def dream(
    db: Db = DEFAULT,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="Dreams to show, at most.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Dream, and change nothing.")] = False,
    json: Json = False,
) -> None:
    """Reorganise the memory as a whole, now.

    One cycle of Loop C: links what is new, dreams of links that may be missing, merges near-duplicates, lets links
    fade that nobody used, arranges patterns in levels, and measures how integrated the memory is. Shows the best
    dreams of the memory as it was before.
    """
    result: DeepResult | None = None
    with Work() as work:
        if dry_run:
            engine = trying(db)
            work.stage("Dreaming")
            dreams, texts = _best(engine, count), engine.texts()
        else:
            with writing(db) as engine:
                work.stage("Dreaming")
                dreams, texts = _best(engine, count), engine.texts()
                work.stage("Reorganising")
                result = engine.deep_learn(force=True)
    if json:
        cycle = None if result is None else _plain(result)
        listed: list[Plain] = [_plain_dream(view, texts) for view in dreams]
        show.document({"is_dry_run": dry_run, "cycle": cycle, "dreams": listed})
        return
    if result is not None:
        reorganised.cycle(result, why_no_memory(engine), db)
    reorganised.dreams(dreams, texts, why_no_memory(engine))


@told
def consolidate(
    db: Db = DEFAULT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be merged and removed, and change nothing.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", metavar="S", min=0.0, help="Most seconds; the next time goes on.", show_default="600"
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Memories to list, at most.")] = 20,
    json: Json = False,
) -> None:
    """Merge near-duplicates, and let links fade that nobody used.

    Memories that are worth little are removed where the settings of the database say so, and only as far as that may
    cost next to nothing. What an open request shows stays.
    """
    if dry_run and time_limit is not None:
        raise typer.BadParameter("--time-limit does not go with --dry-run")
    if dry_run:
        with Work() as work:
            engine = trying(db)
            work.stage("Comparing memories")
            plan, texts = engine.plan_consolidation(), engine.texts()
        if json:
            show.document(_plain_plan(plan, texts))
        else:
            reorganised.plan(plan, texts, why_no_memory(engine), most=k, db=db)
        return
    with Work() as work, writing(db) as engine:
        texts = engine.texts()
        work.stage("Consolidating")
        result = engine.deep_learn(force=True, time_limit_s=time_limit, stages=_CONSOLIDATION)
    if json:
        show.document({"is_dry_run": False, "cycle": _plain(result)})
    else:
        reorganised.consolidation(result, texts, why_no_memory(engine), most=k, db=db)


def _best(engine: SonaEngine, count: int) -> Sequence[DreamView]:
    settings = engine.config
    views = [DreamView.of(one, settings.dreams) for one in engine.dream(max(count, settings.deep.dreams))]
    return sorted(views, key=lambda view: view.refusal is not None)[:count]  # each half stays best first


def _plain(result: DeepResult) -> dict[str, Plain]:
    values: dict[str, Plain] = asdict(result)
    values["levels"] = list(result.levels)
    return values


def _plain_dream(view: DreamView, texts: Mapping[str, str]) -> dict[str, Plain]:
    dream = view.dream
    known: dict[str, Plain] = {name: texts[name] for name in dict.fromkeys(dream.path) if name in texts}
    proposals: list[Plain] = [asdict(proposal) for proposal in dream.proposals]
    return {
        "id": dream.id,
        "score": dream.score,
        "novelty": dream.novelty,
        "coherence": dream.coherence,
        "utility": dream.utility,
        "diversity": dream.diversity,
        "creative_jumps": dream.creative_jumps,
        "path": list(dream.path),
        "texts": known,
        "proposals": proposals,
        "refusal": view.refusal,
    }


def _plain_plan(plan: ConsolidationPlan, texts: Mapping[str, str]) -> dict[str, Plain]:
    merges: list[Plain] = [
        {**asdict(merge), "text_kept": texts.get(merge.kept), "text_gone": texts.get(merge.gone)}
        for merge in plan.merges
    ]
    removals: list[Plain] = [{**asdict(removal), "text": texts.get(removal.id)} for removal in plan.removals]
    loss, kept = plan.expected_loss, plan.kept
    return {"is_dry_run": True, "merges": merges, "removals": removals, "expected_loss": loss, "kept": kept}
