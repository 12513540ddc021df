import json
import shlex

import numpy as np
import pytest
from cli_typed import entered, error_of, parsed, sona
from demo_toys import toy_task

from sona import SonaEngine, __version__, kernel
from sona.demo import command as main_job
from sona.errors import DimensionMismatch, LearningError
from sona.stores import SqliteStore

FAQ = [
    {"id": "faq-17", "text": "To reset a password, open Settings, choose Security, and follow the link in the mail."},
    {"id": "faq-3", "text": "Invoices are sent on the first of the month; find old ones under Billing."},
    {"text": "Our office is open from nine to five on weekdays."},
]

COMMANDS = (
    *("demo", "remember", "ask", "feedback", "learn", "status", "patterns"),
    *("report", "guard", "versions", "diff", "rollback", "explain", "replay", "forget"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "faq.jsonl").write_text("\n".join(json.dumps(line) for line in FAQ))
    return entered(tmp_path, monkeypatch)


@pytest.fixture
def db(folder):
    sona("remember", "faq.jsonl")
    return folder / "sona.db"


# -- remember ------------------------------------------------------------------------------------------------------


def test_remember_says_how_many_are_new_and_known(folder):
    assert "Read 3 texts: 3 new, 0 known. sona.db holds 3 memories." in sona("remember", "faq.jsonl").stdout
    (folder / "more.txt").write_text("Something else entirely.\n\nOur office is open from nine to five on weekdays.")
    assert parsed("remember", "faq.jsonl", "more.txt") == {
        "db": "sona.db",
        "read": 5,
        "new": 1,
        "known": 4,
        "total": 4,
    }


def test_what_is_remembered_is_indexed_and_saved(db):
    engine = SonaEngine.load(db)
    assert engine.memory_count == 3
    assert engine.hidden_dim is None or engine.hidden_dim == 256
    assert engine.index() == 0
    assert engine.process("reset password").sources[0].id == "faq-17"


def test_one_bad_line_keeps_nothing_and_makes_no_file(folder):
    (folder / "bad.jsonl").write_text('{"text": "fine"}\n{"text": ""}')
    assert "bad.jsonl line 2" in error_of("remember", "faq.jsonl", "bad.jsonl")
    assert not (folder / "sona.db").exists()


def test_one_bad_line_leaves_an_old_file_as_it_was(db, folder):
    before = db.read_bytes()
    (folder / "bad.txt").write_bytes(b"fine\n\n\xff")
    assert "bad.txt line 3" in error_of("remember", "bad.txt")
    assert db.read_bytes() == before


def test_a_failure_while_indexing_keeps_what_was_remembered_until_then(db, folder, monkeypatch):
    def fail(engine):
        raise DimensionMismatch(2, 3)

    (folder / "new.txt").write_text("A password of a mail box.")
    with monkeypatch.context() as broken:
        broken.setattr(SonaEngine, "index", fail)
        assert "expected width 2, got 3" in error_of("remember", "new.txt")
    assert parsed("remember", "new.txt") == {"db": "sona.db", "read": 1, "new": 0, "known": 1, "total": 4}
    assert "A password of a mail box." in [source["text"] for source in parsed("ask", "password")["sources"]]


def test_what_is_remembered_for_somebody_is_theirs(db, folder):
    (folder / "hers.txt").write_text("The password of the office is under the mat.")
    sona("remember", "hers.txt", "--user", "anna")
    assert parsed("ask", "password of the office")["text"].startswith("The password")
    assert parsed("forget", "anna", "--yes")["memories"] == 1
    assert parsed("status")["metrics"]["memories"] == 3
    assert "mat" not in parsed("ask", "password of the office")["text"]


def test_remember_reads_standard_input():
    assert parsed("remember", "-", input="one\n\ntwo")["new"] == 2
    assert parsed("remember", "-", "--jsonl", input='{"text": "three"}')["total"] == 3


def test_the_same_id_with_another_text_replaces_it(db, folder):
    (folder / "changed.jsonl").write_text('{"id": "faq-3", "text": "Invoices come by mail every week."}')
    assert parsed("remember", "changed.jsonl")["total"] == 3
    assert parsed("ask", "invoices by mail")["text"] == "Invoices come by mail every week."


# -- ask and feedback ----------------------------------------------------------------------------------------------


def test_ask_shows_answer_sources_and_the_command_to_type_next(db):
    shown = sona("ask", "how do I reset my password?").stdout
    assert shown.startswith(FAQ[0]["text"])
    assert "confidence" in shown
    commands = [line.partition("  sona ")[2] for line in shown.splitlines() if "  sona feedback" in line]
    assert len(commands) == 3
    for typed, outcome in zip(commands, ("Learned", "Changed", "Changed"), strict=True):
        assert outcome in sona(*shlex.split(typed)).stdout


def test_the_command_to_type_next_names_another_database(folder):
    sona("remember", "faq.jsonl", "--db", "my own.db")
    shown = sona("ask", "reset password", "--db", "my own.db").stdout
    assert "sona feedback 1 --good --db 'my own.db'" in shown
    in_variable = sona("ask", "reset password", env={"SONA_DB": "my own.db"}).stdout
    assert "sona feedback 2 --good\n" in in_variable
    assert not (folder / "sona.db").exists()


def test_ask_as_json_is_one_document(db):
    found = parsed("ask", "reset password", "-k", "1", "--user", "anna")
    assert found["text"] == FAQ[0]["text"]
    assert [source["id"] for source in found["sources"]] == ["faq-17"]
    assert found["trajectory_id"] == 1
    assert 0.0 < found["confidence"] <= 1.0


def test_ask_about_nothing_known_says_so(db):
    shown = sona("ask", "zzz").stdout
    assert "no memory that answers" in shown
    assert "None of 3 memories" in shown
    assert "feedback" not in shown


def test_feedback_moves_the_next_answer(db):
    first = parsed("ask", "open")
    other = first["sources"][1]["id"]
    for _ in range(3):
        number = parsed("ask", "open")["trajectory_id"]
        assert parsed("feedback", str(number), "--reward", f"{other}=1") == {
            "trajectory_id": number,
            "outcome": "learned",
            "credited": [other],
            "reason": None,
        }
    assert parsed("ask", "open")["sources"][0]["id"] == other


def test_the_same_feedback_counts_once_and_another_amends(db):
    sona("ask", "reset password")
    assert parsed("feedback", "1", "--good")["outcome"] == "learned"
    assert parsed("feedback", "1", "--quality", "1")["outcome"] == "repeated"
    assert parsed("feedback", "1", "--bad")["outcome"] == "amended"
    metrics = parsed("status")["metrics"]
    assert (metrics["feedbacks"], metrics["repeated"], metrics["amended"]) == (1, 1, 1)


def test_feedback_that_is_not_learned_from_says_why(db):
    sona("guard", "off")
    sona("ask", "reset password")
    assert sona("feedback", "1", "--good").stdout == (
        "Recorded for trajectory 1, and not learned from: learning is switched off.\n"
    )
    sona("ask", "invoices")
    found = parsed("feedback", "2", "--good")
    assert (found["outcome"], found["credited"]) == ("recorded", [])
    assert found["reason"] == "learning is switched off"


def test_feedback_for_an_unknown_trajectory_is_an_error_and_counted(db):
    assert error_of("feedback", "9", "--good").startswith("error: trajectory 9")
    assert parsed("status")["metrics"]["unknown"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--good", "--quality", "0.5"],
        ["--bad", "--quality", "0.5"],
        ["--reward", "x"],
        ["--reward", "=1"],
        ["--reward", "x=much"],
        ["--quality", "high"],
    ],
)
def test_feedback_that_says_nothing_or_too_much_is_wrong_usage(db, wrong):
    before = db.read_bytes()
    sona("feedback", "1", *wrong, code=2)
    assert db.read_bytes() == before


