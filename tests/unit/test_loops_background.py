"""BackgroundLoop: what many requests teach together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal
from sona.config import BackgroundConfig, BoundaryConfig, EwcConfig, PatternConfig
from sona.errors import DimensionMismatch, LearningError, PatternExtractionError, StateError, StoreError
from sona.loops.background import BackgroundLoop
from sona.patterns.bank import ReasoningBank
from sona.retention.ewc import EwcPlusPlus
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D = 6
RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(30, D)).astype(np.float32)
QUERIES = RNG.normal(size=(200, D)).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def clicked(number: int, *rewards: float | None, **more) -> QueryTrajectory:
    steps = tuple(TrajectoryStep(ITEMS[(number + i) % 30], reward=r) for i, r in enumerate(rewards or (1.0, 0.0, 0.0)))
    return QueryTrajectory(number, QUERIES[number % 200], steps, alternatives=True, **more)


def loop(*, micro: MicroLoRA | None = None, boundary: BoundaryConfig | None = None, rank=D, **settings):
    micro = micro or MicroLoRA(D, 1)
    ewc = EwcPlusPlus(EwcConfig(param_count=micro.param_count, boundary=boundary or BoundaryConfig()))
    bank = ReasoningBank(PatternConfig(min_cluster_size=3), hidden_dim=D)
    config = BackgroundConfig(**{"min_trajectories": 5, **settings})
    return BackgroundLoop(bank, BaseLoRA(D, rank, 1), ewc, config), micro


def cycle(background: BackgroundLoop, micro: MicroLoRA, **more):
    return background.commit(background.run_cycle(micro, **{"force": True, **more}), micro)


def sums(background: BackgroundLoop) -> dict[str, np.ndarray]:
    state = background.statistics.state()
    return {"gram": state.doubles("gram", D, D), "cross": state.doubles("cross", D, D)}


def same_sums(one: BackgroundLoop, other: BackgroundLoop) -> None:
    assert one.statistics.count == other.statistics.count
    for name, values in sums(one).items():
        np.testing.assert_allclose(values, sums(other)[name], atol=1e-9)


def test_layer_0_is_the_ridge_solution_of_everything_clicked():
    background, micro = loop(strength=0.5, regularisation=3.0)
    for start in (0, 40):
        background.add(clicked(number) for number in range(start, start + 40))
        cycle(background, micro)
    x, y = unit(QUERIES[:80].astype(float)), unit(ITEMS[np.arange(80) % 30].astype(float))
    oracle = Ridge(alpha=3.0, fit_intercept=False).fit(x, y - x)
    np.testing.assert_allclose(background.base.delta(0, QUERIES), 0.5 * oracle.predict(QUERIES), atol=1e-4)


def test_the_target_of_a_list_is_the_mean_of_what_it_took_by_reward():
    background, micro = loop(regularisation=1e-3, strength=1.0)
    background.add([clicked(0, 1.0, 0.0, 0.5)])
    cycle(background, micro)
    x = unit(QUERIES[0])
    wanted = (unit(ITEMS[0]) + 0.5 * unit(ITEMS[2])) / 1.5
    np.testing.assert_allclose(background.base.forward_layer(0, x), wanted, atol=5e-3)


def test_a_sequence_points_where_its_signal_does_and_counts_as_much_as_that_is_long():
    background, micro = loop(regularisation=1e-3, strength=1.0)
    steps = (TrajectoryStep(ITEMS[0]), TrajectoryStep(ITEMS[1]))
    trajectory = QueryTrajectory(0, QUERIES[0], steps, 0.9)
    background.add([trajectory])
    cycle(background, micro, baseline=0.4)
    g = LearningSignal.from_trajectory(trajectory, baseline=0.4).gradient_estimate
    x, heading = unit(QUERIES[0]), unit(g)
    np.testing.assert_allclose(background.base.forward_layer(0, x), x + heading - (heading @ x) * x, atol=2e-2)
    assert background.statistics.total_weight == pytest.approx(np.linalg.norm(g))


def test_outcomes_that_have_become_usual_take_nothing_back():
    background, micro = loop(regularisation=1e-3, strength=1.0)
    kept = QueryTrajectory(0, QUERIES[0], (TrajectoryStep(ITEMS[0]),), 0.9)
    background.add([kept])
    cycle(background, micro, baseline=0.4)
    before = background.base.forward_layer(0, QUERIES[0])
    background.add([QueryTrajectory(1, QUERIES[0], (TrajectoryStep(ITEMS[0]),), 0.9)])
    cycle(background, micro, baseline=0.9)
    np.testing.assert_allclose(background.base.forward_layer(0, QUERIES[0]), before, atol=1e-4)


@pytest.mark.parametrize("silent", [(0.0, 0.0), (0.29, 0.1), (None, None)])
def test_a_bad_or_silent_list_puts_nothing_into_the_base_adapter(silent):
    background, micro = loop()
    background.add(clicked(number, *silent) for number in range(10))
    result = cycle(background, micro)
    assert result.trajectories == 10
    assert background.statistics.count == 0
    assert (background.base.forward_layer(0, QUERIES) == QUERIES).all()
    assert not result.fisher.updated
    assert result.fisher.skipped_reason == "no trajectory had anything to teach"


def test_a_bad_sequence_moves_the_base_adapter_away():
    background, micro = loop(regularisation=1.0)
    bad = QueryTrajectory(0, QUERIES[0], (TrajectoryStep(ITEMS[0]),), 0.0)
    background.add([bad])
    cycle(background, micro)
    away = unit(ITEMS[0])
    assert background.base.delta(0, QUERIES[0]) @ (away - (away @ unit(QUERIES[0])) * unit(QUERIES[0])) < 0.0


def test_too_few_wait_and_say_so_and_force_takes_them():
    background, micro = loop(min_trajectories=5)
    assert cycle(background, micro).skipped_reason == "no new trajectories"
    background.add(clicked(number) for number in range(4))
    before = digest(background.state())
    result = cycle(background, micro, force=False)
    assert "4 of 5" in result.skipped_reason
    assert (result.trajectories, result.version, result.folded) == (0, 0, False)
    assert digest(background.state()) == before
    assert cycle(background, micro).trajectories == 4
    assert (background.version, background.learned_count, background.pending_count) == (1, 4, 0)


def test_every_trajectory_is_learned_from_once():
    background, micro = loop()
    given = [clicked(number) for number in range(10)]
    assert background.add(given) == 10
    assert background.add(given) == 0
    cycle(background, micro)
    once = sums(background)
    assert background.add(given) == 0
    assert cycle(background, micro).skipped_reason == "no new trajectories"
    for name, values in sums(background).items():
        assert (values == once[name]).all()
    assert (background.version, background.learned_count, background.statistics.count) == (1, 10, 10)


def test_the_same_data_five_times_give_the_same_patterns_once():
    background, micro = loop()
    centres = np.eye(D, dtype=np.float32)[:3]
    rng = np.random.default_rng(1)
    given = [QueryTrajectory(n, centres[n % 3] + 0.05 * rng.normal(size=D), (), 0.8) for n in range(30)]
    for _ in range(5):
        background.add(given)
        cycle(background, micro)
    assert background.bank.pattern_count == 3
    assert sum(pattern.cluster_size for pattern in background.bank.patterns) == 30


@pytest.mark.parametrize("cycles_between", [False, True])
def test_an_amendment_ends_where_the_last_word_alone_would_have(cycles_between):
    amended, micro = loop()
    alone, other = loop()
    first, last = clicked(0, 1.0, 0.0), clicked(0, 0.0, 1.0)
    rest = [clicked(number) for number in range(1, 6)]
    amended.add([first, *rest])
    if cycles_between:
        cycle(amended, micro)
    amended.add([replace(last, supersedes=first)])
    cycle(amended, micro)
    alone.add([last, *rest])
    cycle(alone, other)
    same_sums(amended, alone)
    np.testing.assert_allclose(amended.base.delta(0, QUERIES), alone.base.delta(0, QUERIES), atol=1e-5)


def test_an_amendment_to_nothing_takes_back_what_was_taught():
    background, micro = loop()
    first = clicked(0, 1.0, 0.0)
    background.add([first])
    cycle(background, micro)
    background.add([replace(clicked(0, 0.0, 0.0), supersedes=first)])
    cycle(background, micro)
    assert background.statistics.count == 0
    np.testing.assert_allclose(background.base.delta(0, QUERIES), 0.0, atol=1e-6)


def test_an_amendment_whose_first_version_never_arrived_takes_nothing_back():
    dropped, micro = loop()
    alone, other = loop()
    rest = [clicked(number) for number in range(1, 6)]
    dropped.add([*rest, replace(clicked(0, 0.0, 1.0), supersedes=clicked(0, 1.0, 0.0))])
    alone.add([*rest, clicked(0, 0.0, 1.0)])
    cycle(dropped, micro)
    cycle(alone, other)
    same_sums(dropped, alone)


def test_an_amendment_of_an_amendment_that_never_arrived_takes_back_what_did():
    dropped, micro = loop()
    alone, other = loop()
    first, second, last = clicked(0, 1.0, 0.0, 0.0), clicked(0, 0.0, 1.0, 0.0), clicked(0, 0.0, 0.0, 1.0)
    rest = [clicked(number) for number in range(1, 6)]
    dropped.add([first, *rest])
    cycle(dropped, micro)
    dropped.add([replace(last, supersedes=second)])
    cycle(dropped, micro)
    alone.add([last, *rest])
    cycle(alone, other)
    same_sums(dropped, alone)


@pytest.mark.parametrize(
    ("broken", "error"), [("extract_patterns", PatternExtractionError), ("fit_layer", LearningError)]
)
def test_a_cycle_that_fails_changes_nothing(monkeypatch, broken, error):
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    before, adapter = digest(background.state()), digest(micro.state())

    def fail(*_, **__):
        raise error("no")

    monkeypatch.setattr(ReasoningBank if broken == "extract_patterns" else BaseLoRA, broken, fail)
    with pytest.raises(error):
        cycle(background, micro)
    monkeypatch.undo()
    assert digest(background.state()) == before
    assert digest(micro.state()) == adapter
    assert cycle(background, micro).trajectories == 10


def test_nothing_is_in_force_before_commit():
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    change = background.run_cycle(micro)
    assert (background.base.forward_layer(0, QUERIES) == QUERIES).all()
    assert (background.version, background.pending_count, background.statistics.count) == (0, 10, 0)
    assert background.commit(change, micro).version == background.version == 1


@pytest.mark.parametrize(
    "broken", [None, (ReasoningBank, "prune"), (EwcPlusPlus, "update_fisher"), (BaseLoRA, "fit_layer")]
)
def test_computing_a_cycle_changes_nothing_also_when_it_stops_half_way(monkeypatch, broken):
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    cycle(background, micro)
    background.add(clicked(number) for number in range(10, 30))
    begun = background.begin(micro, force=True)
    before = digest(background.state()), digest(begun.bank.state()), digest(begun.micro.state()), digest(micro.state())

    def fail(*_, **__):
        raise LearningError("no")

    if broken is not None:
        monkeypatch.setattr(*broken, fail)
        with pytest.raises(LearningError):
            background.compute(begun)
    else:
        background.compute(begun)
    after = digest(background.state()), digest(begun.bank.state()), digest(begun.micro.state()), digest(micro.state())
    assert after == before


def changed(change) -> list[str]:
    return [repr(change.result), digest(change.after.state()), digest(change.bank.state())]


def test_a_cycle_gives_the_same_change_whatever_comes_after_it_began():
    background, micro = loop()
    background.add(clicked(number) for number in range(20))
    cycle(background, micro)
    background.add(clicked(number) for number in range(20, 40))
    begun = background.begin(micro)
    first = changed(background.compute(begun))
    background.add([clicked(40), replace(clicked(25, 0.0, 1.0), supersedes=clicked(25))])
    background.bank.find_similar(QUERIES[0], 3, now=9.0)
    micro.accumulate_gradient(LearningSignal.with_gradient(QUERIES[0], ITEMS[0], 1.0))
    micro.apply_accumulated(0.1)
    assert changed(background.compute(begun)) == first
    background.commit(background.compute(begun), micro)
    assert changed(background.compute(begun)) == first


def test_a_change_holds_what_commit_puts_in_force():
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    change = background.run_cycle(micro)
    assert change.base is not background.base
    assert background.bank.pattern_count == 0
    background.commit(change, micro)
    assert (background.base, background.bank, background.in_force) == (change.base, change.bank, change.after)
    skipped = background.run_cycle(micro)
    assert (skipped.base, skipped.after, skipped.bank, skipped.cycle.batch) == (None, None, None, ())


@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_reaches_the_patterns_while_a_cycle_is_computed_is_in_the_new_ones(meanwhile):
    background, micro = loop()
    background.add(clicked(number) for number in range(30))
    cycle(background, micro)
    background.add(clicked(number) for number in range(30, 60))

    def more() -> None:
        background.add([clicked(70), replace(clicked(3, 0.0, 1.0), supersedes=clicked(3))])
        background.bank.find_similar(QUERIES[0], 3, now=9.0)

    if meanwhile:
        change = background.run_cycle(micro)
        more()
        background.commit(change, micro)
    else:
        cycle(background, micro)
        more()
    bank = background.bank
    assert bank.held(70) is not None
    assert bank.held(3).steps[1].reward == 1.0
    assert (bank.trajectory_count, background.pending_count) == (61, 2)
    assert sum(pattern.access_count for pattern in bank.patterns) == 3
    assert {pattern.last_accessed for pattern in bank.patterns if pattern.access_count} == {9.0}
    assert cycle(background, micro).trajectories == 2


def test_a_rejected_cycle_leaves_everything_but_its_batch_as_it_was():
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    cycle(background, micro)
    background.add(clicked(number) for number in range(10, 30))
    before, adapter = dict(background.state().items()), digest(micro.state())
    change = background.run_cycle(micro, now=3.0)
    result = background.reject(change)
    assert (result.version, result.trajectories, result.folded) == (1, 0, False)
    assert "20 trajectories" in result.skipped_reason
    after = dict(background.state().items())
    ended = {"pending", "cycles", "rejected", "discarded"}
    assert digest(State({k: v for k, v in after.items() if k not in ended})) == digest(
        State({k: v for k, v in before.items() if k not in ended})
    )
    assert digest(micro.state()) == adapter
    following = background.begin(micro)
    assert (following.number, following.version) == (2, 1)
    assert (after["cycles"], background.rejected_count, background.discarded_count) == (2, 1, 20)
    assert (background.pending_count, background.learned_count, background.version) == (0, 10, 1)
    assert cycle(background, micro).skipped_reason == "no new trajectories"


def test_rejecting_a_skipped_cycle_is_nothing():
    background, micro = loop(min_trajectories=5)
    background.add([clicked(0)])
    before = digest(background.state())
    change = background.run_cycle(micro)
    assert (change.cycle.batch, change.cycle.version) == ((), 0)
    assert background.reject(change) is change.result
    assert background.commit(change, micro) is change.result
    assert digest(background.state()) == before


def test_what_comes_after_a_rejected_cycle_began_waits_for_the_next():
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    change = background.run_cycle(micro)
    background.add(clicked(number) for number in range(10, 13))
    background.reject(change)
    alone, other = loop()
    alone.add(clicked(number) for number in range(10, 13))
    result = cycle(background, micro)
    assert (result.version, result.trajectories) == (1, 3)
    cycle(alone, other)
    same_sums(background, alone)


@pytest.mark.parametrize("again", [False, True])
def test_an_amendment_of_what_was_rejected_takes_back_what_was_learned_and_no_more(again):
    background, micro = loop()
    learned, first = clicked(0, 1.0, 0.0, 0.0), clicked(1, 1.0, 0.0, 0.0)
    background.add([learned, *(clicked(number) for number in range(2, 6))])
    cycle(background, micro)
    amended = replace(clicked(0, 0.0, 1.0, 0.0), supersedes=learned)
    background.add([amended, first])
    background.reject(background.run_cycle(micro, force=True))
    if again:
        background.add([replace(clicked(0, 0.0, 0.5, 0.5), supersedes=amended)])
        background.reject(background.run_cycle(micro, force=True))
    background = BackgroundLoop.from_state(background.state(), background.config)
    named = background.bank.held(0)
    background.add([replace(clicked(0, 0.0, 0.0, 1.0), supersedes=replace(named, supersedes=None))])
    background.add([replace(clicked(1, 0.0, 1.0, 0.0), supersedes=first)])
    cycle(background, micro)
    alone, other = loop()
    alone.add([clicked(0, 0.0, 0.0, 1.0), clicked(1, 0.0, 1.0, 0.0), *(clicked(number) for number in range(2, 6))])
    cycle(alone, other)
    same_sums(background, alone)


@pytest.mark.parametrize("ended", ["commit", "reject"])
@pytest.mark.parametrize("then", ["commit", "reject"])
def test_a_change_is_put_in_force_or_dropped_once(ended, then):
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    change, other = background.run_cycle(micro), background.run_cycle(micro)

    def end(how: str, which) -> None:
        background.commit(which, micro) if how == "commit" else background.reject(which)

    end(ended, change)
    before = digest(background.state()), digest(micro.state())
    for stale in (change, other):
        with pytest.raises(StateError, match="run the cycle again"):
            end(then, stale)
    assert (digest(background.state()), digest(micro.state())) == before


def test_a_change_computed_before_another_was_committed_is_refused():
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    first, second = background.run_cycle(micro), background.run_cycle(micro)
    background.commit(first, micro)
    with pytest.raises(StateError, match="run the cycle again"):
        background.commit(second, micro)
    assert (background.version, background.learned_count, background.statistics.count) == (1, 10, 10)


def test_what_arrives_between_computing_and_commit_waits_for_the_next_cycle():
    background, micro = loop()
    background.add(clicked(number) for number in range(10))
    change = background.run_cycle(micro)
    background.add([clicked(10)])
    background.commit(change, micro)
    assert background.pending_count == 1
    assert cycle(background, micro).trajectories == 1
    assert background.statistics.count == 11


def test_the_micro_adapter_is_folded_with_what_waits_and_its_protection_moves_with_it():
    background, micro = loop()
    micro.accumulate_gradient(LearningSignal.with_gradient(QUERIES[0], ITEMS[0], 1.0))
    micro.apply_accumulated(0.1)
    micro.accumulate_gradient(LearningSignal.with_gradient(QUERIES[1], ITEMS[1], 1.0))
    background.ewc.update_fisher(np.ones((1, micro.param_count), np.float32))
    background.ewc.start_new_task(micro.flat() + 0.1)
    loss = background.ewc.regularization_loss(micro.flat())
    background.add(clicked(number) for number in range(10))
    assert cycle(background, micro).folded
    assert (micro.forward(QUERIES) == QUERIES).all()
    assert micro.pending_updates == 0
    assert background.ewc.regularization_loss(micro.flat()) == pytest.approx(loss, rel=1e-5)


def test_a_changed_stream_closes_the_task_and_protects_it():
    settings = BoundaryConfig(reference_size=48, window_size=16, null_splits=50)
    background, micro = loop(boundary=settings)
    rng = np.random.default_rng(3)
    found = []
    for block, centre in enumerate([np.zeros(D)] * 4 + [np.full(D, 4.0)] * 2):
        queries = rng.normal(size=(40, D)) + centre
        background.add(
            QueryTrajectory(100 * block + n, q, (TrajectoryStep(ITEMS[n % 30]),), 0.9) for n, q in enumerate(queries)
        )
        result = cycle(background, micro, now=float(block))
        found.append(result.boundary.is_boundary)
        assert (result.task is not None) == result.boundary.is_boundary
        assert result.fisher.updated
    assert found.index(True) == 4
    assert background.ewc.task_count >= 1


def test_the_fisher_is_that_of_the_trajectories_that_teach():
    background, micro = loop()
    by_hand = EwcPlusPlus(background.ewc.config)
    batch = [clicked(0), clicked(1, 0.0, 0.0), clicked(2)]
    background.add(batch)
    result = cycle(background, micro)
    signals = [LearningSignal.from_trajectory(one, baseline=0.5) for one in (batch[0], batch[2])]
    by_hand.update_fisher(np.array([micro.flat_gradient(s.query_embedding, s.gradient_estimate) for s in signals]))
    assert (result.fisher.updated, result.fisher.examples) == (True, 2)
    np.testing.assert_allclose(background.ewc.fisher, by_hand.fisher, rtol=1e-5)


def test_the_same_seed_gives_the_same_state():
    states = []
    for _ in range(2):
        background, micro = loop(seed=7)
        for start in (0, 60):
            background.add(clicked(number) for number in range(start, start + 60))
            cycle(background, micro, now=1.0)
        states.append(digest(background.state()))
    assert states[0] == states[1]


def test_a_trajectory_of_another_width_is_refused_and_those_before_it_stay():
    background, _ = loop()
    with pytest.raises(DimensionMismatch):
        background.add([clicked(0), QueryTrajectory(1, np.ones(D + 1)), clicked(2)])
    assert background.pending_count == 1


def test_parts_of_different_widths_do_not_load():
    background, _ = loop()
    background.add([clicked(0)])
    values = dict(background.state().items())
    for name, part in (("base", BaseLoRA(D + 1, 1, 1)), ("bank", ReasoningBank(hidden_dim=D + 1))):
        with pytest.raises(StoreError, match="width"):
            BackgroundLoop.from_state(State({**values, name: part.state()}))


@pytest.mark.parametrize("first", [0.5, 0.9, 0.1])
@pytest.mark.parametrize("last", [0.0, 0.8, 1.0])
def test_an_outcome_is_taken_out_against_the_baseline_it_was_taken_in_with(first, last):
    ranked = clicked(0, None, None, final_quality=first)
    amended = replace(ranked, final_quality=last)
    background, micro = loop()
    background.add([ranked])
    cycle(background, micro, baseline=0.5)
    background = BackgroundLoop.from_state(background.state(), background.config)
    background.add([replace(amended, supersedes=ranked)])
    cycle(background, micro, baseline=0.8)
    once, micro = loop()
    once.add([amended])
    cycle(once, micro, baseline=0.8)
    same_sums(background, once)


def test_feedback_that_clears_lists_without_an_advantage_leaves_the_loop_at_work():
    # Nothing was taken in for a quality equal to the baseline, so nothing may be taken out.
    ranked = [clicked(number, None, None, final_quality=0.5) for number in range(8)]
    background, micro = loop()
    background.add(ranked)
    cycle(background, micro, baseline=0.5)
    cleared = [clicked(number, 0.0, 0.0, final_quality=0.5, supersedes=ranked[number]) for number in range(8)]
    background.add(cleared)
    assert cycle(background, micro, baseline=0.8).trajectories == 8
    assert background.statistics.count == 0


def test_a_cycle_of_more_trajectories_than_one_block_sums_them_all():
    background, micro = loop()
    background.add(clicked(number) for number in range(600))
    cycle(background, micro)
    x, y = unit(QUERIES[np.arange(600) % 200].astype(float)), unit(ITEMS[np.arange(600) % 30].astype(float))
    assert background.statistics.count == 600
    np.testing.assert_allclose(sums(background)["gram"], x.T @ x, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(sums(background)["cross"], x.T @ (y - x), rtol=1e-5, atol=1e-4)
