"""Feedback that lies from the first request on, by people who cannot be told apart."""

from __future__ import annotations

from guarding.scenarios import LEARN_EVERY, Course, engine
from guarding.world import ITEMS, REQUESTS, SHOWN, Served, World, best
from sona import GuardConfig, SonaEngine


def lies(guard: GuardConfig, seed: int, count: int, *, share: float) -> dict[str, object]:
    """Let a share of all requests, under no name, click what nobody wants; honest ones do as always.

    The guard goes by what it is told, and both answers are lied about: what is counted is what people really wanted.
    """
    world, made, course = World(seed), engine(guard, seed), Course()
    for number in range(1, count + 1):
        row = int(world.rng.integers(REQUESTS))
        is_lie = bool(world.rng.random() < share)
        course.served.append(_served(world, made, row, is_lie=is_lie))
        if number % LEARN_EVERY == 0:
            made.background_learn(force=True)
    metrics = made.metrics()
    return {
        "share": share,
        "loss": course.loss,
        "worst": course.worst(guard.budget_requests),
        "rollbacks": metrics.rollbacks,
        "rejected": metrics.rejected_candidates,
        "verdict": made.report().verdict.value,
    }


def _served(world: World, made: SonaEngine, row: int, *, is_lie: bool) -> Served:
    # A lie clicks the same wrong item every time, or what is shown last where that one is not shown.
    ranking = made.rank(world.requests[row], world.ids, world.vectors, SHOWN)
    luck = world.rng.random((2, ITEMS))
    frozen, target = world.frozen(row), world.near[row]
    earned = world.clicks(ranking.ids, target, luck)
    wrong = world.far[row] if world.far[row] in ranking.ids else ranking.ids[-1]
    made.feedback(ranking.trajectory_id, rewards={wrong: 1.0} if is_lie else earned)
    return Served(best(ranking.ids, earned), best(frozen, world.clicks(frozen, target, luck)))
