"""What an engine knows, read from its state: patterns, dreams, the embedder, and the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sona.config import DreamConfig
from sona.dreams.dream import Dream, refusal
from sona.engine import SonaEngine
from sona.errors import StateError
from sona.patterns.bank import ReasoningBank
from sona.patterns.verdict import Verdict
from sona.state import Plain
from sona.stores import Store
from sona.text.embed import LsaEmbedder
from sona.types import LearnedPattern, QueryTrajectory


@dataclass(frozen=True, slots=True)
class PatternView:
    """One pattern for people.

    Args:
        pattern: The pattern.
        confidence: How many outcomes it has and how well they agree, in [0, 1).
        worked: Id of the memory that earned most for it; None when none earned anything.
        verdict: The best choice against the default, where that is significant.
        similarity: Cosine to the query, where there was one.
    """

    pattern: LearnedPattern
    confidence: float
    worked: str | None
    verdict: Verdict | None
    similarity: float | None = None

    def as_json(self) -> dict[str, Plain]:
        """Return everything but the centroid as plain values."""
        pattern, verdict = self.pattern, self.verdict
        said: dict[str, Plain] | None = None
        if verdict is not None:
            said = {
                "kind": verdict.kind,
                "choice": verdict.choice,
                "default": verdict.default,
                "improvement": verdict.improvement,
                "p_value": verdict.p_value,
                "support": verdict.support,
                "reason": verdict.reason,
            }
        return {
            "id": pattern.id,
            "size": pattern.cluster_size,
            "quality": pattern.avg_quality,
            "confidence": self.confidence,
            "weight": pattern.total_weight,
            "worked": self.worked,
            "verdict": said,
            "similarity": self.similarity,
        }


@dataclass(frozen=True, slots=True)
class DreamView:
    """One dream for people.

    Args:
        dream: The dream.
        refusal: Why its proposals would not be taken up, in words; None when they would.
    """

    dream: Dream
    refusal: str | None

    @classmethod
    def of(cls, dream: Dream, config: DreamConfig) -> DreamView:
        """Return what there is to say about a dream."""
        return cls(dream, refusal(dream, config))


@dataclass(frozen=True, slots=True)
class Log:
    """The log of a file for people.

    Args:
        last_event: Position of the last event.
        whole_after: Event after which the log has no hole; 0 when it has none.
        size_bytes: Of the file, with what waits beside it.
    """

    last_event: int
    whole_after: int
    size_bytes: int

    @classmethod
    def of(cls, log: Store) -> Log:
        """Return what there is to say about a log."""
        return cls(log.last_seq, log.whole_after, log.metrics().size_bytes)


def largest_patterns(engine: SonaEngine, count: int) -> list[PatternView]:
    """Return the `count` patterns with most requests behind them, largest first."""
    bank = engine.bank
    ordered = sorted(bank.patterns, key=lambda pattern: (-pattern.cluster_size, pattern.id))
    return [_view(bank, pattern, None) for pattern in ordered[:count]]


def nearest_patterns(engine: SonaEngine, query: str, count: int) -> list[PatternView]:
    """Return the `count` patterns most like `query`, best first.

    Raises:
        InvalidValue: the query is empty.
        StateError: nothing was remembered yet, so that no word is known.
    """
    bank = engine.bank
    if not bank.pattern_count:
        return []
    asked = _embedder(engine).embed([query])[0]
    return [_view(bank, match.pattern, match.similarity) for match in bank.search(asked, count)]


def what_worked(engine: SonaEngine, pattern_ids: Iterable[int]) -> dict[int, str]:
    """Return the memory that earned most for each of these patterns; those with none are left out."""
    bank = engine.bank
    known = [number for number in pattern_ids if bank.get_pattern(number) is not None]
    found = {number: _worked(bank.trajectories_of(number)) for number in known}
    return {number: memory for number, memory in found.items() if memory is not None}


def why_no_memory(engine: SonaEngine) -> str | None:
    """Return in words why the memory graph is empty although something is remembered; None when it is not."""
    return None if engine.config.use_graph else "the memory graph is switched off"


def describe_embedder(engine: SonaEngine) -> str:
    """Return what turns words into vectors, in words."""
    embedder = _embedder(engine)
    fitted = f"fitted on {embedder.fitted_count:,} texts" if embedder.is_fitted else "not fitted yet"
    return f"built in: TF-IDF + SVD, {embedder.dim} numbers a text, {fitted}"


def _view(bank: ReasoningBank, pattern: LearnedPattern, similarity: float | None) -> PatternView:
    verdict = bank.verdict(pattern.id)
    return PatternView(
        pattern,
        bank.confidence(pattern.id),
        _worked(bank.trajectories_of(pattern.id)),
        verdict if verdict.is_significant else None,
        similarity,
    )


def _worked(witnesses: Iterable[QueryTrajectory]) -> str | None:
    earned: dict[str, float] = defaultdict(float)
    for trajectory in witnesses:
        for place, step in enumerate(trajectory.steps):
            # The quality of a whole answer is credited to what stood first, as the engine does.
            reward = step.reward if step.reward is not None or place else trajectory.final_quality
            earned[step.ref or ""] += reward or 0.0
    best = max(earned, key=lambda ref: earned[ref], default="")
    return best if best and earned[best] > 0.0 else None


def _embedder(engine: SonaEngine) -> LsaEmbedder:
    if not isinstance(engine.embedder, LsaEmbedder):
        raise StateError("this database was made with an embedder of its own; use it from Python")
    return engine.embedder
