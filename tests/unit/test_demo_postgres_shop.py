"""The shop of the demonstration: its questions are named once, and the tuner may tune each of them."""

from sona.demo.postgres_shop import shop_queries, shop_sql
from sona.tuner.statements.statement import read_statement


def test_questions_have_names_and_texts_of_their_own():
    queries = shop_queries()
    assert len({query.name for query in queries}) == len({query.sql for query in queries}) == len(queries) == 28


def test_every_question_may_be_tuned_and_reads_the_shop():
    sql = shop_sql()
    for query in shop_queries():
        statement = read_statement(query.sql)
        assert statement.refusal is None
        assert statement.plan_dependence is None, query.name
        assert all(f"CREATE TABLE {table} AS" in sql for table in statement.tables)


def test_the_shop_is_the_same_every_time():
    assert shop_sql() == shop_sql()
    assert "random" not in shop_sql()
