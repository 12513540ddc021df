"""Laws of Loop C and of recall over links: cut anywhere it is the same work, and nothing that is needed goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sona import GuardConfig, SonaConfig, SonaEngine
from sona.config import ConsolidationConfig, DeepConfig, DreamConfig, GraphConfig, PhiConfig, VoteConfig
from sona.engine.choice import add_recalled
from sona.engine.memories import Memories
from sona.loops import deep
from sona.loops.deep import DeepLoop
from sona.memory.associate import AssociativeMemory
from sona.memory.belief import ShownList
from sona.memory.calibrate import Calibrator
from sona.memory.recall import Recalled, Seeds
from sona.memory.votes import Showing
from sona.patterns.bank import ReasoningBank
from sona.state import digest

D = 5
BASE = np.random.default_rng(3).normal(size=(6, D)).astype(np.float32)
STAGES = ("link", "dream", "compare", "consolidate", "abstract", "measure")
CONSOLIDATION = ConsolidationConfig(prune=True, min_value=0.6, max_loss=0.9, half_life_s=50.0)
CONFIG = SonaConfig(
    hidden_dim=D,
    guard=GuardConfig(key="k", warm_up=0, holdout=0.05),
    deep=DeepConfig(min_memories=1, dreams=11),
    dreams=DreamConfig(path_length=4),
    phi=PhiConfig(samples=2, sample_nodes=4),
    consolidation=CONSOLIDATION,
)
SETTINGS = CONFIG.deep_settings()


@st.composite
def memories_at_work(draw, most: int = 24) -> AssociativeMemory:
    """A memory graph that some requests were learned from; many of its memories are near-duplicates."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    count = draw(st.integers(1, most))
    vectors = BASE[rng.integers(0, len(BASE), count)] + 0.02 * rng.normal(size=(count, D)).astype(np.float32)
    made = AssociativeMemory(D, GraphConfig(neighbours=3))
    made.join([f"n{row}" for row in range(count)], vectors / np.linalg.norm(vectors, axis=1, keepdims=True), now=1.0)
    for at in range(draw(st.integers(0, 12))):
        served = {f"n{row}": made.graph.vectors[row].copy() for row in rng.integers(0, count, 4).tolist()}
        made.record(served, [Showing(name, float(rng.integers(0, 2))) for name in served], now=2.0 + at)
    return made


def twin(made: AssociativeMemory) -> AssociativeMemory:
    return AssociativeMemory.from_state(made.state(), made.config)


def run(loop: DeepLoop, made: AssociativeMemory, *, units: int | None = None, **begin):
    bank, protected = ReasoningBank(hidden_dim=D), begin.get("protected", ())
    change = loop.compute(loop.begin(made, bank, now=100.0, force=True, **begin), units=units)
    return loop.commit(change, made, bank, protected=protected)


@settings(max_examples=50, deadline=None)
@given(memories_at_work(), st.lists(st.integers(1, 3), max_size=12), st.data())
def test_without_dreams_a_cycle_in_pieces_gives_the_graph_of_a_whole_one(made, pieces, data):
    # Dreams are left out: what one piece dreamt the dreams of the next one walk over, and its links count for the
    # connectivity by which memories are compared. Links within patterns, too, are made before fading or after it.
    stages = tuple(stage for stage in STAGES if stage not in ("dream", "abstract") and data.draw(st.booleans()))
    protected = tuple(data.draw(st.sets(st.sampled_from(made.graph.ids), max_size=3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep, "BLOCK", 5)  # so that a few memories are several units
        whole, parts = twin(made), twin(made)
        if not stages:
            return
        done = run(DeepLoop(SETTINGS), whole, stages=stages, protected=protected)
        loop, gone = DeepLoop(SETTINGS), {}
        for units in [*pieces, 1000]:
            result = run(loop, parts, units=units, stages=stages, protected=protected)
            gone.update(result.gone)
            if result.is_finished:
                break
    assert result.is_finished
    assert loop.progress.number == 1
    assert gone == dict(done.gone)
    assert digest(parts.state()) == digest(whole.state())


@settings(max_examples=50, deadline=None)
@given(memories_at_work(), st.lists(st.integers(1, 4), max_size=8), st.data())
def test_nothing_protected_goes_and_what_goes_went_where_it_is_said(made, pieces, data):
    before = made.graph.ids
    protected = data.draw(st.sets(st.sampled_from(before), max_size=5))
    loop = DeepLoop(SETTINGS)
    for units in [*pieces, None]:
        present = set(made.graph.ids)
        result = run(loop, made, units=units, protected=tuple(protected))
        left = set(made.graph.ids)
        assert protected & present <= left
        assert present - left == set(result.gone)
        assert (result.merged + result.pruned) == len(result.gone)
        for old, new in result.gone.items():
            assert new is None or (new in left and old in made.graph.provenance(new))
            assert new is None or made.graph.heir(old) is not None
        assert set(made.unlinked) <= left


@settings(max_examples=40, deadline=None)
@given(memories_at_work(), st.sampled_from(STAGES), st.integers(0, 6))
def test_a_cycle_that_fails_anywhere_leaves_everything_as_it_was(made, stage, at):
    loop, bank = DeepLoop(SETTINGS), ReasoningBank(hidden_dim=D)
    run(loop, made, units=at + 1)
    before = digest(made.state()), digest(loop.state()), digest(bank.state())

    def broken(*_):
        raise RuntimeError("no more memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep._Work, f"_do_{stage}", broken)
        try:
            loop.compute(loop.begin(made, bank, now=1.0, force=True))
        except RuntimeError:
            pass
        else:
            return  # that stage was done before, or there was nothing for it to do
    assert (digest(made.state()), digest(loop.state()), digest(bank.state())) == before


ids = st.sampled_from("abcdef")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.tuples(st.just("add"), ids, st.integers(0, 3)), st.tuples(st.just("go"), ids, ids | st.none()))
    )
)
def test_the_id_of_one_that_was_merged_stands_for_the_one_it_is_part_of(steps):
    memories, stands_for, words, said = Memories(), {}, {}, {}
    for kind, one, other in steps:
        if kind == "add":
            memories.add(f"text {other}", one)
            memories.publish(np.ones((len(memories), 2), np.float32))
            if one not in stands_for or said[one] != f"text {other}":  # said again, it stays what it was merged into
                words[one] = said[one] = f"text {other}"
                stands_for.pop(one, None)
        elif one in words and one != other and (other is None or other in words):
            memories = memories.without({one: other})
            del words[one]
            if other is not None:
                stands_for[one] = other
            stands_for = {old: other if new == one else new for old, new in stands_for.items()}
            stands_for = {old: new for old, new in stands_for.items() if new is not None}
        assert dict(zip(memories.ids, memories.texts, strict=True)) == words
        assert set(memories.row_of) == {*words, *stands_for}
        assert all(memories.text(old) == words[new] for old, new in stands_for.items())
        assert digest(Memories.from_state(memories.state()).state()) == digest(memories.state())


