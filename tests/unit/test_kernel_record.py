"""Instances without their `__init__` are those that it makes, and live and die as they do."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import ClassVar, Generic, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_calls import Match, Pattern, Record, both, calls, native, needs_native

from sona import kernel

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Point:
    kinds: ClassVar[int] = 2
    x: object
    y: object = None
    z: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Named(Point, Generic[Kind]):
    name: str = "-"


@dataclass(slots=True, weakref_slot=True)
class Node:
    next: object = None
    name: str = ""


@pytest.fixture
def made(request, monkeypatch):
    monkeypatch.setattr(kernel, "_made", request.param)
    return request.param


both_made = pytest.mark.parametrize(*both.args[:1], both.args[1], indirect=True, **both.kwargs)
values = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers()))


@both_made
def test_an_instance_equals_the_one_its_class_makes(made):
    @given(x=values, y=values, name=st.text())
    def holds(x, y, name):
        assert kernel.maker(Point)(x, y, (1,)) == Point(x, y, (1,))
        found, expected = kernel.maker(Named)(x, y, (), name), Named(x, y, (), name)
        assert found == expected
        assert type(found) is Named
        assert repr(found) == repr(expected)
        assert found.x is x

    holds()


@both_made
def test_an_instance_is_as_frozen_as_others(made):
    point = kernel.maker(Point)(1, 2, ())
    with pytest.raises(FrozenInstanceError):
        point.x = 2
    assert replace(point, x=5) == Point(5, 2)
    assert weakref.ref(point)() is point


@both_made
def test_a_copy_differs_in_what_was_named_and_shares_the_rest(made):
    point = Named([1], [2], (3,), "n")
    changed = kernel.changer(Named, "name", "x")(point, "other", "new")
    assert changed == replace(point, name="other", x="new")
    assert changed.y is point.y
    for wrong in (Point(1), None, Named):
        with pytest.raises(TypeError):
            kernel.changer(Named, "name")(wrong, "other")
    for count in (0, 1, 3):
        with pytest.raises(TypeError):
            kernel.changer(Named, "name", "x")(*[point, "a", "b", "c"][: count + (count > 1)])


@both_made
def test_wrong_numbers_of_values_are_type_errors(made):
    make = kernel.maker(Point)
    for wrong in ((), (1,), (1, 2), (1, 2, 3, 4)):
        with pytest.raises(TypeError, match="expected 3 values"):
            make(*wrong)
    with pytest.raises(TypeError):
        make(1, 2, z=3)


class Pair(NamedTuple):
    x: int = 0


@dataclass
class Unslotted:
    x: int
    y: int = 0


@dataclass(slots=True)
class OwnNew:
    x: int

    def __new__(cls, *args: object) -> OwnNew:
        return object.__new__(cls)


@dataclass
class Numbers(dict):
    __slots__ = ("x",)
    x: int


@both_made
@pytest.mark.parametrize(
    "record", [Pair, Unslotted, OwnNew, Numbers, int, dict, object, Exception, type, 3, None], ids=repr
)
def test_only_slotted_dataclasses_made_by_object_are_taken(made, record):
    with pytest.raises(TypeError):
        kernel.maker(record)


@both
@pytest.mark.parametrize(
    "names", [("x", "x"), ("x", "missing"), ("x", 3), ("__init__",), ("kinds",), ("x", "__dict__")]
)
def test_only_names_of_slots_each_once_are_taken(made, names):
    with pytest.raises(TypeError):
        made.maker(Point, names)


@both_made
def test_cycles_are_collected(made):
    first = kernel.maker(Node)(None, "first")
    first.next = [kernel.changer(Node, "next")(first, first)]
    watch = weakref.ref(first)
    assert gc.is_tracked(first)
    del first
    gc.collect()
    assert watch() is None


@both
def test_a_maker_that_its_class_holds_goes_with_the_class(made):
    @dataclass(slots=True)
    class Passing:
        x: int
        make: ClassVar[object] = None

    Passing.make = made.maker(Passing, ("x",))
    held = Passing.make(1)
    watch = weakref.ref(Passing)
    assert held.x == 1
    del Passing, held
    gc.collect()
    assert watch() is None


@both
def test_values_are_held_as_long_as_the_instance_and_no_longer(made):
    make, value = made.maker(Point, ("x", "y")), object()
    change = made.maker(Point, ("x", "y"), 1)
    before, of_type = sys.getrefcount(value), sys.getrefcount(Point)
    kept = [change(make(value, value), value) for _ in range(100)]
    assert sys.getrefcount(value) == before + 200
    del kept
    for _ in range(1000):
        make(value, value)
        for count in (1, 3):
            with pytest.raises(TypeError):
                make(*[value] * count)
        with pytest.raises(TypeError):
            change(value, value)
        with pytest.raises(TypeError):
            made.maker(Point, ("x", "missing"))
    assert sys.getrefcount(value) == before
    assert abs(sys.getrefcount(Point) - of_type) < 5


@both
def test_what_is_found_again_is_one_access_richer(made):
    call = calls(made)["touched"]
    pattern, match, record = call.args[:3]
    records, accesses = [Record(Pattern(k), k / 10.0) for k in range(4)], [(k, float(k)) for k in range(4)]
    matches, ids = call.function(pattern, match, record, records, accesses, [2, 0, 2], [0.5, 0.4, 0.3], 1.0, True)
    assert matches == [
        Match(Pattern(2, 2.0, 3), 0.5, 0.2),  # never an earlier time than before
        Match(Pattern(0, 1.0, 1), 0.4, 0.0),
        Match(Pattern(2, 2.0, 4), 0.3, 0.2),
    ]
    assert ids == (2, 0, 2)
    assert accesses == [(1, 1.0), (1, 1.0), (4, 2.0), (3, 3.0)]
    assert [found.pattern.count for found in records] == [0, 0, 0, 0]
    told = call.function(pattern, match, record, records, accesses, [3], [0.5], 9.0, False)
    assert told == ([Match(Pattern(3, 9.0, 4), 0.5, 0.3)], (3,))
    assert accesses[3] == (3, 3.0)
    assert call.function(pattern, match, record, [], [], [], [], 1.0, True) == ([], ())


@needs_native
def test_what_cannot_be_found_again_is_an_error():
    call = calls(native)["touched"]
    pattern, match, record, *rest = call.args
    empty, idless = Record.__new__(Record), Pattern.__new__(Pattern)
    plain = native.maker(Pattern, ("id", "accessed", "count"))
    wrong = [
        (plain, match, record, *rest),
        (pattern, native.maker(Match, ("pattern", "cosine", "confidence"), 1), record, *rest),
        (pattern, match, native.maker(Record, ()), *rest),
        (pattern, match, int, *rest),
        (pattern, match, record, [empty], *rest[1:]),
        (pattern, match, record, [Record(idless)], *rest[1:]),
        (pattern, match, record, [Pattern(1)], *rest[1:]),
        (pattern, match, record, tuple(rest[0]), *rest[1:]),
        (pattern, match, record, rest[0], [(1,)], *rest[2:]),
        (pattern, match, record, rest[0], [(1, "x")], *rest[2:]),
        (pattern, match, record, rest[0], rest[1], ["0"], *rest[3:]),
        (pattern, match, record, rest[0], rest[1], [0, 0], *rest[3:]),
    ]
    for args in wrong:
        with pytest.raises(TypeError):
            call.function(*args)
    with pytest.raises(IndexError):
        call.function(pattern, match, record, rest[0], rest[1], [7], *rest[3:])
    assert rest[1] == [(1, 2.0)]
