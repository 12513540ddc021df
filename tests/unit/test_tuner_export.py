"""What is exported is what is known to help, in SQL that a server takes, and everything else is said in comments."""

import json

import pytest
from taught import SLOW, taught

from sona.errors import InvalidValue
from sona.tuner.export import as_hints, as_json, as_sql, balances, hint_text, identifier, literal
from sona.tuner.statement_report import Finding, StatementReport, Tried
from sona.tuner.statements.statement import read_statement


def tried(arm, time_s=None, *, given_up_s=None, outcome="", settings=None):
    return Tried(arm, settings or {f"enable_{arm}": "off"}, time_s, 3, given_up_s, outcome)


def statement(server_s, *trials, runs=10):
    return StatementReport("k", runs, server_s, server_s, "server", {}, Finding.KEPT, "", 0, trials)


# -- balances ------------------------------------------------------------------------------------------------------


def test_a_balance_is_runs_times_what_each_run_saves_or_costs():
    found = balances(
        [
            statement(1.0, tried("seqscan", 0.4)),
            statement(0.5, tried("seqscan", 0.7), runs=4),
            statement(0.3, tried("seqscan", outcome="cannot change the plan"), runs=7),
            statement(2.0, runs=3),
        ]
    )
    (one,) = found
    assert (one.saved_s, one.lost_s, one.net_s) == (pytest.approx(6.0), pytest.approx(0.8), pytest.approx(5.2))
    assert (one.unknown_count, one.unknown_s, one.open_count) == (1, pytest.approx(6.0), 0)
    assert one.is_known_to_help


def test_what_was_given_up_anywhere_is_not_known_to_help():
    (one,) = balances([statement(1.0, tried("seqscan", 0.1)), statement(0.2, tried("seqscan", given_up_s=0.5), runs=2)])
    assert (one.open_count, one.open_s, one.lost_s) == (1, pytest.approx(0.4), pytest.approx(0.6))
    assert one.net_s > 0.0
    assert not one.is_known_to_help


def test_the_best_that_is_known_to_help_comes_first():
    found = balances(
        [
            statement(1.0, tried("a", 0.5), tried("b", 0.2), tried("c", 0.1), tried("d", 2.0)),
            statement(1.0, tried("c", given_up_s=3.0)),
        ]
    )
    assert [one.arm for one in found] == ["b", "a", "d", "c"]


def test_a_statement_whose_own_time_is_not_known_counts_for_nothing():
    assert balances([statement(None, tried("seqscan", 0.1))]) == ()


# -- SQL -----------------------------------------------------------------------------------------------------------


def code(text):
    return [line for line in text.splitlines() if line and not line.startswith("--")]


def only_faster():
    times = {SLOW.format(n): {"server": 0.1, "no nested loops": 0.01, "serial": 0.3} for n in range(8)}
    return taught(times).report()


def test_without_evidence_nothing_is_set():
    for write in (as_sql, as_hints):
        assert code(write(taught({}, 0).report())) == []
        assert "No evidence yet" in write(taught({}, 0).report())


def test_what_helps_everywhere_is_set_for_the_role():
    report = only_faster()
    assert code(as_sql(report, role="shop")) == ['ALTER ROLE "shop" SET "enable_nestloop" = \'off\';']
    assert code(as_sql(report)) == ["ALTER ROLE CURRENT_USER SET \"enable_nestloop\" = 'off';"]
    assert code(as_sql(report, database="d")) == ['ALTER DATABASE "d" SET "enable_nestloop" = \'off\';']
    assert as_sql(report).startswith("-- no nested loops (enable_nestloop=off): saves 43.2 s where it is faster\n")
    assert "-- Not used:\n" in as_sql(report)


def test_where_no_single_setting_helps_every_line_is_a_comment():
    times = {SLOW.format(n): {"server": 0.1, "no nested loops" if n % 2 else "serial": 0.01} for n in range(8)}
    text = as_sql(taught(times).report())
    assert code(text) == []
    assert text.startswith("-- No single setting is known to help in sum")
    assert "what it costs there, nobody knows" in text