@pytest.mark.parametrize("wrong", ["--quality 7", "--quality nan", "--reward faq-17=2", "--reward x=1"])
def test_values_out_of_range_and_items_not_shown_change_nothing(db, wrong):
    sona("ask", "reset password")
    before = db.read_bytes()
    assert error_of("feedback", "1", *wrong.split()).startswith("error: ")
    assert db.read_bytes() == before


def test_an_empty_question_is_an_error_and_changes_nothing(db):
    before = db.read_bytes()
    assert "query" in error_of("ask", "  ")
    assert db.read_bytes() == before


def test_letters_that_steer_a_terminal_are_not_written(folder):
    (folder / "evil.txt").write_text("red \x1b[31m alert \x07")
    sona("remember", "evil.txt")
    shown = sona("ask", "red alert").stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert parsed("ask", "red alert")["text"] == "red \x1b[31m alert \x07"


# -- learn, patterns, status ---------------------------------------------------------------------------------------


@pytest.fixture
def taught(db):
    questions = ["how to reset my password", "reset my password please", "password reset link", "old invoices"]
    with SonaEngine.open(db) as engine:
        for turn in range(24):
            response = engine.process(questions[turn % 4])
            engine.feedback(response.trajectory_id, quality=1.0)
    return db


def test_learn_says_what_it_skipped_and_why(db):
    assert "Nothing was learned: no new trajectories." in sona("learn").stdout
    sona("ask", "reset password")
    sona("feedback", "1", "--good")
    shown = sona("learn").stdout
    assert "1 of 100" in shown
    assert "sona learn --force" in shown
    found = parsed("learn")
    assert (found["version"], found["trajectories"], found["waiting"]) == (0, 0, 1)
    assert "1 of 100" in found["skipped_reason"]


