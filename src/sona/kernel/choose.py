"""Which kernel runs: the compiled one where it was built and loads, else numpy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType

from sona.errors import ConfigError
from sona.kernel import reference

_VARIABLE = "SONA_KERNEL"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The kernel in use.

    Args:
        made: The module behind the calls.
        name: `native` with its instruction set, or `numpy`.
        reason: Why it is not the compiled one; None when it is.
    """

    made: ModuleType
    name: str
    reason: str | None = None

    def __str__(self) -> str:
        """Return name and reason in one line."""
        return self.name if self.reason is None else f"{self.name} ({self.reason})"


def choose(wanted: str) -> Chosen:
    """Return the kernel of that name, or the best there is when `wanted` is empty.

    Raises:
        ConfigError: no such kernel, or none that runs on this machine.
    """
    if wanted == "numpy":
        return Chosen(reference, "numpy", f"{_VARIABLE} asks for it")
    try:
        from sona.kernel import _native
    except ImportError as error:
        if wanted:
            raise ConfigError(f"{_VARIABLE}={wanted}: the compiled kernel does not load: {error}") from error
        return Chosen(reference, "numpy", f"the compiled kernel does not load: {error}")
    if not _native.select(wanted or None):
        known = "numpy, baseline, avx2 or avx512, as far as this machine has it"
        raise ConfigError(f"{_VARIABLE}: expected {known}, got {wanted!r}")
    return Chosen(_native, f"native {_native.LEVEL}")


chosen = choose(os.environ.get(_VARIABLE, ""))
