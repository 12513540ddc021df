"""What is counted of a workload: passes, ratios, errors and timeouts."""

import json

import pytest

from sona.errors import InvalidValue
from sona.tuner.run import Attempt, PassResult, QueryRun, WorkloadResult, run_workload
from sona.tuner.statements.workload import WorkloadQuery
from sona.tuner.tuner import Tuner

QUERIES = tuple(WorkloadQuery(name, "SELECT 1") for name in ("a", "b", "c"))
FAILED = Attempt(0.5, "no such table")
TIMED_OUT = Attempt(2.0, "canceling statement due to statement timeout", is_timeout=True)


def compared(*pairs):
    return tuple(QueryRun(QUERIES[place].name, *pair) for place, pair in enumerate(pairs))


def test_a_pass_is_the_sum_of_its_queries_and_their_ratio():
    one = PassResult(1, compared((Attempt(1.0), Attempt(2.0)), (Attempt(0.5), Attempt(1.0))))
    assert (one.tuned_s, one.server_s, one.ratio, one.errors) == (1.5, 3.0, 0.5, 0)


def test_a_query_that_fails_on_either_side_counts_on_none():
    one = PassResult(1, compared((Attempt(1.0), Attempt(2.0)), (FAILED, Attempt(9.0)), (Attempt(9.0), FAILED)))
    assert (one.tuned_s, one.server_s, one.errors) == (1.0, 2.0, 2)


def test_a_timeout_counts_with_the_time_it_took():
    one = PassResult(1, compared((Attempt(1.0), TIMED_OUT), (TIMED_OUT, Attempt(1.0))))
    assert (one.tuned_s, one.server_s, one.errors, one.timeouts) == (3.0, 3.0, 0, 1)


def test_without_a_comparison_there_is_no_ratio():
    one = PassResult(1, compared((Attempt(1.0), None)))
    assert (one.tuned_s, one.server_s, one.ratio) == (1.0, None, None)
    assert PassResult(1, ()).ratio is None


def test_the_worst_ratio_is_that_of_a_whole_pass():
    passes = [PassResult(n, compared((Attempt(tuned_s), Attempt(1.0)))) for n, tuned_s in enumerate((1.2, 0.5), 1)]
    cut = PassResult(3, compared((Attempt(9.0), Attempt(1.0))), is_whole=False)
    assert WorkloadResult(QUERIES, (*passes, cut)).worst_ratio == 1.2
    assert WorkloadResult(QUERIES, ()).worst_ratio is None


def test_failures_are_told_once_for_each_query_and_timeouts_are_none():
    passes = tuple(PassResult(n, compared((FAILED, None), (TIMED_OUT, None), (Attempt(1.0), None))) for n in (1, 2))
    found = WorkloadResult(QUERIES, passes)
    assert found.failures() == {"a": "no such table"}
    assert (found.errors, found.is_failure) == (2, False)
    assert WorkloadResult(QUERIES, (PassResult(1, compared((FAILED, None))),)).is_failure
    assert not WorkloadResult(QUERIES, ()).is_failure


def test_everything_is_plain_in_json():
    found = WorkloadResult(QUERIES, (PassResult(1, compared((Attempt(1.0), Attempt(2.0)), (FAILED, FAILED))),))
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["passes"][0]["ratio"] == 0.5
    assert plain["failures"] == {"b": "no such table"}


@pytest.mark.parametrize(
    ("queries", "passes", "limit_s"), [((), 1, None), (QUERIES, 0, None), (QUERIES, 1, 0.0), (QUERIES, 1, float("nan"))]
)
def test_what_cannot_be_run_is_refused_before_a_server_is_asked(queries, passes, limit_s):
    with pytest.raises(InvalidValue):
        run_workload(Tuner(), "host=/nowhere", queries, passes, limit_s=limit_s)
