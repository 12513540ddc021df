"""What is lost when an engine keeps part of its memories: by what was learned of their use, and at random."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recalling.streams import (
    CONDITIONS,
    CONSOLIDATE,
    DEFAULT,
    SECONDS_APART,
    Condition,
    Size,
    sampled,
    scores,
    streamed,
)
from sona import SonaEngine
from sona.config import ConsolidationConfig
from sona.demo.clicks import clicks
from sona.demo.experiment import SHOWN
from sona.demo.tasks import RequestSet, Task
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
        bound: On the chance that a request takes one that is gone, where there is one.
        ndcg: By part, of what is left.
        lost: By part, the share of nDCG that is lost against all memories.
        taken_gone: By part, the share of what people would take from the full memory that is gone.
    """

    share: float
    bound: float | None
    ndcg: dict[str, float]
    lost: dict[str, float]
    taken_gone: dict[str, float]


@dataclass(frozen=True, slots=True)
class Whole:
    """An engine after its stream, and how it does with every memory."""

    engine: SonaEngine
    task: Task
    ndcg: dict[str, float]
    takings: dict[str, list[str]]

    @classmethod
    def of(cls, engine: SonaEngine, task: Task, seed: int) -> Whole:
        """Return how an engine does with all its memories, and what people take from them."""
        rows, rng = range(len(task.ids)), np.random.default_rng([seed, 7])
        parts = task.parts().items()
        ndcg = {name: float(scores(engine, task, rows, part).mean()) for name, part in parts}
        return cls(engine, task, ndcg, {name: _takings(engine, task, part, rng) for name, part in parts})

    def without(self, gone: Collection[str], bound: float | None = None) -> Kept:
        """Return what is lost without some memories."""
        left = [row for row, item in enumerate(self.task.ids) if item not in gone]
        found = {name: float(scores(self.engine, self.task, left, p).mean()) for name, p in self.task.parts().items()}
        lost = {name: 1.0 - value / self.ndcg[name] for name, value in found.items()}
        taken = {name: float(np.mean([one in gone for one in items])) for name, items in self.takings.items()}
        return Kept(len(left) / len(self.task.ids), bound, found, lost, taken)


def _takings(engine: SonaEngine, task: Task, part: RequestSet, rng: np.random.Generator) -> list[str]:
    return [
        item
        for x, wanted in zip(part.vectors, part.relevant, strict=True)
        for item in clicks(engine.preview(x, task.ids, task.vectors, SHOWN).learned, wanted, rng)
    ]


def _gone(made: ConsolidationPlan) -> set[str]:
    return {merge.gone for merge in made.merges} | {removal.id for removal in made.removals}


def compressed(job: tuple[str, int, Size]) -> dict[str, Kept]:
    """Return what is left, by the way that it was chosen, for one task and seed."""
    name, seed, size = job
    task = sampled(name, seed, size)
    engine = streamed(task, CONDITIONS["links"], seed)[0].engine
    whole, rng = Whole.of(engine, task, seed), np.random.default_rng([seed, 8])
    graph = engine._learner.associations.graph  # the library plans over it, and nothing changes
    now = graph.last_access.max() + SECONDS_APART
    pairs = duplicates(graph.vectors, np.arange(len(graph)), DEFAULT.consolidation.merge_similarity)
    found = {"merged": whole.without(_gone(plan(graph, pairs, now=now)))}
    for share in SHARES:
        made = compress(graph, pairs, share, now=now)
        found[f"use_{share:g}"] = whole.without(_gone(made), made.expected_loss)
        found[f"random_{share:g}"] = _mean(
            [whole.without(set(rng.permutation(task.ids)[: len(_gone(made))].tolist())) for _ in range(RANDOM)]
        )
    for least in MIN_VALUES:
        config = ConsolidationConfig(prune=True, min_value=least)
        made = plan(graph, pairs, now=now, config=config)
        found[f"within_loss_{config.max_loss:g}_below_{least:g}"] = whole.without(_gone(made), made.expected_loss)
    return found | {"engine": _by_the_engine(task, seed)}


def _by_the_engine(task: Task, seed: int) -> Kept:
    # The same through Loop C: memories are gone for good, and their links with them.
    config = replace(DEFAULT, consolidation=ConsolidationConfig(prune=True, min_value=1.0))
    ranker, _ = streamed(task, Condition(config), seed)
    whole = Whole.of(ranker.engine, task, seed)
    bound = ranker.engine.plan_consolidation().expected_loss
    return whole.without(ranker.reorganise(CONSOLIDATE), bound)


def _mean(draws: Sequence[Kept]) -> Kept:
    def mean(trees: Sequence[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([tree[name] for tree in trees])) for name in trees[0]}

    one = draws[0]
    return Kept(
        one.share,
        one.bound,
        mean([kept.ndcg for kept in draws]),
        mean([kept.lost for kept in draws]),
        mean([kept.taken_gone for kept in draws]),
    )
