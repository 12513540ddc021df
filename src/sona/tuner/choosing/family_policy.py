"""Which settings statements are run with whose values hardly ever come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Self

from sona.config.tuner import TunerConfig
from sona.errors import StoreError
from sona.state import State
from sona.tuner.choosing.arms import SERVER, Arm, plan_arms
from sona.tuner.choosing.budget import Budget
from sona.tuner.choosing.choice import AS_SERVER, Choice, Purpose, in_force
from sona.tuner.choosing.family import CONTROL, ENOUGH, Family

_SPARED = 4  # one run in so many may be a trial
_TRIAL = 2.0  # of the server's own time: when a trial is given up


class FamilyPolicy:
    """A memory of fingerprints under the budget that statements share.

    Args:
        config: Settings.
        budget: What trying may cost, and what was spent.
        arms: What may be tried.
    """

    def __init__(self, config: TunerConfig, budget: Budget, arms: Sequence[Arm] | None = None) -> None:
        """Start without a memory."""
        self._config, self._budget = config, budget
        self._arms = tuple(plan_arms() if arms is None else arms)
        self._named = {arm.name: arm for arm in (SERVER, *self._arms)}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.families: OrderedDict[str, Family] = OrderedDict()

    def is_open(self, fingerprint: str, key: str) -> bool:
        """Return True when a statement is to be run as one of its family: its values are new, as nearly all are."""
        family = self.families.get(fingerprint)
        return family is not None and family.is_open and key not in self._seen

    def meet(self, fingerprint: str, key: str) -> None:
        """Count a statement, and whether its values were seen before."""
        family = self._family(fingerprint)
        if key in self._seen:
            family.repeats += 1
        else:
            family.fresh += 1
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > self._config.capacity:
            self._seen.popitem(last=False)

    def choose(self, fingerprint: str, *, barred: Collection[str] = ()) -> Choice:
        """Return what to run a statement of a family with."""
        family = self._family(fingerprint)
        if (trial := self._trial(family, barred)) is not None:
            return trial
        expected_s = family.typical_s(family.incumbent)
        is_affordable = family.longest_s - expected_s <= self._budget.balance_s
        if family.incumbent != SERVER.name and family.count % CONTROL == 0 and is_affordable:
            return Choice(SERVER, Purpose.CHECK, None, expected_s)
        return self.in_force(fingerprint)

    def in_force(self, fingerprint: str) -> Choice:
        """Return what to run a statement of a family with when nothing is tried."""
        family = self._family(fingerprint)
        if family.incumbent == SERVER.name:
            return AS_SERVER
        return in_force(self._named[family.incumbent], family.server_s, family.longest_s)

    def _trial(self, family: Family, barred: Collection[str]) -> Choice | None:
        runs = len(family.logs.get(SERVER.name, ()))
        if runs < ENOUGH or family.server_s < self._config.min_mean_s or family.count % _SPARED != 1:
            return None
        timeout_s = max(_TRIAL * family.server_s, family.longest_s)
        if family.kinds is None or timeout_s > self._budget.balance_s:
            return None
        for arm in self._arms:
            is_used = arm.name in family.closed or arm.name in barred or arm.name == family.incumbent
            if not is_used and arm.can_change(family.kinds):
                return Choice(arm, Purpose.TRIAL, timeout_s, family.typical_s(family.incumbent))
        return None

    def wants_plan(self, fingerprint: str, cost_s: float) -> bool:
        """Return True when a plan of the family is worth asking for, which costs about `cost_s`."""
        family = self._family(fingerprint)
        is_worth_it = len(family.logs.get(SERVER.name, ())) >= ENOUGH and family.server_s >= self._config.min_mean_s
        return family.kinds is None and is_worth_it and cost_s <= self._budget.balance_s

    def server_s(self, fingerprint: str) -> float:
        """Return what a statement of a family typically takes under the server's own choice, in seconds."""
        return self._family(fingerprint).server_s

    def describe(self, fingerprint: str, kinds: tuple[str, ...]) -> None:
        """Take in the kinds of operators in a plan of the family."""
        self._family(fingerprint).kinds = list(kinds)

    def finish(self, fingerprint: str, choice: Choice, time_s: float) -> None:
        """Take in a run that came to its end after `time_s`."""
        if choice.purpose in (Purpose.TRIAL, Purpose.CHECK):
            self._budget.explore(max(0.0, time_s - choice.expected_s))
        self._family(fingerprint).add(choice.arm.name, time_s)

    def overhear(self, fingerprint: str, time_s: float) -> None:
        """Take in what a statement of a family took under the server's own choice, when it ran by itself."""
        self._family(fingerprint).add(SERVER.name, time_s)

    def abandon(self, fingerprint: str, choice: Choice, wasted_s: float) -> None:
        """Take in that a run was given up after `wasted_s`."""
        self._budget.explore(wasted_s)
        self._family(fingerprint).cancel(choice.arm.name)

    def refuse(self, fingerprint: str, arm: Arm, why: str) -> None:
        """Take in that an arm cannot be used for a family."""
        self._family(fingerprint).close(arm.name, why)

    def _family(self, fingerprint: str) -> Family:
        if fingerprint not in self.families:
            self.families[fingerprint] = Family()
            if len(self.families) > self._config.capacity:
                self.families.popitem(last=False)
        self.families.move_to_end(fingerprint)
        return self.families[fingerprint]

    def state(self) -> State:
        """Return everything it knows."""
        return State(
            {
                "fingerprints": list(self.families),
                "families": [family.plain() for family in self.families.values()],
                "seen": list(self._seen),
            }
        )

    @classmethod
    def from_state(cls, state: State, config: TunerConfig, budget: Budget, arms: Sequence[Arm] | None = None) -> Self:
        """Return the policy that `state` came from.

        Raises:
            StoreError: damaged.
        """
        policy = cls(config, budget, arms)
        fingerprints, families = state.texts("fingerprints"), state.listing("families")
        if len(fingerprints) != len(families):
            raise StoreError("saved state: families of statements and their names do not match")
        policy.families = OrderedDict(zip(fingerprints, map(Family.from_plain, families), strict=True))
        if not {family.incumbent for family in policy.families.values()} <= set(policy._named):
            raise StoreError("saved state: an arm in force is not known")
        policy._seen = OrderedDict.fromkeys(state.texts("seen"))
        return policy
