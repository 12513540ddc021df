"""Which attention weights the plans of a pattern best: a bandit per pattern, and a share of choices at random."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Self

import numpy as np

from sona.checks import nonempty_text
from sona.config.tuner import DagConfig
from sona.errors import StoreError
from sona.state import State
from sona.tuner.dag.bandit import UcbTuned
from sona.tuner.execution import AttentionType
from sona.tuner.plans.attention import known_type

TYPES: tuple[AttentionType, ...] = tuple(AttentionType)
"""The arms in order; the first is the default, tried first for every pattern."""


class AttentionSelector:
    """Choose an attention type per pattern by UCB1-tuned; a share `epsilon` of choices is at random.

    `ucb_c` is on the scale of UCB1, whose bound is c sqrt(ln t / n) with c = sqrt 2; there UCB1-tuned has width 1.
    At most `capacity` patterns are kept; the one that was updated longest ago goes first.

    >>> selector = AttentionSelector(DagConfig(epsilon=0.0))
    >>> selector.select("orders by day", np.random.default_rng(0)).value
    'topological'
    """

    __slots__ = ("_bandits", "_config")

    def __init__(self, config: DagConfig | None = None) -> None:
        """Start without patterns."""
        self._config = config or DagConfig()
        self._bandits: OrderedDict[str, UcbTuned] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of patterns something is known of."""
        return len(self._bandits)

    def __contains__(self, pattern: str) -> bool:
        """Return True when something is known of `pattern`."""
        return pattern in self._bandits

    def select(self, pattern: str, rng: np.random.Generator) -> AttentionType:
        """Return the type to weight the next plan of `pattern` by; nothing is changed.

        Args:
            pattern: Any text that names the pattern.
            rng: Source of the share of choices at random; two draws at most.

        Raises:
            InvalidValue: an empty name.
        """
        nonempty_text(pattern, "pattern")
        if rng.random() < self._config.epsilon:
            return TYPES[int(rng.integers(len(TYPES)))]
        bandit = self._bandits.get(pattern)
        return TYPES[0 if bandit is None else bandit.select()]

    def best(self, pattern: str) -> AttentionType:
        """Return the type of greatest mean reward so far; the default where nothing is known."""
        bandit = self._bandits.get(pattern)
        return TYPES[0 if bandit is None else int(np.argmax(bandit.means))]

    def update(self, pattern: str, attention_type: AttentionType, reward: float) -> None:
        """Count that a plan of `pattern`, weighted by `attention_type`, earned `reward`, in [0, 1].

        Raises:
            InvalidValue: an empty name, an unknown type, or a reward outside [0, 1]; nothing changed.
        """
        nonempty_text(pattern, "pattern")
        arm = TYPES.index(known_type(attention_type))
        bandit = self._bandits.get(pattern) or self._new()
        bandit.update(arm, reward)
        self._bandits[pattern] = bandit
        self._bandits.move_to_end(pattern)
        while len(self._bandits) > self._config.capacity:
            self._bandits.popitem(last=False)

    def forget(self, pattern: str) -> None:
        """Forget a pattern; an unknown one is no error."""
        self._bandits.pop(pattern, None)

    def _new(self) -> UcbTuned:
        return UcbTuned(len(TYPES), width=_width(self._config))

    def state(self) -> State:
        """Return everything learned."""
        bandits = [bandit.state() for bandit in self._bandits.values()]
        shape, n = (len(bandits), len(TYPES)), len(TYPES)
        return State(
            {
                "types": [str(one) for one in TYPES],
                "patterns": list(self._bandits),
                "counts": np.array([one.wholes("counts", n) for one in bandits], np.int64).reshape(shape),
                "sums": np.array([one.doubles("sums", n) for one in bandits], np.float64).reshape(shape),
                "squares": np.array([one.doubles("squares", n) for one in bandits], np.float64).reshape(shape),
            }
        )

    @classmethod
    def from_state(cls, state: State, config: DagConfig | None = None) -> Self:
        """Return the selector that `state()` described.

        Raises:
            StoreError: the state is damaged, of other types, or holds more patterns than `capacity`.
        """
        selector = cls(config)
        patterns = state.texts("patterns")
        if state.texts("types") != list(TYPES):
            raise StoreError("saved state: the attention types are not those of this version")
        if len(set(patterns)) != len(patterns) or not all(map(str.strip, patterns)):
            raise StoreError("saved state: the selector's patterns repeat or have no name")
        if len(patterns) > selector._config.capacity:
            raise StoreError(f"saved state: {len(patterns)} patterns, more than {selector._config.capacity}")
        counts = state.wholes("counts", len(patterns), len(TYPES))
        sums = state.doubles("sums", len(patterns), len(TYPES))
        squares = state.doubles("squares", len(patterns), len(TYPES))
        for row, pattern in enumerate(patterns):
            one = State({"counts": counts[row], "sums": sums[row], "squares": squares[row]})
            selector._bandits[pattern] = UcbTuned.from_state(one, len(TYPES), width=_width(selector._config))
        return selector


def _width(config: DagConfig) -> float:
    return config.ucb_c / math.sqrt(2.0)
