"""One guard for everything that learns: who sees what was learned, whether it helps, and how much it may cost.

The guard decides for each unit which answer it is shown, hears how that went, and from this alone estimates what
learning changes, limits how much is shown, and raises an alarm when a version does harm. It is deterministic: the
same calls in the same order give the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sona.checks import finite, fraction, whole
from sona.config import GUARD_MODES, GuardConfig
from sona.errors import InvalidValue, StoreError
from sona.guard.comparison import Lift, Testimony
from sona.guard.evidence import Evidence
from sona.guard.exposure import PROBE, SPENT, UNPROVEN, Account, exposure_within
from sona.guard.holdout import Arm, Assignment, assigned, draw, name_of
from sona.guard.influence import Influence
from sona.guard.report import ArmReport, Report, Verdict, verdict_of
from sona.guard.trial import Expected, Trial
from sona.state import State

_REFRESH = 20  # compared outcomes between two looks at the budget
_BAD_KEPT = 1000
_PATTERNS_SHOWN = 10
_NOTHING = Expected(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """One request with its outcome, as it is told to the guard.

    Args:
        unit: Who or what was assigned.
        arm: What was shown.
        exposure: Propensity of the learned arm when it was assigned.
        is_compared: Whether the assignment said so.
        is_identical: Whether both lists were the same.
        quality: What the shown list earned, in [0, 1].
        common: The part of it that the beginning both lists share earned; see `list_quality`.
        at: Seconds since the epoch.
        pattern_id: The pattern of the request, if any.
        latency_us: Time the request took, microseconds.
        learning_us: The part of it spent on what was learned.
        version: Version in force when it was answered.
        prefix: Items that both lists begin with; 0 where the quality is not that of a list.

    Raises:
        InvalidValue: a value outside its range, or a quality that such a list cannot have.
    """

    unit: str
    arm: Arm
    exposure: float
    is_compared: bool
    is_identical: bool
    quality: float
    common: float
    at: float
    pattern_id: int | None = None
    latency_us: float = 0.0
    learning_us: float = 0.0
    version: int = 0
    prefix: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        quality, common = fraction(self.quality, "quality"), fraction(self.common, "common")
        exposure = fraction(self.exposure, "exposure")
        whole(self.prefix, "prefix", 0)
        for name in ("at", "latency_us", "learning_us"):
            finite(getattr(self, name), name)
        if not 0.0 <= quality - common <= 1.0 / (self.prefix + 1) + 1e-9:
            raise InvalidValue(
                f"quality: {quality} with {common} of it common is no quality beyond {self.prefix} items"
            )
        if self.is_compared and (exposure == 1.0 or (exposure == 0.0 and self.arm is Arm.LEARNED)):
            raise InvalidValue(f"exposure: {exposure} leaves nothing to compare the {self.arm.value} answer with")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the guard makes of an observation.

    Args:
        testimony: To be given back when the outcome is amended.
        is_worse: True when the version in force was just found worse than frozen answers, and should go.
        reason: Why.
    """

    testimony: Testimony
    is_worse: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Policy:
    # What `assign` goes by; published by swapping one reference.
    exposure: float
    holdout: float
    is_comparing: bool


