"""The adapters in force, and what the loops can come back to."""

from __future__ import annotations

from dataclasses import dataclass

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import RunningBaseline
from sona.checks import Floats
from sona.errors import StoreError
from sona.loops.cycle import Consolidated
from sona.state import State


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """The two adapters that are in force together: a cycle replaces both at once, so no reader sees half of it."""

    micro: MicroLoRA
    base: BaseLoRA

    def forward(self, x: Floats) -> Floats:
        """Return `x`, shape (d,) or (n, d), corrected by both; untrained, `x` itself."""
        corrected = self.micro.forward(x)
        return corrected if self.base.layer(0) is None else corrected + self.base.delta(0, x)


@dataclass(frozen=True, slots=True, eq=False)
class LoopCheckpoint:
    """Everything of the loops that decided answers and learning at one moment; never changed.

    Args:
        micro: A copy of the instant adapter, with no signal waiting.
        in_force: What the cycles had learned.
        baseline: A copy of what a request usually earned.
        usual: What outcomes since the cycle before were measured against, in [0, 1].
    """

    micro: MicroLoRA
    in_force: Consolidated
    baseline: RunningBaseline
    usual: float

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State(
            {
                "micro": self.micro.state(),
                "in_force": self.in_force.state(),
                "baseline": self.baseline.state(),
                "usual": self.usual,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> LoopCheckpoint:
        """Return the checkpoint that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        micro, in_force = MicroLoRA.from_state(state.child("micro")), Consolidated.from_state(state.child("in_force"))
        require_one_size(micro, in_force)
        return cls(micro, in_force, RunningBaseline.from_state(state.child("baseline")), state.number("usual"))


def require_one_size(micro: MicroLoRA, in_force: Consolidated) -> None:
    """Raise StoreError when what the loops hold is of different sizes."""
    if micro.hidden_dim != in_force.base.hidden_dim or micro.param_count != in_force.ewc.param_count:
        raise StoreError("saved state: the loops differ in the size of their adapters")
