"""Which settings a statement is run with: the server's own unless others were faster on it, and what is tried next.

Pure: it is told what happened and says what to do; who runs statements is `sona.tuner.session`.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from sona.config.tuner import TunerConfig
from sona.errors import StoreError
from sona.state import State
from sona.tuner.choosing.arms import SERVER, Arm, plan_arms
from sona.tuner.choosing.budget import Budget
from sona.tuner.choosing.choice import AS_SERVER, Choice, Purpose, in_force
from sona.tuner.choosing.odds import RATIOS, ArmOdds, Case
from sona.tuner.choosing.unit import PlanNote, Unit
from sona.tuner.choosing.wants import Trial, Want, Wants

_ENOUGH = 2  # runs under the server's own choice before anything else is tried
_WORSE, _WORSE_S = 1.25, 0.002  # slower than the server's own choice by both: a strike against what is in force
_STRIKES = 2
_CHANGED = 2.0  # the server's own time changed by this factor: what was found out is out of date
_LATE = 3.0  # times of what usually lies between two runs of a statement, after which it is not waited for
_FURTHER = 1.3  # an arm that was given up is tried again only with so much more time
_LEAST_HOPE = 0.01  # no arm is hoped to take a smaller share of the time
_SHORT_OF = 0.9  # of what a round has room for
_SHORTEST_S = 1e-6  # a statement below it is not worth a thought
_EXPLAIN_S = 0.0015  # what asking for a plan is expected to cost, until it was seen
_EXPLAIN_SHARE = 0.05  # of the time a statement took so far: what asking for its plan may cost


__all__ = ["Choice", "PlanPolicy", "Purpose"]


class PlanPolicy:
    """A memory of statements under a budget.

    A statement is run as the server likes until it is known and worth trying on. A trial hopes for a share of the
    time of what is in force and is given up after it, so that it costs no more than that; short hopes come first, and
    of all statements and arms those with the greatest expected gain for their cost. What wins a trial is in force
    from then on, and is given up when it is slower than the server's own choice.

    Args:
        config: Settings.
        arms: What may be tried.
    """

    def __init__(self, config: TunerConfig | None = None, arms: Sequence[Arm] | None = None) -> None:
        """Start without a memory: everything is the server's choice."""
        self.config = config or TunerConfig()
        self.arms = tuple(plan_arms() if arms is None else arms)
        self._named = {arm.name: arm for arm in (SERVER, *self.arms)}
        self.budget = Budget(self.config.exploration_share)
        self.odds = ArmOdds(self.config.dag.hidden_dim)
        self.units: OrderedDict[str, Unit] = OrderedDict()
        self.barred: dict[str, str] = {}
        self._changes: dict[str, bool] = {}  # whether an arm changes a plan of a fingerprint and a shape
        self.trials = self.wins = 0
        self.round_s = self.saved_s = 0.0
        """Seconds that every statement once takes under the server's own choice, and what is saved of them."""
        self.explain_s = _EXPLAIN_S
        """Seconds that asking for a plan takes here."""
        self._runs = 0
        self._wanted = Wants()
        self._usual = 0.0  # log of seconds per planner unit that is usual here
        self._rates: dict[str, float] = {}

    # -- choosing ------------------------------------------------------------------------------------------------------

    def choose(self, key: str) -> Choice:
        """Return what to run the statement `key` with; the server's own choice for one that is not known."""
        unit = self.units.get(key)
        if unit is None:
            return AS_SERVER
        if (trial := self._affordable(key, unit)) is not None:
            return Choice(self._named[trial.arm], Purpose.TRIAL, trial.timeout_s, unit.incumbent_s)
        if unit.incumbent != SERVER.name and unit.count >= unit.next_check and self.budget.room_s >= unit.saved_s:
            return Choice(SERVER, Purpose.CHECK, None, unit.incumbent_s)
        return self.in_force(key)

    def in_force(self, key: str) -> Choice:
        """Return what to run the statement `key` with when nothing is tried."""
        unit = self.units.get(key)
        if unit is None or unit.incumbent == SERVER.name:
            return AS_SERVER
        return in_force(self._named[unit.incumbent], unit.server_s, unit.server_s)

    def wants_plan(self, key: str) -> bool:
        """Return True when the server's own plan of the statement is worth asking for, and can be afforded."""
        unit = self.units.get(key)
        if unit is None or unit.note is not None or not self._is_worth_it(unit):
            return False
        return self.explain_s <= min(self.budget.room_s, _EXPLAIN_SHARE * unit.count * unit.server_s)

    def _is_worth_it(self, unit: Unit) -> bool:
        server = unit.times.get(SERVER.name)
        return (
            server is not None
            and server.count >= _ENOUGH
            and server.typical_s >= max(_SHORTEST_S, self.config.min_mean_s)
        )

    def _affordable(self, key: str, unit: Unit) -> Trial | None:
        # What is worth most is saved up for: others may use what is left beside it.
        room_s = self.budget.room_s
        is_out_of_reach = room_s <= min(self._hopes(unit), default=RATIOS[0]) * unit.incumbent_s
        if unit.note is None or (is_out_of_reach and key in self._wanted) or not self._is_worth_it(unit):
            return None
        trial = self._next_trial(key, unit)
        if trial is None:
            return None
        best = self._wanted.best(self._is_awaited)
        is_saved_up_for = best is not None and best.score > trial.score and best.cost_s <= self.budget.limit_s
        reserve_s = best.cost_s if best is not None and is_saved_up_for else 0.0
        return trial if trial.cost_s <= room_s - reserve_s else None

    def _is_awaited(self, key: str) -> bool:
        # As long as a statement is not much later than it usually comes: what never comes again cannot be tried on.
        unit = self.units.get(key)
        return unit is not None and self._runs - unit.last <= _LATE * unit.gap

    def _next_trial(self, key: str, unit: Unit) -> Trial | None:
        versions = self.odds.version, len(unit.closed) + len(unit.censored) + unit.rollbacks
        kept = self._wanted.get(key)
        if kept is None or kept.versions != versions or unit.count % 8 == 0:
            trials = [one for arm in self._open(unit) for one in self._trials(unit, arm)]
            kept = Want(versions, max(trials, key=lambda one: one.score, default=None))
            self._wanted.put(key, kept)
        return kept.trial

    def _open(self, unit: Unit) -> Iterator[Arm]:
        if unit.note is None:
            return
        for arm in self.arms:
            if arm.name not in unit.closed and arm.name not in self.barred and arm.name != unit.incumbent:
                if not arm.can_change(unit.note.kinds):
                    unit.closed[arm.name] = "cannot change the plan"
                elif not self._changes.get(_kind(unit, arm), True):
                    unit.closed[arm.name] = "the same plan for a statement like it"
                else:
                    yield arm

    def _hopes(self, unit: Unit) -> tuple[float, ...]:
        # Of a statement that makes up most of a round, what is hoped for is what the round has room for.
        most = _SHORT_OF * (self.budget.limit_s - self.explain_s) / max(unit.incumbent_s, _SHORTEST_S)
        return RATIOS if most >= RATIOS[0] else (most,) if most >= _LEAST_HOPE else ()

    def _trials(self, unit: Unit, arm: Arm) -> Iterator[Trial]:
        # The chance to end between where it was given up and the new limit, times what that saves, over the cost.
        chances = self.odds.chances(arm, self._case(unit))
        given_up_s = unit.censored.get(arm.name, 0.0)
        known = np.interp(given_up_s / unit.server_s, (0.0, *RATIOS), (0.0, *chances))
        for ratio in self._hopes(unit):
            timeout_s = ratio * unit.incumbent_s
            cost_s = timeout_s + self.explain_s
            if timeout_s <= _FURTHER * given_up_s or cost_s > self.budget.limit_s:
                continue
            chance = max(0.003, float(np.interp(timeout_s / unit.server_s, (0.0, *RATIOS), (0.0, *chances))) - known)
            gain_s = chance * unit.incumbent_s * (1.0 - 0.6 * ratio) * unit.count
            score = gain_s / ((1.0 - chance) * timeout_s + self.explain_s) * math.sqrt(unit.incumbent_s)
            yield Trial(arm.name, timeout_s, cost_s, score)

    def _case(self, unit: Unit) -> Case:
        note = unit.note
        if note is None:
            raise StoreError("a statement without its plan cannot be compared")
        surprise = math.log(unit.incumbent_s / max(note.cost, 1e-9)) - self._usual
        return Case(note.embedding, surprise, len(unit.censored))

    # -- learning ------------------------------------------------------------------------------------------------------

    def describe(self, key: str, note: PlanNote, cost_s: float) -> None:
        """Take in the server's own plan of a statement, which took `cost_s` to ask for."""
        self.asked(cost_s)
        if (unit := self.units.get(key)) is None:
            return
        unit.note, unit.settled_s = note, unit.server_s
        unit.shapes[SERVER.name] = note.shape
        self._rates[key] = math.log(max(unit.server_s, 1e-9) / max(note.cost, 1e-9))
        self._usual = statistics.median(self._rates.values())

    def is_new_plan(self, key: str, arm: Arm, shape: str, cost_s: float) -> bool:
        """Take in the plan of an arm; return False when it is one that was seen under another, and need not run."""
        self.asked(cost_s)
        if (unit := self.units.get(key)) is None:
            return False
        same = next((other for other, seen in unit.shapes.items() if seen == shape and other != arm.name), None)
        if same is not None and not arm.acts_at_run_time:
            unit.closed[arm.name] = f"the same plan as {same}"
            self._changes[_kind(unit, arm)] = False
            return False
        unit.shapes[arm.name] = shape
        self._changes[_kind(unit, arm)] = True
        return True

    def knows_plan(self, key: str, arm: Arm) -> bool:
        """Return True when an arm's plan was asked for: for this statement, or one like it with the same plan."""
        unit = self.units.get(key)
        return unit is not None and (arm.name in unit.shapes or self._changes.get(_kind(unit, arm), False))

    def drop(self, key: str, cost_s: float) -> None:
        """Forget a statement that is left alone from now on, which took `cost_s` to find out."""
        if (unit := self.units.pop(key, None)) is not None:
            self._forget(key, unit)
        self.asked(cost_s)

    def server_s(self, key: str) -> float:
        """Return what a statement typically takes under the server's own choice, in seconds; 0 for one not known."""
        unit = self.units.get(key)
        return 0.0 if unit is None else unit.server_s

    def asked(self, cost_s: float) -> None:
        """Take in that asking for a plan took `cost_s`."""
        self.explain_s += 0.1 * (cost_s - self.explain_s)
        self.spend(cost_s)
        self.budget.explore(cost_s)

    def finish(self, key: str, fingerprint: str, choice: Choice, time_s: float) -> None:
        """Take in a run that came to its end after `time_s`, everything the application waited for in it."""
        self._runs += 1
        with self._changing(key, fingerprint) as unit:
            unit.add(choice.arm.name, time_s, self._runs)
            match choice.purpose:
                case Purpose.TRIAL:
                    self._tried(unit, choice, time_s)
                case Purpose.KNOWN if choice.arm.name == unit.incumbent:
                    self._watch(unit, time_s)
                case Purpose.CHECK:
                    self.budget.explore(max(0.0, time_s - choice.expected_s))
                    # A server that is faster now is measured again at once: it costs nothing.
                    unit.next_check = unit.count if time_s < unit.incumbent_s else 2 * unit.count
            self._compare(key, unit)
        self.spend(time_s)

    def _tried(self, unit: Unit, choice: Choice, time_s: float) -> None:
        self.trials += 1
        self.budget.explore(max(0.0, time_s - choice.expected_s))
        if unit.note is None:  # the statement has changed while this ran
            return
        self.odds.add(choice.arm.name, self._case(unit), time_s / unit.server_s)
        if choice.arm.name == unit.incumbent:
            return
        if time_s < unit.incumbent_s:
            if unit.incumbent != SERVER.name:
                unit.closed[unit.incumbent] = f"slower than {choice.arm.name}"
            unit.adopt(choice.arm.name)
            self.wins += 1
        else:
            unit.closed[choice.arm.name] = f"slower than {unit.incumbent}"

    def _watch(self, unit: Unit, time_s: float) -> None:
        is_worse = time_s > max(_WORSE * unit.server_s, unit.server_s + _WORSE_S)
        unit.strikes = unit.strikes + 1 if is_worse else 0

    def _compare(self, key: str, unit: Unit) -> None:
        if unit.incumbent != SERVER.name and (unit.strikes >= _STRIKES or unit.incumbent_s > unit.server_s):
            unit.give_up("slower than the server's own choice")
        known_s = unit.settled_s
        if known_s > 0.0 and not known_s / _CHANGED <= unit.server_s <= known_s * _CHANGED:
            unit.reopen()
            self._wanted.forget(key)

    def abandon(self, key: str, choice: Choice, wasted_s: float) -> None:
        """Take in that a run was given up after `wasted_s`; what the statement is run with instead ends by itself."""
        self.spend(wasted_s)
        self.budget.explore(wasted_s)
        if key not in self.units:
            return
        with self._changing(key, "") as unit:
            if choice.purpose is Purpose.KNOWN:
                if choice.arm.name == unit.incumbent:
                    unit.give_up("took much longer than the server's own choice")
                return
            self.trials += 1
            if unit.note is None:  # the statement has changed while this ran
                return
            unit.censored[choice.arm.name] = wasted_s
            self.odds.add(choice.arm.name, self._case(unit), wasted_s / unit.server_s, is_censored=True)
            if wasted_s >= RATIOS[-1] / _FURTHER * unit.incumbent_s:
                unit.closed[choice.arm.name] = f"slower than {unit.incumbent}"

    def refuse(self, key: str, arm: Arm, why: str, *, everywhere: bool = False, cost_s: float = 0.0) -> None:
        """Take in that an arm cannot be used, for this statement or on this server, which took `cost_s` to find out."""
        self.spend(cost_s)
        self.budget.explore(cost_s)
        if everywhere:
            self.barred[arm.name] = why
            self._wanted.clear()
        if (unit := self.units.get(key)) is not None:
            with self._changing(key, unit.fingerprint):
                if unit.incumbent == arm.name:
                    unit.give_up(why)
                unit.closed[arm.name] = why

    # -- sums ----------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self, key: str, fingerprint: str) -> Iterator[Unit]:
        unit = self.units.setdefault(key, Unit(fingerprint))
        self.units.move_to_end(key)
        self._count(unit, -1.0)
        try:
            yield unit
        finally:
            self._count(unit, 1.0)
            while len(self.units) > self.config.capacity:
                self._forget(*self.units.popitem(last=False))

    def _count(self, unit: Unit, sign: float) -> None:
        self.round_s += sign * unit.server_s
        self.saved_s += sign * max(0.0, unit.saved_s)

    def _forget(self, key: str, unit: Unit) -> None:
        self._count(unit, -1.0)
        self._wanted.forget(key)
        self._rates.pop(key, None)

    def spend(self, time_s: float) -> None:
        """Count time that the application waited."""
        self.budget.spend(time_s, round_s=self.round_s, saved_s=self.saved_s)

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything it knows."""
        width = self.config.dag.hidden_dim
        embeddings = [
            np.zeros(width, np.float32) if unit.note is None else unit.note.embedding for unit in self.units.values()
        ]
        return State(
            {
                "keys": list(self.units),
                "units": [unit.plain() for unit in self.units.values()],
                "embeddings": np.array(embeddings, np.float32).reshape(-1, width),
                "odds": self.odds.state(),
                "budget": self.budget.state(),
                "barred": dict(self.barred),
                "rates": dict(self._rates),
                "counts": [self.trials, self.wins, self._runs],
                "wanted": self._wanted.state(),
                "explain_s": self.explain_s,
                "usual": self._usual,
                "sums": [self.round_s, self.saved_s],
            }
        )

    @classmethod
    def from_state(cls, state: State, config: TunerConfig, arms: Sequence[Arm] | None = None) -> Self:
        """Return the policy that `state` came from.

        Raises:
            StoreError: damaged.
        """
        policy = cls(config, arms)
        keys, width = state.texts("keys"), config.dag.hidden_dim
        embeddings = state.floats("embeddings", len(keys), width)
        plain = state.listing("units")
        if len(plain) != len(keys):
            raise StoreError("saved state: statements and their names do not match")
        units = [Unit.from_plain(values, embeddings[row]) for row, values in enumerate(plain)]
        policy.units = OrderedDict(zip(keys, units, strict=True))
        if not {unit.incumbent for unit in units} <= set(policy._named):
            raise StoreError("saved state: an arm in force is not known")
        policy.odds = ArmOdds.from_state(state.child("odds"), width)
        policy.budget = Budget.from_state(state.child("budget"), config.exploration_share)
        policy._wanted = Wants.from_state(state.child("wanted"))
        if not policy._wanted.arms <= set(policy._named):
            raise StoreError("saved state: an arm that is to be tried is not known")
        policy.explain_s, policy._usual = state.number("explain_s"), state.number("usual")
        try:
            policy._read_sums(state)
        except (TypeError, ValueError) as error:
            raise StoreError("saved state: sums of the tuner are damaged") from error
        return policy

    def _read_sums(self, state: State) -> None:
        self.barred = {arm: str(why) for arm, why in state.mapping("barred").items()}
        self._rates = {key: float(str(rate)) for key, rate in state.mapping("rates").items()}
        self.trials, self.wins, self._runs = (int(str(one)) for one in state.listing("counts"))
        self.round_s, self.saved_s = (float(str(one)) for one in state.listing("sums"))


def _kind(unit: Unit, arm: Arm) -> str:
    shape = "" if unit.note is None else unit.note.shape
    return f"{unit.fingerprint} {shape} {arm.name}"