class Guard:
    """Decides who sees what was learned, and finds out whether that helps.

    Args:
        config: Settings.
        key: Secret of the assignment, 1 to 64 bytes.
    """

    def __init__(self, config: GuardConfig, key: bytes) -> None:
        """Start without evidence."""
        self.config = config
        self._key = key
        self._mode = config.mode
        self.evidence = Evidence(_reach(config), config.alpha)
        self.influence = Influence(config)
        self._bad: dict[int, None] = {}
        self.requests = 0
        self.known = 0
        self.rollback_count = 0
        self.rejected_count = 0
        self.last_rejected = 0
        self._exposure = 0.0
        self._renew()

    # -- serving -------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """One of `off`, `shadow`, `canary` and `on`."""
        return self._mode

    def set_mode(self, mode: str) -> None:
        """Switch to another mode at once.

        Raises:
            InvalidValue: there is no such mode.
        """
        if mode not in GUARD_MODES:
            raise InvalidValue(f"mode: expected one of {', '.join(GUARD_MODES)}, got {mode!r}")
        self._mode = mode
        self._renew()

    @property
    def exposure(self) -> float:
        """Share of requests that are shown what was learned."""
        return self._policy.exposure

    def assign(self, unit: str) -> Assignment:
        """Return what a unit is shown now; takes no lock and counts nothing."""
        policy = self._policy
        if policy.is_comparing:
            return assigned(draw(self._key, unit), policy.exposure, policy.holdout)
        is_learned = policy.exposure > 0.0 and draw(self._key, unit) >= 1.0 - policy.exposure
        return Assignment(Arm.LEARNED if is_learned else Arm.FROZEN, policy.exposure, False, is_compared=False)

    def served(self, arm: Arm, *, is_compared: bool) -> None:
        """Count a request that was answered."""
        self.requests += 1
        if is_compared:
            self.evidence.answered.serve(int(arm is Arm.LEARNED))
        if self.requests == self.config.warm_up:
            self._renew()

    def _renew(self) -> None:
        self._exposure = 1.0
        if self.config.budget < 1.0 and self.config.holdout > 0.0:
            most = 1.0 - self.config.holdout
            self._exposure = exposure_within(self.account(), most if self._is_proven() else min(most, UNPROVEN))
        if self.evidence.watch.is_alarmed:
            self._exposure = min(self._exposure, PROBE)
        self._policy = self._policy_now()

    def _is_proven(self) -> bool:
        return self.evidence.whole.lift(self.config.alpha).low > 0.0

    def _policy_now(self) -> _Policy:
        most = self.config.canary if self._mode == "canary" else 1.0
        if self._mode in ("off", "shadow"):
            return _Policy(0.0, 0.0, is_comparing=False)
        if self.requests < self.config.warm_up:
            return _Policy(float(self._mode == "on"), 0.0, is_comparing=False)
        if self.config.holdout == 0.0:
            return _Policy(most, 0.0, is_comparing=False)
        reach = self.evidence.exposed.reach  # of the holdout the comparison was begun with
        most = min(most, 1.0 - self.config.holdout, reach / (1.0 + reach))
        return _Policy(min(self._exposure, most), self.config.holdout, is_comparing=True)

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def observe(self, observation: Observation, earlier: Testimony | None = None) -> Heard:
        """Hear how a request went; with the testimony of before, hear it again with another outcome.

        Args:
            observation: The request and its outcome.
            earlier: What hearing it before returned. Then its quality and common alone may differ, and a surplus
                beyond what its lists could earn counts as the most they could.
        """
        if earlier is not None:
            return Heard(self._amend(observation, earlier))
        self.evidence.latency.add(observation.latency_us, observation.learning_us)
        self.known += observation.is_compared or observation.exposure > 0.0
        if not observation.is_compared:
            return Heard(Testimony(_trial(observation, 0, 0), _NOTHING, _NOTHING))
        name = name_of(self._key, observation.unit)
        trial = _trial(observation, name, self.evidence.visits.count(name))
        testimony = self.evidence.observe(
            trial, pattern_id=observation.pattern_id, version=observation.version, at=observation.at
        )
        reason = self.evidence.watch.alarm(is_spent=self._exposure <= SPENT)
        if reason is not None or self.evidence.whole.trials % _REFRESH == 0:
            self._renew()
        return Heard(testimony, reason is not None, reason or "")

    def _amend(self, observation: Observation, earlier: Testimony) -> Testimony:
        old = earlier.trial
        common = max(observation.common, observation.quality - 1.0 / (old.prefix + 1))
        new = replace(old, quality=observation.quality, common=common)
        if old.visit and new != old:
            self.evidence.amend(new, earlier)
        return replace(earlier, trial=new)

    # -- versions ------------------------------------------------------------------------------------------------------

    def began_version(self, version: int) -> None:
        """Watch over `version`, which is in force from now on."""
        self.evidence.watch.begin(version)
        self._renew()

    def condemn(self, version: int) -> None:
        """Count a version that was found worse and rolled back; it is bad from now on."""
        self._bad.pop(version, None)
        self._bad[version] = None
        self.rollback_count += 1
        if len(self._bad) > _BAD_KEPT:
            del self._bad[next(iter(self._bad))]

    def is_bad(self, version: int) -> bool:
        """Return True when `version` was found worse before."""
        return version in self._bad

    def rejected(self, version: int) -> None:
        """Count a candidate for `version` that was rejected before it was ever in force."""
        self.last_rejected = version
        self.rejected_count += 1

    # -- what is known -------------------------------------------------------------------------------------------------

    def account(self) -> Account:
        """Return where the budget stands."""
        exposed = self.evidence.exposed
        return Account(
            known=self.known,
            frozen_quality=self.evidence.policies.means.predicted(0)[1],
            gain=exposed.total,
            error=exposed.error,
            noise=exposed.noise,
            budget=self.config.budget,
            least=self.config.budget_requests,
            alpha=self.config.alpha,
        )

    def report(self) -> Report:
        """Return what is known now: the verdict, and what it rests on."""
        evidence, alpha = self.evidence, self.config.alpha
        lift = evidence.whole.lift(alpha)
        verdict = verdict_of(lift)
        return Report(
            verdict=verdict,
            reasons=self._reasons(lift) if verdict is Verdict.NO_EVIDENCE else (),
            lift=lift,
            gain=evidence.exposed.gain(alpha / 2.0, alpha / 2.0),
            alpha=alpha,
            learned=self._arm(1),
            frozen=self._arm(0),
            mode=self._mode,
            exposure=self.exposure,
            holdout=self.config.holdout,
            requests=self.requests,
            required=evidence.whole.required(alpha, self.exposure) if self._policy.is_comparing else None,
            patterns=evidence.patterns.lifts(alpha, _PATTERNS_SHOWN),
            patterns_compared=len(evidence.patterns),
            latency=evidence.latency.mean(),
            version=evidence.watch.version,
            rollbacks=self.rollback_count,
            rejected=self.rejected_count,
            last_rejected=self.last_rejected,
            limited=self.influence.limited_count,
            budget=self.config.budget,
            budget_used=self.account().used,
            warnings=self._warnings(),
            curve=evidence.curve.points,
        )

    def _arm(self, arm: int) -> ArmReport:
        answered, policies = self.evidence.answered, self.evidence.policies
        mean, value = policies.means.mean(arm), policies.value(arm)
        return ArmReport(answered.served[arm], answered.answered[arm], answered.share(arm), mean, value)

    def _reasons(self, lift: Lift) -> tuple[str, ...]:
        if self._mode in ("off", "shadow"):
            return (f"mode {self._mode}: every request is answered frozen, nothing is compared",)
        if self.config.holdout == 0.0:
            return ("nothing is held out, so there is nothing to compare with",)
        if self.requests < self.config.warm_up:
            return (f"warming up: comparing begins after {self.config.warm_up} requests, {self.requests} were served",)
        if not lift.trials:
            return ("no compared request has an outcome yet",)
        reasons = ["the interval includes 0: the difference may be chance"]
        if not all(self.evidence.answered.answered):
            reasons.append("one of the two answers has no outcome yet")
        return tuple(reasons)

    def _warnings(self) -> tuple[str, ...]:
        warnings = []
        if self.evidence.answered.is_uneven:
            warnings.append("the two answers earn feedback unevenly often, beyond chance: the lift may mislead")
        if self.evidence.watch.is_alarmed:
            warnings.append(f"version {self.evidence.watch.version} was found worse than frozen answers")
        return tuple(warnings)

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything needed to come back bit for bit, the key among it."""
        return State(
            {
                "key": self._key.hex(),
                "mode": self._mode,
                "evidence": self.evidence.state(),
                "influence": self.influence.state(),
                "bad": list(self._bad),
                "requests": self.requests,
                "known": self.known,
                "rollbacks": self.rollback_count,
                "rejected": self.rejected_count,
                "last_rejected": self.last_rejected,
                "exposure": self._exposure,
            }
        )

    @classmethod
    def from_state(cls, state: State, config: GuardConfig) -> Guard:
        """Return the guard that `state` was taken from, in the mode it was in.

        With a smaller holdout than before, no more is exposed than the old one allowed.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        mode, bad = state.text("mode"), state.listing("bad")
        try:
            guard = cls(config, bytes.fromhex(state.text("key")))
        except ValueError as error:
            raise StoreError(f"saved state: the guard's key is damaged ({error})") from error
        if mode not in GUARD_MODES or not all(isinstance(version, int) for version in bad):
            raise StoreError("saved state: the guard's mode or versions are damaged")
        guard._mode, guard._bad = mode, {int(str(version)): None for version in bad}
        guard.evidence = Evidence.from_state(state.child("evidence"), config.alpha)
        guard.influence = Influence.from_state(state.child("influence"), config)
        guard.requests, guard.known = state.whole("requests"), state.whole("known")
        guard.rollback_count, guard.rejected_count = state.whole("rollbacks"), state.whole("rejected")
        guard.last_rejected = state.whole("last_rejected")
        guard._exposure = state.number("exposure")
        guard._policy = guard._policy_now()
        return guard


def _reach(config: GuardConfig) -> float:
    return 1.0 if config.holdout == 0.0 else max(1.0, (1.0 - config.holdout) / config.holdout)


def _trial(observation: Observation, name: int, visit: int) -> Trial:
    return Trial(
        unit=name,
        visit=visit,
        is_learned=observation.arm is Arm.LEARNED,
        exposure=observation.exposure,
        quality=observation.quality,
        common=observation.common,
        prefix=observation.prefix,
        is_identical=observation.is_identical,
    )
