"""What a tuner knows of nearest-neighbour searches, for all connections: choices, checks, and what they cost."""

from __future__ import annotations

import time
from threading import Lock

import numpy as np

from sona.config.tuner import TunerConfig
from sona.state import State
from sona.tuner.ledger import Account, Ledger
from sona.tuner.requests import Request
from sona.tuner.search_book import SearchBook, Target
from sona.tuner.searches.arms import OWN, SearchArm, search_arms
from sona.tuner.searches.checks import SearchCheck, SearchKey
from sona.tuner.searches.fit import Surveyed
from sona.tuner.searches.policy import SearchChoice, SearchPolicy


class SearchMemory:
    """Choices of searches, told by any thread.

    Args:
        config: Settings.
        ledger: Where times are counted.
        lock: Held while anything changes; that of the ledger.
        is_learning: False to leave every search to the server.
    """

    def __init__(self, config: TunerConfig, ledger: Ledger, lock: Lock, *, is_learning: bool = True) -> None:
        """Start with nothing learned."""
        self._config, self._ledger, self._lock, self._is_learning = config, ledger, lock, is_learning
        self.policy = SearchPolicy(config.vector, exploration_share=config.exploration_share)
        self._book = SearchBook(config.capacity, config.vector.survey_s, time.monotonic)

    # -- what was asked of the server ----------------------------------------------------------------------------------

    def target(self, request: Request) -> Target | None:
        """Return what a statement searches; None when it has to be asked for."""
        with self._lock:
            return self._book.target(request.fingerprint)

    def set_target(self, request: Request, target: Target) -> Target:
        """Keep what a statement searches, and return it."""
        with self._lock:
            self._book.set_target(request.fingerprint, target)
        return target

    def is_surveyed(self, request: Request, values: str) -> bool:
        """Return True when the rows that pass a filter were asked for, whatever came of it."""
        with self._lock:
            return self._book.is_surveyed(request.fingerprint, values)

    def surveyed(self, request: Request, values: str) -> Surveyed | None:
        """Return what is known of the rows that pass a filter; None when it is nothing."""
        with self._lock:
            return self._book.surveyed(request.fingerprint, values)

    def set_surveyed(self, request: Request, values: str, surveyed: Surveyed | None) -> None:
        """Keep what is known of the rows that pass a filter."""
        with self._lock:
            self._book.set_surveyed(request.fingerprint, values, surveyed)

    # -- choosing and learning -----------------------------------------------------------------------------------------

    def choose(self, key: SearchKey) -> SearchChoice:
        """Return how to run a search, and whether to check it."""
        if not self._is_learning:
            return SearchChoice(OWN, False, "only looked on")
        with self._lock:
            rng = np.random.default_rng((self._config.seed, self._ledger.queries_processed))
            return self.policy.choose(key, rng)

    def finish(self, request: Request, key: SearchKey, arm: SearchArm, time_s: float, asking_s: float) -> None:
        """Take in that a search took `time_s`, after `asking_s` of finding out what it is."""
        with self._lock:
            account = self._account(request)
            self._ledger.add(account, time_s + asking_s)
            account.explored_s += asking_s
            account.problem = None if request.statement.search is None else request.statement.search.problem
            self.policy.observe(key, arm, time_s)

    def arms_to_check(self, key: SearchKey) -> tuple[SearchArm, ...]:
        """Return the arms that a check of a search measures besides the exact one."""
        with self._lock:
            return self.policy.arms_to_check(key)

    def learn(self, request: Request, key: SearchKey, check: SearchCheck) -> None:
        """Take in what a check found."""
        with self._lock:
            self._explored(request, check.time_s)
            self.policy.learn(key, check)

    def give_up(self, request: Request, key: SearchKey, time_s: float) -> None:
        """Take in that a check could not be finished."""
        with self._lock:
            self._explored(request, time_s)
            self.policy.give_up(key, time_s)

    def withdraw(self, arm: SearchArm) -> None:
        """Take in that the server refuses the settings of an arm."""
        with self._lock:
            self.policy.withdraw(arm.name)

    def without_iterative_scan(self) -> None:
        """Take in that the server's pgvector is older than 0.8."""
        for arm in search_arms("hnsw"):
            if "hnsw.iterative_scan" in arm.params.settings:
                self.withdraw(arm)

    # -- checks that wait ----------------------------------------------------------------------------------------------

    def check_later(self, asked: object) -> None:
        """Keep a search that is to be checked when a connection has no transaction open."""
        with self._lock:
            self._book.due.append(asked)

    @property
    def has_checks(self) -> bool:
        """True when searches wait to be checked."""
        return bool(self._book.due)

    def next_check(self) -> object | None:
        """Return a search that is to be checked, and forget it; None without one."""
        with self._lock:
            return self._book.due.popleft() if self._book.due else None

    def _explored(self, request: Request, time_s: float) -> None:
        account = self._account(request)
        account.explored_s += time_s
        self._ledger.wait(account, time_s)

    def _account(self, request: Request) -> Account:
        return self._ledger.account(request.fingerprint, request.statement.normalised)

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything learned; what was asked of the server is asked again."""
        return self.policy.state()

    def read(self, state: State) -> None:
        """Go on from `state`.

        Raises:
            StoreError: damaged.
        """
        share = self._config.exploration_share
        self.policy = SearchPolicy.from_state(state, self._config.vector, exploration_share=share)
