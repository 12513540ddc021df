"""Laws of the engine, over whatever requests, outcomes and orders hypothesis thinks of."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sona.config import PatternConfig, SonaConfig
from sona.engine.core import SonaEngine
from sona.errors import SonaError, UnknownTrajectory
from sona.state import State, digest
from sona.types import FeedbackOutcome, QueryTrajectory, TrajectoryStep

D = 6
COUNT = 8
IDS = tuple(f"d{row}" for row in range(COUNT))
_RNG = np.random.default_rng(0)
ITEMS = _RNG.normal(size=(COUNT, D)).astype(np.float32)
ITEMS.flags.writeable = False
QUERIES = _RNG.normal(size=(6, D)).astype(np.float32)
seeds = st.integers(0, 2**32 - 1)
bad = st.floats(0.0, 0.2998)
good = st.floats(0.75, 1.0, width=16)

pytestmark = pytest.mark.usefixtures("no_time_passes")


def engine(**settings_) -> SonaEngine:
    patterns = PatternConfig(min_cluster_size=2)
    return SonaEngine(SonaConfig(hidden_dim=D, min_trajectories=3, patterns=patterns, **settings_), clock=lambda: 50.0)


def scores(made: SonaEngine, x, ids=IDS, items=ITEMS) -> dict[str, float]:
    ranking = made.rank(x, ids, items, k=len(ids))
    return dict(zip(ranking.ids, ranking.scores, strict=True))


def cosine(a, b) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def without(state: State, *path: str) -> State:
    name, *rest = path
    inner = {key: value for key, value in state.items() if key != name or rest}
    if rest:
        inner[name] = without(state.child(name), *rest)
    return State(inner)


def learned(made: SonaEngine) -> str:
    return digest(made.state().child("machine").child("learner"))


def reloaded(made: SonaEngine, **more) -> SonaEngine:
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder) / "engine")
        return SonaEngine.load(Path(folder) / "engine", clock=lambda: 50.0, **more)


# -- what may happen to an engine ----------------------------------------------------------------------------------

event = st.one_of(
    st.tuples(st.just("click"), st.integers(0, 5), st.integers(0, COUNT - 1), st.floats(0.0, 1.0, width=16)),
    st.tuples(st.just("quality"), st.integers(0, 5), st.floats(0.0, 1.0, width=16)),
    st.tuples(st.just("sequence"), st.integers(0, 5), st.integers(0, COUNT - 1), st.floats(0.0, 1.0, width=16)),
    st.tuples(st.just("serve"), st.integers(0, 5)),
    st.tuples(st.just("learn")),
    st.tuples(st.just("tick")),
    st.tuples(st.just("patterns"), st.integers(0, 5)),
)
events = st.lists(event, max_size=14)


def live(made: SonaEngine, happenings) -> list[bytes]:
    """Let it all happen, and return everything that was answered."""
    answers = []
    for name, *details in happenings:
        if name in ("click", "quality", "serve"):
            ranking = made.rank(QUERIES[details[0]], IDS, ITEMS, k=COUNT)
            answers.append(repr((ranking.trajectory_id, ranking.ids, ranking.scores)).encode())
            if name == "click":
                made.feedback(ranking.trajectory_id, rewards={IDS[details[1]]: details[2]})
            elif name == "quality":
                made.feedback(ranking.trajectory_id, quality=details[1])
        elif name == "sequence":
            builder = made.begin_trajectory(QUERIES[details[0]])
            builder.add_step(ITEMS[details[1]], reward=details[2], ref=IDS[details[1]])
            answers.append(repr(made.end_trajectory(builder, details[2])).encode())
        elif name == "patterns":
            answers.append(
                repr([(m.pattern.id, m.similarity) for m in made.find_patterns(QUERIES[details[0]])]).encode()
            )
        else:
            answers.append(repr(made.background_learn(force=True) if name == "learn" else made.tick()).encode())
    answers.append(made.adapt(QUERIES).tobytes())
    return answers


# -- an untrained engine changes nothing -----------------------------------------------------------------------------


@given(seeds, st.integers(1, 24), st.integers(1, 12))
def test_an_untrained_engine_returns_every_vector_exactly(seed, width, count):
    made = SonaEngine(SonaConfig())
    x = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    assert made.adapt(x).tobytes() == x.tobytes()
    assert made.adapt(x[0]).tobytes() == x[0].tobytes()


@given(seeds, st.integers(1, 24), st.integers(1, 30), st.integers(1, 40))
def test_an_untrained_engine_ranks_by_the_cosine(seed, width, count, k):
    rng = np.random.default_rng(seed)
    made = SonaEngine(SonaConfig())
    x, items = rng.normal(size=width), rng.normal(size=(count, width)) * rng.uniform(0.1, 10.0, (count, 1))
    ids = [f"d{row}" for row in range(count)]
    ranking = made.rank(x, ids, items, k=k)
    wanted = {name: cosine(x, item) for name, item in zip(ids, items, strict=True)}
    assert len(ranking.ids) == min(k, count)
    np.testing.assert_allclose(ranking.scores, sorted(wanted.values(), reverse=True)[:k], atol=1e-5)
    np.testing.assert_allclose(ranking.scores, [wanted[name] for name in ranking.ids], atol=1e-5)


# -- one feedback moves the next answer the right way ----------------------------------------------------------------


@given(seeds, st.integers(2, 16), st.integers(0, 9), good)
def test_one_reward_lifts_its_item_over_the_others_shown(seed, width, place, reward):
    rng = np.random.default_rng(seed)
    made = SonaEngine(SonaConfig())
    x, items = rng.normal(size=width), rng.normal(size=(10, width))
    ids = [f"d{row}" for row in range(10)]
    before = scores(made, x, ids, items)
    ranking = made.rank(x, ids, items, k=10)
    taken = ranking.ids[place]
    made.feedback(ranking.trajectory_id, rewards={taken: reward})
    after = scores(made, x, ids, items)
    assert after[taken] > before[taken]
    assert all(after[item] <= before[item] for item in ids if item != taken)
    assert list(after).index(taken) <= place


@given(seeds, st.integers(2, 16), st.sampled_from([0.0, 0.1, 0.9, 1.0]), st.booleans())
def test_one_outcome_of_a_trajectory_moves_the_adapted_request_the_right_way(seed, width, quality, as_reward):
    rng = np.random.default_rng(seed)
    made = SonaEngine(SonaConfig(hidden_dim=width))
    x, tried = rng.normal(size=(2, width))
    assume(abs(cosine(x, tried)) < 0.99)
    builder = made.begin_trajectory(x)
    builder.add_step(tried, reward=quality if as_reward else None)
    made.end_trajectory(builder, None if as_reward else quality)
    moved = np.dot(made.adapt(x) - x.astype(np.float32), tried)
    assert moved > 0.0 if quality > 0.5 else moved < 0.0


@pytest.mark.parametrize("quality", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("question", ["reset my password", "is the invoice paid", "refund for the card"])
def test_one_quality_moves_the_next_answer_to_the_same_question(question, quality):
    made = SonaEngine(SonaConfig(hidden_dim=16))
    for name, text in (("a", "how to reset a password"), ("b", "pay the invoice"), ("c", "refund to the card")):
        made.remember(text, name)
    first = made.process(question)
    answer = first.sources[0]
    made.feedback(first.trajectory_id, quality=quality)
    again = {source.id: source.score for source in made.process(question).sources}.get(answer.id, -1.0)
    assert again > answer.score if quality > 0.5 else again < answer.score


# -- a bad outcome never reinforces ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(events, st.integers(0, 5), bad, st.booleans())
def test_a_bad_outcome_never_lifts_what_it_judged(happenings, query, outcome, as_reward):
    made = engine()
    live(made, happenings)
    ranking = made.rank(QUERIES[query], IDS, ITEMS, k=COUNT)
    judged = ranking.ids[0]
    before = scores(made, QUERIES[query])
    made.feedback(ranking.trajectory_id, **({"rewards": {judged: outcome}} if as_reward else {"quality": outcome}))
    after = scores(made, QUERIES[query])
    assert after[judged] <= before[judged] + 1e-6
    assert max(after.values()) <= max(before.values()) + 1e-6


@settings(deadline=None)
@given(events, st.integers(0, 5), st.integers(0, COUNT - 1), bad)
def test_a_bad_sequence_never_pulls_the_request_towards_what_was_tried(happenings, query, item, outcome):
    made = engine()
    live(made, happenings)
    x, tried = QUERIES[query], ITEMS[item]
    before = float(np.dot(made.adapt(x), tried))
    builder = made.begin_trajectory(x)
    builder.add_step(tried, reward=outcome)
    made.end_trajectory(builder)
    assert float(np.dot(made.adapt(x), tried)) <= before + 1e-4 * np.linalg.norm(tried)


# -- what is learned depends on the events alone ---------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(events)
def test_the_same_events_give_the_same_answers_and_the_same_state(happenings):
    one, other = engine(), engine()
    assert live(one, happenings) == live(other, happenings)
    assert digest(one.state()) == digest(other.state())


@settings(deadline=None, max_examples=50)
@given(events, events)
def test_a_reloaded_engine_goes_on_bit_for_bit(before, after):
    made = engine()
    live(made, before)
    again = reloaded(made)
    assert digest(again.state()) == digest(made.state())
    assert again.metrics() == made.metrics()
    assert live(again, after) == live(made, after)
    assert digest(again.state()) == digest(made.state())


@settings(deadline=None, max_examples=30)
@given(events)
def test_reading_teaches_nothing(happenings):
    made = engine()
    live(made, happenings)
    before = learned(made)
    for x in QUERIES:
        made.adapt(x)
        made.rank(x, IDS, ITEMS)
        made.metrics()
    assert learned(made) == before


# -- once, and the last word ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, COUNT - 1)), min_size=1, max_size=6), st.data())
def test_learning_twice_from_one_id_counts_once(clicks, data):
    once, often = engine(), engine()
    for query, item in clicks:
        for made in (once, often):
            ranking = made.rank(QUERIES[query], IDS, ITEMS, k=COUNT)
            made.feedback(ranking.trajectory_id, rewards={IDS[item]: 1.0})
        for _ in range(data.draw(st.integers(0, 2))):
            number = data.draw(st.integers(1, often._intake.ids.last))
            clicked = clicks[number - 1][1]
            assert often.feedback(number, rewards={IDS[clicked]: 1.0}).outcome is FeedbackOutcome.REPEATED
            brought = QueryTrajectory(number, QUERIES[0], (TrajectoryStep(ITEMS[0], reward=1.0, ref="d0"),))
            assert not often.submit_trajectory(brought).recorded
    for made in (once, often):
        made.background_learn(force=True)
    left, right = (made.state().child("machine").child("intake") for made in (once, often))
    assert digest(without(left, "counts")) == digest(without(right, "counts"))
    assert learned(once) == learned(often)


word = st.dictionaries(st.integers(0, COUNT - 1), st.sampled_from([0.0, 0.5, 1.0]), min_size=COUNT, max_size=COUNT)


@settings(deadline=None, max_examples=50)
@given(st.lists(word, min_size=2, max_size=4), st.booleans())
def test_amended_feedback_ends_where_the_last_word_alone_would_have(said, cycles_between):
    amended, alone = engine(), engine()
    for made, heard in ((amended, said), (alone, said[-1:])):
        other = made.rank(QUERIES[1], IDS, ITEMS, k=COUNT)
        made.feedback(other.trajectory_id, rewards={IDS[0]: 1.0})
        ranking = made.rank(QUERIES[0], IDS, ITEMS, k=COUNT)
        for rewards in heard:
            made.feedback(ranking.trajectory_id, rewards={IDS[row]: reward for row, reward in rewards.items()})
            if cycles_between:
                made.background_learn(force=True)
        made.background_learn(force=True)
    one, two = amended._learner, alone._learner
    x = QUERIES[0] / np.linalg.norm(QUERIES[0])
    np.testing.assert_allclose(one.votes.look_up(x).rows(IDS)[0], two.votes.look_up(x).rows(IDS)[0], atol=1e-6)
    np.testing.assert_allclose(one.base.delta(0, QUERIES), two.base.delta(0, QUERIES), atol=1e-5)
    assert one.loops.background.statistics.count == two.loops.background.statistics.count
    for left, right in zip(one.bank.patterns, two.bank.patterns, strict=True):
        assert left.avg_quality == pytest.approx(right.avg_quality)
        assert left.cluster_size == right.cluster_size
    assert len(one.votes) == len(two.votes) == 2


def test_amended_feedback_ranks_as_the_last_word_alone_would_have():
    rng = np.random.default_rng(0)
    items, ids = rng.normal(size=(10, D)), [f"d{row}" for row in range(10)]
    past = [items[row % 5] + 0.3 * rng.normal(size=D) for row in range(20)]
    asked = items[7] + 0.2
    left = []
    for words in ([9, 0], [0]):
        made = engine(use_micro=False)
        for number, x in enumerate(past):
            ranking = made.rank(x, ids, items)
            made.feedback(ranking.trajectory_id, rewards={ranking.ids[number % 2]: 1.0})
        ranking = made.rank(asked, ids, items)
        for place in words:
            made.feedback(ranking.trajectory_id, rewards={i: float(i == ranking.ids[place]) for i in ranking.ids})
        left.append(scores(made, asked, ids, items))
    assert left[0] == pytest.approx(left[1], abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_the_same_data_five_times_give_the_same_patterns_once(seed):
    rng = np.random.default_rng(seed)
    centres = np.eye(D)[:3]
    given_ = [
        QueryTrajectory(n + 1, centres[n % 3] + 0.05 * rng.normal(size=D), (TrajectoryStep(ITEMS[n % 8]),), 0.9)
        for n in range(18)
    ]
    made = engine()
    for cycle in range(5):
        for trajectory in given_:
            assert made.submit_trajectory(trajectory).recorded == (cycle == 0)
        made.background_learn(force=True)
        if cycle == 0:
            first = learned(made)
    assert learned(made) == first
    assert made.metrics().patterns == 3
    assert made.metrics().learned == 18


# -- no reward, no lesson --------------------------------------------------------------------------------------------


def reciprocal_ranks(made: SonaEngine, queries, targets, ids, items) -> np.ndarray:
    return np.array(
        [1.0 / (1 + made.rank(x, ids, items, k=len(ids)).ids.index(t)) for x, t in zip(queries, targets, strict=True)]
    )


@pytest.mark.parametrize("seed", range(2))
def test_shuffled_rewards_teach_nothing_beyond_noise_and_true_ones_do(seed):
    rng = np.random.default_rng(seed)
    width, count = 12, 30
    items = rng.normal(size=(count, width)).astype(np.float32)
    items.flags.writeable = False
    ids = tuple(f"d{row}" for row in range(count))
    turn = np.linalg.qr(np.eye(width) + 0.35 * rng.normal(size=(width, width)))[0]

    def ask(number):
        target = rng.integers(0, count, number)
        return (items[target] + 0.5 * rng.normal(size=(number, width))) @ turn, [ids[t] for t in target]

    stream, held_out = ask(240), ask(150)
    shuffled = [stream[1][i] for i in rng.permutation(240)]
    config = SonaConfig(hidden_dim=width, min_trajectories=1)
    learned = {}
    for name, taken in (("frozen", None), ("true", stream[1]), ("shuffled", shuffled)):
        made = SonaEngine(config, clock=lambda: 0.0)
        for step, x in enumerate(stream[0]):
            ranking = made.rank(x, ids, items, k=count)
            if taken is not None:
                made.feedback(ranking.trajectory_id, rewards={taken[step]: 1.0})
            if step % 80 == 79:
                made.background_learn(force=True)
        learned[name] = reciprocal_ranks(made, *held_out, ids, items)
    true, noise = (learned[name] - learned["frozen"] for name in ("true", "shuffled"))
    error = float(noise.std(ddof=1) / np.sqrt(len(noise)))
    assert abs(noise.mean()) < 3.0 * error + 0.01
    assert true.mean() > 0.05
    assert true.mean() > noise.mean() + 0.05


# -- counters, and nothing lost --------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """An engine beside a count of everything that was done to it; restarts are part of its life."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.made = self.new()
        self.count = dict.fromkeys(
            ("requests", "feedbacks", "amended", "repeated", "unknown", "memories", "open", "expired", "unanswered"), 0
        )
        self.waiting_for_word: dict[int, tuple[str, ...]] = {}
        self.told: dict[int, dict[str, float]] = {}
        self.builders = []
        self.brought: list[int] = []
        self.texts: set[str] = set()
        self.recorded = 0

    def clock(self) -> float:
        return self.now

    def new(self) -> SonaEngine:
        config = SonaConfig(hidden_dim=D, min_trajectories=4, background_interval_s=5.0, trajectory_ttl_s=20.0)
        return SonaEngine(config, clock=self.clock)

    @rule(query=st.integers(0, 5))
    def serve(self, query):
        ranking = self.made.rank(QUERIES[query], IDS, ITEMS, k=3)
        self.waiting_for_word[ranking.trajectory_id] = ranking.ids
        self.count["requests"] += 1

    @precondition(lambda self: self.waiting_for_word)
    @rule(data=st.data(), reward=st.sampled_from([0.0, 1.0]))
    def answer(self, data, reward):
        number = data.draw(st.sampled_from(sorted(self.waiting_for_word)))
        item = self.waiting_for_word.pop(number)[0]
        assert self.made.feedback(number, rewards={item: reward}).outcome is FeedbackOutcome.LEARNED
        self.told[number] = {item: reward}
        self.count["feedbacks"] += 1
        self.recorded += 1

    @precondition(lambda self: self.told)
    @rule(data=st.data(), reward=st.sampled_from([0.0, 1.0]))
    def answer_again(self, data, reward):
        number = data.draw(st.sampled_from(sorted(self.told)))
        item = next(iter(self.told[number]))
        is_new = self.told[number][item] != reward
        outcome = self.made.feedback(number, rewards={item: reward}).outcome
        assert outcome is (FeedbackOutcome.AMENDED if is_new else FeedbackOutcome.REPEATED)
        self.told[number] = {item: reward}
        self.count["amended" if is_new else "repeated"] += 1
        self.recorded += is_new

    @rule()
    def answer_nobody(self):
        with pytest.raises(UnknownTrajectory):
            self.made.feedback(10**9, quality=1.0)
        self.count["unknown"] += 1

    @rule(query=st.integers(0, 5), what=st.sampled_from(["k", "vector", "text"]))
    def do_it_wrong(self, query, what):
        wrong = {
            "k": lambda: self.made.rank(QUERIES[query], IDS, ITEMS, k=0),
            "vector": lambda: self.made.begin_trajectory(QUERIES[query][:2]),
            "text": lambda: self.made.remember(" "),
        }
        with pytest.raises(SonaError):
            wrong[what]()

    @rule(query=st.integers(0, 5))
    def begin(self, query):
        self.builders.append((self.made.begin_trajectory(QUERIES[query]), self.now))
        self.count["open"] += 1

    @precondition(lambda self: self.builders)
    @rule(quality=st.sampled_from([None, 0.0, 1.0]))
    def end(self, quality):
        builder, _ = self.builders.pop()
        self.made.end_trajectory(builder, quality)
        self.count["open"] -= 1
        self.count["requests"] += 1
        self.recorded += 1

    @rule(query=st.integers(0, 5))
    def submit(self, query):
        number = self.made._intake.ids.last + 3
        assert self.submitted(number, query).recorded
        self.brought.append(number)
        self.count["requests"] += 1
        self.recorded += 1

    @precondition(lambda self: self.brought)
    @rule(data=st.data())
    def submit_again(self, data):
        assert not self.submitted(data.draw(st.sampled_from(self.brought)), 0).recorded
        self.count["repeated"] += 1

    def submitted(self, number, query):
        return self.made.submit_trajectory(QueryTrajectory(number, QUERIES[query], (TrajectoryStep(ITEMS[0]),), 1.0))

    @rule(text=st.sampled_from(["a", "b", "c"]))
    def remember(self, text):
        self.made.remember(text, vector=np.ones(D))
        self.texts.add(text)
        self.count["memories"] = len(self.texts)

    @rule(seconds=st.sampled_from([0.5, 3.0, 21.0]))
    def pass_time(self, seconds):
        self.now += seconds
        self.made.tick()
        old = [pair for pair in self.builders if self.now - pair[1] > 20.0]
        self.builders = [pair for pair in self.builders if pair not in old]
        self.count["open"] -= len(old)
        self.count["expired"] += len(old)

    @rule(force=st.booleans())
    def learn(self, force):
        self.made.background_learn(force=force)

    @rule()
    def restart(self):
        with tempfile.TemporaryDirectory() as folder:
            self.made.save(Path(folder) / "engine")
            self.made = SonaEngine.load(Path(folder) / "engine", clock=self.clock)
        self.count["expired"] += self.count["open"]
        self.count["open"] = 0
        self.builders = []

    @invariant()
    def counters_tell_the_truth(self):
        metrics, count = self.made.metrics(), self.count
        for name in ("requests", "feedbacks", "amended", "repeated", "unknown", "memories", "expired", "unanswered"):
            assert getattr(metrics, name) == count[name], name
        assert metrics.open_trajectories == count["open"]
        assert metrics.awaiting_feedback == len(self.waiting_for_word)
        assert metrics.instant.recorded == self.recorded
        assert metrics.instant.pushes + metrics.instant.silent == self.recorded
        assert metrics.instant.dropped == metrics.instant.rejected == 0

    @invariant()
    def no_trajectory_is_ever_thrown_away(self):
        metrics = self.made.metrics()
        assert metrics.learned + metrics.waiting == self.recorded


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
