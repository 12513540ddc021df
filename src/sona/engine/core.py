"""SonaEngine: the story of one request, one screen per verb; the one place that joins learning, storage and clocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, embeddings, fraction, nonempty_text, whole
from sona.engine.asked import NOTHING, Asked, Found
from sona.engine.candidates import Candidates
from sona.engine.events import (
    Answered,
    Judged,
    Remembered,
    Serving,
)
from sona.engine.exchange import Exchange
from sona.engine.intake import asker
from sona.engine.judgement import unit_of
from sona.errors import InvalidValue
from sona.guard.holdout import Arm
from sona.types import (
    NO_PARAMETERS,
    Context,
    FeedbackResult,
    Preview,
    Ranking,
    Response,
    Source,
    make_trajectory,
)

_log = logging.getLogger("sona")
_PATTERNS_USED = 3
_serving, _answered, _judged_for = kernel.maker(Serving), kernel.maker(Answered), kernel.changer(Judged, "subject")
_ranking, _response, _source = kernel.maker(Ranking), kernel.maker(Response), kernel.maker(Source)
_asked, _found, _candidates = kernel.maker(Asked), kernel.maker(Found), kernel.maker(Candidates)


class SonaEngine(Exchange):
    """Makes a running system learn from every request; untrained, it changes nothing.

    Vectors in: `adapt`, `rank`, `begin_trajectory`. Words in: `remember`, `process`. Then `feedback`, early or late.
    Safe to call from many threads: reading never waits for learning.

    Args:
        config: Every setting.
        embedder: What turns words into vectors: an Embedder, a model with `encode`, or a callable; by default
            TF-IDF + SVD fitted on the memories.
        responder: What answers from memories: a Responder or a callable; by default the best memory's text.
        clock: Seconds since the epoch.

    >>> engine = SonaEngine()
    >>> ids, vectors = ["left", "right"], [[1.0, 0.0], [0.9, 0.1]]
    >>> ranking = engine.rank([1.0, 0.05], ids, vectors)
    >>> ranking.ids
    ('left', 'right')
    >>> engine.feedback(ranking.trajectory_id, rewards={"right": 1.0}).outcome.value
    'learned'
    >>> engine.rank([1.0, 0.05], ids, vectors).ids
    ('right', 'left')
    """

    # -- vectors ---------------------------------------------------------------------------------------------------

    def adapt(self, x: npt.ArrayLike) -> Floats:
        """Return `x` corrected by what was learned; an untrained engine, and one that answers frozen, returns `x`.

        Args:
            x: Embeddings, shape (d,) or (n, d).

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: NaN, infinity, or no numbers.
        """
        array = embeddings(x, self.hidden_dim, "x")
        learner = self._for_width(array.shape[-1])
        return learner.adapt(array) if self._machine.guard.mode in ("canary", "on") else array

    def rank(
        self,
        x: npt.ArrayLike,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        k: int = 10,
        *,
        context: Context | None = None,
    ) -> Ranking:
        """Return the best `k` items for the request `x`, best first: adapted cosine plus votes.

        Items are checked and measured on every call, unless `ids` is the same tuple and `vectors` the same
        read-only float32 array as in the call before.

        Args:
            x: The request, shape (d,).
            ids: Ids of the items, n of them, all different.
            vectors: Their vectors, shape (n, d), of any length.
            k: Items wanted; all when there are fewer.
            context: Who asks.

        Raises:
            DimensionMismatch: `x` or `vectors` of another width.
            InvalidValue: no items, ids that repeat or do not match the vectors, NaN, infinity, or `k` below 1.
        """
        began = time.perf_counter()
        request, who = self._request(x), asker(context)
        whole(k, "k", 1)
        candidates = Candidates.renewed(self._recent, ids, vectors, request.shape[0])
        self._recent = candidates if candidates.is_fixed else None
        learner = self._for_width(request.shape[0])  # after every check: what is refused decides no width
        asked = Asked(request, None, who, began)
        ranking = None
        while ranking is None:  # again when another state was put in its place meanwhile
            machine = self._machine
            with self._turns:
                choice = learner.score(request, candidates, k)
                ranking = self._answer(asked, Found(machine, choice, candidates))
            learner = self._for_width(request.shape[0])
        return ranking

    def preview(self, x: npt.ArrayLike, ids: Sequence[str], vectors: npt.ArrayLike, k: int = 10) -> Preview:
        """Return both answers to a request, frozen and learned, without serving it: nothing is counted or logged.

        Args:
            x: The request, shape (d,).
            ids: Ids of the items, n of them, all different.
            vectors: Their vectors, shape (n, d), of any length.
            k: Items wanted; all when there are fewer.

        Raises:
            DimensionMismatch: `x` or `vectors` of another width.
            InvalidValue: no items, ids that repeat or do not match the vectors, NaN, infinity, or `k` below 1.
        """
        request = self._request(x)
        whole(k, "k", 1)
        candidates = Candidates.renewed(self._recent, ids, vectors, request.shape[0])
        self._recent = candidates if candidates.is_fixed else None
        choice = self._for_width(request.shape[0]).score(request, candidates, k)
        return Preview(*(tuple(ids[row] for row in one.rows.tolist()) for one in (choice.frozen, choice.learned)))

    def _answer(self, asked: Asked, found: Found) -> Ranking | None:
        # Chance and budget decide which of the two answers is shown; None when what was found is of the past.
        choice, machine = found.choice, found.machine
        kept = np.array(asked.request, np.float32)
        kept.flags.writeable = False
        unit = unit_of(asked.who.user_id, asked.text, kept)
        with self._log_lock:
            if not found.is_current(self._machine):
                return None
            assignment = machine.guard.assign(unit)
            shown = choice.learned if assignment.arm is Arm.LEARNED else choice.frozen
            steps = machine.intake.steps(shown, found.candidates)
            latency_us = (time.perf_counter() - asked.began) * 1e6
            # Every field was checked where it came from.
            trajectory = make_trajectory(
                machine.intake.ids.next(),
                kept,
                steps,
                None,
                latency_us,
                True,
                None,
                (),
                asked.who.user_id,
                NO_PARAMETERS,
                None,
            )
            serving = _serving(
                assignment.arm,
                assignment.exposure,
                assignment.is_held_out,
                assignment.is_compared,
                choice.is_identical,
                choice.common,
                machine.versions.in_force,
                choice.learning_us,
            )
            event = _answered(
                self._clock(),
                trajectory,
                asked.text,
                serving,
                found.touched,
                found.memories is not None,
                asked.is_embedded,
                choice.seeds,
            )
            self._journal.append(event, is_acknowledged=False)
            machine.answer(event)
        ids = tuple(step.ref or "" for step in trajectory.steps)
        return _ranking(trajectory.id, ids, tuple(shown.scores.tolist()))

    # -- words -----------------------------------------------------------------------------------------------------

    def remember(
        self,
        text: str,
        id: str | None = None,  # noqa: A002
        *,
        vector: npt.ArrayLike | None = None,
        subject: str | None = None,
    ) -> str:
        """Keep a text to answer from, and return its id; returns at once, the text is embedded when it is needed.

        Args:
            text: What to remember. The same text again is the same memory.
            id: Its id; the same id again replaces the text. Made up when None.
            vector: Its embedding, shape (d,), when the caller has it.
            subject: Whose it is; `forget` takes it away again.

        Raises:
            InvalidValue: an empty text or id, or a vector that cannot be used; nothing was kept.
        """
        nonempty_text(text, "text")
        for name, value in (("id", id), ("subject", subject)):
            if value is not None:
                nonempty_text(value, name)
        given = None if vector is None else self._asked(vector)[0].copy()
        with self._lock:
            memories = self._machine.memories
            chosen = memories.id_for(text, id)
            if memories.is_known(chosen, text) and given is None:
                seq = self._journal.seq  # who brought it first may still be waiting for the disk
            else:
                seq = self._happen(Remembered(self._clock(), text, chosen, given, subject))
        self._journal.wait(seq)
        return chosen

    def texts(self) -> dict[str, str]:
        """Return what is remembered, by id, in the order it came."""
        memories = self._machine.memories
        return dict(zip(memories.ids, memories.texts, strict=False))  # another may be joining

    @property
    def memory_count(self) -> int:
        """How many texts are remembered."""
        return len(self._memories)

    def process(self, query: str, context: Context | None = None, *, vector: npt.ArrayLike | None = None) -> Response:
        """Answer `query` from memory and learn from what comes back as feedback.

        Args:
            query: What was asked.
            context: Who asks.
            vector: The query's embedding, shape (d,), when the caller has it.

        Raises:
            InvalidValue: an empty query.
            MissingExtra: the default embedder's package is not installed.
        """
        began = time.perf_counter()
        nonempty_text(query, "query")
        who = asker(context)
        given = None if vector is None else self._request(vector)
        ranking = None
        while ranking is None:  # again when memories were embedded anew meanwhile
            if self._memories.waiting_count:
                self.index()
            found, ranking = self._search(query, given, who, began)
        memories = found.memories or self._memories
        sources = tuple(
            _source(item, memories.text(item), score) for item, score in zip(ranking.ids, ranking.scores, strict=True)
        )
        text = self._machine.words.respond(query, sources, who)
        confidence = min(max(sources[0].score, 0.0), 1.0) if sources else 0.0
        latency_us = (time.perf_counter() - began) * 1e6
        return _response(text, confidence, found.touched, latency_us, ranking.trajectory_id, sources)

    def _search(self, query: str, given: Floats | None, who: Context, began: float) -> tuple[Found, Ranking | None]:
        machine = self._machine
        memories, embedder = machine.memories, machine.words.embedder
        vectors = memories.vectors
        request, learner = self._asked(machine.words.embed(query) if given is None else given)
        asked = _asked(request, query, who, began, given is None and machine.words.is_built_in)
        least = self.config.patterns.pattern_confidence
        with self._turns:
            matches = learner.bank.search(request, _PATTERNS_USED, min_confidence=least)
            candidates = _candidates(memories.ids, vectors, None, memories.row_of)
            choice = NOTHING
            if len(vectors):
                choice = learner.score(request, candidates, self.config.context_size).positive()
            touched = tuple([match.pattern.id for match in matches])
            found = _found(machine, choice, candidates, touched, memories, vectors, embedder)
            return found, self._answer(asked, found)

    async def aprocess(
        self, query: str, context: Context | None = None, *, vector: npt.ArrayLike | None = None
    ) -> Response:
        """Do what `process` does without blocking the event loop."""
        import asyncio  # imported here, so that `import sona` stays quick

        return await asyncio.to_thread(self.process, query, context, vector=vector)

    # -- feedback --------------------------------------------------------------------------------------------------

    def feedback(
        self, trajectory_id: int, *, quality: float | None = None, rewards: Mapping[str, float] | None = None
    ) -> FeedbackResult:
        """Learn how a served request went; may come late, and more than once.

        The same feedback again changes nothing. Different feedback amends the earlier: what it taught is taken
        back, rewards are merged by item, and the new outcome is learned.

        Args:
            trajectory_id: As in the Ranking or Response.
            quality: How good the whole was, in [0, 1]; credited to the answer, the first item.
            rewards: What items earned, in [0, 1], by id; shown and not named earned 0.

        Raises:
            UnknownTrajectory: never issued here, or no longer kept; counted in `metrics()`.
            InvalidValue: neither quality nor rewards, a value outside [0, 1], or an item that was not shown.
        """
        if quality is None and rewards is None:
            raise InvalidValue("feedback: give a quality, rewards, or both")
        if quality is not None:
            quality = fraction(quality, "quality")
        if rewards is not None and not isinstance(rewards, Mapping):
            raise InvalidValue(f"rewards: expected a mapping from ids to numbers, got {type(rewards).__name__}")
        wanted = whole(trajectory_id, "trajectory_id", 0)
        given = None if rewards is None else {item: fraction(reward, "reward") for item, reward in rewards.items()}
        event = Judged(self._clock(), wanted, quality, given)
        with self._lock:
            machine = self._machine
            with self._log_lock:
                event = _judged_for(event, machine.asker_of(event))
                seq = self._journal.append(event)
                accepted = machine.accept(event)
            result = machine.learn(event, accepted)
            self._note_decisions()
        self._journal.wait(seq)
        return result
