"""What only the compiled kernel has to keep: the same bits everywhere, no leaks, and no lock where work is long."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from kernel_calls import NAMES, calls, level, native, needs_native, said

pytestmark = needs_native

LEVELS = ("baseline", "avx2", "avx512")
REPEATS = 2000


@pytest.mark.parametrize("other", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_every_instruction_set_gives_the_same_bits(name, other):
    for seed in range(5):
        with level("baseline"):
            expected = said(calls(native, seed)[name].made())
        with level(other):
            assert said(calls(native, seed)[name].made()) == expected


@pytest.mark.parametrize("other", LEVELS)
@pytest.mark.parametrize("d", [1, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 200, 2048])
def test_every_instruction_set_gives_the_same_bits_at_every_width(d, other):
    def found() -> list[object]:
        rng = np.random.default_rng(d)
        table, x = rng.normal(size=(9, d)).astype(np.float32), rng.normal(size=d).astype(np.float32)
        x[:: max(1, d // 3)] *= np.float32(1e-38)
        adapter = native.LowRank(rng.normal(size=6 * d).astype(np.float32), d, 3, 0.7, 0.3)
        moment = rng.random(d)
        return [
            said(native.products(table, x)),
            said(native.products_of_two(table, x, table[0])),
            said(native.unit(table)),
            said(adapter.forward(x)),
            said(adapter.gradient(x, table[1])),
            said(adapter.moved(rng.normal(size=6 * d).astype(np.float32), 0.1, 1e6)),
            said(native.constrain(x, table[2], table[3], np.abs(table[4]), 0.1, None)),
            said(native.blend(moment, table, 0.9)),
            native.is_vector(x, d),
        ]

    with level("baseline"):
        expected = found()
    with level(other):
        assert found() == expected


def test_an_instruction_set_that_is_not_known_changes_nothing():
    before = native.LEVEL
    assert native.select("sse17") is False
    assert native.select("") is False
    assert before == native.LEVEL
    with pytest.raises(TypeError):
        native.select(3)


def arrays_in(value: object) -> list[object]:
    if isinstance(value, tuple | list):
        return [value, *(array for part in value for array in arrays_in(part))]
    return [value] if isinstance(value, np.ndarray) else []


def spoiled(value: object) -> object:
    if isinstance(value, tuple | list):
        return type(value)([spoiled(part) for part in value])  # type: ignore[call-arg]
    return value[..., ::2] if isinstance(value, np.ndarray) else value


def failing(name: str) -> list[tuple[Callable[..., object], tuple[object, ...]]]:
    """The call, once with each argument spoiled: an array that is not plain, or an object where a number belongs."""
    call = calls(native)[name]
    found = [(call.function, ()), (call.function, (*call.args, None, None, None))]
    for place, value in enumerate(call.args):
        other = spoiled(value) if arrays_in(value) else object()
        found.append((call.function, (*call.args[:place], other, *call.args[place + 1 :])))
        if isinstance(value, tuple) and not arrays_in(value):
            halfway = (*value[:-1], object())
            found.append((call.function, (*call.args[:place], halfway, *call.args[place + 1 :])))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_call_keeps_or_loses_a_reference(name):
    call = calls(native)[name]
    for function, args in [(call.function, call.args), *failing(name)]:
        watched = [None, True, call.function, *(part for arg in args for part in (arg, *arrays_in(arg)))]
        repeat(function, args, 10)
        before = [sys.getrefcount(part) for part in watched]
        repeat(function, args, REPEATS)
        after = [sys.getrefcount(part) for part in watched]
        assert max(abs(late - early) for early, late in zip(before, after, strict=True)) < REPEATS // 10


@pytest.mark.parametrize("name", NAMES)
def test_no_call_leaks_memory(name):
    call = calls(native)[name]
    for function, args in [(call.function, call.args), *failing(name)]:
        repeat(function, args, 20)
        gc.collect()
        tracemalloc.start()
        try:
            repeat(function, args, 20)
            before = tracemalloc.get_traced_memory()[0]
            repeat(function, args, 200)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 200 * 8, f"{grown} bytes more after 200 calls"


def repeat(function: Callable[..., object], args: tuple[object, ...], times: int) -> None:
    for _ in range(times):
        with suppress(TypeError):
            function(*args)


def test_an_adapter_holds_its_weights_and_lets_them_go():
    flat = np.ones(8, np.float32)
    before = sys.getrefcount(flat)
    adapter = native.LowRank(flat, 4, 1, 1.0, 0.3)
    assert adapter.flat is flat
    assert not flat.flags.writeable
    assert sys.getrefcount(flat) == before + 1
    del adapter
    gc.collect()
    assert sys.getrefcount(flat) == before


@pytest.mark.parametrize(
    "args",
    [
        (np.ones(8, np.float32), 4, 2, 1.0, 0.3),
        (np.ones(8, np.float32), 0, 1, 1.0, 0.3),
        (np.ones(8, np.float32), -4, -1, 1.0, 0.3),
        (np.ones(8, np.float32), 2**62, 2**30, 1.0, 0.3),
        (np.ones(8), 4, 1, 1.0, 0.3),
        (np.ones(16, np.float32)[::2], 4, 1, 1.0, 0.3),
        (None, 4, 1, 1.0, 0.3),
    ],
)
def test_weights_that_do_not_fit_make_no_adapter(args):
    with pytest.raises(ValueError, match="2 d r"):
        native.LowRank(*args)


def test_an_adapter_is_made_of_five_positions_and_never_changed():
    flat = np.ones(8, np.float32)
    with pytest.raises(TypeError):
        native.LowRank(flat, 4, 1, 1.0, reach=0.3)
    with pytest.raises(TypeError):
        native.LowRank(flat, "4", 1, 1.0, 0.3)
    adapter = native.LowRank(flat, 4, 1, 1.0, 0.3)
    with pytest.raises(AttributeError):
        adapter.scale = 2.0
    with pytest.raises(ValueError, match="read-only"):
        adapter.flat[0] = 2.0
    with pytest.raises(TypeError):
        type("Own", (native.LowRank,), {})


def test_more_than_any_memory_holds_is_refused():
    with pytest.raises(MemoryError):
        native.pooled([np.arange(3)], [np.ones((3, 2))], [0], [1.0], sys.maxsize)


def test_threads_share_an_adapter_and_get_what_one_gets():
    d = 4096  # so much work that the interpreter's lock is let go
    rng = np.random.default_rng(0)
    adapter = native.LowRank(rng.normal(size=64 * d).astype(np.float32), d, 32, 1.0, 0.3)
    table = rng.normal(size=(64, d)).astype(np.float32)
    keep = rng.random(64) < 0.5

    def found() -> list[object]:
        moved = [adapter.forward(table), native.products(table, table[0]), native.nearest(table, table[1], 5, keep, 64)]
        into = np.empty(d, np.float32)
        return [said(answer) for answer in (*moved, adapter.forward(table[2], into))]

    expected, answers = found(), []
    threads = [threading.Thread(target=lambda: answers.append(found())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 4
