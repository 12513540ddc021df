"""A statement that an application runs, and how the tuner has it run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sona.tuner.statements.statement import Statement


@dataclass(frozen=True, slots=True)
class Request:
    """A statement that an application runs.

    Args:
        statement: Its text, read.
        params: Its parameters, as the driver takes them.
        key: Digest of the statement with its values.
        refusal: Why it is run as it is; None when it may be tuned.
        is_family: Whether it is learned together with statements that differ in their values alone.
    """

    statement: Statement
    params: Sequence[object] | Mapping[str, object] | None
    key: str
    refusal: str | None
    is_family: bool = False

    @property
    def fingerprint(self) -> str:
        """Digest of the statement without its values."""
        return self.statement.fingerprint


class Run(Protocol):
    """Runs the application's statement on the application's cursor."""

    def __call__(self, *, prepare: bool | None) -> None:
        """Run it; whether it is prepared is up to the driver when `prepare` is None."""
