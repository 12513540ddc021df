"""One stream of requests through an engine's own memories, with links among them or without, and what it learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from unittest.mock import patch

import numpy as np

from sona import GuardConfig, Ranking, SonaConfig, SonaEngine
from sona.config import ConsolidationConfig, GraphConfig
from sona.demo.evaluation import ndcg
from sona.demo.experiment import SHOWN, LearnedRanker, run
from sona.demo.outcome import Outcome, PartScores, Plan
from sona.demo.tasks import TASKS, RequestSet, Task
from sona.memory.associate import AssociativeMemory
from sona.memory.recall import PublishedLinks

SECONDS_APART = 60  # requests, by the engines' clock
DEFAULT = SonaConfig(
    guard=GuardConfig(holdout=0.0),  # what was learned answers everything
    context_size=SHOWN,
    consolidation=ConsolidationConfig(prune=True),  # only where a cycle consolidates at all
)
ABSTRACT, DREAM, CONSOLIDATE = ("link", "abstract"), ("link", "dream", "abstract"), ("compare", "consolidate")


@dataclass(frozen=True, slots=True)
class Condition:
    """What is on and what is off.

    Args:
        config: Of the engine.
        stages: Of Loop C, before the second half of the stream and at its end; none, and it never runs.
        is_shuffled: The control: clicks land on random shown ids.
        is_rewired: The control: every memory has the links of another, drawn at random.
    """

    config: SonaConfig = DEFAULT
    stages: tuple[str, ...] = ()
    is_shuffled: bool = False
    is_rewired: bool = False


_SIMILAR = replace(DEFAULT, graph=GraphConfig(strengthen=0.0))
_DREAMING = replace(DEFAULT, graph=GraphConfig(follow_dreams=True))
_WITHOUT = replace(DEFAULT, use_graph=False)
CONDITIONS = {
    "no_graph": Condition(_WITHOUT),
    "similar_only": Condition(_SIMILAR),
    "links": Condition(),
    "loop_c_without_dreams": Condition(stages=ABSTRACT),
    "dreams": Condition(_DREAMING, stages=DREAM),
    "rewired": Condition(is_rewired=True),
    "shuffled": Condition(is_shuffled=True),
    "shuffled_no_graph": Condition(_WITHOUT, is_shuffled=True),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each task is streamed and scored; all of it where a number is larger."""

    stream: int
    scored: int


FULL, QUICK = Size(300, 400), Size(60, 100)
_QUESTIONS = 5  # of a stream in one pass, for each of one in several
LEARN_EVERY = 100  # requests; learned links are published by Loop B, and only what is published can be judged
REWORDED = "_reworded"


def sampled(name: str, seed: int, size: Size) -> Task:
    """Return a task whose stream and parts are cut to size, drawn at random; all its memories stay.

    With `_reworded` behind the name every wording of a request but the last is part of the stream, each for itself,
    and the last is the paraphrase: requests that nobody asked before, but in other words.
    """
    if name.endswith(REWORDED):
        return _reworded(sampled(name.removesuffix(REWORDED), seed, size))
    task, rng = TASKS[name](seed), np.random.default_rng([seed, 5])
    vectors = task.vectors.copy()
    vectors.flags.writeable = False  # so that an engine checks them once
    fixed = replace(task, vectors=vectors, overlapping=())
    held_out = _drawn(task.held_out, size.scored, rng)
    if task.passes == 1:  # every question is asked once, so many more of them
        return replace(
            fixed,
            stream=_drawn(task.stream, _QUESTIONS * size.stream, rng),
            repeat=_drawn(task.repeat, size.scored, rng),
            held_out=held_out,
        )
    rows = sorted(rng.permutation(len(task.stream))[: size.stream].tolist())
    stream = task.stream.take(rows)
    paraphrase = None if task.paraphrase is None else _of_keys(task.paraphrase, set(stream.keys))
    return replace(fixed, stream=stream, repeat=stream, held_out=held_out, paraphrase=paraphrase)


