"""Plans as vectors: plans that do the same work in the same way are near, whatever the literals.

Every feature of an operator is hashed to a few places of the vector with a sign (feature hashing), so there is no
vocabulary to learn or keep: a table nobody has seen yet has its place. Sizes (rows, cost, width) fall between two
marks of a logarithmic scale and are shared between them: sizes of the same order are near, and of others unrelated.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, whole
from sona.errors import DimensionMismatch, InvalidValue
from sona.tuner.plans.operators import Condition, Operator

_PLACES = 2  # a feature is hashed to so many places: two features rarely share all of them
_LITERAL = re.compile(r"'(?:[^']|'')*'(?:::[\w \"\[\].()]+?(?=[)\s,]|$))?|(?<![\w$])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_QUALIFIER = re.compile(r'(?:"[^"]+"|[A-Za-z_]\w*)\.(?=["A-Za-z_])')
_MARK = 1.5  # decades between two marks of the scale of sizes


@dataclass(frozen=True, slots=True)
class _Feature:
    # What is hashed, and how much it counts.
    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class _Slot:
    # Where a feature goes.
    place: int
    sign: float


def embed_operators(operators: Sequence[Operator], width: int) -> Floats:
    """Return one unit vector per operator, shape (n, d): what it is, what it reads, and how much.

    Args:
        operators: The operators of a plan in topological order.
        width: d, at least 16.

    Raises:
        InvalidValue: no operators, or a width below 16.

    Source:
        Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, eq. 1.
    """
    whole(width, "width", 16)
    if not operators:
        raise InvalidValue("operators: expected at least one")
    reads, places, values = _relations(operators), [], []
    met = _met(operators, reads)
    for one in operators:
        for feature in (*_features(one, operators, reads), _Feature(f"meets {met[one.id]}", 1.0)):
            for slot in _hashed(feature.text, width):
                places.append(one.id * width + slot.place)
                values.append(feature.weight * slot.sign)
    rows = np.bincount(places, values, len(operators) * width).reshape(len(operators), width)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0.0, lengths, 1.0), np.float32)


def embed_plan(embeddings: Floats, weights: npt.ArrayLike) -> Floats:
    """Return the sum of the operators' vectors by their weights, of length 1, shape (d,).

    Args:
        embeddings: One vector per operator, shape (n, d).
        weights: What each counts, shape (n,), at least 0.

    Raises:
        DimensionMismatch: another number of weights than of operators.
        InvalidValue: weights below 0, or a sum of length 0.
    """
    counted = np.asarray(weights, np.float64)
    if counted.shape != (len(embeddings),):
        raise DimensionMismatch(len(embeddings), counted.size, "weights")
    if not (counted >= 0.0).all():
        raise InvalidValue("weights: expected numbers of at least 0")
    total = counted @ embeddings.astype(np.float64)
    length = float(np.linalg.norm(total))
    if not length > 0.0:
        raise InvalidValue("weights: expected a sum of length above 0")
    return np.asarray(total / length, np.float32)


def comparable(text: str) -> str:
    """Return a condition with "?" for every literal and columns without their tables, which VERBOSE alone may name.

    >>> comparable("((o.placed > '2023-06-01'::date) AND (o.total < 12.5))")
    '((placed > ?) AND (total < ?))'
    """
    return _QUALIFIER.sub("", _LITERAL.sub("?", text))


def _features(one: Operator, operators: Sequence[Operator], reads: Sequence[frozenset[str]]) -> Iterator[_Feature]:
    yield _Feature(f"kind {one.kind}", 1.0)
    yield _Feature(f"group {one.group}", 0.4)
    yield from _contents(one, operators, reads)
    for name, value, weight in (
        ("index", one.index, 0.9),
        ("join type", one.join_type, 0.5),
        ("cte", one.cte_name, 0.5),
    ):
        if value is not None:
            yield _Feature(f"{name} {value}", weight)
    for strategy in one.strategies:
        yield _Feature(strategy, 0.3)
    for condition in one.conditions:
        yield _Feature(_condition(condition), 0.6)
    yield from _sized(one, [operators[row] for row in one.children if operators[row].relationship != "SubPlan"])
    if one.is_breaker:
        yield _Feature("breaker", 0.2)
    if one.is_parallel_aware or one.workers_planned is not None:
        yield _Feature(f"parallel {one.workers_planned}", 0.5)


def _contents(one: Operator, operators: Sequence[Operator], reads: Sequence[frozenset[str]]) -> Iterator[_Feature]:
    # What it reads, where it stands, and for a join which tables meet which: the order of joins.
    for relation in sorted(reads[one.id]):
        yield _Feature(f"reads {relation}", 2.0 / math.sqrt(len(reads[one.id])))
    if len(one.children) > 1:
        yield _Feature(f"joins {' | '.join(_named(reads[row]) for row in one.children)}", 1.0)
    if one.parent is not None:
        yield _Feature(f"under {operators[one.parent].kind} as {one.relationship}", 0.4)
    for row in one.children:
        yield _Feature(f"{one.kind} over {operators[row].kind}", 0.5 / math.sqrt(len(one.children)))


def _sized(one: Operator, children: Sequence[Operator]) -> Iterator[_Feature]:
    yield from _marked("rows", one.estimated_rows, 0.5)
    yield from _marked("cost", one.total_cost, 0.4)
    yield from _marked("width", float(one.width_bytes), 0.2)
    yield from _marked("depth", float(one.depth), 0.3)
    if children:  # how many of the possible rows are left
        possible = math.prod(max(child.estimated_rows, 1.0) for child in children)
        yield from _marked("possible rows to one", possible / max(one.estimated_rows, 1.0), 0.3)


def _marked(name: str, value: float, weight: float) -> Iterator[_Feature]:
    # Shared between the two nearest marks, so that nothing jumps where a size passes one.
    height = math.log10(1.0 + min(value, 1e30)) / _MARK
    mark = math.floor(height)
    share = height - mark
    yield _Feature(f"{name} {mark}", weight * (1.0 - share))
    yield _Feature(f"{name} {mark + 1}", weight * share)


def _relations(operators: Sequence[Operator]) -> list[frozenset[str]]:
    found: list[frozenset[str]] = []
    for one in operators:
        own = {one.relation} if one.relation is not None else set()
        found.append(frozenset(own.union(*(found[row] for row in one.children))))
    for one in reversed(operators):  # what reads an index for a bitmap is said to read no table
        if not found[one.id] and one.kind.startswith("Bitmap") and one.parent is not None:
            found[one.id] = found[one.parent]
    return found


def _met(operators: Sequence[Operator], reads: Sequence[frozenset[str]]) -> list[str]:
    # The tables on the other side of the next join above: the order of joins as every operator sees it.
    met = [""] * len(operators)
    for one in reversed(operators):  # a parent before its children
        for row in one.children:
            others = [_named(reads[other]) for other in one.children if other != row]
            met[row] = " | ".join(others) if others else met[one.id]
    return met


def _named(relations: frozenset[str]) -> str:
    return ",".join(sorted(relations))


@functools.lru_cache(maxsize=4096)
def _condition(condition: Condition) -> str:
    return f"{condition.name} {comparable(condition.text)}"


@functools.lru_cache(maxsize=16_384)
def _hashed(text: str, width: int) -> tuple[_Slot, ...]:
    # Stable over processes and versions, unlike `hash`.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5 * _PLACES).digest()
    parts = (digest[5 * number : 5 * number + 5] for number in range(_PLACES))
    return tuple(_Slot(int.from_bytes(part[:4], "little") % width, 1.0 - 2.0 * (part[4] & 1)) for part in parts)
