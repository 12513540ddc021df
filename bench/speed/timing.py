"""How things are timed: in rounds that take turns, so that a busy moment of the machine hits every case alike."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

Case = Callable[[], object]
Source = Callable[[], float]
"""What is measured once by calling it: seconds of a call, or megabytes."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, with the goal it is held to and what the bare work would cost."""

    name: str
    value: float
    unit: str
    goal: float | None = None  # the value should be below it
    control: float | None = None
    control_name: str | None = None

    @property
    def met(self) -> bool | None:
        """True when the goal is met; None without one."""
        return None if self.goal is None else self.value < self.goal

    def as_json(self) -> dict:
        """Return name, value and unit; goal, met and control where there are any."""
        return {name: value for name, value in (asdict(self) | {"met": self.met}).items() if value is not None}


def seconds(case: Case) -> float:
    began = time.perf_counter()
    case()
    return time.perf_counter() - began


class Batch:
    """A statement run many times in a row: calling the batch runs it, and returns the mean seconds of one time.

    The statement stands in the loop itself, so that no call of a function is added to what a microsecond takes.
    """

    def __init__(self, statement: str, names: Mapping[str, object], batch_s: float = 3e-3) -> None:
        """Choose how many times make a batch of about `batch_s` seconds.

        Args:
            statement: What is timed.
            names: What its names mean.
            batch_s: Length of a batch.
        """
        # timeit switches the collector of garbage off; what is measured here has to live with it
        self._timer = timeit.Timer(statement, setup="import gc; gc.enable()", globals=dict(names))
        self._timer.timeit(1)
        self.size = max(int(batch_s / min(self._timer.timeit(1) for _ in range(5))), 1)

    def __call__(self) -> float:
        """Run one batch."""
        return self._timer.timeit(self.size) / self.size


def taking_turns(sources: Mapping[str, Source], rounds: int) -> dict[str, np.ndarray]:
    """Return what each source gave in every round, sources taking turns."""
    found: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            found[name].append(source())
    return {name: np.array(values) for name, values in found.items()}


def batched_us(cases: Mapping[str, Case], rounds: int, batch_s: float = 3e-4) -> dict[str, float]:
    """Return microseconds a call: the median over rounds of the mean of a short batch, cases taking turns."""
    batches = {name: Batch("case()", {"case": case}, batch_s) for name, case in cases.items()}
    return {name: 1e6 * float(np.median(times)) for name, times in taking_turns(batches, rounds).items()}


def single_us(cases: Mapping[str, Case], calls: int) -> dict[str, np.ndarray]:
    """Return microseconds of every single call, cases taking turns call by call."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(calls):
        for name, case in cases.items():
            found[name].append(seconds(case))
    return {name: 1e6 * np.array(times) for name, times in found.items()}


def unit(rows: np.ndarray) -> np.ndarray:
    """Return float32 rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Topics:
    """Vectors gathered around topics, as those of real requests and items are."""

    centres: np.ndarray  # (t, d), unit length
    noise: float = 0.5  # length of what is added to a centre

    @classmethod
    def drawn(cls, count: int, width: int, rng: np.random.Generator) -> Topics:
        """Return `count` topics in directions of their own."""
        return cls(unit(rng.normal(size=(count, width))))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return unit vectors (count, d); two of one topic have a cosine of about 1 / (1 + noise^2)."""
        width = self.centres.shape[1]
        around = rng.normal(scale=self.noise / np.sqrt(width), size=(count, width))
        return unit(self.centres[rng.integers(0, len(self.centres), count)] + around)


def top(vectors: np.ndarray, x: np.ndarray, k: int = 10) -> np.ndarray:
    """Return the rows of the k greatest products, greatest first: the bare work of a ranking."""
    scores = vectors @ x
    rows = np.argpartition(-scores, k)[:k]
    return rows[np.argsort(-scores[rows])]
