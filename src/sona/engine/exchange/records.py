"""What is exchanged, one record each, and the plain rows that files hold: the same names, every number exact."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from sona.checks import Floats, embedding, finite, nonempty_text, vector
from sona.engine.exchange.row import Row, located
from sona.engine.intake import FOREIGN_ID
from sona.errors import InvalidValue
from sona.state import Plain
from sona.types import LearnedPattern, QueryTrajectory, TrajectoryStep

ANSWERED, SUBMITTED = "answered", "submitted"
_ORIGIN_ROUNDS = 100_000  # a key that somebody thought of is not to be guessed from an export


@dataclass(frozen=True, slots=True, eq=False)
class MemoryRecord:
    """One memory.

    Args:
        id: Its id.
        text: What is remembered.
        subject: Whose it is, if that is known.
        vector: Its unit vector, shape (d,); None while it has none.
        reembed: Whether the vector is of use only where it comes from, so that an import embeds the text anew.
    """

    id: str
    text: str
    subject: str | None = None
    vector: Floats | None = None
    reembed: bool = False

    def row(self) -> dict[str, Plain]:
        """Return it as plain values."""
        return {
            "id": self.id,
            "text": self.text,
            "subject": self.subject,
            "vector": None if self.vector is None else self.vector.tolist(),
            "reembed": self.reembed,
        }

    @classmethod
    def of(cls, row: Row) -> MemoryRecord:
        """Return the memory of a row, or raise InvalidValue."""
        with located(row.where):
            given = row.numbers("vector")
            return cls(
                nonempty_text(row.text("id"), "id"),
                nonempty_text(row.text("text"), "text"),
                row.text_or_none("subject"),
                None if given is None else embedding(given, what="vector"),
                row.flag("reembed"),
            )


@dataclass(frozen=True, slots=True, eq=False)
class RequestRecord:
    """One request with what was tried and how it went.

    Args:
        trajectory: The latest that is known of it.
        kind: `answered` by the engine, or `submitted` to it.
        text: The request in words, if it had any.
        at: When, seconds since the epoch, if that is known.
        reembed: Whether its vectors are of use only where they come from, so that an import embeds the words anew.
    """

    trajectory: QueryTrajectory
    kind: str = SUBMITTED
    text: str | None = None
    at: float | None = None
    reembed: bool = False

    @property
    def is_finished(self) -> bool:
        """False for an answer that had no feedback yet: there is nothing to learn from it."""
        return self.kind == SUBMITTED or self.trajectory.quality is not None

    def row(self) -> dict[str, Plain]:
        """Return it as plain values."""
        trajectory = self.trajectory
        return {
            "id": trajectory.id,
            "kind": self.kind,
            "at": self.at,
            "text": self.text,
            "subject": trajectory.subject,
            "query_embedding": trajectory.query_embedding.tolist(),
            "steps": [_step_row(step) for step in trajectory.steps],
            "final_quality": trajectory.final_quality,
            "latency_us": trajectory.latency_us,
            "alternatives": trajectory.alternatives,
            "model_route": trajectory.model_route,
            "context_ids": list(trajectory.context_ids),
            "parameters": dict(trajectory.parameters),
            "reembed": self.reembed,
        }

    @classmethod
    def of(cls, row: Row) -> RequestRecord:
        """Return the request of a row, or raise InvalidValue."""
        with located(row.where):
            kind = row.text_or_none("kind") or SUBMITTED
            if kind not in (ANSWERED, SUBMITTED):
                raise InvalidValue(f"kind: expected {ANSWERED} or {SUBMITTED}, got {kind!r}")
            at = row.number_or_none("at")
            trajectory = QueryTrajectory(
                row.whole("id"),
                embedding(row.numbers("query_embedding") or (), what="query_embedding"),
                tuple(_step(step) for step in row.children("steps")),
                row.number_or_none("final_quality"),
                row.number("latency_us", 0.0),
                row.flag("alternatives"),
                row.text_or_none("model_route"),
                tuple(row.texts("context_ids")),
                row.text_or_none("subject"),
                row.settings("parameters"),
            )
            text = row.text_or_none("text")
            return cls(
                trajectory,
                kind,
                None if text is None else nonempty_text(text, "text"),
                None if at is None else finite(at, "at"),
                row.flag("reembed"),
            )


def _step_row(step: TrajectoryStep) -> dict[str, Plain]:
    return {
        "ref": step.ref,
        "reward": step.reward,
        "timestamp": step.timestamp,
        "activations": step.activations.tolist(),
        "attention_weights": step.attention_weights.tolist(),
    }


def _step(row: Row) -> TrajectoryStep:
    with located(row.where):
        return TrajectoryStep(
            vector(row.numbers("activations") or (), what="activations"),
            np.array(row.numbers("attention_weights") or (), np.float32),
            row.number_or_none("reward"),
            row.number("timestamp", 0.0),
            row.text_or_none("ref"),
        )


def pattern_row(pattern: LearnedPattern) -> dict[str, Plain]:
    """Return a pattern as plain values."""
    return {
        "id": pattern.id,
        "centroid": pattern.centroid.tolist(),
        "cluster_size": pattern.cluster_size,
        "total_weight": pattern.total_weight,
        "avg_quality": pattern.avg_quality,
        "created_at": pattern.created_at,
        "last_accessed": pattern.last_accessed,
        "access_count": pattern.access_count,
    }


def pattern_of(row: Row) -> LearnedPattern:
    """Return the pattern of a row, or raise InvalidValue."""
    with located(row.where):
        return LearnedPattern(
            row.whole("id"),
            vector(row.numbers("centroid") or (), what="centroid"),
            row.whole("cluster_size"),
            row.number("total_weight"),
            row.number("avg_quality"),
            row.number("created_at", 0.0),
            row.number("last_accessed", 0.0),
            row.whole("access_count", 0),
        )


def origin_of(key: bytes) -> str:
    """Return what an export says of the engine it comes from: the same each time, and not its secret."""
    return hashlib.pbkdf2_hmac("sha256", key, b"sona origin", _ORIGIN_ROUNDS, 16).hex()


def foreign_id(origin: str, trajectory: QueryTrajectory) -> int:
    """Return the id that a trajectory of another engine has here: the same each time it comes, from wherever.

    It does not depend on the outcome, on vectors that another embedder would make otherwise, or on memories that
    may be forgotten: engine, id, subject, route and the time it took, and the vector where nobody measured a time.

    Args:
        origin: From `origin_of`, of the engine whose export it is in.
        trajectory: As that engine has it.
    """
    if trajectory.id >= FOREIGN_ID:
        return trajectory.id  # it came from elsewhere then, too
    known = [origin, trajectory.id, trajectory.subject, trajectory.model_route, trajectory.latency_us.hex()]
    content = json.dumps(known).encode()
    if trajectory.latency_us == 0.0:
        content += trajectory.query_embedding.tobytes()
    number = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
    return FOREIGN_ID | (number & (FOREIGN_ID - 1))
