"""The commands of the tuner, typed as a user types them; what needs a server is tested with one."""

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import sqlglot
from cli_typed import entered, error_of, parsed, said, sona
from taught import SLOW, taught

from sona import SonaEngine
from sona.cli import tuned
from sona.cli.tuning_chart import pass_chart
from sona.cli.tuning_page import page
from sona.cli.tuning_passes import PassTime, latest_passes, passes_file, read_passes, workload_digest, write_passes
from sona.errors import StoreError
from sona.tuner.run import Attempt, PassResult, QueryRun, WorkloadResult
from sona.tuner.statements.workload import WorkloadQuery
from sona.tuner.tuner import Tuner

PASSES = tuple(PassTime("w", float(n), 2.0 - 0.1 * n, 2.0, 0) for n in range(10))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def learned():
    return taught(
        {
            **{SLOW.format(n): {"server": 0.1, "no nested loops": 0.01} for n in range(8)},
            "DELETE FROM b": {"server": 0.1},
        }
    )


@pytest.fixture
def state(folder, learned):
    learned.save(folder / "tuner.sona")
    return folder / "tuner.sona"


# -- report --------------------------------------------------------------------------------------------------------


def test_the_report_says_what_the_tuner_says(state, learned):
    report = learned.report()
    lines = said("tune", "report")
    assert lines[0] == report.verdict
    text = " ".join(" ".join(lines).split())
    assert "trying" in text
    assert f"{report.trials:,} trials, {report.wins:,} won, 0 given up again" in text
    assert "8 of 8 statements run with" in text
    assert "left alone: it writes" in text
    assert "enable_nestloop = off" in text
    assert json.loads(json.dumps(report.to_json())) | {"page": None} == parsed("tune", "report")


def test_rows_are_cut_only_when_that_is_said(state):
    assert "1 of 2; more with -k 2" in said("tune", "report", "-k", "1")
    assert not any("more with" in line for line in said("tune", "report"))


def test_a_report_as_a_page_is_written_and_named(state, folder):
    lines = said("tune", "report", "--html", "out.html")
    assert lines[-1] == f"open the page   {(folder / 'out.html').as_uri()}"
    assert (folder / "out.html").read_text().startswith("<!DOCTYPE html>")
    assert parsed("tune", "report", "--html", "out.html")["page"] == "out.html"


@pytest.mark.parametrize("path", ["tuner.sona", "tuner.sona.passes", "."])
def test_a_page_never_takes_the_place_of_what_was_learned(state, path):
    write_passes(state, PASSES)
    before = state.read_bytes()
    error_of("tune", "report", "--html", path)
    assert state.read_bytes() == before
    assert read_passes(state) == PASSES


@pytest.mark.parametrize("command", [("report",), ("export", "--as", "sql"), ("export", "--as", "json")])
def test_a_file_that_is_missing_or_something_else_is_told_in_one_line(folder, command):
    assert error_of("tune", *command) == (
        "error: nothing was learned at tuner.sona: begin with `sona tune run`, or `sona tune demo`"
    )
    assert "is a folder" in error_of("tune", *command, "--state", str(folder))
    (folder / "notes.txt").write_text("hello")
    assert "not a saved state" in error_of("tune", *command, "--state", "notes.txt")
    SonaEngine().save(folder / "engine.sona")
    assert "engine.sona" in error_of("tune", *command, "--state", "engine.sona")


# -- export --------------------------------------------------------------------------------------------------------


def test_what_is_exported_as_sql_is_for_the_role(state):
    lines = said("tune", "export", "--as", "sql", "--role", 'my "shop"')
    assert 'ALTER ROLE "my ""shop""" SET "enable_nestloop" = \'off\';' in lines
    assert 'ALTER DATABASE "d" SET "enable_nestloop" = \'off\';' in said(
        "tune", "export", "--as", "sql", "--database", "d"
    )


def test_hints_have_the_texts_of_the_workload(state, folder):
    (folder / "w.sql").write_text(f"{SLOW.format(3).lower().replace('from', chr(10) + 'from')};")
    text = sona("tune", "export", "--as", "hints", "--workload", "w.sql").stdout
    (insert,) = sqlglot.parse(text, read="postgres")
    row = [one.this for one in insert.find(sqlglot.exp.Tuple).expressions]
    assert row == ["select a.x \nfrom a join b on a.x = b.x where a.y = ?", "", "Set(enable_nestloop off)"]


