"""The main job: stream requests with simulated clicks through a ranker, then judge it on parts that are never mixed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np

from sona.checks import Floats, matrix, vector
from sona.demo.clicks import clicks, shuffled
from sona.demo.evaluation import Doubles, largest, ndcg, top_cosine, unit
from sona.demo.outcome import CurvePoint, Example, Outcome, PartScores, Plan, Shown
from sona.demo.tasks import RequestSet, Task
from sona.engine import SonaEngine
from sona.types import Ranking

SHOWN = 10
"""Ids shown per request, and positions that count in nDCG."""
_EXAMPLES = 3  # per part, and documents shown in each
_CAPTION = 60  # characters
_MEASURE_SEED = 7_919  # draws the curve's samples; no other chance depends on it


class Ranker(Protocol):
    """What can be put to the test; `SonaEngine` is one."""

    def rank(self, x: Floats, ids: Sequence[str], vectors: Floats, k: int = 10) -> Ranking:
        """Return the best k of `ids` for the request `x`, shape (d,)."""
        ...

    def feedback(self, trajectory_id: int, *, rewards: Mapping[str, float] | None = None) -> object:
        """Learn what the shown ids earned; those not named earned 0."""
        ...

    def background_learn(self, force: bool = False) -> object:
        """Consolidate what was learned: Loop B."""
        ...


R = TypeVar("R", bound=Ranker)


class FrozenRanker:
    """Ranks by plain cosine and never learns: the control."""

    def __init__(self) -> None:
        """Start counting trajectories."""
        self._next = 0
        self._given: Floats | None = None
        self._unit = np.zeros((0, 0), np.float32)

    def rank(self, x: Floats, ids: Sequence[str], vectors: Floats, k: int = 10) -> Ranking:
        """Return the k ids with the largest cosine to `x`."""
        if vectors is not self._given:
            self._given, self._unit = vectors, unit(matrix(vectors))
        scores = self._unit @ unit(vector(x, self._unit.shape[1]))
        rows = largest(scores, k)
        self._next += 1
        return Ranking(self._next, tuple(ids[int(row)] for row in rows), tuple(float(scores[row]) for row in rows))

    def feedback(self, trajectory_id: int, *, rewards: Mapping[str, float] | None = None) -> object:
        """Ignore what was learned."""

    def background_learn(self, force: bool = False) -> object:
        """Do nothing."""


class LearnedRanker:
    """Ranks as an engine would where what it learned answers everything; serves nothing, so it teaches nothing."""

    def __init__(self, engine: SonaEngine) -> None:
        """Look at `engine`."""
        self._engine = engine

    def rank(self, x: Floats, ids: Sequence[str], vectors: Floats, k: int = 10) -> Ranking:
        """Return the best k of `ids`, without scores."""
        return Ranking(0, self._engine.preview(x, ids, vectors, k).learned, ())

    def feedback(self, trajectory_id: int, *, rewards: Mapping[str, float] | None = None) -> object:
        """Ignore what was learned."""

    def background_learn(self, force: bool = False) -> object:
        """Do nothing."""


def run(
    task: Task,
    ranker: R,
    *,
    rng: np.random.Generator,
    plan: Plan | None = None,
    measured: Callable[[R], Ranker] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Return how `ranker` does on `task` after learning from its stream: shown ids, clicks, feedback, Loop B.

    Every part is scored before (by plain cosine) and after; requests of one part never count in another, and no
    score is fed back. Scoring calls `rank` and never `feedback`.

    Args:
        task: Documents, stream and parts.
        ranker: What is put to the test, new.
        rng: Order of the stream, and the people's chance.
        plan: How the stream is run.
        measured: Returns what to score with, such as a copy of the ranker, so that scoring leaves no trace in it;
            the ranker itself when None.
        on_progress: Called with (requests done, requests in all) after each request of the stream.
    """
    return _Run(task, ranker, plan or Plan(), rng, measured).outcome(on_progress)


