"""Why an answer: what similarity, adapters, votes and links gave each item shown, and the past requests behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.engine.events import Serving
from sona.engine.learner import Learner
from sona.engine.machine import Machine
from sona.errors import UnknownTrajectory
from sona.memory.recall import Seeds
from sona.memory.shelf import Neighbour
from sona.memory.votes import unit
from sona.types import QueryTrajectory

_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class ExplainedItem:
    """What one shown item owed its score to; the five parts add up to `score`.

    Args:
        item: Its id.
        similarity: Its cosine to the request: the frozen score.
        micro: What the micro adapter added.
        base: What the base adapter added.
        votes: What past requests added.
        links: What activation added that reached it over links.
        score: The learned score.
        reward: What it has earned by now, if that is known.
    """

    item: str
    similarity: float
    micro: float
    base: float
    votes: float
    links: float
    score: float
    reward: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request was answered as it was.

    Args:
        trajectory_id: The request.
        text: In words, if it had any.
        subject: Who asked.
        serving: How it was answered: which arm, by what chance, under which version.
        items: What was shown, in its order.
        neighbours: Similar past requests whose votes counted, nearest first.
        patterns: Nearest patterns, by id, nearest first.
        is_exact: Whether all of it is of the moment of the answer; else of now.
    """

    trajectory_id: int
    text: str | None
    subject: str | None
    serving: Serving
    items: tuple[ExplainedItem, ...]
    neighbours: tuple[Neighbour, ...]
    patterns: tuple[int, ...]
    is_exact: bool


def explain(
    machine: Machine, trajectory_id: int, *, is_exact: bool, outcome: QueryTrajectory | None = None
) -> Explanation:
    """Return why a request was answered as it was, from what `machine` knows.

    Args:
        machine: What was known when it was answered, or what is known now.
        trajectory_id: The request.
        is_exact: Whether it is the former.
        outcome: What came of the request since, if that is known.

    Raises:
        UnknownTrajectory: it is not held.
    """
    served = machine.intake.served.get(trajectory_id)
    if served is None or machine.learner is None:
        raise UnknownTrajectory(f"trajectory {trajectory_id} is not known here, or no longer held")
    trajectory = served.outcome or served.trajectory
    learner = machine.learner
    asked = unit(trajectory.query_embedding)
    matches = learner.bank.search(asked, 3) if learner.bank.pattern_count else []
    return Explanation(
        trajectory_id=trajectory_id,
        text=served.text,
        subject=trajectory.subject,
        serving=served.serving,
        items=_items(learner, trajectory, outcome or trajectory, served.seeds),
        neighbours=tuple(learner.votes.neighbours(asked)[:_NEIGHBOURS]),
        patterns=tuple(match.pattern.id for match in matches),
        is_exact=is_exact,
    )


def _items(
    learner: Learner, trajectory: QueryTrajectory, outcome: QueryTrajectory, seeds: Seeds | None
) -> tuple[ExplainedItem, ...]:
    if not trajectory.steps:
        return ()
    shown, weights = learner.shown(trajectory, seeds), learner.calibrator.weights
    votes = weights.votes(shown.taken, shown.passed)
    links = np.array([weights.similar, weights.linked], np.float32) @ shown.activated
    parts = np.stack([shown.similarity, weights.micro * shown.micro, weights.base * shown.base, votes, links], 1)
    earned = {step.ref: step.reward for step in outcome.steps}
    return tuple(
        ExplainedItem(
            step.ref or "", near, micro, base, voted, linked, near + micro + base + voted + linked, earned.get(step.ref)
        )
        for step, (near, micro, base, voted, linked) in zip(trajectory.steps, parts.tolist(), strict=True)
    )
