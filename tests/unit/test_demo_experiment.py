import numpy as np
import pytest
from demo_toys import RememberingRanker, toy_task

from sona.demo.evaluation import Effect
from sona.demo.experiment import FrozenRanker, run
from sona.demo.outcome import Plan, summarise
from sona.errors import ConfigError, InvalidValue


def outcome(ranker, seed=0, passes=8, **plan):
    return run(toy_task(seed, passes=passes), ranker, rng=np.random.default_rng(seed), plan=Plan(**plan))


def test_a_frozen_ranker_changes_nothing_anywhere():
    result = outcome(FrozenRanker())
    for part in result.parts.values():
        np.testing.assert_array_equal(part.frozen, part.learned)
    assert all(change == 0.0 for point in result.curve for change in point.change.values())
    assert {part.difference.effect for part in summarise([result])} == {Effect.NO_EVIDENCE}


def test_a_remembering_ranker_helps_repeats_and_leaves_held_out_alone():
    summary = {part.name: part for part in summarise([outcome(RememberingRanker(), seed) for seed in (0, 1)])}
    assert list(summary) == ["repeat", "held_out", "held_out_distinct"]
    assert summary["repeat"].difference.effect is Effect.HELPED
    assert summary["repeat"].difference.mean > 0.2
    assert summary["held_out"].difference.mean == 0.0
    assert summary["held_out"].difference.effect is Effect.NO_EVIDENCE
    assert summary["repeat"].as_json()["effect"] == "helped"


def test_shuffled_clicks_do_not_help():
    straight = outcome(RememberingRanker())
    control = outcome(RememberingRanker(), shuffle=True)
    assert control.clicked == pytest.approx(straight.clicked, rel=0.35)
    repeat = control.parts["repeat"]
    assert (repeat.learned - repeat.frozen).mean() < 0.1


def test_the_curve_starts_at_zero_and_ends_with_the_stream():
    result = outcome(RememberingRanker(), passes=2, checkpoints=4)
    assert [point.requests for point in result.curve] == [0, 12, 24, 36, 48]
    assert result.requests == 48
    repeat = result.parts["repeat"]
    assert result.curve[-1].change["repeat"] == pytest.approx((repeat.learned - repeat.frozen).mean())
    assert len(outcome(FrozenRanker(), passes=1, checkpoints=0).curve) == 1


def test_background_learning_is_called_on_schedule_and_at_the_end():
    ranker = RememberingRanker()
    outcome(ranker, passes=2, learn_every=10)
    assert ranker.learned == 5  # after 10, 20, 30, 40 and 48


def test_scoring_teaches_nothing_and_can_use_a_copy():
    copies = []

    def copy(ranker):
        copies.append(FrozenRanker())
        return copies[-1]

    ranker = RememberingRanker()
    task = toy_task()
    result = run(task, ranker, rng=np.random.default_rng(0), plan=Plan(checkpoints=0), measured=copy)
    assert len(ranker.issued) == len(task.stream) * task.passes
    assert copies
    np.testing.assert_array_equal(result.parts["repeat"].learned, result.parts["repeat"].frozen)


def test_every_stream_request_is_asked_once_per_pass():
    asked = []

    class Listening(FrozenRanker):
        def rank(self, x, ids, vectors, k=10):
            asked.append(x.tobytes())
            return super().rank(x, ids, vectors, k)

    task = toy_task(passes=3)
    run(task, Listening(), rng=np.random.default_rng(0), plan=Plan(checkpoints=0), measured=lambda _: FrozenRanker())
    streamed = sorted(x.tobytes() for x in task.stream.vectors)
    for turn in range(3):
        assert sorted(asked[turn * len(streamed) : (turn + 1) * len(streamed)]) == streamed
    assert asked[: len(streamed)] != asked[len(streamed) : 2 * len(streamed)]


def test_same_seed_same_outcome():
    first, second = outcome(RememberingRanker()), outcome(RememberingRanker())
    for name, part in first.parts.items():
        np.testing.assert_array_equal(part.learned, second.parts[name].learned)
    assert first.curve == second.curve
    assert first.examples == second.examples


def test_progress_reaches_the_end():
    seen = []
    run(
        toy_task(),
        FrozenRanker(),
        rng=np.random.default_rng(0),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 48) for done in range(1, 49)]


def test_examples_show_gains_and_the_largest_loss_and_leave_out_what_stayed_the_same():
    result = outcome(RememberingRanker(), shuffle=True, passes=2)
    repeat = [example for example in result.examples if example.part == "repeat"]
    scores = result.parts["repeat"].learned - result.parts["repeat"].frozen
    changes = [example.learned - example.frozen for example in repeat]
    assert scores.min() < 0.0 < scores.max()
    assert changes[0] == pytest.approx(scores.max())
    assert changes[-1] == pytest.approx(scores.min())
    assert {example.part for example in result.examples} == {"repeat"}
    for example in repeat:
        assert len(example.before) == len(example.after) == 3
        assert all(shown.is_relevant == (shown.caption in example.wanted) for shown in example.after)


def test_distinct_leaves_out_the_overlapping_requests():
    result = outcome(FrozenRanker())
    assert result.distinct.keys == result.parts["held_out"].keys[1:]


def test_outcomes_of_different_tasks_are_not_pooled():
    with pytest.raises(InvalidValue, match="one task"):
        summarise([])


@pytest.mark.parametrize("settings", [{"learn_every": 0}, {"checkpoints": -1}, {"sample": 0}])
def test_plans_refuse_numbers_out_of_range(settings):
    with pytest.raises(ConfigError):
        Plan(**settings)
