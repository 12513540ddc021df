"""Work that just fits into what the compiled kernel has at hand, and work that just does not, is the same work."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import both
from numpy.testing import assert_allclose

from sona.kernel import reference


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@both
@pytest.mark.parametrize("d", [2095, 2096, 2097, 2109, 2110, 2111, 2112, 2113, 5000])
@pytest.mark.parametrize("rank", [1, 2, 16])
def test_an_adapter_of_any_width(made, d, rank):
    flat, x, g = drawn(2 * d * rank), drawn(d), drawn(d + 1)[:d].copy()
    for reach in (0.01, 1e9):
        found, expected = (kind.LowRank(flat.copy(), d, rank, 0.1, reach) for kind in (made, reference))
        assert_allclose(found.forward(x), expected.forward(x), rtol=1e-3, atol=1e-3)
        assert_allclose(found.gradient(x, g), expected.gradient(x, g), rtol=1e-2, atol=1e-3)


@both
@pytest.mark.parametrize("k", [63, 64, 65, 66, 200])
@pytest.mark.parametrize("count", [63, 64, 65, 66, 1023, 1024, 1025, 2049])
def test_any_number_of_the_greatest_of_any_number(made, k, count):
    scores = np.repeat(np.arange(count // 2 + 1, dtype=np.float32), 2)[:count]  # worst order, and two of each
    expected = sorted(range(count), key=lambda row: -scores[row])[:k]
    assert made.top(scores, k)[0].tolist() == expected
    rows, found = made.nearest(scores[:, None].copy(), np.ones(1, np.float32), k, None, count)
    assert rows.tolist() == expected
    assert found.tolist() == scores[expected].tolist()
    assert made.alike(np.sign(scores - 20.0)[:, None].copy(), np.ones(1, np.float32), k, scores > 7.0) is not None


@both
@pytest.mark.parametrize("count", [1, 63, 64, 65, 66, 300])
def test_any_number_of_directions(made, count):
    vectors, x = tuple(drawn(count, 5)), drawn(5)
    weights = tuple(np.linspace(0.1, 1.0, count).tolist())
    assert_allclose(made.headed(vectors, weights, 5), reference.headed(vectors, weights, 5), rtol=1e-3, atol=1e-4)
    found, expected = (kind.preferred(vectors, weights, x, 0.3) for kind in (made, reference))
    assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@both
@pytest.mark.parametrize("count", [511, 512, 513, 1023, 1024, 1025, 2000])
def test_any_number_of_names(made, count):
    names = np.arange(count) * 1_000_003 - 77
    rng = np.random.default_rng(count)
    voices = [names, names[::-1].copy()], [rng.random((count, 2)), rng.random((count, 2))]
    for found, expected in zip(
        made.pooled(*voices, [0, 1], [0.5, 0.25], 2), reference.pooled(*voices, [0, 1], [0.5, 0.25], 2), strict=True
    ):
        assert found.tobytes() == expected.tobytes()
    ends, weights = np.arange(count, dtype=np.int32), rng.random((2, count)).astype(np.float32)
    links = np.array([0, count]), ends, weights, np.array([0]), np.ones((2, 1))
    (rows, amounts), (same, others) = made.spread(*links), reference.spread(*links)
    assert rows.tolist() == same.tolist()
    assert_allclose(amounts, others)
