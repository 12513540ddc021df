"""What executions of one pattern ran with and earned, and which settings they speak for.

Executions are grouped by their choices: every setting that is a text, and which numbers are set at all. So what a
pattern recommends is always a combination that has run; only its numbers are averaged.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sona.checks import finite, fraction
from sona.errors import InvalidValue
from sona.patterns.catalog import Tally
from sona.tuner.execution import AttentionType, ExecutionParams

_PRIOR_SD = 0.1  # spread of gains that a choice is held to have before any was seen
_ERRORS = (
    2.0  # standard errors that a gain is held to be less: with 1 settings lost on other literals (bench/quality_dag.py)
)
_MEMORY = "work_mem"
_UNITS = {"kB": 1, "MB": 1024, "GB": 1024**2, "TB": 1024**3}
_SIZE = re.compile(r"(\d+)\s*(kB|MB|GB|TB)?")

Choice = tuple[tuple[str, str], ...]
"""What is chosen rather than measured out: settings that are texts, and the names of the numbers that are set."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one execution ran with, and what it earned.

    Args:
        params: Settings it ran with.
        quality: How well it went, in [0, 1].
        gain: Quality over that of the server's own choice on the same statement, in [-1, 1]; None where not known.
        timestamp: Seconds, the caller's clock.

    Raises:
        InvalidValue: a figure outside its range, or NaN.
    """

    params: ExecutionParams
    quality: float
    gain: float | None = None
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        """Refuse figures that cannot be."""
        fraction(self.quality, "quality")
        finite(self.timestamp, "timestamp")
        if self.gain is not None and not -1.0 <= finite(self.gain, "gain") <= 1.0:
            raise InvalidValue(f"gain: expected a number from -1 to 1, got {self.gain!r}")


@dataclass(frozen=True, slots=True, eq=False)
class TriedSettings:
    """What became of the executions that ran with one choice.

    Args:
        params: The choice, with the mean of its numbers.
        count: Executions behind it.
        mean_quality: Their mean quality, in [0, 1].
        confidence: (1 - sd of their quality) (1 - 1 / (count + 1)), in [0, 1).
        mean_gain: Their mean gain over the server's own choice, in [-1, 1]; None where no gain is known.
        sure_gain: Two standard errors less than that, shrunk by 1 - 1 / (n + 1); 0 for the server's own choice.
    """

    params: ExecutionParams
    count: int
    mean_quality: float
    confidence: float
    mean_gain: float | None
    sure_gain: float


def choice_of(params: ExecutionParams) -> Choice:
    """Return what in `params` is a choice; equal for settings that differ in numbers alone.

    >>> choice_of(ExecutionParams(ef_search=80, custom={"work_mem": "64MB", "enable_sort": "off"}))
    (('ef_search', ''), ('enable_sort', 'off'), ('work_mem', ''))
    >>> choice_of(ExecutionParams())
    ()
    """
    numbers = [name for name in ("ef_search", "probes", "parallelism") if getattr(params, name) is not None]
    texts = {name: "" if name == _MEMORY and _kilobytes(text) else text for name, text in params.custom.items()}
    return tuple(sorted({**texts, **dict.fromkeys(numbers, "")}.items()))


def tried_settings(outcomes: Sequence[Outcome]) -> tuple[TriedSettings, ...]:
    """Return what became of each choice, the surest gain first; the server's own choice stands where gain 0 does.

    An execution whose gain is not known is compared with the mean of those that ran by the server's own choice.
    """
    groups: OrderedDict[Choice, list[Outcome]] = OrderedDict()
    for one in outcomes:
        groups.setdefault(choice_of(one.params), []).append(one)
    own = Tally()
    for one in groups.get((), ()):
        own = own.add(one.quality)
    usual = own.mean if own.count else None
    found = [_tried(members, usual) for members in groups.values()]
    return tuple(sorted(found, key=lambda one: (-one.sure_gain, not one.params.is_default)))


def optimal_settings(outcomes: Sequence[Outcome]) -> TriedSettings | None:
    """Return the choice that gains most for sure; the server's own choice where none gains, None without outcomes.

    Texts are those of the executions that gained most (their mode, taken together), numbers the mean weighted by gain.
    """
    return best_of(tried_settings(outcomes))


def best_of(tried: Sequence[TriedSettings]) -> TriedSettings | None:
    """Return what `optimal_settings` does, of what `tried_settings` found."""
    if not tried:
        return None
    if tried[0].sure_gain > 0.0:
        return tried[0]
    own = next((one for one in tried if one.params.is_default), None)
    return own or TriedSettings(ExecutionParams(), 0, 0.5, 0.0, None, 0.0)


def _tried(members: Sequence[Outcome], usual: float | None) -> TriedSettings:
    tally = Tally()
    for one in members:
        tally = tally.add(one.quality)
    gains = [_gain(one, usual) for one in members]
    known = [gain for gain in gains if gain is not None]
    mean = math.fsum(known) / len(known) if known else None
    weights = [max(gain or 0.0, 0.0) for gain in gains]
    return TriedSettings(
        params=_together(members, weights if any(weights) else [1.0] * len(members)),
        count=tally.count,
        mean_quality=tally.mean,
        confidence=tally.confidence,
        mean_gain=mean,
        sure_gain=0.0 if members[0].params.is_default else _sure(known),
    )


def _gain(one: Outcome, usual: float | None) -> float | None:
    if one.gain is not None or one.params.is_default:
        return one.gain or 0.0
    return None if usual is None else one.quality - usual


def _sure(gains: Sequence[float]) -> float:
    # A gain seen once is not believed whole: its spread is not known yet, and of many choices the luckiest shows.
    if not gains:
        return 0.0
    count = len(gains)
    mean = math.fsum(gains) / count
    spread = math.fsum((gain - mean) ** 2 for gain in gains) + _PRIOR_SD**2
    return (mean - _ERRORS * math.sqrt(spread / count) / math.sqrt(count)) * (1.0 - 1.0 / (count + 1))


def _together(members: Sequence[Outcome], weights: Sequence[float]) -> ExecutionParams:
    def number(name: str) -> int | None:
        return _mean(members, weights, lambda params: getattr(params, name))

    attention: Counter[AttentionType | None] = Counter()
    for one, weight in zip(members, weights, strict=True):
        attention[one.params.attention_type] += weight  # type: ignore[assignment]  # weights are floats
    custom = dict(members[0].params.custom)
    memory = _mean(members, weights, lambda params: _kilobytes(params.custom.get(_MEMORY, "")))
    if memory is not None:
        custom[_MEMORY] = _size(memory)
    return ExecutionParams(
        number("ef_search"), number("probes"), number("parallelism"), attention.most_common(1)[0][0], custom
    )


def _mean(
    members: Sequence[Outcome], weights: Sequence[float], value: Callable[[ExecutionParams], int | None]
) -> int | None:
    values = [value(one.params) for one in members]
    pairs = [(given, weight) for given, weight in zip(values, weights, strict=True) if given is not None]
    total = math.fsum(weight for _, weight in pairs)
    return round(math.fsum(given * weight for given, weight in pairs) / total) if pairs else None


def _kilobytes(text: str) -> int | None:
    # As the server reads a memory setting; None for what it may read otherwise, which stays a text.
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _UNITS[match[2] or "kB"]


def _size(kilobytes: int) -> str:
    return f"{kilobytes // 1024}MB" if kilobytes % 1024 == 0 else f"{kilobytes}kB"