# -- recall ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.booleans())
def test_an_untrained_engine_answers_with_the_graph_as_without_it(seed, is_reorganised):
    rng = np.random.default_rng(seed)
    vectors, requests = rng.normal(size=(9, D)).astype(np.float32), rng.normal(size=(4, D)).astype(np.float32)
    answers = []
    for uses in (True, False):
        engine = SonaEngine(replace(CONFIG, use_graph=uses), clock=lambda: 1000.0)
        for row, vector in enumerate(vectors):
            engine.remember(f"text {row}", f"n{row}", vector=vector)
        engine.index()
        if is_reorganised and uses:
            assert engine.deep_learn(stages=("link", "dream", "measure")).is_finished
        names, told = tuple(f"n{row}" for row in range(9)), []
        for request in requests:
            ranking = engine.rank(request, names, vectors, 5)
            preview = engine.preview(request, names, vectors, 5)
            assert preview.frozen == preview.learned == ranking.ids
            sources = engine.process("question", vector=request).sources
            told.append((ranking.ids, ranking.scores, [(source.id, source.score) for source in sources]))
        answers.append(told)
    assert answers[0] == answers[1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 12))
def test_activation_that_is_worth_nothing_leaves_scores_as_they_are_and_else_adds_what_it_is_worth(seed, count):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count).astype(np.float32)
    rows = rng.permutation(count)[: int(rng.integers(0, count + 1))]
    found = Recalled(rows, rng.uniform(size=(2, len(rows))).astype(np.float32))
    weights = Calibrator().weights
    assert (weights.similar, weights.linked) == (0.0, 0.0)
    before = scores.copy()
    assert not add_recalled(scores, found, weights)
    assert not add_recalled(scores, None, replace(weights, linked=1.0))
    np.testing.assert_array_equal(scores, before)
    assert add_recalled(scores, found, replace(weights, similar=0.25, linked=0.5)) == (len(rows) > 0)
    wanted = before.astype(np.float64)
    for place, row in enumerate(rows.tolist()):
        wanted[row] += 0.25 * found.values[0, place] + 0.5 * found.values[1, place]
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_links_earn_their_weight_where_memories_serve_together_and_not_where_rewards_are_shuffled(is_shuffled):
    # Pairs of items serve together whatever is asked; shuffled, the same rewards go to any item of the list.
    rng = np.random.default_rng(7)
    items = rng.normal(size=(20, D)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    made, calibrator = AssociativeMemory(D), Calibrator(VoteConfig())
    bins = 1 + len(VoteConfig().similarity_edges)
    nothing, flat = np.zeros((6, bins), np.float32), np.zeros(6, np.float32)
    for at in range(500):
        pair = int(rng.integers(10))
        first, second = 2 * pair, 2 * pair + 1
        others = rng.choice([row for row in range(20) if row // 2 != pair], 4, replace=False).tolist()
        shown = [first, *rng.permutation([second, *others]).tolist()]
        names = [f"n{row}" for row in shown]
        rewards = np.array([float(row // 2 == pair) for row in shown], np.float32)
        if is_shuffled:
            rng.shuffle(rewards)
        similarity = np.full(6, 0.5, np.float32)
        found = made.activation(Seeds((names[0],), np.ones(1, np.float32)), names)
        similar, linked = (flat, flat) if found is None else found
        calibrator.learn(ShownList(similarity, nothing, nothing, flat, flat, False, similar, linked), rewards)
        showings = [Showing(name, float(reward)) for name, reward in zip(names, rewards, strict=True)]
        made.record({name: items[row] for name, row in zip(names, shown, strict=True)}, showings, now=float(at))
        if at % 20 == 0:
            made.publish()
    if is_shuffled:
        assert calibrator.gains.linked < calibrator.config.gate_nats
        assert calibrator.weights.linked < 0.05
    else:
        assert calibrator.gains.linked > 10.0
        assert calibrator.weights.linked > 0.2
    assert calibrator.weights.similar == 0.0
