"""Workloads: named lines and plain SQL, and what is wrong with a file in words and line numbers."""

import re
from pathlib import Path

import pytest

from sona.errors import InvalidValue, PlanError
from sona.tuner.statements.workload import WorkloadQuery, read_workload


def pairs(text: str) -> list[tuple[str, str]]:
    return [(query.name, query.sql) for query in read_workload(text)]


class TestNamedLines:
    def test_names_and_statements(self):
        text = "-- a comment\n\nA1||SELECT a || 'b' FROM t\r\n  b-2.x||SELECT 2;\n   -- another\n"
        assert pairs(text) == [("A1", "SELECT a || 'b' FROM t"), ("b-2.x", "SELECT 2")]

    def test_a_mark_at_the_start_of_a_file(self):
        assert pairs("\ufeffa||SELECT 1") == [("a", "SELECT 1")]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a||SELECT 1\n\nSELECT 2", "line 3: expected name||sql, got 'SELECT 2'"),
            ("a||SELECT 1\nb|| ;", "line 2: expected name||sql, got 'b|| ;'"),
            ("a||SELECT 1\n--\na||SELECT 2", "line 3: the name 'a' is that of line 1"),
        ],
    )
    def test_what_is_wrong(self, text, message):
        with pytest.raises(PlanError, match=re.escape(message)):
            read_workload(text)


class TestStatements:
    @pytest.mark.parametrize(
        ("text", "statements"),
        [
            ("SELECT 1", ["SELECT 1"]),
            ("SELECT 1;;\n;SELECT\n 2;", ["SELECT 1", "SELECT\n 2"]),
            ("SELECT ';'; SELECT \";\"", ["SELECT ';'", 'SELECT ";"']),
            ("SELECT $a$;$a$; SELECT E'\\';'", ["SELECT $a$;$a$", "SELECT E'\\';'"]),
            ("SELECT 1 -- ;\n; /* ; /* ; */ */ SELECT 2", ["SELECT 1", "SELECT 2"]),
            ("-- name||of\nSELECT a || b;", ["SELECT a || b"]),
            ("SELECT a\n||b FROM t", ["SELECT a\n||b FROM t"]),
        ],
    )
    def test_are_parted_at_semicolons(self, text, statements):
        assert pairs(text) == [(f"q{number}", sql) for number, sql in enumerate(statements, 1)]

    def test_what_has_no_end(self):
        with pytest.raises(PlanError, match='line 3: cannot be read from "\'b;" on'):
            read_workload("SELECT 1;\nSELECT 'a',\n 'b;")


@pytest.mark.parametrize("text", ["", " \n\t\n", "-- only\n  -- comments", ";;", "/* a */"])
def test_no_query(text):
    with pytest.raises(PlanError, match="holds no query"):
        read_workload(text)


def test_neither_path_nor_text():
    with pytest.raises(InvalidValue, match="expected a path or text, got int"):
        read_workload(1)


def test_a_file_that_is_not_there():
    with pytest.raises(PlanError, match=r"no-such-file\.sql cannot be read"):
        read_workload(Path("no-such-folder/no-such-file.sql"))


def test_a_query_is_a_value():
    assert read_workload("a||SELECT 1") == (WorkloadQuery("a", "SELECT 1"),)
