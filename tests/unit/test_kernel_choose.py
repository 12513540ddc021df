"""Which kernel runs, and what is said about it."""

from __future__ import annotations

import sys

import pytest
from kernel_calls import native, needs_native

import sona.kernel
from sona.errors import ConfigError
from sona.kernel import reference
from sona.kernel.choose import Chosen, choose


@pytest.fixture(autouse=True)
def same_level_afterwards():
    before = None if native is None else native.LEVEL
    yield
    if native is not None:
        native.select(before)


@pytest.fixture
def not_built(monkeypatch):
    monkeypatch.delattr(sona.kernel, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "sona.kernel._native", None)


def test_numpy_runs_when_it_is_asked_for():
    assert choose("numpy") == Chosen(reference, "numpy", "SONA_KERNEL asks for it")


@needs_native
def test_the_best_instruction_set_runs_by_default_and_each_by_its_name():
    best = choose("")
    assert best == Chosen(native, f"native {native.LEVEL}")
    assert str(best) == best.name
    assert choose("baseline") == Chosen(native, "native baseline")
    assert native.LEVEL == "baseline"
    assert choose("") == best


@needs_native
@pytest.mark.parametrize("wanted", ["nonsense", "native", "AVX2", "avx1024", " "])
def test_a_kernel_that_is_not_known_is_refused_in_one_line(wanted):
    before = native.LEVEL
    with pytest.raises(ConfigError) as refused:
        choose(wanted)
    assert str(refused.value).startswith("SONA_KERNEL: expected numpy, baseline, avx2 or avx512")
    assert repr(wanted) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert before == native.LEVEL


@pytest.mark.usefixtures("not_built")
def test_numpy_runs_and_says_why_where_nothing_was_compiled():
    chosen = choose("")
    assert (chosen.made, chosen.name) == (reference, "numpy")
    assert chosen.reason is not None
    assert chosen.reason.startswith("the compiled kernel does not load: ")
    assert str(chosen) == f"numpy ({chosen.reason})"


@pytest.mark.usefixtures("not_built")
def test_an_instruction_set_that_was_asked_for_and_not_compiled_is_refused():
    with pytest.raises(ConfigError, match="SONA_KERNEL=avx2: the compiled kernel does not load"):
        choose("avx2")


@needs_native
def test_both_kernels_answer_to_the_same_calls():
    missing = {"nearest", "LowRank", "maker"} | set(sona.kernel.__all__)
    for name in missing - {"changer", "chosen"}:
        assert callable(getattr(reference, name))
        assert callable(getattr(native, name))
