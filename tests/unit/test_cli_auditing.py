"""The commands that hold an engine to account, typed as a user types them."""

import json

import numpy as np
import pytest
from cli_typed import entered, error_of, parsed, remember_faq, sona

from sona import Context, GuardConfig, SonaConfig, SonaEngine
from sona.cli import auditing
from sona.engine.accountable import Replay


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


@pytest.fixture
def db(folder):
    remember_faq()
    return folder / "sona.db"


@pytest.fixture
def taught(db):
    with SonaEngine.open(db) as engine:
        for turn in range(12):
            response = engine.process(f"reset my password {turn % 3}", Context(user_id=f"u{turn % 4}"))
            engine.feedback(response.trajectory_id, quality=1.0)
        engine.background_learn(force=True)
        for _ in range(3):
            response = engine.process("old invoices", Context(user_id="anna"))
            engine.feedback(response.trajectory_id, rewards={"invoice": 1.0})
        engine.background_learn(force=True)
    return db


@pytest.fixture
def compared(folder):
    # No warm-up, half held out: after 120 requests both answers have been compared.
    settings = SonaConfig(guard=GuardConfig(warm_up=0, holdout=0.5, budget=1.0))
    rng = np.random.default_rng(0)
    vectors, ids = rng.normal(size=(12, 8)).astype(np.float32), tuple(f"d{number}" for number in range(12))
    path = folder / "compared.db"
    with SonaEngine.open(path, settings) as engine:
        for turn in range(120):
            ranking = engine.rank(vectors[turn % 12], ids, vectors, context=Context(user_id=f"u{turn}"))
            engine.feedback(ranking.trajectory_id, rewards={ranking.ids[turn % 2]: 1.0})
    return path


# -- report --------------------------------------------------------------------------------------------------------


def test_report_says_the_same_as_the_engine_in_words_and_as_json(compared):
    report = SonaEngine.load(compared).report()
    assert report.lift.trials == 120
    assert sona("report", "--db", str(compared)).stdout == f"{report.as_text()}\n"
    assert parsed("report", "--db", str(compared)) == {**json.loads(json.dumps(report.as_json())), "page": None}


def test_report_of_a_young_engine_says_that_it_warms_up(db):
    shown = sona("report").stdout
    assert shown.startswith("no evidence: nothing compared yet\n")
    assert "comparing begins after 100 requests, 0 were served" in shown


def test_report_as_a_page_names_it_and_loads_nothing(compared, folder):
    shown = sona("report", "--html", "out.html", "--db", str(compared)).stdout
    assert (folder / "out.html").as_uri() in shown
    page = (folder / "out.html").read_text()
    assert "compared.db" in page
    for outside in ("http:", "https:", "<script", "@import", "src="):
        assert outside not in page
    assert parsed("report", "--html", "again.html", "--db", str(compared))["page"] == "again.html"


def test_the_page_never_takes_the_place_of_a_database_or_a_folder(compared, folder):
    before = compared.read_bytes()
    assert "is a database" in error_of("report", "--html", "compared.db", "--db", str(compared))
    assert compared.read_bytes() == before
    assert "is a folder" in error_of("report", "--html", ".", "--db", str(compared))
    assert "cannot write" in error_of("report", "--html", "none/out.html", "--db", str(compared))


# -- guard ---------------------------------------------------------------------------------------------------------


def test_guard_shows_what_it_goes_by(db):
    found = parsed("guard")
    assert (found["mode"], found["holdout"], found["budget"], found["warm_up"]) == ("on", 0.05, 0.05, 100)
    shown = sona("guard").stdout
    for words in ("on: as many requests", "0 of 100 requests", "held out", "5.0% of what frozen answers earn"):
        assert words in shown


@pytest.mark.parametrize(("mode", "exposure"), [("off", 0.0), ("shadow", 0.0), ("canary", 0.0), ("on", 1.0)])
def test_guard_sets_a_mode_that_stays(db, mode, exposure):
    assert parsed("guard", mode)["mode"] == mode
    found = parsed("guard")
    assert (found["mode"], found["exposure"]) == (mode, exposure)
    assert sona("guard").stdout.split()[1] == f"{mode}:"
    assert parsed("status")["metrics"]["mode"] == mode


