"""SonaEngine: the story of one request, one screen per verb; the one place that joins learning, storage and clocks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy.typing as npt

from sona.checks import Floats, embedding, embeddings, finite, fraction, nonempty_text, whole
from sona.engine.candidates import Candidates
from sona.engine.durable import Durable
from sona.engine.intake import amended, asker
from sona.engine.learner import Learner, Scored
from sona.engine.metrics import SonaMetrics
from sona.engine.worker import Worker
from sona.errors import InvalidValue, StateError
from sona.loops.background import BackgroundResult
from sona.loops.coordinator import TickResult
from sona.loops.instant import InstantResult
from sona.patterns.catalog import PatternMatch
from sona.trajectory import TrajectoryBuilder
from sona.types import (
    Context,
    FeedbackOutcome,
    FeedbackResult,
    QueryTrajectory,
    Ranking,
    Response,
    Source,
)

_PATTERNS_USED = 3


class SonaEngine(Durable):
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

    def _for_width(self, width: int) -> Learner:
        if self._learner is None:
            with self._lock:
                if self._learner is None:
                    self._learner = Learner(width, self.config)
        return self._learner

    def _request(self, x: npt.ArrayLike) -> Floats:
        return embedding(x, self.hidden_dim, "x")

    def _asked(self, x: npt.ArrayLike) -> tuple[Floats, Learner]:
        request = self._request(x)
        return request, self._for_width(request.shape[0])

    def adapt(self, x: npt.ArrayLike) -> Floats:
        """Return `x` corrected by what was learned; an untrained engine returns `x` exactly.

        Args:
            x: Embeddings, shape (d,) or (n, d).

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: NaN, infinity, or no numbers.
        """
        array = embeddings(x, self.hidden_dim, "x")
        return self._for_width(array.shape[-1]).adapt(array)

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
        scored = learner.score(request, candidates, k)
        answer = scored, candidates
        trajectory = self._intake.serve(request, answer, who=who, text=None, now=self._clock(), began=began)
        return Ranking(trajectory.id, tuple(step.ref or "" for step in trajectory.steps), tuple(scored.scores.tolist()))

    # -- words -----------------------------------------------------------------------------------------------------

    def remember(self, text: str, id: str | None = None, *, vector: npt.ArrayLike | None = None) -> str:  # noqa: A002
        """Keep a text to answer from, and return its id; returns at once, the text is embedded when it is needed.

        Args:
            text: What to remember. The same text again is the same memory.
            id: Its id; the same id again replaces the text. Made up when None.
            vector: Its embedding, shape (d,), when the caller has it.

        Raises:
            InvalidValue: an empty text or id, or a vector that cannot be used; nothing was kept.
        """
        nonempty_text(text, "text")
        if id is not None:
            nonempty_text(id, "id")
        given = None if vector is None else self._asked(vector)[0]
        with self._lock:
            return self._memories.add(text, id, given)

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
        if self._memories.waiting_count:
            self.index()
        request, learner = self._asked(self._words.embed(query) if given is None else given)
        matches = self._matching(learner, request, _PATTERNS_USED, self.config.patterns.pattern_confidence)
        memories = self._memories.vectors
        answer = None
        if len(memories):
            candidates = Candidates(self._memories.ids, memories, None, self._memories.row_of)
            answer = learner.score(request, candidates, self.config.context_size).positive(), candidates
        trajectory = self._intake.serve(request, answer, who=who, text=query, now=self._clock(), began=began)
        sources = () if answer is None else self._sources(trajectory, answer[0])
        return Response(
            text=self._words.respond(query, sources, who),
            confidence=min(max(sources[0].score, 0.0), 1.0) if sources else 0.0,
            patterns_used=tuple(match.pattern.id for match in matches),
            latency_us=(time.perf_counter() - began) * 1e6,
            trajectory_id=trajectory.id,
            sources=sources,
        )

    async def aprocess(
        self, query: str, context: Context | None = None, *, vector: npt.ArrayLike | None = None
    ) -> Response:
        """Do what `process` does without blocking the event loop."""
        import asyncio  # imported here, so that `import sona` stays quick

        return await asyncio.to_thread(self.process, query, context, vector=vector)

    def _sources(self, trajectory: QueryTrajectory, scored: Scored) -> tuple[Source, ...]:
        pairs = zip(trajectory.steps, scored.scores.tolist(), strict=True)
        return tuple(
            Source(step.ref, self._memories.text(step.ref), score) for step, score in pairs if step.ref is not None
        )

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
            fraction(quality, "quality")
        if rewards is not None and not isinstance(rewards, Mapping):
            raise InvalidValue(f"rewards: expected a mapping from ids to numbers, got {type(rewards).__name__}")
        wanted = whole(trajectory_id, "trajectory_id", 0)
        with self._lock:
            self._intake.expire(self._clock())
            served = self._intake.held(wanted)
            outcome = None if self._intake.is_submitted(wanted) else amended(served, rewards, quality)
            if outcome is None:
                self._intake.counts["repeated"] += 1
                return FeedbackResult(wanted, FeedbackOutcome.REPEATED)
            receipt = self._for_width(outcome.hidden_dim).learn(
                outcome, text=served.text, shown=served.shown, replaces=served.receipt
            )
            self._intake.served.renew(served.learned(replace(outcome, supersedes=None), receipt))
            is_first = served.outcome is None
            self._intake.counts["feedbacks" if is_first else "amended"] += 1
            credited = [] if receipt is None else [showing.item for showing in receipt.showings if showing.reward > 0.0]
            kind = FeedbackOutcome.LEARNED if is_first else FeedbackOutcome.AMENDED
            return FeedbackResult(wanted, kind, tuple(credited))

    # -- trajectories ----------------------------------------------------------------------------------------------

    def begin_trajectory(
        self,
        x: npt.ArrayLike,
        *,
        alternatives: bool = False,
        model_route: str | None = None,
        context_ids: Iterable[str] = (),
        subject: str | None = None,
        parameters: Mapping[str, float | str] | None = None,
    ) -> TrajectoryBuilder:
        """Start recording one request; finish it with `end_trajectory`, or use it as a context manager.

        Args:
            x: The request, shape (d,).
            alternatives: True when the steps are alternatives of one decision.
            model_route: The model or route that answers, if any.
            context_ids: Ids of the memories given as context.
            subject: Who asks.
            parameters: Settings the request is served with, by name.

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: NaN, infinity, no numbers, or a name that is not text.
        """
        builder = TrajectoryBuilder(
            0,
            self._request(x),
            alternatives=alternatives,
            model_route=model_route,
            context_ids=context_ids,
            subject=subject,
            parameters=parameters,
            on_exit=self._on_exit,
        )
        self._for_width(builder.query_embedding.shape[0])
        builder.id = self._intake.ids.next()  # after every check: what is refused uses up no id
        self._intake.open.add(builder, self._clock())
        return builder

    def _on_exit(self, builder: TrajectoryBuilder, failed: bool) -> None:
        if failed:
            self._intake.open.pop(builder.id)
        elif not builder.is_finished:
            self.end_trajectory(builder, builder.quality)

    def end_trajectory(self, builder: TrajectoryBuilder, quality: float | None = None) -> InstantResult:
        """Finish a trajectory and learn from it.

        Args:
            builder: As `begin_trajectory` returned it.
            quality: How good the whole was, in [0, 1]; None when nobody said.

        Raises:
            InvalidValue: a quality outside [0, 1]; the trajectory stays open.
            StateError: the trajectory is finished already, was given up, or was begun elsewhere.
        """
        if not builder.is_finished and builder not in self._intake.open:
            raise StateError(f"trajectory {builder.id} was not begun by this engine; end it where it began")
        trajectory = builder.build(quality)
        self._intake.open.pop(builder.id)
        return self._submit(trajectory)

    def submit_trajectory(self, trajectory: QueryTrajectory) -> InstantResult:
        """Learn from a finished trajectory; one with an id learned from before counts once.

        Raises:
            DimensionMismatch: it is of another width.
        """
        if not isinstance(trajectory, QueryTrajectory):
            raise InvalidValue(f"trajectory: expected a QueryTrajectory, got {type(trajectory).__name__}")
        self._asked(trajectory.query_embedding)
        self._intake.open.pop(trajectory.id)
        return self._submit(trajectory)

    def _submit(self, trajectory: QueryTrajectory) -> InstantResult:
        learner = self._for_width(trajectory.hidden_dim)
        with self._lock:
            if not self._intake.submit(trajectory.id):
                self._intake.counts["repeated"] += 1
                return InstantResult(False, False, 0, f"trajectory {trajectory.id} was learned from before")
            self._intake.counts["submitted"] += 1
            return learner.learn_trajectory(trajectory)

    # -- patterns and loops ----------------------------------------------------------------------------------------

    def find_patterns(self, x: npt.ArrayLike, k: int = 5) -> list[PatternMatch]:
        """Return the `k` patterns most like the request `x`, shape (d,), best first; each counts an access."""
        whole(k, "k", 1)
        request, learner = self._asked(x)
        return self._matching(learner, request, k)

    def _matching(self, learner: Learner, request: Floats, k: int, min_confidence: float = 0.0) -> list[PatternMatch]:
        # While a cycle rewrites the patterns, a request reads the published ones and does not wait to count it.
        if not self._cycle_lock.acquire(blocking=False):
            return learner.bank.search(request, k, min_confidence=min_confidence)
        try:
            return learner.bank.find_similar(request, k, now=self._clock(), min_confidence=min_confidence)
        finally:
            self._cycle_lock.release()

    def background_learn(self, force: bool = False) -> BackgroundResult:
        """Run Loop B now: patterns, base adapter, EWC++; requests go on meanwhile.

        Args:
            force: Run with fewer than `min_trajectories`.

        Raises:
            LearningError: the refit failed; nothing was changed, nothing lost.
            PatternExtractionError: clustering failed; nothing was changed, nothing lost.
        """
        learner = self._learner
        if learner is None:
            return BackgroundResult(0, 0, "no new trajectories")
        with self._cycle_lock:
            with self._lock:
                learner.loops.hand_over()
            change = learner.loops.compute(now=self._clock(), force=force)
            with self._lock:
                result = learner.loops.commit(change, now=self._clock())
        if result.skipped_reason is None:
            self._autosave()
        return result

    def tick(self) -> TickResult:
        """Do what is due: forget what waited too long, run Loop B at its interval. Throws no trajectory away."""
        now = self._clock()
        self._intake.expire(now)
        learner = self._learner
        if learner is None:
            return TickResult(None, "nothing was seen yet", 0)
        with self._lock:
            is_due = learner.loops.begin_tick(now)
        if not is_due:
            return TickResult(None, "not due, or too few trajectories", learner.loops.waiting_count)
        result = self.background_learn()
        return TickResult(result, result.skipped_reason, learner.loops.waiting_count)

    def start_background(self, period_s: float = 60.0) -> None:
        """Call `tick` every `period_s` seconds in a thread, until `stop_background` or `close`.

        Raises:
            StateError: it runs already.
            InvalidValue: a period that is not finite and above 0.
        """
        if finite(period_s, "period_s") <= 0.0:
            raise InvalidValue(f"period_s: expected a number above 0, got {period_s!r}")
        with self._lock:
            if self._worker is not None:
                raise StateError("the background thread runs already")
            self._worker = Worker(self.tick, period_s)

    def metrics(self) -> SonaMetrics:
        """Return every counter; they go on after a restart."""
        with self._lock:
            return SonaMetrics.of(self._intake, len(self._memories), self._learner)
