"""The arithmetic of the hot paths: compiled where that could be done, numpy elsewhere; chosen once, at import.

Both answer to the same calls. Each takes arrays exactly as it needs them - float32, aligned, C-contiguous, of the right
shape, finite - and returns None for anything else: nothing was written then, and its caller looks closer.

`SONA_KERNEL` chooses: `numpy`, or an instruction set (`baseline`, `avx2`, `avx512`); by default the best there is. The
instruction sets give the same bits; numpy gives the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from sona.kernel.choose import chosen

if TYPE_CHECKING:
    from sona.kernel import _native as _made
else:
    _made = chosen.made

__all__ = [
    "LowRank",
    "alike",
    "blend",
    "changer",
    "charge",
    "chosen",
    "combined",
    "constrain",
    "deviation",
    "headed",
    "is_vector",
    "kept",
    "lift",
    "maker",
    "nearest",
    "pooled",
    "preferred",
    "products",
    "products_of_two",
    "spread",
    "top",
    "touched",
    "unit",
    "units",
]

Record = TypeVar("Record")

LowRank = _made.LowRank
blend, constrain = _made.blend, _made.constrain
headed, preferred = _made.headed, _made.preferred
is_vector, kept = _made.is_vector, _made.kept
alike, nearest, top = _made.alike, _made.nearest, _made.top
touched = _made.touched
products, products_of_two = _made.products, _made.products_of_two
unit, units = _made.unit, _made.units
combined, lift = _made.combined, _made.lift
pooled, spread = _made.pooled, _made.spread
charge, deviation = _made.charge, _made.deviation


def maker(record: type[Record], names: tuple[str, ...] | None = None) -> Callable[..., Record]:
    """Return what makes a slotted dataclass of all its fields in their order, which were checked already.

    Any slotted class will do when the `names` of its slots are given.

    It runs no `__init__` and so checks nothing: for the rooms that did.

    Raises:
        TypeError: not a dataclass, one with a field that is no slot, or one with a `__new__` of its own.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, slots=True)
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> maker(Point)(1.0, 2.0)
    Point(x=1.0, y=2.0)
    """
    if names is None:
        names = tuple(field.name for field in fields(record))  # type: ignore[arg-type]
    return _made.maker(record, names)


def changer(record: type[Record], *changed: str) -> Callable[..., Record]:
    """Return what makes, of an instance of a slotted dataclass and values of these fields, one that differs in them.

    It runs no `__init__` and so checks nothing: `dataclasses.replace` for the rooms that did.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, slots=True)
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> changer(Point, "y")(Point(1.0), 2.0)
    Point(x=1.0, y=2.0)
    """
    names = tuple(field.name for field in fields(record))  # type: ignore[arg-type]
    copied = tuple(name for name in names if name not in changed)
    return _made.maker(record, copied + changed, len(copied))
