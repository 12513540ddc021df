"""What the compiled kernel sums up over a handful of rows, against the same in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona import kernel
from sona.kernel import reference

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 70), st.integers(0, 9))
def test_directions_have_length_1_and_those_of_nothing_are_nothing(seed, width, count):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(count, width)) * 10.0 ** rng.integers(-30, 18, (count, 1))).astype(np.float32)
    rows[: count // 3] = 0.0
    found, wanted = kernel.unit(rows), reference.unit(rows)
    assert found.shape == wanted.shape == rows.shape
    np.testing.assert_allclose(found, wanted, rtol=3e-7, atol=0.0)
    if count:
        assert (kernel.unit(rows[-1]) == found[-1]).all()
        assert (kernel.units(list(rows)) == found).all()
        lengths = np.linalg.norm(found.astype(np.float64), axis=1)
        assert ((np.abs(lengths - 1.0) < 1e-6) | (rows == 0.0).all(axis=1)).all()


@pytest.mark.parametrize("kind", [kernel, reference], ids=["kernel", "numpy"])
def test_what_is_not_plain_has_no_direction_here(kind):
    rows = np.ones((4, 6), np.float32)
    for other in (rows[:, ::2], rows.astype(np.float64), rows.tolist(), None, rows[None]):
        assert kind.unit(other) is None
    for others in ([], (rows[0],), [rows[0], rows[0, :3].copy()], [rows[0, ::2]], [rows]):
        assert kind.units(others) is None


def neighbours(rng: np.random.Generator, count: int, most: int, bins: int) -> tuple:
    sizes = rng.integers(0, most + 1, count)
    items = [rng.choice(10 * most + 1, size, replace=False).astype(np.int64) for size in sizes]
    sums = [rng.random((size, 2)) for size in sizes]
    return items, sums, rng.integers(0, bins, count).tolist(), rng.random(count).tolist(), bins


@given(seeds, st.integers(0, 40), st.sampled_from([1, 5, 60]), st.integers(1, 7))
def test_pooled_sums_are_those_of_numpy_bit_for_bit(seed, count, most, bins):
    given_all = neighbours(np.random.default_rng(seed), count, most, bins)
    for found, wanted in zip(kernel.pooled(*given_all), reference.pooled(*given_all), strict=True):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert (found == wanted).all()


@pytest.mark.parametrize("kind", [kernel, reference], ids=["kernel", "numpy"])
def test_neighbours_that_do_not_fit_together_are_not_pooled(kind):
    items, sums = [np.arange(3)], [np.ones((3, 2))]
    assert kind.pooled(items, sums, [0], [1.0], 1) is not None
    assert kind.pooled(items, sums, [1], [1.0], 1) is None
    assert kind.pooled(items, sums, [-1], [1.0], 1) is None
    assert kind.pooled(items, sums, [0, 0], [1.0], 1) is None
    assert kind.pooled(items, [np.ones((2, 2))], [0], [1.0], 1) is None
    assert kind.pooled(items, [np.ones((3, 3))], [0], [1.0], 1) is None
    assert kind.pooled(items, [np.ones((3, 2), np.float32)], [0], [1.0], 1) is None
    assert kind.pooled([np.arange(3, dtype=np.int32)], sums, [0], [1.0], 1) is None


def links(rng: np.random.Generator, rows: int) -> tuple:
    counts = rng.integers(0, 12, rows)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    ends = rng.integers(0, rows + 3, starts[-1]).astype(np.int32)
    weights = (rng.random((2, starts[-1])) * rng.integers(0, 2, (2, starts[-1]))).astype(np.float32)
    return starts, ends, weights


@given(seeds, st.integers(1, 40), st.sampled_from([0, 3, 30, 300]))
def test_what_spreads_is_what_numpy_spreads(seed, rows, count):
    rng = np.random.default_rng(seed)
    held = links(rng, rows)
    active_rows, active = rng.integers(0, rows + 2, count), rng.random((2, count))
    (ends, amounts), (wanted_ends, wanted) = (kind.spread(*held, active_rows, active) for kind in (kernel, reference))
    assert (ends == wanted_ends).all()
    assert len(set(ends.tolist())) == len(ends)
    np.testing.assert_allclose(amounts, wanted, rtol=1e-12)
    # nothing is lost but what stands where no link of its kind leads on
    starts, _, weights = held
    for kind in (0, 1):
        leads = [row < rows and weights[kind, starts[row] : starts[row + 1]].sum() > 0.0 for row in active_rows]
        assert amounts[kind].sum() == pytest.approx(active[kind, np.array(leads, bool)].sum(), abs=1e-9)


@pytest.mark.parametrize("kind", [kernel, reference], ids=["kernel", "numpy"])
def test_links_that_do_not_fit_together_are_not_followed(kind):
    starts, ends, weights = links(np.random.default_rng(1), 6)
    rows, active = np.array([0, 2]), np.ones((2, 2))
    assert kind.spread(starts, ends, weights, rows, active) is not None
    assert kind.spread(starts, ends, weights, np.array([0, -1]), active) is None
    assert kind.spread(starts, ends, weights, rows, np.ones((2, 3))) is None
    assert kind.spread(starts, ends, weights[:, :-1], rows, active) is None
    assert kind.spread(starts, ends, weights.astype(np.float64), rows, active) is None
    assert kind.spread(starts.astype(np.int32), ends, weights, rows, active) is None
    assert kind.spread(starts[:0], ends, weights, rows, active) is None


@given(seeds, st.integers(1, 30), st.integers(0, 60))
def test_what_lifts_scores_is_added_where_there_are_any(seed, count, more):
    rng = np.random.default_rng(seed)
    scores, rows = rng.random(count).astype(np.float32), rng.integers(-2, count + 2, more)
    amounts, before = rng.normal(size=more).astype(np.float32), scores.copy()
    theirs = scores.copy()
    assert kernel.lift(scores, rows, amounts) == reference.lift(theirs, rows, amounts)
    assert (scores == theirs).all()
    assert (
        np.delete(scores, rows[(rows >= 0) & (rows < count)]) == np.delete(before, rows[(rows >= 0) & (rows < count)])
    ).all()


@pytest.mark.parametrize("kind", [kernel, reference], ids=["kernel", "numpy"])
def test_scores_that_cannot_be_lifted_are_left_alone(kind):
    scores, rows, amounts = np.zeros(3, np.float32), np.arange(2), np.ones(2, np.float32)
    fixed = scores.copy()
    fixed.flags.writeable = False
    assert kind.lift(fixed, rows, amounts) is None
    assert kind.lift(scores, rows.astype(np.int32), amounts) is None
    assert kind.lift(scores, rows, amounts[:1]) is None
    assert kind.lift(scores, rows, amounts.astype(np.float64)) is None
    assert not scores.any()


@given(seeds, st.integers(1, 70), st.integers(0, 3))
def test_a_combination_is_that_of_numpy_bit_for_bit(seed, width, count):
    x, *vectors = np.random.default_rng(seed).normal(size=(count + 1, width)).astype(np.float32)
    weights = tuple(np.random.default_rng(seed).normal(size=count).tolist())
    found = kernel.combined(x, tuple(vectors), weights)
    assert found is not x
    assert (found == reference.combined(x, tuple(vectors), weights)).all()


@pytest.mark.parametrize("kind", [kernel, reference], ids=["kernel", "numpy"])
def test_vectors_that_differ_are_not_combined(kind):
    x = np.ones(4, np.float32)
    assert kind.combined(x, (x[:3].copy(),), (1.0,)) is None
    assert kind.combined(x, (x,), (1.0, 2.0)) is None
    assert kind.combined(x[::2], (), ()) is None


RATES = 0.95 * 0.75 ** np.arange(28.0)
LOG_WEIGHTS = np.log((1.0 / (np.arange(28) + 3.0)) / (1.0 / (np.arange(28) + 3.0)).sum())


@given(seeds, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(-1.0, 1.0))
def test_what_chance_costs_is_what_numpy_says(seed, below, above, residual):
    costs = np.random.default_rng(seed).random((2, 28))
    ours, theirs = costs.copy(), costs.copy()
    assert kernel.charge(ours, RATES, residual, below, above) is ours
    reference.charge(theirs, RATES, residual, below, above)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert (ours >= costs).all()


@given(seeds, st.floats(1e-6, 0.9), st.floats(0.0, 400.0))
def test_the_mixture_crosses_where_numpy_finds_it_to(seed, level, scale):
    costs = np.random.default_rng(seed).random(28) * scale
    goal = -float(np.log(level))
    found = kernel.deviation(LOG_WEIGHTS, RATES, costs, goal)
    assert found == pytest.approx(reference.deviation(LOG_WEIGHTS, RATES, costs, goal), rel=1e-9)
    exponents = LOG_WEIGHTS + RATES * found - costs
    assert np.logaddexp.reduce(exponents) == pytest.approx(goal, abs=1e-8)


@pytest.mark.parametrize("kind", [kernel, reference], ids=["kernel", "numpy"])
def test_costs_that_do_not_fit_the_rates_are_left_alone(kind):
    costs = np.zeros((2, 28))
    assert kind.charge(costs[:, :5], RATES, 0.5, 1.0, 1.0) is None
    assert kind.charge(costs.astype(np.float32), RATES, 0.5, 1.0, 1.0) is None
    assert kind.deviation(LOG_WEIGHTS, RATES, costs[0, :5].copy(), 1.0) is None
    assert kind.deviation(LOG_WEIGHTS, RATES[::-1], costs[0], 1.0) is None
    fixed = np.zeros((2, 28))
    fixed.flags.writeable = False
    assert kind.charge(fixed, RATES, 0.5, 1.0, 1.0) is None
    assert not costs.any()


@pytest.mark.skipif(kernel.chosen.name == "numpy", reason="how numpy multiplies depends on the shape")
@given(seeds, st.integers(0, 9), st.integers(1, 70))
def test_two_products_at_once_are_the_same_bits_as_one_after_the_other(seed, count, width):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(count, width)).astype(np.float32)
    x, y = rng.normal(size=(2, width)).astype(np.float32)
    of_x, of_y = kernel.products_of_two(table, x, y)
    assert (of_x == kernel.products(table, x)).all()
    assert (of_y == kernel.products(table, y)).all()
    alone = [kernel.products(row[None].copy(), x)[0] for row in table]
    assert of_x.tolist() == alone  # wherever a row stands: equals stay equal
