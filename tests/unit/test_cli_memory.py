"""The commands that reorganise the memory, typed as a user types them."""

import pytest
from cli_typed import entered, error_of, parsed, sona

from sona import SonaConfig, SonaEngine
from sona.config import ConsolidationConfig, DeepConfig
from sona.loops.deep import DeepLoop

FAQ = {
    "password": "To reset a password, open Settings, choose Security, and follow the link.",
    "password-2": "To reset a password, open Settings, choose Security and follow the link!",
    "invoice": "Invoices are sent on the first of the month; find old ones under Billing.",
    "refund": "A refund takes five days to arrive on the card that paid for the order.",
    "address": "To change the address of an order, open the order and choose Edit.",
    "hours": "Our office is open from nine to five on weekdays.",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


def made(path, config=None, texts=FAQ):
    with SonaEngine.open(path, config) as engine:
        for name, text in texts.items():
            engine.remember(text, name)
        for question in ("reset my password", "order and refund", "open the order"):
            response = engine.process(question)
            engine.feedback(response.trajectory_id, rewards={one.id: 1.0 for one in response.sources[:2]})
    return path


@pytest.fixture
def db(folder):
    return made(folder / "sona.db")


# -- dream ---------------------------------------------------------------------------------------------------------


def test_dream_runs_a_cycle_and_says_what_it_did(db):
    shown = sona("dream").stdout
    assert shown.startswith("Cycle 1 of Loop C took ")
    assert "50 dreamt" in shown
    assert "1 memory was merged into another, 0 removed" in shown
    after = SonaEngine.load(db)
    assert after.metrics().deep_cycles == 1
    assert after.memory_count == len(FAQ) - 1


def test_dream_as_json_is_the_result_of_the_cycle_and_the_dreams(db):
    found = parsed("dream", "--count", "2")
    assert found["is_dry_run"] is False
    cycle = found["cycle"]
    assert (cycle["cycle"], cycle["is_finished"], cycle["merged"]) == (1, True, 1)
    assert cycle["gone"] == {"password-2": "password"} or cycle["gone"] == {"password": "password-2"}
    assert cycle["phi"] == SonaEngine.load(db).metrics().phi
    assert len(found["dreams"]) == 2


def test_dreams_come_with_the_texts_of_what_they_came_by_the_best_first(db):
    shown = sona("dream", "--dry-run", "--count", "1").stdout
    (best,) = parsed("dream", "--dry-run", "--count", "1")["dreams"]
    assert best["texts"] == {name: FAQ[name] for name in best["path"]}
    for name in best["path"]:
        assert FAQ[name][:40] in shown
    proposal = best["proposals"][0]
    assert f"It would link {proposal['a']} with {proposal['b']}" in shown
    everything = {one.id: one for one in SonaEngine.load(db).dream(DeepConfig().dreams)}
    listed = parsed("dream", "--dry-run", "--count", "50")["dreams"]
    assert [one["id"] for one in listed[:1]] == [best["id"]]
    assert {one["id"] for one in listed} == set(everything)
    taken = [one["score"] for one in listed if one["refusal"] is None]
    assert taken == sorted(taken, reverse=True)
    assert [one["refusal"] is not None for one in listed] == sorted(one["refusal"] is not None for one in listed)


def test_dreaming_alone_changes_nothing_and_goes_on_beside_whoever_writes(db):
    before = db.read_bytes()
    first = parsed("dream", "--dry-run")
    assert first["cycle"] is None
    assert db.read_bytes() == before
    with SonaEngine.open(db) as engine:
        assert parsed("dream", "--dry-run")["dreams"] == first["dreams"]
        assert engine.metrics().deep_cycles == 0


def test_a_dream_that_would_not_be_taken_up_says_why(folder):
    made(folder / "two.db", texts={"a": "one text alone", "b": "another text alone"})
    sona("dream", "--db", "two.db")
    shown = sona("dream", "--dry-run", "--db", "two.db").stdout
    assert "Not taken up: " in shown


def test_letters_that_steer_a_terminal_are_not_written(folder):
    made(folder / "bad.db", texts={"a\x1b[31m": "red \x1b[31m text here", "b": "another text here", "c": "a third one"})
    for command in (("dream", "--dry-run"), ("consolidate", "--dry-run"), ("dream",), ("consolidate",)):
        assert "\x1b" not in sona(*command, "--db", "bad.db").output


# -- consolidate ---------------------------------------------------------------------------------------------------


def test_a_dry_run_lists_what_would_go_and_changes_nothing(db):
    before = db.read_bytes()
    shown = sona("consolidate", "--dry-run").stdout
    assert "Would merge 1 memory into others and remove 0; 5 would be left." in shown
    assert "To reset a password, open Settings" in shown
    assert "To do it: sona consolidate\n" in shown
    plan = parsed("consolidate", "--dry-run")
    (merge,) = plan["merges"]
    assert {merge["kept"], merge["gone"]} == {"password", "password-2"}
    assert (merge["text_kept"], merge["text_gone"]) == (FAQ[merge["kept"]], FAQ[merge["gone"]])
    assert merge["similarity"] >= ConsolidationConfig().merge_similarity
    assert (plan["is_dry_run"], plan["removals"], plan["expected_loss"], plan["kept"]) == (True, [], 0.0, 5)
    assert db.read_bytes() == before


def test_consolidation_does_what_the_dry_run_said(db):
    (merge,) = parsed("consolidate", "--dry-run")["merges"]
    cycle = parsed("consolidate")["cycle"]
    assert cycle["gone"] == {merge["gone"]: merge["kept"]}
    assert (cycle["dreams_generated"], cycle["phi"]) == (0, None)
    assert SonaEngine.load(db).memory_count == 5
    assert SonaEngine.load(db).process(FAQ[merge["gone"]]).sources[0].id == merge["kept"]
    assert sona("consolidate", "--dry-run").stdout == "Nothing to merge or remove: 5 memories stay.\n"


def test_consolidation_says_what_is_gone(db):
    shown = sona("consolidate").stdout
    assert shown.startswith("1 memory was merged into another, 0 removed; ")
    assert "To reset a password, open Settings" in shown


def test_what_is_removed_is_listed_with_its_worth_and_what_that_may_cost(folder):
    settings = SonaConfig(consolidation=ConsolidationConfig(prune=True, min_value=1.0, max_loss=1.0))
    made(folder / "pruned.db", settings)
    plan = parsed("consolidate", "--dry-run", "--db", "pruned.db")
    removed = [one["id"] for one in plan["removals"]]
    assert removed
    assert [one["text"] for one in plan["removals"]] == [FAQ[name] for name in removed]
    shown = sona("consolidate", "--dry-run", "--db", "pruned.db", "-k", "1").stdout
    assert f"with a chance of at most {plan['expected_loss']:.1%}." in shown
    assert f"1 of {len(removed)}; more with -k {len(removed)}" in shown
    assert "sona consolidate --db pruned.db" in shown
    done = sona("consolidate", "--db", "pruned.db").stdout
    assert f"{len(removed)} removed" in done
    assert f"with a chance of at most {plan['expected_loss']:.1%}." in done
    assert SonaEngine.load(folder / "pruned.db").memory_count == plan["kept"]


def test_a_time_limit_ends_it_and_the_next_time_goes_on(db):
    shown = sona("consolidate", "--time-limit", "1e-9").stdout
    assert shown == "The time limit ended it, and nothing has changed yet; go on with: sona consolidate\n"
    assert SonaEngine.load(db).memory_count == len(FAQ)
    assert sona("consolidate").stdout.startswith("1 memory was merged")


def test_no_time_at_all_is_a_sentence_and_no_cycle(db):
    assert "the limit is 0" in sona("consolidate", "--time-limit", "0").stdout
    assert SonaEngine.load(db).metrics().deep_cycles == 0


# -- nothing to do -------------------------------------------------------------------------------------------------

RUNS = (("dream",), ("dream", "--dry-run"), ("consolidate",), ("consolidate", "--dry-run"))
each_run = pytest.mark.parametrize("command", RUNS, ids=" ".join)


@each_run
def test_one_memory_that_nobody_asked_for_gives_a_sentence(folder, command):
    with SonaEngine.open(folder / "sona.db") as engine:
        engine.remember(FAQ["hours"])
        engine.index()
    shown = sona(*command).stdout
    assert any(said in shown for said in ("proposes no link", "0 memories were merged", "Nothing to merge"))


@each_run
def test_an_empty_database_has_nothing_to_reorganise(folder, command):
    SonaEngine.open(folder / "sona.db").close()
    shown = sona(*command).stdout
    assert "memories" in shown
    assert shown.startswith(("No", "Nothing"))
    parsed(*command)


@each_run
def test_where_the_graph_is_switched_off_it_says_so(folder, command):
    made(folder / "sona.db", SonaConfig(use_graph=False))
    assert "the memory graph is switched off" in sona(*command).stdout


# -- what goes wrong -----------------------------------------------------------------------------------------------


@each_run
def test_without_a_database_nothing_is_made_and_the_way_is_shown(folder, command):
    said = error_of(*command, "--db", "none.db")
    assert said == "error: no database at none.db: make one with `sona remember FILE --db none.db`"
    assert not list(folder.iterdir())


@each_run
def test_what_is_no_database_is_refused_and_not_written(folder, command):
    (folder / "other.db").write_text("something else\n" * 99)
    assert error_of(*command, "--db", "other.db").startswith("error: ")
    assert (folder / "other.db").read_text() == "something else\n" * 99
    assert "is a folder" in error_of(*command, "--db", ".")


@pytest.mark.parametrize("command", ["dream", "consolidate"])
def test_while_another_has_it_open_nothing_is_changed(db, command):
    with SonaEngine.open(db) as engine:
        assert error_of(command).startswith("error: ")
        assert engine.metrics().deep_cycles == 0


@pytest.mark.parametrize("command", ["dream", "consolidate"])
def test_an_interrupt_is_one_line_and_leaves_the_memory_as_it_was(db, command, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DeepLoop, "compute", interrupted)
        assert error_of(command, code=130) == "interrupted"
    after = SonaEngine.load(db)
    assert (after.memory_count, after.metrics().deep_cycles) == (len(FAQ), 0)
    assert parsed(command)["cycle"]["is_finished"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("dream", "--count", "0"),
        ("consolidate", "--time-limit", "-1"),
        ("consolidate", "--time-limit", "5", "--dry-run"),
        ("consolidate", "-k", "0"),
    ],
)
def test_wrong_usage_ends_with_2(db, wrong):
    before = db.read_bytes()
    sona(*wrong, code=2)
    assert db.read_bytes() == before


# -- status --------------------------------------------------------------------------------------------------------


def test_status_tells_of_the_graph_and_of_loop_c(db):
    before = sona("status").stdout
    assert "pairs of memories linked; requests see the links of 6 memories" in before
    assert "Loop C           0 cycles finished\n" in before
    sona("dream")
    metrics = parsed("status")["metrics"]
    assert (metrics["deep_cycles"], metrics["edges"] > 0, metrics["linked_memories"]) == (1, True, 5)
    shown = sona("status").stdout
    assert f"{metrics['edges']:,} pairs of memories linked; requests see the links of 5 memories" in shown
    assert f"Loop C           1 cycle finished; Phi {metrics['phi']:.3f}; last run " in shown
    assert "activation       worth 0.000 over links to similar memories, 0.000 over learned ones" in shown


def test_status_of_a_database_without_requests_tells_of_no_links(folder):
    SonaEngine.open(folder / "sona.db").close()
    assert "0 pairs of memories linked; requests see none of the links yet" in sona("status").stdout
