"""What a stream did to a ranker: scores by part, learning curve, examples, and their summary over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from sona.checks import setting_whole
from sona.demo.evaluation import Difference, Doubles, Effect, paired_difference
from sona.errors import InvalidValue
from sona.state import Plain


@dataclass(frozen=True, slots=True)
class Plan:
    """How a stream is run.

    Args:
        learn_every: Requests between two calls of `background_learn`; one more follows the last request.
        checkpoints: Points of the learning curve after the start; 0 for none.
        sample: Requests of each part measured at a checkpoint.
        shuffle: The control: clicks land on random shown ids.
    """

    learn_every: int = 500
    checkpoints: int = 8
    sample: int = 200
    shuffle: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        setting_whole(self.learn_every, "learn_every", 1)
        setting_whole(self.checkpoints, "checkpoints", 0)
        setting_whole(self.sample, "sample", 1)


@dataclass(frozen=True, slots=True, eq=False)
class PartScores:
    """nDCG@10 of the same requests, frozen and learned.

    Args:
        keys: Which request each score belongs to.
        frozen: By plain cosine, shape (n,).
        learned: By the ranker after the stream, shape (n,).
    """

    keys: tuple[str, ...]
    frozen: Doubles
    learned: Doubles

    def without(self, rows: Sequence[int]) -> PartScores:
        """Return the scores of all requests but `rows`."""
        left_out = set(rows)
        kept = [row for row in range(len(self.keys)) if row not in left_out]
        return PartScores(tuple(self.keys[row] for row in kept), self.frozen[kept], self.learned[kept])


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What the ranker has reached after so many requests, on a sample of each part.

    Args:
        requests: Requests streamed so far.
        change: Mean nDCG@10 minus the frozen one, by part.
    """

    requests: int
    change: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Shown:
    """One document of a ranking, named for people."""

    caption: str
    is_relevant: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One request before and after.

    Args:
        part: The part it belongs to.
        text: What was typed.
        wanted: Captions of documents that answer it.
        before: The first documents shown by plain cosine; `after` by the ranker.
        frozen: nDCG@10 before; `learned` after.
    """

    part: str
    text: str
    wanted: tuple[str, ...]
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]
    frozen: float
    learned: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one stream did to one ranker.

    Args:
        task: The task's name, `description` what it asks, `seed` its seed.
        plan: How the stream was run.
        parts: Scores by part.
        distinct: Scores of the held-out requests without those that nearly repeat a streamed one; None without any.
        curve: The learning curve, from the first request on.
        examples: Requests before and after.
        requests: Requests streamed.
        clicked: Clicks given.
        rank_us: Median time of one `rank` call in the stream, microseconds.
        feedback_us: Median time of one `feedback` call, microseconds.
        learn_s: Time of all `background_learn` calls, seconds.
    """

    task: str
    description: str
    seed: int
    plan: Plan
    parts: Mapping[str, PartScores]
    distinct: PartScores | None
    curve: tuple[CurvePoint, ...]
    examples: tuple[Example, ...]
    requests: int
    clicked: int
    rank_us: float
    feedback_us: float
    learn_s: float


@dataclass(frozen=True, slots=True)
class PartSummary:
    """One part over all seeds.

    Args:
        name: The part: repeat, paraphrase, held_out, or held_out_distinct.
        frozen: Mean nDCG@10 by plain cosine.
        learned: Mean nDCG@10 by the ranker.
        difference: Learned minus frozen, with its interval.
    """

    name: str
    frozen: float
    learned: float
    difference: Difference

    def as_json(self) -> dict[str, Plain]:
        """Return the summary as plain values: frozen, learned, delta, ci, per_seed, effect."""
        return {
            "frozen": self.frozen,
            "learned": self.learned,
            "delta": self.difference.mean,
            "ci": [self.difference.low, self.difference.high],
            "per_seed": list(self.difference.per_seed),
            "effect": self.difference.effect.value,
        }


def summarise(outcomes: Sequence[Outcome]) -> tuple[PartSummary, ...]:
    """Return the parts of one task over seeds, with paired intervals clustered by request.

    `held_out_distinct` follows where some held-out requests nearly repeat streamed ones.

    Raises:
        InvalidValue: no outcomes, or of different tasks.
    """
    if len({outcome.task for outcome in outcomes}) != 1:
        raise InvalidValue("outcomes: expected those of one task, at least one")
    parts = {name: [outcome.parts[name] for outcome in outcomes] for name in outcomes[0].parts}
    if any(outcome.distinct is not None for outcome in outcomes):
        parts["held_out_distinct"] = [outcome.distinct or outcome.parts["held_out"] for outcome in outcomes]
    return tuple(_summary(name, scores) for name, scores in parts.items())


def _summary(name: str, scores: Sequence[PartScores]) -> PartSummary:
    difference = paired_difference([part.keys for part in scores], [part.learned - part.frozen for part in scores])
    frozen, learned = (np.concatenate([getattr(part, kind) for part in scores]) for kind in ("frozen", "learned"))
    return PartSummary(name, float(frozen.mean()), float(learned.mean()), difference)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a page shows.

    Args:
        title: Its heading.
        outcomes: One task, one outcome per seed.
        controls: The same with something switched off, by name, such as `shuffled clicks`.
        settings: What the ranker was set to, by name.
    """

    title: str
    outcomes: Sequence[Outcome]
    controls: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a report about nothing."""
        if not self.outcomes:
            raise InvalidValue("outcomes: expected at least one")


PART_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "repeat": "requests asked again",
        "paraphrase": "the same requests in other words",
        "held_out": "requests never seen",
        "held_out_distinct": "requests never seen, near-repeats left out",
    }
)
"""What the parts are called in a sentence."""


def conclusion(summaries: Sequence[PartSummary]) -> str:
    """Return in plain words what helped and what did not; a claim is made only where an interval excludes 0."""
    sentences = []
    for effect, opening in (
        (Effect.HELPED, "Learning helped"),
        (Effect.HARMED, "Learning harmed"),
        (Effect.NO_EVIDENCE, "There is no evidence of a change for"),
    ):
        named = [_claim(part) for part in summaries if part.difference.effect is effect]
        if named:
            sentences.append(f"{opening} {'; '.join(named)}.")
    return " ".join([*sentences, "Figures are changes in nDCG@10 with 95 % intervals."])


def signed(value: float) -> str:
    """Return `value` with three decimals and its sign; what rounds to zero has none.

    >>> signed(0.0123), signed(-0.5), signed(-0.0001)
    ('+0.012', '\u22120.500', '0.000')
    """
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "\u2212")


def _claim(part: PartSummary) -> str:
    change = part.difference
    return f"{PART_NAMES[part.name]} ({signed(change.mean)}; {signed(change.low)} to {signed(change.high)})"
