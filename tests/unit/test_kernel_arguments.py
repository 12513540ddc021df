"""Whatever an argument is, the kernel answers right or returns None and has written nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import kernel_calls
import numpy as np
import pytest
from kernel_calls import NAMES, Call, both, calls, needs_native, said
from numpy.testing import assert_allclose

from sona.kernel import reference


class Subclass(np.ndarray):
    """An array of another type."""


def strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def backwards(x: np.ndarray) -> np.ndarray:
    return x[..., ::-1].copy()[..., ::-1]


def misaligned(x: np.ndarray) -> np.ndarray:
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def in_a_larger_room(x: np.ndarray) -> np.ndarray:
    room = np.zeros(x.size + 3, x.dtype)
    view = room[3:].reshape(x.shape)
    view[...] = x
    return view


def read_only(x: np.ndarray) -> np.ndarray:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


# Each holds the same numbers as `x`.
DISGUISES: dict[str, Callable[[np.ndarray], object]] = {
    "strided": strided,
    "backwards": backwards,
    "transposed": lambda x: np.asfortranarray(x) if x.ndim > 1 else strided(x),
    "misaligned": misaligned,
    "in a larger room": in_a_larger_room,
    "of the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "a subclass": lambda x: x.copy().view(Subclass),
    "a memory map": lambda x: x.copy().view(np.memmap),
    "objects": lambda x: x.astype(object),
    "a list": lambda x: x.tolist(),
    "read-only": read_only,
}

# None of these is what `x` was.
STRANGERS: dict[str, Callable[[np.ndarray], object]] = {
    "None": lambda x: None,
    "a number": lambda x: 3,
    "a word": lambda x: "x",
    "an object": lambda x: object(),
    "a scalar": lambda x: np.float32(1.0),
    "0-d": lambda x: x.ravel()[0:1].reshape(()),
    "one dimension more": lambda x: x[None].copy(),
    "two dimensions more": lambda x: x[None, None].copy(),
    "empty": lambda x: x[..., :0].copy(),
    "no rows": lambda x: x[:0].copy(),
    "longer": lambda x: np.concatenate((x, x), axis=-1),
    "shorter": lambda x: x[..., 1:].copy(),
}


def is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)


def copied(value: object) -> object:
    return value.copy() if is_array(value) else value


def variants(call: Call, changes: dict[str, Callable[[np.ndarray], object]]) -> list[tuple[str, int, Call]]:
    found = []
    for place, value in enumerate(call.args):
        for name, change in changes.items():
            parts = value if isinstance(value, list | tuple) else None
            if parts is not None and len(parts) and is_array(parts[0]):
                other: object = type(value)([change(parts[0]), *parts[1:]])  # type: ignore[call-arg]
            elif is_array(value):
                other = change(value)
            else:
                continue
            args = [other if k == place else copied(arg) for k, arg in enumerate(call.args)]
            found.append((name, place, replace(call, args=tuple(args))))
    return found


def agree(found: object, expected: object) -> None:
    if isinstance(expected, tuple | list):
        for one, other in zip(found, expected, strict=True):
            agree(one, other)
    elif hasattr(expected, "flat") and not is_array(expected):
        assert_allclose(found.flat, expected.flat)
    else:
        assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


@both
@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_in_other_memory_give_the_same_answer_or_none(made, name):
    expected = calls(made)[name].made()
    assert expected is not None
    for disguise, place, call in variants(calls(made)[name], DISGUISES):
        before = said(call.args)
        found = call.made()
        if found is None or found is False:
            assert said(call.args) == before, disguise
        else:
            agree(found, expected)
            untouched = [part for k, part in enumerate(call.args) if k not in call.written]
            assert said(untouched) == [part for k, part in enumerate(before) if k not in call.written], disguise
        if disguise == "read-only" and place in call.written:
            assert found is None
        if disguise == "in a larger room" or (disguise == "read-only" and place not in call.written):
            assert found is not None, f"{disguise} at {place}"


@both
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_such_array_is_refused_and_nothing_is_written(made, name):
    for stranger, place, call in variants(calls(made)[name], STRANGERS):
        before = said(call.args)
        try:
            found = call.made()
        except TypeError:
            found = None  # a number of the wrong kind
        if found is None or found is False:
            assert said(call.args) == before, f"{stranger} at {place}"
        else:
            assert is_legal(name, stranger, place), f"{stranger} at {place} was taken: {found!r}"


def is_legal(name: str, stranger: str, place: int) -> bool:
    """Whether a stranger is a legal argument of another meaning there."""
    optional = {("nearest", 3), ("alike", 3), ("constrain", 1), ("constrain into", 1), ("constrain into", 5)}
    optional |= {("forward into", 1), ("delta into, at the edge", 1), ("gradient at the edge", 2)}
    if stranger == "None":
        return (name, place) in optional
    if name.startswith(("forward", "delta")):  # a row alone, or rows
        return place == 0 and stranger in {"one dimension more", "no rows"} and "into" not in name
    anything = {("unit", 0), ("unit of rows", 0), ("top", 0), ("products", 0), ("products_of_two", 0), ("pooled", 1)}
    anything |= {("lift", 0), ("spread", 0), ("nearest", 3), ("is_vector", 0), ("alike", 0)}
    return (name, place) in anything and stranger in {
        "empty", "no rows", "longer", "shorter", "one dimension more"
    }  # fmt: skip


@both
@pytest.mark.parametrize("shift", [-40, -8, 0, 8, 40, 160])
@pytest.mark.parametrize("name", [name for name in NAMES if calls(reference)[name].written])
def test_an_out_that_shares_some_memory_is_right_or_refused(made, name, shift):
    call = calls(made)[name]
    (out_place,) = call.written
    for place, value in enumerate(call.args):
        if place == out_place or not is_array(value):
            continue
        room = np.zeros(2000, np.uint8)
        view = placed(room, 400, value)
        shared = placed(room, 400 + shift, call.args[out_place], is_kept=True)
        args, alone = list(call.args), [copied(arg) for arg in call.args]
        args[place], args[out_place] = view, shared
        alone[place], alone[out_place] = view.copy(), shared.copy()
        before = room.tobytes()
        call.function(*alone)
        if call.function(*args) is None:
            assert room.tobytes() == before
        else:
            assert_allclose(shared, alone[out_place], rtol=1e-6)


def placed(room: np.ndarray, start: int, like: np.ndarray, *, is_kept: bool = False) -> np.ndarray:
    view = room[start : start + like.nbytes].view(like.dtype).reshape(like.shape)
    if not is_kept:
        view[...] = like
    return view


@both
@pytest.mark.parametrize("name", NAMES)
def test_wrong_numbers_of_arguments_are_type_errors(made, name):
    call = calls(made)[name]
    for args in ((), (*call.args, 1, 2, 3)):
        with pytest.raises(TypeError):
            call.function(*args)


@needs_native
def test_every_call_is_tried():
    native = kernel_calls.native
    named = {call.function.__name__ for call in calls(native).values()}
    public = {name for name in vars(native) if not name.startswith("_")} - {"LEVEL", "LowRank", "maker", "select"}
    assert named == public | {name for name in vars(native.LowRank) if callable(getattr(native.LowRank, name))} - set(
        vars(object)
    ), "give the new call its arguments in kernel_calls.py"
