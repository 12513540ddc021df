"""People and items made up so that what every answer would have earned is known, shown or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sona import Context, SonaEngine

SHOWN = 10
ITEMS, WIDTH, REQUESTS = 60, 24, 3000


@dataclass(frozen=True, slots=True)
class Served:
    """What one request earned, and what the frozen answer to it would have, for the same people."""

    shown: float
    frozen: float


class World:
    """Items, requests near their targets, and people who click by position, wrongly one time in ten."""

    def __init__(self, seed: int, noise: float = 0.7) -> None:
        """Make items, requests and what people want of them."""
        rng = np.random.default_rng(seed)
        self.ids = tuple(f"item-{number}" for number in range(ITEMS))
        self.vectors = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32)
        self.vectors.flags.writeable = False
        near = rng.integers(ITEMS, size=REQUESTS)
        self.requests = (self.vectors[near] + noise * rng.normal(size=(REQUESTS, WIDTH))).astype(np.float32)
        cosines = (self.requests @ self.vectors.T) / np.linalg.norm(self.vectors, axis=1)
        self.order = np.argsort(-cosines, axis=1)
        self.near = [self.ids[item] for item in near]  # mostly what cosine finds
        alike = np.argsort(-(self.vectors @ self.vectors.T), axis=1)[
            :, 1
        ]  # what people want where cosine is not enough
        self.far = [self.ids[alike[item]] for item in near]
        self.rng = np.random.default_rng([seed, 1])

    def clicks(self, shown: Sequence[str], target: str, luck: np.ndarray) -> dict[str, float]:
        """Return the clicks on a list; the same luck of each item and position whatever the list."""
        looked = luck[0, : len(shown)] < (1.0 + np.arange(len(shown))) ** -0.5
        place = [self.ids.index(item) for item in shown]
        wrong = luck[1, place] < 0.1
        return {
            item: 1.0 for item, see, flip in zip(shown, looked, wrong, strict=True) if see and (item == target) != flip
        }

    def frozen(self, row: int) -> tuple[str, ...]:
        """Return the frozen answer."""
        return tuple(self.ids[item] for item in self.order[row][:SHOWN])

    def serve(
        self, engine: SonaEngine, row: int, target: str, *, subject: str | None = None, is_hostile: bool = False
    ) -> Served:
        """Let one request be answered and judged; a hostile subject clicks what others do not want."""
        ranking = engine.rank(self.requests[row], self.ids, self.vectors, SHOWN, context=Context(subject))
        luck = self.rng.random((2, ITEMS))
        frozen = self.frozen(row)
        earned = [self.clicks(shown, target, luck) for shown in (ranking.ids, frozen)]
        given = earned[0]
        if is_hostile:
            wrong = [item for item in ranking.ids if item != target]
            given = {wrong[int(luck[0, 0] * len(wrong))]: 1.0}
        engine.feedback(ranking.trajectory_id, rewards=given)
        return Served(best(ranking.ids, earned[0]), best(frozen, earned[1]))


def best(shown: Sequence[str], rewards: dict[str, float]) -> float:
    """Return the best reward over its position."""
    return max((rewards.get(item, 0.0) / place for place, item in enumerate(shown, 1)), default=0.0)
