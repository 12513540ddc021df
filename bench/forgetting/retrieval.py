"""Part C: one domain of requests after another, through one engine: what the second costs the first.

Two levels, each measured before and after the second domain on the same requests of the first. The whole engine:
`rank`, with every part of it at work. The adapters alone: the cosine of `engine.adapt(x)`, where forgetting would show,
beside adapters that learned from the very same lists and clicks in other ways (`forgetting.adapters`).

Sums have no order: after both domains they are those of one stream of both. What the other domain costs them is what
one linear map of the given rank cannot do for both, and it is the same for the domain that came first and for the one
that came last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from forgetting import adapters
from forgetting.stream import data_folder
from sona import GuardConfig, QueryTrajectory, Ranking, SonaConfig, SonaEngine, StoreError, TrajectoryStep
from sona.demo.evaluation import ndcg, paired_difference, top_cosine
from sona.demo.experiment import SHOWN
from sona.demo.experiment import run as stream_through
from sona.demo.labelled import load_banking77, load_cranfield
from sona.demo.outcome import Outcome, Plan
from sona.demo.tasks import RequestSet, Task, banking77_task, cranfield_task

DOMAINS = ("banking77", "cranfield")
ORDERS = (DOMAINS, DOMAINS[::-1])
ENGINE, OURS = "whole engine", "adapters, ours"
GOAL = -0.01
_SMALL = 150  # requests of each kind when it has to be quick
_WORKERS = 2

Scores = dict[str, np.ndarray]  # nDCG@10 of each request of a part, by part


@dataclass(slots=True, eq=False)
class Recorder:
    """Passes every call on to an engine, and keeps what people did as trajectories."""

    engine: SonaEngine
    vectors: Mapping[str, np.ndarray]
    log: list[QueryTrajectory] = field(default_factory=list)
    _open: dict[int, np.ndarray] = field(default_factory=dict)
    _shown: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def rank(self, x: np.ndarray, ids: Sequence[str], vectors: np.ndarray, k: int = 10) -> Ranking:
        """Return the engine's ranking."""
        ranking = self.engine.rank(x, ids, vectors, k)
        self._open[ranking.trajectory_id], self._shown[ranking.trajectory_id] = x, ranking.ids
        return ranking

    def feedback(self, trajectory_id: int, *, rewards: Mapping[str, float] | None = None) -> object:
        """Keep what was clicked, and let the engine learn from it."""
        earned = rewards or {}
        steps = tuple(
            TrajectoryStep(self.vectors[item], reward=earned.get(item, 0.0), ref=item)
            for item in self._shown.pop(trajectory_id)
        )
        self.log.append(QueryTrajectory(trajectory_id, self._open.pop(trajectory_id), steps, alternatives=True))
        return self.engine.feedback(trajectory_id, rewards=rewards)

    def background_learn(self, force: bool = False) -> object:
        """Run the engine's Loop B."""
        return self.engine.background_learn(force=force)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How one way of learning did on two domains, one after the other.

    Args:
        first_before: Scores on the first domain, learned from alone so far.
        first_after: Scores on the first domain once the second was learned.
        second: Scores on the second domain at the end.
    """

    first_before: Scores
    first_after: Scores
    second: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one seed and order gave: a course for each way, and the frozen scores and keys of both domains."""

    courses: dict[str, Course]
    frozen: dict[str, Scores]
    keys: dict[str, dict[str, tuple[str, ...]]]


def load(seed: int, small: bool) -> dict[str, Task]:
    """Return the two domains.

    Raises:
        StoreError: the data are absent.
    """
    folder = data_folder()
    tasks = {
        "banking77": banking77_task(seed, data=load_banking77(folder)),
        "cranfield": cranfield_task(seed, data=load_cranfield(folder)),
    }
    return {name: shortened(task) if small else task for name, task in tasks.items()}


def shortened(task: Task) -> Task:
    stream = task.stream.take(range(min(len(task.stream), _SMALL)))
    held_out = task.held_out.take(range(min(len(task.held_out), _SMALL)))
    return replace(task, stream=stream, passes=1, repeat=stream, held_out=held_out, paraphrase=None, overlapping=())


def ranked(engine: SonaEngine, task: Task) -> Scores:
    """Return how the whole engine does on the parts of a domain; nothing is fed back."""
    found = {}
    for name, part in task.parts().items():
        found[name] = _scores(part, [engine.rank(x, task.ids, task.vectors, SHOWN).ids for x in part.vectors])
    return found


def adapted(adapt: adapters.Adapt, task: Task) -> Scores:
    """Return how the cosine of adapted requests does on the parts of a domain."""
    found = {}
    for name, part in task.parts().items():
        rows = top_cosine(adapt(part.vectors), task.vectors, SHOWN)
        found[name] = _scores(part, [[task.ids[int(row)] for row in best] for best in rows])
    return found


