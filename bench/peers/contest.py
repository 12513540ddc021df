"""One contest: SONA, the bare work in numpy, and the peers that can do the same, in rounds that take turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from peers.children import Peer, PeerLost, Question
from speed.timing import Source, taking_turns

SCALE = {"us": 1e6, "ms": 1e3, "s": 1.0, "MB": 1.0, "x": 1.0, "%": 1.0}
PEERS = ("pypi", "npm")


class WrongAnswer(Exception):
    """SONA's answer is not that of the control: its time would mean nothing."""


@dataclass(frozen=True, slots=True)
class PeerFigure:
    """One measured value beside those of the control and the peers; None where one of them has no such thing."""

    name: str
    sona: float | None
    numpy: float | None
    pypi: float | None
    npm: float | None
    unit: str
    goal: float | None = None
    is_at_least: bool = False  # the goal is a floor; otherwise it is a ceiling

    @property
    def met(self) -> bool | None:
        """True when the goal is met; None without a goal or without a value."""
        if self.goal is None or self.sona is None:
            return None
        return self.sona >= self.goal if self.is_at_least else self.sona <= self.goal

    @property
    def bound(self) -> str:
        """The goal in words."""
        return "" if self.goal is None else f"{'>=' if self.is_at_least else '<='} {self.goal:g}"

    def as_json(self) -> dict[str, str | float | bool | None]:
        """Return the record that readers of the bench expect."""
        values = {"name": self.name, "sona": self.sona, "numpy": self.numpy, "pypi": self.pypi, "npm": self.npm}
        return {**values, "unit": self.unit, "goal": self.goal, "met": self.met}


@dataclass(frozen=True, slots=True)
class Contest:
    """What is measured, and how.

    Args:
        name: What is measured.
        unit: Of the figure; sources give seconds, or what is in no unit of time as it is.
        sona: SONA, once.
        numpy: The control, once.
        question: What peers are asked to measure; None when none of them has such a thing.
        goal: Most that it may be.
        rounds: How often each is measured.
    """

    name: str
    unit: str
    sona: Source
    numpy: Source | None = None
    question: Question | None = None
    goal: float | None = None
    rounds: int = 100

    def held(self, peers: Mapping[str, Peer], rounds: int | None = None) -> PeerFigure:
        """Return the medians of rounds in which all take turns."""
        asked: dict[str, Source] = {} if self.numpy is None else {"numpy": self.numpy}
        for name, peer in peers.items():
            source = None if self.question is None else peer.source(self.question)
            if source is not None:
                asked[name] = _or_nan(source)
        found = taking_turns({"sona": self.sona, **asked}, rounds or self.rounds)
        scale = SCALE[self.unit]
        middle = {name: scale * float(np.median(values)) for name, values in found.items()}
        known = {name: value for name, value in middle.items() if np.isfinite(value)}
        return PeerFigure(self.name, *(known.get(who) for who in ("sona", "numpy", *PEERS)), self.unit, self.goal)


def _or_nan(source: Source) -> Source:
    # A peer that failed once is not asked again: its figure is absent, and why is printed.
    lost = []

    def once() -> float:
        if lost:
            return float("nan")
        try:
            return source()
        except PeerLost as error:
            print(error)
            lost.append(error)
            return float("nan")

    return once


def times_faster(figure: PeerFigure, peer: str, goal: float | None) -> PeerFigure:
    """Return how many times faster SONA is than `peer`, as a figure of its own; null where the peer is absent."""
    theirs = getattr(figure, peer)
    ratio = theirs / figure.sona if theirs is not None and figure.sona else None
    name = f"{figure.name}: times faster than {peer}, at least"
    return PeerFigure(name, ratio, None, None, None, "x", goal, is_at_least=True)


def require(name: str, ours: object, theirs: object, *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Raise WrongAnswer unless the answers agree.

    Args:
        name: Of the contest.
        ours: SONA's answer, numbers.
        theirs: The control's.
        rtol: Relative difference that rounding may make.
        atol: Absolute difference that rounding may make.
    """
    if not np.allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol):
        raise WrongAnswer(f"{name}: SONA answers {np.asarray(ours)!r:.200}, the control {np.asarray(theirs)!r:.200}")
