"""Laws of the log: the state follows from it bit for bit, and who is forgotten was never there."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sona import Context, GuardConfig, InvalidValue, SonaConfig, SonaEngine, SonaError
from sona.config import ConsolidationConfig, DeepConfig, DreamConfig, PhiConfig
from sona.engine.journal import replay
from sona.state import digest
from sona.stores.memory import MemoryStore
from sona.stores.sqlite import SqliteStore

D, ITEMS = 6, 9
IDS = tuple(f"item{number}" for number in range(ITEMS))
VECTORS = np.random.default_rng(1).normal(size=(ITEMS, D)).astype(np.float32)
VECTORS.flags.writeable = False
REQUESTS = np.random.default_rng(2).normal(size=(7, D)).astype(np.float32)
WORDS = ("reset the password", "pay an invoice", "close my account", "track a parcel", "change the address")
STAGES = ("link", "dream", "compare", "consolidate", "abstract", "measure")
CONFIG = SonaConfig(
    min_trajectories=3,
    guard=GuardConfig(warm_up=3, holdout=0.2, key="k"),
    feedback_window_s=500.0,
    served_capacity=12,
    consolidation=ConsolidationConfig(merge_words=0.3, prune=True, min_value=0.4, max_loss=0.9, half_life_s=100.0),
    deep=DeepConfig(min_memories=2, dreams=11),
    dreams=DreamConfig(path_length=4),
    phi=PhiConfig(samples=2, sample_nodes=4),
)


pytestmark = pytest.mark.usefixtures("no_time_passes")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1.0
        return self.now


@dataclass
class Session:
    """An engine driven by plain steps, such as hypothesis draws."""

    engine: SonaEngine
    asked: list[tuple[int, str | None, tuple[str, ...]]] = field(default_factory=list)

    def do(self, step):
        kind, who, a, b = step
        with contextlib.suppress(InvalidValue):
            getattr(self, kind)(who, a, b)

    def rank(self, who, a, b):
        ranking = self.engine.rank(REQUESTS[a % 7], IDS, VECTORS, 4, context=Context(who))
        self.asked.append((ranking.trajectory_id, who, ranking.ids))

    def ask(self, who, a, b):
        if not self.engine.memory_count or self.engine.hidden_dim != D:
            return
        response = self.engine.process(WORDS[a % 5], Context(who), vector=REQUESTS[a % 7])
        self.asked.append((response.trajectory_id, who, tuple(source.id for source in response.sources)))

    def remember(self, who, a, b):
        self.engine.remember(f"{WORDS[a % 5]} {b % 3}", f"{who}-{b % 4}", vector=VECTORS[a % ITEMS], subject=who)

    def judge(self, who, a, b):
        if self.asked:
            number, _, ids = self.asked[a % len(self.asked)]
            self.engine.feedback(number, rewards={ids[b % len(ids)]: 1.0 - (a % 3) / 2} if ids else {})

    def grade(self, who, a, b):
        if self.asked:
            self.engine.feedback(self.asked[a % len(self.asked)][0], quality=(b % 5) / 4)

    def wrong(self, who, a, b):
        self.engine.feedback(10_000 + a, quality=1.0)

    def submit(self, who, a, b):
        with self.engine.begin_trajectory(REQUESTS[a % 7], subject=who) as builder:
            builder.add_step(VECTORS[b % ITEMS], reward=(a % 5) / 4, ref=IDS[b % ITEMS])
            if b % 4 == 0:
                raise InvalidValue("given up")

    def begin(self, who, a, b):
        self.engine.begin_trajectory(REQUESTS[a % 7], subject=who)

    def learn(self, who, a, b):
        self.engine.background_learn(force=True)

    def deep(self, who, a, b):
        # Some cycles end after one unit of work, and the next goes on; some do but a part of it.
        stages = STAGES if a % 3 else STAGES[b % 6 : b % 6 + 3]
        self.engine.deep_learn(force=True, time_limit_s=1e-9 if b % 2 else None, stages=stages)

    def look(self, who, a, b):
        self.engine.find_patterns(REQUESTS[a % 7], 2)

    def tick(self, who, a, b):
        self.engine._clock.now += a * 40.0
        self.engine.tick()

    def mode(self, who, a, b):
        self.engine.set_mode(("on", "shadow", "canary", "on", "off")[a % 5])

    def back(self, who, a, b):
        versions = [0, *(version.id for version in self.engine.versions())]
        self.engine.rollback(versions[a % len(versions)])


KINDS = ("rank", "rank", "rank", "judge", "judge", "judge", "grade", "ask", "remember", "submit", "begin")
RARE = ("learn", "deep", "deep", "look", "tick", "mode", "back", "wrong")
people = st.sampled_from([None, "ann", "bob", "eve"])
number = st.integers(0, 40)
steps = st.lists(
    st.tuples(st.one_of(st.sampled_from(KINDS), st.sampled_from(RARE)), people, number, number), min_size=1, max_size=60
)


def made(store=None, config=CONFIG):
    return Session(SonaEngine(config, clock=Clock(), store=store))


def decided(engine):
    """Everything that decides answers, without counters and ids."""
    known = engine._learner
    return None if known is None else digest(known.checkpoint().state())


# Steps around the memories: they are remembered, asked for, merged, removed, remembered again.
about_memories = st.lists(
    st.tuples(
        st.sampled_from(("remember", "remember", "ask", "judge", "deep", "rank", "tick")), people, number, number
    ),
    min_size=8,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps | about_memories)
def test_a_replay_of_the_log_gives_the_state_bit_for_bit(script):
    session = made(MemoryStore())
    for step in script:
        session.do(step)
    told = session.engine.replay()
    assert told.is_equal, f"{told.events} events"


@settings(max_examples=25, deadline=None)
@given(steps | about_memories, steps | about_memories)
def test_the_same_steps_on_a_file_and_in_memory_give_the_same_state_also_when_opened_again(tmp_path_factory, one, two):
    path = tmp_path_factory.mktemp("log") / "file.db"
    memory, file = made(MemoryStore()), made(SqliteStore(path))
    for step in one:
        memory.do(step)
        file.do(step)
    file.engine.close()
    again = Session(SonaEngine(None, clock=file.engine._clock, store=SqliteStore(path)), file.asked)
    memory.engine.flush()  # as closing does
    memory.engine._tidy_up()  # what ends with a process ends with this one too
    for step in two:
        memory.do(step)
        again.do(step)
    assert digest(memory.engine.state()) == digest(again.engine.state())
    assert again.engine.replay().is_equal
    again.engine.close()


@settings(max_examples=40, deadline=None)
@given(steps | about_memories)
def test_who_is_forgotten_was_never_there(script):
    store = MemoryStore()
    session = made(store)
    for step in script:
        session.do(step)
    entries = list(store.events())
    session.engine.forget("eve")
    assert session.engine.replay().is_equal
    hers = {entry.trajectory_id for entry in entries if entry.subject == "eve"} - {None}
    assert all(entry.subject != "eve" and entry.trajectory_id not in hers for entry in store.events())
    assert not [name for name in session.engine._memories.row_of if name.startswith("eve")]
    if session.engine._learner is not None:
        graph = session.engine._learner.associations.graph
        known = {*graph.ids, *(source for name in graph.ids for source in graph.provenance(name))}
        assert not [name for name in known if name.startswith("eve")]
    if any(entry.kind == "remembered" for entry in entries):
        return
    # The oracle where no memory is involved: the same log, filtered here without the code under test.
    left = MemoryStore()
    for entry in entries:
        if entry.trajectory_id not in hers:
            left.append(entry.seq, lambda entry=entry: entry, is_acknowledged=True)
    never = SonaEngine(CONFIG, clock=Clock())
    replay(never._machine, left)
    assert decided(never) == decided(session.engine)
    assert never.metrics().past_requests == session.engine.metrics().past_requests


def test_who_is_forgotten_leaves_the_answers_of_those_who_were_alone():
    def live(people, store=None):
        session = made(store, SonaConfig(guard=GuardConfig(mode="shadow", influence=1.0), min_trajectories=3))
        for round_, (a, who) in enumerate(itertools.product(range(7), people)):
            where = slice(0, 3) if who == "ann" else slice(3, 6)
            x = np.zeros(D, np.float32)
            x[where] = REQUESTS[a][where]
            items = np.zeros_like(VECTORS)
            items[:, where] = VECTORS[:, where]
            ranking = session.engine.rank(x, tuple(f"{who}-{i}" for i in IDS), items, 4, context=Context(who))
            session.engine.feedback(ranking.trajectory_id, rewards={ranking.ids[(round_ // len(people)) % 4]: 1.0})
        session.engine.background_learn(force=True)
        return session.engine

    both, alone = live(("ann", "eve"), MemoryStore()), live(("ann",), MemoryStore())
    for engine in (both, alone):
        engine.set_mode("on")
    probe = np.random.default_rng(5).normal(size=(4, D)).astype(np.float32)
    assert not np.array_equal(both.adapt(probe), alone.adapt(probe))
    forgotten = both.forget("eve")
    assert (forgotten.requests, forgotten.feedbacks, forgotten.memories) == (7, 7, 0)
    assert np.array_equal(both.adapt(probe), alone.adapt(probe))
    assert both._learner.bank.pattern_count == alone._learner.bank.pattern_count
    for x in probe:
        one, other = (made._learner.votes.look_up(x) for made in (both, alone))
        assert one.items == other.items
        assert np.array_equal(one.taken, other.taken)


def test_memories_of_who_is_forgotten_leave_the_answers_of_others():
    pytest.importorskip("sklearn")
    session = made(MemoryStore(), SonaConfig(hidden_dim=4))
    engine = session.engine
    for text, owner in zip(WORDS, (None, "eve", None, "eve", None), strict=True):
        engine.remember(text, subject=owner)
    first = engine.process("pay the invoice or close the account, and the parcel", Context("ann"))
    assert {"m2", "m4"} & {source.id for source in first.sources}
    engine.feedback(first.trajectory_id, rewards={first.sources[0].id: 1.0})
    forgotten = engine.forget("eve")
    assert (forgotten.memories, forgotten.amended > 0) == (2, True)
    assert engine.memory_count == 3
    assert engine.replay().is_equal
    again = engine.process("pay the invoice or close the account, and the parcel", Context("ann"))
    assert not {"m2", "m4"} & {source.id for source in again.sources}


def test_without_a_log_nothing_can_be_forgotten_or_rebuilt():
    engine = SonaEngine()
    for verb in (engine.replay, lambda: engine.forget("eve")):
        with pytest.raises(SonaError, match="needs the log"):
            verb()


def test_feedback_twice_is_feedback_once_in_every_part():
    one, two = made(MemoryStore()), made(MemoryStore())
    for session, times in ((one, 1), (two, 2)):
        for a in range(10):
            session.rank("ann", a, 0)
            for _ in range(times):
                session.judge("ann", len(session.asked) - 1, a)
    assert decided(one.engine) == decided(two.engine)
