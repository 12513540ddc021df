"""The machine: everything an engine knows, as it follows from the events that happened, one after the other.

It has no clock, no disk and no threads, and chance only by seed: the same events give the same state, bit for bit.
What is served, learned, rolled back or forgotten goes through here, live and when a log is replayed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from sona.checks import Floats
from sona.config import SonaConfig
from sona.engine.events import (
    Answered,
    Begun,
    CycleBegun,
    CycleEnded,
    CycleFailed,
    Decided,
    Dropped,
    Event,
    Flushed,
    Indexed,
    Judged,
    ModeSet,
    Noted,
    Reembedded,
    Remembered,
    RolledBack,
    Shaped,
    Submitted,
    Ticked,
    Touched,
)
from sona.engine.intake import Intake, amended, require_shown
from sona.engine.judgement import Judgement, unit_of
from sona.engine.learner import Learner
from sona.engine.memories import Memories
from sona.engine.served import Accepted, Served
from sona.engine.versions import Versions
from sona.engine.words import Prepared, Words
from sona.errors import InvalidValue, SonaError, StateError, StoreError, UnknownTrajectory
from sona.guard.guard import Guard
from sona.guard.rehearsal import Rehearsal
from sona.loops.background import BackgroundChange, BackgroundResult
from sona.loops.cycle import Cycle
from sona.loops.instant import InstantResult
from sona.state import State
from sona.text.embed import LsaEmbedder
from sona.types import FeedbackOutcome, FeedbackResult, QueryTrajectory

_HELD_OUT = 500  # lists that are never learned from, kept to judge what Loop B proposes


class Machine:
    """Everything an engine knows; changed by events alone.

    Whoever calls takes turns. Events that end a request (`answer`) may come while another one is being learned
    from: they touch nothing that learning reads.
    """

    def __init__(self, config: SonaConfig, words: Words, key: bytes) -> None:
        """Know nothing.

        Args:
            config: Every setting.
            words: Embedder and responder.
            key: Secret of the assignment to arms.
        """
        self.config = config
        self.words, self.key = words, key
        self.began_built_in = words.is_built_in
        self.successor: Words | None = None  # takes over where the log says that another embedder did
        self.memories = Memories()
        self.intake = Intake(config)
        self.judgement = Judgement(Guard(config.guard, key), config.guard.alpha)
        self.learner = None if config.hidden_dim is None else Learner(config.hidden_dim, config)
        self.cycle: Cycle | None = None
        self._touched: deque[Touched] = deque()

    @property
    def guard(self) -> Guard:
        """What limits what learning may cost."""
        return self.judgement.guard

    @property
    def versions(self) -> Versions:
        """The versions committed so far."""
        return self.judgement.versions

    # -- one event after the other ---------------------------------------------------------------------------------

    def replay(self, events: Iterable[tuple[int, Event]]) -> int:
        """Let events happen one after the other, each with its position in the log; return how many did."""
        count = 0
        for seq, event in events:
            self.apply(event, seq)
            count += 1
        self.versions.told()
        return count

    def apply(self, event: Event, seq: int = 0) -> None:
        """Let an event happen as it did before; what was refused then, or has nothing to work on any more, is refused.

        Args:
            event: What happened.
            seq: Its position in the log.
        """
        try:
            self._apply(event, seq)
        except SonaError:
            if not isinstance(event, Judged | Submitted | CycleBegun | CycleEnded | RolledBack):
                raise

    def _apply(self, event: Event, seq: int) -> None:  # noqa: C901, PLR0912 - one line per event is what it is
        match event:
            case Shaped():
                self.shape(event)
            case Remembered():
                self.remember(event)
            case Indexed():
                self.index(event)
            case Answered():
                self.answer(event)
            case Judged():
                self.learn(event, self.accept(event))
            case Begun():
                self.intake.begin(event.trajectory_id, event.at)
            case Dropped():
                self.drop(event)
            case Submitted():
                self.submit(event)
            case Touched():
                self._touched.append(event)
            case Flushed():
                self.flush()
            case Ticked():
                self.tick(event)
            case CycleBegun():
                self.begin_cycle(event)
            case CycleEnded():
                self.end_cycle(event, seq)
            case CycleFailed():
                self.cycle = None
            case ModeSet():
                self.guard.set_mode(event.mode)
            case RolledBack():
                self.roll_back(event)
            case Reembedded():
                self.reembed(event)
            case Noted():
                self.intake.ids.advance(event.last_id)
            case Decided():
                pass

    def settle(self) -> None:
        """Count the accesses of patterns that requests left behind."""
        while self._touched and self.learner is not None:
            event = self._touched.popleft()
            self.learner.bank.touch(event.patterns, now=event.at)

    # -- words and requests ----------------------------------------------------------------------------------------

    def shape(self, event: Shaped) -> None:
        """Decide the width of embeddings."""
        if self.learner is None:
            self.learner = Learner(event.width, self.config)

    def remember(self, event: Remembered) -> str:
        """Keep a text."""
        return self.memories.add(event.text, event.id, event.vector)

    def prepare_index(self, vectors: Floats | None = None) -> Prepared:
        """Return what indexing the waiting memories makes of them; nothing changes before `index`."""
        return self.words.prepare(self.memories, vectors)

    def index(self, event: Indexed, prepared: Prepared | None = None) -> int:
        """Give waiting memories their vectors; return how many were embedded."""
        done = prepared or self.prepare_index(event.vectors)
        self.words.embedder = done.embedder
        self.memories.publish(done.vectors)
        if done.is_refit and self.learner is not None:
            self.learner.votes.re_embed(done.embedder.embed)
        return done.count

    def answer(self, event: Answered) -> None:
        """Hold an answered request until its feedback comes."""
        self.intake.hold(Served(event.trajectory, event.text, event.at, event.serving))
        self.guard.served(event.serving.arm, is_compared=event.serving.is_compared)
        if event.touched:
            self._touched.append(Touched(event.at, event.touched))

    def drop(self, event: Dropped) -> None:
        """Give up trajectories that were begun by hand."""
        for trajectory_id in event.trajectory_ids:
            self.intake.drop(trajectory_id, is_expired=event.is_expired)

    # -- feedback --------------------------------------------------------------------------------------------------

    def accept(self, event: Judged) -> Accepted:
        """Give feedback its place: what it says is known from here on, and what it teaches is for `learn`.

        Raises:
            UnknownTrajectory: its request is not held; counted.
            InvalidValue: it names what was not shown.
        """
        self.intake.expire(event.at)
        try:
            served = self.intake.find(event.trajectory_id, event.at)
        except InvalidValue:
            self.intake.counts["unknown"] += 1
            raise
        outcome = self._outcome(event, served)
        if outcome is None:
            self.intake.counts["repeated"] += 1
            return Accepted(served, None)
        why_not = self._why_not(served)
        known = replace(outcome, supersedes=None)
        self.intake.served.renew(replace(served, outcome=known, is_learned=why_not is None))
        self.intake.counts["feedbacks" if served.outcome is None else "amended"] += 1
        return Accepted(served, outcome, why_not)

    def _outcome(self, event: Judged, served: Served) -> QueryTrajectory | None:
        return None if self.intake.is_submitted(event.trajectory_id) else amended(served, event.rewards, event.quality)

    def asker_of(self, event: Judged) -> str | None:
        """Return who asked what this feedback is for; None when nobody knows.

        Raises:
            InvalidValue: the feedback names what was not shown; it is not for the log.
        """
        try:
            served = self.intake.find(event.trajectory_id, event.at)
        except UnknownTrajectory:
            return None
        require_shown(served.trajectory, event.rewards or {})
        return served.trajectory.subject

    def _why_not(self, served: Served) -> str | None:
        if served.outcome is not None:
            return None if served.is_learned else "the first feedback for it was not learned from"
        if served.serving.is_held_out:
            return "it is held out, to compare with what was learned"
        return self._refusal(served.trajectory.subject)

    def _refusal(self, subject: str | None) -> str | None:
        if self.guard.mode == "off":
            return "learning is switched off"
        if self.guard.influence.admit(subject):
            return None
        self.intake.counts["limited"] += 1
        return "its subject has given more than its share of recent lessons"

    def learn(self, event: Judged, accepted: Accepted) -> FeedbackResult:
        """Learn what accepted feedback teaches, and let it testify for or against what was learned so far."""
        self.settle()
        served, outcome = accepted.served, accepted.outcome
        if outcome is None:
            return FeedbackResult(event.trajectory_id, FeedbackOutcome.REPEATED)
        self.shape(Shaped(event.at, outcome.hidden_dim))
        unit = unit_of(outcome.subject, served.text, outcome.query_embedding)
        version = self.versions.in_force
        testimony = self.judgement.hear(served, outcome, unit, self.learner, event.at)
        if self.versions.in_force != version:
            self._embed_requests_again()
        receipt, credited = None, []
        if accepted.why_not is None and self.learner is not None:
            receipt = self.learner.learn(outcome, text=served.text, replaces=served.receipt)
            credited = [] if receipt is None else [showing.item for showing in receipt.showings if showing.reward > 0.0]
        elif served.serving.is_held_out and served.outcome is None:
            self.judgement.hold_out(replace(outcome, supersedes=None))
        held = self.intake.served.get(event.trajectory_id)
        if held is not None:
            self.intake.served.renew(replace(held, receipt=receipt, testimony=testimony))
        kind = FeedbackOutcome.LEARNED if served.outcome is None else FeedbackOutcome.AMENDED
        if accepted.why_not is not None:
            kind = FeedbackOutcome.RECORDED
        return FeedbackResult(event.trajectory_id, kind, tuple(credited), accepted.why_not)

    # -- trajectories by hand --------------------------------------------------------------------------------------

    def submit(self, event: Submitted) -> InstantResult:
        """Learn from a finished trajectory; one that was learned from before counts once."""
        self.settle()
        trajectory = event.trajectory
        if not self.intake.submit(trajectory.id):
            self.intake.counts["repeated"] += 1
            return InstantResult(False, False, 0, f"trajectory {trajectory.id} was learned from before")
        self.intake.counts["submitted"] += 1
        self.shape(Shaped(event.at, trajectory.hidden_dim))
        refusal = self._refusal(trajectory.subject)
        if refusal is not None or self.learner is None:
            return InstantResult(False, False, 0, refusal)
        return self.learner.learn_trajectory(trajectory)

    def flush(self) -> None:
        """Apply waiting signals."""
        self.settle()
        if self.learner is not None:
            self.learner.loops.instant.flush()

    def is_tick_due(self, now: float) -> bool:
        """Return True when a tick would change anything beside Loop B."""
        is_started = self.learner is None or self.learner.loops.is_started
        return not is_started or self.intake.is_waiting_too_long(now)

    def tick(self, event: Ticked) -> None:
        """Let go of what waited too long; the first tick starts the interval of Loop B."""
        self.intake.expire(event.at)
        if self.learner is not None:
            self.learner.loops.begin_tick(event.at)

    # -- Loop B and versions ---------------------------------------------------------------------------------------

    def begin_cycle(self, event: CycleBegun) -> Cycle:
        """Take the batch of a cycle of Loop B, or raise StateError when nothing was seen yet."""
        self.settle()
        if self.learner is None:
            raise StateError("nothing was seen yet; there is nothing to learn")
        cycle = self.learner.loops.begin(now=event.at, force=event.force)
        self.cycle = cycle if cycle.reason is None else None
        return cycle

    def rehearse(self, change: BackgroundChange) -> Rehearsal:
        """Return how what a cycle computed does on what was held out; nothing changes."""
        if self.learner is None:
            raise StateError("no cycle is in progress")
        return self.judgement.rehearse(self.learner, change)

    def end_cycle(self, event: CycleEnded, seq: int, rehearsal: Rehearsal | None = None) -> BackgroundResult:
        """Put a cycle in force, or reject it for its rehearsal; what is not given with it is computed here."""
        self.settle()
        learner, cycle = self.learner, self.cycle
        if learner is None or cycle is None:
            raise StateError("no cycle is in progress")
        self.cycle = None
        change = event.change or learner.loops.compute(cycle)
        return self.judgement.commit(learner, change, rehearsal or self.rehearse(change), at=event.at, seq=seq)

    def roll_back(self, event: RolledBack) -> None:
        """Put an earlier version in force, or raise InvalidValue when there is none or its state is not kept."""
        self.settle()
        self.judgement.roll_back(self.learner, event.version, at=event.at, reason=event.reason)
        self._embed_requests_again()

    def _embed_requests_again(self) -> None:
        # Votes that came back have the vectors of their day; the built-in embedder may have been fitted anew since.
        if self.learner is not None and isinstance(self.words.embedder, LsaEmbedder) and self.words.embedder.is_fitted:
            self.learner.votes.re_embed(self.words.embedder.embed)

    # -- another embedder ------------------------------------------------------------------------------------------

    def reembed(self, event: Reembedded) -> None:
        """Take over the vectors of another embedder; what was learned of words stays, what of vectors starts anew."""
        self.settle()
        self.words = self.successor or self.words
        self.memories.replace_vectors(event.memories)
        self.judgement.begin_anew()
        if self.learner is not None:
            width = event.memories.shape[1] or self.learner.hidden_dim
            self.learner = self.learner.reembedded(width, dict(zip(event.texts, event.requests, strict=True)))

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        self.settle()
        parts: dict[str, State] = {
            "origin": State({"key": self.key.hex(), "is_built_in": self.began_built_in}),
            "words": self.words.state(),
            "memories": self.memories.state(),
            "intake": self.intake.state(),
            "judgement": self.judgement.state(),
        }
        if self.learner is not None:
            parts["learner"] = self.learner.state()
        return State(parts)

    @classmethod
    def from_state(cls, state: State, config: SonaConfig, words: Words) -> Machine:
        """Return the machine that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        machine = cls(config, words, bytes.fromhex(state.child("origin").text("key")))
        machine.began_built_in = state.child("origin").flag("is_built_in")
        machine.memories = Memories.from_state(state.child("memories"))
        machine.intake = Intake.from_state(state.child("intake"), config)
        machine.judgement = Judgement.from_state(state.child("judgement"), config.guard)
        if "learner" in state:
            machine.learner = Learner.from_state(state.child("learner"), config)
            if config.hidden_dim not in (None, machine.learner.hidden_dim):
                found = machine.learner.hidden_dim
                raise StoreError(f"saved state: made for width {config.hidden_dim}, holds width {found}")
        return machine
