"""A tuner as an application has it: nothing is forced, queries get faster and are never wrong, and it is kept."""

from __future__ import annotations

import pytest
from tuner_trials import plainly, psycopg, settings_of

from sona.config.tuner import TunerConfig
from sona.errors import StoreError
from sona.tuner import Tuner, attach

# Each condition says the same, so the planner expects one row where there are 80, and reads a table for each of them.
TABLES = """
CREATE TABLE fact AS SELECT i AS id, i % 200 AS a, i % 200 AS b, i % 200 AS c, i % 997 AS d
    FROM generate_series(1, 16000) i;
ANALYZE fact
"""
SAME = "x.a = {0} AND x.b = {0} AND x.c = {0} AND y.a = {0} AND y.b = {0} AND y.c = {0}"
SKEWED = f"SELECT count(*), sum(y.id) FROM fact x JOIN fact y USING (d) WHERE {SAME.format(3)}"
OTHERS = [f"SELECT d, count(*) FROM fact WHERE a % {number} = 1 GROUP BY d ORDER BY d" for number in range(2, 9)]


@pytest.fixture
def connection(database_dsn):
    with psycopg.connect(database_dsn, autocommit=True) as made:
        made.execute(TABLES)
        made.execute("SET max_parallel_workers_per_gather = 0")
        yield made


def passed(connection, expected, passes):
    for _ in range(passes):
        for sql, rows in expected.items():
            assert connection.execute(sql).fetchall() == rows


@pytest.mark.slow
def test_a_query_on_the_wrong_plan_gets_faster_and_none_is_ever_wrong(connection, tmp_path):
    before = settings_of(connection)
    expected = {sql: plainly(connection, sql) for sql in [SKEWED, *OTHERS]}
    tuner = attach(connection, path=tmp_path / "tuner", config=TunerConfig(min_mean_s=0.001))
    passes = 0
    while passes < 200:  # what trying may cost is a share of the time spent: a busy machine takes longer to find it
        passed(connection, expected, 20)
        passes += 20
        slow = max(tuner._plans.units.values(), key=lambda unit: unit.server_s)
        if slow.incumbent != "server":
            break
    assert "Nested Loop" in slow.note.kinds
    assert slow.incumbent != "server"
    assert slow.incumbent_s < 0.3 * slow.server_s
    assert settings_of(connection) == before
    budget = tuner._plans.budget
    assert budget.explored_s <= 0.05 * budget.spent_s + 0.05
    ledger = tuner._ledger
    assert ledger.queries_processed == passes * len(expected)
    assert ledger.total_s == pytest.approx(budget.spent_s)
    assert sum(account.explored_s for account in ledger.accounts().values()) == pytest.approx(budget.explored_s)

    # What was learned is there again, for another connection too.
    tuner.close()
    again = Tuner.open(tmp_path / "tuner")
    assert again._plans.units.keys() == tuner._plans.units.keys()
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        attach(other, again)
        passed(other, expected, 1)
    assert (
        next(unit for unit in again._plans.units.values() if unit.incumbent == slow.incumbent).count == slow.count + 1
    )


def test_looking_on_sets_nothing_and_learns_what_costs(connection):
    tuner = attach(connection, mode="observe")
    for _ in range(4):
        assert connection.execute(OTHERS[0]).fetchall() == plainly(connection, OTHERS[0])
    assert tuner._plans.trials == 0
    assert next(iter(tuner._ledger.accounts().values())).count == 4


@pytest.mark.parametrize("damage", [b"", b"not a tuner", None])
def test_a_damaged_file_is_said_so_and_stays_as_it_is(connection, tmp_path, damage):
    path = tmp_path / "tuner"
    with attach(connection, path=path):
        connection.execute(OTHERS[0])
    whole = path.read_bytes()
    broken = damage if damage is not None else whole[:-9] + b"\0" * 9
    path.write_bytes(broken)
    with pytest.raises(StoreError):
        attach(connection, path=path)
    assert path.read_bytes() == broken
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_tuner_is_saved_while_others_use_it(connection, tmp_path):
    import threading

    tuner = attach(connection, Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0)))
    stopped = threading.Event()

    def save() -> None:
        while not stopped.is_set():
            tuner.save(tmp_path / "tuner")
            Tuner.load(tmp_path / "tuner")

    saving = threading.Thread(target=save)
    saving.start()
    try:
        for number in range(150):
            connection.execute(f"SELECT count(*) FROM fact WHERE a = {number % 40}")
    finally:
        stopped.set()
        saving.join()
    tuner.save(tmp_path / "tuner")
    assert Tuner.load(tmp_path / "tuner")._ledger.queries_processed == 150
