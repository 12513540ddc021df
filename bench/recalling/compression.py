"""What is lost when an engine keeps part of its memories: by what was learned of their use, and at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recalling.streams import (
    CONDITIONS,
    CONSOLIDATE,
    DEFAULT,
    SECONDS_APART,
    Condition,
    Size,
    answers,
    sampled,
    scores,
    streamed,
)
from sona import SonaEngine
from sona.config import ConsolidationConfig
from sona.demo.clicks import clicks
from sona.demo.tasks import Task
from sona.memory.consolidate import ConsolidationPlan, compress, plan
from sona.memory.duplicates import duplicates

SHARES = (0.75, 0.5, 0.25)
MIN_VALUES = (0.1, 0.2, 1.0)
RANDOM = 3  # draws of the control


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a memory, and what that costs.

    Args:
        share: Of the memories that are left.
        merged: Memories that went into others.
        bound: On the chance that a request takes one that was removed, where there is one.
        ndcg: By part, of what is left.
        lost: By part, the share of nDCG that is lost against all memories.
        lost_but_merged: The same where a memory stands for those that went into it.
        taken_gone: By part, the share of what people would take from the full memory that was removed.
    """

    share: float
    merged: int
    bound: float | None
    ndcg: dict[str, float]
    lost: dict[str, float]
    lost_but_merged: dict[str, float]
    taken_gone: dict[str, float]


@dataclass(frozen=True, slots=True)
class Gone:
    """Memories that were removed, and those that went into others."""

    removed: frozenset[str] = frozenset()
    into: Mapping[str, str] = field(default_factory=dict)
    bound: float | None = None

    @classmethod
    def by(cls, made: ConsolidationPlan) -> Gone:
        """Return what a plan lets go."""
        into = {merge.gone: merge.kept for merge in made.merges}
        return cls(frozenset(removal.id for removal in made.removals), into, made.expected_loss)

    def __len__(self) -> int:
        """Return how many are gone."""
        return len(self.removed) + len(self.into)


@dataclass(frozen=True, slots=True)
class Whole:
    """An engine after its stream, how it does with every memory, and what people take then."""

    engine: SonaEngine
    task: Task
    ndcg: dict[str, float]
    takings: dict[str, list[str]]

    @classmethod
    def of(cls, engine: SonaEngine, task: Task, seed: int) -> Whole:
        """Return how an engine does with all its memories, and what people take from them."""
        rows, rng = range(len(task.ids)), np.random.default_rng([seed, 7])
        ndcg, takings = {}, {}
        for name, part in task.parts().items():
            found = answers(engine, task, rows, part)
            ndcg[name] = float(scores(found, part).mean())
            clicked = (clicks(shown, wanted, rng) for shown, wanted in zip(found, part.relevant, strict=True))
            takings[name] = [item for items in clicked for item in items]
        return cls(engine, task, ndcg, takings)

    def without(self, gone: Gone) -> Kept:
        """Return what is lost without some memories."""
        left = [row for row, item in enumerate(self.task.ids) if item not in gone.removed and item not in gone.into]
        ndcg, merged = {}, {}
        for name, part in self.task.parts().items():
            found = answers(self.engine, self.task, left, part)
            ndcg[name] = float(scores(found, part).mean())
            merged[name] = float(scores(found, part, gone.into).mean())
        return Kept(
            share=len(left) / len(self.task.ids),
            merged=len(gone.into),
            bound=gone.bound,
            ndcg=ndcg,
            lost={name: 1.0 - value / self.ndcg[name] for name, value in ndcg.items()},
            lost_but_merged={name: 1.0 - value / self.ndcg[name] for name, value in merged.items()},
            taken_gone={
                name: float(np.mean([one in gone.removed for one in items])) for name, items in self.takings.items()
            },
        )


def compressed(job: tuple[str, int, Size]) -> dict[str, Kept]:
    """Return what is left, by the way that it was chosen, for one task and seed."""
    name, seed, size = job
    task = sampled(name, seed, size)
    engine = streamed(task, CONDITIONS["links"], seed)[0].engine
    whole, rng = Whole.of(engine, task, seed), np.random.default_rng([seed, 8])
    graph = engine._learner.associations.graph  # the library plans over it, and nothing changes
    now = graph.last_access.max() + SECONDS_APART
    pairs = duplicates(graph.vectors, np.arange(len(graph)), DEFAULT.consolidation.merge_similarity)
    found = {"merged": whole.without(Gone.by(plan(graph, pairs, now=now)))}
    for share in SHARES:
        gone = Gone.by(compress(graph, pairs, share, now=now))
        found[f"use_{share:g}"] = whole.without(gone)
        drawn = [frozenset(rng.permutation(task.ids)[: len(gone)].tolist()) for _ in range(RANDOM)]
        found[f"random_{share:g}"] = _mean([whole.without(Gone(removed)) for removed in drawn])
    for least in MIN_VALUES:
        config = ConsolidationConfig(prune=True, min_value=least)
        found[f"within_loss_below_{least:g}"] = whole.without(Gone.by(plan(graph, pairs, now=now, config=config)))
    return found | {"engine_below_1": _by_the_engine(task, seed)}


def _by_the_engine(task: Task, seed: int) -> Kept:
    # The same through Loop C: memories are gone for good, and their links with them.
    config = replace(DEFAULT, consolidation=ConsolidationConfig(prune=True, min_value=1.0))
    ranker, _ = streamed(task, Condition(config), seed)
    whole = Whole.of(ranker.engine, task, seed)
    bound, gone = ranker.engine.plan_consolidation().expected_loss, ranker.reorganise(CONSOLIDATE)
    into = {item: kept for item, kept in gone.items() if kept is not None}
    return whole.without(Gone(frozenset(gone) - frozenset(into), into, bound))


def _mean(draws: Sequence[Kept]) -> Kept:
    def mean(trees: Iterable[Mapping[str, float]]) -> dict[str, float]:
        rows = list(trees)
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    one = draws[0]
    parts = ("ndcg", "lost", "lost_but_merged", "taken_gone")
    return Kept(one.share, one.merged, one.bound, *(mean(getattr(kept, name) for kept in draws) for name in parts))
