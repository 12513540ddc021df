"""One statement and what is known of it: how long it took under which settings, and which are in force."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

import numpy as np

from sona.checks import Floats
from sona.errors import StoreError
from sona.state import Plain
from sona.tuner.choosing.arms import SERVER

_RECENT = 8  # times that make the typical one


@dataclass(frozen=True, slots=True)
class PlanNote:
    """What of the server's own plan matters later.

    Args:
        shape: Digest of the plan.
        kinds: Kinds of its operators.
        cost: What the planner expects it to cost, in planner units.
        embedding: Plan embedding, shape (d,).
    """

    shape: str
    kinds: tuple[str, ...]
    cost: float
    embedding: Floats


class Times:
    """How long a statement took under one arm: the typical time is the median of the last few.

    >>> times = Times()
    >>> for time_s in (0.2, 0.1, 9.0): times.add(time_s)
    >>> times.typical_s, times.count
    (0.2, 3)
    """

    __slots__ = ("count", "recent", "typical_s")

    def __init__(self, recent: Sequence[float] = (), count: int = 0) -> None:
        """Start from the last times of `count`."""
        self.recent, self.count = list(recent), count
        self.typical_s = statistics.median(self.recent) if self.recent else 0.0

    def add(self, time_s: float) -> None:
        """Take in one more time, in seconds."""
        self.recent = [*self.recent[1 - _RECENT :], time_s]
        self.count += 1
        self.typical_s = statistics.median(self.recent)


class Unit:
    """One statement with its values.

    Args:
        fingerprint: Of the statement without its values.
        count: Times it ran to its end.
        times: By arm.
        incumbent: Name of the arm in force.
        closed: Arms that are not tried any more, with the reason.
        censored: Arms that were given up, with the seconds they had run.
        shapes: Plans, by arm.
        note: The server's own plan; None until it was asked for.
        strikes: Runs of the incumbent in a row that were slower than the server's own choice.
        next_check: Count at which the server's own choice is measured again.
        rollbacks: Times an incumbent was given up.
        settled_s: Typical time under the server's own choice when its plan was asked for, in seconds; 0 before.
        first, last: Number of its first and its last run among those of all statements.
    """

    __slots__ = (
        "censored",
        "closed",
        "count",
        "fingerprint",
        "first",
        "incumbent",
        "last",
        "next_check",
        "note",
        "rollbacks",
        "settled_s",
        "shapes",
        "strikes",
        "times",
    )

    def __init__(
        self,
        fingerprint: str,
        *,
        count: int = 0,
        times: Mapping[str, Times] | None = None,
        incumbent: str = SERVER.name,
        closed: Mapping[str, str] | None = None,
        censored: Mapping[str, float] | None = None,
        shapes: Mapping[str, str] | None = None,
        note: PlanNote | None = None,
        strikes: int = 0,
        next_check: int = 0,
        rollbacks: int = 0,
        settled_s: float = 0.0,
        first: int = 0,
        last: int = 0,
    ) -> None:
        """Begin; a new unit knows nothing but its fingerprint."""
        self.fingerprint, self.count, self.incumbent, self.note = fingerprint, count, incumbent, note
        self.times, self.shapes = dict(times or {}), dict(shapes or {})
        self.closed, self.censored = dict(closed or {}), dict(censored or {})
        self.strikes, self.next_check, self.rollbacks = strikes, next_check, rollbacks
        self.settled_s, self.first, self.last = settled_s, first, last

    def typical_s(self, arm: str) -> float:
        """Typical time under an arm, in seconds; 0 where it never ran."""
        return self.times[arm].typical_s if arm in self.times else 0.0

    @property
    def server_s(self) -> float:
        """Typical time under the server's own choice."""
        return self.typical_s(SERVER.name)

    @property
    def incumbent_s(self) -> float:
        """Typical time under the arm in force."""
        return self.typical_s(self.incumbent)

    @property
    def saved_s(self) -> float:
        """Seconds that the arm in force saves each time; 0 without one."""
        return self.server_s - self.incumbent_s if self.incumbent != SERVER.name else 0.0

    @property
    def gap(self) -> float:
        """Runs of all statements from one run of this one to the next, on average; 1 for one that ran once."""
        return (self.last - self.first) / (self.count - 1) if self.count > 1 else 1.0

    def add(self, arm: str, time_s: float, number: int = 0) -> None:
        """Take in a run that came to its end, the `number`th of all statements."""
        self.first, self.last = self.first if self.count else number, number
        self.count += 1
        self.times.setdefault(arm, Times()).add(time_s)

    def adopt(self, arm: str) -> None:
        """Put an arm in force; the server's own choice is measured again after twice as many runs each time."""
        self.incumbent, self.strikes = arm, 0
        self.next_check = self.count + 16

    def give_up(self, why: str) -> None:
        """Go back to the server's own choice, for good as long as nothing changes."""
        self.closed[self.incumbent] = why
        self.rollbacks += 1
        self.incumbent, self.strikes = SERVER.name, 0

    def reopen(self) -> None:
        """Forget what was found out of arms: the statement is not what it was."""
        self.closed.clear()
        self.censored.clear()
        self.shapes.clear()
        self.note = None
        self.incumbent, self.strikes = SERVER.name, 0
        self.times = {SERVER.name: self.times[SERVER.name]}
        self.settled_s = self.server_s

    def plain(self) -> Mapping[str, Plain]:
        """Return everything as plain values, the embedding apart."""
        return {
            "fingerprint": self.fingerprint,
            "count": self.count,
            "times": {arm: {"recent": list(one.recent), "count": one.count} for arm, one in self.times.items()},
            "incumbent": self.incumbent,
            "closed": dict(self.closed),
            "censored": dict(self.censored),
            "shapes": dict(self.shapes),
            "note": None
            if self.note is None
            else {"shape": self.note.shape, "kinds": self.note.kinds, "cost": self.note.cost},
            "strikes": self.strikes,
            "next_check": self.next_check,
            "rollbacks": self.rollbacks,
            "settled_s": self.settled_s,
            "first": self.first,
            "last": self.last,
        }

    @classmethod
    def from_plain(cls, values: Plain, embedding: Floats) -> Self:
        """Return the unit that the values came from.

        Raises:
            StoreError: damaged.
        """
        try:
            return cls._read(cast("dict[str, Plain]", values), embedding)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError("saved state: a statement of the tuner is damaged") from error

    @classmethod
    def _read(cls, values: dict[str, Plain], embedding: Floats) -> Self:
        given = dict(values)
        note, times = given.pop("note"), cast("dict[str, dict[str, Plain]]", given.pop("times"))
        unit = cls(**given)  # type: ignore[arg-type]
        unit.times = {
            str(arm): Times([float(x) for x in cast("list[float]", one["recent"])], int(cast(int, one["count"])))
            for arm, one in times.items()
        }
        if note is not None:
            kept = cast("dict[str, Plain]", note)
            kinds = tuple(str(kind) for kind in cast("list[str]", kept["kinds"]))
            unit.note = PlanNote(str(kept["shape"]), kinds, float(cast(float, kept["cost"])), embedding)
        unit.closed, unit.shapes = _texts(unit.closed), _texts(unit.shapes)
        unit.censored = {str(arm): float(time_s) for arm, time_s in unit.censored.items()}
        whole = (unit.count, unit.strikes, unit.next_check, unit.rollbacks, unit.first, unit.last)
        if not all(type(one) is int and one >= 0 for one in whole) or not isinstance(unit.fingerprint, str):
            raise ValueError("counts")
        seconds = [*unit.censored.values(), unit.settled_s, *(one.typical_s for one in unit.times.values())]
        if not (np.isfinite(seconds).all() and min(seconds) >= 0.0):
            raise ValueError("times")
        return unit


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}
