"""Statements that differ in their values alone and whose values hardly ever come again: learned together, by a test.

One run says little here, because values differ in what they cost. So an arm is put in force only when its times are
lower than those of the server's own choice by Welch's test on their logarithms, and one run in sixteen goes on being
the server's own, as far as trying may cost so much.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Self, cast

import numpy as np

from sona.errors import StoreError
from sona.patterns.welch import welch_test
from sona.state import Plain
from sona.tuner.choosing.arms import SERVER

_KEPT = 32  # times per arm
_FRESH = 24  # values seen for the first time before they are taken together
ENOUGH = 8  # runs under the server's own choice before anything else is tried
_LEAST = 4  # runs of an arm before it may be put in force
_MOST = 12  # runs of an arm that shows nothing
_P_VALUE = 0.02
_CANCELLED = 2  # runs given up before an arm is closed
CONTROL = 16  # one run in so many stays the server's own, where that can be afforded


class Family:
    """What is known of statements of one fingerprint and one kind of plan.

    Args:
        fresh: Runs with values that were not seen before.
        repeats: Runs with values that were.
        logs: Logarithms of the last times in seconds, by arm.
        cancelled: Runs that were given up, by arm.
        closed: Arms that are not tried any more, with the reason.
        incumbent: Name of the arm in force.
        count: Runs.
        rollbacks: Times an incumbent was given up.
        kinds: Kinds of operators in the server's own plan; None until it was asked for.
    """

    __slots__ = ("cancelled", "closed", "count", "fresh", "incumbent", "kinds", "logs", "repeats", "rollbacks")

    def __init__(
        self,
        *,
        fresh: int = 0,
        repeats: int = 0,
        logs: Mapping[str, Sequence[float]] | None = None,
        cancelled: Mapping[str, int] | None = None,
        closed: Mapping[str, str] | None = None,
        incumbent: str = SERVER.name,
        count: int = 0,
        rollbacks: int = 0,
        kinds: Sequence[str] | None = None,
    ) -> None:
        """Begin; a new family knows nothing."""
        self.fresh, self.repeats, self.count, self.rollbacks = fresh, repeats, count, rollbacks
        self.logs = {arm: list(times) for arm, times in (logs or {}).items()}
        self.cancelled, self.closed = dict(cancelled or {}), dict(closed or {})
        self.incumbent, self.kinds = incumbent, None if kinds is None else list(kinds)

    @property
    def is_open(self) -> bool:
        """True when values hardly come again, so that they are learned together."""
        return self.fresh >= _FRESH and self.fresh > self.repeats

    @property
    def server_s(self) -> float:
        """Typical time under the server's own choice, in seconds; 0 before it ran."""
        return self.typical_s(SERVER.name)

    def typical_s(self, arm: str) -> float:
        """Geometric mean of the times under an arm, in seconds; 0 where it never ran."""
        return math.exp(float(np.mean(self.logs[arm]))) if self.logs.get(arm) else 0.0

    @property
    def longest_s(self) -> float:
        """Longest of the last times under the server's own choice, in seconds."""
        return math.exp(max(self.logs[SERVER.name])) if self.logs.get(SERVER.name) else 0.0

    def add(self, arm: str, time_s: float) -> None:
        """Take in a run that came to its end, and decide."""
        self.count += 1
        self.logs[arm] = [*self.logs.get(arm, [])[1 - _KEPT :], math.log(max(time_s, 1e-9))]
        self._decide(arm if arm != SERVER.name else self.incumbent)

    def cancel(self, arm: str) -> None:
        """Take in a run that was given up."""
        self.cancelled[arm] = self.cancelled.get(arm, 0) + 1
        if self.cancelled[arm] >= _CANCELLED:
            self.close(arm, "took much longer than the server's own choice")

    def close(self, arm: str, why: str) -> None:
        """Try an arm no more, and give it up when it is in force."""
        self.closed[arm] = why
        if self.incumbent == arm:
            self.incumbent = SERVER.name
            self.rollbacks += 1

    def _decide(self, arm: str) -> None:
        ours, theirs = self.logs.get(arm, []), self.logs.get(SERVER.name, [])
        if arm == SERVER.name or len(ours) < _LEAST or len(theirs) < _LEAST:
            return
        gain = float(np.mean(theirs)) - float(np.mean(ours))
        is_certain = _differ(ours, theirs)
        if arm == self.incumbent:
            if gain < 0.0 and (is_certain or len(ours) >= _KEPT):
                self.close(arm, "slower than the server's own choice")
        elif is_certain and gain > 0.0:
            if self.incumbent == SERVER.name or self.typical_s(arm) < self.typical_s(self.incumbent):
                self.incumbent = arm
            else:
                self.close(arm, f"slower than {self.incumbent}")
        elif is_certain or len(ours) >= _MOST:
            self.close(arm, "not faster than the server's own choice")

    def plain(self) -> Mapping[str, Plain]:
        """Return everything as plain values."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_plain(cls, values: Plain) -> Self:
        """Return the family that the values came from.

        Raises:
            StoreError: damaged.
        """
        try:
            family = cls(**cast("dict[str, Plain]", values))  # type: ignore[arg-type]
            for times in family.logs.values():
                if not np.isfinite(np.asarray(times, np.float64)).all():
                    raise ValueError
        except (TypeError, ValueError, AttributeError) as error:
            raise StoreError("saved state: a family of statements is damaged") from error
        return family


def _differ(one: Sequence[float], other: Sequence[float]) -> bool:
    return welch_test(one, other).p_value < _P_VALUE
