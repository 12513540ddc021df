"""Loop C in an engine: memories that merge or go lose nobody's words, and whatever happens meanwhile is replayed."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from sona import Context, GuardConfig, InvalidValue, SonaConfig, SonaEngine, UnknownTrajectory
from sona.config import ConsolidationConfig, DeepConfig, DreamConfig, GraphConfig, PhiConfig
from sona.engine.events import DeepBegun, DeepEnded
from sona.engine.machine import Machine
from sona.loops.deep import DeepLoop
from sona.state import digest
from sona.stores.memory import MemoryStore
from sona.stores.sqlite import SqliteStore

D = 6
VECTORS = np.random.default_rng(4).normal(size=(12, D)).astype(np.float32)
CONFIG = SonaConfig(
    hidden_dim=D,
    guard=GuardConfig(key="k", holdout=0.05, warm_up=0),
    deep=DeepConfig(min_memories=3, dreams=12),
    consolidation=ConsolidationConfig(merge_words=0.0),  # twins have the same vector and other words
    dreams=DreamConfig(path_length=4),
    phi=PhiConfig(samples=2, sample_nodes=4),
)
PRUNING = replace(CONFIG, consolidation=ConsolidationConfig(merge_words=0.0, prune=True, min_value=1.0, max_loss=1.0))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1.0
        return self.now


def made(count: int = 6, *, twins: int = 1, config: SonaConfig = CONFIG, store=None) -> SonaEngine:
    """Memories m0, m1, ...; the first of them have a twin, t0, t1, ..., with the same vector and other words."""
    engine = SonaEngine(config, clock=Clock(), store=store)
    for row in range(count):
        engine.remember(f"text {row}", f"m{row}", vector=VECTORS[row])
    for row in range(twins):
        engine.remember(f"twin {row}", f"t{row}", vector=VECTORS[row])
    engine.index()
    return engine


def ask(engine: SonaEngine, row: int, *, rewarded: str | None = None, who: str | None = None) -> int:
    response = engine.process(f"question {row}", Context(who), vector=VECTORS[row])
    if rewarded is not None:
        engine.feedback(response.trajectory_id, rewards={rewarded: 1.0})
    return response.trajectory_id


def shown(engine: SonaEngine, row: int = 0) -> set[str]:
    return {source.id for source in engine.process("question", vector=VECTORS[row]).sources}


# -- what it does ----------------------------------------------------------------------------------------------------


def test_near_duplicates_become_one_and_the_id_that_goes_stands_for_the_other():
    engine = made(twins=2)
    result = engine.deep_learn()
    assert (result.is_finished, result.merged, dict(result.gone)) == (True, 2, {"t0": "m0", "t1": "m1"})
    assert engine.memory_count == 6
    assert result.elapsed_s > 0.0
    assert "t0" in engine._memories
    assert engine._memories.text("t0") == "text 0"
    assert "t0" not in shown(engine)
    assert engine.deep_learn().merged == 0


def test_what_is_shown_to_an_open_request_stays_until_its_feedback():
    engine = made()
    open_request = ask(engine, 0)
    assert engine.deep_learn().merged == 0
    engine.feedback(open_request, quality=1.0)
    assert engine.deep_learn().merged == 1


def test_a_dry_run_and_a_dream_change_nothing_and_say_what_would_be_done():
    engine = made(twins=2)
    before = digest(engine.state())
    plan = engine.plan_consolidation()
    dreams = engine.dream(5)
    assert digest(engine.state()) == before
    assert [(merge.kept, merge.gone) for merge in plan.merges] == [("m0", "t0"), ("m1", "t1")]
    assert plan.kept == 6
    assert len(dreams) == 5
    assert [dream.score for dream in dreams] == sorted((dream.score for dream in dreams), reverse=True)
    assert {name for dream in dreams for name in dream.path} <= {*engine._memories.ids}
    assert engine.dream(5) == dreams or [dream.path for dream in engine.dream(5)] == [dream.path for dream in dreams]
    result = engine.deep_learn()
    assert {(new, old) for old, new in result.gone.items()} == {(merge.kept, merge.gone) for merge in plan.merges}


def test_without_memories_time_or_something_to_do_nothing_is_done_and_it_is_said():
    empty = SonaEngine(CONFIG, clock=Clock())
    assert empty.deep_learn(force=True).skipped_reason == "no memories"
    assert empty.plan_consolidation().merges == ()
    assert empty.dream() == ()
    engine = made(1, twins=0)
    assert engine.deep_learn().skipped_reason == "1 of 3 memories are there"
    assert engine.deep_learn(force=True).is_finished
    assert engine.deep_learn(force=True, time_limit_s=0.0).skipped_reason == "no time: the limit is 0"
    assert engine.deep_learn(force=True, stages=()).skipped_reason == "nothing was asked for"
    off = made(config=replace(CONFIG, use_graph=False))
    assert off.deep_learn(force=True).skipped_reason == "no memories"
    assert off.memory_count == 7


@pytest.mark.parametrize(
    "wrong", [{"time_limit_s": -1.0}, {"time_limit_s": np.nan}, {"stages": ("nap",)}, {"stages": "link"}]
)
def test_a_wrong_argument_is_refused_before_anything_happens(wrong):
    engine = made()
    before = digest(engine.state())
    with pytest.raises(InvalidValue):
        engine.deep_learn(**wrong)
    with pytest.raises(InvalidValue):
        engine.dream(0)
    assert digest(engine.state()) == before


def test_time_that_is_over_at_once_lets_every_call_do_one_unit_until_all_is_done():
    engine = made(twins=2)
    results = []
    while not results or not results[-1].is_finished:
        results.append(engine.deep_learn(time_limit_s=1e-9))
    assert len(results) == 6  # two units of dreams, nothing to link
    assert sum(result.merged for result in results) == 2
    assert [result.cycle for result in results] == [0] * 5 + [1]


def test_items_that_a_caller_ranks_are_neither_removed_nor_take_in_a_memory():
    engine = made(twins=0)
    ids, items = ("x", "y", "z"), VECTORS[:3].copy()
    for _ in range(6):
        ranking = engine.rank(VECTORS[0], ids, items, 3)
        engine.feedback(ranking.trajectory_id, rewards={"x": 1.0})
    result = engine.deep_learn()
    assert (result.merged, dict(result.gone)) == (0, {})
    assert (engine.memory_count, engine._memories.text("m0")) == (6, "text 0")
    assert {"x", "y", "z"} <= set(engine._learner.associations.graph.ids)


# -- ids of those that went ------------------------------------------------------------------------------------------


def test_feedback_for_what_was_merged_counts_for_what_it_is_part_of_now():
    engine = made(store=MemoryStore())
    number = ask(engine, 0, rewarded="m0")
    assert engine.deep_learn().gone == {"t0": "m0"}
    graph = engine._learner.associations.graph
    before = int(graph.access_counts[graph.row_of["m0"]])
    engine.feedback(number, rewards={"t0": 1.0})
    assert "t0" not in graph
    assert int(graph.access_counts[graph.row_of["m0"]]) == before + 1
    with engine.begin_trajectory(VECTORS[0]) as builder:
        builder.add_step(VECTORS[0], reward=1.0, ref="t0")
    assert "t0" not in graph
    for _ in range(2):
        assert engine.deep_learn().merged == 0
    assert engine.replay().is_equal


def test_a_merged_id_that_is_remembered_again_is_a_memory_of_its_own_and_may_take_in_the_other():
    engine = made(store=MemoryStore())
    engine.deep_learn()
    engine.remember("another twin", "t0", vector=VECTORS[0])
    for _ in range(3):
        ask(engine, 0, rewarded="t0")
    assert engine._memories.text("t0") == "another twin"
    assert engine.deep_learn().gone == {"m0": "t0"}
    assert engine._memories.text("m0") == "another twin"
    assert engine.deep_learn().merged == 0
    assert engine.replay().is_equal


def test_a_made_up_id_of_one_that_was_removed_is_not_given_out_again():
    engine = SonaEngine(replace(PRUNING, guard=GuardConfig(key="k", holdout=0.05)), clock=Clock(), store=MemoryStore())
    names = [engine.remember(f"text {row}", vector=VECTORS[row]) for row in range(6)]
    ask(engine, 0, rewarded=names[0])
    engine._clock.now += 1e9
    gone = engine.deep_learn().gone
    assert gone
    fresh = [engine.remember(f"new {row}", vector=VECTORS[row + 6]) for row in range(3)]
    assert not {*fresh} & {*names}
    assert engine.replay().is_equal


# -- what happens meanwhile ------------------------------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch):
    """Let something happen after a cycle was computed and before it is in force."""

    def during(act):
        compute = DeepLoop.compute

        def slow(loop, cycle, **more):
            change = compute(loop, cycle, **more)
            monkeypatch.setattr(DeepLoop, "compute", compute)
            act()
            return change

        monkeypatch.setattr(DeepLoop, "compute", slow)

    return during


def in_a_thread(act) -> None:
    worker = threading.Thread(target=act)
    worker.start()
    worker.join(20.0)
    assert not worker.is_alive(), "it waits for the cycle"


def test_requests_and_feedback_go_on_while_a_cycle_is_computed_and_what_they_show_stays(meanwhile):
    engine, seen = made(store=MemoryStore()), []
    meanwhile(lambda: in_a_thread(lambda: seen.append(ask(engine, 0))))
    assert engine.deep_learn().merged == 0
    assert engine.feedback(seen[0], rewards={"t0": 1.0}).outcome.value in ("learned", "recorded")
    assert engine.replay().is_equal


@pytest.mark.parametrize("is_indexed", [False, True])
@pytest.mark.parametrize("name", ["m0", "t0"])
def test_a_memory_that_is_worded_anew_while_a_cycle_is_computed_keeps_its_words_and_its_twin(
    meanwhile, name, is_indexed
):
    engine = made(store=MemoryStore())

    def act():
        engine.remember("something else", name, vector=VECTORS[9])
        if is_indexed:
            engine.index()

    meanwhile(lambda: in_a_thread(act))
    engine.deep_learn()
    assert engine.memory_count == 7
    other = {"m0": "t0", "t0": "m0"}[name]
    assert engine._memories.text(name) == "something else"
    assert engine._memories.text(other) == {"m0": "text 0", "t0": "twin 0"}[other]
    assert {name, other} <= shown(engine, 0) | shown(engine, 9)
    assert {"m0", "t0"} <= set(engine._learner.associations.graph.ids)
    assert engine.replay().is_equal


def ask_at(monkeypatch, owner, verb, engine, is_before) -> tuple[list[int], list[threading.Thread]]:
    """Let a thread ask right before or after a step of a cycle; it may wait, or go on with the memories of before."""
    act, seen, workers = getattr(owner, verb), [], []

    def slow(*args, **more):
        monkeypatch.setattr(owner, verb, act)
        result = None if is_before else act(*args, **more)
        asked = np.cos(0.15) * np.eye(D)[0] + np.sin(0.15) * np.eye(D)[1]
        worker = threading.Thread(target=lambda: seen.append(engine.process("middle?", vector=asked).trajectory_id))
        worker.start()
        worker.join(0.5)
        workers.append(worker)
        return act(*args, **more) if is_before else result

    monkeypatch.setattr(owner, verb, slow)
    return seen, workers


@pytest.mark.parametrize(
    ("owner", "verb", "is_before"),
    [(Machine, "begin_deep", True), (Machine, "begin_deep", False), (DeepLoop, "commit", False)],
)
def test_a_request_that_is_answered_while_a_cycle_begins_or_ends_is_replayed_in_its_place(
    monkeypatch, owner, verb, is_before
):
    # Of three in a row, the one in the middle is near to both others: who takes in whom depends on what is spared.
    engine = made(3, twins=0, config=replace(CONFIG, context_size=1), store=MemoryStore())
    x, y = np.eye(D)[:2]
    for name, angle in (("left", 0.0), ("middle", 0.15), ("right", 0.3)):
        engine.remember(f"text {name}", name, vector=np.cos(angle) * x + np.sin(angle) * y)
    seen, workers = ask_at(monkeypatch, owner, verb, engine, is_before)
    engine.deep_learn()
    workers[0].join(20.0)
    assert seen
    assert engine.replay().is_equal
    assert engine.feedback(seen[0], quality=1.0)


def test_a_cycle_that_fails_leaves_everything_but_the_record_of_it(monkeypatch):
    engine = made(twins=2, store=MemoryStore())
    ask(engine, 0, rewarded="m0")
    before = digest(engine._learner.associations.state()), digest(engine._memories.state()), digest(engine.bank.state())
    compute = DeepLoop.compute

    def broken(*args, **more):
        compute(*args, **more)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(DeepLoop, "compute", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.deep_learn()
    monkeypatch.undo()
    after = digest(engine._learner.associations.state()), digest(engine._memories.state()), digest(engine.bank.state())
    assert before == after
    assert engine._machine.deep_cycle is None
    assert engine.replay().is_equal
    assert engine.deep_learn().merged == 2


# -- files, forgetting, other embedders ------------------------------------------------------------------------------


def test_a_process_that_ends_in_the_middle_of_a_cycle_is_opened_as_if_it_had_not_begun(tmp_path):
    engine = made(twins=2, store=SqliteStore(tmp_path / "file.db"))
    ask(engine, 1, rewarded="m1")
    before = digest(engine._learner.associations.state()), digest(engine._memories.state())
    with engine._lock, engine._log_lock:  # as `deep_learn` begins, and then the process is gone
        engine._journal.append(DeepBegun(engine._clock(), True, ("link", "compare", "consolidate")))
    engine._journal.store.flush()
    engine._journal.store.close()
    again = SonaEngine(None, clock=engine._clock, store=SqliteStore(tmp_path / "file.db"))
    assert again._machine.deep_cycle is None
    assert (digest(again._learner.associations.state()), digest(again._memories.state())) == before
    assert again.replay().is_equal
    assert again.deep_learn().merged == 2
    again.close()


def test_merged_memories_come_back_from_either_kind_of_file(tmp_path):
    engine = made(twins=2, store=SqliteStore(tmp_path / "file.db"))
    ask(engine, 1, rewarded="m1")
    engine.deep_learn()
    number = ask(engine, 2)
    engine.save(tmp_path / "saved")
    told = digest(engine._memories.state()), digest(engine._learner.state())
    engine.close()
    again = SonaEngine(None, clock=engine._clock, store=SqliteStore(tmp_path / "file.db"))
    loaded = SonaEngine.load(tmp_path / "saved", clock=Clock())
    for one in (again, loaded):
        assert (digest(one._memories.state()), digest(one._learner.state())) == told
        assert one._memories.text("t1") == "text 1"
        one.feedback(number, quality=1.0)
    again.close()


def test_merged_memories_are_given_away_as_they_are(tmp_path):
    engine = made(twins=2, store=MemoryStore())
    ask(engine, 0, rewarded="t0")
    ask(engine, 1, rewarded="m1")
    engine.deep_learn()
    engine.export(tmp_path / "out")
    other = SonaEngine(CONFIG, clock=Clock(), store=MemoryStore())
    other.import_from(tmp_path / "out")
    assert sorted(other._memories.texts) == sorted(engine._memories.texts)
    assert other.deep_learn().merged == 0
    assert other.replay().is_equal


@pytest.mark.parametrize("owner", ["kept", "gone"])
def test_who_is_forgotten_takes_their_memory_and_leaves_that_of_the_other(owner):
    store = MemoryStore()
    engine = made(4, twins=0, store=store)
    engine.remember("hers", "hers", vector=VECTORS[7], subject="eve")
    engine.remember("his", "his", vector=VECTORS[7], subject="bob")
    kept, gone = ("hers", "his") if owner == "kept" else ("his", "hers")
    ask(engine, 7, rewarded=kept, who="ann")
    engine._clock.now += CONFIG.feedback_window_s
    engine.tick()
    assert dict(engine.deep_learn(stages=("compare", "consolidate")).gone) == {gone: kept}
    number = ask(engine, 7, rewarded=kept, who="ann")
    engine.forget("eve")
    assert engine.replay().is_equal
    assert engine._memories.text("his") == "his"
    assert "hers" not in engine._memories.ids
    assert "hers" not in engine._learner.associations.graph
    assert "his" in engine._learner.associations.graph
    assert "his" in shown(engine, 7)
    if owner == "gone":
        assert engine.feedback(number, rewards={"his": 0.5}).outcome.value == "amended"
    assert engine.deep_learn().merged == 0


def test_feedback_for_what_is_left_of_a_list_stays_when_somebody_is_forgotten():
    # Without eve's requests m5 was worth too little to stay; what ann said of the rest of her list still counts.
    pruning = ConsolidationConfig(merge_words=0.0, prune=True, min_value=0.2, max_loss=1.0)
    config = replace(CONFIG, served_capacity=1, consolidation=pruning)
    engine = made(6, twins=0, config=config, store=MemoryStore())
    for row, who in ((5, "eve"), (1, "ann")) * 3:
        ask(engine, row, rewarded=f"m{row}", who=who)
    ask(engine, 5, who="bob")
    engine._clock.now += 1e9
    engine.tick()
    engine.deep_learn()
    assert engine._memories.ids == ("m1", "m5")
    number = ask(engine, 5, who="ann")
    engine.feedback(number, rewards={"m5": 0.9, "m1": 0.8})
    engine.forget("eve")
    graph = engine._learner.associations.graph
    assert engine._memories.ids == ("m1",)
    assert int(graph.access_counts[graph.row_of["m1"]]) == 4
    assert graph.earned[graph.row_of["m1"]] == pytest.approx(3.8)
    assert engine.replay().is_equal


def lengths(texts) -> np.ndarray:
    return np.array([[len(text), text.count("t") + 1, ord(text[-1])] for text in texts], np.float32)


def test_another_embedder_takes_over_after_a_merge():
    store = MemoryStore()
    engine = made(twins=2, store=store)
    ask(engine, 0, rewarded="m0")
    engine._clock.now += CONFIG.feedback_window_s
    engine.deep_learn()
    assert engine.reembed(lengths) == 6
    graph = engine._learner.associations.graph
    assert (graph.hidden_dim, set(graph.ids)) == (3, set(engine._memories.ids))
    assert engine._memories.text("t0") == "text 0"
    assert engine.deep_learn(force=True).skipped_reason is None
    assert engine.replay().is_equal


def test_the_built_in_embedder_is_fitted_anew_after_a_merge():
    pytest.importorskip("sklearn")
    config = replace(CONFIG, hidden_dim=8)
    engine = SonaEngine(config, clock=Clock(), store=MemoryStore())
    words = ("invoice", "parcel", "password", "garden", "refund", "ticket", "address", "account")
    for row, word in enumerate(words):
        engine.remember(f"how do I change the {word} number {row}")
    engine.remember("how do i change the INVOICE number 0", "again")
    engine.index()
    first = engine.deep_learn(force=True)
    assert dict(first.gone) in ({"again": "m1"}, {"m1": "again"})
    for row in range(40):
        engine.remember(f"{words[row % 8]} is lost since {row} days, {words[(row + 3) % 8]} too")
    engine.index()
    vectors = engine._memories.vectors
    graph = engine._learner.associations.graph
    assert set(graph.ids) == set(engine._memories.ids)
    rows = [graph.row_of[name] for name in engine._memories.ids]
    np.testing.assert_allclose(graph.vectors[rows], vectors, atol=1e-6)
    assert engine.deep_learn(force=True).is_finished
    assert engine.replay().is_equal


def test_a_full_graph_leaves_the_rest_of_the_memories_alone():
    engine = made(8, twins=2, config=replace(CONFIG, graph=GraphConfig(capacity=5)), store=MemoryStore())
    graph = engine._learner.associations.graph
    assert graph.ids == ("m0", "m1", "m2", "m3", "m4")
    ask(engine, 7, rewarded="m7")
    assert engine.deep_learn(force=True).merged == 0
    assert engine.memory_count == 10
    assert engine.replay().is_equal


def test_the_log_tells_of_a_cycle_only_how_much_of_it_was_done():
    store = MemoryStore()
    engine = made(store=store)
    engine.deep_learn()
    kinds = [entry.kind for entry in store.events()]
    assert kinds.count("deepbegun") == kinds.count("deepended") == 1
    body = next(entry.body for entry in store.events() if entry.kind == "deepended")
    assert len(body) < 100
    with pytest.raises(UnknownTrajectory):
        engine.feedback(10**6, quality=1.0)
    assert DeepEnded(1.0, 3).change is None
