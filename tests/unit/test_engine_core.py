"""SonaEngine: one request from question to lesson."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from sona.config import PatternConfig, SonaConfig
from sona.engine.core import SonaEngine
from sona.errors import (
    DimensionMismatch,
    InvalidValue,
    PatternExtractionError,
    SonaError,
    StateError,
    UnknownTrajectory,
)
from sona.patterns.bank import ReasoningBank
from sona.state import State, digest
from sona.types import Context, FeedbackOutcome, QueryTrajectory, TrajectoryStep

D = 6
RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(12, D)).astype(np.float32)
IDS = tuple(f"d{row}" for row in range(12))
X = RNG.normal(size=D).astype(np.float32)
FAQ = {
    "reset": "To reset a password, open the settings page and choose reset.",
    "invoice": "An invoice is paid by bank transfer within thirty days.",
    "refund": "A refund is sent to the card that was charged.",
}


class Clock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def engine(clock: Clock | None = None, **settings) -> SonaEngine:
    return SonaEngine(SonaConfig(hidden_dim=D, **settings), clock=clock or Clock())


def support() -> SonaEngine:
    made = SonaEngine(SonaConfig(hidden_dim=16), clock=Clock())
    for name, text in FAQ.items():
        made.remember(text, name)
    return made


def trained() -> SonaEngine:
    made = engine(min_trajectories=5, patterns=PatternConfig(min_cluster_size=2))
    for query in np.random.default_rng(1).normal(size=(12, D)):
        ranking = made.rank(query, IDS, ITEMS, k=4)
        made.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    made.remember("a text", "m", vector=np.ones(D))
    made.background_learn()
    for query in np.random.default_rng(2).normal(size=(3, D)):
        made.rank(query, IDS, ITEMS, k=4)
    return made


def score(made: SonaEngine, item: str, x=X) -> float:
    ranking = made.rank(x, IDS, ITEMS, k=12)
    return dict(zip(ranking.ids, ranking.scores, strict=True))[item]


# -- the story -----------------------------------------------------------------------------------------------------


def test_the_width_is_that_of_the_first_vector():
    made = SonaEngine()
    assert made.hidden_dim is None
    made.adapt([1.0, 2.0, 3.0])
    assert made.hidden_dim == 3
    with pytest.raises(DimensionMismatch):
        made.adapt([1.0, 2.0])
    words = SonaEngine(embedder=lambda texts: [[1.0, 0.0]] * len(texts))
    words.remember("a text")
    words.index()
    assert words.hidden_dim == 2
    with pytest.raises(DimensionMismatch):
        words.remember("another", vector=[1.0, 2.0, 3.0])
    with pytest.raises(DimensionMismatch):
        words.process("a question", vector=[1.0, 2.0, 3.0])


def test_ids_are_issued_once_and_in_order():
    made = engine()
    numbers = [made.rank(X, IDS, ITEMS).trajectory_id for _ in range(3)]
    numbers += [made.begin_trajectory(X).id, made.rank(X, IDS, ITEMS).trajectory_id]
    assert numbers == [1, 2, 3, 4, 5]
    other = engine()
    assert other.rank(X, IDS, ITEMS).trajectory_id == 1


def test_a_trajectory_brought_along_reserves_its_id():
    made = engine()
    made.submit_trajectory(QueryTrajectory(41, X, (TrajectoryStep(ITEMS[0]),), 1.0))
    assert made.rank(X, IDS, ITEMS).trajectory_id == 42


def test_process_answers_from_memory_and_says_where_from():
    made = support()
    response = made.process("how do I reset my password?", Context(user_id="u1"))
    assert response.text == FAQ["reset"]
    assert response.sources[0].id == "reset"
    assert response.sources[0].text == FAQ["reset"]
    assert 0.0 < response.confidence <= 1.0
    assert response.latency_us > 0.0
    assert [source.score for source in response.sources] == sorted((s.score for s in response.sources), reverse=True)


def test_a_question_nothing_is_known_about_has_no_source_and_credits_nobody():
    made = support()
    for _ in range(2):
        response = made.process("zebra")
        assert (response.sources, response.confidence) == ((), 0.0)
        assert made.feedback(response.trajectory_id, quality=1.0).credited == ()
    empty = SonaEngine(SonaConfig(hidden_dim=4))
    response = empty.process("anything")
    assert response.sources == ()
    assert empty.feedback(response.trajectory_id, quality=0.0).outcome is FeedbackOutcome.LEARNED


def test_only_so_many_memories_are_given_to_the_responder_and_the_context_goes_along():
    seen = []

    def respond(query, sources, context):
        seen.append((query, len(sources), context.user_id))
        return "an answer"

    made = SonaEngine(
        SonaConfig(context_size=2),
        embedder=lambda texts: [[1.0, 0.1 * len(text)] for text in texts],
        responder=respond,
    )
    for number in range(5):
        made.remember("x" * (number + 1))
    assert made.process("what?", Context(user_id="me")).text == "an answer"
    assert seen == [("what?", 2, "me")]


def test_aprocess_is_process():
    made = support()
    assert asyncio.run(made.aprocess("reset password")).text == made.process("reset password").text


def test_memories_that_arrive_later_are_found_and_what_was_learned_stays():
    made = support()
    question = "my card was charged twice"
    first = made.process(question)
    made.feedback(first.trajectory_id, rewards={first.sources[0].id: 0.0, "refund": 1.0})
    for number in range(6):  # enough for the embedder to be fitted anew
        made.remember(f"Topic {number}: opening hours, delivery and weather report number {number}.", f"t{number}")
    again = made.process(question)
    assert again.sources[0].id == "refund"
    assert again.sources[0].score > first.sources[0].score
    assert made.process("weather report").sources[0].id.startswith("t")


# -- feedback ------------------------------------------------------------------------------------------------------


def test_feedback_is_learned_once_amended_when_it_differs_and_unknown_when_it_is():
    made = engine()
    ranking = made.rank(X, IDS, ITEMS, k=3)
    first = made.feedback(ranking.trajectory_id, rewards={ranking.ids[2]: 1.0})
    assert (first.outcome, first.credited) == (FeedbackOutcome.LEARNED, (ranking.ids[2],))
    assert made.feedback(ranking.trajectory_id, rewards={ranking.ids[2]: 1.0}).outcome is FeedbackOutcome.REPEATED
    assert made.feedback(ranking.trajectory_id, rewards={}).outcome is FeedbackOutcome.REPEATED
    assert made.feedback(ranking.trajectory_id, rewards={ranking.ids[0]: 1.0}).outcome is FeedbackOutcome.AMENDED
    with pytest.raises(UnknownTrajectory):
        made.feedback(999, quality=1.0)
    metrics = made.metrics()
    assert (metrics.feedbacks, metrics.amended, metrics.repeated, metrics.unknown) == (1, 1, 2, 1)


def _without_counts(state: State) -> State:
    machine = dict(state.child("machine").items())
    intake = dict(state.child("machine").child("intake").items())
    machine["intake"] = State({**intake, "counts": {}})
    return State({**dict(state.items()), "machine": State(machine), "events": 0})


def _without_schedule(state: State) -> State:
    machine = dict(_without_counts(state).child("machine").items())
    loops = dict(machine["learner"].child("loops").items())
    loops["schedule"] = State({})
    machine["learner"] = State({**dict(machine["learner"].items()), "loops": State(loops)})
    return State({**dict(state.items()), "machine": State(machine), "events": 0})


def test_repeated_feedback_changes_nothing_but_its_count():
    made = trained()
    ranking = made.rank(X, IDS, ITEMS, k=3)
    made.feedback(ranking.trajectory_id, rewards={ranking.ids[2]: 1.0}, quality=0.8)
    before = digest(_without_counts(made.state()))
    for again in ({"rewards": {ranking.ids[2]: 1.0}}, {"quality": 0.8}, {"rewards": {}}):
        assert made.feedback(ranking.trajectory_id, **again).outcome is FeedbackOutcome.REPEATED
    assert digest(_without_counts(made.state())) == before


def test_rewards_given_in_parts_are_merged():
    made = engine()
    ranking = made.rank(X, IDS, ITEMS, k=3)
    made.feedback(ranking.trajectory_id, rewards={ranking.ids[0]: 1.0})
    both = made.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    assert set(both.credited) == {ranking.ids[0], ranking.ids[1]}
    last = made.feedback(ranking.trajectory_id, rewards={ranking.ids[0]: 0.0})
    assert last.credited == (ranking.ids[1],)


def test_what_was_shown_and_not_named_earned_nothing():
    made = engine()
    ranking = made.rank(X, IDS, ITEMS, k=3)
    before = {item: score(made, item) for item in ranking.ids}
    made.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    assert score(made, ranking.ids[1]) > before[ranking.ids[1]]
    assert score(made, ranking.ids[0]) < before[ranking.ids[0]]
    assert score(made, ranking.ids[2]) < before[ranking.ids[2]]


def test_late_feedback_counts_within_the_window_and_not_after_it():
    clock = Clock()
    made = engine(clock, feedback_window_s=100.0)
    early, late = (made.rank(X, IDS, ITEMS).trajectory_id for _ in range(2))
    clock.now += 99.0
    made.tick()
    assert made.feedback(early, quality=1.0).outcome is FeedbackOutcome.LEARNED
    clock.now += 2.0
    made.tick()
    with pytest.raises(UnknownTrajectory, match="100 s"):
        made.feedback(late, quality=1.0)
    metrics = made.metrics()
    assert (metrics.unanswered, metrics.awaiting_feedback, metrics.unknown) == (1, 0, 1)


def test_one_id_is_learned_from_once_whichever_way_it_comes():
    made = engine()
    first = made.rank(X, IDS, ITEMS, k=3)
    made.feedback(first.trajectory_id, rewards={first.ids[1]: 1.0})
    brought = QueryTrajectory(first.trajectory_id, X, (TrajectoryStep(ITEMS[0], reward=1.0, ref="d0"),))
    before = digest(_without_counts(made.state()))
    assert "learned from before" in made.submit_trajectory(brought).skipped_reason
    assert digest(_without_counts(made.state())) == before
    second = made.rank(X, IDS, ITEMS, k=3)
    made.submit_trajectory(QueryTrajectory(second.trajectory_id, X, (TrajectoryStep(ITEMS[0]),), 1.0))
    before = digest(_without_counts(made.state()))
    assert made.feedback(second.trajectory_id, quality=0.5).outcome is FeedbackOutcome.REPEATED
    assert digest(_without_counts(made.state())) == before


# -- trajectories --------------------------------------------------------------------------------------------------


def test_a_trajectory_is_recorded_learned_and_cannot_end_twice():
    made = engine()
    builder = made.begin_trajectory(X, model_route="small", subject="u1")
    builder.add_step(ITEMS[0], reward=0.9, ref="d0")
    assert made.metrics().open_trajectories == 1
    result = made.end_trajectory(builder, quality=0.9)
    assert (result.recorded, result.is_push, result.applied) == (True, True, 1)
    with pytest.raises(StateError):
        made.end_trajectory(builder, quality=0.9)
    metrics = made.metrics()
    assert (metrics.open_trajectories, metrics.requests, metrics.waiting, metrics.past_requests) == (0, 1, 1, 1)


def test_a_block_ends_its_trajectory_and_a_failed_block_gives_it_up():
    made = engine()
    with made.begin_trajectory(X) as builder:
        builder.add_step(ITEMS[0])
        builder.finish(0.9)
    assert made.metrics().waiting == 1
    with pytest.raises(RuntimeError, match="no"), made.begin_trajectory(X) as builder:
        raise RuntimeError("no")
    assert (made.metrics().waiting, made.metrics().open_trajectories) == (1, 0)
    with pytest.raises(StateError):
        made.end_trajectory(builder)


def test_a_trajectory_ends_where_it_began():
    made, other = engine(), engine()
    builder, kept = made.begin_trajectory(X), other.begin_trajectory(X)
    assert builder.id == kept.id
    before = digest(other.state())
    with pytest.raises(StateError, match="begun"):
        other.end_trajectory(builder, quality=1.0)
    assert digest(other.state()) == before
    made.end_trajectory(builder, quality=1.0)
    other.end_trajectory(kept, quality=1.0)
    assert made.metrics().requests == other.metrics().requests == 1


def test_a_refused_quality_leaves_the_trajectory_open():
    made = engine()
    builder = made.begin_trajectory(X)
    with pytest.raises(InvalidValue):
        made.end_trajectory(builder, quality=2.0)
    assert made.end_trajectory(builder, quality=1.0).recorded


def test_forgotten_trajectories_expire_and_are_counted():
    clock = Clock()
    made = engine(clock, trajectory_ttl_s=60.0)
    builder = made.begin_trajectory(X)
    clock.now += 61.0
    made.tick()
    assert (made.metrics().open_trajectories, made.metrics().expired) == (0, 1)
    with pytest.raises(StateError):
        made.end_trajectory(builder, quality=1.0)


# -- loops ---------------------------------------------------------------------------------------------------------


def test_tick_runs_loop_b_when_it_is_due_and_keeps_everything_until_then():
    clock = Clock()
    made = engine(clock, min_trajectories=3, background_interval_s=10.0)
    assert made.tick().background is None
    for number in range(2):
        made.submit_trajectory(QueryTrajectory(number + 1, X, (TrajectoryStep(ITEMS[number]),), 1.0))
    clock.now += 100.0
    assert (made.tick().background, made.tick().waiting) == (None, 2)
    made.submit_trajectory(QueryTrajectory(3, X, (TrajectoryStep(ITEMS[2]),), 1.0))
    result = made.tick()
    assert (result.background.trajectories, result.background.version, result.waiting) == (3, 1, 0)


def test_an_engine_that_saw_nothing_has_nothing_to_learn():
    made = SonaEngine()
    assert made.background_learn(force=True).skipped_reason == "no new trajectories"
    assert made.tick().reason == "nothing was seen yet"
    made.flush()
    made.close()
    made.close()


def test_a_cycle_that_fails_changes_nothing_and_can_be_repeated(monkeypatch):
    made = engine()
    made.submit_trajectory(QueryTrajectory(1, X, (TrajectoryStep(ITEMS[0]),), 1.0))
    made._learner.loops.begin(now=0.0, force=True)  # what Loop A recorded is handed over, whatever becomes of it
    before = digest(_without_schedule(made.state()))

    def fail(*_, **__):
        raise PatternExtractionError("no")

    monkeypatch.setattr(ReasoningBank, "extract_patterns", fail)
    with pytest.raises(PatternExtractionError):
        made.background_learn(force=True)
    monkeypatch.undo()
    assert digest(_without_schedule(made.state())) == before
    assert made.background_learn(force=True).trajectories == 1


def test_loop_b_changes_what_adapt_returns_and_finds_patterns():
    made = trained()
    assert made.metrics().version == 1
    assert not np.allclose(made.adapt(X), X)
    np.testing.assert_allclose(made.adapt(np.stack([X, X]))[0], made.adapt(X), atol=1e-6)


def test_patterns_are_found_best_first_and_each_finding_counts():
    made = engine(patterns=PatternConfig(min_cluster_size=2))
    rng = np.random.default_rng(0)
    for number in range(12):
        query = np.eye(D)[number % 3] + 0.05 * rng.normal(size=D)
        made.submit_trajectory(QueryTrajectory(number + 1, query, (), 0.9))
    made.background_learn(force=True)
    matches = made.find_patterns(np.eye(D)[1], k=2)
    assert matches[0].similarity > 0.95 > matches[1].similarity
    assert matches[0].pattern.access_count == 1
    again = made.find_patterns(np.eye(D)[1], k=1)[0].pattern
    assert (again.id, again.access_count) == (matches[0].pattern.id, 2)
    assert {pattern.id: pattern.access_count for pattern in made.bank.patterns}[again.id] == 2


def test_process_names_only_patterns_it_may_trust():
    for least, expected in ((0.5, 1), (0.99, 0)):
        made = SonaEngine(
            SonaConfig(patterns=PatternConfig(min_cluster_size=2, pattern_confidence=least)),
            embedder=lambda texts: [[1.0, 0.01 * len(text)] for text in texts],
        )
        for number in range(6):
            response = made.process("x" * (number + 1))
            made.feedback(response.trajectory_id, quality=0.9)
        made.background_learn(force=True)
        assert made.metrics().patterns == 1
        assert len(made.process("xx").patterns_used) == expected


def test_the_background_thread_starts_once_and_stops():
    made = engine(background_interval_s=0.0, min_trajectories=1)
    made.submit_trajectory(QueryTrajectory(1, X, (TrajectoryStep(ITEMS[0]),), 1.0))
    made.start_background(0.001)
    with pytest.raises(StateError):
        made.start_background(0.001)
    worker = made._worker
    for _ in range(1000):
        if made.metrics().version:
            break
        asyncio.run(asyncio.sleep(0.005))
    made.stop_background()
    made.stop_background()
    assert made.metrics().version == 1
    assert not worker.is_running
    made.start_background(60.0)
    made.close()
    assert made._worker is None


# -- bad input -----------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
BAD_VECTORS = {
    "wrong width": [1.0, 2.0],
    "too deep": np.ones((1, D)),
    "empty": [],
    "a number": 1.0,
    "words": ["a"] * D,
    "objects": [object()] * D,
    "complex": np.ones(D) * 1j,
    "ragged": [[1.0], [1.0, 2.0]],
    "nothing": None,
    "NaN": [NAN] * D,
    "infinity": [INF] + [0.0] * (D - 1),
    "overflow of float32": [1e39] + [0.0] * (D - 1),
    "overflow of the squared length": [1e30] + [0.0] * (D - 1),
}
ON_VECTORS = {
    "rank": lambda made, bad: made.rank(bad, IDS, ITEMS),
    "process": lambda made, bad: made.process("a question", vector=bad if bad is not None else []),
    "remember": lambda made, bad: made.remember("new", vector=bad if bad is not None else []),
    "begin_trajectory": lambda made, bad: made.begin_trajectory(bad),
    "find_patterns": lambda made, bad: made.find_patterns(bad),
    "submit_trajectory": lambda made, bad: made.submit_trajectory(QueryTrajectory(77, bad)),
    "adapt": lambda made, bad: made.adapt(bad if bad is not BAD_VECTORS["too deep"] else bad[None]),
    "rank vectors": lambda made, bad: made.rank(X, ["a"], [bad]),
}
OTHERS = {
    "no items": lambda made: made.rank(X, [], np.zeros((0, D))),
    "fewer ids than items": lambda made: made.rank(X, IDS[:3], ITEMS),
    "ids that repeat": lambda made: made.rank(X, ["a", "a"], ITEMS[:2]),
    "ids that are no text": lambda made: made.rank(X, [1, 2], ITEMS[:2]),
    "k of 0": lambda made: made.rank(X, IDS, ITEMS, k=0),
    "k of a half": lambda made: made.rank(X, IDS, ITEMS, k=0.5),
    "k True": lambda made: made.rank(X, IDS, ITEMS, k=True),
    "a context that is none": lambda made: made.rank(X, IDS, ITEMS, context="me"),
    "a user that is no text": lambda made: made.rank(X, IDS, ITEMS, context=Context(user_id=5)),
    "an empty question": lambda made: made.process(" \n"),
    "a question that is no text": lambda made: made.process(None),
    "a question with a context that is none": lambda made: made.process("a question", "me"),
    "an empty text": lambda made: made.remember(""),
    "an empty id": lambda made: made.remember("text", ""),
    "an id that is no text": lambda made: made.remember("text", 5),
    "k patterns of 0": lambda made: made.find_patterns(X, k=0),
    "a route that is no text": lambda made: made.begin_trajectory(X, model_route=5),
    "a subject that is no text": lambda made: made.begin_trajectory(X, subject=5),
    "a context id that is no text": lambda made: made.begin_trajectory(X, context_ids=[5]),
    "a parameter that cannot be saved": lambda made: made.begin_trajectory(X, parameters={"a": object()}),
    "parameters that are no mapping": lambda made: made.begin_trajectory(X, parameters=["a"]),
    "a trajectory that cannot be saved": lambda made: made.submit_trajectory(
        QueryTrajectory(77, X, parameters={"a": [1]})
    ),
    "no trajectory": lambda made: made.submit_trajectory("trajectory"),
    "a period of 0": lambda made: made.start_background(0.0),
    "a period of NaN": lambda made: made.start_background(NAN),
    "a period in words": lambda made: made.start_background("soon"),
}
FEEDBACK = {
    "no feedback": lambda made: made.feedback(13),
    "quality of 5": lambda made: made.feedback(13, quality=5.0),
    "quality of -1": lambda made: made.feedback(13, quality=-1.0),
    "quality NaN": lambda made: made.feedback(13, quality=NAN),
    "quality in words": lambda made: made.feedback(13, quality="good"),
    "a reward of 2": lambda made: made.feedback(13, rewards={"d0": 2.0}),
    "a reward NaN": lambda made: made.feedback(13, rewards=dict.fromkeys(_shown(made), NAN)),
    "a reward in words": lambda made: made.feedback(13, rewards=dict.fromkeys(_shown(made), "x")),
    "a reward for what was not shown": lambda made: made.feedback(13, rewards={"nothing": 1.0}),
    "rewards that are no mapping": lambda made: made.feedback(13, rewards=[("d0", 1.0)]),
    "a good quality with a bad reward": lambda made: made.feedback(13, quality=1.0, rewards={"nothing": 1.0}),
    "an id in words": lambda made: made.feedback("13", quality=1.0),
    "an id below 0": lambda made: made.feedback(-1, quality=1.0),
}


def _shown(made: SonaEngine) -> list[str]:
    return [step.ref for step in made._intake.served.get(13).trajectory.steps]


@pytest.mark.parametrize("verb", ON_VECTORS)
@pytest.mark.parametrize("bad", BAD_VECTORS)
def test_a_bad_vector_is_one_clear_error_and_changes_nothing(verb, bad):
    made, fresh = trained(), SonaEngine()
    before = digest(made.state())
    with pytest.raises(SonaError) as error:
        ON_VECTORS[verb](made, BAD_VECTORS[bad])
    assert isinstance(error.value, ValueError)
    assert digest(made.state()) == before
    if bad not in ("wrong width", "too deep"):
        before = digest(fresh.state())
        with pytest.raises(SonaError):
            ON_VECTORS[verb](fresh, BAD_VECTORS[bad])
        assert digest(fresh.state()) == before


@pytest.mark.parametrize("case", OTHERS | FEEDBACK)
def test_bad_input_is_one_clear_error_and_changes_nothing(case):
    made = trained()
    before = digest(made.state())
    with pytest.raises(SonaError) as error:
        (OTHERS | FEEDBACK)[case](made)
    assert isinstance(error.value, ValueError)
    assert digest(made.state()) == before


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_refused_decides_no_width(case):
    made = SonaEngine()
    with pytest.raises(SonaError):
        OTHERS[case](made)
    assert made.hidden_dim is None
    assert digest(made.state()) == digest(SonaEngine().state())


def test_an_unknown_id_changes_nothing_but_its_count():
    made = trained()
    before = digest(_without_counts(made.state()))
    with pytest.raises(UnknownTrajectory):
        made.feedback(10_000, quality=1.0)
    assert digest(_without_counts(made.state())) == before
    assert made.metrics().unknown == 1


def test_feedback_after_its_window_is_refused_without_any_tick():
    now = [0.0]
    engine = SonaEngine(SonaConfig(feedback_window_s=60.0), clock=lambda: now[0])
    ranking = engine.rank([1.0, 0.0], ["a", "b"], [[1.0, 0.0], [0.0, 1.0]])
    now[0] = 60.0
    with pytest.raises(UnknownTrajectory):
        engine.feedback(ranking.trajectory_id, quality=1.0)
    assert engine.metrics().unanswered == 1
