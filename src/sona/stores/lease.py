"""A lease: the right of one among several to do a task, until a moment that it named.

Whoever holds it renews it before it runs out; when its process dies, the lease runs out by itself. Only the times that
the callers name count. Two may hold it at once only when the clock of the one that asks is ahead of the holder's by
more than the holder had left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sona.checks import finite, nonempty_text
from sona.errors import InvalidValue, StoreError


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may do a task, and until when.

    Args:
        holder: Who.
        until: The moment it runs out, seconds.
    """

    holder: str
    until: float

    def as_text(self) -> str:
        """Return it as a small value that a store keeps."""
        return json.dumps([self.holder, self.until])


def lease_of(text: str) -> Lease:
    """Return the lease that `Lease.as_text` wrote, or raise StoreError."""
    try:
        holder, until = json.loads(text)
        return Lease(nonempty_text(holder, "holder"), finite(until, "until"))
    except (TypeError, ValueError) as error:  # InvalidValue is one
        raise StoreError(f"a lease is damaged: {error}") from error


def asked_for(task: str, holder: str, *, now: float, until: float) -> Lease:
    """Return the lease that somebody asks for.

    Raises:
        InvalidValue: a name that is not text, a time that is not finite, or an `until` that is not after `now`.
    """
    nonempty_text(task, "task")
    if not finite(until, "until") > finite(now, "now"):
        raise InvalidValue(f"until: expected a moment after now, {now!r}, got {until!r}")
    return Lease(nonempty_text(holder, "holder"), float(until))


def may_have(holder: str, kept: Lease | None, now: float) -> bool:
    """Return True unless somebody else's lease has not run out; at its very end it has.

    >>> kept = Lease("ann", 10.0)
    >>> may_have("bob", kept, 9.9), may_have("bob", kept, 10.0), may_have("ann", kept, 5.0)
    (False, True, True)
    """
    return kept is None or kept.holder == holder or kept.until <= finite(now, "now")
