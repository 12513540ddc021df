"""The fit of a query: near what a count over all rows says, the same however lengths are scaled, None when unknown."""

import math

import numpy as np
import pytest
from scipy import stats

from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.state import State
from sona.tuner.searches.fit import SAMPLE, Survey, Surveyed, fit

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(6, 16))
WHOLE = np.vstack([centre + 0.7 * RNG.normal(size=(2000, 16)) for centre in CENTRES])
SHELF = WHOLE[:2000]
QUERIES = np.vstack([centre + 0.7 * RNG.normal(size=(8, 16)) for centre in CENTRES])


def surveyed(rows: np.ndarray, count: int | None = None) -> Surveyed:
    return Surveyed(float(len(rows) if count is None else count), rows.mean(0), rows.var(0))


def counted(query: np.ndarray, shelf: np.ndarray, whole: np.ndarray, limit: int, closeness) -> float:
    """The fit by looking at every row."""
    last = np.sort(closeness(query, shelf))[-limit]
    return math.log2(limit / (closeness(query, whole) >= last).sum())


CLOSENESS = {
    "<=>": lambda query, rows: rows @ query / np.linalg.norm(rows, axis=1),
    "<#>": lambda query, rows: rows @ query,
    "<->": lambda query, rows: -np.linalg.norm(rows - query, axis=1),
    "<+>": lambda query, rows: -np.abs(rows - query).sum(1),
}


@pytest.mark.parametrize("operator", CLOSENESS)
def test_it_orders_queries_as_a_count_over_all_rows_does(operator):
    found = [fit(query, surveyed(SHELF), surveyed(WHOLE), limit=10, operator=operator) for query in QUERIES]
    truth = [counted(query, SHELF, WHOLE, 10, CLOSENESS[operator]) for query in QUERIES]
    assert stats.spearmanr(found, truth).statistic > 0.7


def test_where_closeness_is_normal_it_is_the_count():
    rows = np.random.default_rng(1).normal(size=(200_000, 4)) * [1.0, 2.0, 0.5, 1.5]
    shelf = rows[:20_000] + np.array([1.0, 0.0, 0.0, -1.0])
    whole = np.vstack([rows[20_000:], shelf])
    for query in np.eye(4):
        # The table is a mixture, normal only nearly; the shelf is a tenth of it.
        found = fit(query, surveyed(shelf), surveyed(whole), limit=200, operator="<#>")
        assert found == pytest.approx(counted(query, shelf, whole, 200, CLOSENESS["<#>"]), abs=0.7)


def test_rows_that_are_the_table_fit():
    for operator in CLOSENESS:
        found = fit(QUERIES[0], surveyed(WHOLE), surveyed(WHOLE), limit=10, operator=operator)
        assert found == pytest.approx(0.0, abs=1e-6)


def test_a_scattered_filter_fits_as_its_share_says():
    found = fit(QUERIES[0], surveyed(WHOLE, 1000), surveyed(WHOLE, 64_000), limit=10)
    assert found == pytest.approx(-6.0, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_length_of_a_query_does_not_count_in_a_cosine(scale):
    whole, shelf = surveyed(WHOLE), surveyed(SHELF)
    assert fit(scale * QUERIES[0], shelf, whole, limit=10) == pytest.approx(fit(QUERIES[0], shelf, whole, limit=10))


def test_moving_everything_changes_no_distance():
    moved = fit(QUERIES[0] + 5.0, surveyed(SHELF + 5.0), surveyed(WHOLE + 5.0), limit=10, operator="<->")
    assert moved == pytest.approx(fit(QUERIES[0], surveyed(SHELF), surveyed(WHOLE), limit=10, operator="<->"))


def test_what_cannot_be_told_is_none():
    whole, shelf = surveyed(WHOLE), surveyed(SHELF)
    nothing = Surveyed(0.0, np.zeros(0), np.zeros(0))
    assert fit(QUERIES[0], nothing, whole, limit=10) is None
    assert fit(QUERIES[0], shelf, nothing, limit=10) is None
    assert fit(QUERIES[0][:3], shelf, whole, limit=10) is None
    assert fit(QUERIES[0], shelf, whole, limit=10, operator="<~>") is None


def test_it_is_finite_where_rows_are_few_or_all_alike():
    point = Surveyed(3.0, np.ones(16), np.zeros(16))
    for operator in CLOSENESS:
        assert math.isfinite(fit(QUERIES[0], point, surveyed(WHOLE), limit=10, operator=operator))
        assert math.isfinite(fit(QUERIES[0], point, point, limit=10, operator=operator))
    assert math.isfinite(fit(np.zeros(16), surveyed(SHELF), surveyed(WHOLE), limit=10))
    assert math.isfinite(fit(QUERIES[0], surveyed(SHELF, 10**17), surveyed(WHOLE, 10**18), limit=1))


@pytest.mark.parametrize(("query", "limit"), [(QUERIES[0], 0), ([math.nan] * 16, 10)])
def test_bad_questions_are_refused(query, limit):
    with pytest.raises(InvalidValue):
        fit(query, surveyed(SHELF), surveyed(WHOLE), limit=limit)


class TestSurvey:
    def test_a_filter_is_asked_for_its_count_and_a_few_rows(self):
        asked = Survey("doc", "embedding", ("section", "lang")).sql
        assert asked.count("section = %s AND lang = %s") == 2
        assert f"LIMIT {SAMPLE}" in asked

    def test_a_large_table_is_sampled_and_a_small_one_read(self):
        assert "TABLESAMPLE SYSTEM (0.200000)" in Survey("doc", "embedding", table_rows=1e6).sql
        assert "TABLESAMPLE" not in Survey("doc", "embedding", table_rows=2000.0).sql
        assert Survey("doc", "embedding", table_rows=-1.0).sql.startswith("SELECT 0,")  # never analysed

    def test_averages_become_mean_and_variance(self):
        rows = np.random.default_rng(0).normal(size=(50, 3))
        texts = (str(part.tolist()) for part in (rows.mean(0), (rows**2).mean(0)))
        found = Surveyed.of(50, *texts)
        assert found.mean == pytest.approx(rows.mean(0))
        assert found.variance == pytest.approx(rows.var(0))

    def test_rounding_makes_no_negative_variance(self):
        assert Surveyed.of(2, "[1]", "[0.999999]").variance.tolist() == [0.0]

    def test_no_rows_are_no_vectors(self):
        found = Surveyed.of(0, None, None)
        assert (found.rows, len(found.mean), len(found.variance)) == (0.0, 0, 0)

    @pytest.mark.parametrize("text", ["", "[a]", "[nan]", "{1:1}/3"])
    def test_what_is_no_vector_is_refused(self, text):
        with pytest.raises(InvalidValue):
            Surveyed.of(1, text, text)

    def test_averages_of_two_widths_are_refused(self):
        with pytest.raises(DimensionMismatch):
            Surveyed.of(1, "[1,2]", "[1]")

    @pytest.mark.parametrize("rows", [-1, math.nan])
    def test_a_count_that_cannot_be_is_refused(self, rows):
        with pytest.raises(InvalidValue):
            Surveyed.of(rows, "[1]", "[1]")

    def test_it_comes_back_bit_for_bit(self):
        found = surveyed(SHELF)
        again = Surveyed.from_state(found.state())
        assert (again.rows, again.mean.tobytes()) == (found.rows, found.mean.tobytes())
        assert again.variance.tobytes() == found.variance.tobytes()
        with pytest.raises(StoreError):
            Surveyed.from_state(State({"rows": 1.0, "mean": np.zeros(2), "variance": np.zeros(3)}))
