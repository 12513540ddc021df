"""Export and import: what the files hold, what is refused before anything changes, and what a clash of ids comes to."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from sona import (
    Context,
    DimensionMismatch,
    GuardConfig,
    InvalidValue,
    MissingExtra,
    QueryTrajectory,
    SonaConfig,
    SonaEngine,
    StateError,
    StoreError,
    TrajectoryStep,
)
from sona.engine.exchange.folder import read_folder
from sona.engine.exchange.records import foreign_id, origin_of
from sona.engine.exchange.verbs import Imported
from sona.engine.intake import FOREIGN_ID
from sona.state import digest
from sona.stores import MemoryStore

D = 4
ITEMS = np.random.default_rng(0).normal(size=(3, D)).astype(np.float32)
IDS = ("a", "b", "c")
FAQ = {
    "reset": "To reset a password, open the settings page and choose reset.",
    "invoice": "An invoice is paid by bank transfer within thirty days.",
    "refund": "A refund is sent to the card that was charged.",
}


def embed(texts):
    return np.array([np.random.default_rng(sum(map(ord, text))).normal(size=D) for text in texts], np.float32)


def made(key="here", log=True, embedder=embed, **settings):
    config = SonaConfig(min_trajectories=2, guard=GuardConfig(key=key, **settings))
    return SonaEngine(config, embedder=embedder, clock=lambda: 50.0, store=MemoryStore() if log else None)


def lived(key="there", **options):
    engine = made(key, **options)
    for name, text in FAQ.items():
        engine.remember(text, name, subject="ann" if name == "refund" else None)
    first = engine.process("reset password", Context(user_id="bob"))
    engine.feedback(first.trajectory_id, quality=1.0)
    engine.process("pay invoice")  # without feedback
    ranking = engine.rank(np.ones(engine.hidden_dim), IDS, np.eye(3, engine.hidden_dim))
    engine.feedback(ranking.trajectory_id, rewards={"b": 1.0})
    engine.feedback(ranking.trajectory_id, rewards={"a": 0.25})
    builder = engine.begin_trajectory(np.ones(engine.hidden_dim), model_route="large", parameters={"k": 3, "t": 0.5})
    builder.add_step(np.ones(engine.hidden_dim), [0.1, 0.9], 0.7, ref="reset")
    engine.end_trajectory(builder, 0.3)
    return engine


def lines(folder, table):
    return [json.loads(line) for line in (folder / f"{table}.jsonl").read_text("utf-8").splitlines()]


def rewritten(folder, table, change):
    """Change the rows of a table, and let the manifest agree."""
    rows = change(lines(folder, table))
    content = "".join(json.dumps(row) + "\n" if isinstance(row, dict) else row + "\n" for row in rows).encode()
    (folder / f"{table}.jsonl").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tables"][table] = {"count": len(rows), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def folder(tmp_path):
    lived().export(tmp_path / "a")
    return tmp_path / "a"


# -- what is written -------------------------------------------------------------------------------------------------


def test_the_files_hold_every_field_under_its_own_name(tmp_path):
    engine = lived()
    told = engine.export(tmp_path / "a")
    assert (told.memories, told.trajectories, told.patterns, told.has_log) == (3, 4, 0, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("a", "manifest.json", "memories.jsonl", "patterns.jsonl", "trajectories.jsonl")
    ]
    memories, requests = lines(tmp_path / "a", "memories"), lines(tmp_path / "a", "trajectories")
    assert [(m["id"], m["text"], m["subject"]) for m in memories] == [
        (name, text, "ann" if name == "refund" else None) for name, text in FAQ.items()
    ]
    assert np.array([m["vector"] for m in memories], np.float32).tobytes() == engine._memories.vectors.tobytes()
    assert [(r["id"], r["kind"], r["text"], r["subject"], r["at"]) for r in requests] == [
        (1, "answered", "reset password", "bob", 50.0),
        (2, "answered", "pay invoice", None, 50.0),
        (3, "answered", None, None, 50.0),
        (4, "submitted", None, None, 50.0),
    ]
    assert [request["final_quality"] for request in requests] == [1.0, None, None, 0.3]
    assert {step["ref"]: step["reward"] for step in requests[2]["steps"]} == {"a": 0.25, "b": 1.0, "c": 0.0}
    assert requests[3]["steps"][0]["attention_weights"] == np.array([0.1, 0.9], np.float32).tolist()
    assert (requests[3]["model_route"], requests[3]["parameters"]) == ("large", {"k": 3, "t": 0.5})
    assert requests[0]["latency_us"] > 0.0


def test_patterns_are_written_with_their_fields(tmp_path):
    engine = made(log=False)
    for turn in range(8):
        engine.submit_trajectory(QueryTrajectory(turn, np.array([1.0, 0.001 * turn, 0.0, 0.0]), final_quality=0.5))
    engine.background_learn(force=True)
    (pattern,) = engine.bank.patterns
    assert engine.export(tmp_path / "a").patterns == 1
    (row,) = lines(tmp_path / "a", "patterns")
    assert row.pop("centroid") == pattern.centroid.tolist()
    assert row == {name: getattr(pattern, name) for name in row}
    assert len(row) == 7
    assert made().import_from(tmp_path / "a") == Imported(trajectories=8)


def test_parquet_is_what_another_program_reads(tmp_path):
    engine = lived()
    engine.export(tmp_path / "a", format="parquet")
    table = pq.read_table(tmp_path / "a" / "memories.parquet")
    assert table.column("id").to_pylist() == list(FAQ)
    assert table.schema.field("vector").type.value_type == "float"
    vectors = np.stack([np.array(row, np.float32) for row in table.column("vector").to_pylist()])
    assert vectors.tobytes() == engine._memories.vectors.tobytes()
    rewards = pq.read_table(tmp_path / "a" / "trajectories.parquet").column("steps").to_pylist()[2]
    assert {step["ref"]: step["reward"] for step in rewards} == {"a": 0.25, "b": 1.0, "c": 0.0}


def test_half_a_pair_of_surrogates_is_kept_by_json_and_refused_by_parquet(tmp_path):
    engine = made()
    engine.remember("half \ud800 a letter", "x")
    with pytest.raises(InvalidValue, match="use jsonl"):
        engine.export(tmp_path / "b", format="parquet")
    assert list(tmp_path.iterdir()) == []
    engine.export(tmp_path / "a")
    assert read_folder(tmp_path / "a").memories[0].text == "half \ud800 a letter"


def test_exporting_changes_nothing(tmp_path):
    engine = lived()
    before = digest(engine.state())
    engine.export(tmp_path / "a")
    assert digest(engine.state()) == before


def test_without_a_log_what_is_held_is_written_and_says_so(tmp_path):
    engine = lived(log=False)
    engine.background_learn(force=True)
    engine.submit_trajectory(QueryTrajectory(9, np.ones(D), final_quality=0.1))
    assert not engine.export(tmp_path / "a").has_log
    requests = lines(tmp_path / "a", "trajectories")
    assert [(r["id"], r["final_quality"], r["text"]) for r in requests] == [
        *((1, 1.0, "reset password"), (2, None, "pay invoice"), (3, None, None), (4, 0.3, None), (9, 0.1, None))
    ]
    assert {step["ref"]: step["reward"] for step in requests[2]["steps"]} == {"a": 0.25, "b": 1.0, "c": 0.0}
    assert {m["subject"] for m in lines(tmp_path / "a", "memories")} == {None}


def test_a_log_is_read_beyond_what_is_still_held(tmp_path):
    config = SonaConfig(served_capacity=2, guard=GuardConfig(key="k"))
    engine = SonaEngine(config, clock=lambda: 50.0, store=MemoryStore())
    for turn in range(6):
        ranking = engine.rank(ITEMS[turn % 3], IDS, ITEMS)
        engine.feedback(ranking.trajectory_id, quality=turn / 5)
    engine.export(tmp_path / "a")
    assert [row["final_quality"] for row in lines(tmp_path / "a", "trajectories")] == [turn / 5 for turn in range(6)]


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    assert lived().export(tmp_path / "a").memories == 3  # empty
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(StoreError, match="exists already"):
        made().export(tmp_path / "a")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        made().export(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot write"):
        made().export(tmp_path / "none" / "a")


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(path, content):
        raise StoreError("disk full")

    monkeypatch.setattr("sona.engine.exchange.folder.replace_file", full)
    with pytest.raises(StoreError, match="disk full"):
        lived().export(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_not_there(tmp_path, monkeypatch, folder):
    with pytest.raises(InvalidValue, match="jsonl, parquet"):
        made().export(tmp_path / "b", format="csv")
    made().export(tmp_path / "c", format="parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"sona\[parquet\]"):
        made().export(tmp_path / "b", format="parquet")
    with pytest.raises(MissingExtra, match=r"sona\[parquet\]"):
        made().import_from(tmp_path / "c")
    assert not (tmp_path / "b").exists()


# -- what is taken in ------------------------------------------------------------------------------------------------


def test_an_import_remembers_submits_and_counts(folder):
    engine = made()
    assert engine.import_from(folder) == Imported(memories=3, trajectories=3, unfinished=1)
    assert engine.metrics().requests == 3
    assert engine.process("reset password").text == FAQ["reset"]
    assert engine.rank(np.ones(D), IDS, np.eye(3, D)).trajectory_id == 2  # ids of one's own go on from the first
    assert engine.import_from(folder) == Imported(known_memories=3, known=3, unfinished=1)
    assert engine.replay().is_equal


def test_feedback_that_came_after_an_export_comes_with_the_next(tmp_path):
    source, engine = lived(), made()
    source.export(tmp_path / "a")
    engine.import_from(tmp_path / "a")
    source.feedback(2, quality=0.5)
    source.export(tmp_path / "b")
    assert engine.import_from(tmp_path / "b") == Imported(known_memories=3, trajectories=1, known=3)


def test_two_engines_whose_ids_are_the_same_are_told_apart(tmp_path):
    engine = made()
    for key in ("there", "elsewhere"):
        lived(key).export(tmp_path / key)
        assert engine.import_from(tmp_path / key).trajectories == 3
    assert engine.metrics().requests == 6


def test_an_origin_is_stable_and_no_secret():
    assert origin_of(b"key") == origin_of(b"key") != origin_of(b"another")
    one = QueryTrajectory(5, ITEMS[0], latency_us=10.5)
    number = foreign_id("x", one)
    assert FOREIGN_ID <= number < 2 * FOREIGN_ID
    assert number == foreign_id("x", QueryTrajectory(5, ITEMS[1], (), 1.0, 10.5))  # another vector, an outcome
    assert number != foreign_id("y", one)
    assert number != foreign_id("x", QueryTrajectory(5, ITEMS[0], latency_us=10.25))
    assert number == foreign_id("y", QueryTrajectory(number, ITEMS[0]))  # at second hand
    assert foreign_id("x", QueryTrajectory(5, ITEMS[0])) != foreign_id("x", QueryTrajectory(5, ITEMS[1]))


def test_a_memory_whose_id_stands_for_another_text_is_kept_beside_it(folder):
    engine = made()
    engine.remember("Our own text of resetting.", "reset")
    engine.remember(FAQ["invoice"], "bills")
    told = engine.import_from(folder)
    assert (told.memories, told.known_memories, told.renamed) == (2, 1, 1)
    mark = hashlib.sha256(FAQ["reset"].encode()).hexdigest()[:12]
    assert engine._memories.ids == ("reset", "bills", f"reset~{mark}", "refund")
    assert engine._memories.text("reset") == "Our own text of resetting."
    assert engine.process("reset password").sources[0].id in ("reset", f"reset~{mark}")
    assert engine.import_from(folder).known_memories == 3  # the same names again
    shown = engine._contents("jsonl").requests[-2].trajectory
    assert [step.ref for step in shown.steps] == [f"reset~{mark}"]


def test_words_are_embedded_anew_where_the_built_in_embedder_had_made_the_vectors(tmp_path):
    source = lived(embedder=None)
    source.export(tmp_path / "a")
    assert [row["reembed"] for row in lines(tmp_path / "a", "memories")] == [True] * 3
    assert [row["reembed"] for row in lines(tmp_path / "a", "trajectories")] == [True, True, False, False]
    engine, another = made(embedder=None), made(embedder=None)
    engine.remember("Parcels are brought to the door.", "parcel")  # another fit than the source's
    assert engine.import_from(tmp_path / "a").trajectories == 3
    another.remember("Parcels are brought to the door.", "parcel")
    for name, text in FAQ.items():
        another.remember(text, name, subject="ann" if name == "refund" else None)
    another.index()
    words, memories = another._machine.words, another._memories
    for row in lines(tmp_path / "a", "trajectories"):
        if row["kind"] == "answered" and row["final_quality"] is None and row["text"]:
            continue
        own = row["reembed"]
        vectors = [memories.vectors[memories.row(s["ref"])] if own else s["activations"] for s in row["steps"]]
        steps = tuple(
            TrajectoryStep(vector, s["attention_weights"], s["reward"], s["timestamp"], s["ref"])
            for vector, s in zip(vectors, row["steps"], strict=True)
        )
        names = ("final_quality", "latency_us", "alternatives", "model_route", "context_ids", "subject", "parameters")
        as_there = QueryTrajectory(row["id"], row["query_embedding"])
        if row["latency_us"]:
            as_there = QueryTrajectory(
                row["id"],
                row["query_embedding"],
                (),
                None,
                row["latency_us"],
                model_route=row["model_route"],
                subject=row["subject"],
            )
        number = foreign_id(origin_of(b"there"), as_there)
        query = words.embed(row["text"]) if own else row["query_embedding"]
        another.submit_trajectory(QueryTrajectory(number, query, steps, **{name: row[name] for name in names}))
    assert digest(engine.state()) == digest(another.state())


def test_everything_is_made_anew_when_asked_and_what_has_no_words_is_left_out(tmp_path):
    def wider(texts):
        return np.hstack([embed(texts), embed(texts)])

    lived().export(tmp_path / "a")
    engine = made(embedder=wider)
    assert engine.import_from(tmp_path / "a", reembed=True) == Imported(
        memories=3, trajectories=1, unfinished=1, left_out=2
    )
    assert engine.hidden_dim == 2 * D
    assert engine.process("reset password").sources[0].id == "reset"


@pytest.mark.parametrize("embedder", [lambda texts: np.ones((len(texts), 3)), embed])
def test_vectors_of_another_width_are_refused_before_anything_changes(folder, embedder):
    engine = made(embedder=embedder)
    engine.remember("a text", "x", vector=np.ones(3))
    before = digest(engine.state())
    for reembed in (False, True) if embedder is embed else (False,):
        with pytest.raises(DimensionMismatch):
            engine.import_from(folder, reembed=reembed)
        assert digest(engine.state()) == before


def test_nothing_is_taken_in_while_learning_is_switched_off(folder):
    engine = made(mode="off")
    with pytest.raises(StateError, match="switched off"):
        engine.import_from(folder)
    assert engine.memory_count == 0
    engine.set_mode("shadow")
    assert engine.import_from(folder).trajectories == 3


def test_who_gave_more_than_a_share_is_limited_as_ever(tmp_path):
    source = made("there", influence=1.0)
    for turn in range(60):
        who = "eve" if turn > 4 else f"u{turn}"
        source.submit_trajectory(QueryTrajectory(turn, ITEMS[turn % 3], final_quality=0.5, subject=who))
    source.export(tmp_path / "a")
    engine = made(influence=0.1)
    told = engine.import_from(tmp_path / "a")
    assert told.limited == engine.metrics().limited > 0
    assert told.trajectories == 60


def test_more_than_the_buffer_holds_is_learned_from_on_the_way(tmp_path):
    source = made("there")
    for turn in range(12):
        source.submit_trajectory(QueryTrajectory(turn, ITEMS[turn % 3], final_quality=0.5))
    source.export(tmp_path / "a")
    config = SonaConfig(min_trajectories=2, trajectory_capacity=5)
    engine = SonaEngine(config, clock=lambda: 50.0, store=MemoryStore())
    engine.import_from(tmp_path / "a")
    metrics = engine.metrics()
    assert metrics.learned + metrics.waiting == 12
    assert engine.replay().is_equal


# -- what is refused -------------------------------------------------------------------------------------------------

BAD = {
    "memories": [
        ({"text": " "}, "memories.jsonl line 2: text"),
        ({"text": 3}, "memories.jsonl line 2: text"),
        ({"id": ""}, "memories.jsonl line 2: id"),
        ({"id": "reset"}, r"memories.jsonl line 2: the id 'reset' is that of memories.jsonl line 1"),
        ({"vector": [1.0, float("nan")]}, "memories.jsonl line 2: vector"),
        ({"vector": ["x"]}, "memories.jsonl line 2: vector"),
        ({"subject": 3}, "memories.jsonl line 2: subject"),
        ({"reembed": "yes"}, "memories.jsonl line 2: reembed"),
    ],
    "trajectories": [
        ({"query_embedding": []}, "trajectories.jsonl line 2: query_embedding"),
        ({"query_embedding": [1e30] * D}, "trajectories.jsonl line 2: query_embedding"),
        ({"final_quality": 1.5}, "trajectories.jsonl line 2: final_quality"),
        ({"steps": [{"activations": [1.0]}]}, "trajectories.jsonl line 2: activations"),
        ({"steps": [{"activations": [1.0] * D, "reward": 2}]}, "trajectories.jsonl line 2, steps 1: reward"),
        ({"steps": [3]}, "trajectories.jsonl line 2, steps 1: expected an object"),
        ({"id": -1}, "trajectories.jsonl line 2: id"),
        ({"id": True}, "trajectories.jsonl line 2: id"),
        ({"id": 1}, "trajectories.jsonl line 2: the id 1 is that of"),
        ({"kind": "dreamt"}, "trajectories.jsonl line 2: kind"),
        ({"parameters": {"x": []}}, "trajectories.jsonl line 2: parameters"),
        ({"context_ids": [1]}, "trajectories.jsonl line 2: context_ids"),
        ({"latency_us": "long"}, "trajectories.jsonl line 2: latency_us"),
    ],
}


@pytest.mark.parametrize(
    ("table", "change", "said"), [(table, change, said) for table, cases in BAD.items() for change, said in cases]
)
def test_a_bad_line_is_named_and_nothing_is_taken_in(folder, table, change, said):
    rewritten(folder, table, lambda rows: [rows[0], rows[1] | change, *rows[2:]])
    engine = made()
    before = digest(engine.state())
    with pytest.raises(InvalidValue, match=said):
        engine.import_from(folder)
    assert digest(engine.state()) == before


@pytest.mark.parametrize("line", ["{", "[1]", "null", '"a"'])
def test_a_line_that_is_no_object_is_named(folder, line):
    rewritten(folder, "patterns", lambda rows: [line])
    with pytest.raises(InvalidValue, match=r"patterns.jsonl line 1: (not JSON|expected an object)"):
        made().import_from(folder)


def test_files_made_by_hand_need_no_more_than_what_is_known(folder):
    for table in ("memories", "patterns"):
        rewritten(folder, table, lambda rows: [])
    rewritten(folder, "trajectories", lambda rows: [{"id": 7, "query_embedding": [1, 0, 0, 0], "final_quality": 1}])
    manifest = json.loads((folder / "manifest.json").read_text())
    for table in manifest["tables"].values():
        del table["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert made().import_from(folder) == Imported(trajectories=1)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("table", ["memories", "trajectories"])
def test_damage_is_found_wherever_it_is(tmp_path, kind, table):
    lived().export(tmp_path / "a", format=kind)
    path, engine = tmp_path / "a" / f"{table}.{kind}", made()
    content = path.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], content[:40] + b"\x01" + content[41:], content + b"\n"):
        path.write_bytes(damaged)
        with pytest.raises((StoreError, InvalidValue)):
            engine.import_from(tmp_path / "a")
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        engine.import_from(tmp_path / "a")
    assert engine.memory_count == engine.metrics().requests == 0


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"format": "other"}, {"files": "../x"}, {"tables": {}}, {"origin": 3}, {"width": "w"}]
)
def test_a_manifest_of_another_kind_is_refused(folder, change):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=r"manifest\.json"):
        made().import_from(folder)
    path.write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        made().import_from(folder)
    path.unlink()
    with pytest.raises(StoreError, match="holds no export"):
        made().import_from(folder)
