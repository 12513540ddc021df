"""What a statement is to be run with, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sona.tuner.choosing.arms import SERVER, Arm

_LIMIT, _LIMIT_S = 3.0, 0.05  # what is in force is given up after so many times the server's own time, and so long


class Purpose(StrEnum):
    """Why an arm is run."""

    SERVER = "the server's own choice"
    KNOWN = "known to be faster"
    TRIAL = "tried"
    CHECK = "measured again"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run a statement with.

    Args:
        arm: The settings.
        purpose: Why.
        timeout_s: When to give up and run the server's own choice instead; None for never.
        expected_s: What the statement takes otherwise, in seconds.
    """

    arm: Arm
    purpose: Purpose
    timeout_s: float | None = None
    expected_s: float = 0.0


AS_SERVER = Choice(SERVER, Purpose.SERVER)
"""Whatever the server chooses."""


def in_force(arm: Arm, server_s: float, longest_s: float) -> Choice:
    """Return the choice of an arm that is known to be faster.

    Args:
        arm: The settings.
        server_s: What the statement takes as the server chooses, in seconds.
        longest_s: The longest of that.
    """
    return Choice(arm, Purpose.KNOWN, _LIMIT * longest_s + _LIMIT_S, server_s)