def test_guard_off_answers_frozen_and_on_again_as_learned(db):
    question = "when is the office open"
    for _ in range(3):
        number = parsed("ask", question)["trajectory_id"]
        sona("feedback", str(number), "--reward", "hours=1")
    learned = parsed("ask", question)["sources"][0]["score"]
    sona("guard", "off")
    assert parsed("ask", question)["sources"][0]["score"] < learned
    sona("guard", "on")
    assert parsed("ask", question)["sources"][0]["score"] == pytest.approx(learned)


def test_guard_knows_no_other_mode(db):
    before = db.read_bytes()
    assert "expected one of off, shadow, canary, on" in sona("guard", "half", code=2).stderr.replace("\n", " ")
    assert db.read_bytes() == before


# -- versions, diff, rollback --------------------------------------------------------------------------------------


def test_versions_lists_what_was_committed_and_what_is_in_force(taught):
    found = parsed("versions")
    assert found["in_force"] == 2
    assert [(record["id"], record["parent"], record["trajectories"]) for record in found["versions"]] == [
        (1, 0, 12),
        (2, 1, 3),
    ]
    assert found["decisions"] == []
    rows = [line for line in sona("versions").stdout.splitlines() if "in force" in line]
    assert [row.split()[0] for row in rows] == ["2"]


def test_versions_of_a_young_engine_say_how_to_make_one(db):
    assert "sona learn" in sona("versions").stdout
    assert parsed("versions") == {"in_force": 0, "versions": [], "decisions": []}


def test_diff_shows_figures_of_both(taught):
    found = parsed("diff", "1", "2")
    assert (found["is_equal"], found["trajectories"]) == (False, 3)
    assert found["figures"]["learned"] == [12.0, 15.0]
    shown = sona("diff", "1", "2").stdout
    assert "Loop B learned from 3 trajectories" in shown
    assert "learned" in shown
    untrained = parsed("diff", "0", "1")["figures"]
    assert untrained["learned"] == [0.0, 12.0]
    assert "own_gain" not in untrained  # it starts with a head start, and kept it
    assert sona("diff", "2", "2").stdout == "Versions 2 and 2 answer alike, bit for bit.\n"
    assert "does not come from" in sona("diff", "2", "1").stdout
    assert "no version 9" in error_of("diff", "1", "9")


def test_rollback_puts_a_version_in_force_and_is_told(taught):
    assert parsed("rollback", "1", "--reason", "a bad day") == {"version": 1, "before": 2, "reason": "a bad day"}
    found = parsed("versions")
    assert found["in_force"] == 1
    assert [(one["decision"], one["version"], one["reason"]) for one in found["decisions"]] == [
        ("rolled back", 1, "a bad day")
    ]
    assert "rolled back: version 1; a bad day" in sona("versions").stdout
    assert sona("rollback", "0").stdout == "Version 0, the untrained one, is in force now; before it was version 1.\n"
    assert "Version 0, the untrained one, is in force." in sona("versions").stdout
    assert parsed("replay")["is_equal"]


@pytest.mark.parametrize("wrong", [["9"], ["1", "--reason", " "]])
def test_rollback_to_nothing_or_for_no_reason_changes_nothing(taught, wrong):
    before = taught.read_bytes()
    assert error_of("rollback", *wrong).startswith("error: ")
    assert taught.read_bytes() == before


# -- explain -------------------------------------------------------------------------------------------------------


def test_explain_shows_parts_that_add_up_and_who_voted(taught):
    found = parsed("explain", "14")
    assert (found["text"], found["subject"], found["is_exact"]) == ("old invoices", "anna", True)
    for item in found["items"]:
        assert item["score"] == pytest.approx(item["similarity"] + item["micro"] + item["base"] + item["votes"])
    assert found["items"][0]["reward"] == 1.0
    assert found["neighbours"][0]["text"] == "old invoices"
    shown = sona("explain", "14").stdout
    for words in ("“old invoices”, asked by anna", "as every request was then; version 1", "invoice 1"):
        assert words in shown
    assert "of now" not in shown


def test_explain_of_a_saved_file_says_that_it_is_of_now(taught, folder):
    with SonaEngine.open(taught) as engine:
        engine.save("saved.sona")
    assert "The parts are those of now" in sona("explain", "14", "--db", "saved.sona").stdout
    assert not parsed("explain", "14", "--db", "saved.sona")["is_exact"]


def test_explain_of_a_request_nobody_made_is_an_error(taught):
    assert error_of("explain", "99").startswith("error: trajectory 99 ")
    sona("explain", "x", code=2)
    sona("explain", "-1", code=2)


