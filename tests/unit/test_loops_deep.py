"""Loop C: a cycle is cut anywhere, loses nothing, and believes nothing that is not true any more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sona.config import ConsolidationConfig, DeepConfig, DeepSettings, DreamConfig, GraphConfig, PhiConfig
from sona.errors import InvalidValue, StateError, StoreError
from sona.loops.deep import DeepLoop
from sona.loops.deep_cycle import DeepResult
from sona.memory.associate import AssociativeMemory
from sona.memory.nodes import EdgeKind
from sona.memory.votes import Showing
from sona.patterns.bank import ReasoningBank
from sona.state import State, digest

D = 8
STAGES = ("link", "dream", "compare", "consolidate", "abstract", "measure")
SETTINGS = DeepSettings(
    DeepConfig(min_memories=2, dreams=25), DreamConfig(path_length=5), PhiConfig(samples=2, sample_nodes=4)
)
PRUNING = replace(SETTINGS, consolidation=ConsolidationConfig(prune=True, min_value=1.0, max_loss=1.0))


def vectors(count: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def memory(count: int, *, twins: int = 0, config: GraphConfig | None = None) -> AssociativeMemory:
    """Memories m0, m1, ...; the first of them have a twin, t0, t1, ..., with the same vector."""
    made, unit = AssociativeMemory(D, config), vectors(count)
    made.join([f"m{row}" for row in range(count)], unit, now=1.0)
    made.join([f"t{row}" for row in range(twins)], unit[:twins], now=1.0)
    return made


def serve(made: AssociativeMemory, *names: str, now: float = 5.0) -> None:
    graph = made.graph
    known = {name: graph.vectors[graph.row_of[name]].copy() for name in names}
    made.record(known, [Showing(name, 1.0) for name in names], now=now)


def cycle(loop: DeepLoop, made: AssociativeMemory, *, units: int | None = None, between=None, **begin) -> DeepResult:
    """Run one cycle, or so many units of it; `between` happens after it was computed and before it is in force."""
    protected = begin.get("protected", ())
    begun = loop.begin(made, ReasoningBank(hidden_dim=D), now=10.0, force=True, **begin)
    change = loop.compute(begun, units=units)
    if between is not None:
        between()
    return loop.commit(change, made, ReasoningBank(hidden_dim=D), protected=protected)


# -- what a cycle does -----------------------------------------------------------------------------------------------


def test_a_whole_cycle_links_dreams_merges_and_measures_and_says_so():
    loop, made = DeepLoop(SETTINGS), memory(12, twins=3)
    result = cycle(loop, made)
    assert (result.is_finished, result.cycle, result.linked, result.merged) == (True, 1, 15, 3)
    assert result.dreams_generated == 25
    assert result.gone == {"t0": "m0", "t1": "m1", "t2": "m2"}
    assert (len(made.graph), made.unlinked) == (12, ())
    assert made.graph.provenance("m0") == ("t0",)
    assert made.links is not None
    assert made.links.ids == made.graph.ids
    assert result.phi == pytest.approx(loop.phi.mean)
    assert (result.patterns_pruned, result.pruned, result.expected_loss) == (0, 0, 0.0)


def test_links_that_were_dreamt_are_counted_as_they_are_there():
    loop, made = DeepLoop(SETTINGS), memory(12)
    result = cycle(loop, made, stages=("link", "dream"))
    assert result.links_dreamt == int((made.graph.edges().weights[:, EdgeKind.DREAM] > 0).sum()) > 0


def test_links_are_those_of_the_nearest_memories_by_plain_arithmetic():
    loop, made = DeepLoop(SETTINGS), memory(40, config=GraphConfig(neighbours=3, min_similarity=0.1))
    cycle(loop, made, stages=("link",))
    cosines = made.graph.vectors @ made.graph.vectors.T
    np.fill_diagonal(cosines, -2.0)
    wanted = set()
    for row in range(40):
        best = [other for other in np.argsort(-cosines[row])[:3] if cosines[row, other] >= 0.1]
        wanted |= {(min(row, other), max(row, other)) for other in best}
    edges = made.graph.edges()
    assert set(zip(edges.a_rows.tolist(), edges.b_rows.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_memory_are_no_trouble(count):
    loop, made = DeepLoop(SETTINGS), memory(count)
    begun = loop.begin(made, ReasoningBank(hidden_dim=D), now=1.0)
    assert begun.reason == ("no memories" if not count else "1 of 2 memories are there")
    if count:
        result = cycle(loop, made)
        assert (result.is_finished, result.merged, len(made.graph)) == (True, 0, 1)


def test_memories_that_are_all_the_same_become_one_at_last():
    loop, made = DeepLoop(SETTINGS), AssociativeMemory(D)
    made.join([f"m{row}" for row in range(150)], np.repeat(vectors(1), 150, axis=0), now=1.0)
    gone = [cycle(loop, made).merged for _ in range(4)]
    assert len(made.graph) == 1
    assert sum(gone) == 149
    assert set(made.graph.provenance(made.graph.ids[0])) | set(made.graph.ids) == {f"m{row}" for row in range(150)}


def test_a_zero_vector_is_nobodys_duplicate():
    loop, made = DeepLoop(SETTINGS), AssociativeMemory(D)
    made.join(["a", "b", "c"], np.zeros((3, D), np.float32), now=1.0)
    assert cycle(loop, made).merged == 0
    assert len(made.graph) == 3


def test_a_protected_memory_stays_and_takes_in_a_twin_that_is_worth_less():
    loop, made = DeepLoop(SETTINGS), memory(6, twins=2)
    serve(made, "t0")
    assert cycle(loop, made, protected=("t0", "t1")).gone == {"m0": "t0"}
    loop, made = DeepLoop(PRUNING), memory(6, twins=2)
    serve(made, "m5")
    cycle(loop, made, protected=("t0", "m3"))
    assert {"t0", "m3"} <= set(made.graph.ids)


def test_what_a_caller_ranks_never_takes_in_what_was_remembered():
    made, loop = memory(4), DeepLoop(SETTINGS)
    unit = vectors(4)
    for _ in range(5):  # so often that the item is worth more than the memory
        made.record({"item": unit[0], "m1": unit[1]}, [Showing("item", 1.0), Showing("m1", 1.0)], now=2.0)
    result = cycle(loop, made, protected=("item",))
    assert result.merged == 0
    assert {"item", "m0"} <= set(made.graph.ids)


# -- cut short -------------------------------------------------------------------------------------------------------


def test_time_that_is_over_already_lets_one_unit_be_done():
    loop, made = DeepLoop(SETTINGS), memory(12)
    change = loop.compute(loop.begin(made, ReasoningBank(hidden_dim=D), now=1.0), is_over=lambda: True)
    assert (change.units, change.is_finished, len(change.linked)) == (1, False, 1)


def test_time_is_asked_for_before_every_unit_but_the_first():
    loop, made = DeepLoop(SETTINGS), memory(12)
    asked = []
    begun = loop.begin(made, ReasoningBank(hidden_dim=D), now=1.0)
    change = loop.compute(begun, is_over=lambda: bool(asked.append(None)))
    assert len(asked) == change.units - 1 == 7  # link 1, dream 3, and one of each other stage


@pytest.mark.parametrize(
    "stages", [STAGES, ("link",), ("link", "dream"), ("dream",), ("dream", "compare"), ("measure",)]
)
@pytest.mark.parametrize("dreams", [0, 25])
def test_units_that_were_counted_do_the_same_again(stages, dreams):
    # As a log says no more of a cycle than how many units of it were done.
    settings = replace(SETTINGS, deep=replace(SETTINGS.deep, dreams=dreams))
    total = DeepLoop(settings).compute(DeepLoop(settings).begin(memory(12), ReasoningBank(), now=1.0, stages=stages))
    for stop in range(1, total.units + 2):
        is_over = iter([False] * (stop - 1) + [True])
        first, made = DeepLoop(settings), memory(12, twins=2)
        live = first.compute(first.begin(made, ReasoningBank(), now=1.0, stages=stages), is_over=is_over.__next__)
        again, copy = DeepLoop(settings), memory(12, twins=2)
        told = again.compute(again.begin(copy, ReasoningBank(), now=1.0, stages=stages), units=live.units)
        assert (live.after, live.units) == (told.after, told.units)
        for loop, kept, change in ((first, made, live), (again, copy, told)):
            loop.commit(change, kept, ReasoningBank())
        assert digest(first.state()) == digest(again.state())
        assert digest(made.state()) == digest(copy.state())
    assert total.is_finished


def test_linking_that_was_cut_short_leaves_no_memory_unlinked():
    loop, made = DeepLoop(SETTINGS), memory(700)
    waiting = [len(made.unlinked)]
    for _ in range(3):
        result = cycle(loop, made, units=1, stages=("link",))
        waiting.append(len(made.unlinked))
    assert waiting == [700, 444, 188, 0]
    assert (result.is_finished, result.cycle) == (True, 1)
    whole = memory(700)
    cycle(DeepLoop(SETTINGS), whole, stages=("link",))
    assert digest(whole.graph.state()) == digest(made.graph.state())


def test_a_cycle_that_was_cut_short_goes_on_and_counts_once():
    loop, made = DeepLoop(SETTINGS), memory(12, twins=3)
    results = [cycle(loop, made, units=1) for _ in range(8)]
    assert [result.is_finished for result in results] == [False] * 7 + [True]
    assert [result.cycle for result in results] == [0] * 7 + [1]
    assert sum(result.dreams_generated for result in results) == 25
    assert sum(result.merged for result in results) == 3
    assert loop.progress.stages == STAGES
    assert (loop.progress.number, loop.progress.pairs) == (1, ())


def test_another_task_begins_anew():
    loop, made = DeepLoop(SETTINGS), memory(12)
    cycle(loop, made, units=2)
    assert loop.progress.stage == 1
    cycle(loop, made, stages=("measure",))
    assert (loop.progress.stage, loop.progress.unit, loop.progress.number) == (0, 0, 1)


def test_a_stage_that_does_not_exist_is_refused_and_none_is_nothing_to_do():
    loop, made = DeepLoop(SETTINGS), memory(12)
    with pytest.raises(InvalidValue, match="nap"):
        loop.begin(made, ReasoningBank(), now=1.0, stages=("link", "nap"))
    begun = loop.begin(made, ReasoningBank(), now=1.0, stages=())
    assert begun.reason == "nothing was asked for"
    assert loop.compute(begun).is_finished is False


def test_of_two_cycles_that_began_together_one_is_committed():
    loop, made = DeepLoop(SETTINGS), memory(12)
    one, other = (loop.compute(loop.begin(made, ReasoningBank(), now=1.0)) for _ in range(2))
    loop.commit(one, made, ReasoningBank())
    before = digest(made.state()), digest(loop.state())
    with pytest.raises(StateError, match="another cycle"):
        loop.commit(other, made, ReasoningBank())
    assert (digest(made.state()), digest(loop.state())) == before


def test_nothing_changes_before_a_cycle_is_committed():
    loop, made, bank = DeepLoop(PRUNING), memory(12, twins=3), ReasoningBank(hidden_dim=D)
    before = digest(made.state()), digest(loop.state()), digest(bank.state())
    loop.compute(loop.begin(made, bank, now=1.0))
    assert (digest(made.state()), digest(loop.state()), digest(bank.state())) == before


# -- what happens meanwhile ------------------------------------------------------------------------------------------


def reworded(made: AssociativeMemory, name: str, seed: int = 99) -> None:
    made.join([name], vectors(1, seed), now=2.0)


@pytest.mark.parametrize("name", ["m0", "t0"])
def test_a_memory_that_says_something_else_meanwhile_is_merged_with_none(name):
    loop, made = DeepLoop(SETTINGS), memory(6, twins=1)
    result = cycle(loop, made, between=lambda: reworded(made, name))
    assert (result.merged, result.gone) == (0, {})
    assert {"m0", "t0"} <= set(made.graph.ids)


@pytest.mark.parametrize("name", ["m0", "t0"])
def test_a_memory_that_says_something_else_between_two_parts_of_a_cycle_is_merged_with_none(name):
    loop, made = DeepLoop(SETTINGS), memory(6, twins=1)
    stages = ("compare", "consolidate")
    cycle(loop, made, units=1, stages=stages)
    assert [pair[:2] for pair in loop.progress.pairs] == [("m0", "t0")]
    reworded(made, name)
    assert cycle(loop, made, stages=stages).merged == 0
    assert {"m0", "t0"} <= set(made.graph.ids)


def test_a_memory_that_says_something_else_meanwhile_waits_to_be_linked_anew():
    loop, made = DeepLoop(SETTINGS), memory(30)
    result = cycle(loop, made, stages=("link",), between=lambda: reworded(made, "m3"))
    assert result.linked == 29
    assert made.unlinked == ("m3",)
    assert not [edge for other in range(30) if other != 3 for edge in made.graph.edge("m3", f"m{other}")]
    cycle(loop, made, stages=("link",))
    cosines = made.graph.vectors @ made.graph.vectors[3]
    for other in range(30):
        for edge in made.graph.edge("m3", f"m{other}") if other != 3 else ():
            assert edge.weight == pytest.approx(float(cosines[other]), abs=1e-6)


def test_a_memory_that_goes_meanwhile_takes_everything_with_it():
    loop, made = DeepLoop(SETTINGS), memory(12, twins=2)
    result = cycle(loop, made, between=lambda: made.graph.remove(["m0", "t1", "m5"]))
    assert result.merged == 0
    assert len(made.graph) == 11


def test_a_memory_that_serves_meanwhile_is_not_removed():
    kept, gone = [], []
    for between in (False, True):
        loop, made = DeepLoop(PRUNING), memory(6)
        serve(made, "m0", "m1")
        begun = loop.begin(made, ReasoningBank(), now=3e7)
        change = loop.compute(begun)
        assert "m4" in {removal.id for removal in change.plan.removals}
        if between:
            serve(made, "m4")
        result = loop.commit(change, made, ReasoningBank())
        (kept if between else gone).append((result.pruned, "m4" in made.graph))
    assert [pruned for pruned, _ in gone] == [kept[0][0] + 1]
    assert ([there for _, there in gone], [there for _, there in kept]) == ([False], [True])


def test_what_is_needed_by_now_stays():
    loop, made = DeepLoop(SETTINGS), memory(6, twins=2)
    change = loop.compute(loop.begin(made, ReasoningBank(), now=1.0))
    result = loop.commit(change, made, ReasoningBank(), protected=("t0",))
    assert result.gone == {"t1": "m1"}


# -- state -----------------------------------------------------------------------------------------------------------


def test_it_comes_back_in_the_middle_of_a_cycle_and_goes_on_as_before():
    loop, made = DeepLoop(SETTINGS), memory(12, twins=3)
    cycle(loop, made)
    cycle(loop, made, units=6)
    again = DeepLoop.from_state(loop.state(), SETTINGS)
    copy = AssociativeMemory.from_state(made.state())
    assert again.progress == loop.progress
    assert again.phi == loop.phi
    assert cycle(again, copy) == cycle(loop, made)
    assert digest(again.state()) == digest(loop.state())
    assert digest(copy.state()) == digest(made.state())


@pytest.mark.parametrize("wrong", [np.zeros(1), np.zeros(9)])
def test_a_damaged_phi_is_refused(wrong):
    values = dict(DeepLoop().state().items())
    with pytest.raises(StoreError):
        DeepLoop.from_state(State({**values, "phi": wrong}))