def test_learn_by_force_makes_patterns_and_a_new_version(taught):
    shown = sona("learn", "--force").stdout
    assert "Learned from 24 trajectories; version 1 is in force." in shown
    for part in ("patterns", "base adapter", "EWC++", "change of topic", "instant adapter"):
        assert f"\n{part} " in shown
    metrics = parsed("status")["metrics"]
    assert (metrics["version"], metrics["learned"], metrics["waiting"]) == (1, 24, 0)
    assert metrics["patterns"] >= 1


def test_patterns_show_size_quality_confidence_and_what_worked(taught):
    assert "No patterns yet" in sona("patterns").stdout
    assert parsed("patterns") == {"total": 0, "patterns": []}
    sona("learn", "--force")
    found = parsed("patterns")
    assert found["total"] == len(found["patterns"]) >= 1
    largest = found["patterns"][0]
    assert largest["size"] >= 6
    assert largest["quality"] == 1.0
    assert 0.5 < largest["confidence"] < 1.0
    assert largest["worked"] == "faq-17"
    assert largest["similarity"] is None
    row = next(line for line in sona("patterns").stdout.splitlines() if "faq-17" in line)
    assert "1.00" in row


def test_patterns_nearest_to_a_query_come_first_and_looking_changes_nothing(taught):
    sona("learn", "--force")
    before = taught.read_bytes()
    found = parsed("patterns", "reset my password", "-k", "1")["patterns"]
    assert found[0]["worked"] == "faq-17"
    assert found[0]["similarity"] > 0.5
    assert "similarity" in sona("patterns", "reset my password").stdout
    assert taught.read_bytes() == before
    if parsed("patterns")["total"] > 1:
        assert "more with -k" in sona("patterns", "-k", "1").stdout


