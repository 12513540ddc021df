"""Everything that outcomes say about what was learned: one trial goes to every comparison it belongs to."""

from __future__ import annotations

from sona.guard.answered import Answered
from sona.guard.by_pattern import PatternComparisons
from sona.guard.comparison import Comparison, Testimony, Weights
from sona.guard.curve import Curve, Point
from sona.guard.latency import Latency
from sona.guard.offpolicy import OffPolicy
from sona.guard.trial import Trial
from sona.guard.visits import Visits
from sona.guard.watch import Watch
from sona.state import State


class Evidence:
    """All requests, those of each pattern, and those of the version in force, compared.

    Args:
        reach: Greatest odds of exposure there will ever be.
        alpha: Level of the curve, and of all watches over versions together.
    """

    def __init__(self, reach: float, alpha: float) -> None:
        """Start without evidence."""
        self.alpha = alpha
        self.whole = Comparison()
        self.exposed = Comparison(Weights.EXPOSED, reach)
        self.patterns = PatternComparisons()
        self.watch = Watch(alpha)
        self.policies = OffPolicy()
        self.answered = Answered()
        self.latency = Latency()
        self.curve = Curve()
        self.visits = Visits()

    def observe(self, trial: Trial, *, pattern_id: int | None, version: int, at: float) -> Testimony:
        """Count a compared trial everywhere; return what is needed to amend it."""
        pattern, watch = None, None
        if pattern_id is not None:
            pattern = self.patterns.observe(pattern_id, trial)
        if version == self.watch.version and not self.watch.is_alarmed:
            watch = self.watch.observe(trial)
        self.answered.answer(trial)
        self.exposed.observe(trial)
        testimony = Testimony(trial, self.whole.observe(trial), self.policies.observe(trial), pattern, watch)
        if self.curve.is_due(self.whole.trials):
            self._draw(at)
        return testimony

    def _draw(self, at: float) -> None:
        lift = self.whole.lift(self.alpha)
        if lift.value is not None:
            self.curve.add(Point(lift.trials, at, lift.value, lift.low, lift.high))

    def amend(self, new: Trial, earlier: Testimony) -> None:
        """Move every sum a trial went into by what its amended outcome changes."""
        old = earlier.trial
        for comparison in (self.whole, self.exposed):  # what is expected does not depend on the weights
            comparison.amend(old, new, earlier.expected)
        self.policies.amend(old, new, earlier.quality_expected)
        if earlier.pattern is not None:
            self.patterns.amend(old, new, earlier.pattern)
        if earlier.watch is not None:
            self.watch.amend(old, new, earlier.watch)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "whole": self.whole.state(),
                "exposed": self.exposed.state(),
                "patterns": self.patterns.state(),
                "watch": self.watch.state(),
                "policies": self.policies.state(),
                "answered": self.answered.state(),
                "latency": self.latency.state(),
                "curve": self.curve.state(),
                "visits": self.visits.state(),
            }
        )

    @classmethod
    def from_state(cls, state: State, alpha: float) -> Evidence:
        """Return the evidence that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        exposed = Comparison.from_state(state.child("exposed"))
        evidence = cls(exposed.reach, alpha)
        evidence.whole, evidence.exposed = Comparison.from_state(state.child("whole")), exposed
        evidence.patterns = PatternComparisons.from_state(state.child("patterns"))
        evidence.watch = Watch.from_state(state.child("watch"), alpha)
        evidence.policies = OffPolicy.from_state(state.child("policies"))
        evidence.answered = Answered.from_state(state.child("answered"))
        evidence.latency = Latency.from_state(state.child("latency"))
        evidence.curve = Curve.from_state(state.child("curve"))
        evidence.visits = Visits.from_state(state.child("visits"))
        return evidence