def test_json_is_everything(state, learned):
    assert json.loads(sona("tune", "export", "--as", "json").stdout) == json.loads(
        json.dumps(learned.report().to_json())
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--as", "xml"),
        ("--as", "hints", "--role", "a"),
        ("--as", "json", "--database", "a"),
        ("--as", "sql", "--workload", "w.sql"),
        ("--as", "sql", "--role", "a", "--database", "b"),
        (),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(state, arguments):
    error_of("tune", "export", *arguments, code=2)


# -- run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "holds no query"),
        ("-- nothing", "holds no query"),
        ("a||SELECT 1\na||SELECT 2", "the name 'a' is that of line 1"),
        ("SELECT 'endless", "does a string end?"),
    ],
)
def test_a_workload_that_cannot_be_run_is_told_before_anything_is_made(folder, text, words):
    if text is not None:
        (folder / "w.sql").write_text(text)
    assert words in error_of("tune", "run", "--dsn", "host=/nowhere", "--workload", "w.sql")
    assert not (folder / "tuner.sona").exists()


def test_a_server_that_is_not_there_is_told_and_leaves_nothing_behind(folder):
    (folder / "w.sql").write_text("SELECT 1")
    assert error_of("tune", "run", "--dsn", "host=/nowhere", "--workload", "w.sql").startswith(
        "error: cannot connect: "
    )
    assert not (folder / "tuner.sona").exists()


def test_a_state_of_another_kind_is_told_and_kept(folder):
    (folder / "w.sql").write_text("SELECT 1")
    SonaEngine().save(folder / "engine.sona")
    before = (folder / "engine.sona").read_bytes()
    error_of("tune", "run", "--dsn", "host=/nowhere", "--workload", "w.sql", "--state", "engine.sona")
    assert (folder / "engine.sona").read_bytes() == before
    assert "is a folder" in error_of("tune", "run", "--dsn", "host=/nowhere", "--workload", "w.sql", "--state", ".")


@pytest.mark.parametrize("arguments", [("--passes", "0"), ("--limit-s", "0"), ("--limit-s", "-1")])
def test_numbers_out_of_range_are_wrong_usage(arguments):
    error_of("tune", "run", "--dsn", "x", "--workload", "w.sql", *arguments, code=2)


def test_a_demonstration_needs_time():
    error_of("tune", "demo", "--seconds", "5", code=2)