@pytest.mark.parametrize("name", ["", "a\0b", "a\nDROP TABLE t", "a\x1bb"])
def test_a_name_that_no_role_has_is_refused(name):
    with pytest.raises(InvalidValue):
        as_sql(only_faster(), role=name)


def test_a_role_and_a_database_are_refused():
    with pytest.raises(InvalidValue, match="not both"):
        as_sql(only_faster(), role="a", database="b")


# -- pg_hint_plan --------------------------------------------------------------------------------------------------


def test_a_pattern_that_is_helped_as_a_whole_gets_a_row():
    rows = code(as_hints(only_faster()))
    assert rows == [
        "INSERT INTO hint_plan.hints (norm_query_string, application_name, hints)",
        "VALUES ('SELECT a.x FROM a JOIN b ON a.x = b.x WHERE a.y = ?', '', 'Set(enable_nestloop off)');",
    ]


def test_a_row_has_the_text_as_it_is_sent_where_that_is_known():
    sent = "select  a.x\nFROM a JOIN b ON a.x = b.x WHERE a.y = 17"
    texts = {read_statement(sent).fingerprint: sent}
    text = as_hints(only_faster(), texts, application_name="it's")
    assert (
        "VALUES ('select  a.x\nFROM a JOIN b ON a.x = b.x WHERE a.y = ?', 'it''s', 'Set(enable_nestloop off)');" in text
    )
    assert "normal form" not in text


def test_settings_that_act_at_run_time_are_no_hints():
    times = {SLOW.format(n): {"server": 0.1} for n in range(8)}
    report = taught(times).report()
    assert code(as_hints(report)) == []


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT 1", "SELECT ?"),
        ("SELECT a FROM t1 WHERE b2 = 'it''s' AND c > 1e3", "SELECT a FROM t1 WHERE b2 = ? AND c > ?"),
        ("SELECT -1, a -1, a - 1, (-1), f(-2, -3)", "SELECT ?, a -?, a - ?, (?), f(?, ?)"),
        ('SELECT "a 1" FROM t -- 2\nWHERE b = $$x$$ /* 3 */', 'SELECT "a 1" FROM t -- 2\nWHERE b = ? /* 3 */'),
        ("SELECT a FROM t WHERE b = $1 LIMIT 5", "SELECT a FROM t WHERE b = $1 LIMIT ?"),
        ("SELECT a FROM t WHERE b <= -5 AND c BETWEEN -1 AND -2", "SELECT a FROM t WHERE b <= ? AND c BETWEEN ? AND ?"),
    ],
)
def test_constants_become_question_marks_and_nothing_else_changes(sql, text):
    assert hint_text(sql) == text


def test_in_a_normal_form_the_places_of_values_are_constants():
    assert hint_text("SELECT a FROM t WHERE b = $1 AND c = $12", is_normal_form=True) == (
        "SELECT a FROM t WHERE b = ? AND c = ?"
    )


# -- JSON and quoting ----------------------------------------------------------------------------------------------


def test_json_is_the_report():
    report = only_faster()
    assert json.loads(as_json(report)) == json.loads(json.dumps(report.to_json()))


@pytest.mark.parametrize(
    ("text", "quoted"), [("a", "'a'"), ("'", "''''"), ("\\'", "E'\\\\'''"), ("a\tb\n", "'a\tb\n'")]
)
def test_texts_are_quoted(text, quoted):
    assert literal(text) == quoted


def test_control_characters_never_reach_a_terminal():
    assert literal("\x1b[31m\x85") == "E'\\u001b[31m\\u0085'"
    with pytest.raises(InvalidValue):
        literal("\0")


def test_names_are_quoted():
    assert identifier('a"; DROP ROLE b') == '"a""; DROP ROLE b"'
