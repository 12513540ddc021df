"""The laws of the kernel, compiled and in numpy, against float64.

The compiled sums run in 16 lanes. A sum of d products is d // 16 of them in a lane, one after the other, then four
halvings and one number for the rest, or d % 16 of the rest one after the other: with u = 2^-24 its error is at most
gamma_n sum |x_i y_i|, gamma_n = n u / (1 - n u), n = max(d // 16 + 6, d % 16 + 1); beside that, d times the least
number where products are denormal. numpy's sums run in an order of their own: n = d.

Source:
    Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 3.1 and 4.2.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sona.kernel import reference

try:
    from sona.kernel import _native
except ImportError as error:
    MADE = [reference, pytest.param(None, marks=pytest.mark.skip(reason=f"the compiled kernel does not load: {error}"))]
else:
    MADE = [reference, _native]

U = 2.0**-24  # what rounding to float32 costs at most
LEAST = 2.0**-149  # the least number above 0 of float32

both = pytest.mark.parametrize("made", MADE, ids=["numpy", "native"])
widths = st.one_of(st.integers(1, 300), st.just(2048))
ranks = st.integers(1, 16)
seeds = st.integers(0, 2**32 - 1)
exponents = st.integers(-18, 17)  # |x|^2 stays within float32
reaches = st.sampled_from([1e-3, 0.3, 5.0, math.inf])


def gamma(made: ModuleType, d: int, more: int = 0) -> float:
    n = (d if made is reference else max(d // 16 + 6, d % 16 + 1)) + more
    return n * U / (1.0 - n * U)


def drawn(rng: np.random.Generator, *shape: int, exponent: int = 0) -> np.ndarray:
    values = rng.normal(size=shape) * 10.0**exponent
    values[rng.random(shape) < 0.1] = 0.0
    return values.astype(np.float32)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def length(x: np.ndarray) -> float:
    return float(np.linalg.norm(wide(x)))


class Model:
    """The adapter in float64."""

    def __init__(self, flat: np.ndarray, d: int, rank: int, scale: float, reach: float) -> None:
        flat = wide(flat)
        self.a, self.b = flat[: d * rank].reshape(d, rank), flat[d * rank :].reshape(rank, d)
        self.scale, self.reach = scale, reach

    def raw(self, x: np.ndarray) -> np.ndarray:
        return self.scale * (wide(x) @ self.a @ self.b)

    def shrink(self, x: np.ndarray) -> float:
        raw = float(np.linalg.norm(self.raw(x)))
        return min(1.0, self.reach * length(x) / raw) if raw > 0.0 else 1.0

    def delta(self, x: np.ndarray) -> np.ndarray:
        return self.shrink(x) * self.raw(x)

    def error(self, made: ModuleType, x: np.ndarray) -> float:
        """The most that |delta| may be off: of both products, of s B, and where it is shortened of two lengths."""
        d, rank = self.a.shape
        magnitudes = np.abs(wide(x)) @ np.abs(self.a) @ np.abs(self.scale * self.b)
        of_raw = gamma(made, d, rank + 4) * float(np.linalg.norm(magnitudes))
        k = self.shrink(x)
        beside = LEAST * d * rank * (1.0 + float(np.abs(self.scale * self.b).max()))
        return k * (2.0 * of_raw + gamma(made, d, 4) * float(np.linalg.norm(self.raw(x)))) + beside


@both
@given(seed=seeds, d=widths, rank=ranks, exponent=exponents, reach=reaches)
@example(seed=0, d=16, rank=1, exponent=0, reach=0.3)
@example(seed=0, d=1, rank=3, exponent=0, reach=math.inf)  # a zero vector
def test_a_correction_is_that_of_float64_within_the_bound(made, seed, d, rank, exponent, reach):
    rng = np.random.default_rng(seed)
    flat, x = drawn(rng, 2 * d * rank), drawn(rng, d, exponent=exponent)
    scale = float(rng.uniform(0.1, 20.0))
    adapter, model = made.LowRank(flat.copy(), d, rank, scale, reach), Model(flat, d, rank, scale, reach)
    delta, forward, least = adapter.delta(x), adapter.forward(x), model.error(made, x)
    assert length(delta - model.delta(x)) <= least
    assert length(forward - (x + model.delta(x))) <= least + 2.0 * U * (length(x) + length(delta))
    assert reach == math.inf or length(delta) <= reach * length(x) * (1.0 + gamma(made, d, 4)) + LEAST * d


@both
@given(seed=seeds, d=widths, rank=ranks, exponent=exponents, n=st.integers(0, 5))
def test_rows_are_corrected_one_by_one_and_into_any_array(made, seed, d, rank, exponent, n):
    rng = np.random.default_rng(seed)
    adapter = made.LowRank(drawn(rng, 2 * d * rank), d, rank, 1.0, 0.3)
    rows = drawn(rng, n, d, exponent=exponent)
    for correct in (adapter.forward, adapter.delta):
        together = correct(rows)
        assert together.shape == rows.shape
        for row, found in zip(rows, together, strict=True):
            alone, out, same = correct(row), np.full(d, np.nan, np.float32), row.copy()
            assert correct(row, out) is out
            assert correct(same, same) is same
            assert alone.tobytes() == out.tobytes() == same.tobytes()
            np.testing.assert_allclose(found, alone, rtol=1e-3, atol=1e-5 * length(row))
            assert made is reference or found.tobytes() == alone.tobytes()


@both
@given(seed=seeds, d=widths, rank=ranks, exponent=st.integers(-44, 17), reach=reaches)
def test_an_adapter_with_nothing_in_b_returns_its_input_bit_for_bit(made, seed, d, rank, exponent, reach):
    rng = np.random.default_rng(seed)
    flat = drawn(rng, 2 * d * rank)
    flat[d * rank :] = 0.0
    x = drawn(rng, d, exponent=exponent)
    x[rng.random(d) < 0.2] = -0.0
    adapter = made.LowRank(flat, d, rank, 7.0, reach)
    assert adapter.forward(x).tobytes() == x.tobytes() == adapter.forward(x, x.copy()).tobytes()
    assert adapter.forward(x[None]).tobytes() == x.tobytes()
    assert not adapter.delta(x).any()


@both
@given(seed=seeds, d=st.integers(1, 40), rank=ranks, reach=reaches)
def test_a_gradient_equals_finite_differences_of_float64(made, seed, d, rank, reach):
    rng = np.random.default_rng(seed)
    flat, x, g = drawn(rng, 2 * d * rank), drawn(rng, d), drawn(rng, d)
    scale = float(rng.uniform(0.1, 3.0))
    model = Model(flat, d, rank, scale, reach)
    raw, k = float(np.linalg.norm(model.raw(x))), model.shrink(x)
    assume(length(x) > 0.1)
    assume(raw > 1e-3)
    assume(abs(raw / (reach * length(x)) - 1.0) > 0.01)  # there the derivative jumps
    assume(k == 1.0 or float(model.raw(x) @ wide(g)) > 0.0)  # inward, k g is meant to differ from the derivative
    direction, step = rng.normal(size=flat.size), 1e-6

    def value(move: float) -> float:
        return float(wide(g) @ Model(flat + move * direction, d, rank, scale, reach).delta(x))

    expected = (value(step) - value(-step)) / (2.0 * step)
    found = made.LowRank(flat.copy(), d, rank, scale, reach).gradient(x, g)
    size = float(np.abs(wide(found)) @ np.abs(direction)) + length(g) * k * raw
    assert abs(float(wide(found) @ direction) - expected) <= 1e-4 * (1.0 + size)


@both
@given(seed=seeds, d=widths, rank=ranks, reach=reaches)
def test_a_gradient_is_added_to_what_waits(made, seed, d, rank, reach):
    rng = np.random.default_rng(seed)
    adapter = made.LowRank(drawn(rng, 2 * d * rank), d, rank, 1.0, reach)
    x, g, base = drawn(rng, d), drawn(rng, d), drawn(rng, 2 * d * rank)
    before = base.tobytes()
    alone, added = adapter.gradient(x, g), adapter.gradient(x, g, base)
    np.testing.assert_allclose(added, wide(alone) + base, rtol=1e-6, atol=1e-6 * (1.0 + float(np.abs(alone).max())))
    assert base.tobytes() == before


@both
@given(seed=seeds, d=widths, rank=ranks, rate=st.floats(-10.0, 10.0))
def test_a_move_is_a_step_of_descent_and_leaves_the_earlier_adapter(made, seed, d, rank, rate):
    rng = np.random.default_rng(seed)
    flat, descent = drawn(rng, 2 * d * rank), drawn(rng, 2 * d * rank)
    adapter = made.LowRank(flat.copy(), d, rank, 2.0, 0.3)
    moved = adapter.moved(descent, rate, 1e6)
    # A rate below the least float32 is 0 or that.
    bound = 3.0 * U * (np.abs(wide(flat)) + np.abs(rate * wide(descent))) + LEAST * (1.0 + np.abs(wide(descent)))
    assert (np.abs(moved.flat - (flat - rate * wide(descent))) <= bound).all()
    assert adapter.flat.tobytes() == flat.tobytes()
    assert (moved.scale, moved.reach) == (2.0, 0.3)
    assert not moved.flat.flags.writeable


@both
@given(seed=seeds, d=widths, place=st.integers(0, 10**6), bad=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -2.0]))
def test_a_move_to_what_is_not_finite_or_at_the_limit_is_refused(made, seed, d, place, bad):
    rng = np.random.default_rng(seed)
    flat = (rng.random(2 * d) * 0.5).astype(np.float32)
    descent = np.zeros(2 * d, np.float32)
    adapter = made.LowRank(flat, d, 1, 1.0, 0.3)
    assert adapter.moved(descent, 1.0, 1.0) is not None
    descent[place % (2 * d)] = bad
    assert adapter.moved(descent, 1.0, 1.0) is None
    for limit in (0.0, -1.0, math.nan):
        assert adapter.moved(np.zeros(2 * d, np.float32), 1.0, limit) is None


@both
@given(seed=seeds, d=widths, n=st.integers(0, 9), exponent=exponents)
def test_products_are_those_of_float64_within_the_bound(made, seed, d, n, exponent):
    rng = np.random.default_rng(seed)
    table, x, y = drawn(rng, n, d), drawn(rng, d, exponent=exponent), drawn(rng, d)
    bound = gamma(made, d) * (np.abs(wide(table)) @ np.abs(wide(x))) + d * LEAST
    assert (np.abs(made.products(table, x) - wide(table) @ wide(x)) <= bound).all()
    of_x, of_y = made.products_of_two(table, x, y)
    assert of_x.tobytes() == made.products(table, x).tobytes()
    assert of_y.tobytes() == made.products(table, y).tobytes()


def ranked(scores: list[float], k: int) -> list[int]:
    counted = [row for row, score in enumerate(scores) if score > -math.inf]
    return sorted(counted, key=lambda row: -scores[row])[:k]  # sorted is stable: equal ones by index


few = st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, 0.5, 1e-45, 3e38, math.inf, -math.inf, math.nan])


@both
@given(scores=st.lists(few, max_size=100), k=st.one_of(st.integers(1, 8), st.integers(60, 130)))
def test_the_greatest_come_first_and_equal_ones_by_index(made, scores, k):
    rows, values = made.top(np.array(scores, np.float32), k)
    expected = ranked(np.array(scores, np.float32).tolist(), k)
    assert rows.dtype == np.int64
    assert rows.tolist() == expected
    assert values.tolist() == [float(np.float32(scores[row])) for row in expected]


@both
@given(seed=seeds, d=st.integers(1, 70), n=st.integers(0, 40), k=st.one_of(st.integers(1, 8), st.integers(30, 90)))
def test_the_nearest_rows_are_those_of_a_stable_sort(made, seed, d, n, k):
    rng = np.random.default_rng(seed)
    table, x = (rng.integers(-2, 3, shape).astype(np.float32) for shape in ((n, d), (d,)))  # products are whole: exact
    count, keep = int(rng.integers(0, n + 1)), rng.random(n) < 0.6
    for mask in (None, keep):
        scores = [float(row @ x) if mask is None or mask[place] else -math.inf for place, row in enumerate(wide(table))]
        rows, found = made.nearest(table, x, k, mask, count)
        assert rows.tolist() == ranked(scores[:count], k)
        assert found.tolist() == [scores[row] for row in rows]


@both
@given(seed=seeds, d=widths, n=st.integers(0, 20), k=st.integers(1, 30), exponent=st.integers(-12, 16))
def test_those_alike_are_the_nearest_by_their_cosine(made, seed, d, n, k, exponent):
    rng = np.random.default_rng(seed)
    table, x = made.unit(drawn(rng, n, d)), drawn(rng, d, exponent=exponent)
    assume(length(x) > 1e-14)
    keep = rng.random(n) < 0.7
    rows, cosines = made.alike(table, x, k, keep)
    assert rows == made.nearest(table, x, k, keep, n)[0].tolist()
    exact = wide(table)[rows] @ wide(x) / length(x)
    np.testing.assert_allclose(cosines, exact, atol=2.0 * gamma(made, d, 8) * math.sqrt(d))
    assert all(-1.0 <= cosine <= 1.0 for cosine in cosines)


@both
@given(seed=seeds, d=widths, exponent=st.integers(-44, 37), n=st.integers(0, 4))
def test_a_direction_is_that_of_float64(made, seed, d, exponent, n):
    rng = np.random.default_rng(seed)
    rows = drawn(rng, n, d, exponent=exponent)
    assume(np.isfinite(rows).all())
    expected = np.array([wide(row) / (length(row) or 1.0) for row in rows]).reshape(n, d)
    np.testing.assert_allclose(made.unit(rows), expected, rtol=4.0 * U, atol=LEAST)
    if n:
        assert made.unit(rows[0]).tobytes() == made.unit(rows)[0].tobytes()
        assert made.units(list(rows)).tobytes() == made.unit(rows).tobytes()


@both
@given(seed=seeds, d=widths, count=st.integers(0, 6), exponent=st.integers(-44, 37))
def test_a_heading_is_the_weighted_sum_of_directions(made, seed, d, count, exponent):
    rng = np.random.default_rng(seed)
    vectors = tuple(drawn(rng, d, exponent=exponent if k % 2 else 0) for k in range(count))
    assume(all(np.isfinite(vector).all() for vector in vectors))
    weights = tuple(float(weight) for weight in rng.normal(size=count))
    exact = np.zeros(d)
    for vector, weight in zip(vectors, weights, strict=True):
        exact += weight * wide(vector) / (length(vector) or 1.0)
    bound = (gamma(made, d, 4) + 2.0 * count * U) * sum(map(abs, weights)) + LEAST
    assert (np.abs(made.headed(vectors, weights, d) - exact) <= bound).all()


@both
@given(seed=seeds, d=widths, rate=st.floats(1e-3, 10.0), has_weights=st.booleans())
def test_a_constrained_gradient_is_that_of_float64(made, seed, d, rate, has_weights):
    rng = np.random.default_rng(seed)
    g, w, anchor = (drawn(rng, d) for _ in range(3))
    pull = rng.random(d).astype(np.float32)
    given_weights = w if has_weights else None
    moved = wide(w) - anchor if has_weights else np.zeros(d)
    exact = g + pull * (moved - rate * wide(g))
    bound = 6.0 * U * (np.abs(g) + pull * (np.abs(moved) + np.abs(rate * wide(g)))) + LEAST
    found = made.constrain(g, given_weights, anchor, pull, rate, None)
    assert (np.abs(found - exact) <= bound).all()
    assert made.constrain(g, given_weights, anchor, pull, rate, g) is g
    assert g.tobytes() == found.tobytes()


@both
@given(seed=seeds, d=widths, n=st.integers(1, 9), keep=st.floats(0.0, 1.0), exponent=st.integers(-20, 18))
def test_a_moment_is_blended_in_float64(made, seed, d, n, keep, exponent):
    rng = np.random.default_rng(seed)
    moment, gradients = rng.random(d), drawn(rng, n, d, exponent=exponent)
    exact = keep * moment + (1.0 - keep) * (wide(gradients) ** 2).mean(axis=0)
    assert made.blend(moment, gradients, keep) is moment
    np.testing.assert_allclose(moment, exact, rtol=1e-14 * (n + 4))


@both
@given(seed=seeds, d=widths, exponent=st.integers(-44, 37), width=st.sampled_from(["same", "any", "other"]))
def test_a_vector_is_kept_as_it_is_when_its_length_is_finite(made, seed, d, exponent, width):
    x = drawn(np.random.default_rng(seed), d, exponent=exponent)
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.sum(wide(x) ** 2))
    assume(not 3.3e38 < square < 3.5e38)
    expected = {"same": d, "any": None, "other": d + 1}[width]
    is_fit = width != "other" and square < 3.4e38
    assert made.is_vector(x, expected) is is_fit
    held = made.kept(x, expected)
    assert (held is not None) is is_fit
    if held is not None:
        assert held.tobytes() == x.tobytes()
        assert held is not x
        assert not held.flags.writeable
        assert made.kept(held, expected) is held


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.9e19, 3.4e38], ids=str)
@given(d=widths, place=st.integers(0, 10**6))
def test_a_vector_that_is_not_finite_or_too_long_is_for_others_to_look_at(made, bad, d, place):
    x, fine = np.ones(d, np.float32), np.ones(d, np.float32)
    x[place % d] = bad
    adapter = made.LowRank(np.ones(2 * d, np.float32), d, 1, 1.0, 0.3)
    out = np.full(d, 7.0, np.float32)
    for correct in (adapter.forward, adapter.delta):
        assert correct(x) is None
        assert correct(x, out) is None
        assert correct(np.stack([fine, x])) is None
    assert (out == 7.0).all()
    assert not made.is_vector(x, d)
    assert made.kept(x, d) is None
    assert made.alike(fine[None], x, 1, None) is None
    if not math.isfinite(bad):
        assert adapter.gradient(x, fine) is None
        assert adapter.gradient(fine, x) is None
        assert made.unit(x) is None
        assert made.units([fine, x]) is None
        assert made.headed((fine, x), (1.0, 1.0), d) is None
        assert made.constrain(x, None, fine, fine, 0.5, None) is None


@both
@given(d=widths, a=st.integers(-40, 36), b=st.integers(-40, 36), exponent=exponents, reach=reaches)
def test_a_correction_never_comes_out_infinite(made, d, a, b, exponent, reach):
    flat = np.concatenate((np.full(d, 10.0**a), np.full(d, 10.0**b))).astype(np.float32)
    x = np.full(d, 10.0**exponent / math.sqrt(d), np.float32)
    for correct in (lambda made_of: made_of.forward(x), lambda made_of: made_of.delta(x)):
        found = correct(made.LowRank(flat.copy(), d, 1, 1.0, reach))
        assert found is None or np.isfinite(found).all()
