"""Who is answered by which policy: a keyed hash decides, so that nobody can choose an arm and a replay repeats it."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from sona.errors import InvalidValue

_LONGEST_KEY = 64
_ARM, _NAME = b"sona arm", b"sona unit"


class Arm(enum.StrEnum):
    """Which of the two answers was shown."""

    LEARNED = "learned"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one request is shown, and the chance it had of being shown that.

    Args:
        arm: What is shown.
        exposure: Propensity of the learned arm: its chance before the unit was looked at, in [0, 1].
        is_held_out: True when the unit is answered frozen for good; nothing may be learned from it.
        is_compared: True when the two arms are being compared and the request counts.
    """

    arm: Arm
    exposure: float
    is_held_out: bool
    is_compared: bool


def draw(key: bytes, unit: str) -> float:
    """Return the unit's own number, uniform in [0, 1) to whoever does not know the key; always the same.

    Args:
        key: The secret, 1 to 64 bytes.
        unit: Who or what is assigned.

    Raises:
        InvalidValue: a key that is empty or too long.

    >>> draw(b"secret", "user-1") == draw(b"secret", "user-1") != draw(b"other", "user-1")
    True
    """
    return (_hash(key, unit, _ARM) >> 11) * 2.0**-53


def name_of(key: bytes, unit: str) -> int:
    """Return the 8-byte name a unit is remembered by, in [-2^63, 2^63); says nothing about its arm."""
    return _hash(key, unit, _NAME) - 2**63


def _hash(key: bytes, unit: str, purpose: bytes) -> int:
    if not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidValue(f"key: expected 1 to {_LONGEST_KEY} bytes, got {len(key)}")
    text = unit.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key, person=purpose).digest(), "big")


def assigned(number: float, exposure: float, holdout: float) -> Assignment:
    """Assign a unit by its number: the least numbers are held out, the greatest are shown what was learned.

    As the exposure grows, a unit only ever moves from frozen to learned; one that is held out never moves.

    Args:
        number: From `draw`, in [0, 1).
        exposure: Propensity of the learned arm, at most 1 - `holdout`.
        holdout: Share of units held out.

    >>> assigned(0.97, exposure=0.1, holdout=0.05).arm, assigned(0.5, exposure=0.1, holdout=0.05).is_held_out
    (<Arm.LEARNED: 'learned'>, False)
    """
    arm = Arm.LEARNED if number >= 1.0 - exposure else Arm.FROZEN
    return Assignment(arm, exposure, number < holdout, is_compared=True)
