"""The commands that carry what an engine knows elsewhere, typed as a user types them."""

import pytest
from cli_typed import entered, error_of, parsed, remember_faq, said, sona

from sona import Context, GuardConfig, QueryTrajectory, SonaConfig, SonaEngine


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


@pytest.fixture
def db(folder):
    remember_faq()
    with SonaEngine.open(folder / "sona.db") as engine:
        for turn in range(3):
            response = engine.process("reset my password", Context(user_id=f"u{turn}"))
            if turn:
                engine.feedback(response.trajectory_id, quality=1.0)
    return folder / "sona.db"


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_what_one_database_knows_comes_to_another(db, kind):
    assert said("export", "backup", "--format", kind) == ["Wrote 3 memories, 3 requests and 0 patterns to backup."]
    assert said("import", "backup", "--db", "another.db") == [
        "Took in 3 new memories and 2 requests.",
        "1 answer had no feedback yet.",
        "Find patterns with: sona learn --db another.db",
    ]
    assert "To reset a password" in sona("ask", "reset my password", "--db", "another.db", "-k", "1").stdout
    assert said("import", "backup", "--db", "another.db") == [
        *("Took in 0 new memories and 0 requests.", "3 memories were known."),
        *("2 requests had been learned from before.", "1 answer had no feedback yet."),
    ]
    sona("replay", "--db", "another.db")


def test_programs_get_every_count(db):
    assert parsed("export", "backup") == {
        "folder": "backup",
        "format": "jsonl",
        "memories": 3,
        "trajectories": 3,
        "patterns": 0,
        "has_log": True,
    }
    assert parsed("import", "backup", "--db", "another.db", "--reembed") == {
        "db": "another.db",
        "memories": 3,
        "known_memories": 0,
        "renamed": 0,
        "trajectories": 2,
        "known": 0,
        "unfinished": 1,
        "left_out": 0,
        "limited": 0,
    }


def test_a_saved_engine_is_exported_as_far_as_it_is_held(folder):
    engine = SonaEngine()
    engine.rank([1.0, 0.0], ["a"], [[1.0, 0.0]])
    engine.save("saved")
    assert said("export", "backup", "--db", "saved") == [
        "Wrote 0 memories, 1 request and 0 patterns to backup.",
        "There is no whole log, so these are the requests that were still held.",
    ]


def test_what_was_passed_over_is_said_in_words(db, folder):
    busy = SonaEngine(SonaConfig(hidden_dim=256, guard=GuardConfig(influence=1.0, key="k")))
    busy.remember("Another text of passwords.", "password")
    for turn in range(40):
        vector = [float(place == turn) for place in range(256)]
        busy.submit_trajectory(
            QueryTrajectory(turn, vector, final_quality=1.0, subject="eve" if turn > 4 else f"{turn}")
        )
    busy.export("busy")
    lines = said("import", "busy")
    assert lines[0] == "Took in 1 new memory and 40 requests."
    assert lines[1] == "1 memory has a mark added to its id, which stands for another text here."
    assert lines[2].endswith("requests were not learned from: their subject gave more than its share.")
    assert said("import", "busy", "--db", "new.db", "--reembed")[1] == (
        "40 requests were left out: their vectors mean nothing here."
    )


def test_exporting_goes_on_beside_a_process_that_writes_and_importing_does_not(db):
    sona("export", "backup")
    with SonaEngine.open(db):
        sona("export", "another")
        assert "open in another process" in error_of("import", "backup")


def test_what_cannot_be_used_is_said_and_nothing_is_made(db, folder):
    assert "--format" in sona("export", "backup", "--format", "csv", code=2).stderr
    assert "no database at none.db" in error_of("export", "backup", "--db", "none.db")
    assert "holds no export" in error_of("import", "backup", "--db", "new.db")
    sona("export", "backup")
    assert "exists already" in error_of("export", "backup")
    with (folder / "backup" / "memories.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    assert "memories.jsonl line 4: text" in error_of("import", "backup", "--db", "new.db")
    assert not (folder / "new.db").exists()
