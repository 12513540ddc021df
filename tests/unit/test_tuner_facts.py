import pytest

pytest.importorskip("sqlglot", reason="needs sqlglot: pip install 'sona[postgres]'")

from sona.tuner.facts import refusal_of
from sona.tuner.statements.statement import read_statement

SCAN = {"Node Type": "Seq Scan", "Output": ["a", "lower(b)"], "Filter": '(public."Odd name"(a) > 3)'}


class Catalogue:
    """Answers both questions, and remembers what it was asked."""

    def __init__(self, function=(), view=()):
        self.function, self.view, self.asked = function, view, []

    def __call__(self, sql, params):
        self.asked.append(params[0])
        return (
            [self.function]
            if "pg_proc" in sql and self.function
            else [self.view]
            if "relkind" in sql and self.view
            else []
        )


def plan(*nodes, **fields):
    return [{"Plan": {"Node Type": "Result", "Plans": [*nodes], **fields}}]


def test_functions_of_the_text_and_of_the_plan_are_looked_up():
    catalogue = Catalogue()
    assert refusal_of(catalogue, read_statement('SELECT s.F(a), "G"(b) FROM t'), plan(SCAN)) is None
    assert {"f", "F", "G", "g", "lower", "Odd name", "odd name"} - set(catalogue.asked[0]) <= {"F"}
    assert len(catalogue.asked) == 1  # no view is asked for where nothing is hidden


def test_what_the_catalogue_says_of_a_function_is_the_reason():
    catalogue = Catalogue(function=("dice", "which is volatile"))
    found = refusal_of(catalogue, read_statement("SELECT dice(a) FROM t"), plan(SCAN))
    assert found == "it calls dice, which is volatile"


@pytest.mark.parametrize("kind", ["Limit", "WindowAgg", "Unique", "LockRows", "Sample Scan"])
def test_what_a_view_hides_is_the_reason(kind):
    catalogue = Catalogue(view=("v",))
    found = refusal_of(catalogue, read_statement("SELECT sum(a) FROM s.v, t"), plan({"Node Type": kind}))
    assert found == f"the view v may give another answer by another plan ({kind})"
    assert catalogue.asked[1] == ["v", "t"]
    assert refusal_of(Catalogue(), read_statement("SELECT sum(a) FROM s.v, t"), plan({"Node Type": kind})) is None


@pytest.mark.parametrize("call", ["array_agg", "string_agg", "json_agg", "jsonb_object_agg", "any_value", "xmlagg"])
def test_what_a_view_collects_is_the_reason(call):
    document = plan({"Node Type": "Aggregate", "Output": [f"{call}(a)"]})
    assert call in refusal_of(Catalogue(view=("v",)), read_statement("SELECT x FROM v"), document)
    plain = plan({"Node Type": "Aggregate", "Output": ["sum(a)", "avg(b)"]})
    assert refusal_of(Catalogue(view=("v",)), read_statement("SELECT x FROM v"), plain) is None
