"""Where a dream goes: along links by their weight, now and then back to its start or to a memory not linked yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.config import DreamConfig
from sona.errors import InvalidValue
from sona.memory.nodes import Adjacency

Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

CANDIDATES = 32  # memories drawn for a jump, of which the most similar one is taken


@dataclass(frozen=True, slots=True, eq=False)
class Terrain:
    """What dreams walk over: n memories with their links and what each is worth; never changed.

    Args:
        ids: Their ids, n of them.
        vectors: Finite and of length 1 each, as a memory graph keeps them, shape (n, d); not looked through again.
        adjacency: Their links.
        worth: What each has shown to be worth, in [0, 1], shape (n,).
        importance: How often each begins a dream, as weights of at least 0, shape (n,); all alike when None or all 0.

    Raises:
        InvalidValue: lengths that differ, a worth outside [0, 1] or an importance below 0.
    """

    ids: Sequence[str]
    vectors: Floats
    adjacency: Adjacency
    worth: Doubles
    importance: Doubles | None = None

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        n = len(self.ids)
        if self.vectors.ndim != 2 or {len(self.vectors), len(self.adjacency), len(self.worth)} != {n}:
            raise InvalidValue(f"terrain: expected vectors, links and worth of {n} memories each")
        if not ((self.worth >= 0.0) & (self.worth <= 1.0)).all():
            raise InvalidValue("worth: expected numbers in [0, 1]")
        if self.importance is None:
            return
        if len(self.importance) != n or not (np.isfinite(self.importance) & (self.importance >= 0.0)).all():
            raise InvalidValue(f"importance: expected {n} finite numbers of at least 0")

    def __len__(self) -> int:
        """Return the number n of memories."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The memories a dream visited, in order.

    Args:
        rows: Their rows, one per step and the start, shape (steps + 1,).
        jumps: Steps that were jumps.
    """

    rows: Rows
    jumps: int


def drawn(weights: npt.NDArray[np.floating], chance: float) -> int:
    """Return the place that `chance`, uniform in [0, 1), draws by weights of which one is above 0."""
    sums = weights.cumsum(dtype=np.float64)
    return int(sums.searchsorted((1.0 - chance) * sums[-1]))  # above 0 and at most the sum: never a weight of 0


def start_of(terrain: Terrain, rng: np.random.Generator) -> int:
    """Return the row where a dream begins, drawn by importance; the terrain has at least one memory."""
    if terrain.importance is None or not terrain.importance.any():
        return int(rng.integers(len(terrain)))
    return drawn(terrain.importance, rng.random())


def jumped(terrain: Terrain, here: int, to_similar: bool, rng: np.random.Generator) -> int | None:
    """Return a memory that is not linked to `here`, or None when the draw met none.

    Args:
        terrain: The memories.
        here: Row where the jump begins.
        to_similar: Take the most similar of a few dozen drawn; else the first one drawn.
        rng: Source of chance.
    """
    met = rng.integers(len(terrain), size=CANDIDATES)
    neighbours, _ = terrain.adjacency.of(here)
    known = np.zeros(CANDIDATES, np.bool_)
    if len(neighbours):
        known = neighbours[neighbours.searchsorted(met).clip(max=len(neighbours) - 1)] == met
    strangers = met[~known & (met != here)]
    if not len(strangers):
        return None
    if not to_similar:
        return int(strangers[0])
    return int(strangers[(terrain.vectors[strangers] @ terrain.vectors[here]).argmax()])


def walk(terrain: Terrain, config: DreamConfig, rng: np.random.Generator) -> Walk:
    """Return a walk of at most `path_length` memories; it ends early where neither a link nor a jump leads on.

    In each step it jumps with the chance `creative_jump`; else it goes back to its start with the chance `restart`;
    else it follows a link, drawn by weight. A memory without links is left by a jump, or by going back where jumps
    are switched off.

    Args:
        terrain: The memories; none give an empty walk.
        config: Length and chances.
        rng: Source of chance; nothing else is random.

    Source:
        Random walks with restart: Tong, Faloutsos and Pan 2006; with jumps as the specification has them.
    """
    if not len(terrain):
        return Walk(np.zeros(0, np.int64), 0)
    rows = [start_of(terrain, rng)]
    jumps = 0
    chances = rng.random((config.path_length - 1, 3)).tolist()
    for jump, restart, link in chances:
        here = rows[-1]
        neighbours, weights = terrain.adjacency.of(here)
        is_stuck = not len(neighbours)
        there = None
        if jump < config.creative_jump or (is_stuck and config.creative_jump > 0.0):
            there = jumped(terrain, here, config.jumps_to_similar, rng)
            jumps += there is not None
        if there is None and here != rows[0] and (is_stuck or restart < config.restart):
            there = rows[0]
        if there is None and not is_stuck:
            there = int(neighbours[drawn(weights, link)])
        if there is None:
            break
        rows.append(there)
    return Walk(np.array(rows, np.int64), jumps)
