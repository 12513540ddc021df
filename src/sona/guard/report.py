"""The verdict on what was learned, and everything it rests on: as a record, as JSON, as one screen of text."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from sona.guard.by_pattern import PatternLift
from sona.guard.comparison import Lift
from sona.guard.curve import Point
from sona.guard.latency import MeanLatency
from sona.guard.offpolicy import Estimate, PolicyValue
from sona.guard.sequence import Bounds
from sona.state import Plain


class Verdict(enum.StrEnum):
    """Whether learned answers are better than frozen ones, as far as the evidence goes."""

    IMPROVED = "improved"
    NO_EVIDENCE = "no evidence"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What is known of the requests shown one of the two answers, among those compared.

    Args:
        served: Requests answered.
        answered: Those with a known outcome.
        answered_share: Their share; None before the first request.
        mean_quality: Plain mean of their quality; None before the first outcome.
        value: What this policy would earn per request if it answered alone.
    """

    served: int
    answered: int
    answered_share: float | None
    mean_quality: float | None
    value: PolicyValue


@dataclass(frozen=True, slots=True)
class Report:
    """Is it better, and what does it cost.

    Args:
        verdict: Whether the interval of the lift excludes 0, and on which side.
        reasons: Why there is no evidence, in words; empty when there is.
        lift: The lift and its interval, valid whenever one looks.
        gain: What learned answers have gained in all, in quality, with an interval of the same level.
        alpha: Level of each interval.
        learned: The learned arm.
        frozen: The frozen arm.
        mode: Mode of the guard.
        exposure: Share of requests that are shown what was learned, now.
        holdout: Share of units held out.
        requests: Requests served, all together.
        required: How many more compared outcomes would show the observed lift; None when it is shown, when there is
            none, or when none would do.
        patterns: Lifts of the most active patterns, each at level alpha over `patterns_compared`.
        patterns_compared: Patterns with a comparison of their own.
        latency: Mean times; None before the first outcome.
        version: Version in force.
        rollbacks: Versions found worse and rolled back.
        rejected: Candidates rejected before they were in force.
        last_rejected: The version the last of them would have been; 0 for none.
        limited: Lessons refused because their subject gave more than its share.
        budget: Share of what frozen answers earn that learned ones may cost.
        budget_used: Share of the budget that may be used up, by the bound on the loss.
        warnings: What else to know before believing the lift.
        curve: The lift over time.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    lift: Lift
    gain: Bounds
    alpha: float
    learned: ArmReport
    frozen: ArmReport
    mode: str
    exposure: float
    holdout: float
    requests: int
    required: int | None
    patterns: tuple[PatternLift, ...]
    patterns_compared: int
    latency: MeanLatency | None
    version: int
    rollbacks: int
    rejected: int
    last_rejected: int
    limited: int
    budget: float
    budget_used: float
    warnings: tuple[str, ...]
    curve: tuple[Point, ...]

    def __str__(self) -> str:
        """Return the report as text."""
        return self.as_text()

    def as_json(self) -> dict[str, Plain]:
        """Return the report as plain values by name."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def as_text(self) -> str:
        """Return the report on one screen."""
        lines = [f"{self.verdict.value}: {_interval(self.lift, self.alpha)}"]
        lines += [f"  {reason}" for reason in self.reasons]
        if self.required is not None:
            lines.append(f"  about {self.required:,} more outcomes would show this lift, if it stays")
        if self.lift.trials:
            gain = f"{self.gain.total:+.1f} [{self.gain.low:+.1f}, {self.gain.high:+.1f}]"
            lines.append(f"  in all, learned answers gained {gain} in quality")
        lines += ["", f"  {'':9}{'served':>9}{'answered':>10}{'quality':>9}{'IPS':>16}{'SNIPS':>16}{'DR':>16}"]
        lines += [_arm("learned", self.learned), _arm("frozen", self.frozen)]
        lines += ["  (IPS, SNIPS, DR: value if it answered alone, with plain standard errors)", "", *self._standing()]
        if self.patterns:
            lines += ["", f"  lift by pattern, each at level {self.alpha:g} / {self.patterns_compared}"]
            lines += [f"  {row.pattern_id:>8}  {_interval(row.lift, None)}" for row in self.patterns]
        if self.warnings:
            lines += ["", *(f"  warning: {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def _standing(self) -> list[str]:
        last = f" (last: {self.last_rejected})" if self.rejected else ""
        lines = [
            f"  mode {self.mode}; version {self.version}; {self.requests:,} requests; shown what was learned: "
            f"{self.exposure:.1%}; held out: {self.holdout:.1%}",
            f"  rolled back: {self.rollbacks}; rejected candidates: {self.rejected}{last}; "
            f"limited lessons: {self.limited}",
        ]
        if self.holdout > 0.0:
            limit = (
                "no limit" if self.budget >= 1.0 else f"{self.budget:.1%}, at worst {self.budget_used:.0%} of it used"
            )
            lines.append(f"  loss allowed against frozen answers: {limit}")
        if self.latency is not None:
            took, without = self.latency.with_learning_us, self.latency.without_learning_us
            lines.append(f"  a request takes {took:,.0f} us on average, {without:,.0f} us without learning")
        return lines


def verdict_of(lift: Lift) -> Verdict:
    """Return what a lift's interval says: it excludes 0 above, below, or not at all."""
    if lift.low > 0.0:
        return Verdict.IMPROVED
    return Verdict.WORSE if lift.high < 0.0 else Verdict.NO_EVIDENCE


def _interval(lift: Lift, alpha: float | None) -> str:
    if lift.value is None:
        return "nothing compared yet"
    level = "" if alpha is None else f", {100.0 * (1.0 - alpha):.4g} % valid at any time"
    return f"lift {lift.value:+.4f} [{lift.low:+.4f}, {lift.high:+.4f}]{level}, {lift.trials:,} compared outcomes"


def _arm(name: str, arm: ArmReport) -> str:
    share = "-" if arm.answered_share is None else f"{arm.answered_share:.0%}"
    quality = "-" if arm.mean_quality is None else f"{arm.mean_quality:.3f}"
    estimates = "".join(f"{_estimate(one):>16}" for one in (arm.value.ips, arm.value.snips, arm.value.dr))
    return f"  {name:9}{arm.served:>9,}{share:>10}{quality:>9}{estimates}"


def _estimate(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f} +- {estimate.standard_error:.3f}"


def _plain(value: object) -> Plain:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, bool | int | float | str) else None
