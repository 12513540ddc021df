"""The machine: everything an engine knows, as it follows from the events that happened, one after the other.

It has no clock, no disk and no threads, and chance only by seed: the same events give the same state, bit for bit.
What is served, learned, rolled back or forgotten goes through here, live and when a log is replayed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sona.config import SonaConfig
from sona.engine.events import (
    Answered,
    Begun,
    CycleBegun,
    CycleEnded,
    CycleFailed,
    Decided,
    DeepBegun,
    DeepEnded,
    DeepFailed,
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
from sona.engine.intake import Intake
from sona.engine.judgement import Judgement
from sona.engine.knowledge import Knowledge
from sona.engine.learner import Learner
from sona.engine.memories import Memories
from sona.engine.words import Wording, Words
from sona.errors import SonaError, StateError, StoreError
from sona.guard.rehearsal import Rehearsal
from sona.loops.background import BackgroundChange, BackgroundResult
from sona.loops.cycle import Cycle
from sona.state import State

if TYPE_CHECKING:
    from sona.loops.deep import DeepLoop
    from sona.loops.deep_cycle import DeepChange, DeepCycle, DeepResult

_REFUSED = Judged | Submitted | CycleBegun | CycleEnded | DeepBegun | DeepEnded | RolledBack


class Machine(Knowledge):
    """Everything an engine knows, one event after the other."""

    def __init__(self, config: SonaConfig, words: Words, key: bytes) -> None:
        """Know nothing.

        Args:
            config: Every setting.
            words: Embedder and responder.
            key: Secret of the assignment to arms.
        """
        super().__init__(config, words, key)
        self.cycle: Cycle | None = None
        self.deep_cycle: DeepCycle | None = None

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
            if not isinstance(event, _REFUSED):
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
                self.intake.begin(event.trajectory_id, event.at, event.context_ids)
            case Dropped():
                self.drop(event)
            case Submitted():
                self.submit(event)
            case Touched():
                self.touch(event)
            case Flushed():
                self.flush()
            case Ticked():
                self.tick(event)
            case CycleBegun():
                self.begin_cycle(event)
            case CycleEnded():
                self.end_cycle(event, seq)
            case CycleFailed():
                self.fail(event)
            case DeepBegun():
                self.begin_deep(event)
            case DeepEnded():
                self.end_deep(event)
            case DeepFailed():
                self.fail(event)
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

    # -- Loop B and versions

    def is_tick_due(self, now: float) -> bool:
        """Return True when a tick would change anything beside Loop B."""
        is_started = self.learner is None or self.learner.loops.is_started
        return not is_started or self.intake.is_waiting_too_long(now)

    def tick(self, event: Ticked) -> None:
        """Let go of what waited too long; the first tick starts the interval of Loop B."""
        self.intake.expire(event.at)
        if self.learner is not None:
            self.learner.loops.schedule.start(event.at)

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

    def fail(self, event: CycleFailed | DeepFailed) -> None:
        """Drop a cycle that came to nothing; it is tried again after a pause."""
        loop = "background" if isinstance(event, CycleFailed) else "deep"
        if loop == "background":
            self.cycle = None
        else:
            self.deep_cycle = None
        if self.learner is not None:
            self.learner.loops.schedule.failed(loop, event.at, event.reason)

    # -- Loop C ----------------------------------------------------------------------------------------------------

    def begin_deep(self, event: DeepBegun) -> DeepCycle:
        """Take what a cycle of Loop C works on, or raise StateError when nothing was seen yet."""
        self.settle()
        if self.learner is None:
            raise StateError("nothing was seen yet; there is nothing to reorganise")
        self._join(self.learner, event.at)  # what found the graph full may have room by now
        cycle = self._deep_cycle(self.learner.loops.deep, self.learner, event)
        self.deep_cycle = None
        if cycle.reason is None:
            self.deep_cycle = cycle
            self.learner.loops.schedule.began("deep", event.at)
        return cycle

    def _deep_cycle(self, loop: DeepLoop, learner: Learner, event: DeepBegun) -> DeepCycle:
        own = dict(zip(self.memories.ids, self.memories.texts, strict=True))
        return loop.begin(
            learner.associations,
            learner.bank,
            now=event.at,
            protected=self._protected(learner),
            stages=event.stages,
            force=event.force,
            are_one=Wording(own, self.config.consolidation.merge_words).are_one,
        )

    def end_deep(self, event: DeepEnded) -> DeepResult:
        """Put a cycle of Loop C in force; what is not given with it is computed here."""
        result, self.memories = self.reorganise(event)
        return result

    def reorganise(self, event: DeepEnded) -> tuple[DeepResult, Memories]:
        """Put a cycle of Loop C in force, but for the memories that are left; return those."""
        self.settle()
        learner, cycle = self.learner, self.deep_cycle
        if learner is None or cycle is None:
            raise StateError("no cycle of Loop C is in progress")
        self.deep_cycle = None
        change = event.change or learner.loops.deep.compute(cycle, units=event.units)
        protected, unsettled = self._protected(learner), self.memories.waiting
        result = learner.loops.reorganise(change, now=event.at, protected=protected, unsettled=unsettled)
        gone = {old: new for old, new in result.gone.items() if old in self.memories}
        return result, self.memories.without(gone) if gone else self.memories

    def plan(self, event: DeepBegun) -> DeepChange:
        """Return what a cycle of Loop C would do from its beginning, without limit; nothing changes."""
        self.settle()
        if self.learner is None:
            raise StateError("nothing was seen yet; there is nothing to reorganise")
        from sona.loops.deep import DeepLoop  # imported when it is first needed: `import sona` stays quick

        fresh = DeepLoop(self.learner.loops.settings)
        return fresh.compute(self._deep_cycle(fresh, self.learner, event))

    def _protected(self, learner: Learner) -> frozenset[str]:
        # Somebody else's items are not ours to remove; what a request awaits feedback for, or is judged by, stays.
        own = self.memories
        foreign = (name for name in learner.associations.graph.ids if name not in own)
        return frozenset({*foreign, *own.waiting, *self.intake.needed, *self.judgement.needed})

    def roll_back(self, event: RolledBack) -> None:
        """Put an earlier version in force, or raise InvalidValue when there is none or its state is not kept."""
        self.settle()
        self.judgement.roll_back(self.learner, event.version, at=event.at, reason=event.reason)
        self._embed_requests_again()

    # -- another embedder ------------------------------------------------------------------------------------------

    def reembed(self, event: Reembedded) -> None:
        """Take over the vectors of another embedder; what was learned of words stays, what of vectors starts anew."""
        self.settle()
        self.words = self.successor or self.words
        known = dict(zip(event.ids, event.memories, strict=True))
        self.memories.replace_vectors(self.memories.made_anew(self.words.embedder.embed, known))
        self.judgement.begin_anew()
        if self.learner is not None:
            width = self.memories.width or self.learner.hidden_dim
            self.learner = self.learner.reembedded(width, dict(zip(event.texts, event.requests, strict=True)))
            self._associate(event.at)

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