def _reworded(task: Task) -> Task:
    words, asked = task.paraphrase, task.stream
    if words is None:
        raise ValueError(f"{task.name}: nothing is said in other words")
    last = range(len(words) - len(asked), len(words))
    first = words.take(range(last.start))
    stream = RequestSet(
        (*asked.keys, *(f"{key}, wording {row}" for row, key in enumerate(first.keys))),
        asked.texts + first.texts,
        np.concatenate([asked.vectors, first.vectors]),
        asked.relevant + first.relevant,
    )
    return replace(task, stream=stream, passes=task.passes // 2, paraphrase=words.take(last))


def _drawn(part: RequestSet, most: int, rng: np.random.Generator) -> RequestSet:
    return part.take(sorted(rng.permutation(len(part))[:most].tolist()))


def _of_keys(part: RequestSet, keys: set[str]) -> RequestSet:
    return part.take([row for row, key in enumerate(part.keys) if key in keys])


class Remembered:
    """Ranks an engine's own memories: `process` for requests, `feedback`, Loop B, and Loop C where it is asked for."""

    def __init__(self, task: Task, condition: Condition) -> None:
        """Remember every document of the task."""
        ticks = count(1_700_000_000, SECONDS_APART)
        self.engine = SonaEngine(condition.config, clock=lambda: float(next(ticks)))
        self._text_of = dict(zip(map(bytes, task.stream.vectors), task.stream.texts, strict=True))
        self._stages, self._half = condition.stages, len(task.stream) * task.passes // 2
        self._served = 0
        for item, text, vector in zip(task.ids, task.texts, task.vectors, strict=True):
            self.engine.remember(text or item, item, vector=vector)

    def rank(self, x, ids, vectors, k=SHOWN):
        """Return what the engine answers from; it has the same memories as the task."""
        if self._served == self._half:
            self.reorganise(self._stages)
        self._served += 1
        response = self.engine.process(self._text_of[bytes(x)], vector=x)
        sources = response.sources
        return Ranking(response.trajectory_id, tuple(one.id for one in sources), tuple(one.score for one in sources))

    def feedback(self, trajectory_id, *, rewards=None):
        """Pass on what was taken."""
        return self.engine.feedback(trajectory_id, rewards=rewards)

    def background_learn(self, force=False):
        """Run Loop C at the end of the stream, where it is asked for, and Loop B."""
        if self._served == 2 * self._half:
            self.reorganise(self._stages)
        return self.engine.background_learn(force)

    def reorganise(self, stages: Sequence[str]) -> dict[str, str | None]:
        """Run these stages of Loop C, and return which memories are gone."""
        return dict(self.engine.deep_learn(force=True, stages=stages).gone) if stages else {}


@contextmanager
def rewired(seed: int) -> Iterator[None]:
    """Let every memory have the links of another one, drawn at random: as many links, between random pairs."""

    def publish(memory: AssociativeMemory) -> None:
        links = PublishedLinks.of(memory.graph)
        order = np.random.default_rng([seed, 6]).permutation(len(links.ids))
        memory.links = PublishedLinks(tuple(links.ids[row] for row in order.tolist()), links.edges)

    with patch.object(AssociativeMemory, "publish", publish):
        yield


def answers(engine: SonaEngine, task: Task, left: Sequence[int], part: RequestSet) -> list[tuple[str, ...]]:
    """Return what the engine would answer from the memories at some rows; nothing is served."""
    ids, vectors = tuple(task.ids[row] for row in left), task.vectors[list(left)]
    vectors.flags.writeable = False
    return [engine.preview(x, ids, vectors, SHOWN).learned for x in part.vectors]


def scores(found: Sequence[Sequence[str]], part: RequestSet, into: Mapping[str, str] | None = None) -> np.ndarray:
    """Return nDCG of answers; what is relevant and gone is missed, but where it went `into` another memory."""
    kept = into or {}
    wanted = [frozenset(kept.get(item, item) for item in items) for items in part.relevant]
    return np.array([ndcg(shown, items, SHOWN) for shown, items in zip(found, wanted, strict=True)])


@dataclass(frozen=True, slots=True)
class Streamed:
    """What one stream gave.

    Args:
        parts: Scores by part.
        earned: What links are worth in the end, and the evidence behind it.
        consolidated: Scores by part after consolidation; none without Loop C.
        gone: Memories that consolidation merged or removed.
    """

    parts: dict[str, PartScores]
    earned: dict[str, float]
    consolidated: dict[str, PartScores] = field(default_factory=dict)
    gone: int = 0


def stream(job: tuple[str, str, int, Size]) -> Streamed:
    """Return what one stream gives under one condition."""
    name, which, seed, size = job
    condition, task = CONDITIONS[which], sampled(name, seed, size)
    with rewired(seed) if condition.is_rewired else nullcontext():
        ranker, outcome = streamed(task, condition, seed)
        parts, earned = dict(outcome.parts), _earned(ranker.engine)
        if "dream" not in condition.stages:
            return Streamed(parts, earned)
        gone = ranker.reorganise(CONSOLIDATE)
        left = [row for row, item in enumerate(task.ids) if item not in gone]
        after = {
            name: replace(part, learned=scores(answers(ranker.engine, task, left, asked), asked))
            for (name, part), asked in zip(parts.items(), task.parts().values(), strict=True)
        }
        return Streamed(parts, earned, after, len(gone))


def streamed(task: Task, condition: Condition, seed: int) -> tuple[Remembered, Outcome]:
    """Return an engine that learned from the stream, and how it does."""
    ranker = Remembered(task, condition)
    plan = Plan(learn_every=LEARN_EVERY, checkpoints=0, shuffle=condition.is_shuffled)
    rng = np.random.default_rng(seed)
    return ranker, run(task, ranker, rng=rng, plan=plan, measured=lambda done: LearnedRanker(done.engine))


def _earned(engine: SonaEngine) -> dict[str, float]:
    # No verb tells these: they are looked at where they are.
    calibrator, graph = engine._learner.calibrator, engine._learner.associations.graph
    gains, weights = calibrator.gains, calibrator.weights
    return {
        "weight_similar": weights.similar,
        "weight_linked": weights.linked,
        "gain_similar": gains.similar,
        "gain_linked": gains.linked,
        "gain_reach": gains.reach,
        "linked_pairs": float(graph.edge_count),
    }
