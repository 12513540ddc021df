"""What memory and calibration can come back to: records that share whatever is never changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sona.memory.belief import Belief, ShownList
from sona.memory.opinions import Opinions
from sona.memory.shelf import Record, Shelf, shelf_from_state, shelf_state
from sona.state import State


@dataclass(frozen=True, slots=True, eq=False)
class VoteCheckpoint:
    """What a vote memory held at one moment.

    Args:
        hidden_dim: Width d of the requests.
        records: The past requests.
        names: The items their places are in.
        opinions: Whose vote was whose.
        next_number: The number of the next request.
    """

    hidden_dim: int
    records: tuple[Record, ...]
    names: tuple[str, ...]
    opinions: Opinions
    next_number: int

    def shelf(self) -> Shelf:
        """Return a shelf of its own with these records."""
        return Shelf.of(self.records, self.names)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        shelf = shelf_state(self.records, self.names, self.hidden_dim)
        opinions = self.opinions.state()
        return State({**dict(shelf.items()), "opinions": opinions, "next_number": self.next_number})

    @classmethod
    def from_state(cls, state: State) -> VoteCheckpoint:
        """Return the checkpoint that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or its parts do not add up.
        """
        shelf = shelf_from_state(state)
        return cls(
            hidden_dim=state.whole("hidden_dim"),
            records=tuple(shelf.records),
            names=tuple(shelf.names),
            opinions=Opinions.from_state(state.child("opinions")),
            next_number=state.whole("next_number"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationCheckpoint:
    """What a calibrator believed at one moment.

    Args:
        belief: What was learned from all lists.
        before: The same without the last list.
        last: The list learned last; None when it may not be amended.
        last_key: Its name; -1 when it has none.
    """

    belief: Belief
    before: Belief
    last: ShownList | None
    last_key: int

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        nothing, no_evidence = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
        last = self.last or ShownList(nothing, no_evidence, no_evidence, nothing, nothing)
        return State(
            {
                "belief": self.belief.state(),
                "before": self.before.state(),
                "last_key": self.last_key,
                "last": last.state(),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> CalibrationCheckpoint:
        """Return the checkpoint that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or its parts do not fit together.
        """
        belief, key = Belief.from_state(state.child("belief")), state.whole("last_key")
        before, last = (
            Belief.from_state(state.child("before"), len(belief.mean)),
            ShownList.from_state(state.child("last")),
        )
        return cls(belief, before, last if key >= 0 else None, key)
