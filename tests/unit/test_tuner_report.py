"""The report says what the tuner did: figures of a server that is made up, and words that follow from them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from taught import QUICK, SLOW, WRITE, served, taught

from sona.tuner.choosing.arms import plan_arms
from sona.tuner.choosing.family import Family
from sona.tuner.choosing.plan_policy import PlanPolicy
from sona.tuner.choosing.unit import Times, Unit
from sona.tuner.execution import ExecutionParams
from sona.tuner.ledger import Ledger
from sona.tuner.report import Finding, duration, read_report, times
from sona.tuner.searches.arms import EXACT, SearchArm
from sona.tuner.searches.report import SearchPattern
from sona.tuner.statement_report import read_family_report, read_statement_report

ARMS = plan_arms()
OWN = {"server": [0.1] * 3}
SEARCH = SearchPattern(
    fingerprint="f",
    least_rows=64,
    fit=-2,
    arm=EXACT,
    reason="nothing quicker is known",
    recall=1.0,
    recall_low=1.0,
    checks=4,
    searches=30,
    early=2,
    mean_ms=5.0,
    own_recall=0.4,
    own_ms=math.inf,
    own_short=math.nan,
)


def unit(**values):
    times = {name: Times(list(recent), len(recent)) for name, recent in values.pop("times", {}).items()}
    return Unit("f", times=times, count=sum(one.count for one in times.values()), **values)


def read(one, *, limit_s=math.inf):
    return read_statement_report("k", one, ARMS, min_mean_s=0.005, limit_s=limit_s)


def pattern_of(report, sql):
    normal = sql.replace("0", "$1").replace("1", "$1")
    return next(one for one in report.patterns if one.sql.lower().startswith(normal.lower()[:20]))


# -- the whole -------------------------------------------------------------------------------------------------------


def test_a_new_tuner_says_that_there_is_no_evidence():
    report = taught({}, 0).report()
    assert report.verdict == "No evidence yet: no query came to its end."
    assert (report.queries, report.patterns, report.saved_s) == (0, (), 0.0)


def test_what_only_looks_on_tries_nothing_and_costs_what_it_asks():
    report = taught(mode="observe").report()
    assert not report.is_tried
    assert report.verdict.startswith("No evidence yet: 600 queries took")
    assert report.saved_s == pytest.approx(-report.explored_s)  # what asking for plans took
    assert {one.finding for pattern in report.patterns for one in pattern.statements} <= {
        Finding.UNKNOWN,
        Finding.TOO_QUICK,
    }


def test_what_was_saved_is_the_servers_own_time_less_the_time_that_was_waited_for():
    # Every run under the server's own choice takes the same here, so that the sum is known in closed form.
    passes = 60
    report = taught(passes=passes).report()
    own_s = passes * sum(by_arm["server"] for by_arm in served().values())
    assert report.total_s + report.saved_s == pytest.approx(own_s)
    assert report.total_s == pytest.approx(sum(one.total_s for one in report.patterns))
    assert report.saved_s == pytest.approx(sum(one.saved_s for one in report.patterns))
    assert report.saved_s > 0.5 * own_s
    assert report.verdict.startswith(f"Saved {duration(report.saved_s)}")


def test_trying_is_shown_with_its_limit():
    report = taught().report()
    assert 0.0 < report.explored_share <= report.exploration_limit == 0.05


def test_where_nothing_is_faster_the_cost_of_trying_stands_with_its_sign():
    times = {sql: {"server": by_arm["server"]} for sql, by_arm in served().items()}
    report = taught(times).report()
    assert report.saved_s < 0.0
    assert report.verdict.startswith(f"So far trying cost {duration(-report.saved_s)} more than it saved")
    assert (report.faster, report.wins) == (0, 0)


def test_patterns_that_cost_most_come_first_with_their_reasons():
    report = taught().report()
    assert [one.total_s for one in report.patterns] == sorted((one.total_s for one in report.patterns), reverse=True)
    slow, quick, write = (pattern_of(report, sql) for sql in (SLOW.format(0), QUICK, WRITE))
    assert slow.is_faster
    assert (
        slow.verdict
        == "faster: 8 of 8 statements run with “no nested loops”; each once takes 80.0 ms instead of 800 ms"
    )
    assert quick.verdict == "left alone: 0.40 ms is too quick to try on (from 5.00 ms)"
    assert write.verdict == "left alone: it writes"
    assert write.refusal == "it writes"
    assert (quick.saved_s, write.saved_s) == (0.0, 0.0)


def test_a_statement_says_what_is_in_force_and_what_it_takes():
    for one in pattern_of(taught().report(), SLOW.format(0)).statements:
        assert one.settings == {"enable_nestloop": "off"}
        assert (one.server_s, one.now_s) == (pytest.approx(0.1), pytest.approx(0.01))
        assert one.finding is Finding.FASTER
        assert "takes 10.0 ms instead of 100 ms" in one.why


def test_settings_that_become_slower_are_shown_as_given_up():
    tuner = taught()
    for _ in range(30):
        for number in range(8):
            request = tuner.request(SLOW.format(number), None)
            choice = tuner.choose(request)
            tuner.finish(request, choice, 0.1 if choice.arm.params.is_default else 0.2)
    report = tuner.report()
    assert report.rollbacks == sum(one.rollbacks for one in report.patterns) >= 8
    slow = pattern_of(report, SLOW.format(0))
    assert slow.verdict.startswith("given up: in 8 of 8 statements")
    assert (
        "“no nested loops” was slower than the server's own choice; the server's own is in force again" in slow.verdict
    )


def test_a_saved_tuner_reports_the_same():
    tuner = taught()
    assert type(tuner).from_state(tuner.state()).report() == tuner.report()


def test_every_figure_is_plain_and_finite_in_json():
    policy, ledger = PlanPolicy(), Ledger(10)
    ledger.add(ledger.account("f", "SELECT 1"), 0.5)
    text = json.dumps(read_report(policy, ledger, [SEARCH]).to_json(), allow_nan=False)
    search = json.loads(text)["patterns"][0]["searches"][0]
    assert (search["own_ms"], search["settings"], search["recall"]) == (None, {"enable_indexscan": "off"}, 1.0)
    assert json.loads(json.dumps(taught().report().to_json(), allow_nan=False))["faster"] == 8


# -- one statement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "finding", "words"),
    [
        (unit(), Finding.UNKNOWN, "it ran never"),
        (unit(times={"server": [0.1]}), Finding.UNKNOWN, "it ran once"),
        (unit(times={"server": [0.001] * 3}), Finding.TOO_QUICK, "1.00 ms is too quick to try on (from 5.00 ms)"),
        (unit(times={"server": [0.1] * 3}), Finding.UNKNOWN, "nothing was tried yet"),
        (
            unit(
                times={"server": [0.1] * 3}, censored={"serial": 0.05}, closed={"more memory": "cannot change the plan"}
            ),
            Finding.KEPT,
            "1 of 12 settings tried, none was faster; 1 leads to no other plan; 10 not tried yet",
        ),
        (
            unit(
                times={"server": [0.1] * 3},
                rollbacks=2,
                closed={"serial": "took much longer than the server's own choice"},
            ),
            Finding.GIVEN_UP,
            "“serial” took much longer than the server's own choice; the server's own is in force again (twice in all)",
        ),
        (
            unit(times={"server": [0.1] * 3, "serial": [0.05]}, incumbent="serial"),
            Finding.FASTER,
            "“serial” takes 50.0 ms instead of 100 ms; seen once, the server's own choice 3 times",
        ),
    ],
)
def test_each_finding_has_its_words(given, finding, words):
    found = read(given)
    assert (found.finding, found.why) == (finding, words)


def test_a_statement_too_costly_to_try_says_so():
    own = unit(times={"server": [1.0] * 3})
    assert read(own, limit_s=0.3).why == "nothing was tried yet"
    assert read(own, limit_s=0.2).why == "even a short trial costs more than the 200 ms that one may cost here"


def test_what_an_arm_would_take_follows_from_plans_that_are_the_same():
    closed = {
        "serial": "the same plan as more memory",
        "more memory": "the same plan as server",
        "no hash joins": "cannot change the plan",
        "no index scans": "slower than server",
        "eager parallel": "the same plan as no bitmap scans",
        "no bitmap scans": "the same plan as eager parallel",
    }
    found = read(
        unit(times={"server": [0.1] * 3, "hash joins only": [0.02]}, closed=closed, censored={"no index scans": 0.3})
    )
    known = {arm.name: found.time_with(arm.name) for arm in ARMS}
    assert known.pop("hash joins only") == 0.02
    assert {name for name, time_s in known.items() if time_s == 0.1} == {"serial", "more memory", "no hash joins"}
    assert found.time_with("server") == 0.1
    assert (found.time_with("no index scans"), found.given_up_s("no index scans")) == (None, 0.3)
    assert found.time_with("eager parallel") is None  # two that only name each other


# -- families --------------------------------------------------------------------------------------------------------


def family(**times):
    logs = {name: np.log(values).tolist() for name, values in times.items()}
    return Family(fresh=40, logs=logs, count=sum(map(len, logs.values())), kinds=["Nested Loop"])


def test_statements_learned_together_are_one_row_with_the_words_of_a_test():
    made = family(server=[0.1] * 10, **{"serial": [0.02] * 5})
    made.incumbent = "serial"
    found = read_family_report(made, ARMS, 0.005)
    assert found.finding is Finding.FASTER
    assert (
        found.why == "“serial” takes 20.0 ms instead of 100 ms (the last 5 runs against 10 of the server's own choice)"
    )
    assert (found.key, found.settings) == ("", {"max_parallel_workers_per_gather": "0"})
    policy, ledger = PlanPolicy(), Ledger(10)
    ledger.add(ledger.account("f", "SELECT 1"), 0.5)
    (pattern,) = read_report(policy, ledger, families={"f": made}).patterns
    assert pattern.family == found
    assert pattern.verdict == f"faster: {found.why}"


def test_a_family_whose_values_come_again_is_none():
    made = family(server=[0.1] * 10)
    made.fresh, made.repeats = 30, 31
    ledger = Ledger(10)
    ledger.add(ledger.account("f", "SELECT 1"), 0.5)
    (pattern,) = read_report(PlanPolicy(), ledger, families={"f": made}).patterns
    assert pattern.family is None


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        (family(server=[0.1] * 3), Finding.UNKNOWN),
        (family(server=[0.001] * 9), Finding.TOO_QUICK),
        (family(server=[0.1] * 9), Finding.UNKNOWN),
        (family(server=[0.1] * 9, serial=[0.1]), Finding.UNKNOWN),
    ],
)
def test_a_family_claims_no_more_than_it_knows(given, finding):
    assert read_family_report(given, ARMS, 0.005).finding is finding


# -- searches --------------------------------------------------------------------------------------------------------


def test_a_search_says_what_recall_is_believed_of_what_is_chosen():
    own = SearchArm("default", ExecutionParams())
    other = replace(SEARCH, arm=own, recall=0.9, recall_low=0.8, searches=10, own_recall=0.9, own_short=0.5)
    ledger = Ledger(10)
    ledger.add(ledger.account("f", "SELECT 1"), 0.5)
    (pattern,) = read_report(PlanPolicy(), ledger, [SEARCH, other]).patterns
    assert pattern.searches == (SEARCH, other)
    assert pattern.verdict == (
        "for values not seen yet, recall 0.975 is believed, 0.525 of the server's own choice, "
        "which returns too few rows for 50%; chosen: “exact” for 75%, “default” for 25%"
    )


def test_a_search_that_no_index_can_serve_says_why():
    ledger = Ledger(10)
    account = ledger.account("f", "SELECT 1")
    account.problem = "every row is asked for: add a LIMIT"
    (pattern,) = read_report(PlanPolicy(), ledger).patterns
    assert pattern.problem == "every row is asked for: add a LIMIT"
    assert pattern.verdict == "no index can serve it: every row is asked for: add a LIMIT"


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_s", "words"),
    [
        (0.0, "0.00 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (9.996, "10.0 s"),
        (1234.0, "1,234 s"),
        (-0.01, "\u221210.0 ms"),
    ],
)
def test_times_are_written_to_three_digits(time_s, words):
    assert duration(time_s) == words


def test_how_often_in_words():
    assert [times(count) for count in (0, 1, 2, 3, 1000)] == ["never", "once", "twice", "3 times", "1,000 times"]
