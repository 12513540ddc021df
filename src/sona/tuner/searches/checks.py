"""What checks of searches have found: each search that was run again exactly, and how its other ways fared."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.checks import finite, fraction, whole
from sona.errors import InvalidValue, StoreError
from sona.state import State

Doubles: TypeAlias = npt.NDArray[np.float64]
Wholes: TypeAlias = npt.NDArray[np.int64]
UNKNOWN = -100
"""The class of a size or a fit that nobody knows."""
_FITS = (-12, 4)


@dataclass(frozen=True, slots=True)
class SearchKey:
    """What a search is known by before it runs.

    Args:
        fingerprint: The statement without its values.
        filter_key: Digest of the filter's values; empty without a filter.
        limit: Rows asked for; None when that is not known.
        size: Rows that pass the filter, as counted or estimated; None when nobody knows.
        fit: How well the query fits those rows (`sona.tuner.searches.fit.fit`); None when nobody knows.
        index_kind: Access method of the index on the distance: "hnsw", "ivfflat" or "".

    Raises:
        InvalidValue: a limit or size below 0, or a number that is not finite.
    """

    fingerprint: str
    filter_key: str = ""
    limit: int | None = None
    size: float | None = None
    fit: float | None = None
    index_kind: str = "hnsw"

    def __post_init__(self) -> None:
        """Refuse figures that cannot be."""
        if self.limit is not None:
            whole(self.limit, "limit", 0)
        if self.size is not None and finite(self.size, "size") < 0.0:
            raise InvalidValue(f"size: expected at least 0, got {self.size}")
        if self.fit is not None:
            finite(self.fit, "fit")

    @property
    def kind(self) -> Kind:
        """The searches it stands with: sizes and fits within a factor of 2, and its own values."""
        size = UNKNOWN if self.size is None else math.floor(math.log2(max(self.size, 1.0)))
        fit = UNKNOWN if self.fit is None else min(max(round(self.fit), _FITS[0]), _FITS[1])
        value = int.from_bytes(hashlib.blake2b(self.filter_key.encode(), digest_size=8).digest(), "big") >> 1
        return Kind(fit, size, value)


@dataclass(frozen=True, slots=True)
class Kind:
    """Searches of one statement that are taken for alike.

    Args:
        fit: Whole doublings of `SearchKey.fit`, from -12 to 4, or `UNKNOWN`.
        size: Whole doublings of the rows that pass the filter, or `UNKNOWN`.
        value: The filter's values, as a number.
    """

    fit: int
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class ArmRun:
    """How one arm fared on a search that was checked.

    Args:
        arm: Name of the arm.
        recall: Share of the true neighbours it found, in [0, 1]; a row as near as the last of them counts.
        rows: Rows it returned.
        time_s: Seconds it took.
    """

    arm: str
    recall: float
    rows: int
    time_s: float


@dataclass(frozen=True, slots=True)
class SearchCheck:
    """One search, run exactly and by other arms in the same snapshot.

    Args:
        exact_rows: Rows that the exact search returned.
        exact_time_s: Seconds that the exact search took.
        runs: The other arms, each once.

    Raises:
        InvalidValue: a recall outside [0, 1], a time that is not above 0, rows below 0 or an arm that is there twice.
    """

    exact_rows: int
    exact_time_s: float
    runs: tuple[ArmRun, ...]

    def __post_init__(self) -> None:
        """Refuse figures that cannot be."""
        whole(self.exact_rows, "exact_rows", 0)
        _time(self.exact_time_s, "exact_time_s")
        for run in self.runs:
            fraction(run.recall, f"recall of {run.arm}")
            whole(run.rows, f"rows of {run.arm}", 0)
            _time(run.time_s, f"time of {run.arm}")
        if len({run.arm for run in self.runs}) < len(self.runs):
            raise InvalidValue("runs: an arm is there twice")

    @property
    def time_s(self) -> float:
        """Seconds of all of it."""
        return self.exact_time_s + sum(run.time_s for run in self.runs)


class CheckLog:
    """The last checks of one statement, oldest first; what was not measured is NaN.

    Args:
        arms: Names of the arms, the exact one last.
        window: Checks kept; when it is full the oldest quarter goes.
    """

    __slots__ = ("arms", "fits", "recalls", "shorts", "sizes", "times", "values", "window")

    def __init__(self, arms: tuple[str, ...], window: int) -> None:
        """Begin with none."""
        self.arms, self.window = arms, window
        self.fits: Wholes = np.zeros(0, np.int64)
        self.sizes, self.values = self.fits, self.fits
        self.recalls: Doubles = np.zeros((0, len(arms)))  # (n, a)
        self.times, self.shorts = self.recalls, self.recalls  # (n, a) ln of seconds; 1 where rows were missing

    def __len__(self) -> int:
        """Return the number of checks."""
        return len(self.fits)

    def kinds(self) -> Iterator[Kind]:
        """Yield the kind of each check."""
        for fit, size, value in zip(self.fits.tolist(), self.sizes.tolist(), self.values.tolist(), strict=True):
            yield Kind(fit, size, value)

    def add(self, kind: Kind, check: SearchCheck) -> None:
        """Take in a check; raises InvalidValue for an arm that is not one of these, and nothing changes."""
        found = np.full((3, len(self.arms)), np.nan)
        found[:, -1] = 1.0, math.log(check.exact_time_s), 0.0
        for run in check.runs:
            if run.arm not in self.arms:
                raise InvalidValue(f"arm: expected one of {', '.join(self.arms)}, got {run.arm!r}")
            if run.arm != self.arms[-1]:
                missing = float(run.rows < check.exact_rows)
                found[:, self.arms.index(run.arm)] = run.recall, math.log(run.time_s), missing
        kept = slice(max(1, self.window // 4) if len(self) >= self.window else 0, None)
        self.fits = np.append(self.fits[kept], kind.fit)
        self.sizes = np.append(self.sizes[kept], kind.size)
        self.values = np.append(self.values[kept], kind.value)
        self.recalls = np.vstack([self.recalls[kept], found[0]])
        self.times = np.vstack([self.times[kept], found[1]])
        self.shorts = np.vstack([self.shorts[kept], found[2]])

    def state(self) -> State:
        """Return everything it holds."""
        kinds = {"fits": self.fits, "sizes": self.sizes, "values": self.values}
        found = {"recalls": self.recalls, "times": self.times, "shorts": self.shorts}
        return State({"arms": list(self.arms), **kinds, **found})

    @classmethod
    def from_state(cls, state: State, arms: tuple[str, ...], window: int) -> CheckLog:
        """Return the log that `state` holds; raises StoreError when it is damaged or of other arms."""
        if tuple(state.texts("arms")) != arms:
            raise StoreError(f"saved state: arms are {state.texts('arms')}, expected {list(arms)}")
        log = cls(arms, window)
        log.fits = state.wholes("fits", None)
        count = len(log.fits)
        log.sizes, log.values = state.wholes("sizes", count), state.wholes("values", count)
        log.recalls, log.times = state.doubles("recalls", count, len(arms)), state.doubles("times", count, len(arms))
        log.shorts = state.doubles("shorts", count, len(arms))
        known = log.recalls[~np.isnan(log.recalls)]
        if ((known < 0.0) | (known > 1.0)).any() or np.isinf(log.times).any():
            raise StoreError("saved state: recalls should be from 0 to 1, times finite")
        return log


def _time(value: float, what: str) -> None:
    if finite(value, what) <= 0.0:
        raise InvalidValue(f"{what}: expected above 0, got {value}")
