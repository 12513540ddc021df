"""Input checks: what they accept comes back as SONA uses it; everything else is one of our errors."""

from __future__ import annotations

import numpy as np
import pytest

from sona import checks
from sona.errors import ConfigError, DimensionMismatch, InvalidValue


@pytest.mark.parametrize(
    "value", [[1, 2], (1.0, 2.0), np.array([1, 2], np.int8), np.array([1, 2], np.float64), [True, 2]]
)
def test_numbers_of_any_kind_become_a_float32_vector(value):
    array = checks.vector(value, 2)
    assert array.dtype == np.float32
    assert array.tolist() == [1.0, 2.0]


def test_a_float32_vector_is_not_copied():
    array = np.ones(3, np.float32)
    assert checks.vector(array) is array


@pytest.mark.parametrize(
    "value",
    [
        [],
        3.0,
        [[1.0, 2.0]],
        [np.nan, 1.0],
        [np.inf, 1.0],
        [-np.inf, 1.0],
        [1e39, 1.0],
        ["a", "b"],
        [1.0, None],
        [1.0, [2.0]],
        [1 + 2j, 0],
        [10**400, 1],
        "12",
        object(),
        None,
    ],
)
def test_what_is_no_finite_vector_is_refused(value):
    with pytest.raises(InvalidValue, match="query"):
        checks.vector(value, what="query")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_long_but_finite_vector_is_a_vector(dtype):
    assert checks.vector(np.array([1e30, -3e38], dtype)).dtype == np.float32


def test_another_width_says_both_widths():
    with pytest.raises(DimensionMismatch, match="query: expected width 3, got 2") as caught:
        checks.vector([1.0, 2.0], 3, "query")
    assert (caught.value.expected, caught.value.actual) == (3, 2)
    with pytest.raises(DimensionMismatch):
        checks.matrix([[1.0, 2.0]], 3)
    with pytest.raises(DimensionMismatch):
        checks.embeddings([[1.0, 2.0]], 3)


def test_a_matrix_may_be_empty_but_not_of_another_shape():
    assert checks.matrix(np.zeros((0, 4)), 4).shape == (0, 4)
    for value in ([1.0], [[np.nan]], np.zeros((1, 1, 1))):
        with pytest.raises(InvalidValue):
            checks.matrix(value)


def test_embeddings_are_one_or_several():
    assert checks.embeddings([1.0, 2.0]).shape == (2,)
    assert checks.embeddings([[1.0, 2.0]]).shape == (1, 2)
    assert checks.embeddings(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("value", [1.0, np.zeros((1, 1, 1)), [], [[]], [np.nan], [[0.0], [np.inf]], [1e20, 0.0]])
def test_what_is_no_embedding_is_refused(value):
    with pytest.raises(InvalidValue):
        checks.embeddings(value)


@pytest.mark.parametrize("value", [0, 1, 0.5, True, np.float32(0.25)])
def test_a_fraction_is_in_0_1(value):
    assert checks.fraction(value, "quality") == float(value)


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, 5, np.nan, np.inf, "x", None, [0.1, 0.2]])
def test_what_is_no_fraction_is_refused(value):
    with pytest.raises(InvalidValue, match="quality"):
        checks.fraction(value, "quality")


@pytest.mark.parametrize("value", [np.nan, np.inf, "x", None])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(InvalidValue, match="rate"):
        checks.finite(value, "rate")


def test_whole_numbers_have_bounds_and_are_no_bools():
    assert checks.whole(np.int32(3), "k", 1, 3) == 3
    assert type(checks.whole(np.int32(3), "k", 1)) is int
    for value in (0, 4, True, 2.0, "2", None):
        with pytest.raises(InvalidValue, match="k: expected"):
            checks.whole(value, "k", 1, 3)


@pytest.mark.parametrize("value", ["", "  \n", None, 3])
def test_empty_text_is_refused(value):
    with pytest.raises(InvalidValue):
        checks.nonempty_text(value, "text")


def test_settings_are_refused_with_a_config_error():
    checks.setting_whole(1, "k", 1)
    checks.setting_number(0.5, "rate", 0.0, 1.0)
    checks.setting_number(np.float32(0.5), "rate", 0.0, open_low=True)
    bad = [
        lambda: checks.setting_whole(0, "k", 1),
        lambda: checks.setting_number(0.0, "rate", 0.0, open_low=True),
        lambda: checks.setting_number(1.1, "rate", 0.0, 1.0),
        lambda: checks.setting_number(float("nan"), "rate", 0.0),
        lambda: checks.setting_number(True, "rate", 0.0),
        lambda: checks.setting_number("1", "rate", 0.0),
    ]
    for call in bad:
        with pytest.raises(ConfigError):
            call()


def test_an_embedding_is_one_vector_with_a_length():
    assert checks.embedding([1.0, 2.0], 2, "x").dtype == np.float32
    for value in ([[1.0, 2.0]], [], [1.0, np.nan], [1e20, 1e20]):
        with pytest.raises(InvalidValue):
            checks.embedding(value, what="x")
    with pytest.raises(DimensionMismatch):
        checks.embedding([1.0, 2.0], 3, "x")