def test_a_pattern_says_its_verdict_where_it_is_significant(db):
    with SonaEngine.open(db) as engine:
        for turn in range(40):
            builder = engine.begin_trajectory(np.eye(256)[0], model_route="large" if turn % 2 else "small")
            engine.end_trajectory(builder, quality=0.9 if turn % 2 else 0.2 + 0.01 * turn / 2)
    sona("learn", "--force")
    verdict = parsed("patterns")["patterns"][0]["verdict"]
    assert verdict["choice"] == "large"
    assert verdict["p_value"] < 0.05
    assert verdict["reason"] in " ".join(sona("patterns").stdout.split())


def test_status_tells_the_counters_in_words(taught):
    shown = sona("status").stdout
    for words in ("sona.db", __version__, "TF-IDF + SVD", "fitted on 3 texts", "24 answered", "24 learned from"):
        assert words in shown
    found = parsed("status")
    assert found["size_bytes"] == taught.stat().st_size
    assert found["sona"] == __version__
    assert found["kernel"] == {"name": kernel.chosen.name, "reason": kernel.chosen.reason}
    assert f"kernel           {kernel.chosen.name}" in shown
    assert found["metrics"]["requests"] == 24
    assert (found["versions"], found["metrics"]["version"], found["metrics"]["mode"]) == (0, 0, "on")


def test_status_tells_of_the_log_and_of_a_file_without_one(taught, folder):
    with SonaEngine.open(taught) as engine:
        engine.save("saved.sona")
    store = SqliteStore(taught, is_read_only=True)
    last = store.last_seq
    store.close()
    found = parsed("status")["log"]
    assert (found["last_event"], found["whole_after"]) == (last, 0)
    assert found["size_bytes"] >= taught.stat().st_size
    assert f"up to event {last}, whole;" in sona("status").stdout
    assert parsed("status", "--db", "saved.sona")["log"] is None
    assert "none: `save` wrote this file" in sona("status", "--db", "saved.sona").stdout


def test_status_and_patterns_look_at_a_file_that_another_process_has_open(db):
    with SonaEngine.open(db):
        assert parsed("status")["metrics"]["memories"] == 3
        assert "No patterns yet" in sona("patterns").stdout
        assert "open in another process" in error_of("ask", "reset")
    sona("ask", "reset")


# -- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["ask", "hi"], ["feedback", "1", "--good"], ["learn"], ["status"], ["patterns"], ["patterns", "hi"]]
)
def test_without_a_database_nothing_is_made_and_the_way_is_shown(folder, command):
    before = sorted(folder.iterdir())
    assert error_of(*command, "--db", "none.db") == (
        "error: no database at none.db: make one with `sona remember FILE --db none.db`"
    )
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("command", [["ask", "hi"], ["learn"], ["status"], ["patterns"], ["remember", "faq.jsonl"]])
def test_a_file_that_is_no_database_is_refused_and_not_written(folder, command):
    other = folder / "letter.txt"
    other.write_text("Dear all, this is no database. " * 9)
    before = other.read_bytes()
    said = error_of(*command, "--db", "letter.txt")
    assert "letter.txt is not a SONA store" in said or "letter.txt is truncated, damaged or not a saved state" in said
    assert other.read_bytes() == before


def test_a_folder_in_place_of_a_database_is_refused(folder):
    assert "is a folder" in error_of("remember", "faq.jsonl", "--db", str(folder))
    assert "its folder does not exist" in error_of("remember", "faq.jsonl", "--db", "none/sona.db")


def test_an_interrupt_is_one_line_and_changes_nothing(db, monkeypatch):
    def interrupt(engine, force):
        raise KeyboardInterrupt

    before = db.read_bytes()
    monkeypatch.setattr(SonaEngine, "background_learn", interrupt)
    assert error_of("learn", "--force", code=130) == "interrupted"
    assert db.read_bytes() == before


def test_an_error_of_several_lines_becomes_one(db, monkeypatch):
    def fail(engine, force):
        raise LearningError("first\nsecond \x1b[2J")

    monkeypatch.setattr(SonaEngine, "background_learn", fail)
    assert error_of("learn") == "error: first second \ufffd[2J"


