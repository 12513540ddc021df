"""Laws of what the tuner says: sums are sums of their parts, and nothing is claimed of what nobody measured."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.tuner.choosing.arms import SERVER, plan_arms
from sona.tuner.choosing.plan_policy import PlanPolicy
from sona.tuner.choosing.unit import Times, Unit
from sona.tuner.export import as_hints, as_sql, balances, hint_text
from sona.tuner.ledger import Ledger
from sona.tuner.report import read_report
from sona.tuner.statement_report import Finding, duration, read_statement_report
from sona.tuner.statements.tokens import TokenKind, tokens

ARMS = plan_arms()
NAMES = [arm.name for arm in ARMS]
SECONDS = st.floats(1e-6, 1e4)
OUTCOMES = st.sampled_from(
    ["cannot change the plan", "slower than server", *(f"the same plan as {name}" for name in (*NAMES, SERVER.name))]
)


@st.composite
def units(draw):
    times = draw(st.dictionaries(st.sampled_from(NAMES), st.lists(SECONDS, min_size=1, max_size=4), max_size=5))
    own = draw(st.lists(SECONDS, max_size=4))
    made = {name: Times(recent, len(recent)) for name, recent in (times | ({SERVER.name: own} if own else {})).items()}
    unit = Unit("f", count=sum(one.count for one in made.values()), times=made)
    unit.incumbent = draw(st.sampled_from([SERVER.name, *times]))
    unit.closed = draw(st.dictionaries(st.sampled_from(NAMES), OUTCOMES, max_size=6))
    unit.censored = draw(st.dictionaries(st.sampled_from(NAMES), SECONDS, max_size=4))
    unit.rollbacks = draw(st.integers(0, 3))
    return unit


def reports(drawn, limit_s=math.inf):
    return [read_statement_report(str(n), one, ARMS, min_mean_s=0.005, limit_s=limit_s) for n, one in enumerate(drawn)]


@given(units(), SECONDS)
def test_what_is_found_is_what_is_in_force(unit, limit_s):
    (one,) = reports([unit], limit_s)
    assert (one.finding is Finding.FASTER) == (unit.incumbent != SERVER.name)
    assert bool(one.settings) == (unit.incumbent != SERVER.name)
    assert one.server_s == (unit.server_s if SERVER.name in unit.times else None)
    assert one.why


@given(units(), st.sampled_from(NAMES))
def test_a_time_is_one_that_was_measured(unit, arm):
    (one,) = reports([unit])
    known = [times.typical_s for times in unit.times.values()]
    assert one.time_with(arm) is None or one.time_with(arm) in known
    if arm in unit.times:
        assert one.time_with(arm) == unit.times[arm].typical_s


@given(st.lists(units(), max_size=6))
def test_a_balance_adds_up_over_statements_and_is_sorted(drawn):
    known = reports(drawn)
    found = balances(known)
    total = sum(one.runs * one.server_s for one in known if one.server_s is not None)
    for balance in found:
        parts = [one for each in known for one in balances([each]) if one.arm == balance.arm]
        assert balance.saved_s == pytest.approx(sum(one.saved_s for one in parts))
        assert balance.lost_s == pytest.approx(sum(one.lost_s for one in parts))
        assert balance.saved_s + balance.open_s + balance.unknown_s <= total * (1.0 + 1e-9)
        assert balance.is_known_to_help <= (balance.net_s > 0.0)
    ranks = [(not one.is_known_to_help, -one.net_s) for one in found]
    assert ranks == sorted(ranks)


@given(st.lists(units(), max_size=5), st.lists(SECONDS, max_size=5))
def test_the_whole_is_the_sum_of_patterns_and_plain(drawn, waited):
    plans, ledger = PlanPolicy(), Ledger(100)
    for n, unit in enumerate(drawn):
        plans.units[f"f:{n}"] = unit
    for n, time_s in enumerate(waited):
        ledger.add(ledger.account("f" if n == 0 else f"g{n}", f"SELECT {n}"), time_s)
    report = read_report(plans, ledger)
    assert report.total_s == pytest.approx(sum(one.total_s for one in report.patterns))
    assert report.queries == sum(one.runs for one in report.patterns) == len(waited)
    assert report.statements == len(drawn)
    assert report.faster == sum(one.incumbent != SERVER.name for one in drawn)
    json.dumps(report.to_json(), allow_nan=False)
    assert report.verdict.endswith(".")


@given(st.lists(units(), max_size=5))
def test_an_export_sets_only_what_is_known_to_help(drawn):
    plans, ledger = PlanPolicy(), Ledger(100)
    for n, unit in enumerate(drawn):
        plans.units[f"f:{n}"] = unit
    ledger.add(ledger.account("f", "SELECT a FROM t WHERE b = $1"), 1.0)
    report = read_report(plans, ledger)
    known = [one for one in report.patterns for one in one.statements]
    code = [line for line in as_sql(report).splitlines() if line and not line.startswith("--")]
    best = balances(known)[:1]
    expected = len(best[0].settings) if best and best[0].is_known_to_help else 0
    assert len(code) == expected
    assert all(line.startswith("ALTER ROLE CURRENT_USER SET ") for line in code)
    assert as_hints(report).count("INSERT INTO") <= len(report.patterns)


@given(st.text(max_size=60))
def test_a_text_for_hints_keeps_everything_but_constants(sql):
    changed = hint_text(sql)
    constants = {TokenKind.NUMBER, TokenKind.STRING}
    assert (changed == sql) == (not any(one.kind in constants for one in tokens(sql)))
    assert len(changed) <= len(sql)


@given(st.floats(-1e5, 1e5))
def test_a_time_in_words_is_the_time(time_s):
    number, unit = duration(time_s).replace("\u2212", "-").replace(",", "").split()
    value = float(number) * {"ms": 1e-3, "s": 1.0}[unit]
    assert value == pytest.approx(time_s, rel=0.006, abs=6e-6)
