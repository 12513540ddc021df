"""Knowledge: memories join the graph as they are indexed, and feedback has its place before it teaches."""

from __future__ import annotations

import numpy as np
import pytest

from sona.config import GraphConfig, GuardConfig, SonaConfig
from sona.engine.events import Answered, Indexed, Judged, Remembered, Serving, Shaped
from sona.engine.knowledge import Knowledge
from sona.engine.words import Words
from sona.errors import InvalidValue, UnknownTrajectory
from sona.guard.holdout import Arm
from sona.memory.recall import Seeds
from sona.types import FeedbackOutcome, QueryTrajectory, TrajectoryStep

D = 3
VECTORS = {"a": [1.0, 0.0, 0.0], "b": [0.9, 0.3, 0.0], "c": [0.0, 0.0, 1.0]}


def made(config: SonaConfig | None = None, embedder=None) -> Knowledge:
    config = config or SonaConfig(guard=GuardConfig(warm_up=0, holdout=0.05))
    knowledge = Knowledge(config, Words(config, embedder), b"key")
    for at, (name, vector) in enumerate(VECTORS.items()):
        knowledge.remember(Remembered(float(at), f"text {name}", name, np.array(vector, np.float32)))
    return knowledge


def indexed(knowledge: Knowledge) -> Knowledge:
    knowledge.index(Indexed(5.0))
    knowledge.shape(Shaped(6.0, D))
    return knowledge


def answer(knowledge: Knowledge, number: int, *names: str, is_held_out: bool = False) -> None:
    steps = tuple(TrajectoryStep(np.array(VECTORS[name], np.float32), ref=name) for name in names)
    request = np.array(VECTORS[names[0]], np.float32)
    trajectory = QueryTrajectory(number, request, steps, alternatives=True)
    serving = Serving(Arm.FROZEN if is_held_out else Arm.LEARNED, 0.9, is_held_out, True, True, len(names))
    seeds = Seeds(names[:1], np.ones(1, np.float32))
    knowledge.answer(Answered(7.0, trajectory, "words", serving, (), True, False, seeds))


def judge(knowledge: Knowledge, number: int, **rewards: float):
    event = Judged(8.0, number, None, rewards)
    return knowledge.learn(event, knowledge.accept(event))


@pytest.mark.parametrize("is_shaped_first", [False, True])
def test_memories_join_the_graph_when_they_have_vectors_and_there_is_a_width(is_shaped_first):
    knowledge = made()
    if is_shaped_first:
        knowledge.shape(Shaped(4.0, D))
        assert len(knowledge.learner.associations.graph) == 0
    assert indexed(knowledge).learner.associations.graph.ids == ("a", "b", "c")
    associations = knowledge.learner.associations
    assert associations.unlinked == ()
    assert [edge.kind.name for edge in associations.graph.edge("a", "b")] == ["SIMILAR"]
    assert associations.graph.edge("a", "c") == ()
    assert associations.links.ids == ("a", "b", "c")


def test_memories_of_another_width_than_what_is_ranked_stay_out_of_the_graph():
    knowledge = made()
    knowledge.shape(Shaped(4.0, D + 1))
    knowledge.index(Indexed(5.0))
    assert len(knowledge.learner.associations.graph) == 0
    assert len(knowledge.memories.vectors) == 3


def test_switched_off_the_graph_knows_and_learns_nothing():
    knowledge = indexed(made(SonaConfig(use_graph=False, guard=GuardConfig(warm_up=0, holdout=0.05))))
    answer(knowledge, 1, "a", "b")
    judge(knowledge, 1, a=1.0, b=1.0)
    assert len(knowledge.learner.associations.graph) == 0
    assert knowledge.learner.associations.links is None


def test_a_memory_that_is_worded_anew_has_its_new_place_in_the_graph():
    knowledge = indexed(made())
    knowledge.remember(Remembered(9.0, "other words", "a", np.array([0.0, 0.1, 1.0], np.float32)))
    graph = knowledge.learner.associations.graph
    assert graph.edge("a", "b") != ()
    knowledge.index(Indexed(10.0))
    assert graph.edge("a", "b") == ()
    assert graph.edge("a", "c") != ()


def test_feedback_is_counted_when_it_is_accepted_and_links_when_it_is_learned():
    knowledge = indexed(made())
    answer(knowledge, 1, "a", "c")
    event = Judged(8.0, 1, None, {"a": 1.0, "c": 1.0})
    accepted = knowledge.accept(event)
    assert knowledge.intake.counts["feedbacks"] == 1
    assert knowledge.learner.associations.graph.edge("a", "c") == ()
    assert knowledge.learn(event, accepted).outcome is FeedbackOutcome.LEARNED
    assert [edge.kind.name for edge in knowledge.learner.associations.graph.edge("a", "c")] == ["TOGETHER"]


def test_the_same_feedback_again_links_nothing_more_and_an_amendment_only_what_it_adds():
    knowledge = indexed(made())
    answer(knowledge, 1, "a", "b", "c")
    judge(knowledge, 1, a=1.0)
    graph = knowledge.learner.associations.graph
    before = graph.edges().weights.copy()
    assert judge(knowledge, 1, a=1.0).outcome is FeedbackOutcome.REPEATED
    np.testing.assert_array_equal(graph.edges().weights, before)
    assert judge(knowledge, 1, c=1.0).outcome is FeedbackOutcome.AMENDED
    assert graph.access_counts.tolist() == [1, 0, 1]


def test_what_is_held_out_teaches_the_graph_nothing():
    knowledge = indexed(made())
    answer(knowledge, 1, "a", "c", is_held_out=True)
    result = judge(knowledge, 1, a=1.0, c=1.0)
    assert result.outcome is FeedbackOutcome.RECORDED
    assert not knowledge.learner.associations.graph.shown_counts.any()
    assert knowledge.judgement.needed == {"a", "c"}


def test_feedback_for_what_was_not_shown_or_not_asked_is_refused_and_counted():
    knowledge = indexed(made())
    answer(knowledge, 1, "a")
    with pytest.raises(InvalidValue):
        knowledge.asker_of(Judged(8.0, 1, None, {"c": 1.0}))
    with pytest.raises(UnknownTrajectory):
        knowledge.accept(Judged(8.0, 99, 1.0))
    assert knowledge.asker_of(Judged(8.0, 99, 1.0)) is None
    assert knowledge.intake.counts["unknown"] == 1


def test_a_full_graph_does_not_stop_feedback_from_being_learned():
    config = SonaConfig(guard=GuardConfig(warm_up=0, holdout=0.05), graph=GraphConfig(capacity=1))
    knowledge = indexed(made(config))
    answer(knowledge, 1, "b", "c")
    assert judge(knowledge, 1, b=1.0).credited == ("b",)
    assert knowledge.learner.associations.graph.ids == ("a",)
    assert knowledge.learner.votes.look_up(np.array(VECTORS["b"], np.float32)).items