@dataclass(slots=True, eq=False)
class _Run:
    # One stream in progress; `outcome` is called once.
    task: Task
    ranker: Ranker
    plan: Plan
    rng: np.random.Generator
    measured: Callable[..., Ranker] | None
    clicked: int = 0
    learn_s: float = 0.0
    rank_times: list[float] = field(default_factory=list)
    feedback_times: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    frozen: dict[str, float] = field(default_factory=dict)

    def outcome(self, on_progress: Callable[[int, int], None] | None) -> Outcome:
        total = len(self.task.stream) * self.task.passes
        samples = self._samples()
        self.frozen = {name: float(_scores(part, self._before(part)).mean()) for name, part in samples.items()}
        self.curve.append(CurvePoint(0, MappingProxyType(dict.fromkeys(samples, 0.0))))
        done = 0
        for _ in range(self.task.passes):
            for row in self.rng.permutation(len(self.task.stream)).tolist():
                self._serve(row)
                done += 1
                if done % self.plan.learn_every == 0 and done < total:
                    self._learn()
                if done < total and self._is_checkpoint(done, total):
                    self._mark(done, samples)
                if on_progress is not None:
                    on_progress(done, total)
        self._learn()
        if self.plan.checkpoints:
            self._mark(total, samples)
        return self._report(total)

    def _serve(self, row: int) -> None:
        stream = self.task.stream
        began = time.perf_counter()
        ranking = self.ranker.rank(stream.vectors[row], self.task.ids, self.task.vectors, SHOWN)
        ranked = time.perf_counter()
        rewards = clicks(ranking.ids, stream.relevant[row], self.rng)
        if self.plan.shuffle:
            rewards = shuffled(rewards, ranking.ids, self.rng)
        asked = time.perf_counter()
        self.ranker.feedback(ranking.trajectory_id, rewards=rewards)
        self.feedback_times.append(time.perf_counter() - asked)
        self.rank_times.append(ranked - began)
        self.clicked += len(rewards)

    def _learn(self) -> None:
        began = time.perf_counter()
        self.ranker.background_learn(force=True)
        self.learn_s += time.perf_counter() - began

    def _is_checkpoint(self, done: int, total: int) -> bool:
        points = self.plan.checkpoints
        return points > 0 and done * points // total > (done - 1) * points // total

    def _samples(self) -> dict[str, RequestSet]:
        draws = np.random.default_rng(_MEASURE_SEED)
        return {
            name: part.take(draws.permutation(len(part))[: self.plan.sample].tolist())
            for name, part in self.task.parts().items()
        }

    def _mark(self, done: int, samples: Mapping[str, RequestSet]) -> None:
        learned = {name: _scores(part, self._after(part)).mean() for name, part in samples.items()}
        change = {name: float(score - self.frozen[name]) for name, score in learned.items()}
        self.curve.append(CurvePoint(done, MappingProxyType(change)))

    def _after(self, part: RequestSet) -> list[tuple[str, ...]]:
        scored = self.ranker if self.measured is None else self.measured(self.ranker)
        return [scored.rank(x, self.task.ids, self.task.vectors, SHOWN).ids for x in part.vectors]

    def _before(self, part: RequestSet) -> list[tuple[str, ...]]:
        rows = top_cosine(part.vectors, self.task.vectors, SHOWN)
        return [tuple(self.task.ids[int(place)] for place in best) for best in rows]

    def _report(self, total: int) -> Outcome:
        parts: dict[str, PartScores] = {}
        examples: list[Example] = []
        for name, part in self.task.parts().items():
            before, after = self._before(part), self._after(part)
            parts[name] = PartScores(part.keys, _scores(part, before), _scores(part, after))
            examples += _examples(self.task, name, parts[name], before, after)
        overlapping = self.task.overlapping
        return Outcome(
            task=self.task.name,
            description=self.task.description,
            seed=self.task.seed,
            plan=self.plan,
            parts=MappingProxyType(parts),
            distinct=parts["held_out"].without(overlapping) if overlapping else None,
            curve=tuple(self.curve),
            examples=tuple(examples),
            requests=total,
            clicked=self.clicked,
            rank_us=float(np.median(self.rank_times)) * 1e6,
            feedback_us=float(np.median(self.feedback_times)) * 1e6,
            learn_s=self.learn_s,
        )


def _scores(part: RequestSet, ranked: Sequence[Sequence[str]]) -> Doubles:
    return np.array([ndcg(shown, wanted, SHOWN) for shown, wanted in zip(ranked, part.relevant, strict=True)], float)


def _examples(
    task: Task, name: str, scores: PartScores, before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]
) -> list[Example]:
    # The largest gains and the largest loss: what went wrong is shown too, what stayed the same is not.
    gains = scores.learned - scores.frozen
    order = np.argsort(-gains, kind="stable").tolist()
    rows = [row for row in dict.fromkeys([*order[: _EXAMPLES - 1], *order[-1:]]) if gains[row] != 0.0]
    captions = _captions(task)
    part = task.parts()[name]
    return [
        Example(
            part=name,
            text=part.texts[row],
            wanted=tuple(captions[item] for item in sorted(part.relevant[row])[:_EXAMPLES]),
            before=_shown(before[row], part.relevant[row], captions),
            after=_shown(after[row], part.relevant[row], captions),
            frozen=float(scores.frozen[row]),
            learned=float(scores.learned[row]),
        )
        for row in rows
    ]


def _captions(task: Task) -> dict[str, str]:
    # A bare number says nothing to a person: its text begins the caption.
    return {
        item: f"{text[:_CAPTION].strip()}… ({item})" if item.isdigit() else item
        for item, text in zip(task.ids, task.texts, strict=True)
    }


def _shown(ids: Sequence[str], relevant: Collection[str], captions: Mapping[str, str]) -> tuple[Shown, ...]:
    return tuple(Shown(captions[item], item in relevant) for item in ids[:_EXAMPLES])
