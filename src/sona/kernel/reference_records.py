"""The kernel in numpy's place where records are made: without their `__init__`, of values that were checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MemberDescriptorType
from typing import Protocol, TypeVar

Record = TypeVar("Record")


def maker(record: type[Record], names: tuple[str, ...], copied: int = 0) -> Callable[..., Record]:
    """Return what makes instances of a slotted class of the values of its slots, without its `__init__`.

    The first `copied` of the slots come from an instance, which is then given first.
    """
    if copied:
        return _changer(record, names, copied)
    if record.__new__ is not object.__new__:
        raise TypeError(f"maker: {record.__name__} is made by a __new__ of its own")
    slots = [getattr(record, name, None) for name in names]
    setters = tuple(slot.__set__ for slot in slots if isinstance(slot, MemberDescriptorType))
    if len(set(names)) < len(names) or len(setters) < len(names):
        raise TypeError(f"maker: expected names of slots of {record.__name__}, each once, got {names}")
    new = record.__new__

    def make(*values: object) -> Record:
        if len(values) != len(setters):
            raise TypeError(f"{record.__name__}: expected {len(setters)} values")
        made = new(record)
        for set_slot, value in zip(setters, values, strict=True):
            set_slot(made, value)
        return made

    return make


def _changer(record: type[Record], names: tuple[str, ...], copied: int) -> Callable[..., Record]:
    make = maker(record, names)

    def change(instance: Record, *values: object) -> Record:
        if type(instance) is not record:
            raise TypeError(f"expected a {record.__name__}, got {type(instance)!r}")
        return make(*(getattr(instance, name) for name in names[:copied]), *values)

    return change


class _Named(Protocol):
    @property
    def id(self) -> int: ...


class _Found(Protocol):
    @property
    def pattern(self) -> _Named: ...

    @property
    def confidence(self) -> float: ...


def touched(  # noqa: PLR0917 - the kernel's calls are positional, as keywords cost as much as the work
    pattern: Callable[..., object],
    match: Callable[..., Record],
    record: Callable[..., object],
    records: Sequence[_Found],
    accesses: list[tuple[int, float]],
    rows: list[int],
    cosines: list[float],
    now: float,
    counts: bool,
) -> tuple[list[Record], tuple[int, ...]]:
    """Return matches of what was found, each with one access more, and the ids of their patterns.

    Args:
        pattern: Changes the last two fields of a pattern: when it was accessed last, and how often. Its first is `id`.
        match: Makes a match of a pattern, a cosine and a confidence.
        record: Makes records; their first field is `pattern`, their last one `confidence`.
        records: All records.
        accesses: How often and when last each was accessed, to be counted in.
        rows: Which were found.
        cosines: How similar each of them is.
        now: When.
        counts: Whether the accesses are counted, or told alone.
    """
    if len(rows) != len(cosines):
        raise TypeError(f"touched: expected a cosine for each of {len(rows)} rows, got {len(cosines)}")
    matches, ids = [], []
    for row, cosine in zip(rows, cosines, strict=True):
        found, (count, latest) = records[row], accesses[row]
        count, latest = access = count + 1, now if now > latest else latest
        matches.append(match(pattern(found.pattern, latest, count), cosine, found.confidence))
        ids.append(found.pattern.id)
        if counts:
            accesses[row] = access
    return matches, tuple(ids)