def test_what_is_not_installed_is_named(monkeypatch, state, folder):
    (folder / "w.sql").write_text("SELECT 1")
    for name in ("psycopg", "sona.tuner.borrow", "sona.tuner.attachment", "sona.tuner.run", "sona.tuner.session"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'sona[postgres]'" in error_of("tune", "run", "--dsn", "x", "--workload", "w.sql")


# -- passes on the terminal ----------------------------------------------------------------------------------------


def shown(result, capsys):
    tuned.workload(result)
    return capsys.readouterr().out.splitlines()


def workload(count, *, errors=0):
    failed = [QueryRun("q", Attempt(0.1, "no\nsuch \x1b[31mtable"), Attempt(0.1, "no"))] * errors
    runs = (QueryRun("p", Attempt(0.5), Attempt(1.0)), *failed)
    queries = (WorkloadQuery("p", "SELECT 1"), *[WorkloadQuery("q", "SELECT")] * errors)
    return WorkloadResult(queries, tuple(PassResult(n, runs) for n in range(1, count + 1)))


def test_passes_are_listed_with_their_ratio(capsys):
    lines = shown(workload(2), capsys)
    assert lines[2].split() == ["1", "500", "ms", "1.00", "s", "0.50", "-", "-"]
    assert lines[4] == (
        "Measured in 2 passes: 1.00 s tuned, trying included, and 2.00 s as the server chooses; 0.50 of it."
    )


def test_many_passes_are_listed_by_their_ends(capsys):
    lines = shown(workload(100), capsys)
    numbers = [line.split()[0] for line in lines[2:-1]]
    assert numbers == ["1", "2", "3", "4", "...", *map(str, range(93, 101))]


def test_a_query_that_fails_is_told_once_and_steers_no_terminal(capsys):
    lines = shown(workload(3, errors=1), capsys)
    assert lines[-1] == "q failed: no such \ufffd[31mtable"


def test_an_interrupted_pass_says_so(capsys):
    found = workload(1)
    cut = replace(found, passes=(replace(found.passes[0], is_whole=False),))
    assert "1, interrupted after 1" in shown(cut, capsys)[2]
    assert shown(WorkloadResult((), ()), capsys) == ["Nothing was run."]


# -- passes that are kept --------------------------------------------------------------------------------------------


def test_passes_come_back_as_they_were(state):
    kept = (*PASSES, PassTime("other", 1e9, 0.5, None, 3))
    write_passes(state, kept)
    assert read_passes(state) == kept
    assert latest_passes(kept) == kept[-1:]
    assert latest_passes(()) == ()


def test_of_many_passes_the_latest_are_kept(state):
    write_passes(state, [replace(PASSES[0], at=float(n)) for n in range(1200)])
    assert [one.at for one in read_passes(state)] == [float(n) for n in range(200, 1200)]


def test_without_a_file_there_are_no_passes_and_a_damaged_one_is_told(state):
    assert read_passes(state) == ()
    passes_file(state).write_text("no")
    with pytest.raises(StoreError):
        read_passes(state)
    assert "tuner.sona.passes" in error_of("tune", "report", "--html", "out.html")


def test_a_workload_is_known_by_its_queries_in_order():
    a, b = WorkloadQuery("a", "SELECT 1"), WorkloadQuery("b", "SELECT 2")
    assert workload_digest([a, b]) != workload_digest([b, a])
    assert workload_digest([a]) == workload_digest([replace(a, name="c")])


# -- the page ------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Checks that tags close in the order in which they open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in ("meta", "br", "circle", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(html):
    parser = Tags()
    parser.feed(html)
    assert not parser.open
    for outside in ("http:", "https:", "<script", "@import", "src=", "url("):
        assert outside not in html
    return parser


def test_the_page_is_whole_and_loads_nothing(learned):
    html = page(learned.report(), PASSES, name="shop <& co>", at=0.0)
    assert checked(html).seen.count("circle") == 20
    assert "shop &lt;&amp; co&gt;" in html
    assert "no nested loops" in html
    assert 'class="verdict improved"' in html


def test_the_page_of_a_new_tuner_claims_nothing():
    html = page(Tuner().report(), (), name="new", at=0.0)
    checked(html)
    assert "<strong>No evidence yet</strong>" in html
    assert 'class="verdict"' in html
    assert "Time of a pass" not in html


def test_a_page_that_tells_of_a_loss_says_so():
    report = taught({SLOW.format(n): {"server": 0.1} for n in range(8)}).report()
    html = page(report, (), name="x", at=0.0)
    assert 'class="verdict worse"' in html
    assert "lost so far" in html


def test_a_query_cannot_write_into_the_page():
    html = page(taught({"SELECT '<script>', \"<b>\" FROM t": {"server": 0.1}}).report(), (), name="x", at=0.0)
    checked(html)
    assert "&lt;b&gt;" in html


def coordinates(html, name):
    parts = html.split(f'<circle class="{name}" ')[1:]
    return [float(part.split('cy="')[1].split('"')[0]) for part in parts]


def test_the_chart_has_each_time_in_its_place():
    svg = pass_chart(PASSES)
    tuned_y, own_y = coordinates(svg, "tuned"), coordinates(svg, "own")
    assert tuned_y == sorted(tuned_y)  # shorter times lie lower
    assert len(set(own_y)) == 1
    assert tuned_y[0] == own_y[0]
    # Times are measured from 0, which lies at the bottom: half the time, half the height.
    assert (262.0 - tuned_y[-1]) / (262.0 - own_y[-1]) == pytest.approx(1.1 / 2.0, abs=0.005)


def test_the_chart_leaves_a_gap_where_nothing_was_compared():
    passes = [replace(one, server_s=None if 2 < n < 5 else 2.0) for n, one in enumerate(PASSES)]
    svg = pass_chart(passes)
    assert len(coordinates(svg, "own")) == 8
    own = svg.split('class="line own" d="')[1].split('"')[0]
    assert own.count("M") == 2
    alone = pass_chart([replace(one, server_s=None) for one in PASSES])
    assert "as the server chooses" not in alone
    assert coordinates(alone, "own") == []


@pytest.mark.parametrize("count", [1, 2, 61, 1000])
def test_the_chart_draws_any_number_of_passes(count):
    svg = pass_chart([replace(PASSES[0], tuned_s=0.0, server_s=0.0)] * count)
    assert "nan" not in svg
    assert svg.count("<circle") == (0 if count > 60 else 2 * count)
