"""No subject teaches more than its share: lessons are limited per subject within a window of recent ones."""

from __future__ import annotations

import hashlib
from collections import Counter, deque

import numpy as np

from sona.config import GuardConfig
from sona.errors import StoreError
from sona.state import State

_NOBODY = 0
_MANY = 20
_ALWAYS = 5.0  # recent lessons that anybody may give, lest equal subjects lock each other out


class Influence:
    """Admits lessons so that no subject gives more than a share of the recent ones.

    The share is `influence`, or where few subjects ask more: twice an equal share, and one and a half from 20 subjects
    in the window on. With two or fewer nobody is limited, with forty each gives at most 1 / 27. Lessons of nobody in
    particular are never limited.

    Args:
        config: Settings `influence` and `influence_window`.
    """

    def __init__(self, config: GuardConfig) -> None:
        """Start with an empty window."""
        self.config = config
        self._window: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        self.admitted_count = 0
        self.limited_count = 0

    def admit(self, subject: str | None) -> bool:
        """Return whether a lesson of `subject` may be learned, and count it as learned if so."""
        name = _NOBODY if subject is None else _name(subject)
        if name != _NOBODY and not self._is_within(name):
            self.limited_count += 1
            return False
        self.admitted_count += 1
        window, counts = self._window, self._counts
        window.append(name)
        counts[name] = counts.get(name, 0) + 1
        if len(window) > self.config.influence_window:
            self._forget(window.popleft())
        return True

    def _is_within(self, name: int) -> bool:
        subjects = len(self._counts) - (_NOBODY in self._counts) + (name not in self._counts)
        share = max(self.config.influence, (1.5 if subjects >= _MANY else 2.0) / subjects)
        lessons = min(len(self._window) + 1, self.config.influence_window)
        return self._counts[name] + 1 <= max(_ALWAYS, share * lessons)

    def _forget(self, name: int) -> None:
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        window = np.array(self._window, np.int64)
        return State({"window": window, "admitted": self.admitted_count, "limited": self.limited_count})

    @classmethod
    def from_state(cls, state: State, config: GuardConfig) -> Influence:
        """Return the limits that `state` was taken from; a window longer than `config` allows loses its oldest.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        influence = cls(config)
        names = state.wholes("window", None).tolist()[-config.influence_window :]
        influence._window, influence._counts = deque(names), Counter(names)
        influence.admitted_count, influence.limited_count = state.whole("admitted"), state.whole("limited")
        if min(influence.admitted_count, influence.limited_count) < 0:
            raise StoreError("saved state: lessons are counted below 0")
        return influence


def _name(subject: str) -> int:
    digest = hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=8, person=b"sona subject").digest()
    return int.from_bytes(digest, "big", signed=True) or 1
