"""What calibration is shown and what it believes, as records that are replaced and never changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sona.checks import Floats
from sona.state import State

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ShownList:
    """One list as it was shown, position by position.

    Args:
        similarity: Cosine of the request and each item, shape (m,).
        taken: Evidence by bin, shape (m, 1 + bins).
        passed: Evidence by bin, shape (m, 1 + bins).
        micro: What the micro adapter adds to the cosine, shape (m,).
        base: What the base adapter adds to the cosine, shape (m,).
        is_known: True when the same request was asked before.
        similar: Activation that reached each item over links to similar memories, in [0, 1], shape (m,); 0 when None.
        linked: The same over links that were learned, shape (m,).
    """

    similarity: Floats
    taken: Floats
    passed: Floats
    micro: Floats
    base: Floats
    is_known: bool = False
    similar: Floats | None = None
    linked: Floats | None = None
    activated: Floats = field(init=False)  # both, by kind of link and item, shape (2, m)

    def __post_init__(self) -> None:
        """Put activation of both kinds together: it is asked for many times a list."""
        activated = np.zeros((2, len(self.similarity)), np.float32)
        for kind, row in enumerate((self.similar, self.linked)):
            if row is not None:
                activated[kind] = row
        object.__setattr__(self, "activated", activated)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        scalars = np.stack([self.similarity, self.micro, self.base, *self.activated]).astype(np.float32)
        return State({"scalars": scalars, "taken": self.taken, "passed": self.passed, "is_known": self.is_known})

    @classmethod
    def from_state(cls, state: State) -> ShownList:
        """Return the list that `state` was taken from.

        Raises:
            StoreError: the state is incomplete, or its parts do not fit together.
        """
        scalars = (np.ascontiguousarray(row) for row in state.floats("scalars", 5, None))
        similarity, micro, base, similar, linked = scalars
        taken = state.floats("taken", len(similarity), None)
        passed = state.floats("passed", *taken.shape)
        return cls(similarity, taken, passed, micro, base, state.flag("is_known"), similar, linked)


@dataclass(frozen=True, slots=True)
class Gains:
    """Log-likelihood won of late by each part on lists it had not learned from, in nats.

    Args:
        own: Won by the same request's own evidence, on requests asked again; starts with a head start, which fades.
        reach: Won by the neighbours' evidence, on requests never asked before.
        micro: Won by the micro adapter, on the same.
        base: Won by the base adapter, on the same.
        similar: Won by activation over links to similar memories, on the same.
        linked: Won by activation over learned links, on the same.
        lists: Lists learned from, ever.
    """

    own: float = 0.0
    reach: float = 0.0
    micro: float = 0.0
    base: float = 0.0
    similar: float = 0.0
    linked: float = 0.0
    lists: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """Everything learned from lists.

    Args:
        mean: Of the Gaussian posterior over the p parameters, shape (p,).
        precision: Its inverse covariance, shape (p, p).
        gains: What each part has won.
    """

    mean: Doubles
    precision: Doubles
    gains: Gains

    def counted_on(self, lists: int) -> Belief:
        """Return the same belief, with this many more lists counted."""
        return replace(self, gains=replace(self.gains, lists=self.gains.lists + lists))

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        gains = self.gains
        return State(
            {
                "mean": self.mean,
                "precision": self.precision,
                "gains": np.array([gains.own, gains.reach, gains.micro, gains.base, gains.similar, gains.linked]),
                "lists": gains.lists,
            }
        )

    @classmethod
    def from_state(cls, state: State, size: int | None = None) -> Belief:
        """Return the belief that `state` was taken from, over `size` parameters; over any number when None.

        Raises:
            StoreError: the state is incomplete, or its parts do not fit together.
        """
        mean = state.doubles("mean", size)
        own, reach, micro, base, similar, linked = state.doubles("gains", 6).tolist()
        gains = Gains(own, reach, micro, base, similar, linked, state.whole("lists"))
        return cls(mean, state.doubles("precision", len(mean), len(mean)), gains)