def _scores(part: RequestSet, shown: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([ndcg(ids, wanted, SHOWN) for ids, wanted in zip(shown, part.relevant, strict=True)])


def teach(engine: SonaEngine, task: Task, seed: int) -> tuple[Outcome, list[QueryTrajectory]]:
    """Stream a domain through an engine; return how it then does there, and what people did."""
    recorder = Recorder(engine, dict(zip(task.ids, task.vectors, strict=True)))
    people = np.random.default_rng([seed, DOMAINS.index(task.name)])
    return stream_through(task, recorder, rng=people, plan=Plan(checkpoints=0)), recorder.log


def learn(order: Sequence[str], seed: int, small: bool) -> Found:
    """Return what one engine, its adapters and the controls keep when the domains are streamed in this order."""
    tasks = load(seed, small)
    first, second = (tasks[name] for name in order)
    engine = SonaEngine(SonaConfig(guard=GuardConfig(holdout=0.0)))
    early, early_log = teach(engine, first, seed)
    early_ours = adapted(engine.adapt, first)
    late, late_log = teach(engine, second, seed)
    courses = {
        ENGINE: Course(_learned(early), ranked(engine, first), _learned(late)),
        OURS: Course(early_ours, adapted(engine.adapt, first), adapted(engine.adapt, second)),
    }
    for name, pair in adapters.controls(early_log, late_log).items():
        courses[name] = Course(adapted(pair.early, first), adapted(pair.late, first), adapted(pair.late, second))
    outcomes = {first.name: early, second.name: late}
    frozen = {name: {part: each.frozen for part, each in one.parts.items()} for name, one in outcomes.items()}
    keys = {name: {part: each.keys for part, each in one.parts.items()} for name, one in outcomes.items()}
    return Found(courses, frozen, keys)


def _learned(outcome: Outcome) -> Scores:
    return {name: part.learned for name, part in outcome.parts.items()}


def difference(keys: Sequence[Sequence[str]], after: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> dict:
    found = paired_difference(keys, [one - other for one, other in zip(after, before, strict=True)])
    return {"delta": found.mean, "ci": [found.low, found.high], "per_seed": list(found.per_seed)}


def judged(found: dict, is_held: bool) -> dict:
    return found | ({"goal": GOAL, "met": found["delta"] >= GOAL} if is_held else {})


def compared(
    way: str, order: Sequence[str], runs: Mapping[tuple[str, ...], list[Found]], *, has_goals: bool = True
) -> dict:
    """Return what a way of learning gained on both domains, lost of the first, and would have gained of the second.

    What it gains on the second domain alone is what it gains there in the other order, before the first.
    """
    first, second = order
    there, back = runs[tuple(order)], runs[tuple(order[::-1])]
    is_held = has_goals and way in (ENGINE, OURS)
    summary: dict = {"first": {}, "second": {}}
    for part in there[0].keys[first]:
        keys = [run.keys[first][part] for run in there]
        before = [run.courses[way].first_before[part] for run in there]
        after = [run.courses[way].first_after[part] for run in there]
        summary["first"][part] = {
            "gain": difference(keys, before, [run.frozen[first][part] for run in there]),
            "change": judged(difference(keys, after, before), is_held),
        }
    for part in there[0].keys[second]:
        keys = [run.keys[second][part] for run in there]
        late = [run.courses[way].second[part] for run in there]
        alone = [run.courses[way].first_before[part] for run in back]
        frozen = [run.frozen[second][part] for run in there]
        summary["second"][part] = {
            "gain": difference(keys, late, frozen),
            "alone": difference(keys, alone, frozen),
            "change": judged(difference(keys, late, alone), is_held),
        }
    return summary


def run(seeds: int, small: bool = False) -> dict:
    """Return both orders, way by way; a reason where the data are absent."""
    began = time.perf_counter()
    try:
        load(0, small)
    except StoreError as error:
        return {"skipped": str(error)}
    with ProcessPoolExecutor(_WORKERS) as pool:
        waiting = {order: [pool.submit(learn, order, seed, small) for seed in range(seeds)] for order in ORDERS}
        runs = {order: [one.result() for one in batch] for order, batch in waiting.items()}
    ways = tuple(runs[ORDERS[0]][0].courses)
    figures: dict = {
        "_then_".join(order): {way: compared(way, order, runs, has_goals=not small) for way in ways} for order in ORDERS
    }
    return figures | {"seeds": seeds, "seconds": time.perf_counter() - began}


def show(found: dict) -> None:
    """Print each order: the engine and its adapters with intervals, the controls below them without."""
    if "skipped" in found:
        print(f"C. One domain after another: skipped, {found['skipped']}")
        return
    print(
        f"C. One domain after another, {found['seeds']} seeds: nDCG@10 gained when a domain is learned first, and the"
    )
    print("   change by the other: on the first domain since then, on the second against having been first")
    for order in ORDERS:
        print(f"   {order[0]}, then {order[1]}")
        summaries = found["_then_".join(order)]
        for way in (ENGINE, OURS):
            for domain, part, gain, change in _rows(summaries[way], order):
                low, high = change["ci"]
                verdict = f"{GOAL} {'met' if change['met'] else 'NOT MET'}" if "met" in change else ""
                interval = f"{change['delta']:+.4f} [{low:+.4f}, {high:+.4f}]"
                print(f"   {way:26}{domain:11}{part:12}{gain:+10.4f}{interval:>28}{verdict:>15}")
        for way in [name for name in summaries if name not in (ENGINE, OURS)]:
            rows = _rows(summaries[way], order)
            for domain in order:
                cells = [
                    f"{part} {gain:+.4f} {change['delta']:+.4f}" for at, part, gain, change in rows if at == domain
                ]
                print(f"   {way:26}{domain:11}{'   '.join(cells)}")


def _rows(summary: dict, order: Sequence[str]) -> list[tuple[str, str, float, dict]]:
    # Domain, part, what it gains when it is learned first, and how the other domain changes that.
    return [
        (domain, part, row[gain]["delta"], row["change"])
        for domain, place, gain in ((order[0], "first", "gain"), (order[1], "second", "alone"))
        for part, row in summary[place].items()
    ]
