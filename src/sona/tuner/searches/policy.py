"""Which way to run a nearest-neighbour search: the quickest of those that are known to find enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sona.checks import fraction, whole
from sona.config.tuner import VectorConfig
from sona.errors import InvalidValue, StoreError
from sona.state import State
from sona.tuner.searches.arms import EXACT, SearchArm, finds_no_more, search_arms
from sona.tuner.searches.belief import believe
from sona.tuner.searches.checks import CheckLog, Kind, SearchCheck, SearchKey
from sona.tuner.searches.ledger import Ledger
from sona.tuner.searches.report import SearchPattern, pattern
from sona.tuner.searches.verdict import Verdict, judge

_RIVALS = 2  # arms that a check measures besides the one in force
_LOOK_AGAIN = 8  # a check in so many measures an arm that was refused
_NEW_SHARE = 0.1  # of the searches by an arm that was checked seldom
_FAILURES = 2  # checks of a kind that may fail before it is no longer checked at once
_CACHED = 4096


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """How to run a search.

    Args:
        arm: What to run it with.
        is_check: True when it should be checked as well.
        reason: Why this arm, in words.
    """

    arm: SearchArm
    is_check: bool
    reason: str


class _Statement:
    """What is known of one statement, with one order of limits and one kind of index."""

    __slots__ = ("arms", "checked", "ledger", "log", "verdicts", "weaker")

    def __init__(self, arms: tuple[SearchArm, ...], log: CheckLog, ledger: Ledger) -> None:
        self.arms, self.log, self.ledger = arms, log, ledger
        self.verdicts: dict[Kind, Verdict] = {}
        self.checked = set(log.kinds())
        self.weaker = np.array([[finds_no_more(one, other) for other in arms] for one in arms])

    @classmethod
    def new(cls, arms: tuple[SearchArm, ...], config: VectorConfig) -> _Statement:
        return cls(arms, CheckLog(tuple(arm.name for arm in arms), config.window), Ledger(len(arms)))

    @property
    def has_choice(self) -> bool:
        return len(self.arms) > 1

    def place(self, arm: SearchArm) -> int:
        if arm not in self.arms:
            raise InvalidValue(f"arm: expected one of {', '.join(self.log.arms)}, got {arm.name!r}")
        return self.arms.index(arm)


class SearchPolicy:
    """Chooses how searches run: at the least time among the arms whose recall is at its target.

    Per kind of search - statement, size of the filter, fit of the query, filter value - an arm is admitted when the
    lower bound of its mean recall, as checks have shown it, is at the target; the exact search always is. The
    quickest admitted arm runs. Until enough is known of a kind the server's own choice runs, and its searches are
    checked at once. Nothing here reads a clock or a server: times are told, chance is an argument.

    Args:
        config: Settings.
        exploration_share: Most of the time of searches that checks after the first ones may take, per statement.
        capacity: Statements kept; the one asked longest ago goes first.

    Raises:
        InvalidValue: a share outside [0, 1] or a capacity below 1.

    >>> choice = SearchPolicy().choose(SearchKey("nearest"), np.random.default_rng(0))
    >>> choice.arm.name, choice.is_check, choice.reason
    ('default', True, 'too little is known of such searches')
    """

    def __init__(
        self,
        config: VectorConfig | None = None,
        *,
        exploration_share: float = 0.05,
        capacity: int = 10_000,
    ) -> None:
        """Begin without any knowledge."""
        self._config = VectorConfig() if config is None else config
        self._share = fraction(exploration_share, "exploration_share")
        self._capacity = whole(capacity, "capacity", 1)
        self._statements: dict[tuple[str, int, str], _Statement] = {}
        self._withdrawn: frozenset[str] = frozenset()

    def choose(self, key: SearchKey, rng: np.random.Generator) -> SearchChoice:
        """Return how to run this search, and whether to check it."""
        statement = self._statement(key)
        if not statement.has_choice:
            return SearchChoice(statement.arms[0], False, "no index on the distance: there is nothing to choose")
        verdict = self._verdict(statement, key.kind)
        is_check = self._is_check(statement, key, verdict, rng)
        return SearchChoice(statement.arms[verdict.place], is_check, verdict.reason)

    def arms_to_check(self, key: SearchKey) -> tuple[SearchArm, ...]:
        """Return the arms that a check of this search measures besides the exact one, in the order to run them.

        The one in force, and up to two that may become it. One check in eight looks again at one that was refused.
        """
        statement = self._statement(key)
        if not statement.has_choice:
            return ()
        verdict, turn = self._verdict(statement, key.kind), statement.ledger.checks
        places = list(dict.fromkeys((verdict.place, *verdict.rivals[:_RIVALS])))
        is_idle = statement.arms[verdict.place] == EXACT and not verdict.rivals
        if verdict.refused and (is_idle or turn % _LOOK_AGAIN == _LOOK_AGAIN - 1):
            again = verdict.refused[(turn + turn // _LOOK_AGAIN) % len(verdict.refused)]
            places = [*places[:_RIVALS], again]
        measured = [statement.arms[place] for place in places if statement.arms[place] != EXACT]
        first = turn % len(measured) if measured else 0  # the first to run finds less in memory
        return tuple(measured[first:] + measured[:first])

    def observe(self, key: SearchKey, arm: SearchArm, time_s: float) -> None:
        """Count a search that ran: with which arm, and the seconds it took.

        Raises:
            InvalidValue: an arm that this search does not have, or a time that is negative or not finite.
        """
        statement = self._statement(key)
        place = statement.place(arm)
        is_early = statement.has_choice and self._verdict(statement, key.kind).is_open
        statement.ledger.served(key.kind, place, time_s, is_early=is_early)

    def learn(self, key: SearchKey, check: SearchCheck) -> None:
        """Take in what a check found.

        Raises:
            InvalidValue: an arm that this search does not have; nothing changes.
        """
        statement = self._statement(key)
        if not statement.has_choice:
            raise InvalidValue("check: this search has no index on the distance, there is nothing to check")
        is_first = self._is_early(statement, key.kind, self._verdict(statement, key.kind))
        statement.log.add(key.kind, check)
        statement.ledger.checked(check.time_s, is_first=is_first)
        statement.checked.add(key.kind)
        statement.verdicts.clear()

    def give_up(self, key: SearchKey, time_s: float) -> None:
        """Count a check that could not be finished; after two, such searches are no longer checked at once."""
        self._statement(key).ledger.gave_up(key.kind, time_s)

    def withdraw(self, arm_name: str) -> None:
        """Choose this arm no more, since the server refuses its settings; its own choice cannot be withdrawn."""
        self._withdrawn |= {arm_name}
        for statement in self._statements.values():
            statement.verdicts.clear()

    def report(self) -> tuple[SearchPattern, ...]:
        """Return, per statement, fit and size, what is chosen for a filter value not seen yet, and why."""
        return tuple(
            pattern(name[0], statement.arms, self._verdict(statement, counted[0]), statement.log, counted)
            for name, statement in self._statements.items()
            if statement.has_choice
            for counted in statement.ledger.kinds()
        )

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _statement(self, key: SearchKey) -> _Statement:
        limits = -1 if key.limit is None else math.ceil(math.log2(max(key.limit, 1)))
        name = (key.fingerprint, limits, key.index_kind)
        found = self._statements.pop(name, None)
        if found is None:
            found = _Statement.new(search_arms(key.index_kind), self._config)
            while len(self._statements) >= self._capacity:
                del self._statements[next(iter(self._statements))]
        self._statements[name] = found
        return found

    def _verdict(self, statement: _Statement, kind: Kind) -> Verdict:
        if kind not in statement.checked:
            kind = replace(kind, value=-1)  # all values that were not checked are judged alike
        if kind not in statement.verdicts:
            if len(statement.verdicts) >= _CACHED:
                statement.verdicts.clear()
            usable = [place == 0 or arm.name not in self._withdrawn for place, arm in enumerate(statement.arms)]
            belief = believe(statement.log, kind, self._config.half_life)
            statement.verdicts[kind] = judge(belief, statement.weaker, np.array(usable), self._config)
        return statement.verdicts[kind]

    def _is_early(self, statement: _Statement, kind: Kind, verdict: Verdict) -> bool:
        # Whether a check now would be one of the first ones: of a new kind, or of an arm that was checked seldom.
        if statement.ledger.tally(kind).failures >= _FAILURES:
            return False
        if verdict.is_open and verdict.belief.checks[0] < self._config.first_checks:
            return True
        return (verdict.is_promising or verdict.is_new) and statement.ledger.has_early_time()

    def _is_check(self, statement: _Statement, key: SearchKey, verdict: Verdict, rng: np.random.Generator) -> bool:
        if self._is_early(statement, key.kind, verdict):
            return verdict.is_open or verdict.is_promising or bool(rng.random() < _NEW_SHARE)
        if not self.arms_to_check(key) or not statement.ledger.affords(self._share):
            return False
        return bool(rng.random() < (self._config.open_share if verdict.rivals else self._config.check_share))

    # -- saving ------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything it has learned."""
        names = [f"{limits} {kind} {fingerprint}" for fingerprint, limits, kind in self._statements]
        children = {
            f"statement_{row}": State({"log": one.log.state(), "ledger": one.ledger.state()})
            for row, one in enumerate(self._statements.values())
        }
        return State({"names": names, "withdrawn": sorted(self._withdrawn), **children})

    @classmethod
    def from_state(
        cls,
        state: State,
        config: VectorConfig | None = None,
        *,
        exploration_share: float = 0.05,
        capacity: int = 10_000,
    ) -> SearchPolicy:
        """Return the policy that `state` holds, with these settings; raises StoreError when it is damaged."""
        policy = cls(config, exploration_share=exploration_share, capacity=capacity)
        policy._withdrawn = frozenset(state.texts("withdrawn"))
        for row, text in enumerate(state.texts("names")):
            name = _name(text)
            arms, child = _arms(name[2]), state.child(f"statement_{row}")
            log = CheckLog.from_state(child.child("log"), tuple(arm.name for arm in arms), policy._config.window)
            policy._statements[name] = _Statement(arms, log, Ledger.from_state(child.child("ledger"), len(arms)))
        return policy


def _name(text: str) -> tuple[str, int, str]:
    limits, _, rest = text.partition(" ")
    kind, _, fingerprint = rest.partition(" ")
    try:
        return fingerprint, int(limits), kind
    except ValueError:
        raise StoreError(f"saved state: {text[:40]!r} is not the name of a statement") from None


def _arms(index_kind: str) -> tuple[SearchArm, ...]:
    try:
        return search_arms(index_kind)
    except InvalidValue as error:
        raise StoreError(f"saved state: {error}") from None
