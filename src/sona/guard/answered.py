"""How many requests of each arm were served and answered with feedback, and whether chance explains the difference.

When people answer one arm more than the other, the outcomes that are known are no fair sample of either, and a lift
says little. Among answered requests, learned minus its exposure has mean 0 as long as answering does not depend on
the arm; its sum is watched with bounds that hold at every moment at once.
"""

from __future__ import annotations

import numpy as np

from sona.guard.sequence import Sequence, Step
from sona.guard.trial import Trial
from sona.state import State

LEVEL = 0.001


class Answered:
    """Counts compared requests of the frozen (0) and the learned (1) arm."""

    def __init__(self) -> None:
        """Start without any."""
        self.served = [0, 0]
        self.answered = [0, 0]
        self._excess = Sequence(1.0)

    def serve(self, arm: int) -> None:
        """Count a compared request that was answered by `arm`."""
        self.served[arm] += 1

    def answer(self, trial: Trial) -> None:
        """Count its feedback."""
        self.answered[trial.arm] += 1
        if trial.visit == 1:
            excess = trial.arm - trial.exposure
            self._excess.add(Step(excess, excess, trial.exposure, 1.0 - trial.exposure))

    def share(self, arm: int) -> float | None:
        """Return the share of an arm's requests that earned feedback; None before the first."""
        return self.answered[arm] / self.served[arm] if self.served[arm] else None

    @property
    def is_uneven(self) -> bool:
        """True when the arms are answered unevenly beyond chance, by a test that may be looked at any time."""
        bounds = self._excess.bounds(LEVEL / 2.0, LEVEL / 2.0)
        return bounds.low > 0.0 or bounds.high < 0.0

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        counts = np.array([self.served, self.answered], np.int64)
        return State({"counts": counts, "excess": self._excess.state()})

    @classmethod
    def from_state(cls, state: State) -> Answered:
        """Return the counts that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        answered = cls()
        answered.served, answered.answered = state.wholes("counts", 2, 2).tolist()
        answered._excess = Sequence.from_state(state.child("excess"), 1.0)
        return answered