def test_a_link_to_a_database_stays_a_link(db, folder):
    link = folder / "link.db"
    link.symlink_to(db)
    sona("ask", "reset password", "--db", "link.db")
    assert link.is_symlink()
    assert parsed("status")["metrics"]["requests"] == 1


@pytest.mark.parametrize(
    "wrong", ["", "nope", "remember", "ask", "ask a b", "ask a -k 0", "feedback x --good", "learn --now", "status x"]
)
def test_wrong_usage_ends_with_2(db, wrong):
    sona(*wrong.split(), code=2)


def test_version_and_help():
    assert sona("--version").stdout == f"sona {__version__}\n"
    overview = sona("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in overview
        assert "Example: sona " in sona(name, "--help").stdout
    assert "..." not in overview.replace("[ARGS]...", "")  # no summary is cut


# -- demo ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def toys(monkeypatch):
    names = ("stdlib", "stdlib_full_text", "banking77", "cranfield")
    asked = []

    def task(name):
        return lambda seed: asked.append((name, seed)) or toy_task(seed)

    monkeypatch.setattr(main_job, "TASKS", {name: task(name) for name in names})
    return asked


def test_demo_shows_the_table_a_sentence_and_where_the_page_is(toys, folder):
    result = sona("demo")
    assert toys == [("stdlib", 0)]
    for words in ("frozen", "learned", "difference", "95 % interval", "requests asked again", "requests never seen"):
        assert words in result.stdout
    assert "Figures are changes in nDCG@10" in result.stdout
    page = folder / "demo-output" / "stdlib.html"
    assert page.as_uri() in result.stdout
    assert "<h1>" in page.read_text()
    assert (folder / "demo-output" / "stdlib.png").read_bytes().startswith(b"\x89PNG")
    assert "Learning from clicks" in result.stderr


def test_demo_as_json_over_seeds_passes_and_a_folder_of_choice(toys, folder):
    found = parsed("demo", "--full-text", "--seeds", "2", "--passes", "3", "--output", "out/here")
    assert toys == [("stdlib_full_text", 0), ("stdlib_full_text", 1)]
    assert found["seeds"] == [0, 1]
    assert found["requests"] == 2 * 3 * 24
    repeat = found["parts"]["repeat"]
    assert repeat["delta"] == pytest.approx(repeat["learned"] - repeat["frozen"])
    assert repeat["ci"][0] <= repeat["delta"] <= repeat["ci"][1]
    assert (folder / "out" / "here" / "stdlib_full_text.html").as_uri() == found["page_url"]


def test_demo_without_labelled_data_names_folder_and_variable(folder):
    missing = error_of("demo", "--data", "banking77", env={"SONA_DATA": str(folder / "none")})
    assert str(folder / "none") in missing
    assert "SONA_DATA" in missing
    elsewhere = error_of("demo", "--data", "cranfield", env={"SONA_DATA": str(folder)})
    assert str(folder / "cranfield") in elsewhere
    assert "SONA_DATA" in elsewhere
    assert not (folder / "demo-output").exists()


def test_demo_says_before_the_work_that_the_folder_cannot_be_written(toys, folder, monkeypatch):
    (folder / "taken").write_text("a file")
    monkeypatch.setattr(main_job, "run", None)
    assert "cannot write to the folder taken" in error_of("demo", "--output", "taken")


@pytest.mark.parametrize(
    "wrong", [["--data", "imagenet"], ["--data", "cranfield", "--full-text"], ["--seeds", "0"], ["--passes", "0"]]
)
def test_demo_wrong_usage(toys, wrong):
    sona("demo", *wrong, code=2)
    assert toys == []


def test_demo_needs_matplotlib_and_says_so_before_the_work(toys, monkeypatch):
    monkeypatch.setattr(main_job.importlib.util, "find_spec", lambda name: None)
    assert error_of("demo") == "error: the learning curve needs matplotlib: pip install 'sona[demo]'"
    assert toys == []
