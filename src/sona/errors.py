"""Every error SONA raises, one tree.

SonaError
├── ConfigError            a setting outside its range              (also a ValueError)
├── InvalidValue           an argument that cannot be used          (also a ValueError)
│   ├── DimensionMismatch  a vector of another width than expected
│   └── UnknownTrajectory  feedback for an id this engine does not hold
├── StateError             a call that does not fit the object's state
├── StoreError             a saved state that cannot be read or written
├── MissingExtra           an optional package is not installed     (also an ImportError)
├── PatternExtractionError clustering could not be done
├── LearningError          a learning step could not be completed
├── MemoryGraphError       the memory graph refused an operation
└── TunerError             tuning a server could not be done
    └── PlanError          a plan or a statement that cannot be read      (also a ValueError)
"""

from __future__ import annotations


class SonaError(Exception):
    """The root: catching it catches everything SONA raises on purpose."""


class ConfigError(SonaError, ValueError):
    """A setting is outside its range."""


class InvalidValue(SonaError, ValueError):
    """An argument cannot be used: wrong type, NaN, infinity, or out of range."""


class DimensionMismatch(InvalidValue):
    """A vector has another width than the component was made for."""

    def __init__(self, expected: int, actual: int, what: str = "vector") -> None:
        """Keep both widths for programs; say them in a sentence for people."""
        super().__init__(f"{what}: expected width {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class UnknownTrajectory(InvalidValue):
    """Feedback names a trajectory that was never issued here, or is no longer kept."""


class StateError(SonaError):
    """The call does not fit the present state, such as adding to a finished trajectory."""


class StoreError(SonaError):
    """A saved state is missing, damaged, of another version, or cannot be written."""


class MissingExtra(SonaError, ImportError):
    """An optional package is needed; the message names the pip line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Say what is missing, what for, and how to install it."""
        super().__init__(f"{purpose} needs {package}: pip install 'sona[{extra}]'")


class PatternExtractionError(SonaError):
    """Clustering could not be done."""


class LearningError(SonaError):
    """A learning step could not be completed; nothing was changed."""


class MemoryGraphError(SonaError):
    """The memory graph refused an operation."""


class TunerError(SonaError):
    """Tuning a server could not be done; what the application asked of the server is not touched by it."""


class PlanError(TunerError, ValueError):
    """A plan or a statement cannot be read."""
