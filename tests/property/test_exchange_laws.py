"""Laws of export and import: what is taken in is what was given away, bit for bit, once, and can be forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sona import Context, GuardConfig, PatternConfig, SonaConfig, SonaEngine
from sona.engine.exchange.folder import read_folder
from sona.engine.exchange.records import foreign_id
from sona.state import digest
from sona.stores.memory import MemoryStore

D = 6
IDS = tuple(f"item{number}" for number in range(7))
VECTORS = np.random.default_rng(1).normal(size=(7, D)).astype(np.float32)
REQUESTS = np.random.default_rng(2).normal(size=(6, D)).astype(np.float32)
WORDS = ("reset the password", "pay an invoice", "close my account", "größer als \U0001f600", "a\nb\u2028c")
PATTERNS = PatternConfig(min_cluster_size=2)


def embed(texts):
    return np.array([np.random.default_rng(sum(map(ord, text))).normal(size=D) for text in texts], np.float32)


def made(key="here"):
    config = SonaConfig(hidden_dim=D, min_trajectories=2, patterns=PATTERNS, guard=GuardConfig(warm_up=2, key=key))
    return SonaEngine(config, embedder=embed, clock=lambda: 50.0, store=MemoryStore())


people = st.sampled_from([None, "ann", "bob"])
number = st.integers(0, 40)
kinds = st.sampled_from(["remember", "ask", "ask", "rank", "rank", "submit", "learn"])
lives = st.lists(st.tuples(kinds, people, number, number), min_size=1, max_size=25)


def lived(life) -> SonaEngine:
    """Return another engine that this has happened to."""
    engine = made("there")
    for kind, who, a, b in life:
        if kind == "remember":
            given_ = {"vector": VECTORS[b % 7]} if b % 3 == 0 else {}
            engine.remember(f"{WORDS[a % 5]} {b % 4}", f"memory{a % 6}", subject=who, **given_)
        elif kind == "ask":
            response = engine.process(WORDS[a % 5], Context(user_id=who))
            if b % 4:
                engine.feedback(response.trajectory_id, quality=(b % 5) / 4)
        elif kind == "rank":
            ranking = engine.rank(REQUESTS[a % 6] * (1 + b), IDS, VECTORS, 4, context=Context(user_id=who))
            for turn in range(b % 3):
                engine.feedback(ranking.trajectory_id, rewards={ranking.ids[(a + turn) % 4]: 1.0 / (1 + b)})
        elif kind == "submit":
            extra = {"parameters": {"k": a, "share": a / 7, "mode": "x"}, "context_ids": ["memory1"]}
            builder = engine.begin_trajectory(REQUESTS[a % 6], subject=who, model_route="r" if a % 2 else None, **extra)
            builder.add_step(VECTORS[b % 7], VECTORS[a % 7][:2], (a % 5) / 4, ref=IDS[b % 7] if b % 2 else None)
            engine.end_trajectory(builder, None if b % 5 == 0 else (b % 5) / 4)
        else:
            engine.background_learn(force=True)
    return engine


def taught(contents, forgotten=None) -> SonaEngine:
    """Return a fresh engine that was given what an export holds by the verbs of every day."""
    engine = made()
    theirs = {memory.id for memory in contents.memories if memory.subject == forgotten is not None}
    for memory in contents.memories:
        if memory.id not in theirs:
            engine.remember(memory.text, memory.id, vector=memory.vector, subject=memory.subject)
    engine.index()
    for record in contents.requests:
        request = record.trajectory
        if not record.is_finished or request.subject == forgotten is not None:
            continue
        steps = tuple(step for step in request.steps if step.ref not in theirs)
        context = tuple(name for name in request.context_ids if name not in theirs)
        own = foreign_id(contents.manifest.origin, request)
        engine.submit_trajectory(replace(request, id=own, steps=steps, context_ids=context))
    return engine


def known(engine) -> str:
    """Return everything an engine knows, but not how often its log was written to."""
    return digest(engine.state().child("machine"))


def parts(trajectory):
    """Everything of a trajectory but its id, its numbers bit for bit."""
    return (
        trajectory.query_embedding.tobytes(),
        [
            (s.activations.tobytes(), s.attention_weights.tobytes(), s.reward, s.timestamp, s.ref)
            for s in trajectory.steps
        ],
        (trajectory.final_quality, trajectory.latency_us, trajectory.alternatives, trajectory.model_route),
        (trajectory.context_ids, trajectory.subject, dict(trajectory.parameters)),
    )


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@settings(max_examples=25, deadline=None)
@given(life=lives)
def test_an_engine_that_took_it_in_is_one_that_was_given_it_bit_for_bit(tmp_path_factory, kind, life):
    folder = tmp_path_factory.mktemp("export")
    lived(life).export(folder / "a", format=kind)
    contents, engine = read_folder(folder / "a"), made()
    told = engine.import_from(folder / "a")
    another = taught(contents)
    assert digest(engine.state()) == digest(another.state())
    assert told.trajectories == engine.metrics().requests == sum(record.is_finished for record in contents.requests)
    assert told.memories == engine.memory_count == len(contents.memories)
    for one in (engine, another):
        one.background_learn(force=True)
    assert digest(engine.state()) == digest(another.state())
    assert engine.rank(REQUESTS[0], IDS, VECTORS).scores == another.rank(REQUESTS[0], IDS, VECTORS).scores
    assert engine.replay().is_equal


@settings(max_examples=25, deadline=None)
@given(life=lives)
def test_both_formats_say_the_same_and_what_was_taken_in_is_given_away_again(tmp_path_factory, life):
    folder = tmp_path_factory.mktemp("export")
    source = lived(life)
    for kind in ("jsonl", "parquet"):
        source.export(folder / kind, format=kind)
    first, same = read_folder(folder / "jsonl"), read_folder(folder / "parquet")
    assert [r.row() for r in first.requests] == [r.row() for r in same.requests]
    assert [m.row() for m in first.memories] == [m.row() for m in same.memories]
    assert [p.centroid.tobytes() for p in first.patterns] == [p.centroid.tobytes() for p in source.bank.patterns]
    engine = made()
    engine.import_from(folder / "jsonl")
    engine.export(folder / "again")
    again = read_folder(folder / "again")
    assert [(m.id, m.text, m.subject) for m in again.memories] == [(m.id, m.text, m.subject) for m in first.memories]
    assert [parts(r.trajectory) for r in again.requests] == [
        parts(r.trajectory) for r in first.requests if r.is_finished
    ]


@settings(max_examples=20, deadline=None)
@given(life=lives)
def test_what_comes_again_from_wherever_counts_once(tmp_path_factory, life):
    folder = tmp_path_factory.mktemp("export")
    source, engine = lived(life), made()
    source.export(folder / "a")
    told = engine.import_from(folder / "a")
    state = digest(engine.state())
    again = engine.import_from(folder / "a")
    assert digest(engine.state()) == state
    assert (again.memories, again.trajectories, again.known) == (0, 0, told.trajectories)
    engine.export(folder / "b")
    before = digest(source.state())
    for name in ("a", "b"):  # its own, at first and at second hand
        assert source.import_from(folder / name).trajectories == 0
    assert digest(source.state()) == before


@settings(max_examples=20, deadline=None)
@given(life=lives)
def test_who_is_forgotten_was_never_taken_in(tmp_path_factory, life):
    folder = tmp_path_factory.mktemp("export")
    lived(life).export(folder / "a")
    contents, engine = read_folder(folder / "a"), made()
    engine.import_from(folder / "a")
    gone = engine.forget("ann")
    assert gone.memories == sum(memory.subject == "ann" for memory in contents.memories)
    assert gone.requests == sum(r.trajectory.subject == "ann" for r in contents.requests if r.is_finished)
    assert engine.replay().is_equal
    assert known(engine) == known(taught(contents, forgotten="ann"))
