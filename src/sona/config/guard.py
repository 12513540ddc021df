"""Settings of the guard."""

from __future__ import annotations

from dataclasses import dataclass

from sona.checks import setting_number, setting_whole
from sona.errors import ConfigError

GUARD_MODES = ("off", "shadow", "canary", "on")
"""Modes of the guard, least to most."""


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """Settings of the guard: what proves that learning helps, and limits what it may cost.

    Args:
        mode: `off` answers frozen and learns nothing, `shadow` answers frozen and learns, `canary` answers at most
            the share `canary` learned, `on` as much as the budget allows. May be changed at run time.
        holdout: Share of units (subjects, else requests) that is answered frozen and never learned from; 0 for none,
            and then nothing is proved and nothing limited.
        canary: Greatest share of requests answered learned in the mode `canary`.
        budget: Share of what frozen answers would have earned that learned ones may cost, at level `alpha`; 1 sets
            no limit.
        budget_requests: Requests that the budget is for at least: early on, learned answers may cost as much as they
            might over so many. Fewer limit more, and learn less, before there is evidence.
        alpha: Level of every interval and of the limit.
        warm_up: Requests answered before anything is held out or compared.
        influence: Greatest share of recent lessons that one subject may give, where enough subjects ask.
        influence_window: Lessons that count as recent.
        key: Secret of the assignment, so that nobody can choose an arm; made from the seed when empty, and at random
            for a new file.
    """

    mode: str = "on"
    holdout: float = 0.05
    canary: float = 0.1
    budget: float = 0.05
    budget_requests: int = 1000
    alpha: float = 0.05
    warm_up: int = 100
    influence: float = 0.02
    influence_window: int = 1000
    key: str = ""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.mode not in GUARD_MODES:
            raise ConfigError(f"mode: expected one of {', '.join(GUARD_MODES)}, got {self.mode!r}")
        setting_number(self.holdout, "holdout", 0.0, 0.5)
        setting_number(self.canary, "canary", 0.0, 1.0)
        setting_number(self.budget, "budget", 0.0, 1.0)
        setting_whole(self.budget_requests, "budget_requests", 0)
        setting_number(self.alpha, "alpha", 0.0, 0.5, open_low=True)
        setting_whole(self.warm_up, "warm_up", 0)
        setting_number(self.influence, "influence", 0.0, 1.0, open_low=True)
        setting_whole(self.influence_window, "influence_window", 1)
        if not isinstance(self.key, str):
            raise ConfigError(f"key: expected text, got {type(self.key).__name__}")
