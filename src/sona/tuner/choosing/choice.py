"""What a statement is to be run with, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sona.tuner.choosing.arms import Arm


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
