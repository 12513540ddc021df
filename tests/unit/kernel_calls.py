"""Every call of the kernel with arguments it takes, for the tests that vary them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

from sona.kernel import reference

try:
    from sona.kernel import _native as native
except ImportError as error:
    native = None  # type: ignore[assignment]
    WHY_NOT = f"the compiled kernel does not load: {error}"
else:
    WHY_NOT = ""

needs_native = pytest.mark.skipif(native is None, reason=WHY_NOT)
both = pytest.mark.parametrize("made", [reference, pytest.param(native, marks=needs_native)], ids=["numpy", "native"])

D, N, RANK = 37, 5, 2


@dataclass(frozen=True)
class Call:
    """One call: what is called, with what, and which arguments it writes."""

    function: Callable[..., object]
    args: tuple[object, ...]
    written: frozenset[int] = frozenset()

    def made(self) -> object:
        return self.function(*self.args)


def _adapter(made: ModuleType, rng: np.random.Generator, reach: float) -> reference.LowRank:
    return made.LowRank(rng.normal(size=2 * D * RANK).astype(np.float32), D, RANK, 1.0, reach)


def calls(made: ModuleType, seed: int = 0) -> dict[str, Call]:
    """Return every call with arguments of its own that it takes as they are."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    far, near = _adapter(made, rng, 1e-3), _adapter(made, rng, 1e9)
    starts, ends = np.array([0, 2, 3, 3]), np.array([1, 0, 2], np.int32)
    return {
        "is_vector": Call(made.is_vector, (floats(D), D)),
        "kept": Call(made.kept, (floats(D), D)),
        "unit": Call(made.unit, (floats(D),)),
        "unit of rows": Call(made.unit, (floats(N, D),)),
        "units": Call(made.units, ([floats(D), floats(D)],)),
        "headed": Call(made.headed, ((floats(D), floats(D)), (0.5, -2.0), D)),
        "preferred": Call(made.preferred, ((floats(D), floats(D)), (0.5, 1.0), floats(D), 0.3)),
        "combined": Call(made.combined, (floats(D), (floats(D), floats(D)), (0.5, -2.0))),
        "lift": Call(made.lift, (floats(N), np.array([0, 2, N]), floats(3)), frozenset([0])),
        "constrain": Call(made.constrain, (floats(D), floats(D), floats(D), floats(D), 0.5, None)),
        "constrain into": Call(
            made.constrain, (floats(D), floats(D), floats(D), floats(D), 0.5, floats(D)), frozenset([5])
        ),
        "constrain at the anchor": Call(made.constrain, (floats(D), None, floats(D), floats(D), 0.5, None)),
        "blend": Call(made.blend, (rng.random(D), floats(N, D), 0.9), frozenset([0])),
        "top": Call(made.top, (floats(D), 4)),
        "nearest": Call(made.nearest, (floats(N, D), floats(D), 3, rng.random(N) < 0.7, N - 1)),
        "alike": Call(made.alike, (floats(N, D), floats(D), 3, rng.random(N) < 0.7)),
        "products": Call(made.products, (floats(N, D), floats(D))),
        "products_of_two": Call(made.products_of_two, (floats(N, D), floats(D), floats(D))),
        "pooled": Call(made.pooled, ([np.arange(3)], [rng.random((3, 2))], [1], [0.5], 2)),
        "spread": Call(made.spread, (starts, ends, np.abs(floats(2, 3)), np.array([0, 1]), rng.random((2, 2)))),
        "charge": Call(made.charge, (rng.random((2, N)), rng.random(N) * 0.5, 0.5, 0.9, 0.9), frozenset([0])),
        "deviation": Call(made.deviation, (np.log(np.full(N, 1 / N)), rng.random(N) + 0.1, rng.random(N), 3.0)),
        "forward": Call(near.forward, (floats(D),)),
        "forward at the edge": Call(far.forward, (floats(D),)),
        "forward of rows": Call(far.forward, (floats(N, D),)),
        "forward into": Call(near.forward, (floats(D), floats(D)), frozenset([1])),
        "delta": Call(near.delta, (floats(D),)),
        "delta into, at the edge": Call(far.delta, (floats(D), floats(D)), frozenset([1])),
        "gradient": Call(near.gradient, (floats(D), floats(D))),
        "gradient at the edge": Call(far.gradient, (floats(D), floats(D), floats(2 * D * RANK))),
        "touched": Call(made.touched, (*_makers(made), [Record(Pattern(3))], [(1, 2.0)], [0], [0.5], 3.0, True)),
        "moved": Call(near.moved, (floats(2 * D * RANK), 0.1, 1e6)),
    }


@dataclass(frozen=True, slots=True)
class Pattern:
    """What `touched` finds again."""

    id: int
    accessed: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """Where it keeps it."""

    pattern: Pattern
    confidence: float = 0.9


@dataclass(frozen=True, slots=True)
class Match:
    """What it tells of it."""

    pattern: Pattern
    cosine: float
    confidence: float


def _makers(made: ModuleType) -> tuple[object, object, object]:
    pattern = made.maker(Pattern, ("id", "accessed", "count"), 1)
    return (
        pattern,
        made.maker(Match, ("pattern", "cosine", "confidence")),
        made.maker(Record, ("pattern", "confidence")),
    )


NAMES = tuple(calls(reference))


def said(value: object) -> object:
    """Return what an answer holds, to the last bit, in a form that compares."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple | list):
        return [said(part) for part in value]
    flat = getattr(value, "flat", None)
    return (said(flat), value.gain) if isinstance(flat, np.ndarray) else value


@contextmanager
def level(name: str) -> Iterator[None]:
    """Run on another instruction set; skip where this machine lacks it."""
    before = native.LEVEL
    if not native.select(name):
        pytest.skip(f"this machine has no {name}")
    try:
        yield
    finally:
        native.select(before)