# -- replay --------------------------------------------------------------------------------------------------------


def test_replay_rebuilds_the_same_state_and_changes_nothing(taught):
    before = taught.read_bytes()
    found = parsed("replay")
    assert found["is_equal"]
    assert found["digest"] == found["rebuilt"]
    assert "the state is the same, bit for bit" in sona("replay").stdout
    assert taught.read_bytes() == before


def test_replay_that_differs_is_an_error(db, monkeypatch):
    monkeypatch.setattr(SonaEngine, "replay", lambda engine: Replay(3, "aa", "bb"))
    result = sona("replay", code=1)
    assert "SHA-256 rebuilt  bb" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: 3 events happened again")
    assert not json.loads(sona("replay", "--json", code=1).stdout)["is_equal"]


def test_replay_of_a_saved_file_has_no_log(db):
    with SonaEngine.open(db) as engine:
        engine.save("saved.sona")
    assert "needs the log" in error_of("replay", "--db", "saved.sona")


# -- forget --------------------------------------------------------------------------------------------------------


def test_forget_takes_everything_of_somebody_and_leaves_no_byte(taught, folder):
    (folder / "hers.txt").write_text("Anna keeps a xylophone.")
    sona("remember", "hers.txt", "--user", "anna")
    sona("ask", "xylophone of Anna", "--user", "anna")
    assert parsed("forget", "anna", "--yes") == {
        "subject": "anna",
        "memories": 1,
        "requests": 4,
        "feedbacks": 3,
        "amended": 0,
        "is_wiping": False,
    }
    for file in folder.glob("sona.db*"):
        assert b"xylophone" not in file.read_bytes()
        assert b"anna" not in file.read_bytes()
    assert parsed("replay")["is_equal"]
    assert parsed("status")["metrics"]["requests"] == 12


def test_forget_of_an_unknown_subject_says_so(taught):
    before = parsed("status")["metrics"]
    assert sona("forget", "nobody", "--yes").stdout == "Nothing of 'nobody' was there.\n"
    assert parsed("status")["metrics"] == before


def test_forget_without_a_terminal_needs_yes(taught):
    before = taught.read_bytes()
    assert "give --yes" in sona("forget", "anna", code=2).stderr.replace("\n", " ")
    assert taught.read_bytes() == before


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(auditing, "is_terminal", lambda: True)


def test_forget_asks_on_a_terminal(taught, terminal):
    before = taught.read_bytes()
    refused = sona("forget", "anna", code=1, input="n\n")
    assert "Forget everything of 'anna'? It cannot be undone." in refused.stderr
    assert refused.stderr.endswith("nothing was forgotten\n")
    assert taught.read_bytes() == before
    assert sona("forget", "anna", code=130, input="").stderr.endswith("interrupted\n")
    assert "Forgot 'anna'" in sona("forget", "anna", input="y\n").stdout


def test_forget_needs_the_file_for_itself(taught):
    with SonaEngine.open(taught):
        assert "open in another process" in error_of("forget", "anna", "--yes")


# -- files ---------------------------------------------------------------------------------------------------------

LOOKS = [["report"], ["guard"], ["versions"], ["diff", "1", "2"], ["explain", "1"], ["replay"], ["status"]]
CHANGES = [["guard", "off"], ["rollback", "0"], ["forget", "anna", "--yes"]]


@pytest.mark.parametrize("command", [*LOOKS, *CHANGES])
def test_without_a_database_nothing_is_made(folder, command):
    assert "no database at none.db" in error_of(*command, "--db", "none.db")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", LOOKS)
def test_looking_goes_on_beside_a_process_that_writes(taught, command):
    with SonaEngine.open(taught) as engine:
        engine.begin_trajectory(np.eye(256)[0])  # unfinished there, and left alone here
        engine._journal.store.flush()
        last = engine._journal.seq
        sona(*command)
        assert engine.metrics().open_trajectories == 1
        assert engine._journal.seq == last


@pytest.mark.parametrize("command", CHANGES)
def test_changing_needs_the_file_to_be_free(taught, command):
    with SonaEngine.open(taught):
        assert "open in another process" in error_of(*command)


@pytest.mark.parametrize("command", LOOKS)
def test_looking_changes_no_byte(taught, command):
    before = taught.read_bytes()
    sona(*command)
    assert taught.read_bytes() == before
