"""Knowledge: what an engine knows of memories and requests, and how an outcome changes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from sona import kernel
from sona.checks import Floats
from sona.config import SonaConfig
from sona.engine.events import Answered, Dropped, Indexed, Judged, Remembered, Shaped, Submitted, Touched
from sona.engine.intake import Intake, amended, require_shown, superseding
from sona.engine.judgement import Judgement, unit_of
from sona.engine.learner import Learner
from sona.engine.memories import Memories
from sona.engine.served import Accepted, Served, make_served
from sona.engine.versions import Versions
from sona.engine.words import Prepared, Words
from sona.errors import InvalidValue, UnknownTrajectory
from sona.guard.guard import Guard
from sona.loops.instant import InstantResult
from sona.patterns.catalog import Sighting
from sona.text.embed import LsaEmbedder
from sona.types import FeedbackOutcome, FeedbackResult, QueryTrajectory

_LINKED_AT_ONCE = 100_000_000  # cosines: 10,000 memories with each other, a few seconds
_with_outcome = kernel.changer(Served, "outcome", "is_learned")
_with_testimony = kernel.changer(Served, "receipt", "testimony")


class Knowledge:
    """Memories, requests and what was learned of them; changed by events alone.

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
        self._touched: deque[Touched] = deque()

    @property
    def guard(self) -> Guard:
        """What limits what learning may cost."""
        return self.judgement.guard

    @property
    def versions(self) -> Versions:
        """The versions committed so far."""
        return self.judgement.versions

    def touch(self, event: Touched) -> None:
        """Leave the accesses of patterns to be counted by `settle`."""
        self._touched.append(event)

    def holds(self, found: Sighting) -> bool:
        """Return True while patterns found are those there are."""
        return self.learner is not None and self.learner.bank.holds(found)

    @property
    def is_touched(self) -> bool:
        """True while there are accesses that `settle` would count."""
        return bool(self._touched) and self.learner is not None

    def settle(self) -> None:
        """Count the accesses of patterns that requests left behind."""
        if self.learner is None:
            return
        touched, bank = self._touched, self.learner.bank
        while touched:
            event = touched.popleft()
            bank.touch(event.patterns, now=event.at)

    # -- words and requests ----------------------------------------------------------------------------------------

    def shape(self, event: Shaped) -> None:
        """Decide the width of embeddings."""
        if self.learner is None:
            self.learner = Learner(event.width, self.config)
            self._associate(event.at)

    def remember(self, event: Remembered) -> str:
        """Keep a text."""
        return self.memories.add(event.text, event.id, event.vector)

    def prepare_index(self, known: Mapping[str, Floats] | None = None) -> Prepared:
        """Return what indexing the waiting memories makes of them; nothing changes before `index`."""
        return self.words.prepare(self.memories, known)

    def index(self, event: Indexed, prepared: Prepared | None = None) -> int:
        """Give waiting memories their vectors; return how many were embedded."""
        known = None if event.vectors is None else dict(zip(event.ids, event.vectors, strict=True))
        done = prepared or self.prepare_index(known)
        waited = self.memories.waiting_rows
        self.words.embedder = done.embedder
        self.memories.publish(done.vectors, done.rows)
        if done.is_refit and self.learner is not None:
            self.learner.votes.re_embed(done.embedder.embed)
        self._associate(event.at, None if done.is_refit else waited)
        return done.count

    def _associate(self, now: float, rows: Sequence[int] | None = None) -> None:
        # Memories join the graph as they are indexed, and are linked at once where that takes no longer than indexing.
        if self.learner is not None and self._join(self.learner, now, rows):
            self.learner.associations.link(_LINKED_AT_ONCE)
            self.learner.associations.publish_if_worth_it()

    def _join(self, learner: Learner, now: float, rows: Sequence[int] | None = None) -> bool:
        ids, vectors = self.memories.ids, self.memories.vectors
        if not self.config.use_graph or self.memories.width != learner.hidden_dim:
            return False
        chosen = range(len(vectors)) if rows is None else rows
        learner.associations.join([ids[row] for row in chosen], vectors[list(chosen)], now=now)
        return True

    def answer(self, event: Answered) -> None:
        """Hold an answered request until its feedback comes."""
        self.intake.hold(
            make_served(event.trajectory, event.text, event.at, event.serving, None, False, event.seeds, None, None)
        )
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
        known = outcome if outcome.supersedes is None else superseding(outcome, None)
        self.intake.served.renew(_with_outcome(served, known, why_not is None))
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
        if self.learner is None:
            self.shape(Shaped(event.at, outcome.hidden_dim))
        unit = unit_of(outcome.subject, served.text, outcome.query_embedding)
        version = self.versions.in_force
        testimony = self.judgement.hear(served, outcome, unit, self.learner, event.at)
        if self.versions.in_force != version:
            self._embed_requests_again()
        receipt, credited = None, []
        if accepted.why_not is None and self.learner is not None:
            receipt = self.learner.learn(
                outcome, at=event.at, text=served.text, replaces=served.receipt, seeds=served.seeds
            )
            credited = [] if receipt is None else [showing.item for showing in receipt.showings if showing.reward > 0.0]
        elif served.serving.is_held_out and served.outcome is None:
            self.judgement.hold_out(outcome)
        held = self.intake.served.get(event.trajectory_id)
        if held is not None:
            self.intake.served.renew(_with_testimony(held, receipt, testimony))
        kind = FeedbackOutcome.LEARNED if served.outcome is None else FeedbackOutcome.AMENDED
        if accepted.why_not is not None:
            kind = FeedbackOutcome.RECORDED
        return FeedbackResult(event.trajectory_id, kind, tuple(credited), accepted.why_not)

    # -- trajectories by hand --------------------------------------------------------------------------------------

    def submit(self, event: Submitted) -> InstantResult:
        """Learn from a finished trajectory; one that was learned from before counts once."""
        if self._touched:
            self.settle()
        trajectory, intake = event.trajectory, self.intake
        if not intake.submit(trajectory.id):
            intake.counts["repeated"] += 1
            return InstantResult(False, False, 0, f"trajectory {trajectory.id} was learned from before")
        intake.counts["submitted"] += 1
        if self.learner is None:
            self.shape(Shaped(event.at, trajectory.hidden_dim))
        refusal = self._refusal(trajectory.subject)
        if refusal is not None or self.learner is None:
            return InstantResult(False, False, 0, refusal)
        return self.learner.learn_trajectory(trajectory, at=event.at)

    def flush(self) -> None:
        """Apply waiting signals."""
        self.settle()
        if self.learner is not None:
            self.learner.loops.instant.flush()

    def _embed_requests_again(self) -> None:
        # Votes that came back have the vectors of their day; the built-in embedder may have been fitted anew since.
        if self.learner is not None and isinstance(self.words.embedder, LsaEmbedder) and self.words.embedder.is_fitted:
            self.learner.votes.re_embed(self.words.embedder.embed)
